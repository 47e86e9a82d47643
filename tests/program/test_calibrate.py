"""Thresholds of calibrated budgets: found on other prompts, kept in a file, and used as
parameters."""

import csv
import io
import json

import pytest
import yaml

from conftest import swbench

METHODS = [
    "dense",
    {"name": "onehop", "params": {"block_size": 16}},
    {"name": "xattention", "params": {"block_size": 16}},
    {"name": "spargeattn", "params": {"block_size": 16, "simthreshd1": 0.0}},
    {
        "name": "flashprefill",
        "params": {"block_size": 16, "sink_blocks": 1, "window_blocks": 1, "dense_rows": 0},
    },
]
THRESHOLDS = ("xattention", "spargeattn", "flashprefill")
ONE_DENSITY = {"context": 512, "density": 0.5, "phase": "prefill"}


def write(folder, **changes):
    config = {
        "version": 1,
        "name": "calibrated",
        "seed": 1,
        "backend": "cpu",
        "threads": 1,
        "output": str(folder / "out"),
        "budget": "calibrated",
        "calibration": str(folder / "thresholds.json"),
        "workloads": [
            {"kind": "synthetic", "shape": "smollm2-135m", "generator": "gaussian", "layers": 2}
        ],
        "axes": {"context": 512, "density": [0.3, 0.5], "phase": "prefill"},
        "methods": METHODS,
        "dense_layers": 0,
        "measure": ["recovery"],
        **changes,
    }
    path = folder / "config.yaml"
    path.write_text(
        yaml.safe_dump({k: v for k, v in config.items() if v is not None}, sort_keys=False)
    )
    return path


