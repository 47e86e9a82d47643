"""How answers are scored, stored and shown: every kind of score through a whole run of the tiny
model, whose answers NumPy knows."""

import csv
import difflib
import io
import re

import h5py
import numpy as np
import pytest

import tiny
from conftest import swbench

RANDOM = {"name": "random", "params": {"block_size": 16}}


def answers(texts=None, prompts=None):
    """What the model answers, dense."""
    texts = texts or tiny.token_texts()
    return [
        b"".join(texts[token] for token in tiny.greedy(tiny.weights(), prompt)[0]).decode()
        for prompt in prompts or tiny.prompts(2)
    ]


def run(
    world,
    folder,
    references,
    score,
    model=None,
    prompts=None,
    methods=("dense",),
    classes=None,
    depth=None,
    **attributes,
):
    """A run on two prompts with these references; the path of its results."""
    values = {}
    if classes:
        values["classes"] = np.array(classes, dtype=object)
    if depth:
        values["depth"] = np.array(depth)
    model = model or world.model
    tiny.write_dataset(
        tiny.dataset_path(folder, "echo_tiny", 2),
        model,
        prompts or tiny.prompts(2),
        references,
        attributes={"score": score, **attributes},
        values=values,
    )
    workload = {
        "kind": "task",
        "model": str(model),
        "data": str(folder),
        "tasks": ["echo_tiny"],
        "samples": 2,
    }
    config = world.config(
        folder / "c.yaml",
        workloads=[workload],
        methods=list(methods),
        axes={"context": tiny.CONTEXT, "density": 0.5},
    )
    swbench("run", config, "-q", check=0)
    return folder / "out"


def stored(out, method="dense"):
    """The predictions of one method's cell, as arrays."""
    for path in (out / "cells").iterdir():
        with h5py.File(path) as file:
            if file.attrs["method"] == method:
                group = file["samples/predictions"]
                return {
                    name: values.asstr()[:].tolist()
                    if values.dtype == object
                    else values[:].tolist()
                    for name, values in group.items()
                    if not name.startswith("prompt_")
                    and not name.startswith("reference_")
                    or name == "reference_offsets"
                }
    raise AssertionError(f"no cell of {method}")


def f1(answer, reference):
    """Of single words."""
    return 100.0 * (re.sub(r"[.]", "", answer) == re.sub(r"[.]", "", reference))


def share(answer, number):
    numbers = re.findall(r"\d+", answer)
    return 100 * numbers.count(number) / len(numbers) if numbers else 0


def test_every_score(world, tmp_path):
    first, second = answers()
    number = re.findall(r"\d+", first)[0]
    near = [first[:-4] + "zz.", second[3:]]
    cases = {
        "all": ([[first[3:9].upper(), "not there"], [second]], [50, 100]),
        "part": ([[first[3:9].upper(), "not there"], ["nothing"]], [100, 0]),
        "f1": ([["no", first.upper()], ["no"]], [f1(first, first), 0]),
        "set_f1": ([[first.upper(), "another"], ["no"]], [f1(first, first) * 2 / 3, 0]),
        "rouge_l": ([[first], ["none of it"]], [100 * 2 / (2 + 1e-8), 0]),
        "classification": ([[first], [second[:6]]], [100, 50]),
        "number": ([[number], ["no number"]], [share(first, number), 0]),
        "retrieval": ([[f"Paragraph {number}"], ["Paragraph 1234567"]], [share(first, number), 0]),
        "code": (
            [[near[0]], [near[1]]],
            [
                round(100 * difflib.SequenceMatcher(None, a, b).ratio())
                for a, b in zip((first, second), near)
            ],
        ),
    }
    assert 0 < share(first, number) <= 100 and 0 < cases["code"][1][0] < 100
    listed = {
        line.split()[0] for line in swbench("help", "scores", check=0).stdout.splitlines()[1:]
    }
    assert listed == set(cases)
    for score, (references, expected) in cases.items():
        (tmp_path / score).mkdir()
        classes = [first[:6], first, second[:6], second] if score == "classification" else None
        out = run(world, tmp_path / score, references, score, classes=classes)
        found = stored(out)
        assert found["score"] == pytest.approx(expected, abs=1e-9), score
        assert found["references"] == [text for texts in references for text in texts]
        assert found["reference_offsets"] == [
            0,
            len(references[0]),
            len(references[0]) + len(references[1]),
        ]
        assert found["prediction"] == [first, second] and "depth" not in found
        (row,) = csv.DictReader(
            io.StringIO(swbench("export", out, "--metric", "accuracy", check=0).stdout)
        )
        assert float(row["value"]) == pytest.approx(sum(expected) / 2, abs=1e-9)
        done = swbench("validate", tiny.dataset_path(tmp_path / score, "echo_tiny", 2), check=0)
        assert f"score {score}" in done.stdout and done.stderr == ""


