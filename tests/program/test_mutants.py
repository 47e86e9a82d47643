"""Silent changes of the selection rules in the sources themselves: each is compiled into a program
of its own, which measures the same cells; the gate must tell it from the program as it is. The
changed file is linked ahead of the libraries, so that nothing else is built."""

import pathlib
import re
import subprocess

import numpy as np
import pytest

import relink
import tiny
from conftest import PROGRAM, swbench

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKETCHWALK = {"name": "sketchwalk", "params": {"block_size": 16, "variant": ["softmax", "icml"]}}

# what, file, as it is, as it should not be
MUTANTS = {
    "ties go to the earlier block": (
        "kernels/cpu/selection/select.c",
        '#include "kernels/cpu/selection/order.h"',
        '#include "kernels/cpu/selection/order.h"\n#define sw_key_of(score, j) sw_key_of(score, '
        "(uint32_t)(INT32_MAX - (j)))",
    ),
    "the window is a block short": (
        "core/methods/sink_window.c",
        "row - back / block + 1 :",
        "row - back / block :",
    ),
    "a sink token too many": (
        "core/methods/sink_window.c",
        ".sink = sw_blocks(p->start, block)",
        ".sink = sw_blocks(p->start, block) + 1",
    ),
    "scores are not scaled": (
        "kernels/cpu/selection/block_scores.c",
        "a->r, a->scale, x, a->b",
        "a->r, 1.0f, x, a->b",
    ),
    "one block of the budget is lost": (
        "kernels/cpu/selection/select.c",
        "threshold = sw_kth_largest(keys, n, left - 1);",
        "threshold = sw_kth_largest(keys, n, left - 1); if (i == a->row0 + a->rows - 1) "
        "threshold = UINT64_MAX - 1;",
    ),
}
# The same, of methods and rules that only configs/ci-rules.yaml runs
RULES = {
    "quest knows a page's first key only": (
        "kernels/cpu/selection/page_bounds.c",
        "high[c] = x[c] > high[c] ? x[c] : high[c];",
        "",
    ),
    "xattention looks a group ahead": (
        "kernels/cpu/selection/antidiagonal.c",
        "p->c->vec->softmax(row, g + 1);",
        "p->c->vec->softmax(row, g + 2 < p->groups ? g + 2 : g + 1);",
    ),
    "snapkv does not pool": ("core/methods/snapkv.c", "half = p->pool_kernel / 2,", "half = 0,"),
    "nsa scales twice": (
        "core/methods/nsa.c",
        ".k = keys->means.data, .scale = seq->scale},",
        ".k = keys->means.data, .scale = 2 * seq->scale},",
    ),
}


def build(mutant, folder):
    source, old, new = {**MUTANTS, **RULES}[mutant]
    text = (ROOT / source).read_text()
    # A formatter may break a line anywhere between two words.
    anchor = r"\s+".join(re.escape(word) for word in old.split())
    changed = folder / pathlib.Path(source).name
    mutated, count = re.subn(anchor, lambda match: new, text)
    assert count == 1, f"{source}: what is to be changed has changed; change the test too"
    changed.write_text(mutated)
    return relink.link([relink.compile_as(source, changed, folder, "-Wno-error")], folder)


def repeat(bundle):
    """Every block of queries and keys is the first one: their scores tie."""
    for layer in range(2):
        for name in ("q", "k"):
            data = bundle[f"layer_{layer:03d}/{name}"]
            data[...] = np.tile(data[:16], (len(data) // 16, 1, 1))


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """run(program, folder): quality of the rules under a matched and under each one's own budget,
    on inputs with ties among them."""
    folder = tmp_path_factory.mktemp("mutants")
    workloads = [
        {"kind": "synthetic", "shape": "smollm2-135m", "layers": 3, "context": 512},
        {
            "kind": "tensors",
            "path": str(tiny.write_bundle(folder / "ties.h5", n=256, decode=4, change=repeat)),
        },
    ]
    configs = [
        world.config(
            folder / f"{budget}.yaml",
            workloads=workloads,
            budget=budget,
            axes=axes,
            measure=["recovery", "output_error"],
            methods=[
                {"name": "sink_window", "params": {"block_size": 16, "recent": 128}},
                "dense",
                SKETCHWALK,
                {"name": "onehop", "params": {"block_size": 16}},
            ],
        )
        for budget, axes in (
            ("matched", {"density": 0.5, "phase": ["prefill", "decode"]}),
            ("native", {"density": 0.5}),
        )
    ]

    def work(program, out):
        for config in configs:
            done = subprocess.run(
                [program, "run", config, "--output", out, "-q"], capture_output=True, text=True
            )
            assert done.returncode in (0, 3), done.stderr
        return out

    work(PROGRAM, folder / "base")
    return lambda program, out: (folder / "base", work(program, out))


def test_a_program_linked_so_is_the_same(run, tmp_path):
    """The control: a changed comment."""
    MUTANTS["nothing"] = (
        "kernels/cpu/selection/select.c",
        "/* select.c: from scores",
        "/* select.c: it goes from scores",
    )
    base, new = run(build("nothing", tmp_path), tmp_path / "out")
    done = swbench("compare", base, new, check=0)
    assert done.stdout.rstrip().endswith(": same")


@pytest.mark.parametrize("mutant", list(MUTANTS))
def test_it_is_caught(run, tmp_path, mutant):
    base, new = run(build(mutant, tmp_path), tmp_path / "out")
    done = swbench("compare", base, new)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "worse" in done.stdout


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    """gate(program, folder): what `make ci` runs of configs/ci-rules.yaml."""

    def work(program, out):
        for own in ([], ["--set", "budget=native", "--set", "workloads.0.generator=planted"]):
            subprocess.run(
                [program, "run", ROOT / "configs/ci-rules.yaml", *own, "--output", out, "-q"],
                check=True,
                capture_output=True,
            )
        return out

    base = work(PROGRAM, tmp_path_factory.mktemp("gate") / "base")
    return lambda program, out: (base, work(program, out))


@pytest.mark.parametrize("mutant", list(RULES))
def test_the_gate_knows_every_method(gate, tmp_path, mutant):
    """As against a baseline of another machine."""
    base, new = gate(build(mutant, tmp_path), tmp_path / "out")
    done = swbench("compare", base, new, "--across-machines")
    assert done.returncode == 1, done.stdout + done.stderr
