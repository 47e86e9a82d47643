"""variant: icml. Softmax a head, then averaged; a damped walk of a few steps in every layer."""

import math

import numpy as np

from ..attention import softmax
from ..sketch import block_means
from .base import COMMON, SketchMethod, row_softmax
from .native import icml_native


class Icml(SketchMethod):
    defaults = {
        **COMMON,
        "preset": "auto",
        "sketch_dim": 128,
        "degree": 3,
        "damping": 0.25,
        "temperature": 100.0,
        "decode_query_window": 32,
        "dense_tail_blocks": 4,
        "sink_share": 0.025,
        "window_share": 0.05,
        "top_share": 0.125,
        "sink_uses_window": "auto",
    }

    def __init__(self, *args, **params):
        super().__init__(*args, **params)
        self.matrices, self.state = {}, None
        preset = self.params["preset"]
        self.released = preset == "released" or (preset == "auto" and self.native)

    def sketch(self, x, layer):
        """The unnormalised transform over sqrt(d'/r); `exact` is what r = d' would give."""
        own = self.transform(layer)
        if self.params["sketch"] == "exact":
            return x * math.sqrt(own.size)
        return own.raw(x) / math.sqrt(own.size / own.r)

    def logits(self, query, key):
        """query [H, rows, r], key [Hkv, b, r]."""
        own = self.transform(0)
        r = own.size if self.params["sketch"] == "exact" else own.r
        key = np.repeat(key, len(query) // len(key), axis=0)
        x = query @ key.transpose(0, 2, 1) / math.sqrt(r) / self.params["temperature"]
        clamped = self.released and self.params["sketch"] == "exact"
        return np.clip(x, -10, 10) if clamped else x

    def over_units(self, p):
        """Sum over the heads of a unit, rows renormalised."""
        p = p.reshape(self.units(), -1, *p.shape[1:]).sum(axis=1)
        return p / p.sum(axis=-1, keepdims=True)

    def hops(self, x, anchor, matrix):
        for _ in range(self.params["degree"]):
            x = (1 - self.params["damping"]) * anchor + self.params["damping"] * (x @ matrix)
        return x

    def prefill(self, layer):
        q, k, _ = self.tensors.layers[layer]
        if self.params["sketch"] == "tokens":
            a = self.true_mass(layer)
        else:
            query = self.sketch(block_means(q, self.block, self.padded()), layer)
            key = self.sketch(block_means(k, self.block, self.padded()), layer)
            a = self.over_units(row_softmax(self.logits(query, key), self.causal()))
        self.matrices[layer] = a
        if self.params["walk"] == "none":
            return a
        self.state = self.hops(a if layer == self.first_sparse else self.state, a, a)
        return self.state

    def decode(self, layer, step):
        c, n = self.current(step), self.tensors.n
        queries = np.concatenate(
            [self.tensors.layers[layer][0], self.tensors.steps[layer][0][: step + 1]]
        )
        queries = queries[-self.params["decode_query_window"] :].transpose(1, 0, 2)
        key = self.sketch(block_means(self.keys(layer, step), self.block, self.padded()), layer)
        pooled = softmax(self.logits(self.sketch(queries, layer), key)).sum(axis=1)
        row = self.over_units(pooled)  # [U, c + 1]
        self.matrices[layer] = self.running_average(self.matrices[layer], row, c, n + step)
        if self.params["walk"] == "none":
            return row
        return self.hops(row[:, None], row[:, None], self.matrices[layer])[:, 0]

    def running_average(self, old, row, c, t):
        """Row c, then column c, move towards the pooled row by 1 / tokens of block c; rows
        renormalised each time."""
        weight = 1 / (t - c * self.block + 1)
        a = np.zeros((self.units(), c + 1, c + 1))
        a[:, : old.shape[1], : old.shape[2]] = old
        a[:, c] += weight * (row - a[:, c])
        a[:, c] /= a[:, c].sum(axis=-1, keepdims=True)
        touched = slice(c, c + 1) if self.causal() else slice(0, c + 1)
        a[:, touched, c] += weight * (row[:, touched] - a[:, touched, c])
        a[:, touched] /= a[:, touched].sum(axis=-1, keepdims=True)
        return a

    def softmaxes_a_row(self):
        return self.tensors.heads // self.units()

    def native_on_scores(self, scores, first, last, query_blocks):
        sink_is_window = self.choice("sink_uses_window", str(self.released).lower()) == "true"
        return icml_native(
            scores, self.params, sink_is_window, self.block, first, last, query_blocks
        )
