"""What run, plan, export, report, ls, help and validate do with good input, on a tiny model."""

import json
import os
import pathlib
import signal
import subprocess

import h5py
import numpy as np
import pytest

import tiny
from conftest import PROGRAM, TIMES, swbench
from edit_results import cells, edited
from long_runs import long_config, stamps, start, table, wait_for_cells, without_times

COLUMNS = [
    "cell",
    "workload",
    "model",
    "task",
    "method",
    "params",
    "backend",
    "device",
    "context",
    "density",
    "phase",
    "seed",
    "metric",
    "layer",
    "value",
    "unit",
    "n",
    "lo",
    "hi",
    "status",
]  # the contract's; further columns may follow
NUMBERS = ("context", "density", "seed", "value", "lo", "hi", "n", "layer", "dense_layers")


def method_names():
    return [line.split()[0] for line in swbench("ls", "methods", check=0).stdout.splitlines()[1:]]


def every_method():
    """All methods that there are, at small blocks, with all variants."""
    found = []
    for name in method_names():
        text = swbench("help", name, check=0).stdout
        params = {"block_size": 16} if "block_size" in text and name != "dense" else {}
        if "variant " in text:
            params["variant"] = ["softmax", "icml"]
        found.append({"name": name, "params": params} if params else name)
    return found


def one(rows, **wanted):
    found = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    assert len(found) == 1, f"{len(found)} rows for {wanted}"
    return found[0]


# --- one run, looked at ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def finished(world, tmp_path_factory):
    """Every method at two densities in two phases on both tasks."""
    folder = tmp_path_factory.mktemp("finished")
    workload = {
        "kind": "task",
        "model": str(world.model),
        "data": str(world.data),
        "tasks": ["ppl_tiny", "echo_tiny"],
        "samples": 2,
    }
    config = world.config(
        folder / "config.yaml",
        workloads=[workload],
        methods=every_method(),
        measure=None,
        save=["selection", "output"],
        axes={"context": tiny.CONTEXT, "density": [0.5, 1.0], "phase": ["prefill", "decode"]},
    )
    done = swbench("run", config, check=0)
    return folder, config, done


@pytest.fixture(scope="session")
def rows(finished):
    return table(finished[0] / "out")


def test_run_writes_cells_and_results(finished):
    folder, _, done = finished
    cells = list((folder / "out" / "cells").iterdir())
    assert (folder / "out" / "results.h5").is_file() and cells
    assert {path.name for path in (folder / "out").iterdir()} == {"cells", "results.h5"}
    assert all(len(path.stem) == 32 and path.suffix == ".h5" for path in cells)
    measured = len(stamps(folder / "out"))
    assert (
        done.stdout == ""
        and f"{measured} cells done" in done.stderr
        and f"{len(cells) - measured} skipped, 0 failed" in done.stderr
    )


def test_second_run_redoes_nothing(finished):
    folder, config, _ = finished
    before = stamps(folder / "out")
    done = swbench("run", config, check=0)
    assert stamps(folder / "out") == before
    assert f"0 cells done, {len(before)} there already" in done.stderr


def test_plan_knows_what_is_there(finished):
    folder, config, _ = finished
    count = len(stamps(folder / "out"))
    lines = swbench("plan", config, check=0).stdout.splitlines()
    assert sum(line.startswith("cached") for line in lines) == count
    skipped = sum(line.startswith("skipped") for line in lines)
    assert lines[-1].startswith(f"{count + skipped} cells: 0 to do, {count} cached")


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_perplexity_is_numpys(rows, phase):
    losses = tiny.window_losses(tiny.weights(), tiny.windows(2))
    row = one(rows, task="ppl_tiny", method="dense", phase=phase, metric="ppl")
    assert float(row["value"]) == pytest.approx(np.exp(losses.mean()), rel=1e-4)
    assert row["n"] == "2" and float(row["lo"]) <= float(row["value"]) <= float(row["hi"])


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_answers_are_numpys(finished, rows, phase):
    row = one(rows, task="echo_tiny", method="dense", phase=phase, metric="accuracy")
    assert (float(row["value"]), row["unit"]) == (50, "%")
    with h5py.File(finished[0] / "out" / "cells" / (row["cell"] + ".h5")) as file:
        group = file["samples/predictions"]
        found, scores = [text.decode() for text in group["prediction"]], list(group["score"])
    for prompt, text in zip(tiny.prompts(2), found):
        expected, lead = tiny.greedy(tiny.weights(), prompt)
        assert lead > 1e-3, "too close to tell: use another seed"
        assert text == tiny.text_of(expected)
    assert scores in ([1, 0], [100, 0])


