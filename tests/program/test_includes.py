"""The rooms are read from the top: no include runs upwards, and none in a circle."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# From the ground up: a room includes its own files and those of the rooms before it.
FLOORS = (
    "core",
    "kernels",
    *(
        f"harness/{room}"
        for room in "config store inputs plan run judge report program main.c".split()
    ),
)


def includes() -> dict[str, set[str]]:
    """{file: the files of the project that it includes}"""
    found = {}
    for path in (p for top in ("core", "kernels", "harness") for p in (ROOT / top).rglob("*.*")):
        if path.suffix in (".c", ".h", ".cu", ".cuh", ".cpp", ".inc"):
            names = re.findall(r'^\s*#\s*include "([^"]+)"', path.read_text(), re.M)
            beside = [(path.parent / name, ROOT / name) for name in names]
            real = [next((p for p in both if p.exists()), None) for both in beside]
            found[str(path.relative_to(ROOT))] = {
                str(p.resolve().relative_to(ROOT)) for p in real if p
            }
    return found


def floor(file: str) -> int:
    (found,) = [i for i, room in enumerate(FLOORS) if file == room or file.startswith(room + "/")]
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A path that ends where it began; empty where there is none."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for other in sorted(graph.get(node, ())):
            if found := walk(other, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := walk(node, []))), [])


def upward(graph: dict[str, set[str]]) -> list[str]:
    return [
        f"{file} includes {other}"
        for file, others in sorted(graph.items())
        for other in sorted(others)
        if floor(other) > floor(file)
    ]


def test_no_include_runs_upwards():
    graph = includes()
    assert len(graph) > 150 and upward(graph) == []
    graph["harness/store/tidy.c"].add("harness/judge/derived.h")
    assert upward(graph) == ["harness/store/tidy.c includes harness/judge/derived.h"]


def test_no_include_runs_in_a_circle():
    graph = includes()
    assert circle(graph) == []
    graph["harness/store/store.h"].add("harness/judge/same.h")
    assert circle(graph)
