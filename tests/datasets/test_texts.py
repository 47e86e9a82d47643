"""The R reader and the path from a package file to austen.txt, on a small package made here; no
network."""

import gzip
import shutil
import struct
import subprocess
import zlib

import pytest

from swbench_data import rdata, texts
from swbench_data.cli import InputError

HEADER = b"X\n" + struct.pack(">III", 3, 0x40201, 0x30500) + struct.pack(">I", 5) + b"UTF-8"


def r_string(text):
    data = text.encode()
    return struct.pack(">II", 0x40009, len(data)) + data


def r_strings(values, flags=16):
    return struct.pack(">II", flags, len(values)) + b"".join(map(r_string, values))


def r_names(names):
    """The attribute pairlist of a named list."""
    return (
        struct.pack(">II", 0x402, 1) + r_string("names") + r_strings(names) + struct.pack(">I", 254)
    )


def r_named_list(items):
    return struct.pack(">II", 0x213, len(items)) + b"".join(items.values()) + r_names(list(items))


def write_database(base, vectors):
    database, places = b"", {}
    for name, lines in vectors.items():
        body = HEADER + r_strings(lines)
        chunk = struct.pack(">I", len(body)) + zlib.compress(body)
        places[name] = struct.pack(">IIii", 13, 2, len(database), len(chunk))
        database += chunk
    base.with_suffix(".rdb").write_bytes(database)
    base.with_suffix(".rdx").write_bytes(
        gzip.compress(
            HEADER
            + r_named_list(
                {"variables": r_named_list(places), "references": struct.pack(">I", 254)}
            )
        )
    )


@pytest.fixture
def database(tmp_path):
    write_database(
        tmp_path / "Rdata",
        {
            name: [title.upper(), "", "A line", "of 5 £.", "", "", "End."]
            for name, title in texts.NOVELS.items()
        },
    )
    return tmp_path / "Rdata"


def test_r_database(database):
    vectors = rdata.character_vectors(database)
    assert list(vectors) == list(texts.NOVELS)
    assert vectors["emma"] == ["EMMA", "", "A line", "of 5 £.", "", "", "End."]


@pytest.mark.parametrize("suffix", [".rdx", ".rdb"])
def test_damaged_r_database(database, suffix):
    path = database.with_suffix(suffix)
    data = path.read_bytes()
    for end in range(0, len(data) - 1, 7):
        path.write_bytes(data[:end])
        with pytest.raises(InputError):
            rdata.character_vectors(database)


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no dpkg-deb on this machine")
def test_from_package_to_text(database, tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    place = (tree / texts.DATABASE).parent
    place.mkdir(parents=True)
    for suffix in (".rdb", ".rdx"):
        shutil.copy(database.with_suffix(suffix), place)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        f"Package: {texts.PACKAGE}\nVersion: 9\nArchitecture: all\n"
        f"Maintainer: Test <t@example.org>\nDescription: test\n"
    )
    folder = tmp_path / "texts"
    folder.mkdir()
    subprocess.run(
        ["dpkg-deb", "--build", tree, folder / f"{texts.PACKAGE}_9_all.deb"],
        check=True,
        capture_output=True,
    )
    path = texts.austen(folder)
    text = path.read_text()
    assert (
        text.startswith("SENSE AND SENSIBILITY\n\nA line of 5 £.\n\nEnd.\n\n")
        and text.count("End.") == 6
    )
    (folder / f"{texts.PACKAGE}_9_all.deb").unlink()
    monkeypatch.setattr(
        texts, "find_package", lambda folder: pytest.fail("the text is there already")
    )
    assert texts.austen(folder) == path


def test_no_package_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="--text FILE"):
        texts.austen(tmp_path)
