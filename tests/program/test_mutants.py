"""Silent changes of the selection rules in the sources themselves: each is compiled into a program of its own, which measures the same cells; the
gate must tell it from the program as it is. The changed file is linked ahead of the libraries, so that nothing else is built."""

import pathlib
import shlex
import shutil
import subprocess

import numpy as np
import pytest

import tiny
from conftest import PROGRAM, swbench

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(PROGRAM).resolve().parents[1]
SKETCHWALK = {"name": "sketchwalk", "params": {"block_size": 16, "variant": ["arxiv", "icml"]}}

# what, file, as it is, as it should not be
MUTANTS = {
    "ties go to the earlier block": ("kernels/cpu/select.c", '#include "kernels/cpu/order.h"',
                                       '#include "kernels/cpu/order.h"\n#define sw_key_of(score, j) sw_key_of(score, (uint32_t)(INT32_MAX - (j)))'),
    "the window is a block short": ("core/methods/sink_window.c", "row - back / block + 1 :", "row - back / block :"),
    "a sink token too many": ("core/methods/sink_window.c", ".sink = sw_blocks(p->start, block)", ".sink = sw_blocks(p->start, block) + 1"),
    "scores are not scaled": ("kernels/cpu/block_scores.c", "a->scale, q, a->r", "1.0f, q, a->r"),
    "one block of the budget is lost": ("kernels/cpu/select.c", "threshold = sw_kth_largest(keys, n, left - 1);",
                                        "threshold = sw_kth_largest(keys, n, left - 1); if (i == a->row0 + a->rows - 1) threshold = UINT64_MAX - 1;"),
}


def commands():
    """How ninja makes the program: compiler calls and the link."""
    if shutil.which("ninja") is None or not (BUILD / "build.ninja").exists():
        pytest.skip(f"{BUILD} was not made by ninja")
    return subprocess.run(["ninja", "-C", str(BUILD), "-t", "commands", "bin/swbench"], capture_output=True, text=True, check=True).stdout.splitlines()


def build(mutant, folder):
    source, old, new = MUTANTS[mutant]
    text = (ROOT / source).read_text()
    assert text.count(old) == 1, f"{source}: the line that is to be changed has changed; change the test too"
    changed = folder / pathlib.Path(source).name
    changed.write_text(text.replace(old, new))
    (line,) = [line for line in commands() if line.endswith(f" -c {ROOT / source}")]
    compiler = shlex.split(line)
    compiler = compiler[:compiler.index("-MD")] + ["-Wno-error", "-o", str(folder / "mutant.o"), "-c", str(changed)]
    subprocess.run(compiler, cwd=BUILD, check=True)
    link = shlex.split(commands()[-1].removeprefix(": && ").removesuffix(" && :"))
    link[link.index("-o") + 1] = str(folder / "swbench")
    link.insert(link.index("-o"), str(folder / "mutant.o"))
    subprocess.run(link, cwd=BUILD, check=True)
    return folder / "swbench"


def repeat(bundle):
    """Every block of queries and keys is the first one: their scores tie."""
    for layer in range(2):
        for name in ("q", "k"):
            data = bundle[f"layer_{layer:03d}/{name}"]
            data[...] = np.tile(data[:16], (len(data) // 16, 1, 1))


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """run(program, folder): quality of the rules under a matched and under each one's own budget, on inputs with ties among them."""
    folder = tmp_path_factory.mktemp("mutants")
    workloads = [{"kind": "synthetic", "shape": "smollm2-135m", "layers": 3, "context": 512},
                 {"kind": "tensors", "path": str(tiny.write_bundle(folder / "ties.h5", n=256, decode=4, change=repeat))}]
    configs = [world.config(folder / f"{budget}.yaml", workloads=workloads, budget=budget, axes=axes, measure=["recovery", "output_error"],
                            methods=[{"name": "sink_window", "params": {"block_size": 16, "recent": 128}}, "dense", SKETCHWALK,
                                     {"name": "onehop", "params": {"block_size": 16}}])
               for budget, axes in (("matched", {"density": 0.5, "phase": ["prefill", "decode"]}), ("native", {"density": 0.5}))]

    def work(program, out):
        for config in configs:
            done = subprocess.run([program, "run", config, "--output", out, "-q"], capture_output=True, text=True)
            assert done.returncode in (0, 3), done.stderr
        return out

    work(PROGRAM, folder / "base")
    return lambda program, out: (folder / "base", work(program, out))


def test_a_program_linked_so_is_the_same(run, tmp_path):
    """The control: a changed comment."""
    MUTANTS["nothing"] = ("kernels/cpu/select.c", "/* select.c: from scores", "/* select.c: it goes from scores")
    base, new = run(build("nothing", tmp_path), tmp_path / "out")
    done = swbench("compare", base, new, check=0)
    assert done.stdout.rstrip().endswith(": same")


@pytest.mark.parametrize("mutant", list(MUTANTS))
def test_it_is_caught(run, tmp_path, mutant):
    base, new = run(build(mutant, tmp_path), tmp_path / "out")
    done = swbench("compare", base, new)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "worse" in done.stdout
