"""Blocks, the forced set, and the choice of the best blocks of a row."""

import numpy as np


def block_count(n, block):
    return -(-n // block)


def block_sizes(n, block):
    """Real tokens of every block: the last one may be short."""
    return np.minimum(block, n - block * np.arange(block_count(n, block)))


def forced_set(i, sink=1, local=2):
    """{0 ... sink-1} and {i-local+1 ... i}, as far as they exist: by default {0, i-1, i}."""
    return {j for j in range(i + 1) if j < sink or j > i - local}


def forced_count(i, sink=1, local=2):
    """Forced blocks besides the diagonal."""
    return len(forced_set(i, sink, local)) - 1


def best_first(scores):
    """Block numbers by score descending, then number descending; NaN last."""
    scores = np.asarray(scores, float) + 0.0
    scores = np.where(np.isnan(scores), -np.inf, scores)
    return np.lexsort((-np.arange(len(scores)), -scores))


def select(scores, i, m, sink=1, local=2):
    """Row i: the forced set, then the best others until m blocks besides the diagonal are kept. Ascending."""
    kept = forced_set(i, sink, local)
    for j in best_first(scores[: i + 1]):
        if len(kept) >= m + 1:
            break
        kept.add(int(j))
    return np.array(sorted(kept))
