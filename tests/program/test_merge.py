"""merge: folders of machines that share nothing become one."""

import csv
import io
import os
import shutil

import h5py
import pytest

from conftest import swbench
from edit_results import cells, edited, set_text


@pytest.fixture(scope="session")
def machines(world, tmp_path_factory):
    """The halves of a sweep, with one seed in common."""
    folder = tmp_path_factory.mktemp("machines")
    found = []
    for name, seeds in (("a", (1, 2)), ("b", (2, 3))):
        for seed in seeds:
            workload = {"kind": "synthetic", "shape": "smollm2-135m", "layers": 1, "context": 256}
            config = world.config(
                folder / f"{seed}.yaml", seed=seed, workloads=[workload], axes={"density": 0.5}
            )
            swbench("run", config, "--output", folder / name, check=0)
        found.append(folder / name)
    return found


@pytest.fixture
def copies(machines, tmp_path):
    for folder in machines:
        shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / "a", tmp_path / "b", tmp_path / "out"


def rows(folder):
    return list(csv.DictReader(io.StringIO(swbench("export", folder, check=0).stdout)))


def names(folder):
    return {path.name for path in (folder / "cells").iterdir()}


def test_all_cells_once(copies):
    a, b, out = copies
    done = swbench("merge", out, a, b, check=0)
    assert names(out) == names(a) | names(b) and len(names(out)) == 9
    assert "9 cells: 9 copied, 0 there already, 0 conflicts" in done.stderr and done.stdout == ""
    assert {row["seed"] for row in rows(out)} == {"1", "2", "3"}
    with h5py.File(out / "results.h5") as file:
        assert {key + ".h5" for key in file["cells"]} == names(out)
    for path in cells(out):
        source = (a if (a / "cells" / path.name).exists() else b) / "cells" / path.name
        assert path.read_bytes() == source.read_bytes()


def test_again_changes_nothing(copies):
    a, b, out = copies
    swbench("merge", out, a, b, check=0)
    before = {path: path.stat().st_mtime_ns for path in cells(out)}
    done = swbench("merge", out, b, a, out, check=0)
    assert {path: path.stat().st_mtime_ns for path in cells(out)} == before
    assert "0 copied, 9 there already" in done.stderr


def test_one_by_one(copies):
    a, b, out = copies
    swbench("merge", out, a, check=0)
    swbench("merge", out, b / "results.h5", check=0)
    assert len(names(out)) == 9


def test_into_one_of_them(copies):
    a, b, _ = copies
    swbench("merge", a, b, check=0)
    assert len(names(a)) == 9


def test_conflict(copies):
    """The same experiment with another outcome: both are named, the first is kept."""
    a, b, out = copies
    path = cells(b, seed=2, method="oracle")[0]
    with edited(path) as file:
        file["per_layer/mass_recall"][0] += 1e-3
    done = swbench("merge", out, a, b, check=4)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("conflict")]
    assert (
        str(a / "cells" / path.name) in line
        and str(path) in line
        and "differ in mass_recall;" in line
    )
    assert (out / "cells" / path.name).read_bytes() == (a / "cells" / path.name).read_bytes()
    assert len(names(out)) == 9


def test_times_are_no_conflict(copies):
    a, b, out = copies
    with edited(cells(b, seed=2, method="oracle")[0]) as file:
        file["metrics/peak_memory_bytes"][()] *= 2
        set_text(file["provenance"], "host", "another")
    swbench("merge", out, a, b, check=0)


def test_what_failed_on_one_machine_gives_way(copies):
    a, b, out = copies
    path = cells(a, seed=2, method="oracle")[0]
    with edited(path) as file:
        set_text(file, "status", "failed")
        for group in ("metrics", "per_layer", "per_layer_head"):
            del file[group]
    swbench("merge", out, a, check=0)
    swbench("merge", out, b, check=0)
    assert (out / "cells" / path.name).read_bytes() == (b / "cells" / path.name).read_bytes()
    assert {row["status"] for row in rows(out)} == {"ok"}


def test_damage_writes_nothing(copies):
    a, b, out = copies
    path = cells(b)[2]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    done = swbench("merge", out, a, b, check=2)
    assert str(path) in done.stderr and len(done.stderr.splitlines()) == 1 and not out.exists()


def test_a_cell_under_another_name(copies):
    a, b, out = copies
    path = cells(b)[0]
    path.rename(path.with_name("0" * 32 + ".h5"))
    done = swbench("merge", out, a, b, check=2)
    assert "0" * 32 in done.stderr and not out.exists()


@pytest.mark.parametrize("bad", ["none", "file", "empty"])
def test_bad_folders_write_nothing(copies, bad):
    a, b, out = copies
    (out.parent / "file").write_text("text")
    (out.parent / "empty" / "cells").mkdir(parents=True)
    done = swbench("merge", out, a, out.parent / bad, check=2)
    assert bad in done.stderr and len(done.stderr.splitlines()) == 1 and not out.exists()


def test_out_that_is_a_file(copies):
    a, _, out = copies
    out.write_text("precious")
    swbench("merge", out, a, check=2)
    assert out.read_text() == "precious"
    swbench("merge", out, check=2)


def test_nothing_but_cells_is_left_behind(copies):
    a, b, out = copies
    swbench("merge", out, a, b, check=0)
    assert sorted(os.listdir(out)) == ["cells", "results.h5"] and all(
        not name.startswith(".") for name in names(out)
    )
