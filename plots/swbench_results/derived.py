"""nll_delta: a row of the table that no cell holds, since it takes two: a method's loss minus
dense's on the same windows, with the bootstrap interval of the paired difference. The same numbers
as `swbench export`'s, bit for bit: resamples are drawn by the same counters."""

from __future__ import annotations

import json
import math
from collections import defaultdict

import numpy as np

RESAMPLES = 2000
BOOTSTRAP = 7  # this purpose's number among the program's random numbers


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _uniform(seed: int, index: np.ndarray) -> np.ndarray:
    stream = _mix(_mix(np.array([seed % 2**64], np.uint64)) ^ np.uint64(BOOTSTRAP << 32))
    return (_mix(stream ^ index) >> np.uint64(11)).astype(float) * 2.0**-53


def _percentile(ascending: np.ndarray, p: float) -> float:
    at = p / 100 * (len(ascending) - 1)
    low = math.floor(at)
    if low >= len(ascending) - 1:
        return float(ascending[-1])
    return float(ascending[low] + (at - low) * (ascending[low + 1] - ascending[low]))


def paired_interval(a: np.ndarray, b: np.ndarray, seed: int) -> tuple[float, float, float]:
    """The mean of a - b, and its 95 % interval (NaN for fewer than two values). Sums run in the
    order of the samples."""
    difference = a - b
    n = len(difference)
    mean = float(np.cumsum(difference)[-1] / n)
    if n < 2 or not math.isfinite(mean):
        return mean, math.nan, math.nan
    resample = np.arange(RESAMPLES, dtype=np.uint64) << np.uint64(40)
    sums = np.zeros(RESAMPLES)
    for i in range(n):
        sums += difference[(_uniform(seed, resample | np.uint64(i)) * n).astype(np.int64)]
    means = np.sort(sums / n)
    return mean, _percentile(means, 2.5), _percentile(means, 97.5)


def _block_size(row: dict) -> object:
    return json.loads(row["params"]).get("block_size")


def _dense_beside(row: dict, dense: list[dict]) -> dict | None:
    """Of the dense cells that share a cell's conditions the one that `swbench export` takes: of the
    same budget and block size if there is one, else the first by parameters."""

    def likeness(other: dict) -> int:
        return 2 * (other["budget"] == row["budget"]) + (_block_size(other) == _block_size(row))

    ordered = sorted(dense, key=lambda r: (r["params"], r["budget"], r["experiment"]))
    return max(ordered, key=likeness, default=None)  # the first of equals


def loss_differences(rows: list[dict], samples) -> list[dict]:
    """Rows of nll_delta for the rows of nll; samples(cell) gives a cell's losses by window. Cells
    of version 0.1, which do not say their conditions, have none."""
    losses = [
        row
        for row in rows
        if row["metric"] == "nll" and row["layer"] is None and row["status"] == "ok"
    ]
    dense: dict[str, list[dict]] = defaultdict(list)
    for row in losses:
        if row["method"] == "dense" and row["conditions"]:
            dense[row["conditions"]].append(row)
    made = []
    for row in losses:
        base = _dense_beside(row, dense.get(row["conditions"], []))
        if base is None:
            continue
        value, lo, hi = row["value"] - base["value"], math.nan, math.nan
        a, b = samples(row["cell"]), samples(base["cell"])
        if len(a) == len(b) > 0:
            value, lo, hi = paired_interval(a, b, row["seed"])
        made.append(
            row | {"metric": "nll_delta", "unit": "nat/token", "value": value, "lo": lo, "hi": hi}
        )
    return made
