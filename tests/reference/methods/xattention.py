"""XAttention (prefill; decode is dense). A list is a head's own.

Groups of `stride` tokens: the logit of two groups is the mean over the antidiagonal of their
tokens. Causal at group level, so that a group meets also the later keys within itself. Tokens that
the last group lacks are zero vectors."""

import numpy as np

from .. import selection
from ..attention import softmax, sum_over_blocks
from ..base import Method
from ..blocks import best_first, block_count, relative_gap


def group_logits(q, k, stride):
    """q [n, H, d], k [n, Hkv, d] -> X [H, groups, groups], without the causal mask."""
    n, heads, d = q.shape
    groups = block_count(n, stride)

    def grouped(x):
        whole = np.zeros((groups * stride, heads, d))
        whole[:n] = np.repeat(x, heads // x.shape[1], axis=1)
        return whole.reshape(groups, stride, heads, d)

    query, key = grouped(q), grouped(k)
    z = sum(np.einsum("ahd,bhd->hab", query[:, stride - 1 - x], key[:, x]) for x in range(stride))
    return z / np.sqrt(d) / stride


def group_weights(q, k, stride):
    """W [H, groups, groups]."""
    x = group_logits(q, k, stride)
    return softmax(np.where(np.tri(x.shape[1], dtype=bool), x, -np.inf))


def smallest_set(scores, i, threshold):
    """Row i of scores [i + 1]: {0, i}, then the best others until they hold the share `threshold`
    of the row, the last one included. Returns the list and the nearest decision."""
    kept, target = {0, i}, threshold * scores.sum()
    free = [int(j) for j in best_first(scores) if j not in kept]
    mass = [scores[sorted(kept)].sum()]
    for j in free:
        mass.append(mass[-1] + scores[j])
    count = sum(m < target for m in mass[:-1])
    margin = (
        min((abs(m - target) / target for m in mass[:-1]), default=np.inf) if target > 0 else np.inf
    )
    chosen, others = free[:count], free[count:]
    return np.array(sorted(kept.union(chosen))), min(
        margin, relative_gap(scores[chosen], scores[others], scores)
    )


class XAttention(Method):
    phases = ("prefill",)
    defaults = {"stride": 8, "threshold": 0.9}

    def prefill(self, layer):
        stride = self.params["stride"]
        assert self.block % stride == 0
        w = group_weights(*self.tensors.layers[layer][:2], stride)
        per_block = self.block // stride
        rows = sum_over_blocks(w, per_block)
        return np.stack(
            [rows[:, at : at + per_block].sum(axis=1) for at in range(0, rows.shape[1], per_block)],
            axis=1,
        )

    def native_prefill(self, layer):
        rows = selection.prefill_rows(self.tensors.n, self.block)
        chosen = [
            [smallest_set(unit[i, : i + 1], i, self.params["threshold"]) for i in range(len(unit))]
            for unit in self.prefill(layer)
        ]
        return selection.Selection(
            self.block,
            [[row for row, _ in unit] for unit in chosen],
            *rows,
            margin=[[margin for _, margin in unit] for unit in chosen],
        )


REFERENCE = XAttention
VARIATIONS = [{"stride": 16}, {"stride": 4}, {"stride": 1}]
NATIVE_VARIATIONS = [{"threshold": 0.5}, {"stride": 4, "threshold": 0.7}, {"threshold": 0.0}]
