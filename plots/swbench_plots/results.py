"""The tidy table of a result folder, as rows that the figures filter."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, fields
from pathlib import Path

import h5py

from swbench_results import BadResults, read_index

__all__ = ["BadResults", "Labels", "Point", "Row", "distinct", "mean_points", "read"]


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
    places = list(zip(*(columns[name] for name in ("workload", "model", "task"))))
    for name in (
        "budget",
        "dense_layers",
    ):  # a variant like any other, where one workload's task was run with several
        found = defaultdict(set)
        for place, value in zip(places, columns[name]):
            found[place].add(value)
        columns["params"] = [
            json.dumps(_parse(params) | {name: value}) if len(found[place]) > 1 else params
            for place, params, value in zip(places, columns["params"], columns[name])
        ]
    columns["density"] = [0.0 if math.isnan(d) else d for d in columns["density"]]
    columns["layer"] = [-1 if layer is None else layer for layer in columns["layer"]]
    rows = (Row(*values) for values in zip(*(columns[field.name] for field in fields(Row))))
    return [r for r in rows if r.status == "ok" and r.metric and math.isfinite(r.value)]


class Labels:
    """What a method is called in a legend: its name, and the parameters in which its variants here
    differ."""

    def __init__(self, rows: list[Row]):
        variants: dict[str, set[str]] = defaultdict(set)
        for r in rows:
            variants[r.method].add(r.params)
        self._texts: dict[tuple[str, str], str] = {}
        self.variant: dict[str, int] = {}  # label -> its number among the variants of its method
        self.method: dict[str, str] = {}
        for method, all_params in variants.items():
            parsed = {p: _parse(p) for p in sorted(all_params)}
            names = [
                n
                for n in next(iter(parsed.values()))
                if len({json.dumps(d.get(n)) for d in parsed.values()}) > 1
            ]
            for number, (params, values) in enumerate(parsed.items()):
                label = " ".join([method] + [_short(n, values.get(n)) for n in names])
                self._texts[method, params] = label
                self.variant.setdefault(label, number)
                self.method[label] = method

    def __call__(self, row: Row) -> str:
        return self._texts[row.method, row.params]


def _parse(params: str) -> dict:
    try:
        values = json.loads(params or "{}")
    except json.JSONDecodeError:
        return {"params": params}
    return values if isinstance(values, dict) else {"params": params}


def _short(name: str, value: object) -> str:
    return str(value) if isinstance(value, str) else f"{name}={value}"


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


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def distinct(rows: list[Row], name: str) -> list:
    return sorted({getattr(r, name) for r in rows})
