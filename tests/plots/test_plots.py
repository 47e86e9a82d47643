"""Figures of made-up results: whole sweeps, and sweeps in which something is missing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import plot
from swbench_plots import figures, needle, results, style

ROOT = Path(__file__).resolve().parents[2]

NEEDLE = "needle-by-depth"
NAMES = (
    "quality-vs-density",
    "mass-recall-vs-density",
    "prefill-time-vs-context",
    "recall-by-layer",
)
TEXTS = (
    "cell",
    "workload",
    "model",
    "task",
    "method",
    "params",
    "backend",
    "device",
    "phase",
    "metric",
    "unit",
    "status",
    "reason",
    "label",
)
WHOLE = ("context", "seed", "layer", "n")
REALS = ("density", "value", "lo", "hi")
LAYERS, DENSE_LAYERS = 30, 2

METHODS = {  # name, params -> how good it is at choosing
    ("dense", "{}"): 1.0,
    ("oracle", '{"block_size": 64, "unit": "head"}'): 0.95,
    ("sketchwalk", '{"block_size": 64, "variant": "arxiv"}'): 0.8,
    ("sketchwalk", '{"block_size": 64, "variant": "icml"}'): 0.74,
    ("onehop", '{"block_size": 64}'): 0.7,
    ("sink_window", '{"block_size": 64}'): 0.35,
    ("random", '{"block_size": 64}'): 0.1,
}


def cell_rows(key, method, params, skill, model, task, context, density, phase, rng):
    base = dict(
        cell=key,
        workload="task",
        model=model,
        task=task,
        method=method,
        params=params,
        backend="cpu",
        device="A Processor",
        phase=phase,
        status="ok",
        reason="",
        label=" ".join([method, *filter(None, [json.loads(params).get("variant")])]),
        context=context,
        seed=1,
        density=density,
        layer=-1,
        n=8,
        lo=math.nan,
        hi=math.nan,
    )

    def row(metric, value, spread=None, layer=-1, unit="1"):
        lo, hi = (value - spread, value + spread) if spread else (math.nan, math.nan)
        return dict(base, metric=metric, value=value, lo=lo, hi=hi, layer=layer, unit=unit)

    kept = 1.0 if method == "dense" else density * 1.004
    lost = 0.0 if method == "dense" else (1 - skill) * (1 - density) ** 3
    yield row("density", kept)
    if task == "ppl_book":
        yield row("ppl", 14.2 * math.exp(0.5 * lost), 2.0)
        yield row("nll_delta", 0.5 * lost, 0.1 * lost + 0.002, unit="nat/token")
    else:
        score = 100 * max(0.0, 1 - 1.3 * lost)
        yield row("accuracy", score, min(score, 100 - score, 12.0), unit="%")
    if method != "dense":
        for metric, power in (("block_recall", 1.0), ("mass_recall", 0.3)):
            layers = [
                (1 - lost * (0.7 + 0.6 * rng.random())) ** power
                for _ in range(DENSE_LAYERS, LAYERS)
            ]
            yield row(metric, float(np.mean(layers)), 0.02)
            for layer, value in enumerate(layers, DENSE_LAYERS):
                yield row(metric, value, layer=layer)
    if phase == "prefill":
        dense_ms = 0.02 * context + 2.4e-5 * context**2
        yield row(
            "prefill_attention_ms",
            dense_ms
            if method == "dense"
            else dense_ms * (density + 0.03) + (0.002 + 0.01 * skill) * context,
            unit="ms",
        )


def write_cell(folder, key, samples, skill, context, density, rng):
    """Needles late in the prompt, or at its beginning, are found more often; the last sample has
    none."""
    depth = (np.arange(samples) * 0.618) % 1
    chance = skill ** (context / 2048) + (1 - skill) * (density + 0.8 * np.abs(2 * depth - 1) ** 3)
    depth[-1] = math.nan
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "cells" / f"{key}.h5", "w") as f:
        f["samples/predictions/depth"] = depth
        f["samples/predictions/score"] = 100.0 * (rng.random(samples) < chance)


def write_results(
    folder: Path,
    contexts=(1024, 2048, 4096),
    densities=(0.1, 0.2, 0.4),
    phases=("prefill", "decode"),
    tasks=("niah_single_1", "ppl_book"),
    without=(),
    extra=(),
    needles=None,
) -> Path:
    """needles: samples a cell, for cells of their own beside results.h5, with the depth and score
    of each; None: no cells."""
    rng = np.random.default_rng(1)
    rows = list(extra)
    for model in ("smollm2-135m-instruct",):
        for task in tasks:
            for context in contexts:
                for (method, params), skill in METHODS.items():
                    for density in densities if method != "dense" else (1.0,):
                        for phase in phases:
                            key = f"{len(rows):032x}"
                            rows += cell_rows(
                                key,
                                method,
                                params,
                                skill,
                                model,
                                task,
                                context,
                                density,
                                phase,
                                rng,
                            )
                            if needles and task != "ppl_book":
                                write_cell(
                                    folder,
                                    key,
                                    needles,
                                    1 if method == "dense" else skill,
                                    context,
                                    density,
                                    rng,
                                )
    rows = [r for r in rows if r["metric"] not in without]
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "results.h5", "w") as f:
        for key in {r["cell"] for r in rows}:
            f[f"cells/{key}"] = h5py.ExternalLink(
                f"cells/{key}.h5", "/"
            )  # as swbench writes it; not all are there
        for name in TEXTS:
            values = [r[name].encode() for r in rows]
            f[f"tidy/{name}"] = np.array(
                values, dtype=h5py.string_dtype("utf-8", max([1] + [len(v) for v in values]))
            )
        for name in WHOLE:
            f[f"tidy/{name}"] = np.array([r[name] for r in rows], dtype="int64")
        for name in REALS:
            f[f"tidy/{name}"] = np.array([r[name] for r in rows], dtype="float64")
    return folder


def failed_row():
    return dict(
        cell="f" * 32,
        workload="task",
        model="smollm2-135m-instruct",
        task="ppl_book",
        method="moba",
        params="{}",
        backend="cpu",
        device="A Processor",
        phase="prefill",
        metric="",
        unit="",
        status="failed",
        reason="no memory",
        label="moba",
        context=4096,
        seed=1,
        layer=-1,
        n=0,
        density=0.2,
        value=math.nan,
        lo=math.nan,
        hi=math.nan,
    )


def test_speed_ups_are_over_the_baseline(tmp_path):
    """The fastest dense cell of the same conditions, or that of the kernel which the config
    names."""

    def time(cell, method, kernel, ms, **others):
        (row,) = [
            row
            for row in cell_rows(
                cell,
                method,
                json.dumps({"kernel": kernel}),
                0.5,
                "m",
                "planted",
                2048,
                0.2,
                "prefill",
                np.random.default_rng(1),
            )
            if row["metric"] == "prefill_attention_ms"
        ]
        return results.Row(
            **{f.name: row[f.name] for f in fields(results.Row) if f.name in row}
            | {"value": ms, "conditions": "a"}
            | others
        )

    rows = [
        time("0", "dense", "own", 8.0),
        time("1", "dense", "best", 4.0),
        time("2", "dense", "best", 1.0, conditions="b"),
        time("3", "onehop", "", 2.0),
    ]
    for baseline, ratio in {"fastest": 2, "best": 2, "own": 4, "library": 2}.items():
        read = [replace(row, baseline=baseline) for row in rows]
        found = results.speed_ups(read, "prefill_attention_ms", lambda row: row.cell)
        assert found["3"] == ratio and found["2"] == 1


def test_the_program_says_what_a_cell_is_called(tmp_path):
    """A folder that holds a method beside 0 and 2 dense layers shows two of it, and not their
    mean: the index's labels tell them apart. Without labels, as in version 0.1, parameters do."""
    rows = []
    for layers in (0, 2):
        for method in ("dense", "onehop"):
            rows += [
                dict(row, label=f"{method} dense_layers={layers}")
                for row in cell_rows(
                    f"{method}{layers}",
                    method,
                    json.dumps({"p": layers}),
                    0.5,
                    "m",
                    "ppl_book",
                    2048,
                    0.2,
                    "prefill",
                    np.random.default_rng(1),
                )
            ]
    folder = write_results(tmp_path, contexts=(), extra=rows)
    found = results.read(folder)
    label = results.Labels(found)
    assert {label(row) for row in found} == {row["label"] for row in rows}
    with h5py.File(folder / "results.h5", "a") as f:
        del f["tidy/label"]
    found = results.read(folder)
    label = results.Labels(found)
    assert {label(row) for row in found} == {
        f'{method} {{"p": {layers}}}' for method in ("dense", "onehop") for layers in (0, 2)
    }


