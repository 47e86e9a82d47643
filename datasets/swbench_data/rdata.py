"""Reads character vectors from the lazy-load database of an R data package, with the standard
library only.

NAME.rdx is a gzip-compressed R object: a list (variables, references, compressed), where variables
maps a name to (offset, length) in NAME.rdb. NAME.rdb holds one R object after the other, each as
four bytes of big-endian uncompressed length followed by a zlib stream. Objects are in R's XDR
serialisation ("R Internals", section 1.8), of which only what a list or a character vector needs is
read here.
"""

import gzip
import struct
import zlib
from pathlib import Path

from swbench_data.cli import InputError

NILVALUE, ALTREP, ATTRLISTSXP = 254, 238, 239
SYMSXP, LISTSXP, CHARSXP, LGLSXP, INTSXP, REALSXP, STRSXP, VECSXP, REFSXP = (
    1,
    2,
    9,
    10,
    13,
    14,
    16,
    19,
    255,
)
HAS_ATTRIBUTES, HAS_TAG = 1 << 9, 1 << 10
NA_LENGTH = 0xFFFFFFFF


class Reader:
    def __init__(self, data):
        self.data, self.at, self.symbols = data, 0, []
        if self.take(2) != b"X\n":
            raise ValueError("not in R's XDR serialisation")
        version = self.word()
        self.at += 8  # versions of R that wrote it and that can read it
        if version == 3:
            self.take(self.word())  # native encoding
        elif version != 2:
            raise ValueError(f"serialisation version {version}")

    def take(self, count):
        piece = self.data[self.at : self.at + count]
        if len(piece) != count:
            raise ValueError("ends too early")
        self.at += count
        return piece

    def word(self):
        return struct.unpack(">I", self.take(4))[0]

    def item(self):
        """One object: list, str, number list, or None; attributes other than names are read and
        dropped."""
        flags = self.word()
        kind = flags & 0xFF
        if kind == NILVALUE:
            return None
        if kind == REFSXP:
            return self.symbols[(flags >> 8) - 1]
        if kind == SYMSXP:
            self.symbols.append(self.item())
            return self.symbols[-1]
        if kind == CHARSXP:
            length = self.word()
            return "" if length == NA_LENGTH else self.take(length).decode("utf-8")
        if kind in (LISTSXP, ATTRLISTSXP):
            return self.pairs(flags)
        if kind in (LGLSXP, INTSXP):
            count = self.word()
            values = list(struct.unpack(f">{count}i", self.take(4 * count)))
        elif kind == REALSXP:
            count = self.word()
            values = list(struct.unpack(f">{count}d", self.take(8 * count)))
        elif kind in (STRSXP, VECSXP):
            values = [self.item() for _ in range(self.word())]
        else:
            raise ValueError(f"object type {kind} is not read here")
        attributes = self.item() if flags & HAS_ATTRIBUTES else None
        names = (attributes or {}).get("names")
        return dict(zip(names, values)) if names else values

    def pairs(self, flags):
        """A pairlist as a dictionary: car after car until the end."""
        found = {}
        while flags & 0xFF != NILVALUE:
            if flags & HAS_ATTRIBUTES:
                self.item()
            tag = self.item() if flags & HAS_TAG else None
            found[tag] = self.item()
            flags = self.word()
        return found


def character_vectors(base):
    """{name: list of str} of every variable in BASE.rdx and BASE.rdb."""
    base = Path(base)
    try:
        index = Reader(gzip.decompress(base.with_suffix(".rdx").read_bytes())).item()
        database = base.with_suffix(".rdb").read_bytes()
        vectors = {}
        for name, (offset, length) in index["variables"].items():
            chunk = database[offset : offset + length]
            vectors[name] = Reader(zlib.decompress(chunk[4:])).item()
            if not isinstance(vectors[name], list) or not all(
                isinstance(line, str) for line in vectors[name]
            ):
                raise ValueError(f"{name} is not a character vector")
        return vectors
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        EOFError,
        struct.error,
        zlib.error,
        RecursionError,
    ) as error:
        raise InputError(
            f"{base.name}: {error}, expected the lazy-load database of an R data package"
        ) from None
