"""Which key blocks each row keeps, as lists and as token masks, and what that costs."""

from dataclasses import dataclass, field

import numpy as np

from .blocks import block_count, select


@dataclass
class Selection:
    """lists[u][r]: ascending key blocks of row r. Row r holds the query tokens first[r] ... last[r]
    of block row_block[r]."""

    block: int
    lists: list
    first: np.ndarray
    last: np.ndarray
    scores: list = None  # [u][r] -> scores of blocks 0 ... row_block[r]
    threshold: list = None  # [u][r]: where blocks are kept by a threshold and not by a count
    whole: list = (
        None  # [u][r]: bool per list entry; others keep only the pairs t - u < window or u < sink
    )
    window: list = field(default_factory=list)  # per row, tokens
    sink: list = field(default_factory=list)
    # [u][r] -> bool [query tokens, keys]: where single tokens are chosen; lists are then the blocks
    # to fetch
    pairs: list = None
    # [u][r] -> how nearly, relatively, a decision went the other way (one figure, or one a query
    # token)
    margin: list = None

    free_diagonal: bool = False  # a row may lack its own block
    free_token: bool = False  # a query may lack its own key, though its block is listed

    @property
    def units(self):
        return len(self.lists)

    @property
    def rows(self):
        return len(self.first)

    def row_block(self, r):
        return int(self.last[r]) // self.block

    def mask(self, u, r, n):
        """Kept pairs of the row's queries with the n keys."""
        t, key = np.arange(self.first[r], self.last[r] + 1)[:, None], np.arange(n)
        if self.pairs is not None:
            return np.pad(self.pairs[u][r], ((0, 0), (0, n - self.pairs[u][r].shape[1])))
        kept = np.zeros(block_count(n, self.block), bool)
        if self.whole is None:
            kept[self.lists[u][r]] = True
            return kept[key // self.block] & (key <= t)
        kept[self.lists[u][r][self.whole[u][r]]] = True
        part = (t - key < self.window[r]) | (key < self.sink[r])
        return (kept[key // self.block] | part) & (key <= t)

    def token_mask(self, n):
        """[U, query tokens, n]."""
        return np.stack(
            [
                np.concatenate([self.mask(u, r, n) for r in range(self.rows)])
                for u in range(self.units)
            ]
        )


def prefill_rows(n, block):
    first = np.arange(0, n, block)
    return first, np.minimum(first + block, n) - 1


def decode_rows(n, steps):
    return n + np.arange(steps), n + np.arange(steps)


def full(block, first, last):
    return Selection(block, [[np.arange(t // block + 1) for t in last]], first, last)


def by_budget(scores, budget, block, first, last, sink=1, local=2):
    """scores[u][r] covers blocks 0 ... row_block[r] at least; budget[r] counts off-diagonal
    blocks."""
    lists = [
        [select(scores[u][r], t // block, budget[r], sink, local) for r, t in enumerate(last)]
        for u in range(len(scores))
    ]
    return Selection(block, lists, first, last, scores=scores)


def by_pairs(mask, margin, block, first, last, lists=None):
    """mask [U, n, n]: the kept pairs of all tokens. lists: the blocks that are fetched; None: those
    of which a row keeps anything, and the diagonal."""
    pairs = [[unit[f : t + 1] for f, t in zip(first, last)] for unit in mask]
    if lists is None:
        lists = [
            [
                np.union1d(np.flatnonzero(row.any(axis=0)) // block, [t // block])
                for row, t in zip(rows, last)
            ]
            for rows in pairs
        ]
    return Selection(block, lists, first, last, pairs=pairs, margin=margin)


def density(selection):
    """Per unit: kept pairs / causal pairs of all rows together (prefill), and the mean of the rows'
    own shares (decode)."""
    n = int(selection.last[-1]) + 1
    causal = np.array([sum(range(f + 1, t + 2)) for f, t in zip(selection.first, selection.last)])
    kept = np.array(
        [
            [selection.mask(u, r, n).sum() for r in range(selection.rows)]
            for u in range(selection.units)
        ]
    )
    return kept.sum(axis=1) / causal.sum(), (kept / causal).mean(axis=1)


def kv_fetch_density(selection, heads, kv_heads):
    """Share of the causal blocks that the heads of one KV group read together, averaged over groups
    and rows."""
    shares = []
    for group in range(kv_heads):
        members = range(group * heads // kv_heads, (group + 1) * heads // kv_heads)
        units = {h * selection.units // heads for h in members}
        for r in range(selection.rows):
            union = set().union(*(selection.lists[u][r].tolist() for u in units))
            shares.append(len(union) / (selection.row_block(r) + 1))
    return float(np.mean(shares))