@pytest.fixture
def no_files(monkeypatch):
    """Figures are made, not written: writing takes most of the time."""
    monkeypatch.setattr(
        style, "save", lambda fig, folder, name: style.plt.close(fig) or [folder / name]
    )


def made(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} if folder.exists() else set()


def test_all_figures(tmp_path, capsys):
    folder = write_results(tmp_path / "run", extra=[failed_row()], needles=8)
    names = (
        *NAMES,
        *(f"{NEEDLE}-smollm2-135m-instruct-{phase}" for phase in ("prefill", "decode")),
    )
    assert plot.main([str(folder)]) == 0
    assert made(folder / "plots") == {
        name + suffix for name in names for suffix in (".png", ".pdf")
    }
    for name in names:
        png = (folder / "plots" / f"{name}.png").read_bytes()
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert (folder / "plots" / f"{name}.pdf").read_bytes()[:5] == b"%PDF-"
    assert capsys.readouterr().err == ""


def test_same_results_same_bytes(tmp_path):
    folder = write_results(
        tmp_path / "run",
        contexts=(1024, 2048),
        densities=(0.2,),
        phases=("prefill",),
        tasks=("ppl_book",),
    )
    for out in ("a", "b"):
        assert plot.main([str(folder), "--out", str(tmp_path / out)]) == 0
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    "missing, names",
    [
        (("accuracy", "ppl"), ("quality-vs-density",)),
        (("mass_recall",), ("mass-recall-vs-density",)),
        (("prefill_attention_ms",), ("prefill-time-vs-context",)),
        (("mass_recall", "block_recall"), ("mass-recall-vs-density", "recall-by-layer")),
    ],
)
def test_missing_metrics_are_said(tmp_path, capsys, no_files, missing, names):
    folder = write_results(
        tmp_path / "run", contexts=(1024, 2048), densities=(0.2,), without=missing
    )
    assert plot.main([str(folder)]) == 0
    output = capsys.readouterr()
    lines = [line for line in output.err.splitlines() if NEEDLE not in line]
    assert len(lines) == len(names)
    for line, name in zip(lines, names):
        assert name in line and "left out" in line
        assert name not in output.out


