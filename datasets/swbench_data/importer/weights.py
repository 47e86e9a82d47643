"""safetensors files: checked reading, and writing one tensor at a time so that a model need not fit
in memory."""

import json
import struct

import numpy as np
import safetensors

from swbench_data.cli import InputError

SUFFIX = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


class SafetensorsFile:
    """Header of one safetensors file, checked by the safetensors library, and its data mapped."""

    def __init__(self, path):
        self.path = path
        try:
            with safetensors.safe_open(str(path), framework="numpy"):
                pass  # the library checks lengths, offsets and overlaps
        except FileNotFoundError:
            raise
        except Exception as error:
            raise InputError(
                f"{path.name}: {' '.join(str(error).split())}, expected a complete safetensors file"
            ) from None
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        self.metadata = header.pop("__metadata__", {})
        self.entries = header
        self.shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
        self.data = np.memmap(path, mode="r", offset=8 + length) if header else None
        for name, entry in header.items():
            if entry["dtype"] not in SUFFIX:
                raise InputError(
                    f"{path.name}: tensor {name} has dtype {entry['dtype']}, "
                    f"expected one of: {', '.join(SUFFIX)}"
                )

    def dtypes(self):
        return {SUFFIX[entry["dtype"]] for entry in self.entries.values()}

    def read_f32(self, name):
        entry = self.entries[name]
        begin, end = entry["data_offsets"]
        raw = self.data[begin:end]
        if entry["dtype"] == "BF16":
            values = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = raw.view("<f4" if entry["dtype"] == "F32" else "<f2").astype(np.float32)
        return values.reshape(entry["shape"])


def encode(values, dtype):
    """Little-endian bytes of a float32 array in the dtype; overflow of f16 is an error, not an
    infinity."""
    if dtype == "f32":
        return np.ascontiguousarray(values, "<f4")
    if dtype == "f16":
        if values.size and np.abs(values).max() > np.finfo(np.float16).max:
            raise InputError(
                "weights are larger than float16 can hold, expected --dtype f32 or bf16"
            )
        return np.ascontiguousarray(values, "<f2")
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    # Round to nearest, ties to even; the weights are known to be finite.
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def write_weights(path, specs, read_f32, dtype, where):
    """Writes the tensors of `specs`; read_f32(spec) gives each, only when its turn comes."""
    item = 4 if dtype == "f32" else 2
    code = {value: key for key, value in SUFFIX.items()}[dtype]
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for spec in specs:
        size = item * int(np.prod(spec.shape, dtype=np.int64))
        header[spec.hf_name] = {
            "dtype": code,
            "shape": list(spec.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)  # the data starts on a cache line when mapped
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for spec in specs:
            values = read_f32(spec)
            if not np.isfinite(values).all():
                raise InputError(
                    f"{where}: tensor {spec.hf_name} holds NaN or infinity, expected finite weights"
                )
            file.write(encode(values, dtype).data)


def write_arrays(path, arrays, metadata=None):
    """A small safetensors file of numpy arrays, by the library."""
    from safetensors.numpy import save_file

    save_file(arrays, str(path), metadata=metadata)
    path.chmod(0o644)  # the library makes it readable by the owner only
