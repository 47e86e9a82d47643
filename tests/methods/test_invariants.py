"""What must hold of every method, whatever it is: of all that `swbench ls methods` names, at their
defaults, so that a new one is tested by being there.

A matched budget in prefill and decode; random queries and keys with a ragged last block, and the
same with all heads alike."""

import csv
import io
import json
import os
import subprocess

import h5py
import numpy as np
import pytest
import yaml

from reference import budgets, generate, methods
from reference.program import listed_methods, program, write_bundle

PROGRAM = str(program())
BACKEND = os.environ.get("SWBENCH_TEST_BACKEND", "cpu")
LAYERS, HEADS, KV, D, B, N, STEPS = 2, 4, 2, 64, 16, 16 * 19 + 5, 4
DENSITIES = (0.3, 0.5, 1.0)
METHODS = listed_methods()
SPARSE = [
    pytest.param(name, phase, id=f"{name}-{phase}")
    for name in METHODS
    if name != "dense"
    for phase in sorted(METHODS[name])
]


def tensors(alike=False, n=N):
    """(layers, decode) as reference.program.write_bundle takes them; the first n prompt tokens of
    the same tensors."""
    rng = np.random.default_rng(5)
    parts = []
    for tokens in (N, STEPS):
        layers = [
            [
                rng.standard_normal((tokens, heads, D)).astype(np.float16).astype(np.float32)
                for heads in (HEADS, KV, KV)
            ]
            for _ in range(LAYERS)
        ]
        if alike:
            layers = [[np.repeat(x[:, :1], x.shape[1], axis=1) for x in layer] for layer in layers]
        parts.append(layers)
    return [[x[:n] for x in layer] for layer in parts[0]], parts[1]


class Run:
    def __init__(self, folder, threads=1, **kind):
        folder.mkdir(exist_ok=True)
        write_bundle(folder / "bundle.h5", *tensors(**kind))
        config = {
            "version": 1,
            "name": "invariants",
            "seed": 3,
            "backend": BACKEND,
            "threads": threads,
            "output": str(folder / "out"),
            "workloads": [{"kind": "tensors", "path": str(folder / "bundle.h5")}],
            "axes": {"density": list(DENSITIES), "phase": ["prefill", "decode"]},
            "methods": [{"name": name, "params": {"block_size": B}} for name in METHODS],
            "dense_layers": 0,
            "measure": ["recovery", "output_error"],
            "save": ["selection"],
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        subprocess.run(
            [PROGRAM, "run", str(folder / "config.yaml"), "-q"], check=True, capture_output=True
        )
        text = subprocess.run(
            [PROGRAM, "export", str(folder / "out")], check=True, capture_output=True, text=True
        ).stdout
        self.folder, self.cells = folder / "out" / "cells", {}
        for row in csv.DictReader(io.StringIO(text)):
            if row["status"] == "ok" and row["layer"] == "":
                key = row["method"], row["phase"], float(row["density"] or "nan")
                cell = self.cells.setdefault(
                    key, {"key": row["cell"], "params": json.loads(row["params"])}
                )
                cell[row["metric"]] = float(row["value"])

    def lists(self, name, phase, density):
        """[layer][unit][row] -> ascending key blocks."""
        result = []
        with h5py.File(self.folder / f"{self.cells[name, phase, density]['key']}.h5") as f:
            for layer in range(LAYERS):
                group = f[("decode/" if phase == "decode" else "") + f"layer_{layer:03d}/selection"]
                rows = np.split(group["indices"][:], group["indptr"][1:-1])
                units = int(group.attrs["units"])
                result.append(
                    [
                        rows[u * len(rows) // units : (u + 1) * len(rows) // units]
                        for u in range(units)
                    ]
                )
        return result


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("random") / "run")


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("alike") / "run", alike=True)