def test_no_needles_is_said(tmp_path, capsys, no_files):
    folder = write_results(tmp_path / "run", contexts=(1024, 2048), densities=(0.2,))
    assert plot.main([str(folder)]) == 0
    output = capsys.readouterr()
    assert (
        output.err.splitlines()
        == [f"plot.py: {NEEDLE} left out: no samples with a needle's depth in the results"]
        and NEEDLE not in output.out
    )


def test_needle_grid(tmp_path):
    """Means of what was stored, in the bin of its depth; the end of the prompt is in the last;
    nothing is made up where nothing lay."""
    folder = write_results(
        tmp_path / "run",
        contexts=(1024, 2048),
        densities=(0.2,),
        phases=("prefill",),
        tasks=("niah_single_1",),
        needles=4,
    )
    rows = results.read(folder)
    dense = [r for r in rows if r.method == "dense" and r.metric == "accuracy"]
    for row, (depth, score) in zip(
        dense,
        (
            ([0.0, 0.19, 1.0, math.nan], [100, 50, 0, 100]),
            ([0.5, 0.5, 0.59, 0.6], [0, 100, 50, 25]),
        ),
    ):
        with h5py.File(folder / "cells" / f"{row.cell}.h5", "w") as f:
            f["samples/predictions/depth"], f["samples/predictions/score"] = (
                np.array(depth),
                np.array(score, float),
            )
    answers = results.read_answers(folder, rows)
    assert [len(answers[r.cell]) for r in dense] == [3, 4]
    grid = needle.grid(dense, answers, [1024, 2048], 5)
    np.testing.assert_array_equal(
        grid, [[75, math.nan], [math.nan, math.nan], [math.nan, 50], [math.nan, 25], [0, math.nan]]
    )


