"""variant: softmax."""

import math

import numpy as np

from ..attention import softmax
from ..base import mean_units
from ..sketch import block_means
from .base import SketchMethod, row_softmax


class Softmax(SketchMethod):
    """Heads averaged before the sketch; softmax, sharpened; one matrix product a layer."""

    has_native_rule = False
    defaults = {
        "sketch_dim": 64,
        "exponent": 8,
        "logit_scale": "d",
        "normalize": "softmax",
        "causal_blocks": True,
        "walk": "on",
        "sketch": "hadamard",
        "tail_mean": "true",
        "per_head": False,
        "per_group": False,
    }

    def __init__(self, *args, **params):
        super().__init__(*args, **params)
        self.weights, self.query_sketch, self.state, self.row_state = {}, {}, None, None

    def sketch(self, x):
        return x if self.params["sketch"] == "exact" else self.transform.unbiased(x)

    def query_units(self, q):
        """[n, H, d] -> [n, U, d]."""
        return mean_units(q.transpose(1, 0, 2), self.units()).transpose(1, 0, 2)

    def key_sketch(self, k):
        """Units that share a KV head share its sketch: [U, b, r]."""
        if self.units() == 1:
            k = k.mean(axis=1, keepdims=True)
        means = block_means(k, self.block, self.padded())
        return np.repeat(self.sketch(means), self.units() // len(means), axis=0)

    def logits(self, query, key):
        size = self.tensors.d if self.params["logit_scale"] == "d" else self.transform.r
        return query @ key.transpose(0, 2, 1) / math.sqrt(size)

    def sharpen(self, scores):
        return scores ** self.params["exponent"]

    def matrix(self, query, key):
        """W of all query blocks."""
        logits, causal = self.logits(query, key), self.params["causal_blocks"]
        if self.params["normalize"] == "softmax":
            return self.sharpen(row_softmax(logits, causal))
        return np.tril(self.sharpen(logits)) if causal else self.sharpen(logits)

    def prefill(self, layer):
        q, k, _ = self.tensors.layers[layer]
        if self.params["sketch"] == "tokens":
            w = self.sharpen(self.true_mass(layer))
        else:
            self.query_sketch[layer] = self.sketch(
                block_means(self.query_units(q), self.block, self.padded())
            )
            w = self.matrix(self.query_sketch[layer], self.key_sketch(k))
        self.weights[layer] = w
        if self.params["walk"] == "none":
            return w
        self.state = w if layer == self.first_sparse else self.state @ w
        self.state = self.state / np.maximum(
            self.state.max(axis=-1, keepdims=True), np.finfo(float).tiny
        )
        return self.state

    def decode(self, layer, step):
        c, units = self.current(step), self.units()
        query = self.sketch(
            self.query_units(self.tensors.steps[layer][0][step : step + 1]).transpose(1, 0, 2)
        )  # [U, 1, r]
        key = self.key_sketch(self.keys(layer, step))
        if self.params["causal_blocks"]:
            row = self.logits(query, key)[:, 0]
            row = self.sharpen(softmax(row) if self.params["normalize"] == "softmax" else row)
            w = np.zeros((units, c + 1, c + 1))
            w[:, :c, :c] = self.weights[layer][:, :c, :c]
            w[:, c] = row
        else:
            self.query_sketch[layer] = np.concatenate(
                [self.query_sketch[layer][:, :c], query], axis=1
            )
            w = self.matrix(self.query_sketch[layer], key)
        self.weights[layer] = w
        if self.params["walk"] == "none":
            return w[:, c]
        if layer == self.first_sparse:
            self.row_state = w[:, c]
        else:
            self.row_state = np.einsum("uk,ukj->uj", self.row_state, w)
        self.row_state = self.row_state / np.maximum(
            self.row_state.max(axis=-1, keepdims=True), np.finfo(float).tiny
        )
        return self.row_state
