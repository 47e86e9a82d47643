"""Vertical and slash lines: what the prompt's last queries say about whole columns u and whole
diagonals t - u of the attention map."""

import numpy as np

from . import selection
from .attention import probabilities, sum_over_blocks
from .blocks import block_count


def last_rows(q, k, count):
    """A [H, L, n]: the dense probabilities of the last L = min(count, n) queries."""
    n = len(q)
    rows = min(count, n)
    return probabilities(q[n - rows :], k, first=n - rows)


def columns(a):
    """v [H, n]: sum of each column."""
    return a.sum(axis=1)


def diagonals(a):
    """s [H, n]: s[d] is the sum of A[t, t - d] over the rows."""
    heads, rows, n = a.shape
    s = np.zeros((heads, n))
    for row in range(rows):
        t = n - rows + row
        s[:, : t + 1] += a[:, row, t::-1]
    return s


def split_offsets(s, block):
    """s [..., n] -> [..., b + 1]: a diagonal d lies in the blocks o = d // B and o + 1 behind a
    row, by the shares 1 - (d mod B) / B and the rest."""
    n = s.shape[-1]
    offset, rest = np.arange(n) // block, np.arange(n) % block / block
    result = np.zeros((*s.shape[:-1], block_count(n, block) + 1))
    for d in range(n):
        result[..., offset[d]] += (1 - rest[d]) * s[..., d]
        result[..., offset[d] + 1] += rest[d] * s[..., d]
    return result


def block_scores(a, block):
    """S [H, b, b] = v_j + s_{i-j}, per query of the last rows; zero above the diagonal."""
    v = sum_over_blocks(columns(a), block) / a.shape[1]
    s = split_offsets(diagonals(a), block) / a.shape[1]
    b = v.shape[1]
    scores = np.zeros((len(v), b, b))
    for i in range(b):
        for j in range(i + 1):
            scores[:, i, j] = v[:, j] + s[:, i - j]
    return scores


def offset_blocks(i, d, block):
    """The key blocks that a diagonal meets in row i: those of the keys iB - d ... iB - d + B -
    1."""
    return {j for j in (i - d // block, i - -(-d // block)) if j >= 0}


def line_lists(units, block, n):
    """units: (block columns, offset lists as a function of i, margin) each -> a Selection. Every
    list holds the diagonal."""
    rows = selection.prefill_rows(n, block)
    lists = [
        [np.array(sorted({j for j in kept if j <= i} | met(i) | {i})) for i in range(len(rows[0]))]
        for kept, met, _ in units
    ]
    return selection.Selection(
        block, lists, *rows, margin=[[margin] * len(rows[0]) for _, _, margin in units]
    )
