"""Cell files of a result folder, and which of them count."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np


class BadResults(Exception):
    """What is there cannot be read; the message is one line."""


@dataclass
class Cell:
    """One cell file: what was run, and the values over all layers and by layer."""

    path: Path
    about: dict  # key and what was run: TEXTS, context, seed, density, dense_layers
    metrics: dict[str, dict]  # name -> value, unit, n, lo, hi
    layers: dict[str, np.ndarray]  # name -> [layers]; NaN: the layer has none
    experiment: str  # the same for cells that differ in the code's version alone
    ended: str


TEXTS = (
    "key",
    "workload",
    "model",
    "task",
    "method",
    "params",
    "backend",
    "device",
    "phase",
    "status",
    "reason",
    "budget",
)


@contextmanager
def opened(path: Path):
    """An HDF5 file; whatever goes wrong in it is one line that names it."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except BadResults:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise BadResults(f"{path}: cannot be read: {reason}") from None


def text(value) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def cell_files(results: str | Path) -> list[Path]:
    results = Path(results)
    if results.name == "results.h5":
        results = results.parent
    if not results.is_dir():
        if not results.exists():
            raise BadResults(f"{results}: not there; expected a result folder")
        return [results]
    if not (results / "cells").is_dir():
        raise BadResults(f"{results}: found no cells/ in it, expected a result folder")
    return sorted(
        p for p in (results / "cells").iterdir() if p.suffix == ".h5" and not p.name.startswith(".")
    )


def read_cell(path: Path) -> Cell:
    with opened(path) as file:
        if text(file.attrs.get("format", "")) != "swbench-cell" or file.attrs["version"] != 1:
            raise BadResults(f"{path}: found another format than swbench-cell, version 1")
        about = {name: text(file.attrs[name]) for name in TEXTS}
        about |= {
            "context": int(file.attrs["context"]),
            "seed": int(file.attrs["seed"]),
            "density": float(file.attrs["density"]),
            "dense_layers": int(file.attrs["dense_layers"]),
        }
        # hashes that swbench makes; cells of version 0.1 are without them
        about |= {name: text(file.attrs.get(name, "")) for name in ("experiment", "conditions")}
        about["baseline"] = text(file.attrs.get("baseline", "fastest"))
        metrics = {}
        for name, value in file.get("metrics", {}).items():
            a = value.attrs
            metrics[name] = {
                "value": float(value[()]),
                "unit": text(a["units"]),
                "n": int(a["n"]),
                "lo": float(a["lo"]),
                "hi": float(a["hi"]),
            }
        layers = {name: values[:] for name, values in file.get("per_layer", {}).items()}
        experiment, ended = _experiment(file, about["key"])
        experiment = about["experiment"] or experiment
        return Cell(path, about, metrics, layers, experiment, ended)


def _experiment(file: h5py.File, key: str) -> tuple[str, str]:
    """The cell's identity without the code's version; the key where that is not known."""
    provenance = file.get("provenance")
    if provenance is None or "identity" not in provenance.attrs or "ended" not in provenance.attrs:
        return key, ""
    ended = text(provenance.attrs["ended"])
    try:
        identity = json.loads(text(provenance.attrs["identity"]))
    except json.JSONDecodeError:
        return key, ended
    if not isinstance(identity, dict) or "code" not in identity:
        return key, ended
    del identity["code"]
    return json.dumps(identity, sort_keys=True), ended


def read_cells(results: str | Path) -> list[Cell]:
    """All cells in the order of their files. Of cells that differ in the code's version alone the
    newest counts, as for `swbench export`."""
    cells = [read_cell(path) for path in cell_files(results)]
    newest: dict[str, Cell] = {}
    for cell in cells:
        other = newest.get(cell.experiment)
        if other is None or cell.ended >= other.ended:  # UTC in ISO 8601 sorts as text
            newest[cell.experiment] = cell
    return [cell for cell in cells if newest[cell.experiment] is cell]


def cell_path(results: str | Path, key: str) -> Path:
    results = Path(results)
    if results.name == "results.h5":
        results = results.parent
    return results / "cells" / f"{key}.h5" if results.is_dir() else results


def samples(results: str | Path, key: str, metric: str) -> np.ndarray:
    """The raw values behind a metric of one cell, in the metric's unit; empty where none were
    kept."""
    with opened(cell_path(results, key)) as file:
        found = file.get(f"samples/{metric}")
        return found[:] if isinstance(found, h5py.Dataset) and found.ndim == 1 else np.empty(0)
