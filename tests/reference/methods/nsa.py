"""An NSA-like selection, with block means in place of the learned compressor. The query heads of a
KV head share a list.

A token's softmax runs over the blocks that end at or before it. With unfinished_block its own takes
part too, with the mean of all tokens that it has so far: of all of the prompt's, later ones than
the query included."""

import numpy as np

from .. import selection
from ..attention import softmax
from ..base import Method
from ..blocks import best_of, forced_set
from ..sketch import block_means


class NSA(Method):
    defaults = {"top_blocks": 16, "init_blocks": 1, "local_blocks": 2, "unfinished_block": False}

    def shares(self, q, k, first):
        """p [Hkv, len(q), b]: summed over the heads of a group. Query t stands at position first +
        t."""
        heads = q.shape[1]
        key = block_means(k, self.block)
        logits = (
            q.transpose(1, 0, 2)
            @ np.repeat(key, heads // len(key), axis=0).transpose(0, 2, 1)
            / np.sqrt(self.tensors.d)
        )
        t = first + np.arange(len(q))
        seen = (t if self.params["unfinished_block"] else t + 1) // self.block
        seen = seen + 1 if self.params["unfinished_block"] else seen
        allowed = np.arange(key.shape[1]) < seen[:, None]
        p = np.where(allowed, softmax(np.where(allowed, logits, -1e300)), 0)
        return p.reshape(len(key), -1, *p.shape[1:]).sum(axis=1)

    def prefill(self, layer):
        p = self.shares(*self.tensors.layers[layer][:2], 0)
        return np.stack(
            [p[:, at : at + self.block].sum(axis=1) for at in range(0, self.tensors.n, self.block)],
            axis=1,
        )

    def decode(self, layer, step):
        return self.shares(
            self.tensors.steps[layer][0][step : step + 1],
            self.keys(layer, step),
            self.tensors.n + step,
        )[:, 0]

    def native_row(self, scores, i):
        """The forced blocks count among the top_blocks; the diagonal is kept whatever they are."""
        forced = forced_set(i, self.params["init_blocks"], self.params["local_blocks"]) | {i}
        return best_of(scores[: i + 1], self.params["top_blocks"], forced)

    def native_prefill(self, layer):
        rows = selection.prefill_rows(self.tensors.n, self.block)
        chosen = [
            [self.native_row(unit[i], i) for i in range(len(unit))] for unit in self.prefill(layer)
        ]
        return selection.Selection(
            self.block,
            [[row for row, _ in unit] for unit in chosen],
            *rows,
            margin=[[margin for _, margin in unit] for unit in chosen],
        )

    def native_decode(self, layer, step):
        chosen = [self.native_row(unit, self.current(step)) for unit in self.decode(layer, step)]
        return [row for row, _ in chosen], [margin for _, margin in chosen]


REFERENCE = NSA
VARIATIONS = [{"unfinished_block": True}]
NATIVE_VARIATIONS = [
    {"top_blocks": 5},
    {"top_blocks": 8, "init_blocks": 2, "local_blocks": 3},
    {"top_blocks": 1, "init_blocks": 0, "local_blocks": 1},
]