def test_losses_of_each_window_are_kept(finished, rows):
    losses = tiny.window_losses(tiny.weights(), tiny.windows(2))
    row = one(rows, task="ppl_tiny", method="dense", phase="prefill", metric="ppl")
    with h5py.File(finished[0] / "out" / "cells" / (row["cell"] + ".h5")) as file:
        np.testing.assert_allclose(file["samples/nll"][:], losses, rtol=1e-5)


def test_dense_runs_once_over_densities(rows):
    cells = {
        (row["task"], row["phase"], row["density"]) for row in rows if row["method"] == "dense"
    }
    assert cells == {
        (task, phase, "1") for task in ("ppl_tiny", "echo_tiny") for phase in ("prefill", "decode")
    }


def test_density_one_is_dense(finished, rows):
    """Whatever the method selects, all of it is what dense attention sees."""
    checked = set()
    for row in rows:
        if (
            row["method"] == "dense"
            or row["density"] != "1"
            or row["status"] != "ok"
            or row["metric"] not in ("ppl", "accuracy")
        ):
            continue
        dense = one(
            rows, task=row["task"], phase=row["phase"], method="dense", metric=row["metric"]
        )
        assert float(row["value"]) == pytest.approx(float(dense["value"]), rel=1e-5), row
        outputs = []
        for cell in (row["cell"], dense["cell"]):
            with h5py.File(finished[0] / "out" / "cells" / (cell + ".h5")) as file:
                outputs.append(
                    np.stack([file[f"layer_{layer:03d}/output"][:] for layer in range(tiny.LAYERS)])
                )
        assert np.abs(outputs[0] - outputs[1]).max() <= 1e-5 * np.abs(outputs[1]).max(), row
        checked.add(row["method"])
    assert checked >= {"oracle", "sink_window", "random", "onehop", "sketchwalk"}


def test_metrics_of_the_contract(rows):
    found = {}
    for row in rows:
        found.setdefault((row["task"], row["method"], row["phase"]), set()).add(row["metric"])
    common = {
        "density",
        "density_all_layers",
        "peak_memory_bytes",
        "prefill_attention_ms",
        "ttft_ms",
    }
    sparse = common | {"kv_fetch_density", "block_recall", "mass_recall", "output_rel_error"}
    for method in ("dense", "oracle", "random", "onehop", "sketchwalk"):
        for phase in ("prefill", "decode"):
            wanted = (common if method == "dense" else sparse) | {
                "tpot_ms",
                "decode_attention_us",
                "accuracy",
            }
            assert wanted <= found["echo_tiny", method, phase], (method, phase)
        wanted = (
            common
            if method == "dense"
            else sparse | {"block_recall_rollout", "prefill_select_ms", "nll_delta"}
        ) | {"ppl"}
        assert wanted <= found["ppl_tiny", method, "prefill"], method


def test_a_long_prompt_has_no_memory_for_attention_of_its_own(world, tmp_path):
    """A token more costs its place in the cache, in the residual stream, and in attention's packed
    keys and values; the output lies on the queries, the MLP in their place."""
    shape = {"kind": "synthetic", "shape": "smollm2-135m", "layers": 1, "whole_model": True}
    few, many = 4096, 6144
    path = world.config(
        tmp_path / "c.yaml",
        workloads=[shape],
        methods=["dense"],
        axes={"context": [few, many], "density": 1, "phase": "prefill"},
        measure=["latency"],
        timing={"min_runs": 1, "max_seconds": 0.01, "warmup_ms": 1},
    )
    swbench("run", path, "-q", check=0)
    peak = {
        int(row["context"]): float(row["value"])
        for row in table(tmp_path / "out")
        if row["metric"] == "peak_memory_bytes"
    }
    hidden, kv = 4 * 9 * 64, 4 * 3 * 64
    assert peak[many] - peak[few] == pytest.approx(
        (many - few) * (2 * kv + hidden + 2 * kv), rel=0.01
    )