def test_needle_panels(tmp_path):
    """A panel for each method and density that was run, and one for dense; twenty needles make ten
    bins."""
    folder = write_results(
        tmp_path / "run",
        contexts=(1024, 1500),
        phases=("both",),
        tasks=("niah_single_1",),
        needles=21,
    )
    rows = results.read(folder)
    rows = [r for r in rows if not (r.method == "random" and r.density > 0.15)]
    run = figures.Run.of(rows, results.read_answers(folder, rows))
    ((suffix, fig),) = figures.needle_by_depth(run).items()
    assert suffix == ""
    titles = [ax.get_title(loc="left") for ax in fig.axes if ax.get_title(loc="left")]
    assert (
        titles[0] == "dense" and titles.count("random, 10 %") == 1 and len(titles) == 1 + 5 * 3 + 1
    )
    assert [t.get_text() for t in fig.axes[0].get_xticklabels()] == ["1K", "1,500"]
    assert fig.axes[0].collections[0].get_array().shape == (10, 2)
    style.plt.close(fig)


def test_one_context_one_density_no_dense(tmp_path, capsys, monkeypatch, no_files):
    monkeypatch.delitem(METHODS, ("dense", "{}"))
    folder = write_results(
        tmp_path / "run", contexts=(1024,), densities=(0.2,), phases=("prefill",)
    )
    assert plot.main([str(folder)]) == 0
    assert "one context only" in capsys.readouterr().err
    folder = write_results(
        tmp_path / "needles", contexts=(1024,), densities=(0.2,), phases=("prefill",), needles=3
    )
    assert plot.main([str(folder)]) == 0 and NEEDLE in capsys.readouterr().out


def test_bad_input_is_one_line(tmp_path, capsys):
    (tmp_path / "foreign.h5").write_bytes(b"no HDF5 here")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    cases = (tmp_path / "nowhere", tmp_path / "foreign.h5", tmp_path / "empty.h5", tmp_path)
    for case in cases:
        assert plot.main([str(case)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and str(case) in error
    only_failed = write_results(tmp_path / "failed", contexts=(), extra=[failed_row()])
    assert plot.main([str(only_failed)]) == 2
    assert "nothing in it can be drawn" in capsys.readouterr().err


def test_labels_name_what_varies(tmp_path):
    rows = results.read(write_results(tmp_path / "run", contexts=(1024,), densities=(0.2,)))
    labels = results.Labels(rows)
    texts = {labels(r) for r in rows}
    assert {"dense", "onehop", "oracle", "sketchwalk arxiv", "sketchwalk icml"} <= texts
    styles = style.Styles(labels)
    looks = [
        json.dumps([styles(t)["color"], styles(t)["linestyle"], styles(t)["marker"]]) for t in texts
    ]
    assert len(set(looks)) == len(texts)


def test_as_a_program(tmp_path):
    folder = write_results(
        tmp_path / "run",
        contexts=(1024, 2048),
        densities=(0.2,),
        phases=("prefill",),
        tasks=("ppl_book",),
    )
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "plots" / "plot.py"),
            str(folder),
            "--out",
            str(tmp_path / "figures"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert made(tmp_path / "figures") == {
        name + suffix for name in NAMES for suffix in (".png", ".pdf")
    }
