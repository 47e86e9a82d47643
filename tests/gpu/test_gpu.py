"""The program on a GPU: agreement of whole cells with the CPU, and trouble: memory that runs out, a
context that breaks, no GPU at all."""

import csv
import io
import os
import pathlib
import subprocess
import time

import pytest
import yaml

PROGRAM = os.environ["SWBENCH"]
POISON = os.environ.get("SWBENCH_POISON", "")
SMALL = {"kind": "synthetic", "shape": "llama-3.2-1b", "generator": "planted", "layers": 4}
HUGE_TOKENS = 1 << 20  # the KV cache of Llama-3.1-8B at 1M tokens is 128 GiB
METHODS = [
    "dense",
    "oracle",
    {"name": "sketchwalk", "params": {"variant": "softmax"}},
    {"name": "sketchwalk", "params": {"variant": "icml"}},
    "onehop",
]


def swbench(*args, check=None, **env):
    done = subprocess.run(
        [PROGRAM, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **env},
    )
    if check is not None:
        assert done.returncode == check, f"{args}: exit {done.returncode}\n{done.stderr[-3000:]}"
    return done


def write(path, **changes):
    config = {
        "version": 1,
        "name": "gpu",
        "seed": 1,
        "backend": "cuda",
        "output": str(path.parent / "out"),
        "workloads": [SMALL],
        "axes": {"context": [2048], "density": [0.2], "phase": ["prefill", "decode"]},
        "methods": METHODS,
        "dense_layers": 1,
        "measure": ["recovery", "output_error", "latency"],
        **changes,
    }
    path.write_text(yaml.safe_dump({k: v for k, v in config.items() if v is not None}))
    return path


def rows(folder):
    return list(
        csv.DictReader(io.StringIO(swbench("export", folder, "--format", "csv", check=0).stdout))
    )


def values(folder, metric):
    return {
        (r["method"], r["params"], r["context"], r["density"], r["phase"]): float(r["value"])
        for r in rows(folder)
        if r["metric"] == metric and r["layer"] == "" and r["status"] == "ok"
    }


def cells(folder):
    return {row["cell"]: row["status"] for row in rows(folder)}


def test_cells_agree_with_the_cpu(tmp_path):
    """Same lists but for near-ties: bf16 tensors, fp32 scores."""
    both = {}
    for backend in ("cpu", "cuda"):
        (tmp_path / backend).mkdir()
        swbench(
            "run",
            write(
                tmp_path / backend / "c.yaml", backend=backend, measure=["recovery", "output_error"]
            ),
            "-q",
            check=0,
        )
        both[backend] = tmp_path / backend / "out"
    for metric, limit in (("density", 1e-9), ("block_recall", 0.02), ("mass_recall", 0.005)):
        cpu, cuda = values(both["cpu"], metric), values(both["cuda"], metric)
        assert cpu and set(cpu) == set(cuda)
        for key, value in cpu.items():
            assert abs(value - cuda[key]) <= limit, (
                f"{metric} of {key}: {value} on the CPU, {cuda[key]} on the GPU"
            )
    cpu, cuda = values(both["cpu"], "output_rel_error"), values(both["cuda"], "output_rel_error")
    for key, value in cpu.items():
        assert abs(value - cuda[key]) <= 0.02 + 0.02 * value, (
            f"output error of {key}: {value}, {cuda[key]}"
        )


def test_times_have_their_clock_and_percentiles(tmp_path):
    swbench("run", write(tmp_path / "c.yaml"), "-q", check=0)
    h5py = pytest.importorskip("h5py")
    found = 0
    for path in sorted((tmp_path / "out" / "cells").glob("*.h5")):
        with h5py.File(path) as f:
            time_of = f.get("metrics/decode_attention_us") or f.get("metrics/prefill_attention_ms")
            assert time_of is not None, path
            assert time_of.attrs["p5"] <= time_of[()] <= time_of.attrs["p95"]
            assert 100 < f["metrics/sm_clock_mhz"][()] < 5000
            found += 1
    assert found == 2 * len(METHODS)


def test_recorded_decode_steps_are_not_slower_than_launches(tmp_path):
    """Selection is a dozen small kernels: as one launch they must be clearly faster."""
    path = write(
        tmp_path / "c.yaml",
        methods=[METHODS[2]],
        axes={"context": [8192], "density": [0.2], "phase": ["decode"]},
        measure=["latency"],
    )
    swbench("run", path, "-q", check=0)
    assert not any("launch by launch" in r.get("reason", "") for r in rows(tmp_path / "out"))
    us = values(tmp_path / "out", "decode_select_us")
    assert len(us) == 1 and 0 < next(iter(us.values())) < 400


def test_too_little_memory_fails_the_cell_and_the_sweep_goes_on(tmp_path):
    big = {
        "kind": "synthetic",
        "shape": "llama-3.1-8b",
        "whole_model": True,
        "context": [HUGE_TOKENS],
    }
    path = write(
        tmp_path / "c.yaml",
        workloads=[big, SMALL],
        methods=["dense"],
        axes={"context": [2048], "density": [1], "phase": ["prefill"]},
        measure=["latency"],
    )
    done = swbench("run", path, "-q", check=3)
    by_status = {}
    for row in rows(tmp_path / "out"):
        by_status.setdefault(row["status"], []).append(row)
    assert set(by_status) == {"ok", "failed"}, done.stderr
    reason = by_status["failed"][0]["reason"]
    assert "asked" in reason and "free" in reason and any(c.isdigit() for c in reason), reason
    assert by_status["ok"][0]["context"] == "2048"


@pytest.mark.skipif(not POISON, reason="no SWBENCH_POISON library")
def test_a_broken_context_ends_the_run_and_nothing_is_lost(tmp_path):
    path = write(
        tmp_path / "c.yaml",
        axes={
            "context": [4096, 8192, 16384],
            "density": [0.1, 0.2, 0.4],
            "phase": ["prefill", "decode"],
        },
        measure=["recovery", "latency"],
    )
    begin = time.monotonic()
    swbench("run", path, "-q", "--limit", 4, check=0)
    after = (time.monotonic() - begin) * 2
    before = cells(tmp_path / "out")
    done = swbench(
        "run", path, "-q", check=3, LD_PRELOAD=POISON, POISON_AFTER_MS=str(int(after * 1000))
    )
    assert "Traceback" not in done.stderr and done.stderr.strip(), done.stderr
    kept = cells(tmp_path / "out")
    assert set(before) <= set(kept) and all(status == "ok" for status in kept.values())
    assert len(kept) > len(before), "the context broke before a cell was done; wait longer"
    swbench("validate", tmp_path / "out", check=0)
    swbench("run", path, "-q", check=0)
    whole = cells(tmp_path / "out")
    assert set(kept) < set(whole) and all(status == "ok" for status in whole.values())


def test_without_a_gpu_the_backend_is_refused(tmp_path):
    done = swbench("run", write(tmp_path / "c.yaml"), "-q", CUDA_VISIBLE_DEVICES="", check=2)
    assert done.stderr.count("\n") == 1 and "no usable GPU" in done.stderr
    assert not pathlib.Path(tmp_path / "out").exists()