def test_densities_are_sensible(rows):
    for row in rows:
        value = float(row["value"]) if row["value"] else None
        if row["metric"] in (
            "density",
            "density_all_layers",
            "kv_fetch_density",
            "block_recall",
            "mass_recall",
            "block_recall_rollout",
        ):
            assert 0 <= value <= 1 + 1e-6, row
        if row["metric"] in TIMES and row["lo"]:
            assert float(row["lo"]) <= value <= float(row["hi"]), row


def test_times_add_up(finished, rows):
    """Layers sum up to the mean of the samples; a prompt's time of attention includes selection, in
    every pass and layer. (Decode steps give one or the other.)"""
    checked = 0
    for cell in {row["cell"] for row in rows if row["status"] == "ok"}:
        with h5py.File(finished[0] / "out" / "cells" / (cell + ".h5")) as file:
            for name in (
                "prefill_attention_ms",
                "prefill_select_ms",
                "decode_attention_us",
                "decode_select_us",
            ):
                if f"samples/{name}" in file:
                    samples = file[f"samples/{name}"][:]
                    assert file[f"per_layer/{name}"][:].sum() == pytest.approx(
                        samples.mean(), rel=1e-6, abs=1e-9
                    ), (file.attrs["method"], name)
                    assert file[f"metrics/{name}"][()] == pytest.approx(np.median(samples))
                    checked += 1
            for group in ("samples", "per_layer") if "samples/prefill_attention_ms" in file else ():
                assert (
                    file[f"{group}/prefill_attention_ms"][:] > file[f"{group}/prefill_select_ms"][:]
                ).all(), (file.attrs["method"], group)
    assert checked > 80


# --- what comes out -------------------------------------------------------------------------------


def test_csv(rows):
    assert list(rows[0])[: len(COLUMNS)] == COLUMNS
    assert {row["status"] for row in rows} <= {"ok", "skipped"}
    assert all(
        row["method"] not in ("dense", "oracle", "onehop", "sketchwalk")
        for row in rows
        if row["status"] == "skipped"
    )
    for row in rows:
        assert isinstance(json.loads(row["params"]), dict)
        assert all(row[key] == "" or np.isfinite(float(row[key])) for key in NUMBERS)


def test_jsonl_says_the_same(finished, rows):
    lines = [
        json.loads(line)
        for line in swbench(
            "export", finished[0] / "out", "--format", "jsonl", check=0
        ).stdout.splitlines()
    ]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows):
        assert list(line) == list(row)
        for key, text in row.items():
            value = line[key]
            assert (
                value is None
                and text == ""
                or (float(text) == value if key in NUMBERS else text == value)
            )


def test_metric_filter(finished, rows):
    some = table(finished[0] / "out", "--metric", "ppl", "--metric", "accuracy")
    assert some == [
        row for row in rows if row["metric"] in ("ppl", "accuracy") or row["status"] == "skipped"
    ]


def test_cells_beside_other_dense_layers_are_another_experiment(world, tmp_path):
    """One folder, the same cells beside 0 and 2 dense layers: a table each, each against its own
    dense cell; the tidy table says which is which."""
    synthetic = {"kind": "synthetic", "shape": "smollm2-135m", "layers": 3, "context": 1024}
    config = world.config(
        tmp_path / "c.yaml",
        workloads=[{**synthetic, "dense_layers": 0}, {**synthetic, "dense_layers": 2}],
        methods=["dense", "onehop"],
        axes={"density": 0.5, "phase": "prefill"},
        measure=["recovery", "latency"],
        dense_layers=0,
    )
    swbench("run", config, "-q", "--output", tmp_path / "out", check=0)
    kept = {
        row["dense_layers"]: float(row["value"])
        for row in table(tmp_path / "out", "--metric", "density_all_layers")
        if row["method"] == "onehop"
    }
    assert (
        set(kept) == {"0", "2"}
        and kept["0"] == pytest.approx(0.5, abs=0.05)
        and kept["2"] == pytest.approx((2 + kept["0"]) / 3, abs=1e-9)
    )
    text = swbench("report", tmp_path / "out", check=0).stdout
    lines = [
        line.split("|") for line in text.splitlines() if line.startswith(("| dense", "| oneh"))
    ]
    assert [line[1].strip() for line in lines] == [
        f"{method} dense_layers={n}" for n in (0, 2) for method in ("dense", "onehop")
    ]
    for dense, onehop in (lines[:2], lines[2:]):  # each beside its own; dense is nobody's rival
        assert dense[-2].strip() == "-" and "×" in onehop[-2]
    baselines = "Speed-up: over dense dense_layers=0; dense dense_layers=2, the fastest dense"
    assert baselines in text


