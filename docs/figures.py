"""Writes what README.md and docs/results.md quote of the reports in results/reference, tables and
sentences alike: `make figures` after a report changed, `make reference` to make the first of them.

    figures.py                        the pages' blocks anew
    figures.py --check                nothing written; says which pages are stale, and exits with 1
    figures.py --take RESULTS NAME    RESULTS' report as results/reference/NAME.md and each sample's
                                      score or loss as NAME-samples.txt, then the blocks
    figures.py --take-layers RESULTS NAME
                                      block recall by layer as results/reference/NAME-layers.csv

A page marks a block by a comment of its own line, `<!-- figures: NAME -->` … `<!-- end -->`; the
functions of BLOCKS write what stands between. Each sentence names what must hold for it to be said,
and rendering fails where the reports no longer say so."""

import argparse
import csv
import functools
import io
import json
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / "results/reference"
PAGES = ("README.md", "docs/results.md", "datasets/hops/README.md")
BLOCK = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end -->\n)", re.S)

# What a label of a report leaves unsaid, because it is the method's default.
VARIANT = {"onehop": "icml", "sketchwalk": "arxiv"}

# How the pages call what the reports call by the names of a config.
NAMES = {
    "dense": "dense",
    "oracle": "oracle: true top blocks of each head",
    "oracle head": "oracle: true top blocks of each head",
    "sink_window": "sink + window",
    "random": "random blocks",
    "onehop icml": "one-hop, released scores (`icml`)",
    "onehop softmax": "one-hop, softmax form (`softmax`)",
    "onehop arxiv": "one-hop, printed scores (`arxiv`)",
    "sketchwalk icml": "Sketch&Walk, **released** code (`icml`)",
    "sketchwalk softmax": "Sketch&Walk, **softmax form**, ours (`softmax`)",
    "sketchwalk arxiv": "Sketch&Walk, **as printed** (`arxiv`)",
    "sketchwalk arxiv signed": "as printed, but the power keeps the sign (ablation)",
    "xattention": "XAttention",
    "moba": "MoBA (untrained)",
    "nsa": "NSA (untrained)",
    "reuse kascade": "Kascade: true mass in few layers, copied between (`reuse`)",
    "reuse last_anchor": "one-hop in every fourth layer, copied between (`reuse`, `last_anchor`)",
    "reuse running_mean": "mean of one-hop scores of all layers below (`reuse`, `running_mean`)",
    "minference": "MInference",
    "flexprefill": "FlexPrefill",
    "spargeattn": "SpargeAttn",
}


class Missing(Exception):
    """A report lacks what a page quotes, or no longer says what a page says."""


class Report:
    """A table file that `swbench report` wrote: figures by section, row, density and column."""

    def __init__(self, name):
        self.file = f"{name}.md"
        text = (REPORTS / self.file).read_text()
        version = re.search(r"^- code: swbench (\d+)\.(\d+)", text, re.M)
        # Version 0.1 called the softmax form `arxiv`.
        self.old = tuple(map(int, version.groups())) < (0, 2)
        self.rows = {}
        for title, body in re.findall(r"^## (.*)\n\n((?:\|.*\n)+)", text, re.M):
            lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in body.splitlines()]
            for line in lines[2:]:
                row = dict(zip(lines[0], line))
                self.rows[title, self._name(row["method"]), row["density"]] = row

    def _name(self, label):
        """`onehop block_size=32` → `onehop icml`: the method and what sets it apart."""
        method, *words = label.split()
        words = [word for word in words if not word.startswith("block_size=")]
        words = [word.split("=") for word in words if not word.endswith("=false")]
        words = [word[0] if word[-1] == "true" else word[-1] for word in words]
        if self.old:
            words = ["softmax" if word == "arxiv" else word for word in words]
        if method in VARIANT and not set(words) & {"arxiv", "icml", "softmax"}:
            words.insert(0, VARIANT[method])
        return " ".join([method, *words])

    def text(self, section, method, density, column):
        """A figure as it was printed, with its interval."""
        row = self.rows.get((section, method, "-" if method == "dense" else density))
        if row is None or column not in row:
            raise Missing(f"{self.file}: no {column!r} of {method} at {density} in {section!r}")
        return row[column].replace("-", "−") if re.search(r"\d", row[column]) else ""

    def figure(self, section, method, density, column):
        """The same without its interval: text as printed, or "" where there is none."""
        return self.text(section, method, density, column).split(" [")[0]

    def number(self, *where):
        return float(self.figure(*where).rstrip("×").replace("−", "-"))

    def interval(self, *where):
        """Its ends."""
        ends = re.search(r"\[(.*), (.*)\]", self.text(*where).replace("−", "-"))
        return float(ends[1]), float(ends[2])


