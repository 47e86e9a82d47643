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


def chunk_tokens(n):
    """Query tokens that the released code scores at once."""
    longest = 1 << (n - 1).bit_length()
    return max(min(max(2048, longest), 2**28 // longest), 2048)


def smallest_set(scores, i, threshold, late=False):
    """Row i of scores [i + 1]: {0, i}, then the best others until they hold the share `threshold`
    of the row, the last one included. late: block i alone counts as held, block 0 competes and is
    kept anyway, and one block more than needed is kept. Returns the list and the nearest
    decision."""
    held, target = ({i} if late else {0, i}), threshold * scores.sum()
    free = [int(j) for j in best_first(scores) if j not in held]
    before = [scores[sorted(held)].sum()]  # of each of the others: what is held without it
    for j in free:
        before.append(before[-1] + scores[j])
    deciding = [0.0, *before][: len(free)] if late else before[: len(free)]
    count = sum(m < target for m in deciding)
    margin = np.inf
    if target > 0:
        margin = min((abs(m - target) / target for m in deciding if m), default=np.inf)
    chosen, others = free[:count], free[count:]
    return np.array(sorted({0, i}.union(chosen))), min(
        margin, relative_gap(scores[chosen], scores[others], scores)
    )


class XAttention(Method):
    phases = ("prefill",)
    defaults = {"stride": 8, "threshold": 0.9, "first_chunk": "intended"}
    native_defaults = {"first_chunk": "released"}

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
        released = self.params["first_chunk"] == "released"
        late = chunk_tokens(self.tensors.n) if released else 0
        chosen = [
            [
                smallest_set(unit[i, : i + 1], i, self.params["threshold"], i * self.block < late)
                for i in range(len(unit))
            ]
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
NATIVE_VARIATIONS = [
    {"first_chunk": "intended"},
    {"first_chunk": "intended", "threshold": 0.5},
    {"threshold": 0.5},
    {"stride": 4, "threshold": 0.7},
    {"threshold": 0.0},
]