def test_a_config_may_name_the_baseline(world, tmp_path):
    """Speed-ups are over the dense cell of the kernel that `baseline` names, also in cells that are
    there already, which are not run again; a kernel that was not run is said."""
    config = world.config(
        tmp_path / "c.yaml",
        workloads=[{"kind": "synthetic", "shape": "smollm2-135m", "layers": 2, "context": 256}],
        methods=["onehop", {"name": "dense", "params": {"kernel": ["best", "own"]}}],
        axes={"density": 0.5, "phase": "prefill"},
        measure=["latency"],
    )
    out = tmp_path / "out"
    said = {
        "own": "Speed-up: over dense own, the dense of kernel own, as `baseline` says.",
        "library": ", the fastest dense of the same conditions: `baseline` says library, but no "
        "dense of that kernel is there.",
        "fastest": ", the fastest dense of the same conditions.",
    }
    for turn, (baseline, line) in enumerate(said.items()):
        done = swbench("run", config, "--set", f"baseline={baseline}", "--output", out, check=0)
        assert (f"{3 if turn == 0 else 0} cells done") in done.stderr
        assert {row["baseline"] for row in table(out)} == {baseline}
        lines = swbench("report", out, check=0).stdout.splitlines()
        (found,) = [text for text in lines if text.startswith("Speed-up: ")]
        assert found.endswith(line)
        row = next(text for text in lines if text.startswith("| dense own")).split("|")
        assert (row[-2].strip() == "-") == (baseline == "own" or "dense own" in found)


def test_two_workloads_of_one_name(world, tmp_path):
    """They differ in an option alone: each cell has a name, and is checked and set against its own
    counterparts. An oracle that was really beaten is said."""
    synthetic = {"kind": "synthetic", "shape": "smollm2-135m", "layers": 3}
    config = world.config(
        tmp_path / "c.yaml",
        workloads=[{**synthetic, "dense_layers": 0}, {**synthetic, "dense_layers": 2}],
        methods=[
            {"name": "oracle", "params": {"block_size": 16}},
            {"name": "sketchwalk", "params": {"block_size": 16, "variant": ["arxiv", "icml"]}},
        ],
        axes={"context": 256, "density": 0.3, "phase": "prefill"},
        measure=["recovery"],
    )
    out = tmp_path / "out"
    done = swbench("run", config, "--strict", "--output", out, check=0)
    progress = [line.split("  (")[0] for line in done.stderr.splitlines() if line[0] == "["]
    assert len({line.split("] ")[1] for line in progress}) == len(progress) == 6
    assert progress[-1].endswith("sketchwalk icml density 0.3 dense_layers=2")
    plan = swbench("plan", config, "--output", out, check=0).stdout
    report = swbench("report", out, check=0).stdout
    assert "sketchwalk icml dense_layers=2" in plan and "| sketchwalk icml dense_layers=2" in report
    with h5py.File(out / "results.h5") as file:
        labels = {label.decode() for label in file["tidy/label"][:]}
    assert len(labels) == 6 and "oracle dense_layers=0" in labels
    beaten = cells(out, method="oracle", dense_layers=2)[0]
    with edited(beaten) as file:
        file["metrics/mass_recall"][()] = 0.1
    done = swbench("run", config, "--strict", "--output", out, "-q", check=3)
    said = [line for line in done.stderr.splitlines() if line.startswith("sanity check: ")]
    assert len(said) == 2 and all("sketchwalk" in line and beaten.stem in line for line in said)


def test_the_oracle_is_no_ceiling_of_single_pairs(world, tmp_path):
    """Each token of moba's token form has blocks of its own; an oracle of block rows has not."""
    config = world.config(
        tmp_path / "c.yaml",
        workloads=[{"kind": "synthetic", "shape": "smollm2-135m", "layers": 3}],
        methods=[
            {"name": "oracle", "params": {"block_size": 16}},
            {"name": "moba", "params": {"block_size": 16, "form": ["block", "token"]}},
        ],
        axes={"context": 512, "density": 0.2, "phase": "prefill"},
        dense_layers=0,
        measure=["recovery"],
    )
    out = tmp_path / "out"
    swbench("run", config, "--strict", "--output", out, "-q", check=0)
    block, token, oracle = cells(out)  # in the order of names: form block, token
    mass = []
    for path in (block, oracle, token):
        with h5py.File(path) as file:
            mass.append(float(file["metrics/mass_recall"][()]))
    assert mass == sorted(mass) and mass[0] < mass[1] < mass[2]
    with edited(block) as file:
        file["metrics/mass_recall"][()] = mass[2]
    done = swbench("run", config, "--strict", "--output", out, "-q", check=3)
    said = [line for line in done.stderr.splitlines() if line.startswith("sanity check: ")]
    assert len(said) == 1 and block.stem in said[0]