def with_newlines():
    """Tokens that read as a word and a blank; a third of them as a word and a newline; all with a
    tab in front."""
    return [
        b""
        if token in (tiny.BOS, tiny.EOS)
        else f"\tw{token}".encode() + (b"\n" if token % 3 == 0 else b" ")
        for token in range(tiny.VOCAB)
    ]


@pytest.mark.parametrize("first_line", [0, 1])
def test_first_line(world, tmp_path, first_line):
    texts = with_newlines()
    model = tiny.write_model(tmp_path / "models" / tiny.NAME, texts=texts)
    said = answers(texts)
    lines = [text.lstrip("\n").split("\n")[0] for text in said]
    assert any("\n" in text.strip() for text in said)
    out = run(
        world,
        tmp_path,
        [[line] for line in lines],
        "f1",
        model=model,
        first_line=np.uint8(first_line),
    )
    found = stored(out)
    assert found["prediction"] == said  # as the model wrote it: LongBench's answers are not cleaned
    words = [(len(line.split()), len(text.split())) for line, text in zip(lines, said)]
    assert found["score"] == pytest.approx(
        [100 if first_line else 100 * 2 * few / (few + all_) for few, all_ in words]
    )


def test_prompts_of_any_length(world, tmp_path):
    """at_most: each prompt is read as long as it is."""
    prompts = [tiny.prompts(2)[0][:50], tiny.prompts(2)[1]]
    said = answers(prompts=prompts)
    out = run(
        world,
        tmp_path,
        [[text] for text in said],
        "f1",
        prompts=prompts,
        methods=["dense", RANDOM],
        lengths="at_most",
    )
    found = stored(out)
    assert found["prediction"] == said and found["score"] == [100, 100]
    for phase in ("decode", "both"):
        swbench(
            "run",
            tmp_path / "c.yaml",
            "-q",
            "--set",
            f"axes.phase={phase}",
            "--output",
            tmp_path / phase,
            check=0,
        )
        assert len(stored(tmp_path / phase, "random")["score"]) == 2


# --- show -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(world, tmp_path_factory):
    """Two tasks in two phases by three methods."""
    folder = tmp_path_factory.mktemp("shown")
    said = answers()
    for task, references, depth in (
        ("echo_tiny", [[said[0][:6]], ["nothing like it"]], [0.25, np.nan]),
        ("other_tiny", [["a", "b\tc"], ["d"]], None),
    ):
        values = {"depth": np.array(depth)} if depth else {}
        tiny.write_dataset(
            tiny.dataset_path(folder, task, 2),
            world.model,
            tiny.prompts(2),
            references,
            values=values,
        )
    tiny.write_dataset(tiny.dataset_path(folder, "ppl_tiny", 2), world.model, tiny.windows(2))
    workload = {
        "kind": "task",
        "model": str(world.model),
        "data": str(folder),
        "tasks": ["echo_tiny", "other_tiny", "ppl_tiny"],
        "samples": 2,
    }
    walk = {"name": "sketchwalk", "params": {"block_size": 16, "variant": ["softmax", "icml"]}}
    config = world.config(
        folder / "c.yaml",
        workloads=[workload],
        methods=["dense", RANDOM, walk],
        measure=["accuracy"],
        axes={"context": tiny.CONTEXT, "density": [0.5, 0.7], "phase": ["prefill", "decode"]},
    )
    swbench("run", config, "-q", check=0)
    return folder


