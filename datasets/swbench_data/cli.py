"""What the programs of this folder share: one-line errors, hashes, and files that are never
half-written."""

import contextlib
import difflib
import hashlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
DATASETS = ROOT / "datasets"
EXTERNAL = DATASETS / "external"  # where published benchmark files belong


class InputError(Exception):
    """Something the user gave is wrong. The message says where, what was found and what was
    expected."""


def run(program: str) -> NoReturn:
    """Runs swbench_data.PROGRAM's main() and turns what can go wrong into an exit code and one line
    on stderr."""
    try:
        main = importlib.import_module(f"swbench_data.{program}").main
    except ModuleNotFoundError as error:  # outside the environment that `bootstrap` makes
        print(
            f"{program}: Python package {error.name} is missing: run ./bootstrap, then "
            f".venv/bin/python datasets/{program}.py",
            file=sys.stderr,
        )
        sys.exit(2)
    # A termination request unwinds like an interrupt does, so that temporary files go away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except InputError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{program}: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except MemoryError:
        print(f"{program}: out of memory, nothing half-written is left", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{program}: interrupted, nothing half-written is left", file=sys.stderr)
        sys.exit(130)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare_place(path: Path) -> None:
    """Makes the parent of `path`, and removes what a killed run left there more than a day ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{path.name}.*"):
        with contextlib.suppress(OSError):  # another run may be doing the same
            if time.time() - leftover.stat().st_mtime > 86400:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`; renames it to `path` when the block ends well."""
    prepare_place(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        yield Path(temporary)
        os.chmod(temporary, 0o644)
        sync(temporary)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; puts it in the place of `path` when the block ends
    well."""
    prepare_place(path)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    replaced = temporary.with_name(temporary.name + ".old")
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        for file in temporary.iterdir():
            sync(file)
        if path.exists():
            os.rename(path, replaced)  # a folder cannot be renamed onto a full one
        os.rename(temporary, path)
    finally:
        for leftover in (temporary, replaced):
            shutil.rmtree(leftover, ignore_errors=True)


def sync(path: Path) -> None:
    """Data reaches the disk before the rename that makes it visible."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
