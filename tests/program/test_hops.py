"""The small model that follows chains: accuracy tells methods apart."""

import subprocess
import sys
from pathlib import Path

import pytest

import swbench_results
from conftest import swbench

ROOT = Path(__file__).resolve().parents[2]
SAMPLES, CONTEXT = 8, 1024
# Prose of words that the model knows, in sentences of different lengths.
PROSE = (
    "She had been a friend and companion such as few possessed. It was a very fine day. They went "
    "out to walk in the garden before dinner, and did not come home until the evening. He was not "
    "in the least surprised. Nothing could be more kind than her manner of saying so, and nobody "
    "thought of any thing else. There was no more to be said. "
)


@pytest.fixture(scope="module")
def figures(world, tmp_path_factory):
    """{(method, metric): value}."""
    folder = tmp_path_factory.mktemp("hops")

    def call(program, *arguments):
        argv = [sys.executable, ROOT / "datasets" / program, *arguments]
        done = subprocess.run([*map(str, argv)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    (folder / "text.txt").write_text(PROSE * 40)
    call("import_model.py", ROOT / "datasets/hops/hops-64", "--out", folder / "models")
    model = folder / "models" / "hops-64"
    options = {"model": model, "task": "chain_2", "context": CONTEXT, "samples": SAMPLES}
    options |= {"text": folder / "text.txt", "out": folder / "prepared"}
    call("prepare.py", *(word for name, value in options.items() for word in (f"--{name}", value)))
    config = world.config(
        folder / "c.yaml",
        workloads=[{"kind": "task", "model": str(model), "data": str(folder / "prepared"),
                    "tasks": ["chain_2"], "samples": SAMPLES, "recovery_samples": 2}],
        axes={"context": CONTEXT, "density": 0.3, "phase": "prefill"},
        methods=[{"name": name, "params": {"block_size": 16}}
                 for name in ("dense", "oracle", "onehop", "random")],
        measure=["accuracy", "recovery"],
        dense_layers=0,
    )  # fmt: skip
    swbench("run", config, "--output", folder / "out", "-q", check=0)
    table = swbench_results.tidy(folder / "out")
    table = table[table["layer"].isna()]
    return dict(zip(zip(table["method"], table["metric"]), table["value"]))


def test_accuracy_tells_methods_apart(figures):
    """A selection rule that is broken shows: the true top blocks answer as everything does, one-hop
    scores and random blocks do not."""
    percent = {m: figures[m, "accuracy"] for m in ("dense", "oracle", "onehop", "random")}
    assert percent["dense"] >= 95 and percent["oracle"] >= 80, percent
    assert percent["random"] <= 50 and percent["onehop"] <= 60, percent


def test_the_oracle_keeps_the_chain(figures):
    assert 0 <= figures["random", "hop_recall"] < figures["oracle", "hop_recall"] <= 1
