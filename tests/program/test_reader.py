"""plots/swbench_results, the Python reader, against `swbench export`: the same rows, values and
order, to the last bit."""

import json
import math
import re
import resource
import shutil
import stat
import subprocess
import sys
import time

import h5py
import numpy as np
import pandas
import pytest

import swbench_results as reader
import tiny
from conftest import EASY, HERE, PROGRAM, environment, swbench
from swbench_results.derived import paired_interval

PLOTS = HERE.parents[1] / "plots"

METHODS = EASY + [
    {"name": "sketchwalk", "params": {"block_size": 16, "variant": ["softmax", "icml"]}}
]


@pytest.fixture(scope="session")
def finished(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
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
        methods=METHODS,
        measure=None,
        dense_layers=1,
        axes={"context": tiny.CONTEXT, "density": [0.5, 1.0], "phase": ["prefill", "decode"]},
    )
    swbench("run", config, check=0)
    return folder / "out"


def exported(results):
    return [
        json.loads(line)
        for line in swbench("export", results, "--format", "jsonl", check=0).stdout.splitlines()
    ]


def plain(frame):
    """Rows as JSON has them: None where a field is empty."""
    return [
        {
            name: None
            if value is pandas.NA or isinstance(value, float) and math.isnan(value)
            else value
            for name, value in row.items()
        }
        for row in frame.to_dict("records")
    ]


def same(results, **options):
    table = reader.tidy(results, **options)
    rows = exported(results)
    assert list(table.columns) == list(rows[0]) and len(table) == len(rows)
    assert plain(table) == rows
    return table


def test_every_row_is_exports(finished):
    table = same(finished)
    assert (
        len(table) > 500
        and {"prefill", "decode"} == set(table.phase)
        and table.layer.notna().any()
        and table.layer.isna().any()
    )
    differences = table[table.metric == "nll_delta"]
    assert (
        len(differences) == len(table[table.metric == "nll"])
        and differences[differences.method != "dense"].lo.notna().all()
    )
    assert str(table.dtypes["layer"]) == "Int64" and table.dtypes["value"] == np.float64


def test_index_has_the_same_rows(finished):
    same(finished, index=True)
    same(finished / "results.h5", index=True)


def test_one_cell_and_results_h5_stand_for_their_folder(finished):
    same(finished / "results.h5")
    same(sorted((finished / "cells").iterdir())[0])


def test_failed_cells_have_one_row(world, tmp_path):
    """A cell that asks for more memory than there is."""
    workloads = [
        {"kind": "synthetic", "shape": "llama-3.1-8b", "layers": 300},
        {"kind": "synthetic", "shape": "smollm2-135m", "layers": 1},
    ]
    config = world.config(
        tmp_path / "c.yaml",
        workloads=workloads,
        methods=["dense"],
        axes={"context": 1024},
        measure=["recovery"],
    )
    swbench(
        "run",
        config,
        "-q",
        check=3,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (900 << 20, 900 << 20)),
        env={"OPENBLAS_NUM_THREADS": "1"},
    )
    table = same(tmp_path / "out")
    failed = table[table.status == "failed"]
    assert (
        len(failed) == 1
        and failed.metric.iloc[0] == ""
        and math.isnan(failed.value.iloc[0])
        and "memory" in failed.reason.iloc[0]
    )


def other_code(folder, code):
    """The program as newer code would be: with another hash of its sources, which is a part of
    every cell's key. Its end stays: the linker lets a shorter text lie in the end of a longer one,
    and a hash that ends in 3 may hold the "3" that is some parameter's default."""
    program = folder / "swbench"
    shutil.copy(PROGRAM, program)
    old = re.search(r"code ([0-9a-f]{16})", swbench("--version", check=0).stdout)[1]
    data = program.read_bytes()
    assert old.encode() in data
    program.write_bytes(data.replace(old.encode(), (code + old[len(code) :]).encode()))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def test_of_code_versions_the_newest_counts(world, tmp_path):
    axes = {"context": tiny.CONTEXT, "density": [0.5], "phase": "prefill"}
    config = world.config(tmp_path / "c.yaml", axes=axes)
    swbench("run", config, check=0)
    first = set(reader.tidy(tmp_path / "out").cell)
    time.sleep(1.1)  # the end of a cell is known to the second
    newer = other_code(tmp_path, "01234567")
    smaller = world.config(
        tmp_path / "d.yaml", axes=axes, methods=EASY[:2]
    )  # one method is not measured again
    subprocess.run([newer, "run", smaller, "-q"], check=True, env=environment())
    table = same(tmp_path / "out")
    again = set(table[table.method != "random"].cell)
    assert (
        len(list((tmp_path / "out/cells").iterdir())) == 5 and len(again) == 2 and not again & first
    )
    assert set(table[table.method == "random"].cell) <= first