@functools.cache
def report(name):
    return Report(name)


def table(head, rows):
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def said(claims, bullet="- "):
    """Sentences, each of which comes after whether the reports bear it out."""
    lines = []
    for holds, sentence in claims:
        if not holds:
            raise Missing(f"the reports no longer say: {sentence}")
        lines += textwrap.wrap(
            bullet + sentence,
            100,
            subsequent_indent=" " * len(bullet),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


PPL, NLL = "ppl_book ppl", "ΔNLL to one-hop"
PROSE = "smollm2-135m-instruct (task), prefill, 2048 tokens"


def quickstart():
    """README's front table, best quality first."""
    demo = report("quickstart")
    time = "smollm2-135m (synthetic), prefill, 8192 tokens"
    methods = sorted(
        (
            "oracle",
            "onehop icml",
            "sketchwalk icml",
            "sketchwalk softmax",
            "sketchwalk arxiv",
            "sink_window",
            "random",
        ),
        key=lambda method: demo.number(PROSE, method, "0.2", PPL),
    )
    rows = []
    for method in ("dense", *methods):
        mass = demo.figure(PROSE, method, "0.2", "mass recall")
        speed = demo.figure(time, method, "0.2", "speed-up")
        rows.append(
            [NAMES[method]]
            + [demo.figure(PROSE, method, density, PPL) for density in ("0.1", "0.2", "0.4")]
            + [mass or "1", f"{float(speed[:-1]):.1f}×" if speed else "1×"]
        )
    head = [
        "perplexity of prose, SmolLM2-135M, 2,048 tokens",
        "density 0.1",
        "0.2",
        "0.4",
        "attention mass kept at 0.2",
        "attention at 8K, 0.2, 2 CPU cores",
    ]
    return table(head, rows)


def quickstart_says():
    demo = report("quickstart")

    def figure(method, column):
        return demo.figure(PROSE, method, "0.2", column)

    def ppl(method):
        return demo.number(PROSE, method, "0.2", PPL)

    yield (
        abs(ppl("sketchwalk icml") / ppl("onehop icml") - 1) < 0.005,
        "On this small model, at equal budget, the walk of the released code (`icml`) is level "
        "with its own one-hop scores: at density 0.2 perplexity "
        f"{figure('sketchwalk icml', PPL)} against {figure('onehop icml', PPL)}.",
    )
    walk, hop = (figure(m, "rollout recall") for m in ("sketchwalk softmax", "onehop icml"))
    yield (
        ppl("sketchwalk softmax") > ppl("onehop icml") and float(walk) > float(hop),
        f"The walk of the softmax form loses in perplexity ({figure('sketchwalk softmax', PPL)}), "
        f"although it does find what it looks for: {walk} of the top blocks of attention rolled "
        f"out over layers, where the released one-hop scores find {hop}.",
    )
    yield (
        ppl("sketchwalk arxiv") > ppl("random"),
        f"The algorithm as printed (`arxiv`) has {figure('sketchwalk arxiv', PPL)}, more than "
        f"random blocks' {figure('random', PPL)}.",
    )


@dataclass(frozen=True)
class Walk:
    """A report of one model with 32 windows, and what is asked of it. cells: (tokens, density)."""

    name: str
    model: str
    cells: tuple[tuple[int, str], ...]

    @property
    def lengths(self):
        return tuple(dict.fromkeys(length for length, _ in self.cells))

    def where(self, length, method, density, column):
        return f"{self.model} (task), prefill, {length} tokens", method, density, column

    def figure(self, *where):
        return report(self.name).figure(*self.where(*where))

    def number(self, *where):
        return report(self.name).number(*self.where(*where))

    def text(self, *where):
        return report(self.name).text(*self.where(*where))

    def everywhere(self, method, column):
        """Ends of the intervals at each length and density."""
        return [
            report(self.name).interval(*self.where(length, method, density, column))
            for length, density in self.cells
        ]

    def worse(self, method, than):
        """Worse perplexity, at each length and density?"""
        return all(
            self.number(length, method, density, PPL) > self.number(length, than, density, PPL)
            for length, density in self.cells
        )


SMOLLM2 = Walk(
    "compare-walk",
    "smollm2-135m-instruct",
    tuple((length, density) for length in (2048, 4096) for density in ("0.1", "0.2", "0.4")),
)
QWEN = Walk(
    "compare-walk-qwen",
    "qwen2.5-coder-0.5b-instruct",
    ((4096, "0.1"), (4096, "0.2"), (4096, "0.4"), (16384, "0.1"), (16384, "0.2")),
)
ONE_HOP = (
    "oracle",
    "xattention",
    "moba",
    "nsa",
    "sketchwalk icml",
    "onehop icml",
    "onehop softmax",
    "sink_window",
    "sketchwalk softmax",
    "random",
    "sketchwalk arxiv signed",
    "sketchwalk arxiv",
    "onehop arxiv",
)
ACROSS_LAYERS = ("reuse kascade", "reuse last_anchor", "reuse running_mean")


def tokens_of(length):
    return f"{length // 1024}K"


def walk_table(walk, methods):
    first, second = walk.lengths
    rows = []
    for method in ("dense", *sorted(methods, key=lambda m: walk.number(first, m, "0.2", PPL))):
        row = [NAMES[method]]
        for length in walk.lengths:
            row.append(walk.figure(length, method, "0.2", PPL))
            # The ablation has no one-hop of its own: signs matter before the walk too.
            own = method in ("sketchwalk icml", "sketchwalk softmax", "sketchwalk arxiv")
            own = own or method in ACROSS_LAYERS
            row.append(walk.text(length, method, "0.2", NLL) if own else "")
        row.append(walk.figure(first, method, "0.2", "block recall"))
        row.append(walk.figure(first, method, "0.2", "rollout recall"))
        rows.append(row)
    head = [
        "density 0.2",
        f"ppl {tokens_of(first)}",
        f"ΔNLL to its one-hop, {tokens_of(first)}",
        f"ppl {tokens_of(second)}",
        f"ΔNLL to its one-hop, {tokens_of(second)}",
        f"top blocks found, {tokens_of(first)}",
        "of rolled-out attention",
    ]
    return table(head, rows)


def walk_says():
    def figure(method, column=PPL):
        return SMOLLM2.figure(2048, method, "0.2", column)

    printed, signed = "sketchwalk arxiv", "sketchwalk arxiv signed"
    released, softmax = "sketchwalk icml", "sketchwalk softmax"
    yield (
        SMOLLM2.worse(printed, "random") and SMOLLM2.worse(printed, signed),
        "The algorithm **as printed** (`arxiv`) is worse than random blocks on this model, at "
        f"every density and both lengths: {figure(printed)} against {figure('random')} at density "
        "0.2 and 2K. Its even power ranks a strongly negative score like a strongly positive one. "
        f"Keeping the sign through the power mends a part of it: {figure(signed)}.",
    )
    gains = SMOLLM2.everywhere(released, NLL)
    apart = [ends for ends in gains if ends[0] > 0 or ends[1] < 0]
    furthest = max(abs(end) for ends in gains for end in ends)
    yield (
        SMOLLM2.worse(printed, released) and SMOLLM2.worse(softmax, released) and len(apart) <= 1,
        "The **released** code's form (`icml`) is the best of the three at every density and both "
        f"lengths; its walk is level with its own one-hop scores: of {len(gains)} intervals of the "
        f"difference {len(gains) - len(apart)} hold zero, and none reaches further from it than "
        f"{furthest:.4f} nats.",
    )
    walk, hop = (figure(m, "rollout recall") for m in (softmax, "onehop softmax"))
    yield (
        all(low > 0 for low, _ in SMOLLM2.everywhere(softmax, NLL)) and float(walk) > float(hop),
        "A causal softmax before the power, our **softmax form** (`softmax`), makes a walk that "
        f"finds the blocks of rolled-out attention ({walk} of them at 0.2 and 2K, its one-hop "
        f"{hop}), and costs perplexity for it at every density and both lengths.",
    )


def apart(intervals):
    return [ends for ends in intervals if ends[0] > 0 or ends[1] < 0]


class Layers:
    """Block recall of QWEN's first length at density 0.2, over thirds of the layers."""

    def __init__(self):
        with (REPORTS / f"{QWEN.name}-layers.csv").open() as file:
            self.rows = [
                row
                for row in csv.DictReader(file)
                if row["context"] == str(QWEN.lengths[0]) and row["density"] == "0.2"
            ]
        layers = sorted({int(row["layer"]) for row in self.rows})
        third = -(-len(layers) // 3)
        self.parts = [layers[:third], layers[third : 2 * third], layers[2 * third :]]

    def means(self, method):
        name, _, variant = method.partition(" ")
        found = {
            int(row["layer"]): float(row["block_recall"])
            for row in self.rows
            if row["method"] == name and row["variant"] == variant
        }
        return [sum(found[layer] for layer in part) / len(part) for part in self.parts]


def layers_table():
    layers = Layers()
    methods = (
        "xattention",
        "moba",
        "onehop icml",
        "sketchwalk icml",
        *reversed(ACROSS_LAYERS),
        "sketchwalk arxiv",
        "random",
    )
    head = ["top blocks found, 4K, density 0.2"]
    head += [f"layers {part[0]} to {part[-1]}" for part in layers.parts]
    return table(
        head,
        [[NAMES[method], *(f"{mean:.3f}" for mean in layers.means(method))] for method in methods],
    )


def qwen_says():
    def figure(method):
        return QWEN.figure(4096, method, "0.2", PPL)

    printed, released, softmax = "sketchwalk arxiv", "sketchwalk icml", "sketchwalk softmax"
    yield (
        QWEN.worse(printed, "random") and QWEN.worse(softmax, "onehop softmax"),
        "Here too the algorithm **as printed** is worse than random blocks at every density and "
        f"length ({figure(printed)} against {figure('random')} at density 0.2 and 4K), and the "
        f"softmax form's walk costs perplexity ({figure(softmax)}, its one-hop "
        f"{figure('onehop softmax')}).",
    )
    gains = QWEN.everywhere(released, NLL)
    furthest = max(abs(end) for ends in gains for end in ends)
    yield (
        len(apart(gains)) <= 1 and all(ends[1] > 0 for ends in gains),
        f"The **released** walk is level with its own one-hop scores: of {len(gains)} intervals "
        f"{len(gains) - len(apart(gains))} hold zero, none lies below it, and none reaches further "
        f"from it than {furthest:.4f} nats.",
    )
    layers, walked = Layers(), ("sketchwalk icml", *ACROSS_LAYERS)
    yield (
        all(
            other < own
            for method in walked
            for other, own in zip(layers.means(method), layers.means("onehop icml"))
        ),
        "By layer, the walk finds fewer of a layer's own top blocks than the layer's own scores "
        "do, in each third of the model, and so does every other way to use the layers below.",
    )
    copied = QWEN.everywhere("reuse last_anchor", NLL)
    furthest = max(abs(end) for ends in copied for end in ends)
    summed = QWEN.everywhere("reuse running_mean", NLL)
    yield (
        furthest < 0.02 and all(high > 0 for _, high in summed),
        "Earlier layers **without** a hop: copying the list of the last of every fourth layer "
        f"(`last_anchor`) is within {furthest:.4f} nats of one-hop scores in every layer, at a "
        "quarter of their selections; the mean of the scores of all layers below "
        "(`running_mean`) is never better than the layer's own.",
    )
    better = QWEN.everywhere("reuse kascade", NLL)
    yield (
        all(high < 0 for _, high in better),
        "What helps here is a better score, not a way through the layers: Kascade's anchors take "
        "the true mass of attention, a list for each KV group, and the layers between them, which "
        "only copy those lists, beat sketches made anew in each layer, one list for all heads, at "
        f"every density and length: {figure('reuse kascade')} against {figure('onehop icml')}.",
    )


def front_says():
    """README's words on the longer comparison."""
    names = (
        "dense",
        "sketchwalk icml",
        "onehop icml",
        "sketchwalk softmax",
        "random",
        "sketchwalk arxiv",
    )
    figures = [SMOLLM2.figure(2048, name, "0.2", PPL) for name in names]
    dense, released, hop, softmax, random, printed = figures
    gains = SMOLLM2.everywhere("sketchwalk icml", NLL)
    yield (
        sorted(figures, key=float) == figures
        and SMOLLM2.worse("sketchwalk arxiv", "random")
        and sum(low > 0 or high < 0 for low, high in gains) <= 1,
        "With 32 windows and the same model, at density 0.2: "
        f"dense {dense}, released {released} (its one-hop scores {hop}), softmax form {softmax}, "
        f"random {random}, **as printed {printed}**. The printed algorithm is worse than random "
        "blocks there, and the released code's walk is level with its own one-hop scores: [the "
        "table](docs/results.md#the-walk-against-its-own-one-hop-scores).",
    )


LONG = "llama-3.1-8b (synthetic), prefill, 32768 tokens"


class Field:
    """compare-model.md and compare-synthetic.md side by side."""

    methods = (
        "oracle",
        "xattention",
        "moba",
        "nsa",
        "onehop icml",
        "sketchwalk icml",
        "minference",
        "flexprefill",
        "sink_window",
        "sketchwalk softmax",
        "spargeattn",
        "random",
    )

    def __init__(self):
        self.model, self.times = report("compare-model"), report("compare-synthetic")
        config = yaml.safe_load((ROOT / "configs/compare/synthetic.yaml").read_text())
        (self.layers,) = {load["layers"] for load in config["workloads"]}

    def ms(self, method, column):
        """Milliseconds a layer: the report's are of all layers."""
        label = "oracle head" if method == "oracle" else method
        ms = self.times.number(LONG, label, "0.2", column) / self.layers
        return f"{ms:.2f}" if ms < 10 else f"{ms:.1f}"


def field_table():
    field = Field()
    model = field.model
    rows = [
        [NAMES[method]]
        + [model.figure(PROSE, method, density, PPL) for density in ("0.1", "0.2", "0.4")]
        + [model.text(PROSE, method, "0.2", NLL)]
        + [model.figure(PROSE, method, "0.2", "block recall")]
        + [field.ms(method, "of it selection"), field.ms(method, "attention ms")]
        for method in sorted(
            field.methods, key=lambda method: model.number(PROSE, method, "0.2", PPL)
        )
    ]
    dense = [model.figure(PROSE, "dense", "", PPL)] * 3
    rows.insert(0, [NAMES["dense"], *dense, "", "", "", field.ms("dense", "attention ms")])
    head = [
        "method",
        "ppl at 0.1",
        "0.2",
        "0.4",
        "ΔNLL to one-hop at 0.2",
        "top blocks found at 0.2",
        "selection at 32K",
        "attention in all",
    ]
    return table(head, rows)


def field_says():
    field = Field()
    model = field.model

    def ppl(method):
        return model.number(PROSE, method, "0.2", PPL)

    def ms(method, column="attention ms"):
        return float(field.ms(method, column))

    one_list = [ms(m) for m in ("sketchwalk softmax", "onehop icml", "sketchwalk icml")]
    lists = ("xattention", "moba", "minference", "flexprefill", "spargeattn")
    attend = min(ms(method) - ms(method, "of it selection") for method in lists)
    yield (
        ppl("xattention") == min(map(ppl, set(field.methods) - {"oracle"}))
        and ppl("moba") < ppl("onehop icml")
        and max(one_list) < attend,
        "Lists per head can have better quality than a list shared by a layer, XAttention's have "
        "the best. But a shared list is what makes the attention kernel fast: at 32K the released "
        f"code, the softmax form and one-hop take {min(one_list)} to {max(one_list)} ms in all, "
        f"where lists per head take at least {attend:.2f} ms **before** their selection.",
    )
    walk, hop = (
        model.figure(PROSE, method, "0.2", "rollout recall")
        for method in ("sketchwalk softmax", "onehop icml")
    )
    level = model.interval(PROSE, "sketchwalk icml", "0.2", NLL)
    yield (
        level[0] < 0 < level[1] and model.interval(PROSE, "sketchwalk softmax", "0.2", NLL)[0] > 0,
        "The walk of the released code neither gains nor loses against its own one-hop scores. The "
        "walk of the softmax form loses, although it finds most of what rolled-out attention "
        f"points to ({walk} against {hop}).",
    )
    least = model.figure(PROSE, "oracle", "0.05", "kept")
    yield (
        float(least) > 0.05,
        f"A density of 0.05 cannot be had at this length: the forced blocks alone are {least}.",
    )


def hops_accuracy():
    """The trained model's own figures: means over the orders of statements."""
    cells = json.loads((ROOT / "datasets/hops/hops-64/accuracy.json").read_text())
    orders = ("forward", "reverse", "random")

    def mean(length, question):
        return f"{100 * sum(cells[length][f'{question} {order}'] for order in orders) / 3:.0f}"

    rows = []
    for length in cells:
        direct = [mean(length, f"direct {hops}") for hops in range(5)]
        least = f"{100 * min(cells[length].values()):.0f}"
        rows.append([length, *direct, mean(length, "list 4"), least])
    hops = [f"{hops} hop{'' if hops == 1 else 's'}" for hops in range(5)]
    return table(["tokens", *hops, "list of 4", "least of any order and question"], rows)


class Hops:
    """hops.md: accuracy of the small model that follows chains."""

    section = "hops-64 (task), prefill, 2048 tokens"
    asked = (0, 2, 4)

    @classmethod
    def text(cls, method, hops):
        return report("hops").text(cls.section, method, "0.3", f"chain_{hops} %")

    @classmethod
    def number(cls, method, hops):
        return report("hops").number(cls.section, method, "0.3", f"chain_{hops} %")

    @classmethod
    def methods(cls):
        found = {method for title, method, _ in report("hops").rows if title == cls.section}
        return sorted(found, key=lambda m: [-cls.number(m, hops) for hops in cls.asked] + [m])


def hops_table():
    names = NAMES | {
        "onehop icml per_head": "one-hop, released scores, a list a head",
        "oracle": "oracle: true top blocks of each head, by their queries' mean",
    }
    return table(
        ["questions answered, %, density 0.3", *(f"{hops} hops" for hops in Hops.asked)],
        [[names[method], *(Hops.text(method, k) for k in Hops.asked)] for method in Hops.methods()],
    )


def hops_says():
    yield (
        all(Hops.number(method, k) >= 90 for method in ("dense", "oracle") for k in Hops.asked),
        "Dense attention answers, and so do the true top blocks of each head at the same density "
        "as all others: the blocks that are needed can be had, at any number of hops.",
    )
    others = [m for m in Hops.methods() if m not in ("dense", "oracle", "reuse kascade")]
    yield (
        all(Hops.number(method, 4) < 30 for method in others)
        and all(Hops.number("reuse kascade", 0) > Hops.number(method, 0) for method in others),
        "No method but the oracle answers four hops. Sketches of block means fail before the first "
        "hop; what Kascade has over them is the true mass of attention in a few layers, and copies "
        "of its lists lose it over hops.",
    )
    walk, hop = ([Hops.text(f"{m} icml", k) for k in Hops.asked] for m in ("sketchwalk", "onehop"))
    yield (
        all(Hops.number("sketchwalk icml", k) >= Hops.number("onehop icml", k) for k in Hops.asked),
        f"The released walk answers more than its one-hop scores ({', '.join(walk)} against "
        f"{', '.join(hop)}). With 32 questions the intervals are too wide to say that this is the "
        "walk, or that it grows with hops; random blocks answer as much where no hop is asked.",
    )


BLOCKS = {
    "hops": hops_table,
    "hops-says": lambda: said(hops_says()),
    "hops-accuracy": hops_accuracy,
    "quickstart": quickstart,
    "quickstart-says": lambda: said(quickstart_says()),
    "front": lambda: said(front_says(), bullet=""),
    "walk": lambda: walk_table(SMOLLM2, ONE_HOP),
    "walk-says": lambda: said(walk_says()),
    "walk-qwen": lambda: walk_table(QWEN, (*ONE_HOP, *ACROSS_LAYERS)),
    "walk-qwen-layers": layers_table,
    "walk-qwen-says": lambda: said(qwen_says()),
    "field": field_table,
    "field-says": lambda: said(field_says()),
}


def render(text):
    """A page with all its blocks written anew."""
    return BLOCK.sub(
        lambda block: block[1] + "\n" + "\n".join(BLOCKS[block[2]]()) + "\n\n" + block[3], text
    )


def take(results, name):
    """Keep a run's report and its samples."""
    for verb, file in (("report", f"{name}.md"), ("show", f"{name}-samples.txt")):
        program = [ROOT / "build/release/bin/swbench", verb, results]
        text = subprocess.run(program, check=True, capture_output=True, text=True).stdout
        (REPORTS / file).write_text(text)


def take_layers(results, name):
    """Keep a run's block recall by layer."""
    program = [ROOT / "build/release/bin/swbench", "export", results, "--format", "csv"]
    program += ["--metric", "block_recall"]
    text = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    kept = [row for row in csv.DictReader(io.StringIO(text)) if row["layer"]]
    with (REPORTS / f"{name}-layers.csv").open("w", newline="") as file:
        columns = ("method", "variant", "context", "density", "layer", "block_recall")
        out = csv.writer(file, lineterminator="\n")
        out.writerow(columns)
        for row in sorted(kept, key=lambda row: (row["method"], row["params"], int(row["layer"]))):
            params = json.loads(row["params"])
            words = [params.get("variant", params.get("preset", ""))]
            words += ["signed"] if params.get("signed") else []
            out.writerow(
                [row["method"], " ".join(words), row["context"], row["density"], row["layer"],
                 f"{float(row['value']):.4f}"]
            )  # fmt: skip


def stale():
    """The pages whose blocks are not what the reports say, and what they would be."""
    pages = {page: (ROOT / page).read_text() for page in PAGES}
    return {page: new for page, text in pages.items() if (new := render(text)) != text}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("--take", nargs=2, metavar=("RESULTS", "NAME"))
    arguments.add_argument("--take-layers", nargs=2, metavar=("RESULTS", "NAME"))
    arguments = arguments.parse_args()
    if arguments.take:
        take(*arguments.take)
    if arguments.take_layers:
        take_layers(*arguments.take_layers)
    pages = stale()
    if arguments.check and pages:
        sys.exit(f"{', '.join(pages)}: not what results/reference says; run `make figures`")
    for page, text in pages.items():
        (ROOT / page).write_text(text)


if __name__ == "__main__":
    main()
