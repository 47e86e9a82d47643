"""SpargeAttn (prefill; decode is dense), on blocks of B queries and B keys. A list is a head's own.

A block is similar when its tokens point the same way. The blocks' mean vectors decide only between
similar key blocks; what is not similar is always computed. Left open by the description and taken
so: only causal blocks of similar keys enter the softmax, the cumulative sum and the count; the
share of `topk` is of all blocks of the prompt; `sink` adds block 0 under the native rule (the
matched budget forces it anyway)."""

import math

import numpy as np

from .. import selection
from ..attention import softmax
from ..base import Method
from ..blocks import best_first, relative_gap
from ..sketch import block_logits, block_means


def self_similarity(x, block):
    """x [n, heads, d] -> c [heads, b]: mean cosine over all pairs of tokens of a block, each with
    itself included. Zero tokens count 0."""
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    unit = np.divide(x, length, out=np.zeros_like(x), where=length > 0)
    return (block_means(unit, block) ** 2).sum(axis=-1)


def largest_prefix(p, threshold):
    """How many of the best of p have a cumulative sum within the threshold: at least one."""
    return max(1, int((np.cumsum(np.sort(p)[::-1]) <= threshold).sum()))


class SpargeAttn(Method):
    phases = ("prefill",)

    @property
    def looks_ahead(self):
        filtered = self.params["smooth_k"] and self.params["simthreshd1"] >= 0
        return "keys are smoothed by the mean of all" if filtered else ""

    defaults = {
        "simthreshd1": -0.1,
        "cdfthreshd": 0.0,
        "smooth_k": True,
        "topk": 0.5,
        "sink": False,
        "diagonal": "forced",
    }
    native_defaults = {"diagonal": "free"}

    def parts(self, layer):
        """p [H, b, b] over similar causal key blocks (zero elsewhere), c of the query blocks and of
        the key blocks [H, b]."""
        q, k, _ = self.tensors.layers[layer]
        if self.params["smooth_k"]:
            k = k - k.mean(axis=0)
        key_c = np.repeat(
            self_similarity(k, self.block), self.tensors.heads // self.tensors.kv_heads, axis=0
        )
        allowed = np.tri(self.blocks(), dtype=bool) & (key_c > self.params["simthreshd1"])[:, None]
        some = allowed.any(
            axis=-1, keepdims=True
        )  # rows without a similar block have no probabilities
        logits = np.where(
            allowed, block_logits(q, k, self.block) / math.sqrt(self.tensors.d), -np.inf
        )
        return (
            np.where(some, softmax(np.where(some, logits, 0)), 0),
            self_similarity(q, self.block),
            key_c,
        )

    def prefill(self, layer):
        """Key blocks that are not similar come first, the least similar best."""
        p, _, key_c = self.parts(layer)
        return np.where((key_c > self.params["simthreshd1"])[:, None], p, 2 + (1 - key_c)[:, None])

    def native_prefill(self, layer):
        rows, limit = selection.prefill_rows(self.tensors.n, self.block), self.params["simthreshd1"]
        lists, margins = [], []
        for p, query_c, key_c in zip(*self.parts(layer)):
            nearest = min(abs(np.concatenate([query_c, key_c]) - limit)) / max(abs(limit), 1e-9)
            chosen = [
                self.row(p[i, : i + 1], i, query_c[i] > limit, key_c[: i + 1] > limit)
                for i in range(self.blocks())
            ]
            lists.append([row for row, _ in chosen])
            margins.append([min(nearest, margin) for _, margin in chosen])
        return selection.Selection(
            self.block,
            lists,
            *rows,
            margin=margins,
            free_diagonal=self.params["diagonal"] == "free",
        )

    def row(self, p, i, similar_query, similar):
        """p, similar: of the key blocks 0 ... i. Returns the list and the nearest decision."""
        if not similar_query:
            return np.arange(i + 1), np.inf
        order = [int(j) for j in best_first(p) if similar[j]]
        kept, margin = set(np.flatnonzero(~similar).tolist()), np.inf
        if self.params["diagonal"] == "forced":
            kept.add(i)
        if self.params["sink"]:
            kept.add(0)
        if order:
            limit = self.params["cdfthreshd"]
            if limit == 0:
                count = max(1, math.floor(self.params["topk"] * self.blocks()))
            else:
                count = largest_prefix(p[order], limit)
                margin = (
                    float(min(abs(np.cumsum(p[order]) - limit))) / limit if limit > 0 else np.inf
                )
            margin = min(margin, relative_gap(p[order[:count]], p[order[count:]], p))
            kept.update(order[:count])
        return np.array(sorted(kept or {i})), margin


REFERENCE = SpargeAttn
VARIATIONS = [
    {"smooth_k": False},
    {"simthreshd1": 0.1},
    {"simthreshd1": 0.6},
    {"simthreshd1": 0.6, "smooth_k": False},
]
NATIVE_VARIATIONS = [
    {"smooth_k": False},
    {"topk": 0.3},
    {"topk": 0.3, "diagonal": "forced"},
    {"simthreshd1": 0.6, "cdfthreshd": 0.98},
    {"simthreshd1": 0.2, "cdfthreshd": 0.6},
    {"simthreshd1": 0.2, "cdfthreshd": 0.6, "smooth_k": False, "diagonal": "forced"},
    {"cdfthreshd": 0.8},
    {"simthreshd1": 0.2, "cdfthreshd": 0.3, "sink": True},
]
