"""MoBA, without its training. The gate of a key block is <query, mean key>, unscaled; the current
block is always kept and counts among the `topk`; there is no sink.

form: block pools the queries of a block; form: token lets every token and query head choose among
the blocks before its own, so that pairs, not blocks, are kept; the list of a row is then what its
tokens fetch together. A step of decode has one query: the forms differ in what a matched budget
forces."""

import numpy as np

from .. import selection
from ..base import Method
from ..blocks import best_of
from ..sketch import block_logits, block_means


class MoBA(Method):
    defaults = {"form": "block", "topk": 12}

    def prefill(self, layer):
        """The block form's scores."""
        return block_logits(*self.tensors.layers[layer][:2], self.block)

    def gates(self, layer):
        """[H, n, b]: of every token."""
        q, k, _ = self.tensors.layers[layer]
        key = np.repeat(
            block_means(k, self.block), self.tensors.heads // self.tensors.kv_heads, axis=0
        )
        return q.transpose(1, 0, 2) @ key.transpose(0, 2, 1)

    def forced(self):
        return (0, 1) if self.params["form"] == "token" else super().forced()

    def matched_prefill(self, layer, m):
        """The token form gives each token of row i the row's m[i] past blocks; nothing but the
        current block is forced."""
        return (
            self.by_token(layer, m)
            if self.params["form"] == "token"
            else super().matched_prefill(layer, m)
        )

    def native_prefill(self, layer):
        past = np.full(self.blocks(), self.params["topk"] - 1)
        if self.params["form"] == "token":
            return self.by_token(layer, past)
        rows = selection.prefill_rows(self.tensors.n, self.block)
        chosen = [
            [best_of(unit[i, :i], past[i]) for i in range(len(unit))]
            for unit in self.prefill(layer)
        ]
        return selection.Selection(
            self.block,
            [[np.append(row, i) for i, (row, _) in enumerate(unit)] for unit in chosen],
            *rows,
            margin=[[margin for _, margin in unit] for unit in chosen],
        )

    def decode(self, layer, step):
        key = block_means(self.keys(layer, step), self.block)
        query = self.tensors.steps[layer][0][step]
        key = np.repeat(key, len(query) // len(key), axis=0)
        return np.einsum("hd,hbd->hb", query, key)

    def native_decode(self, layer, step):
        c, topk = self.current(step), self.params["topk"]
        chosen = [best_of(unit[:c], topk - 1) for unit in self.decode(layer, step)]
        return [np.append(row, c) for row, _ in chosen], [margin for _, margin in chosen]

    def by_token(self, layer, past):
        """past[i]: how many earlier blocks a token of block i keeps."""
        n, gates, block = self.tensors.n, self.gates(layer), self.block
        mask, margin = np.zeros((len(gates), n, n), bool), np.full((len(gates), n), np.inf)
        for h in range(len(gates)):
            for t in range(n):
                i = t // block
                kept, margin[h, t] = best_of(gates[h, t, :i], past[i])
                for j in kept:
                    mask[h, t, j * block : (j + 1) * block] = True
                mask[h, t, i * block : t + 1] = True
        first, last = selection.prefill_rows(n, block)
        return selection.by_pairs(
            mask,
            [[unit[f : t + 1] for f, t in zip(first, last)] for unit in margin],
            block,
            first,
            last,
        )


REFERENCE = MoBA
VARIATIONS = [{"form": "token"}]
NATIVE_VARIATIONS = [{"topk": 3}, {"topk": 3, "form": "token"}, {"topk": 1}]