@pytest.mark.parametrize("form, mark", [("md", "|"), ("latex", "\\begin{tabular}")])
def test_report(finished, form, mark):
    text = swbench("report", finished[0] / "out", "--format", form, check=0).stdout
    assert (
        mark in text
        and "tiny" in text
        and all(
            name.replace("_", "\\_" if form == "latex" else "_") in text for name in method_names()
        )
    )
    if form == "latex":
        assert text.count("\\begin{tabular}") == text.count("\\end{tabular}")


def test_results_are_read_without_help(finished):
    """Every dataset says what it is, and every dimension is named."""

    def look(name, node):
        if not isinstance(node, h5py.Dataset):
            return
        assert "units" in node.attrs and node.attrs["long_name"], name
        if not node.is_scale:
            assert all(len(dimension) > 0 for dimension in node.dims), name

    out = finished[0] / "out"
    for path in [*(out / "cells").iterdir(), out / "results.h5"]:
        with h5py.File(path) as file:
            file.visititems(look)
            assert file.attrs["version"] == 1
    with h5py.File(out / "results.h5") as file:
        assert {key + ".h5" for key in file["cells"]} == {
            path.name for path in (out / "cells").iterdir()
        }
        for key in file["cells"]:
            assert file["cells"][key].attrs["key"] == key
            assert {
                "config",
                "argv",
                "git",
                "host",
                "cpu",
                "libraries",
                "started",
                "ended",
                "seed",
            } <= set(file["cells"][key]["provenance"].attrs)


def test_xarray_opens_them(finished):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    cell = next((finished[0] / "out" / "cells").iterdir())
    for group in ("metrics", "per_layer", "per_layer_head"):
        with xarray.open_dataset(cell, group=group, engine="h5netcdf") as data:
            assert len(data) > 0


def test_validate_finds_them_good(world, finished):
    out = finished[0] / "out"
    for path in (
        out,
        out / "results.h5",
        next((out / "cells").iterdir()),
        finished[1],
        world.model,
        tiny.dataset_path(world.data, "ppl_tiny", 2),
    ):
        done = swbench("validate", path, check=0)
        assert done.stderr == "" and "good" in done.stdout, path


def test_provenance_names_config_and_command(finished):
    with h5py.File(next((finished[0] / "out" / "cells").iterdir())) as file:
        assert file["provenance"].attrs["config"] == finished[1].read_text()
        assert str(finished[1]) in file["provenance"].attrs["argv"]


# --- flags and resuming ---------------------------------------------------------------------------


def test_flags(world, tmp_path):
    """--limit, --set, --output, -q, --fresh; and what changes a cell's key."""
    config, out = world.config(tmp_path / "c.yaml"), tmp_path / "elsewhere"
    done = swbench("run", config, "--limit", 1, "-q", "--output", out, check=0)
    assert (
        (done.stdout, done.stderr) == ("", "")
        and len(stamps(out)) == 1
        and not (tmp_path / "out").exists()
    )
    first = stamps(out)
    swbench("run", config, "--output", out, "-q", check=0)
    all_three = stamps(out)
    assert len(all_three) == 3 and first.items() <= all_three.items()

    swbench("run", config, "--output", out, "--set", "axes.density=[0.5, 0.7]", "-q", check=0)
    denser = stamps(out)
    assert len(denser) == 5 and all_three.items() <= denser.items()
    swbench("run", config, "--output", out, "--set", "seed=2", "-q", check=0)
    seeded = stamps(out)
    assert len(seeded) == 8 and denser.items() <= seeded.items()
    assert {row["seed"] for row in table(out)} == {"1", "2"}
    swbench(
        "run", config, "--output", out, "--set", "methods.1.params.block_size=32", "-q", check=0
    )
    assert len(stamps(out)) == 9

    before = stamps(out)
    swbench("run", config, "--output", out, "--fresh", "-q", check=0)
    after = stamps(out)
    assert {name for name in before if before[name] != after[name]} == set(all_three) and set(
        after
    ) == set(before)