def show(shown, *args, **options):
    return swbench("show", shown / "out", *args, check=0, **options)


def blocks(text):
    """{heading: the text under it, joined}"""
    found = {}
    for part in text.split("\n\n"):
        head, *lines = part.splitlines()
        found[head] = "".join(line.removeprefix("  | ") for line in lines)
    return found


def test_show_a_sample(shown):
    done = show(shown, "--sample", 0, "--task", "echo_tiny", "--phase", "prefill")
    found = blocks(done.stdout)
    said = answers()[0]
    heads = list(found)
    assert (
        heads[0]
        == "echo_tiny, tiny, 160 tokens, prefill, seed 1: sample 0 of 0…1, needle at depth 0.25"
    )
    assert found["prompt, the last 300 characters:"] == tiny.text_of(tiny.prompts(2)[0])[-300:]
    assert found["expected:"] == said[:6]
    assert found["dense: score 100"] == said
    assert len(heads) == 5 and heads[4].startswith("random at 0.5: score ")
    assert "5 more methods" in done.stderr and "--method" in done.stderr
    assert all(len(line) <= 96 for line in done.stdout.splitlines())
    second = show(shown, "--sample", 1, "--task", "other_tiny", "--phase", "decode").stdout
    assert "depth" not in second and "decode, seed 1: sample 1" in second


def test_show_methods_in_the_order_asked(shown):
    done = show(
        shown,
        "--sample",
        1,
        "--task",
        "echo_tiny",
        "--phase",
        "decode",
        "--density",
        "0.70",
        "--method",
        "sketchwalk",
        "--method",
        "dense",
    )
    assert [head.split(":")[0] for head in list(blocks(done.stdout))[3:]] == [
        "sketchwalk icml at 0.7",
        "sketchwalk softmax at 0.7",
        "dense",
    ]
    assert done.stderr == ""


def test_show_all_references_escaped(shown):
    text = show(shown, "--sample", 0, "--task", "other_tiny").stdout
    assert "expected, any or all of:\n  | a\n  | b\\tc\n" in text


def test_show_what_differs(shown):
    done = show(shown, "--task", "echo_tiny", "--phase", "prefill")
    lines = done.stdout.splitlines()
    assert lines[2].split() == ["sample", *"ABCDEFG", "differ"] and done.stderr == ""
    labels = dict(line.split(": ") for line in lines if re.match(r"[A-G]: ", line))
    assert (
        labels["A"] == "dense"
        and labels["C"] == "random at 0.7"
        and labels["E"] == "sketchwalk icml at 0.7"
        and labels["G"] == "sketchwalk softmax at 0.7"
    )
    for sample, line in enumerate(lines[3:5]):
        name, *values = line.split()
        scores = values[:7]
        assert name == str(sample) and scores[0] == ("100" if sample == 0 else "0")
        assert (values[7:] == ["*"]) == (len(set(scores)) > 1)
    assert lines[3].endswith("*")  # else nothing here differs
    every = show(shown).stdout
    assert every.count("of each sample") == 6 and every.count("loss (nat/token)") == 2


def test_show_one_cell(shown):
    for path in (shown / "out" / "cells").iterdir():
        with h5py.File(path) as file:
            task, method = file.attrs["task"], file.attrs["method"]
        if task == "echo_tiny" and method == "dense":
            done = swbench("show", path, "--sample", 0, check=0)
            assert "dense: score 100" in done.stdout and done.stderr == ""


