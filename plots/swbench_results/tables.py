"""The tidy table, and values by layer and head."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import h5py
import numpy as np

from swbench_results.cells import BadResults, Cell, cell_path, opened, read_cells, samples
from swbench_results.derived import loss_differences

COLUMNS = (
    "cell",
    "workload",
    "model",
    "task",
    "method",
    "params",
    "backend",
    "device",
    "context",
    "density",
    "phase",
    "seed",
    "metric",
    "layer",
    "value",
    "unit",
    "n",
    "lo",
    "hi",
    "status",
    "reason",
    "budget",
    "dense_layers",
    "experiment",
    "conditions",
    "baseline",
)
# What a row says of a measurement, and what stands there when nothing was measured.
MEASURED = {
    "metric": "",
    "layer": None,  # empty: over all layers
    "value": math.nan,
    "unit": "",
    "n": None,  # empty: not counted
    "lo": math.nan,
    "hi": math.nan,
}
# What it says of its cell: all other columns.
ABOUT = tuple(name for name in COLUMNS if name not in ("cell", *MEASURED))
# A results.h5 of version 0.1 may be without these.
LATER = {
    "budget": "",
    "dense_layers": None,
    "experiment": "",
    "conditions": "",
    "baseline": "fastest",
    "label": "",
}
# Columns of results.h5 alone: what is said of a cell beside the others of its folder.
INDEX_COLUMNS = (*COLUMNS, "label")


def _cell_rows(cell: Cell) -> list[dict]:
    common = {"cell": cell.about["key"]} | {name: cell.about[name] for name in ABOUT}
    if not cell.metrics:  # failed or skipped: one row says so
        return [common | MEASURED]
    rows = []
    for name, metric in cell.metrics.items():
        rows.append(common | MEASURED | metric | {"metric": name, "n": metric["n"] or None})
        rows += [
            common
            | MEASURED
            | {"metric": name, "unit": metric["unit"], "layer": layer, "value": float(value)}
            for layer, value in enumerate(cell.layers.get(name, ()))
            if not math.isnan(value)
        ]
    return rows


def _order(row: dict) -> tuple:
    asked = row["density"]
    return (
        row["workload"],
        row["model"],
        row["task"],
        row["context"],
        row["method"],
        row["params"],
        (math.isnan(asked), 0 if math.isnan(asked) else asked),
        row["phase"],
        row["seed"],
        row["cell"],
        row["metric"],
        -1 if row["layer"] is None else row["layer"],
    )


def _rows(results: str | Path) -> list[dict]:
    rows = [row for cell in read_cells(results) for row in _cell_rows(cell)]
    rows += loss_differences(rows, cache(lambda key: samples(results, key, "nll")))
    return sorted(rows, key=_order)


def read_index(results: str | Path) -> dict[str, list]:
    """The columns of results.h5, which `swbench run` writes when it ends: quick, where a folder has
    many cells. Empty layers and counts are None."""
    path = Path(results)
    path = path / "results.h5" if path.is_dir() else path
    if not path.exists():
        raise BadResults(f"{path}: not there; expected the result folder of `swbench run`")
    with opened(path) as file:
        if "tidy" not in file:
            raise BadResults(f"{path}: has no /tidy; expected the results.h5 of `swbench run`")
        found = file["tidy"]
        columns = {
            name: _column(found[name])
            for name in INDEX_COLUMNS
            if name in found or name not in LATER
        }
    columns |= {
        name: [empty] * len(columns["cell"]) for name, empty in LATER.items() if name not in columns
    }
    columns["layer"] = [None if v < 0 else v for v in columns["layer"]]
    columns["n"] = [None if v == 0 else v for v in columns["n"]]
    return columns


def _column(dataset: h5py.Dataset) -> list:
    if h5py.check_string_dtype(dataset.dtype):
        return [s.decode("utf-8", "replace").rstrip("\0") for s in dataset[:]]
    return dataset[:].tolist()


def tidy(results: str | Path, index: bool = False):
    """One row a (cell, metric[, layer]) as a pandas DataFrame: the rows, values and order of
    `swbench export`. `layer` is empty for values over all layers, `n` where nothing was counted; a
    cell that failed or was skipped has one row without metric. index: from results.h5 instead of
    the cells, as of the end of the last run."""
    import pandas as pd

    if index:
        columns = read_index(results)
    else:
        rows = _rows(results)
        columns = {name: [row[name] for row in rows] for name in COLUMNS}
    kinds = (
        dict.fromkeys(("layer", "n"), "Int64")
        | {"context": "int64", "seed": "int64"}
        | dict.fromkeys(("density", "value", "lo", "hi"), "float64")
    )
    return pd.DataFrame(
        {name: pd.Series(columns[name], dtype=kinds.get(name, object)) for name in COLUMNS}
    )


def layers(results: str | Path, metric: str, heads: bool = False):
    """A metric by layer as an xarray.DataArray over `cell` and `layer`, and `head` if asked, with
    what was run as coordinates along `cell`. Cells that have no such values are left out; NaN where
    a layer has none, such as layers that stay dense. Needs xarray."""
    try:
        import xarray
    except ImportError:
        raise ImportError("swbench_results.layers needs xarray: pip install xarray") from None

    found: list[tuple[Cell, np.ndarray]] = []
    unit = ""
    for cell in read_cells(results):
        values = _heads(results, cell, metric) if heads else cell.layers.get(metric)
        if values is not None:
            found.append((cell, values))
            unit = cell.metrics[metric]["unit"] if metric in cell.metrics else unit
    if not found:
        raise BadResults(f"{results}: no cell has {metric} by {'head' if heads else 'layer'}")
    most = np.max([values.shape for _, values in found], axis=0)
    whole = np.full((len(found), *most), np.nan)
    for i, (_, values) in enumerate(found):
        whole[(i, *(slice(size) for size in values.shape))] = values
    dims = ("cell", "layer", "head")[: whole.ndim]
    coordinates = {
        "cell": [cell.about["key"] for cell, _ in found],
        **{name: np.arange(size) for name, size in zip(dims[1:], most)},
    }
    coordinates |= {
        name: ("cell", [cell.about[name] for cell, _ in found])
        for name in ABOUT
        if name not in ("status", "reason")
    }
    return xarray.DataArray(whole, coordinates, dims, name=metric, attrs={"units": unit})


def _heads(results: str | Path, cell: Cell, metric: str) -> np.ndarray | None:
    with opened(cell_path(results, cell.about["key"])) as file:
        found = file.get(f"per_layer_head/{metric}")
        return found[:] if isinstance(found, h5py.Dataset) else None