def rows_of(phase):
    return range(-(-N // B)) if phase == "prefill" else [(N + step) // B for step in range(STEPS)]


@pytest.mark.parametrize("name, phase", SPARSE)
def test_lists_are_ascending_and_causal_with_their_diagonal(run, name, phase):
    for density in DENSITIES:
        for units in run.lists(name, phase, density):
            for unit in units:
                assert len(unit) == len(rows_of(phase))
                for i, row in zip(rows_of(phase), unit):
                    assert (np.diff(row) > 0).all() and row[0] >= 0 and row[-1] == i


@pytest.mark.parametrize("name, phase", SPARSE)
def test_the_budget_is_kept_to_the_block(run, name, phase):
    for density in DENSITIES:
        if phase == "prefill":
            want = budgets.rows_proportional(N, B, density)[0] + 1
        else:
            want = [budgets.decode_blocks(N + step + 1, B, density, 2) for step in range(STEPS)]
        for units in run.lists(name, phase, density):
            for unit in units:
                assert [len(row) for row in unit] == list(want)


@pytest.mark.parametrize("name, phase", SPARSE)
def test_everything_kept_is_dense(run, name, phase):
    cell = run.cells[name, phase, 1.0]
    assert cell["density"] == pytest.approx(1, abs=1e-12)
    assert cell["output_rel_error"] <= (1e-5 if BACKEND == "cpu" else 2e-2)


@pytest.mark.parametrize("name, phase", SPARSE)
def test_a_larger_budget_keeps_more_of_the_same(run, name, phase):
    """Of scores that do not depend on the budget: no method's do under a matched one."""
    for small, large in zip(run.lists(name, phase, 0.3), run.lists(name, phase, 0.5)):
        for a, b in zip(small, large):
            for few, many in zip(a, b):
                assert set(few.tolist()) <= set(many.tolist())


@pytest.mark.parametrize("name, phase", SPARSE)
def test_no_method_recovers_more_mass_than_the_oracle(run, name, phase):
    for density in DENSITIES:
        assert (
            run.cells[name, phase, density]["mass_recall"]
            <= run.cells["oracle", phase, density]["mass_recall"] + 1e-6
        )


@pytest.mark.parametrize("name, phase", SPARSE)
def test_heads_that_are_alike_have_the_same_lists(alike, name, phase):
    if name == "random":
        pytest.skip("a draw a head")
    for units in alike.lists(name, phase, 0.3):
        for unit in units[1:]:
            assert all(np.array_equal(a, b) for a, b in zip(units[0], unit))


@pytest.mark.parametrize(
    "name", [name for name in METHODS if name != "dense" and "prefill" in METHODS[name]]
)
def test_later_tokens_do_not_change_earlier_rows(name, tmp_path_factory):
    """At equal counts: rows of a shorter prompt have others, so that the shorter of two lists is
    the better part of the longer one."""
    folder = tmp_path_factory.getbasetemp()
    long, short = (runs_of_length(folder, n) for n in (N, 16 * 12))
    changed = 0
    for a, b in zip(long.lists(name, "prefill", 0.5), short.lists(name, "prefill", 0.5)):
        for unit, other in zip(a, b):
            for row, also in zip(unit[:12], other[:12]):
                one, two = set(row.tolist()), set(also.tolist())
                changed += not (one <= two or two <= one)
    reason = methods.make(name, generate.tensors(tensors()), B, 0, 3).looks_ahead
    if reason:
        assert changed > 0, f"{name} no longer depends on the prompt's end ({reason})"
    else:
        assert changed == 0


CACHE = {}


def runs_of_length(folder, n):
    if n not in CACHE:
        CACHE[n] = Run(folder / f"length-{n}", n=n)
    return CACHE[n]


@pytest.mark.parametrize("name, phase", SPARSE)
def test_threads_change_nothing(run, name, phase, tmp_path_factory):
    if "threads" not in CACHE:
        CACHE["threads"] = Run(tmp_path_factory.mktemp("threads") / "run", threads=2)
    for density in DENSITIES:
        one, two = run.lists(name, phase, density), CACHE["threads"].lists(name, phase, density)
        assert all(
            np.array_equal(a, b)
            for x, y in zip(one, two)
            for u, v in zip(x, y)
            for a, b in zip(u, v)
        )