def kept(folder):
    rows = csv.DictReader(
        io.StringIO(swbench("export", folder / "out", "--metric", "density", check=0).stdout)
    )
    return [
        (r["method"], json.loads(r["params"]), float(r["density"]), float(r["value"]))
        for r in rows
        if r["layer"] == "" and r["method"] != "dense"
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate")
    swbench("calibrate", write(folder), "-q", check=0)
    swbench("run", folder / "config.yaml", "-q", check=0)
    return folder


def test_thresholds_keep_the_density(folder):
    entries = json.loads((folder / "thresholds.json").read_text())
    assert entries["format"] == "swbench-calibration" and entries["held_out"] is True
    found = {(e["method"], e["density"]): e for e in entries["entries"]}
    assert set(found) == {(m, d) for m in THRESHOLDS for d in (0.3, 0.5)}
    for (_, density), entry in found.items():
        assert abs(entry["achieved"] - density) <= 0.02 * density
    for method in THRESHOLDS:
        more, less = found[method, 0.5]["value"], found[method, 0.3]["value"]
        assert more < less if method == "flashprefill" else less < more


def test_runs_use_them_and_realise_the_density(folder):
    entries = {
        (e["method"], e["density"]): e
        for e in json.loads((folder / "thresholds.json").read_text())["entries"]
    }
    rows = kept(folder)
    assert len(rows) == 8
    for method, params, density, value in rows:
        assert abs(value - density) <= 0.05 * density, (
            f"{method} keeps {value}"
        )  # other prompts of the same kind
        if method != "onehop":
            entry = entries[method, density]
            assert params[entry["parameter"]] == pytest.approx(entry["value"], rel=1e-8)


def test_thresholds_of_a_native_config_fit_its_calibrated_run(tmp_path):
    """Native defaults, which differ from the usual ones here, are not those of what is
    calibrated."""
    path = write(tmp_path, budget="native", methods=["xattention"], axes=ONE_DENSITY)
    swbench("calibrate", path, "--prompts", "1", "-q", check=0)
    swbench("run", path, "--set", "budget=calibrated", "-q", check=0)
    ((method, params, density, value),) = kept(tmp_path)
    assert method == "xattention" and params["block_size"] == 64
    assert value == pytest.approx(density, abs=0.05)


def test_a_method_without_a_threshold_has_the_matched_budget(folder, tmp_path):
    swbench(
        "run",
        write(tmp_path, budget="matched", calibration=None, methods=METHODS[:2]),
        "-q",
        check=0,
    )
    assert {r[3] for r in kept(tmp_path)} == {r[3] for r in kept(folder) if r[0] == "onehop"}


def test_without_the_file_its_cells_are_skipped_with_the_reason(tmp_path):
    plan = swbench("plan", write(tmp_path, calibration=None), check=0).stdout
    cells = 2 * len(THRESHOLDS)
    assert plan.count("'swbench calibrate'") == cells and plan.count("skipped") >= cells


@pytest.mark.parametrize(
    "content, problem",
    [
        ("{", "thresholds.json:1: "),
        ("[]", "expected a file that 'swbench calibrate' wrote"),
        (
            '{"format": "swbench-calibration", "version": 1, "entries": 3}',
            "entries: expected a list",
        ),
        (
            '{"format": "swbench-calibration", "version": 1, "entries": [{"model": 1}]}',
            "entries[0].model: expected a text",
        ),
        (None, "cannot be read"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, content, problem):
    if content is not None:
        (tmp_path / "thresholds.json").write_text(content)
    done = swbench("run", write(tmp_path), check=2)
    assert done.stderr.count("\n") == 1 and problem in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()


def test_a_threshold_out_of_range_is_refused(folder, tmp_path):
    entries = json.loads((folder / "thresholds.json").read_text())
    for entry in entries["entries"]:
        entry["value"] = 7
    (tmp_path / "thresholds.json").write_text(json.dumps(entries))
    done = swbench("run", write(tmp_path), check=2)
    assert done.stderr.count("\n") == 1 and "expected a number" in done.stderr, done.stderr


def test_calibrate_needs_a_file_to_write_and_a_method_to_calibrate(tmp_path):
    done = swbench("calibrate", write(tmp_path, calibration=None), check=2)
    assert "calibration: missing" in done.stderr
    done = swbench("calibrate", write(tmp_path, methods=["dense", "onehop"]), check=2)
    assert "no method with a threshold" in done.stderr and done.stderr.count("\n") == 1
    done = swbench(
        "calibrate",
        write(
            tmp_path,
            calibration=str(tmp_path / "no" / "such" / "folder.json"),
            axes={"context": 128, "density": 0.5, "phase": "prefill"},
        ),
        "-q",
        check=2,
    )
    assert "cannot be written" in done.stderr


# --- layers that select ---------------------------------------------------------------------------
LAYERS = {"kind": "synthetic", "shape": "smollm2-135m", "generator": "planted", "layers": 6}
REUSE = {"preset": "kascade", "block_size": 32, "choose": "dp", "anchor_count": 3}


def found_layers(folder):
    entries = json.loads((folder / "thresholds.json").read_text())["entries"]
    return {entry["parameter"]: entry for entry in entries}


def test_layers_are_found_and_used(tmp_path):
    path = write(
        tmp_path,
        workloads=[LAYERS],
        methods=[{"name": "reuse", "params": REUSE}],
        axes=ONE_DENSITY,
        dense_layers=1,
        save=["selection"],
    )
    swbench("calibrate", path, "-q", check=0)
    found = found_layers(tmp_path)
    layers = [int(layer) for layer in found["anchors"]["value"].split(",")]
    assert len(layers) == 3 and layers[0] == 1 and layers == sorted(set(layers))
    sources = [row.split(",") for row in found["heads"]["value"].split("/")]
    assert len(sources) == 6 and {len(row) for row in sources} == {3}
    for layer in layers:  # itself, list by list
        assert sources[layer] == ["0", "1", "2"]
    assert 0 < found["anchors"]["achieved"] <= 1
    swbench("run", path, "-q", check=0)
    ((_, params, _, _),) = kept(tmp_path)
    assert [params["anchors"], params["heads"]] == [found[k]["value"] for k in ("anchors", "heads")]


def test_without_their_file_its_cells_are_skipped(tmp_path):
    changes = {"workloads": [LAYERS], "methods": [{"name": "reuse", "params": REUSE}]}
    for more in ({"calibration": None}, {"budget": "matched"}):
        plan = swbench("plan", write(tmp_path, **changes, **more), check=0).stdout
        assert "skipped" in plan and "'swbench calibrate'" in plan


def test_a_loss_needs_a_task_that_scores_text(tmp_path):
    by_loss = {**REUSE, "choose": "greedy_nll"}
    path = write(
        tmp_path,
        workloads=[LAYERS],
        methods=[{"name": "reuse", "params": by_loss}],
        axes=ONE_DENSITY,
    )
    assert "expected a task that scores text" in swbench("calibrate", path, "-q", check=2).stderr
