"""Reading benchmark files that users bring: anything can be in them."""

import json

from swbench_data import cli
from swbench_data.cli import InputError

LARGEST_FILE = 2 << 30
LARGEST_LINE = 64 << 20


def read_json(path):
    """The document in a JSON file, and the file's SHA-256."""
    require_size(path)
    data = path.read_bytes()
    return parse(data, path), cli.sha256_bytes(data)


def json_lines(path):
    """(place, object) of each line that is not empty; place is file:line."""
    require_size(path)
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(LARGEST_LINE + 1):
            number += 1
            place = f"{path}:{number}"
            if len(line) > LARGEST_LINE:
                raise InputError(
                    f"{place}: more than {LARGEST_LINE >> 20} MiB, expected one sample a line"
                )
            if line.strip():
                yield place, parse(line.rstrip(), place)


def require_size(path):
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise InputError(f"{path}: has {size} bytes, expected at most {LARGEST_FILE}")


def parse(data, place):
    def each_once(pairs):
        if len(mapping := dict(pairs)) < len(pairs):
            names = [name for name, _ in pairs]
            raise InputError(
                f"{place}: {shown(next(name for name in names if names.count(name) > 1))} is "
                "there twice in an object, expected each key once"
            )
        return mapping

    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=each_once)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place}: byte {error.start} is not UTF-8, expected JSON in UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise InputError(
            f"{place}: {error.msg} at {line}column {error.colno}, expected JSON"
        ) from None
    except RecursionError:
        raise InputError(f"{place}: nested too deep, expected JSON of a benchmark") from None
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"{place}: {error}, expected JSON of a benchmark") from None


def get(mapping, key, kind, place):
    """mapping[key], checked; texts also for what neither a tokenizer nor HDF5 takes."""
    if not isinstance(mapping, dict):
        raise InputError(f"{place}: {shown(mapping)}, expected an object with {key!r}")
    if key not in mapping:
        raise InputError(f"{place}: {key!r} is missing, expected {NAMES[kind]}")
    value = mapping[key]
    check(value, kind, f"{place}: {key!r}")
    return value


def check(value, kind, place):
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"{place} is {shown(value)}, expected {NAMES[kind]}")
    if kind is str and (
        "\0" in value or any("\ud800" <= character <= "\udfff" for character in value)
    ):
        raise InputError(f"{place} has a NUL or half a surrogate pair, expected text")


NAMES = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}


def shown(value):
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
