"""variant: arxiv. Algorithms 1 and 2 as printed: raw scores to the power s, no softmax, no causal
mask, full products. Nothing is rescaled on the way: float64 has the room for it."""

import math

import numpy as np

from .. import selection
from .base import COMMON, AveragedHeads


class Printed(AveragedHeads):
    defaults = {**COMMON, "sketch_dim": 64, "exponent": 8, "signed": False}

    def __init__(self, *args, **params):
        super().__init__(*args, **params)
        self.scores, self.query_sums, self.state, self.row_state = {}, {}, None, None
        self.raw_rows = {}  # layer, step (None: prompt) -> scores of causal pairs, before the power

    def causal(self):
        return False

    @property
    def looks_ahead(self):
        return "" if self.params["walk"] == "none" else "paths through later blocks count"

    def products(self, query, key, layer):
        r = self.tensors.d if self.params["sketch"] == "exact" else self.transform(layer).r
        return query @ key.transpose(0, 2, 1) / math.sqrt(r)

    def power(self, a):
        s = self.params["exponent"]
        return np.sign(a) * abs(a) ** s if self.params["signed"] else a**s

    def prefill(self, layer):
        q, k, _ = self.tensors.layers[layer]
        if self.params["sketch"] == "tokens":
            self.scores[layer] = self.true_mass(layer)
        else:
            query = self.query_sketch(q, layer)
            self.scores[layer] = self.products(query, self.key_sketch(k, layer), layer)
        i, j = np.tril_indices(self.scores[layer].shape[1])
        self.raw_rows[layer, None] = self.scores[layer][:, i, j]
        w = self.power(self.scores[layer])
        if self.params["walk"] == "none":
            return w
        self.state = w if layer == self.first_sparse else self.state @ w
        return self.state

    def decode(self, layer, step):
        """The row of this query; then, over it, the column of the block that the new key changed,
        from the means of all query blocks so far."""
        c = self.current(step)
        key = self.key_sketch(self.keys(layer, step), layer)
        q = np.concatenate([self.tensors.layers[layer][0], self.tensors.steps[layer][0]])
        query = self.query_sketch(q[: self.tensors.n + step + 1], layer)
        a = np.zeros((self.units(), c + 1, c + 1))
        old = self.scores[layer]
        a[:, : old.shape[1], : old.shape[2]] = old
        a[:, c] = self.products(self.single_query(layer, step), key, layer)[:, 0]
        a[:, :, c] = self.products(query, key[:, c:], layer)[:, :, 0]
        self.scores[layer] = a
        self.raw_rows[layer, step] = a[:, c]
        w = self.power(a)
        row = w[:, c]
        if self.params["walk"] == "none":
            return row
        if layer != self.first_sparse:
            row = np.einsum("uk,ukj->uj", self.row_state, w)
        self.row_state = row
        return row

    def native_on_scores(self, scores, first, last, query_blocks):
        """tau blocks a row in all, a share of the blocks that there are; the first and the last
        among them."""
        budget = []
        for t in last:
            i = t // self.block
            tau = math.floor(self.density * (query_blocks or i + 1) + 0.5)
            budget.append(min(i, max(tau, min(i + 1, 2)) - 1))
        return selection.by_budget(scores, budget, self.block, first, last, 1, 1)
