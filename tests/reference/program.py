"""Runs the built program on tensor bundles and reads what it stored. SWBENCH names the program,
else the release build."""

import functools
import json
import os
import pathlib
import subprocess

import h5py
import numpy as np
import yaml

from . import methods

TESTS = pathlib.Path(__file__).resolve().parent.parent


class RunFailed(Exception):
    """The program is missing or ended with an error; the text says which."""


def program():
    path = pathlib.Path(
        os.environ.get("SWBENCH", TESTS.parent / "build" / "release" / "bin" / "swbench")
    )
    if not path.is_file():
        raise RunFailed(f"no program at {path}: build it, or set SWBENCH")
    return path


@functools.cache
def listed_methods():
    """Names of the methods that this build has, with the phases of each."""
    done = subprocess.run(
        [str(program()), "ls", "methods"], capture_output=True, text=True, timeout=60
    )
    if done.returncode != 0:
        raise RunFailed(f"ls methods: exit {done.returncode}\n{done.stderr[-4000:]}")
    rows = [line.split() for line in done.stdout.splitlines()[1:] if line.strip()]
    return {
        row[0]: {phase for phase, has in zip(("prefill", "decode"), row[1:3]) if has == "yes"}
        for row in rows
    }


def write_bundle(path, layers, decode=None, dtype=np.float32):
    """A tensor bundle: per layer (q [n, H, d], k, v [n, Hkv, d]), and the same for tokens decoded
    after them."""
    n, heads, d = layers[0][0].shape
    with h5py.File(path, "w") as file:
        file.attrs.update(
            {
                "format": "swbench-tensors",
                "version": 1,
                "n_layers": len(layers),
                "n_heads": heads,
                "n_kv_heads": layers[0][1].shape[1],
                "head_dim": d,
            }
        )
        for prefix, part in (("", layers), ("decode/", decode or [])):
            for number, arrays in enumerate(part):
                for name, array in zip("qkv", arrays):
                    file[f"{prefix}layer_{number:03d}/{name}"] = array.astype(dtype)


def run(
    folder,
    bundle,
    method_list,
    density=(0.5,),
    phase=("prefill",),
    dense_layers=0,
    budget="matched",
    seed=1,
):
    """method_list: (name, params) pairs. Runs the program in `folder` and returns the cells."""
    config = {
        "version": 1,
        "name": "test",
        "seed": seed,
        "backend": os.environ.get("SWBENCH_TEST_BACKEND", "cpu"),
        "output": str(folder / "results"),
        "workloads": [{"kind": "tensors", "path": str(bundle)}],
        "axes": {"density": list(density), "phase": list(phase)},
        "methods": [
            {"name": name, "params": params} if params else {"name": name}
            for name, params in method_list
        ],
        "budget": budget,
        "dense_layers": dense_layers,
        "measure": ["recovery", "output_error"],
        "save": ["selection", "output"],
    }
    path = folder / "config.yaml"
    path.write_text(
        yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False)
    )  # a copy without shared parts: no aliases
    done = subprocess.run(
        [str(program()), "run", str(path), "-q"], capture_output=True, text=True, timeout=600
    )
    if done.returncode != 0:
        raise RunFailed(
            f"{path}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return [Cell(cell) for cell in sorted((folder / "results" / "cells").glob("*.h5"))]


def plain(value):
    """A value of an attribute or of params: text becomes the number or truth value that it
    spells."""
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        try:
            value = json.loads(value.lower())
        except ValueError:
            return value
    return value if value is None or isinstance(value, (str, dict)) else float(value)


class Cell:
    """One stored cell."""

    def __init__(self, path):
        self.path = path
        with h5py.File(path) as file:
            self.attributes = {key: plain(value) for key, value in file.attrs.items()}
            text = file.attrs["params"]
            self.params = {key: plain(value) for key, value in json.loads(text).items()}
            self.metrics = {name: read_metric(file, name) for name in file.get("metrics", {})}

    def selection(self, layer, decode):
        """lists[u][row], ascending key blocks."""
        with h5py.File(self.path) as file:
            group = file[f"{'decode/' if decode else ''}layer_{layer:03d}/selection"]
            units, indptr, indices = (
                int(np.ravel(group.attrs["units"])[0]),
                group["indptr"][:],
                group["indices"][:],
            )
        rows = [indices[a:b] for a, b in zip(indptr[:-1], indptr[1:])]
        assert indptr[0] == 0 and indptr[-1] == len(indices) and len(rows) % units == 0
        each = len(rows) // units
        return [rows[u * each : (u + 1) * each] for u in range(units)]

    def output(self, layer, decode):
        with h5py.File(self.path) as file:
            return file[f"{'decode/' if decode else ''}layer_{layer:03d}/output"][:].astype(float)


def read_metric(file, name):
    """{"value", and where they are stored "per_layer" [L] and "per_layer_head" [L, H]}: beside
    /metrics or inside the metric."""
    node, found = file["metrics"][name], {}
    for part in ("per_layer", "per_layer_head"):
        if f"{part}/{name}" in file:
            found[part] = file[f"{part}/{name}"][()]
        elif isinstance(node, h5py.Group) and part in node:
            found[part] = node[part][()]
    value = node["value"] if isinstance(node, h5py.Group) else node
    return {"value": float(np.ravel(value[()])[0]), **found}


def find_cell(cells, name, params, phase, density=None, budget="matched"):
    """The one cell of a method with these params. A parameter that `params` leaves out must have
    its default in the cell."""
    usual = {} if name == "dense" else methods.defaults(name, params, budget)
    wanted = {
        key: plain(value) for key, value in {**usual, **params}.items() if key != "sketch_dim"
    }

    def same(cell):
        if plain(cell.attributes["method"]) != name or cell.attributes["phase"] != phase:
            return False
        if density is not None and abs(cell.attributes["density"] - density) > 1e-9:
            return False
        return all(
            cell.params.get(key, plain(usual.get(key, value))) == value
            for key, value in wanted.items()
        )

    found = [cell for cell in cells if same(cell)]
    if "sketch_dim" in usual:
        found = with_sketch_dim(found, params.get("sketch_dim"), usual["sketch_dim"])
    assert len(found) == 1, (
        f"{len(found)} cells for {name} {params} {phase} {density}; there are "
        + "; ".join(
            f"{c.attributes['method']} {c.params} {c.attributes['phase']} "
            f"{c.attributes.get('density')}"
            for c in cells[:20]
        )
    )
    return found[0]


def with_sketch_dim(cells, asked, usual):
    """A cell may leave out the default, or name it, or 0 for it, or the size that it was fitted
    to."""
    sizes = [cell.params.get("sketch_dim") for cell in cells]
    for size in [asked] if asked else [None, usual, 0, max((s for s in sizes if s), default=None)]:
        if size in sizes:
            return [cell for cell, s in zip(cells, sizes) if s == size]
    return []
