"""FlashPrefill (prefill; decode is dense). A list is a head's own.

A row of blocks has one softmax: all its queries' logits with the blocks' mean keys together, summed
per key block. A query takes part in the blocks that end at or before it."""

import numpy as np

from .. import selection
from ..base import Method
from ..sketch import block_means


def near_largest(scores, i, alpha, forced):
    """Row i of scores [i + 1]: the blocks of at least alpha times the largest score, and the forced
    ones. Returns the list and the nearest decision among the others."""
    top = scores.max()
    kept = set(forced) | set(np.flatnonzero(scores >= alpha * top).tolist())
    open_ = [j for j in range(i + 1) if j not in forced]
    away = [abs(scores[j] - alpha * top) / top for j in open_] if top > 0 and alpha > 0 else []
    return np.array(sorted(kept)), min(away, default=np.inf)


class FlashPrefill(Method):
    phases = ("prefill",)
    defaults = {"alpha": 0.18, "sink_blocks": 2, "window_blocks": 4, "dense_rows": 2}

    def prefill(self, layer):
        q, k, _ = self.tensors.layers[layer]
        n, heads, d = q.shape
        keys = block_means(k, self.block)
        b = keys.shape[1]
        logits = q.transpose(1, 0, 2) @ np.repeat(keys, heads // len(keys), axis=0).transpose(
            0, 2, 1
        )
        last = (np.arange(b) + 1) * self.block - 1  # a block's last token
        logits = np.where(np.arange(n)[:, None] >= last, logits / np.sqrt(d), -np.inf)
        out = np.zeros((heads, b, b))
        for h in range(heads):
            for i in range(b):
                x = logits[h, i * self.block : (i + 1) * self.block]
                if np.isfinite(x.max()):
                    p = np.exp(x - x.max()).sum(axis=0)
                    out[h, i] = p / p.sum()
        return out

    def native_row(self, scores, i, b):
        p = self.params
        if i >= b - p["dense_rows"]:
            return np.arange(i + 1), np.inf
        forced = {j for j in range(i + 1) if j < p["sink_blocks"] or i - j < p["window_blocks"]}
        return near_largest(scores[: i + 1], i, p["alpha"], forced)

    def native_prefill(self, layer):
        chosen = [
            [self.native_row(unit[i], i, len(unit)) for i in range(len(unit))]
            for unit in self.prefill(layer)
        ]
        return selection.Selection(
            self.block,
            [[row for row, _ in unit] for unit in chosen],
            *selection.prefill_rows(self.tensors.n, self.block),
            margin=[[margin for _, margin in unit] for unit in chosen],
        )


REFERENCE = FlashPrefill
NATIVE_VARIATIONS = [
    {"sink_blocks": 1, "window_blocks": 1, "dense_rows": 1},
    {"sink_blocks": 0, "window_blocks": 2, "dense_rows": 3, "alpha": 0.5},
    {"window_blocks": 1, "dense_rows": 0, "alpha": 0.9},
    {"alpha": 0.0},
]