def test_limit_zero_does_nothing(world, tmp_path):
    config = world.config(tmp_path / "c.yaml")
    swbench("run", config, "--limit", 0, check=0)
    assert stamps(tmp_path / "out") == {}
    assert len(table(tmp_path / "out")) == 0


def test_plan_writes_nothing(world, tmp_path):
    config = world.config(tmp_path / "c.yaml")
    lines = swbench("plan", config, check=0).stdout.splitlines()
    assert lines[-1].startswith("3 cells: 3 to do, 0 cached, 0 skipped") and [
        p.name for p in tmp_path.iterdir()
    ] == ["c.yaml"]


def test_a_changed_input_is_another_cell(world, tmp_path):
    bundle = tiny.write_bundle(tmp_path / "b.h5", decode=3)
    config = world.config(
        tmp_path / "c.yaml", workloads=[{"kind": "tensors", "path": str(bundle)}], methods=["dense"]
    )
    swbench("run", config, "-q", check=0)
    assert len(stamps(tmp_path / "out")) == 1
    tiny.write_bundle(bundle, n=150, decode=3)
    swbench("run", config, "-q", check=0)
    assert len(stamps(tmp_path / "out")) == 2


def test_damaged_and_failed_cells_are_made_again(world, tmp_path):
    config = world.config(tmp_path / "c.yaml")
    swbench("run", config, "-q", check=0)
    cells = sorted((tmp_path / "out" / "cells").iterdir())
    good = table(tmp_path / "out")
    cells[0].write_bytes(cells[0].read_bytes()[:700])
    done = swbench("export", tmp_path / "out", check=2)
    assert cells[0].name in done.stderr and len(done.stderr.splitlines()) == 1
    done = swbench("run", config, check=0)
    assert "1 cells done, 2 there already" in done.stderr
    assert without_times(table(tmp_path / "out")) == without_times(good)


def everything(path):
    """All that a cell holds, but for times, memory and provenance."""
    found = {}

    def look(name, node):
        if isinstance(node, h5py.Dataset) and name.rsplit("/", 1)[-1] not in TIMES | {
            "peak_memory_bytes"
        }:
            found[name] = node[()].tobytes() if node.dtype != object else tuple(node[()])

    with h5py.File(path) as file:
        file.visititems(look)
        found["attributes"] = {key: str(value) for key, value in file.attrs.items()}
    return found


def test_threads_change_nothing(world, tmp_path):
    """Bit for bit: one thread, two, and twice the same."""
    workloads = [
        {
            "kind": "task",
            "model": str(world.model),
            "data": str(world.data),
            "tasks": ["ppl_tiny", "echo_tiny"],
            "samples": 2,
        },
        {"kind": "synthetic", "shape": "smollm2-135m", "layers": 2, "decode_tokens": 4},
    ]
    config = world.config(
        tmp_path / "c.yaml",
        workloads=workloads,
        methods=every_method(),
        save=["selection", "output"],
        dense_layers=1,
        axes={"context": tiny.CONTEXT, "density": 0.5, "phase": "both"},
    )
    cells = []
    for name, args, env in (
        ("a", ["--set", "threads=1"], {}),
        ("b", ["--set", "threads=2"], {}),
        ("c", ["--set", "threads=0"], {"SWBENCH_THREADS": "2"}),
    ):
        swbench("run", config, "-q", "--output", tmp_path / name, *args, check=0, env=env)
        cells.append(
            {path.name: everything(path) for path in (tmp_path / name / "cells").iterdir()}
        )
    assert set(cells[0]) == set(cells[1]) == set(cells[2])
    for other in cells[1:]:
        for name, values in cells[0].items():
            differ = [key for key in values if values[key] != other[name][key]]
            assert not differ, (values["attributes"], differ)