# --- arrays ---------------------------------------------------------------------------------------


def test_samples_are_the_files(finished):
    table = reader.tidy(finished)
    cell = table[(table.metric == "nll") & (table.method == "random")].cell.iloc[0]
    found = reader.samples(finished, cell, "nll")
    with h5py.File(finished / "cells" / f"{cell}.h5") as file:
        assert len(found) == 2 and np.array_equal(found, file["samples/nll"][:])
    assert len(reader.samples(finished, cell, "accuracy")) == 0


def test_layers(finished):
    pytest.importorskip("xarray")
    table, recall = reader.tidy(finished), reader.layers(finished, "block_recall", heads=True)
    assert (
        recall.dims == ("cell", "layer", "head")
        and recall.sizes["head"] == tiny.HEADS
        and recall.sizes["layer"] == tiny.LAYERS
    )
    by_layer = reader.layers(finished, "block_recall")
    for row in table[(table.metric == "block_recall") & table.layer.notna()].itertuples():
        here = by_layer.sel(cell=row.cell, layer=row.layer)
        assert here == row.value and here.method == row.method and here.density == row.density
        assert np.isclose(recall.sel(cell=row.cell, layer=row.layer).mean(), row.value, rtol=1e-12)
    assert by_layer.sel(layer=0).isnull().all(), "the first layer stays dense"
    with pytest.raises(reader.BadResults, match="no cell has ppl by layer"):
        reader.layers(finished, "ppl")


def test_paired_interval():
    a, b = np.array([1.0, 2.0, 4.0, 8.0]), np.array([0.5, 1.0, 2.0, 4.0])
    mean, lo, hi = paired_interval(a, b, 1)
    assert mean == 1.875 and 0.5 <= lo < mean < hi <= 4.0
    assert paired_interval(a, b, 1) == (mean, lo, hi) != paired_interval(a, b, 2)
    assert math.isnan(paired_interval(a[:1], b[:1], 1)[1])


# --- bad input ------------------------------------------------------------------------------------


def test_bad_results_are_one_line(finished, tmp_path):
    (tmp_path / "empty").mkdir()
    damaged = tmp_path / "damaged"
    shutil.copytree(finished, damaged)
    cell = sorted((damaged / "cells").iterdir())[0]
    cell.write_bytes(cell.read_bytes()[: cell.stat().st_size // 2])
    (tmp_path / "foreign.h5").write_bytes(b"no HDF5 here")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["format"] = "swbench-tensors"
    for path, named in (
        (tmp_path / "nowhere", "nowhere"),
        (tmp_path / "empty", "empty"),
        (damaged, cell.name),
        (tmp_path / "foreign.h5", "foreign.h5"),
        (tmp_path / "other.h5", "swbench-cell"),
    ):
        with pytest.raises(reader.BadResults) as e:
            reader.tidy(path)
        assert named in str(e.value) and "\n" not in str(e.value)


def test_package_builds_and_installs(tmp_path):
    """What `pip install ./plots` does, without the network."""
    source = shutil.copytree(
        PLOTS,
        tmp_path / "plots",
        ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"),
    )
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-index",
            "--no-deps",
            "--no-build-isolation",
            "--target",
            tmp_path / "site",
            source,
        ],
        check=True,
        capture_output=True,
    )
    code = (
        "import swbench_results, pathlib; "
        "print(pathlib.Path(swbench_results.__file__).parent.parent)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(tmp_path / "site")),
    )
    assert done.stdout.strip() == str(tmp_path / "site")
