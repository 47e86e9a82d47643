"""Which keys a query kept, from the selections of a cell that was run with `save: [selection]`."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from swbench_results.cells import BadResults, cell_path, opened


def kept(results: str | Path, key: str, layer: int, query: int, unit: int = 0) -> np.ndarray:
    """bool [query + 1]: the keys that a token attended to, by its place in prompt and decode
    steps. unit: a list for all heads (0), of a KV group, or of a head."""
    path = cell_path(results, key)
    with opened(path) as file:
        name = f"layer_{layer:03d}/selection"
        group, decoded = file.get(name), False
        steps = file.get(f"decode/{name}")
        if steps is not None and query >= steps.attrs["n"] - steps.attrs["n_q"]:
            group, decoded = steps, True
        if group is None:
            raise BadResults(f"{path}: found no selection of layer {layer}; it is kept by save")
        n, n_q = int(group.attrs["n"]), int(group.attrs["n_q"])
        if not (n - n_q <= query < n and 0 <= unit < group.attrs["units"]):
            raise BadResults(
                f"{path}: asked query {query} of unit {unit}, found queries {n - n_q} to {n - 1} "
                f"of {group.attrs['units']} units"
            )
        row = query - (n - n_q) if decoded else query // group.attrs["block"] - group.attrs["row0"]
        at = unit * int(group.attrs["rows"]) + int(row)
        return _row(group, slice(*group["indptr"][at : at + 2]), query, unit, row, decoded)


def _row(group, entries, query, unit, row, decoded):
    block, u = int(group.attrs["block"]), np.arange(query + 1)
    part = _lines(group, query, unit, row, decoded)
    found = np.zeros(query + 1, bool)
    of_entry = {
        name: group[name][entries] for name in ("whole", "queries", "keys") if name in group
    }
    for e, j in enumerate(group["indices"][entries]):
        here = u // block == j
        if (
            "whole" not in of_entry
            or of_entry["whole"][e]
            or _bit(of_entry, "queries", e, query % block)
        ):
            found |= here
            continue
        found |= here & part
        for key in np.flatnonzero(here) if "keys" in of_entry else ():
            found[key] |= _bit(of_entry, "keys", e, key % block)
    return found


def _lines(group: h5py.Group, query: int, unit: int, row: int, decoded: bool) -> np.ndarray:
    """What blocks in part keep by window, sink, columns and slashes."""
    u = np.arange(query + 1)
    where = (lambda name: group[name][row]) if decoded else (lambda name: group.attrs[name])
    part = np.zeros(query + 1, bool)
    if "whole" in group:
        part |= (query - u < int(where("window"))) | (u < int(where("sink")))
    if "columns" in group:
        part |= group["columns"][unit, : query + 1] != 0
    if "slashes" in group:
        part |= group["slashes"][unit, : query + 1][::-1] != 0
    return part


def _bit(of_entry: dict, name: str, entry: int, bit: int) -> bool:
    return name in of_entry and bool(int(of_entry[name][entry][bit // 64]) >> int(bit % 64) & 1)
