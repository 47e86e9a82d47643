"""variant: softmax. The printed algorithm, with a causal softmax before the power."""

import math

import numpy as np

from .. import budgets, selection
from ..attention import softmax
from .base import COMMON, AveragedHeads, row_softmax


def over_maximum(x):
    return x / np.maximum(x.max(axis=-1, keepdims=True), np.finfo(float).tiny)


class Softmax(AveragedHeads):
    defaults = {**COMMON, "sketch_dim": 64, "exponent": 8, "logit_scale": "d"}

    def __init__(self, *args, **params):
        super().__init__(*args, **params)
        self.weights, self.queries, self.state, self.row_state = {}, {}, None, None

    def logits(self, query, key):
        by_d = self.params["logit_scale"] == "d"
        size = self.tensors.d if by_d else self.transform(0).r
        return query @ key.transpose(0, 2, 1) / math.sqrt(size)

    def sharpen(self, scores):
        return scores ** self.params["exponent"]

    def matrix(self, query, key):
        """W of all query blocks."""
        return self.sharpen(row_softmax(self.logits(query, key), self.causal()))

    def prefill(self, layer):
        q, k, _ = self.tensors.layers[layer]
        if self.params["sketch"] == "tokens":
            w = self.sharpen(self.true_mass(layer))
        else:
            self.queries[layer] = self.query_sketch(q, layer)
            w = self.matrix(self.queries[layer], self.key_sketch(k, layer))
        self.weights[layer] = w
        if self.params["walk"] == "none":
            return w
        self.state = over_maximum(w if layer == self.first_sparse else self.state @ w)
        return self.state

    def decode(self, layer, step):
        c, units = self.current(step), self.units()
        query, key = self.single_query(layer, step), self.key_sketch(self.keys(layer, step), layer)
        if self.causal():
            w = np.zeros((units, c + 1, c + 1))
            w[:, :c, :c] = self.weights[layer][:, :c, :c]
            w[:, c] = self.sharpen(softmax(self.logits(query, key)[:, 0]))
        else:
            self.queries[layer] = np.concatenate([self.queries[layer][:, :c], query], axis=1)
            w = self.matrix(self.queries[layer], key)
        self.weights[layer] = w
        if self.params["walk"] == "none":
            return w[:, c]
        row = w[:, c]
        if layer != self.first_sparse:
            row = np.einsum("uk,ukj->uj", self.row_state, w)
        self.row_state = over_maximum(row)
        return self.row_state

    def native_on_scores(self, scores, first, last, query_blocks):
        """The budget of the density, with the first and the last block kept and no more forced."""
        if query_blocks:
            n = self.tensors.n
            m, _ = budgets.rows_proportional(n, self.block, self.density, 1, 1)
        else:
            m = [budgets.decode_blocks(t + 1, self.block, self.density, 1) - 1 for t in last]
        return selection.by_budget(scores, m, self.block, first, last, 1, 1)
