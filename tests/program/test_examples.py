"""The example of a method becomes one of the program's as CONTRIBUTING says, and works."""

import csv
import subprocess

import pytest

import relink
from conftest import swbench

TABLE = "core/methods/table.c"
EXAMPLE = "examples/method/alike.c"


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """The program with the method: its file, and one line of the table."""
    folder = tmp_path_factory.mktemp("example")
    lines = (relink.ROOT / TABLE).read_text().splitlines(keepends=True)
    (last,) = [i for i, line in enumerate(lines) if line.startswith("    X(") and "\\" not in line]
    lines[last : last + 1] = [lines[last].rstrip() + " \\\n", "    X(alike)\n"]
    (folder / "table.c").write_text("".join(lines))
    objects = [
        relink.compile_as(TABLE, file, folder, "-Werror")
        for file in (folder / "table.c", relink.ROOT / EXAMPLE)
    ]
    return relink.link(objects, folder)


def call(program, *arguments):
    return subprocess.run([program, *arguments], capture_output=True, text=True)


def test_the_example_is_a_method(extended):
    assert "\nalike" in call(extended, "ls", "methods").stdout
    assert "block_size" in call(extended, "help", "alike").stdout
    assert swbench("help", "alike").returncode == 2  # the program as it is knows no such method


def test_the_example_selects(world, tmp_path, extended):
    """In a prompt and in decode, at the density that was asked for."""
    config = world.config(
        tmp_path / "alike.yaml",
        workloads=[{"kind": "synthetic", "shape": "smollm2-135m", "layers": 2, "context": 512}],
        axes={"density": 0.5, "phase": ["prefill", "decode"]},
        methods=[{"name": "alike", "params": {"block_size": 16}}],
        measure=["recovery"],
    )
    done = call(extended, "run", config, "--output", tmp_path / "out", "-q")
    assert done.returncode == 0, done.stderr
    table = swbench("export", tmp_path / "out", "--metric", "density", check=0).stdout
    rows = [row for row in csv.DictReader(table.splitlines()) if row["layer"] == ""]
    assert {row["phase"] for row in rows} == {"prefill", "decode"}
    for row in rows:
        assert row["method"] == "alike" and abs(float(row["value"]) - 0.5) < 0.05, row