def test_show_without_the_dataset(world, tmp_path):
    """The answers are in the cell; the prompt may be changed or gone."""
    out = run(world, tmp_path, [["x"], ["y"]], "all")
    path = tiny.dataset_path(tmp_path, "echo_tiny", 2)
    good = path.read_bytes()
    for content, words in (
        (good[:-1] + bytes([good[-1] ^ 1]), "has changed"),
        (b"", "has changed"),
        (None, "No such file"),
    ):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        done = swbench("show", out, "--sample", 1, check=0)
        line = next(
            line for line in done.stdout.splitlines() if line.startswith("prompt not shown: ")
        )
        assert words in line and path.name in line and done.stderr == ""
        assert f"| {answers()[1]}" in done.stdout
        path.write_bytes(good)


def test_show_escapes_what_does_not_print(world, tmp_path):
    """Answers of bytes: terminal codes, newlines and cut characters reach the terminal as text."""
    pieces = [
        b"\x1b[31m",
        b"\n",
        b"\\",
        "é".encode(),
        "日本".encode(),
        b"\xe2\x82",
        b"\r",
        "\u202e".encode(),
        b"\x07",
        b" word",
    ]
    texts = [
        b"" if token in (tiny.BOS, tiny.EOS) else pieces[token % len(pieces)]
        for token in range(tiny.VOCAB)
    ]
    out = run(
        world,
        tmp_path,
        [["x"], ["y"]],
        "f1",
        model=tiny.write_model(tmp_path / "models" / tiny.NAME, texts=texts),
    )
    text = "".join(swbench("show", out, "--sample", sample, check=0).stdout for sample in (0, 1))
    assert (
        all(line.isprintable() for line in text.splitlines())
        and "\\x1b[31m" in text
        and "\\n\n" in text
        and "\ufffd" in text
    )
    assert (
        "\\u{202e}" in text
        and "日本" in text
        and max(len(line) for line in text.splitlines()) <= 96
    )


@pytest.mark.parametrize(
    "args, words",
    [
        (["--sample", "2"], ["--sample", "2", "0…1"]),
        (["--sample", "-1"], ["--sample", "-1"]),
        (["--sample", "x"], ["--sample", "'x'", "integer"]),
        (["--task", "ecko"], ["--task", "'ecko'", "echo_tiny"]),
        (["--context", "161"], ["--context", "'161'", "160"]),
        (["--density", "0.6"], ["--density", "'0.6'", "0.5, 0.7"]),
        (["--density", "1"], ["--density", "'1'"]),
        (["--method", "dense", "--method", "walk"], ["--method", "'walk'", "sketchwalk"]),
        (["--phase", "both"], ["--phase", "'both'", "prefill"]),
        (["--sample", "0", "--task", "ppl_tiny"], ["--sample", "ppl_tiny", "no answers"]),
        (["--smaple", "1"], ["'--smaple'", "'--sample'"]),
        (["again"], ["too many"]),
    ],
)
def test_show_bad_arguments(shown, args, words):
    done = swbench("show", shown / "out", *args)
    assert done.returncode == 2 and done.stdout == "", done.stdout
    assert len(done.stderr.splitlines()) == 1 and all(word in done.stderr for word in words), (
        done.stderr
    )


def test_show_of_nothing(world, tmp_path):
    done = swbench("show", tmp_path)
    assert done.returncode == 2 and "cells" in done.stderr and len(done.stderr.splitlines()) == 1
    config = world.config(
        tmp_path / "c.yaml",
        workloads=[{"kind": "synthetic", "shape": "smollm2-135m", "layers": 1}],
        methods=["dense"],
    )
    swbench("run", config, "-q", check=0)
    done = swbench("show", tmp_path / "out")
    assert (
        done.returncode == 2
        and "nothing to show" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )
