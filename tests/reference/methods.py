"""The methods, and the table of them."""

import math

import numpy as np

from . import rng
from .attention import softmax
from .base import Method, mean_units
from .blocks import block_count
from .eviction import H2O, SnapKV
from .flexprefill import FlexPrefill
from .minference import MInference
from .moba import MoBA
from .nsa import NSA
from .quest import Quest
from .sketch import Transform, block_means
from .spargeattn import SpargeAttn
from .xattention import XAttention


class Oracle(Method):
    defaults = {"unit": "head"}

    def units(self):
        return {"layer": 1, "group": self.tensors.kv_heads, "head": self.tensors.heads}[
            self.params["unit"]
        ]

    def prefill(self, layer):
        return mean_units(self.tensors.mass(layer, self.block), self.units())

    def decode(self, layer, step):
        return mean_units(
            self.tensors.mass_decode(layer, self.block)[:, step, : self.current(step) + 1],
            self.units(),
        )


class SinkWindow(Method):
    """Most recent first. Under a native budget: the blocks of the first `start` and the last
    `recent` tokens."""

    defaults = {"start": 4, "recent": 512}

    def prefill(self, layer):
        b = block_count(self.tensors.n, self.block)
        return np.broadcast_to(np.arange(b, dtype=float), (1, b, b))

    def decode(self, layer, step):
        return np.arange(self.current(step) + 1, dtype=float)[None]

    def native_list(self, i):
        first_recent = max(0, i * self.block - self.params["recent"] + 1) // self.block
        return np.array(
            [
                j
                for j in range(i + 1)
                if j < math.ceil(self.params["start"] / self.block) or j >= first_recent
            ]
        )


class Random(Method):
    defaults = {"agg": "head"}

    def units(self):
        return {"layer": 1, "head": self.tensors.heads}[self.params["agg"]]

    def prefill(self, layer):
        b = block_count(self.tensors.n, self.block)
        return rng.hash_scores(self.seed, layer, self.units(), range(b), b)

    def decode(self, layer, step):
        c = self.current(step)
        return rng.hash_scores(self.seed, layer, self.units(), [c], c + 1)[:, 0]


class SketchMethod(Method):
    def __init__(self, *args, **params):
        super().__init__(*args, **params)
        self.transform = Transform(self.tensors.d, self.params["sketch_dim"], self.seed)

    def units(self):
        if self.params["per_head"]:
            return self.tensors.heads
        return self.tensors.kv_heads if self.params["per_group"] else 1

    def padded(self):
        return self.params["tail_mean"] == "padded"

    def true_mass(self, layer):
        return mean_units(self.tensors.mass(layer, self.block), self.units())


def row_softmax(logits, causal):
    if causal:
        logits = np.where(np.tri(*logits.shape[-2:], dtype=bool), logits, -np.inf)
    return softmax(logits)


class Arxiv(SketchMethod):
    """Heads averaged before the sketch; softmax, sharpened; one matrix product a layer."""

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


class Icml(SketchMethod):
    """Softmax a head, then averaged; a damped walk of a few steps in every layer."""

    defaults = {
        "sketch_dim": 128,
        "degree": 3,
        "damping": 0.25,
        "temperature": 100.0,
        "decode_query_window": 32,
        "causal_blocks": True,
        "walk": "on",
        "sketch": "hadamard",
        "tail_mean": "true",
        "per_head": False,
        "per_group": False,
        "dense_tail_blocks": 4,
        "sink_share": 0.025,
        "window_share": 0.05,
        "top_share": 0.125,
        "sink_uses_window": False,
    }

    def __init__(self, *args, **params):
        super().__init__(*args, **params)
        self.matrices, self.state = {}, None

    def sketch(self, x):
        """The unnormalised transform over sqrt(d'/r); `exact` is what r = d' would give."""
        if self.params["sketch"] == "exact":
            return x * math.sqrt(self.transform.size)
        return self.transform.raw(x) / math.sqrt(self.transform.size / self.transform.r)

    def logits(self, query, key):
        """query [H, rows, r], key [Hkv, b, r]."""
        r = self.transform.size if self.params["sketch"] == "exact" else self.transform.r
        key = np.repeat(key, len(query) // len(key), axis=0)
        return query @ key.transpose(0, 2, 1) / math.sqrt(r) / self.params["temperature"]

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
            query = self.sketch(block_means(q, self.block, self.padded()))
            key = self.sketch(block_means(k, self.block, self.padded()))
            a = self.over_units(row_softmax(self.logits(query, key), self.params["causal_blocks"]))
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
        key = self.sketch(block_means(self.keys(layer, step), self.block, self.padded()))
        pooled = softmax(self.logits(self.sketch(queries), key)).sum(axis=1)
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
        touched = slice(c, c + 1) if self.params["causal_blocks"] else slice(0, c + 1)
        a[:, touched, c] += weight * (row[:, touched] - a[:, touched, c])
        a[:, touched] /= a[:, touched].sum(axis=-1, keepdims=True)
        return a


SKETCHES = {"arxiv": Arxiv, "icml": Icml}
KINDS = {
    "oracle": Oracle,
    "sink_window": SinkWindow,
    "random": Random,
    "minference": MInference,
    "flexprefill": FlexPrefill,
    "xattention": XAttention,
    "quest": Quest,
    "spargeattn": SpargeAttn,
    "moba": MoBA,
    "nsa": NSA,
    "snapkv": SnapKV,
    "h2o": H2O,
}
SCORED = (Oracle, SinkWindow, Random, SketchMethod)  # native rules on scores, in evaluate.py
NAMES = [*KINDS, "onehop", "sketchwalk"]  # dense is no method: nothing is selected


def kind(name, params):
    return (
        SKETCHES[params.get("variant", "icml")] if name in ("onehop", "sketchwalk") else KINDS[name]
    )


def make(name, tensors, block, dense_layers, seed, **params):
    of = kind(name, params)
    params.pop("variant", None)
    if name == "onehop":
        params = {**params, "walk": "none"}
    return of(tensors, block, dense_layers, seed, **params)


def defaults(name, params):
    """All parameters of a method at their defaults. params: as in a config; `variant` decides."""
    own = {"block_size": 64, **kind(name, params).defaults}
    if name in ("onehop", "sketchwalk"):
        own["variant"] = params.get("variant", "icml")
    if name == "onehop":
        own.pop("walk")
    return own
