"""How many blocks besides the diagonal a row may keep at a density: kept token pairs / causal token
pairs."""

import math

import numpy as np

from .blocks import block_count, block_sizes, forced_count


def causal_pairs(n):
    return n * (n + 1) // 2


def diagonal_pairs(n, block):
    size = block_sizes(n, block)
    return size * (size + 1) // 2


def kept_pairs(n, block, m):
    return int((np.asarray(m) * block_sizes(n, block) * block + diagonal_pairs(n, block)).sum())


def forced_row_counts(n, block, sink=1, local=2):
    return np.array([forced_count(i, sink, local) for i in range(block_count(n, block))])


def rows_proportional(n, block, density, sink=1, local=2):
    """Policy W: every row keeps about the same share of its causal pairs. Returns m and whether the
    forced set is already more."""
    b = block_count(n, block)
    row, size, diagonal = np.arange(b), block_sizes(n, block), diagonal_pairs(n, block)
    forced = forced_row_counts(n, block, sink, local)
    total = size * row * block + diagonal
    target = density * causal_pairs(n)

    def budget(share):
        return np.clip(
            np.floor((share * total - diagonal) / (size * block) + 0.5).astype(int), forced, row
        )

    if kept_pairs(n, block, forced) > target:
        return forced, True
    if kept_pairs(n, block, row) <= target:
        return row, False
    low, high = 0.0, 1.0  # the kept pairs of low are within the target, those of high are not
    for _ in range(200):
        middle = (low + high) / 2
        if kept_pairs(n, block, budget(middle)) <= target:
            low = middle
        else:
            high = middle
    m = budget(low)
    kept = kept_pairs(n, block, m)
    for i in reversed(range(b)):
        if m[i] == i:
            continue
        if abs(kept + size[i] * block - target) >= abs(kept - target):
            break
        m[i] += 1
        kept += size[i] * block
    return m, False


def decode_blocks(n, block, density, forced=2):
    """Blocks that one query with n keys, its own included, keeps: the current block counts."""
    b = block_count(n, block)
    tail = n - (b - 1) * block
    return min(max(math.floor((density * n - tail) / block + 0.5) + 1, min(forced + 1, b)), b)


def block_density(m):
    """The diagonal counts as a whole block."""
    b = len(m)
    return (np.sum(m) + b) / (b * (b + 1) / 2)
