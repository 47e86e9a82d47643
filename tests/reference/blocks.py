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
    """Row i: the forced set, then the best others until m blocks besides the diagonal are kept.
    Ascending."""
    kept = forced_set(i, sink, local)
    for j in best_first(scores[: i + 1]):
        if len(kept) >= m + 1:
            break
        kept.add(int(j))
    return np.array(sorted(kept))


def relative_gap(kept, dropped, scores):
    """How far the worst kept score lies above the best dropped one, as a share of their size: of
    the largest score where scores have signs, since sums that cancel carry the error of their
    terms. Infinite when either is empty or infinite."""
    kept, dropped, scores = (np.asarray(x, float) for x in (kept, dropped, scores))
    if not len(kept) or not len(dropped):
        return np.inf
    worst, best = kept.min(), dropped.max()
    if not np.isfinite(worst) or not np.isfinite(best):
        return 0.0 if worst == best else np.inf
    finite = scores[np.isfinite(scores)]
    scale = max(abs(worst), abs(best)) if finite.min() >= 0 else abs(finite).max()
    return (worst - best) / scale if scale > 0 else 0.0


def best_of(scores, count, forced=(), earlier_first=False):
    """Indices of the `count` best scores, ascending, the forced ones among them (and kept even when
    they are more), with the gap between the worst chosen and the best other. Ties: the larger
    index, or the smaller one."""
    scores = np.asarray(scores, float)
    order = len(scores) - 1 - best_first(scores[::-1]) if earlier_first else best_first(scores)
    chosen = {int(j) for j in forced}
    free = [int(j) for j in order if int(j) not in chosen]
    more = max(0, count - len(chosen))
    return np.array(sorted(chosen.union(free[:more])), int), relative_gap(
        scores[free[:more]], scores[free[more:]], scores
    )