def test_samples_together_or_alone(world, tmp_path):
    """Bit for bit: where time is measured each sample runs by itself, elsewhere as many at once as
    the backend gives the same bits."""
    lengths, n = [20, 152, 130, 64, 63, 65, 1, 100, 150, 151, 5], 11
    prompts = [ids[:length] for ids, length in zip(tiny.prompts(n), lengths)]
    tiny.write_dataset(
        tiny.dataset_path(tmp_path / "data", "echo_tiny", n),
        world.model,
        prompts,
        [["a"]] * n,
        attributes={"lengths": "at_most"},
    )
    tiny.write_dataset(
        tiny.dataset_path(tmp_path / "data", "ppl_tiny", n), world.model, tiny.windows(n)
    )
    workload = {
        "kind": "task",
        "model": str(world.model),
        "data": str(tmp_path / "data"),
        "tasks": ["ppl_tiny", "echo_tiny"],
        "samples": n,
    }
    found = []
    for measure in (["accuracy"], ["accuracy", "latency"]):
        out = tmp_path / measure[-1]
        config = world.config(
            tmp_path / "c.yaml",
            workloads=[workload],
            methods=every_method(),
            measure=measure,
            output=str(out),
            dense_layers=1,
            axes={"context": tiny.CONTEXT, "density": 0.5, "phase": ["prefill", "decode", "both"]},
        )
        swbench("run", config, "-q", check=0)
        cells = {}
        for path in (out / "cells").iterdir():
            with h5py.File(path) as file:
                experiment = tuple(
                    str(file.attrs[key]) for key in ("method", "params", "task", "phase")
                )
                cells[experiment] = {
                    key: value
                    for key, value in everything(path).items()
                    if key not in ("attributes", "layer", "head")
                    and "sm_clock" not in key
                    and "density" not in key  # counted where no time is measured
                }
                together = (
                    measure == ["accuracy"]
                    and ("echo" in experiment[2] or experiment[3] != "prefill")
                    and file.attrs["status"] == "ok"
                )
                assert ("peak_memory_bytes" in file.get("metrics", {})) == (
                    file.attrs["status"] == "ok" and not together
                )
        found.append(cells)
    assert set(found[0]) == set(found[1]) and len(found[0]) > 30
    for experiment, values in found[0].items():
        assert {
            key: value for key, value in found[1][experiment].items() if key in values
        } == values, experiment


# --- interruption ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(world, tmp_path, uninterrupted, number):
    config, out = long_config(world, tmp_path), tmp_path / "out"
    process = start("run", config)
    wait_for_cells(process, out, 2)
    process.send_signal(number)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130, messages
    done = stamps(out)
    assert 2 <= len(done) < 13 and all(name.endswith(".h5") for name in done), done
    assert "interrupted" in messages
    with h5py.File(out / "results.h5") as file:
        assert {key + ".h5" for key in file["cells"]} == set(done)
    again = swbench("run", config, check=0)
    assert f"{13 - len(done)} cells done, {len(done)} there already" in again.stderr
    assert done.items() <= stamps(out).items()
    assert without_times(table(out)) == uninterrupted[0]


# --- ls and help ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "topic, mark",
    [
        ("methods", "sketchwalk"),
        ("shapes", "llama-3.1-8b"),
        ("backends", "cpu"),
        ("models", "tiny"),
        ("tasks", "ppl_tiny"),
    ],
)
def test_ls(world, topic, mark):
    done = swbench("ls", topic, check=0, cwd=world.root, env={"SWBENCH_DATASETS": str(world.root)})
    assert mark in done.stdout and done.stderr == ""


def test_help():
    text = swbench("help", check=0).stdout
    for topic in [
        "run",
        "plan",
        "ls",
        "validate",
        "export",
        "report",
        "help",
        "config",
        "workloads",
        "axes",
        "methods",
        "timing",
        "metrics",
        *method_names(),
    ]:
        done = swbench("help", topic, check=0)
        assert done.stdout.strip() and done.stderr == "", topic
    assert text == swbench("--help", check=0).stdout
    assert swbench("help", "run", check=0).stdout == swbench("run", "--help", check=0).stdout
    assert "xattention (threshold)" in swbench("help", "calibrate", check=0).stdout


def test_version():
    assert swbench("--version", check=0).stdout.startswith("swbench ")


