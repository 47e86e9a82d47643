"""The tidy table of a result folder, as rows that the figures filter."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, fields
from pathlib import Path

import h5py

from swbench_results import BadResults, read_index

__all__ = [
    "BadResults",
    "Labels",
    "Point",
    "Row",
    "distinct",
    "mean_points",
    "read",
    "speed_ups",
]


@dataclass(frozen=True)
class Row:
    cell: str
    workload: str
    model: str
    task: str
    method: str
    params: str
    context: int
    density: float  # asked for; 0: the method's own (native budget)
    phase: str
    seed: int
    metric: str
    layer: int  # -1: over all layers
    value: float
    unit: str
    lo: float
    hi: float
    status: str
    label: str = ""  # what the program calls the cell
    conditions: str = ""  # hash of what it shares with the cells it is compared with
    baseline: str = "fastest"  # dense cell of its speed-ups: that, or the kernel of one


@dataclass(frozen=True)
class Point:
    """A metric of one method at one place of a sweep, averaged over tasks and seeds where there are
    several."""

    kept: float  # counted density
    value: float
    lo: float
    hi: float


@dataclass(frozen=True)
class Answer:
    """One sample of a cell whose needle has a place."""

    depth: float  # 0: the beginning of the prompt, 1: its end
    score: float  # 0 … 100


def read_answers(folder: Path, rows: list[Row]) -> dict[str, list[Answer]]:
    """{cell: its samples with a depth}, of the cells that have any; they are read through
    results.h5's links."""
    found = {}
    with h5py.File(folder / "results.h5" if folder.is_dir() else folder, "r") as f:
        for cell in sorted({r.cell for r in rows if r.metric == "accuracy"}):
            try:
                group = f[f"cells/{cell}/samples/predictions"]
                depths, scores = group["depth"][:], group["score"][:]
            except (OSError, KeyError):
                continue  # no needle, or no file of the cell: the other figures do without it
            samples = [
                Answer(float(d), float(s))
                for d, s in zip(depths, scores)
                if 0 <= d <= 1 and math.isfinite(s)
            ]
            if samples:
                found[cell] = samples
    return found


def read(folder: Path) -> list[Row]:
    """Rows of RESULTS/results.h5 that have a value; cells that failed or were skipped have none."""
    columns = read_index(folder)
    columns["density"] = [0.0 if math.isnan(d) else d for d in columns["density"]]
    columns["layer"] = [-1 if layer is None else layer for layer in columns["layer"]]
    rows = (Row(*values) for values in zip(*(columns[field.name] for field in fields(Row))))
    return [r for r in rows if r.status == "ok" and r.metric and math.isfinite(r.value)]


class Labels:
    """What a cell is called in a legend: as the program calls it everywhere (the index's `label`).
    An index of version 0.1 has none: there it is the method, with all parameters where they
    vary."""

    def __init__(self, rows: list[Row]):
        params: dict[str, set[str]] = defaultdict(set)
        for r in rows:
            params[r.method].add(r.params)
        self._texts: dict[str, str] = {}
        self.variant: dict[str, int] = {}  # label -> its number among the variants of its method
        self.method: dict[str, str] = {}
        for r in rows:
            several = len(params[r.method]) > 1
            self._texts[r.cell] = r.label or (f"{r.method} {r.params}" if several else r.method)
            self.method[self._texts[r.cell]] = r.method
        numbers: dict[str, int] = defaultdict(int)
        for label in sorted(self.method):
            self.variant[label] = numbers[self.method[label]]
            numbers[self.method[label]] += 1

    def __call__(self, row: Row) -> str:
        return self._texts[row.cell]


def mean_points(rows: list[Row], metric: str, key) -> dict:
    """{key(row): Point} of a metric over all layers. Several rows with one key (tasks, seeds)
    become their mean, without interval."""
    kept = {r.cell: r.value for r in rows if r.metric == "density" and r.layer < 0}
    groups: dict = defaultdict(list)
    for r in rows:
        if r.metric == metric and r.layer < 0:
            groups[key(r)].append(r)
    points = {}
    for k, members in groups.items():
        one = members[0] if len(members) == 1 else None
        points[k] = Point(
            kept=_mean([kept.get(m.cell, m.density) for m in members]),  # counted, where it was
            value=_mean([m.value for m in members]),
            lo=one.lo if one else math.nan,
            hi=one.hi if one else math.nan,
        )
    return points


def speed_ups(rows: list[Row], metric: str, key) -> dict:
    """{key(row): dense time / time} of a metric over all layers, summed over tasks and seeds. Of
    the dense cells of a row's conditions the fastest counts, as in `swbench report`; where the
    config names a kernel as baseline, of those that have it, if there are any."""
    times = [r for r in rows if r.metric == metric and r.layer < 0]
    dense: dict = defaultdict(list)
    for r in times:
        if r.method == "dense":
            dense[_conditions(r)].append(r)
    sums: dict = defaultdict(lambda: [0.0, 0.0])
    for r in times:
        there = dense[_conditions(r)]
        named = [d for d in there if json.loads(d.params).get("kernel") == r.baseline]
        if there and r.value > 0:
            sums[key(r)][0] += min(d.value for d in named or there)
            sums[key(r)][1] += r.value
    return {k: theirs / ours for k, (theirs, ours) in sums.items()}


def _conditions(row: Row) -> tuple:
    """What a row shares with its dense cells; an index of version 0.1 does not say it."""
    if row.conditions:
        return (row.conditions,)
    return (row.workload, row.model, row.task, row.context, row.phase, row.seed)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def distinct(rows: list[Row], name: str) -> list:
    return sorted({getattr(r, name) for r in rows})
