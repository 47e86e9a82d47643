"""MInference (prefill; decode is dense). Three patterns, one for all heads here; a list is a head's
own.

Left open by the description and taken so: a pattern without choices (a_shape) still gives one list
a head; token_mask concerns vertical_slash and a_shape, block_sparse ignores it; a token mask's
lists are the blocks of which the row keeps any pair."""

import math

import numpy as np

from .. import lines, selection
from ..base import Method
from ..blocks import best_of
from ..sketch import block_logits

FIRST_COLUMNS, FIRST_OFFSETS = 30, 100  # always kept


class MInference(Method):
    phases = ("prefill",)

    @property
    def looks_ahead(self):
        lines_of_the_end = self.params["pattern"] == "vertical_slash"
        return "columns and diagonals of the last queries" if lines_of_the_end else ""

    defaults = {
        "pattern": "vertical_slash",
        "vertical_size": 512,
        "slash_size": 2048,
        "last_queries": 64,
        "init_tokens": 128,
        "local_tokens": 3968,
        "top_blocks": 100,
        "token_mask": False,
        "form": "lines",
        "scale": 1.0,
    }

    native_defaults = {"form": "kernel", "token_mask": True}

    def prefill(self, layer):
        q, k, _ = self.tensors.layers[layer]
        if self.params["pattern"] == "block_sparse":
            return block_logits(q, k, self.block)
        if self.params["pattern"] == "a_shape":
            return np.broadcast_to(
                np.arange(self.blocks(), dtype=float),
                (self.tensors.heads, self.blocks(), self.blocks()),
            )
        return lines.block_scores(self.last_rows(layer), self.block)

    def native_prefill(self, layer):
        rule = {
            "vertical_slash": self.vertical_slash,
            "a_shape": self.a_shape,
            "block_sparse": self.block_sparse,
        }
        return rule[self.params["pattern"]](layer)

    def last_rows(self, layer):
        return lines.last_rows(*self.tensors.layers[layer][:2], self.params["last_queries"])

    def sizes(self):
        """How many columns and diagonals are kept."""
        n, scale = self.tensors.n, self.params["scale"]
        return [
            min(n, max(math.floor(self.params[name] * scale + 0.5), least))
            for name, least in (("vertical_size", FIRST_COLUMNS), ("slash_size", FIRST_OFFSETS))
        ]

    def kept_lines(self, v, s):
        """Columns and diagonals of one head, and the nearest decision. Ties: the later key, which
        is the smaller offset."""
        n_columns, n_diagonals = self.sizes()
        n = len(v)
        kept, gap = best_of(v, n_columns, range(min(n, FIRST_COLUMNS)))
        offsets, other = best_of(s, n_diagonals, range(min(n, FIRST_OFFSETS)), earlier_first=True)
        return kept, offsets, min(gap, other)

    def vertical_slash(self, layer):
        a, n = self.last_rows(layer), self.tensors.n
        heads = [self.kept_lines(v, s) for v, s in zip(lines.columns(a), lines.diagonals(a))]

        if self.params["form"] == "kernel":
            return self.by_kernel(heads)

        def met(offsets):
            return lambda i: set().union(
                *(lines.offset_blocks(i, int(d), self.block) for d in offsets)
            )

        blocks = lines.line_lists(
            [
                ({int(u) // self.block for u in kept}, met(offsets), margin)
                for kept, offsets, margin in heads
            ],
            self.block,
            n,
        )
        if not self.params["token_mask"]:
            return blocks
        t, u = np.arange(n)[:, None], np.arange(n)
        mask = np.stack(
            [(np.isin(u, kept) | np.isin(t - u, offsets)) & (u <= t) for kept, offsets, _ in heads]
        )
        return self.from_mask(mask, [margin for *_, margin in heads], blocks.lists)

    def by_kernel(self, heads):
        """What the released kernel reads. A tile of 64 queries (of a block where that is larger)
        that ends before token e takes slash δ as the keys [e - δ - 64, e - δ), from the farthest
        slash on; one that begins within 64 keys after the range so far lengthens it by 64."""
        n, tile = self.tensors.n, max(64, self.block)

        def read(kept, offsets, t):
            e = (t // tile + 1) * tile
            ends = np.sort([max(e - d, tile) for d in offsets if d < e])
            ranges = []
            for end in ends:
                if not ranges or end > ranges[-1][1] + tile:
                    ranges.append([end - tile, end])
                elif end > ranges[-1][1]:
                    ranges[-1][1] += tile
            keys = np.isin(np.arange(n), kept)
            for begin, end in ranges:
                keys[begin:end] = True
            return keys & (np.arange(n) <= t)

        mask = np.stack([[read(v, s, t) for t in range(n)] for v, s, _ in heads])
        first, last = selection.prefill_rows(n, self.block)
        # Blocks that the tile reads, up to the row's own, whether or not a query may see the keys.
        lists = [
            [
                np.unique(
                    np.append(
                        np.flatnonzero(unit[f : t + 1].any(axis=0)) // self.block, t // self.block
                    )
                )
                for f, t in zip(first, last)
            ]
            for unit in mask
        ]
        margins = [margin for *_, margin in heads]
        if self.params["token_mask"]:
            return self.from_mask(mask, margins, lists)
        margin = [[m] * len(first) for m in margins]
        return selection.Selection(self.block, lists, first, last, margin=margin)

    def a_shape(self, layer):
        n, heads, block = self.tensors.n, self.tensors.heads, self.block
        init, local = self.params["init_tokens"], self.params["local_tokens"]
        if self.params["token_mask"]:
            t, u = np.arange(n)[:, None], np.arange(n)
            mask = ((u < init) | (t - u < local)) & (u <= t)
            columns, offsets = set(range(-(-init // block))), range(min(local, n))
            blocks = lines.line_lists(
                [
                    (
                        columns,
                        lambda i: set().union(*(lines.offset_blocks(i, d, block) for d in offsets)),
                        np.inf,
                    )
                ]
                * heads,
                block,
                n,
            )
            return self.from_mask(
                np.broadcast_to(mask, (heads, n, n)), [np.inf] * heads, blocks.lists
            )

        def met(i):
            return set(range(max(0, i * block - local + 1) // block, i + 1))

        return lines.line_lists([(range(-(-init // block)), met, np.inf)] * heads, block, n)

    def from_mask(self, mask, margins, lists):
        """The pairs of a mask inside the lists of its columns and diagonals as blocks."""
        rows = selection.prefill_rows(self.tensors.n, self.block)
        return selection.by_pairs(
            mask, [[margin] * len(rows[0]) for margin in margins], self.block, *rows, lists=lists
        )

    def block_sparse(self, layer):
        """The best blocks of each row without any forced one; a diagonal that is not among them
        comes on top."""
        logits, rows = self.prefill(layer), selection.prefill_rows(self.tensors.n, self.block)
        chosen = [
            [best_of(unit[i, : i + 1], self.params["top_blocks"]) for i in range(len(unit))]
            for unit in logits
        ]
        return selection.Selection(
            self.block,
            [[np.union1d(row, [i]) for i, (row, _) in enumerate(unit)] for unit in chosen],
            *rows,
            margin=[[margin for _, margin in unit] for unit in chosen],
        )


REFERENCE = MInference
VARIATIONS = [{"last_queries": 20}, {"pattern": "block_sparse"}, {"pattern": "a_shape"}]
LINES = {"vertical_size": 40, "slash_size": 110}
A_SHAPE = {"pattern": "a_shape", "init_tokens": 20, "local_tokens": 50}
BLOCKS = {"form": "lines", "token_mask": False}
NATIVE_VARIATIONS = [
    LINES,
    {**LINES, "token_mask": False},
    {**LINES, **BLOCKS},
    {**LINES, "form": "lines"},
    {**LINES, **BLOCKS, "scale": 1.5},
    {**LINES, "scale": 0.4},
    {**LINES, **BLOCKS, "last_queries": 20},
    {"pattern": "block_sparse", "top_blocks": 4},
    {**A_SHAPE, "token_mask": False},
    A_SHAPE,
]
