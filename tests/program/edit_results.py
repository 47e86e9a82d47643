"""Changes stored cells for tests: opens one for writing, then renews the checksum in its first
line, as harness/store/h5_file.h describes it."""

import contextlib
import ctypes
import ctypes.util
import pathlib

import h5py
import numpy as np

HEADER = 512
xxhash = ctypes.CDLL(ctypes.util.find_library("xxhash") or "libxxhash.so.0")
xxhash.XXH3_64bits.restype = ctypes.c_uint64
xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def seal(path):
    data = pathlib.Path(path).read_bytes()[HEADER:]
    line = (
        f"swbench HDF5 file: xxh3-64 {xxhash.XXH3_64bits(data, len(data)):016x} of the "
        f"{len(data)} bytes from byte {HEADER} on, where HDF5 begins (readers find it there)\n"
    )
    with open(path, "r+b") as file:
        file.write(line.encode().ljust(HEADER, b"\0"))


@contextlib.contextmanager
def edited(path):
    with h5py.File(path, "r+") as file:
        yield file
    seal(path)


def cells(folder, **wanted):
    """Paths of the cells whose attributes are as wanted, in the order of what they are: names of
    files change with the code."""
    found = []
    for path in (pathlib.Path(folder) / "cells").glob("*.h5"):
        with h5py.File(path) as file:
            if all(file.attrs[name] == value for name, value in wanted.items()):
                found.append(
                    (
                        [
                            str(file.attrs[name])
                            for name in ("task", "method", "params", "phase", "density")
                        ],
                        path.name,
                        path,
                    )
                )
    return [path for *_, path in sorted(found)]


def set_samples(file, metric, values, value=None):
    """Raw samples of a metric, and with them its value."""
    name = f"samples/{metric}"
    if name in file:
        del file[name]
    file[name] = np.asarray(values, np.float64)
    file[f"metrics/{metric}"][()] = np.median(values) if value is None else value


def set_identity(file, **changes):
    """Changes members of the identity; the hashes made of it go, as in cells of older versions."""
    import json

    identity = json.loads(file["provenance"].attrs["identity"])
    identity.update(changes)
    del file["provenance"].attrs["identity"]
    file["provenance"].attrs.create(
        "identity", json.dumps(identity), dtype=h5py.string_dtype("utf-8")
    )
    for name in ("experiment", "conditions"):
        if name in file.attrs:
            del file.attrs[name]


def set_text(node, name, value):
    del node.attrs[name]
    node.attrs.create(name, value, dtype=h5py.string_dtype("utf-8"))
