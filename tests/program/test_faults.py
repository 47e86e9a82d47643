"""Every call that can fail for want of memory or room on the disk is made to fail, one at a time (tests/faults/faults.c): the program says so in one line and
ends with code 2 or 3, and each file it leaves is whole."""

import os
import pathlib
import shutil
import subprocess

import pytest

import tiny
from conftest import PROGRAM, environment, swbench
from test_run import table, without_times

LIBRARY = os.environ.get("SWBENCH_FAULTS", "")
EVERY = int(os.environ.get("SWBENCH_FAULT_STEP", "61"))   # each so many-th call; 1: all of them
KINDS = ("memory", "file")

pytestmark = pytest.mark.skipif(not os.path.isfile(LIBRARY), reason="SWBENCH_FAULTS names no library; ctest sets it")


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """A config, its results and their table. Every kind of file is read and written."""
    folder = tmp_path_factory.mktemp("faults")
    bundle = tiny.write_bundle(folder / "b.h5", n=64, decode=2, layers=2)
    workloads = [{"kind": "task", "model": str(world.model), "data": str(world.data), "tasks": ["ppl_tiny", "echo_tiny"], "samples": 2},
                 {"kind": "tensors", "path": str(bundle)}]
    config = world.config(folder / "c.yaml", workloads=workloads, save=["selection", "output"],
                          methods=["dense", {"name": "sketchwalk", "params": {"block_size": 16}}],
                          axes={"context": tiny.CONTEXT, "density": 0.5, "phase": "both"})
    swbench("run", config, "-q", check=0)
    return config, folder / "out", without_times(table(folder / "out"))


def call(folder, kind, k, *args):
    """The program with its k-th call failing. Returns what it did, how many calls there were, and where in the program the failing one was."""
    log = folder / "log"
    log.unlink(missing_ok=True)
    env = environment(LD_PRELOAD=LIBRARY, SWBENCH_FAULT=f"{kind}:{k}", SWBENCH_FAULT_LOG=str(log))
    done = subprocess.run([PROGRAM, *map(str, args)], capture_output=True, text=True, errors="replace", timeout=60, env=env)
    found = dict(line.split() for line in log.read_text().splitlines()) if log.exists() else {}
    return done, int(found.get("calls", 0)), int(found.get("fault", 0))


def whole(folder):
    """Only whole files are left, of a run that ended by itself."""
    hidden = [path for path in folder.rglob(".*")]
    assert not hidden, hidden
    if (folder / "cells").is_dir() and any((folder / "cells").iterdir()):
        swbench("validate", *(folder / "cells").iterdir(), check=0)


def check(done, what, lines):
    assert done.returncode in (0, 2, 3), (what, done.returncode, done.stderr[-600:])
    messages = [line for line in done.stderr.splitlines() if not line.startswith("tiny: ")]   # the summary of run
    if done.returncode:
        assert 1 <= len(messages) <= lines, (what, done.stderr)


@pytest.mark.parametrize("kind", KINDS)
def test_run(finished, tmp_path, kind):
    """Afterwards the same command, in peace, completes the results; so what was left is sound."""
    config, _, expected = finished
    _, calls, _ = call(tmp_path, kind, 0, "run", config, "-q", "--output", tmp_path / "count")
    assert calls > 20
    step = EVERY if kind == "memory" else max(1, EVERY // 12)
    refused = 0
    for k in range(1, calls + 1, step):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        done, _, where = call(tmp_path, kind, k, "run", config, "-q", "--output", out)
        what = f"{kind}:{k} at {where:#x}"
        assert where, what
        check(done, what, 6)   # a cell that fails is one line of its own
        refused += done.returncode != 0
        whole(out) if out.is_dir() else None
        if k % (3 * step) == 1 or done.returncode == 0:
            swbench("run", config, "-q", "--output", out, check=0)
            assert without_times(table(out)) == expected, what
    assert refused > calls // step // 2


@pytest.mark.parametrize("verb", ["plan", "export", "report", "validate", "compare"])
def test_readers(finished, tmp_path, verb):
    config, out, _ = finished
    arguments = {"plan": [config, "--output", tmp_path / "none"], "validate": [config, out], "compare": [out, out]}.get(verb, [out])
    peace, calls, _ = call(tmp_path, "memory", 0, verb, *arguments)
    assert peace.returncode == 0 and calls > 20
    for k in range(1, calls + 1, max(1, EVERY // 4)):
        done, _, where = call(tmp_path, "memory", k, verb, *arguments)
        what = f"memory:{k} at {where:#x}"
        check(done, what, 3)
        assert done.returncode or done.stdout == peace.stdout, what
    assert not list(tmp_path.rglob("*.h5"))