def test_a_full_pipe_is_an_error(finished):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [PROGRAM, "export", str(finished[0] / "out")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr


def test_model_by_name(world, tmp_path):
    """A bare name is looked up in the datasets folder; results go to results/NAME."""
    workload = {"kind": "task", "model": tiny.NAME, "tasks": "ppl_tiny", "samples": 2}
    config = world.config(tmp_path / "c.yaml", workloads=[workload], methods=["dense"], output=None)
    swbench("run", config, "-q", check=0, cwd=tmp_path, env={"SWBENCH_DATASETS": str(world.root)})
    assert len(stamps(tmp_path / "results" / "tiny")) == 1
    assert os.listdir(tmp_path) and not (world.root / "results").exists()


@pytest.mark.parametrize("above, told", [(2e-5, True), (0, False)])
def test_nothing_recovers_more_than_the_oracle(world, tmp_path, above, told):
    """A cell that claims more mass than the oracle of the same inputs and budget is told, and fails
    a strict run."""
    config = world.config(
        tmp_path / "c.yaml",
        methods=[
            {"name": "oracle", "params": {"block_size": 16, "unit": "head"}},
            {"name": "onehop", "params": {"block_size": 16}},
        ],
    )
    swbench("run", config, "-q", check=0)
    (oracle,), (other,) = (cells(tmp_path / "out", method=name) for name in ("oracle", "onehop"))
    with h5py.File(oracle) as best, edited(other) as file:
        file["metrics/mass_recall"][()] = best["metrics/mass_recall"][()] + above
    assert ("more than the oracle's" in swbench("run", config, "-q", check=0).stderr) == told
    assert swbench("run", config, "-q", "--strict").returncode == (3 if told else 0)


@pytest.mark.parametrize("phase", ["prefill", "decode", "both"])
def test_recovery_only_where_it_is_asked_for(world, tmp_path, phase):
    """A dense run that keeps all layers' queries and keys is no price of an accuracy alone. What a
    method keeps is counted all the same, on its own lists: a matched budget's depend on no query,
    so that they are those of a recovery's probe."""
    found = {}
    methods = ["dense", {"name": "sketchwalk", "params": {"block_size": 16}}]
    for name, measure, save in [
        ("alone", ["accuracy"], []),
        ("recovery", ["accuracy", "recovery"], []),
        ("error", ["accuracy", "output_error"], []),
        ("saved", ["accuracy"], ["selection"]),
        ("timed", ["accuracy", "latency"], []),
    ]:
        folder = tmp_path / name
        folder.mkdir()
        config = world.config(
            folder / "c.yaml",
            measure=measure,
            save=save,
            methods=methods,
            axes={"context": tiny.CONTEXT, "density": 0.4, "phase": phase},
        )
        swbench("run", config, "-q", check=0)
        for row in table(folder / "out"):
            found.setdefault((name, row["method"]), {})[row["metric"], row["layer"]] = row["value"]
    sparse = {name: values for (name, method), values in found.items() if method != "dense"}
    assert all(("ppl", "") in values for values in sparse.values())
    assert not {"mass_recall", "output_rel_error"} & {metric for metric, _ in sparse["alone"]}
    kept = [key for key in sparse["recovery"] if "density" in key[0]]
    assert {"density", "density_all_layers", "kv_fetch_density"} <= {metric for metric, _ in kept}
    assert set(kept) <= set(sparse["alone"])
    if phase == "prefill":
        assert all(sparse["alone"][key] == sparse["recovery"][key] for key in kept)
    else:  # the scored tokens are more than the probe's steps: other prompts, other steps
        assert 0.35 < float(sparse["alone"]["density", ""]) < 0.6
    assert {"mass_recall"} <= {metric for metric, _ in sparse["recovery"]}
    assert {"density", "output_rel_error"} <= {metric for metric, _ in sparse["error"]}
    assert ("density", "") in sparse["saved"] and ("density", "") not in sparse["timed"]
    assert float(found["alone", "dense"]["density", ""]) == 1


def test_another_instruction_set_is_another_cell(world, tmp_path):
    """What SWBENCH_ISA chooses decides bits and times: it is in the key, and in the report."""
    workload = {"kind": "synthetic", "shape": "smollm2-135m", "layers": 1}
    config = world.config(
        tmp_path / "c.yaml",
        workloads=[workload],
        methods=["dense"],
        measure=["recovery"],
        axes={"context": 128},
        output=str(tmp_path / "out"),
    )
    first = swbench("run", config, check=0, env={"SWBENCH_ISA": "sse2"}).stderr
    again = swbench("run", config, check=0, env={"SWBENCH_ISA": "sse2"}).stderr
    assert "1 cells done, 0 there already" in first and "0 cells done, 1 there already" in again
    report = swbench("report", tmp_path / "out", check=0).stdout
    assert "isa=sse2" in report
    if "avx2" in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split():
        other = swbench("run", config, check=0, env={"SWBENCH_ISA": "avx2"}).stderr
        assert "1 cells done, 0 there already" in other
