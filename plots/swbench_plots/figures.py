"""The figures. Each takes the rows of a run and returns a figure, or several as {suffix of the
name: figure}, or raises Skip saying why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from swbench_plots import needle, style
from swbench_plots.results import Answer, Labels, Row, distinct, mean_points, speed_ups

USUAL_DENSITY = 0.2  # where a figure shows one density, the nearest to this
MOST_PANELS = 12
# Methods that kept the same are drawn this factor apart, so that their intervals can be told apart.
BESIDE = 1.012


class Skip(Exception):
    """Why a figure cannot be made of these results."""


@dataclass
class Run:
    rows: list[Row]
    labels: Labels
    styles: style.Styles
    answers: dict[str, list[Answer]] = field(
        default_factory=dict
    )  # by cell, where samples have a depth

    @classmethod
    def of(cls, rows: list[Row], answers: dict[str, list[Answer]]) -> Run:
        labels = Labels(rows)
        return cls(rows, labels, style.Styles(labels), answers)

    def having(self, *metrics: str, **fixed) -> list[Row]:
        return [
            r
            for r in self.rows
            if r.metric in metrics and all(getattr(r, k) == v for k, v in fixed.items())
        ]


PHASES = style.PHASES


def _where(model: str, phase: str, context: int) -> str:
    return f"{model}, {context:,} tokens,\n{PHASES.get(phase, phase)}"


def _phase_order(phase: str) -> int:
    return list(PHASES).index(phase) if phase in PHASES else len(PHASES)


def _same_cells(run: Run, rows: list[Row]) -> list[Row]:
    """All metrics of the cells that `rows` come from."""
    cells = {r.cell for r in rows}
    return [r for r in run.rows if r.cell in cells]


def _places(rows: list[Row]) -> list[tuple[str, str]]:
    return sorted({(r.model, r.phase) for r in rows}, key=lambda p: (p[0], _phase_order(p[1])))


def _grid(count: int) -> tuple[int, int]:
    columns = min(count, 2 if count in (2, 4) else 3)
    return math.ceil(count / columns), columns


# --- against density ------------------------------------------------------------------------------


def _draw_against_density(ax, run: Run, points: dict, shown: set[str]) -> None:
    """points: {(label, asked density): Point}. Dense is a horizontal line, the others lines over
    what they kept."""
    kept = []
    labels = run.styles.sorted({label for label, _ in points})
    for number, label in enumerate(labels):
        look, line = (
            run.styles(label),
            sorted((p for (other, _), p in points.items() if other == label), key=lambda p: p.kept),
        )
        shown.add(label)
        if run.labels.method[label] == "dense":
            ax.axhline(
                line[0].value,
                color=look["color"],
                linewidth=1.2,
                linestyle=look["linestyle"],
                zorder=1.5,
            )
            continue
        aside = BESIDE ** (number - len(labels) / 2)
        x, y = [p.kept * aside for p in line], [p.value for p in line]
        kept += [p.kept for p in line]
        ax.plot(x, y, zorder=3, **look)
        bars = [
            (p.kept * aside, p.value, p.value - p.lo, p.hi - p.value)
            for p in line
            if math.isfinite(p.lo) and math.isfinite(p.hi)
        ]
        if bars:
            bx, by, low, high = (np.array(v) for v in zip(*bars))
            ax.errorbar(
                bx,
                by,
                yerr=np.maximum([low, high], 0),
                fmt="none",
                ecolor=look["color"],
                elinewidth=1,
                capsize=2.5,
                alpha=0.7,
            )
    style.density_axis(ax, kept)


def _paired(run: Run, rows: list[Row], points: dict, key: Callable) -> dict:
    """Perplexities with the interval of their paired difference with dense, where that was
    measured: windows differ far more from one another than methods do on the same window, and it is
    the latter that is compared."""
    delta = mean_points(rows, "nll_delta", key)
    dense = [p.value for (label, _), p in points.items() if run.labels.method[label] == "dense"]
    if not dense or not delta:
        return points
    out = dict(points)
    for k, d in delta.items():
        if k in out and math.isfinite(d.lo) and math.isfinite(d.hi):
            p = out[k]
            out[k] = type(p)(
                p.kept,
                p.value,
                p.value * math.exp(d.lo - d.value),
                p.value * math.exp(d.hi - d.value),
            )
    return out


def quality_against_density(run: Run):
    measured = run.having("accuracy", "ppl", layer=-1)
    places = []
    for model, phase, task, metric in sorted(
        {(r.model, r.phase, r.task, r.metric) for r in measured},
        key=lambda p: (p[0], _phase_order(p[1]), p[2:]),
    ):
        here = [
            r
            for r in measured
            if (r.model, r.phase, r.task, r.metric) == (model, phase, task, metric)
        ]
        sparse = [r for r in here if r.method != "dense"]
        if sparse:
            places.append((model, phase, task, metric, max(r.context for r in sparse), here))
    if not places:
        raise Skip("no accuracy or perplexity of a sparse method in the results")
    dropped, places = len(places) - MOST_PANELS, places[:MOST_PANELS]
    note = (
        "Each point is one run: how much of causal attention was computed, and how well the "
        "model did. Dashed black: dense attention.\n"
        "Bars: 95 % intervals (perplexity: of the difference with dense on the same texts). "
        "Methods are set a little apart sideways."
    )
    if dropped > 0:
        note += f" {dropped} more tasks are in the report, not here."
    fig, axes = style.start(
        *_grid(len(places)),
        "How well does the model do when it attends to only part of the text?",
        note,
    )
    shown: set[str] = set()
    for ax, (model, phase, task, metric, context, here) in zip(axes.flat, places):
        rows = _same_cells(run, [r for r in here if r.context == context])

        def key(row):
            return run.labels(row), row.density

        points = mean_points(rows, metric, key)
        if metric == "ppl":
            points = _paired(run, rows, points, key)
        _draw_against_density(ax, run, points, shown)
        ax.set_title(f"{task}: {_where(model, phase, context)}", fontsize=9)
        ax.set_ylabel(
            "perplexity (lower is better)" if metric == "ppl" else "accuracy (%, higher is better)"
        )
        if metric == "accuracy":
            ax.set_ylim(-4, 104)
    for ax in axes.flat[len(places) :]:
        ax.remove()
    style.legend(fig, run.styles, shown)
    return fig


def mass_recall_against_density(run: Run):
    measured = [r for r in run.having("mass_recall", layer=-1) if r.method != "dense"]
    places = _places(measured)[:MOST_PANELS]
    if not places:
        raise Skip("no mass_recall of a sparse method in the results")
    fig, axes = style.start(
        *_grid(len(places)),
        "How much of dense attention's weight lies in what each method keeps?",
        "100 % means that nothing dense attention looks at was left out; the oracle keeps the "
        "heaviest blocks by construction. Means over tasks and layers;\nbars, where there is one "
        "task: 95 % intervals.",
    )
    shown: set[str] = set()
    for ax, (model, phase) in zip(axes.flat, places):
        here = [r for r in measured if (r.model, r.phase) == (model, phase)]
        context = max(r.context for r in here)
        rows = _same_cells(run, [r for r in here if r.context == context])
        points = {
            k: type(p)(p.kept, 100 * p.value, 100 * p.lo, 100 * p.hi)
            for k, p in mean_points(
                rows, "mass_recall", lambda r: (run.labels(r), r.density)
            ).items()
        }
        _draw_against_density(ax, run, points, shown)
        ax.set_title(_where(model, phase, context), fontsize=9)
        ax.set_ylabel("attention weight kept (%, higher is better)")
        ax.set_ylim(top=101)
    for ax in axes.flat[len(places) :]:
        ax.remove()
    style.legend(fig, run.styles, shown)
    return fig


# --- against context ------------------------------------------------------------------------------


def _nearest_density(rows: list[Row]) -> float:
    asked = {r.density for r in rows if r.method != "dense"}
    return min(
        asked, key=lambda d: (abs(math.log((d or 1e-9) / USUAL_DENSITY)), d)
    )  # the methods' own (0) only if there is no other


def _asked(density: float) -> str:
    return (
        f"Sparse methods asked for density {density:g}."
        if density
        else "Sparse methods at their own, native density."
    )


def prefill_time_against_context(run: Run):
    measured = run.having("prefill_attention_ms", layer=-1)
    sparse = [r for r in measured if r.method != "dense"]
    if not sparse:
        raise Skip("no prefill_attention_ms of a sparse method in the results")
    models = [
        m
        for m in distinct(sparse, "model")
        if len({r.context for r in measured if r.model == m}) > 1
    ]
    if not models:
        raise Skip("prefill was timed at one context only")
    density = _nearest_density([r for r in sparse if r.model in models])
    fig, axes = style.start(
        len(models),
        2,
        "How long does attention take as prompts grow?",
        "Attention of all layers while the prompt is read, the choice of what to attend to "
        f"included. {_asked(density)}\nMeans over tasks. Both axes on the left are logarithmic.",
    )
    shown: set[str] = set()
    for (left, right), model in zip(axes, models):
        rows = [
            r
            for r in measured
            if r.model == model and (r.method == "dense" or r.density == density)
        ]

        def where(row):
            return run.labels(row), row.context

        points = mean_points(rows, "prefill_attention_ms", where)
        ratios = speed_ups(rows, "prefill_attention_ms", where)
        contexts = sorted({context for _, context in points})
        for label in run.styles.sorted({label for label, _ in points}):
            line = sorted((c, p.value) for (other, c), p in points.items() if other == label)
            look = dict(run.styles(label))
            shown.add(label)
            left.plot(*zip(*line), **look)
            faster = [(c, ratios[label, c]) for c, _ in line if (label, c) in ratios]
            if faster and all(ratio == 1 for _, ratio in faster):  # the baseline itself
                right.axhline(1, color=look["color"], linewidth=1.2, linestyle=look["linestyle"])
            elif faster:
                right.plot(*zip(*faster), **look)
        style.time_axis(left)
        left.set_ylabel("time (ms, lower is better)")
        left.set_title(f"{model}:\ntime of attention", fontsize=9)
        right.set_title(f"{model}:\nhow many times faster than dense", fontsize=9)
        right.set_ylabel("speed-up (higher is better)")
        right.set_ylim(bottom=0)
        if not ratios:
            right.text(
                0.5,
                0.5,
                "dense was not timed",
                transform=right.transAxes,
                ha="center",
                color=style.GREY,
            )
        for ax in (left, right):
            style.context_axis(ax, contexts)
    style.legend(fig, run.styles, shown)
    return fig


# --- by layer -------------------------------------------------------------------------------------


def _by_layer(run: Run, rows: list[Row], metric: str) -> dict[str, dict[int, float]]:
    """{label: {layer: mean over tasks and seeds}}"""
    values: dict[str, dict[int, list[float]]] = {}
    for r in rows:
        if r.metric == metric and r.layer >= 0:
            values.setdefault(run.labels(r), {}).setdefault(r.layer, []).append(r.value)
    return {
        label: {layer: 100 * sum(v) / len(v) for layer, v in sorted(layers.items())}
        for label, layers in values.items()
    }


def recall_by_layer(run: Run):
    measured = [
        r for r in run.having("block_recall", "mass_recall") if r.layer >= 0 and r.method != "dense"
    ]
    places = _places(measured)[: MOST_PANELS // 2]
    if not places:
        raise Skip("no recall by layer of a sparse method in the results")
    density = _nearest_density(measured)
    fig, axes = style.start(
        len(places),
        2,
        "In which layers does each method find what dense attention looks at?",
        f"{_asked(density)} Means over heads and tasks. Block recall: share of the blocks that "
        "matter most to a head that were kept.\nWeight kept: share of dense attention's weight "
        "inside the kept blocks. First layers that stay dense are not shown.",
        width=4.6,
    )
    shown: set[str] = set()
    for (left, right), (model, phase) in zip(axes, places):
        here = [r for r in measured if (r.model, r.phase, r.density) == (model, phase, density)]
        if not here:
            left.set_title(f"{model}, {phase}: not run at density {density:g}")
            left.axis("off"), right.axis("off")
            continue
        context = max(r.context for r in here)
        here = [r for r in here if r.context == context]
        recall = _by_layer(run, here, "block_recall")
        lines = recall or _by_layer(run, here, "mass_recall")
        for label in run.styles.sorted(lines):
            shown.add(label)
            look = dict(run.styles(label), markersize=4, markevery=max(1, len(lines[label]) // 10))
            left.plot(list(lines[label]), list(lines[label].values()), **look)
        lowest = min(v for line in lines.values() for v in line.values())
        left.set_ylim(10 * math.floor(lowest / 10) - 1, 101)
        left.set_xlabel("layer")
        left.set_ylabel(
            f"{'block recall' if recall else 'attention weight kept'} (%, higher is better)"
        )
        left.set_title(_where(model, phase, context), fontsize=9)
        left.xaxis.get_major_locator().set_params(integer=True)
        weights = _by_layer(run, here, "mass_recall")
        _heat_map(fig, right, run, weights or lines)
        right.set_title(
            f"{'attention weight kept' if weights else 'block recall'}\n(darker: more was missed)",
            fontsize=9,
        )
    style.legend(fig, run.styles, shown)
    return fig


def _heat_map(fig, ax, run: Run, values: dict[str, dict[int, float]]) -> None:
    labels = run.styles.sorted(values)
    layers = sorted({layer for line in values.values() for layer in line})
    grid = np.array([[values[label].get(layer, math.nan) for layer in layers] for label in labels])
    edges = np.arange(layers[0], layers[-1] + 2) - 0.5
    full = np.full((len(labels), len(edges) - 1), math.nan)
    full[:, [layer - layers[0] for layer in layers]] = grid
    low = 5 * math.floor(np.nanmin(full) / 5)
    mesh = ax.pcolormesh(
        edges,
        np.arange(len(labels) + 1) - 0.5,
        full,
        cmap="cividis",
        vmin=min(low, 95),
        vmax=100,
        linewidth=0,
    )
    ax.set_yticks(range(len(labels)), labels, fontsize=8.5)
    ax.tick_params(axis="y", length=0, labelcolor=style.INK)
    for edge in range(1, len(labels)):
        ax.axhline(edge - 0.5, color="white", linewidth=1.5)
    ax.invert_yaxis()
    ax.grid(False)
    ax.set_xlabel("layer")
    ax.xaxis.get_major_locator().set_params(integer=True)
    bar = fig.colorbar(mesh, ax=ax, pad=0.02, aspect=25)
    bar.set_label("% (higher is better)", fontsize=8.5)
    bar.outline.set_visible(False)


# --- by place of the needle -----------------------------------------------------------------------


def needle_by_depth(run: Run):
    places = needle.places(run.rows, run.answers)
    if not places:
        raise Skip("no samples with a needle's depth in the results")
    return {
        needle.suffix(place, len(places)): needle.draw(run, place, rows)
        for place, rows in places.items()
    }


FIGURES: dict[str, Callable] = {
    "quality-vs-density": quality_against_density,
    "mass-recall-vs-density": mass_recall_against_density,
    "prefill-time-vs-context": prefill_time_against_context,
    "recall-by-layer": recall_by_layer,
    "needle-by-depth": needle_by_depth,
}
