"""A run that is long enough to be interrupted, and what tests compare of it."""

import csv
import io
import subprocess
import time

import pytest

import tiny
from conftest import EASY, PROGRAM, TIMES, environment, swbench


def table(results, *args):
    """The tidy table as dictionaries of texts."""
    return list(csv.DictReader(io.StringIO(swbench("export", results, *args, check=0).stdout)))


def stamps(results):
    """Of the cells that were measured: one that a method has no phase for is looked at anew each
    time."""
    skipped = {row["cell"] for row in table(results) if row["status"] == "skipped"}
    return {
        path.name: path.stat().st_mtime_ns
        for path in (results / "cells").iterdir()
        if path.stem not in skipped
    }


def long_config(world, folder, **changes):
    folder.mkdir(exist_ok=True)
    workload = {
        "kind": "task",
        "model": str(world.model),
        "data": str(world.data),
        "tasks": ["ppl_tiny"],
        "samples": 2,
    }
    usual = {
        "workloads": [workload],
        "methods": [*EASY, {"name": "sketchwalk", "params": {"block_size": 16}}],
        "axes": {"context": tiny.CONTEXT, "density": [0.4, 0.5, 0.6, 0.7], "phase": "both"},
    }
    return world.config(folder / "c.yaml", **{**usual, **changes})


def without_times(rows):
    return [row for row in rows if row["metric"] not in TIMES | {"peak_memory_bytes"}]


def start(*args):
    return subprocess.Popen(
        [PROGRAM, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def wait_for_cells(process, out, count):
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if (out / "cells").is_dir() and sum(
            path.suffix == ".h5" for path in (out / "cells").iterdir()
        ) >= count:
            return
        time.sleep(0.005)
    pytest.fail(f"no {count} cells: {process.communicate()}")
