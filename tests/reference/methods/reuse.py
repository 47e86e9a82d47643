"""Reuse: some layers select, those after them have the same lists. Which layers and by what is the
preset's, or given.

Left open by the descriptions and taken so: anchors published for 32 layers lie at the same share of
the depth of other models; the first layer that is not dense selects whatever the list says, since
there is nothing before it; a prompt's native lists are of as many blocks as hold the tokens."""

import math

import numpy as np

from .. import selection
from ..attention import probabilities
from ..base import Method, mean_units
from ..blocks import best_first, best_of
from ..sketchwalk.icml import Icml
from .quest import upper_bounds

EXACT_TOKENS = {"source": "exact", "unit": "token"}
PRESETS = {
    "last_anchor": {"source": "sketch", "unit": "block", "aggregate": "mean", "share": "all"},
    "running_mean": {"source": "sketch", "unit": "block", "aggregate": "mean", "share": "all"},
    "kascade": {**EXACT_TOKENS, "aggregate": "mean", "share": "group"},
    "tidal": {**EXACT_TOKENS, "aggregate": "mean", "share": "head"},
    "omnikv": {**EXACT_TOKENS, "aggregate": "max", "share": "all"},
    "lessismore": {**EXACT_TOKENS, "aggregate": "rank_union", "share": "all"},
    "indexcache": {**EXACT_TOKENS, "aggregate": "mean", "share": "all"},
}
ANCHORS = {
    "kascade": [0, 2, 8, 13, 14],
    "tidal": [2, 13],
    "omnikv": [2, 8, 18],
    "lessismore": [2, 9],
}
EVERY = {"last_anchor": 4, "indexcache": 4, "running_mean": 1}
TOKENS = {"kascade": 128, "tidal": 256, "lessismore": 2048, "indexcache": 2048}
SHARES = {"kascade": 0.1, "omnikv": 0.067}
DENSE_ANCHORS = ("tidal", "omnikv", "lessismore")
TILE, WINDOW, SINKS, RECENT = 32, 16, 4, 0.25


def united(heads):
    """[H, n] -> [n]: the union of the heads' rankings, the best of all heads first, then the second
    best, …; minus the place that each column has in it."""
    orders = [best_first(head) for head in heads]
    place = {}
    for rank in range(heads.shape[1]):
        for order in orders:
            place.setdefault(int(order[rank]), len(place))
    return np.array([-place[j] for j in range(heads.shape[1])], float)


class Reuse(Method):
    free_token = True  # the published rules rank it among the others
    defaults = {
        "preset": "last_anchor",
        "anchors": None,
        "choose": "auto",
        "every": 0,
        "anchor_count": 0,
        "source": "auto",
        "unit": "auto",
        "aggregate": "auto",
        "share": "auto",
        "map": "auto",
        "heads": None,
        "dense_anchors": "auto",
        "token_budget": 0,
        "token_share": 0.0,
    }

    def __init__(self, *args, **params):
        super().__init__(*args, **params)
        self.preset = self.params["preset"]
        self.rule = {
            name: usual if self.params[name] == "auto" else self.params[name]
            for name, usual in PRESETS[self.preset].items()
        }
        self.n_layers = len(self.tensors.layers)
        self.selecting = self.selecting_layers()
        self.kept = {}  # what the last selecting layer had, by phase
        self.sums = {}
        if self.rule["source"] == "sketch":
            mean = self.rule["aggregate"] == "mean"
            self.onehop = Icml(
                self.tensors,
                self.block,
                self.first_sparse,
                self.seed,
                native=self.native,
                walk="none",
                per_head=not mean or self.rule["share"] == "head",
                per_group=mean and self.rule["share"] == "group",
            )

    # --- layers -----------------------------------------------------------------------------------
    def anchors(self):
        named, every, choose = (self.params[k] for k in ("anchors", "every", "choose"))
        if named:
            return [int(layer) for layer in named.split(",")]
        if choose == "every" or every or (choose == "auto" and self.preset in EVERY):
            step = every or EVERY.get(self.preset, 4)
            return [0, *range(1, self.n_layers, step)]
        return [math.floor(layer * self.n_layers / 32 + 0.5) for layer in ANCHORS[self.preset]]

    def selecting_layers(self):
        listed, first = set(self.anchors()), self.first_sparse
        dense = self.params["dense_anchors"]
        published = self.native and dense == "auto"
        self.dense = set()
        if dense == "true" or (published and self.preset in DENSE_ANCHORS):
            wait = 1 if self.preset == "omnikv" else 0
            self.dense |= set(range(min(listed)))
            for layer in {layer for layer in listed if layer >= first}:
                self.dense |= {layer}
                after = range(layer + 1, layer + 1 + wait)
                self.dense |= set(after)
        if self.preset == "kascade" and (dense == "true" or published):
            self.dense |= {0}
        for layer in range(first, self.n_layers):
            if layer in listed:
                break
            if layer not in self.dense:
                return listed | {layer}
        return listed

    def map(self, layer):
        """Of each unit of this layer, the unit of the selecting layer that it follows."""
        text = self.params["heads"]
        if not text or layer in self.selecting:
            return np.arange(self.units())
        return np.array([int(u) for u in text.split("/")[layer].split(",")])

    def units(self):
        return {"head": self.tensors.heads, "group": self.tensors.kv_heads, "all": 1}[
            self.rule["share"]
        ]

    # --- scores -----------------------------------------------------------------------------------
    def merged(self, heads):
        """[H, n] -> [U, n]."""
        by_unit = heads.reshape(self.units(), -1, heads.shape[-1])
        if self.rule["aggregate"] == "mean":
            return by_unit.mean(axis=1)
        if self.rule["aggregate"] == "max":
            return by_unit.max(axis=1)
        return np.stack([united(unit) for unit in by_unit])

    def own(self, layer, scores, key):
        """The scores that the layer chooses by: a mean of layers, or its own."""
        if self.preset != "running_mean":
            return scores
        if layer == self.first_sparse:
            self.sums[key] = (0, 0)
        total, count = self.sums[key]
        self.sums[key] = total + scores, count + 1
        return (total + scores) / (count + 1)

    def prefill(self, layer):
        if layer in self.selecting:
            if self.rule["source"] == "sketch":
                scores = self.onehop.prefill(layer)
            else:
                scores = self.tensors.mass(layer, self.block)
            if len(scores) != self.units():
                scores = self.merged_rows(scores)
            self.kept["prefill"] = self.own(layer, scores, "prefill")
        return self.kept["prefill"][self.map(layer)]

    def merged_rows(self, scores):
        if self.rule["aggregate"] == "mean":
            return mean_units(scores, self.units())
        result = np.zeros((self.units(), *scores.shape[1:]))
        for i in range(scores.shape[1]):
            result[:, i, : i + 1] = self.merged(scores[:, i, : i + 1])
        return result

    def decode(self, layer, step):
        if layer in self.selecting:
            if self.rule["source"] == "sketch":
                scores = self.onehop.decode(layer, step)
            elif self.rule["source"] == "quest":
                q = self.tensors.steps[layer][0][step]
                scores = upper_bounds(q, self.keys(layer, step), self.block)
            else:
                mass = self.tensors.mass_decode(layer, self.block)
                scores = mass[:, step, : self.current(step) + 1]
            if len(scores) != self.units():
                scores = self.merged(scores)
            self.kept["decode"] = self.own(layer, scores, "decode")
        return self.kept["decode"][self.map(layer)]

    # --- native -----------------------------------------------------------------------------------
    @property
    def native_on_scores(self):
        return self.onehop.native_on_scores if self.rule["source"] == "sketch" else None

    def tokens(self, n):
        least = self.params["token_budget"] or TOKENS.get(self.preset, 0)
        share = self.params["token_share"] or SHARES.get(self.preset, 0)
        return max(least, int(share * n))

    def counts(self, rows):
        """Blocks of the prompt's rows, the diagonal among them."""
        n, tile = self.tensors.n, TILE if self.preset == "kascade" else 0
        if not tile:
            return [max(1, math.ceil(self.tokens(n) / self.block)) for _ in rows]
        most = self.tokens(n) - tile
        return [1 + max(0, math.ceil(min(most, self.tokens(t)) / self.block)) for t in rows]

    def native_prefill(self, layer):
        first, last = selection.prefill_rows(self.tensors.n, self.block)
        scores = self.prefill(layer) if layer in self.selecting or "prefill" in self.kept else None
        if layer in self.dense:
            everything = selection.full(self.block, first, last)
            everything.lists *= self.units()
            return everything
        chosen = [
            [
                best_of(unit[i, : i + 1], min(count, i + 1), [i])
                for i, count in enumerate(self.counts(first))
            ]
            for unit in scores
        ]
        return selection.Selection(
            self.block,
            [[row for row, _ in unit] for unit in chosen],
            first,
            last,
            margin=[[margin for _, margin in unit] for unit in chosen],
        )

    def native_decode(self, layer, step):
        by_token = self.rule["unit"] == "token" and self.rule["source"] == "exact"
        c, n = self.current(step), self.tensors.n + step + 1
        if layer in self.selecting:
            self.kept["lists"] = (
                self.token_lists(layer, step) if by_token else self.block_lists(layer, step)
            )
        if layer in self.dense:
            every = np.ones((self.units(), n), bool) if by_token else None
            return [np.arange(c + 1)] * self.units(), [np.inf] * self.units(), every
        lists, margins, masks = self.kept["lists"]
        order = self.map(layer)
        return (
            [lists[u] for u in order],
            [margins[u] for u in order],
            None if masks is None else masks[order],
        )

    def block_lists(self, layer, step):
        c, n = self.current(step), self.tensors.n + step + 1
        tokens = self.tokens(n) - (TILE if self.preset == "kascade" else 0)
        count = max(1, math.ceil(tokens / self.block))
        chosen = [best_of(unit, min(count, c + 1), [c]) for unit in self.decode(layer, step)]
        return [row for row, _ in chosen], [margin for _, margin in chosen], None

    def token_lists(self, layer, step):
        """The tokens that each list keeps, and the blocks that they lie in."""
        n, prompt, c = self.tensors.n + step + 1, self.tensors.n, self.current(step)
        sinks, end, best = 0, n, min(n, self.tokens(n))
        if self.preset == "kascade":
            best = max(1, best - TILE)
        if self.preset == "lessismore":
            budget = best
            best = int(budget * (1 - RECENT))
            recent = budget - best
            sinks = SINKS if recent >= SINKS else 0
            end, best = n - (recent - sinks), max(1, best)
        if self.preset == "omnikv":
            window = min(prompt, max(0, WINDOW - (step + 1)))
            end = prompt - window
            best = max(1, min(prompt, self.tokens(prompt)) - window)
        q = self.tensors.steps[layer][0][step : step + 1]
        mask = np.zeros((self.units(), n), bool)
        mask[:, end:] = mask[:, :sinks] = True
        margins = [np.inf] * self.units()
        if end > sinks:
            p = probabilities(q, self.keys(layer, step)[:end], first=end - 1)[:, 0]
            for u, scores in enumerate(self.merged(p[:, sinks:])):
                chosen, margins[u] = best_of(scores, best)
                mask[u, sinks + chosen] = True
        else:
            mask[:] = True
        blocks = [np.union1d(np.flatnonzero(unit) // self.block, [c]) for unit in mask]
        return blocks, margins, mask


REFERENCE = Reuse
VARIATIONS = [
    {"anchors": "1"},
    {"every": 1},
    {"every": 2, "share": "group"},
    {"preset": "running_mean"},
    {"preset": "running_mean", "share": "head"},
    {"preset": "kascade"},
    {"preset": "tidal"},
    {"preset": "tidal", "share": "all"},
    {"preset": "omnikv"},
    {"preset": "lessismore"},
    {"preset": "lessismore", "share": "group"},
    {"preset": "indexcache"},
    {"aggregate": "max"},
    {"aggregate": "rank_union", "share": "group"},
]
NATIVE_VARIATIONS = [
    {"every": 1},
    {"preset": "running_mean"},
    {"preset": "kascade"},
    {"preset": "kascade", "token_budget": 70},
    {"preset": "kascade", "token_budget": 70, "unit": "block"},
    {"preset": "kascade", "token_budget": 70, "anchors": "2"},
    {"preset": "tidal", "token_budget": 60},
    {"preset": "tidal", "token_budget": 60, "unit": "block", "dense_anchors": "false"},
    {"preset": "omnikv"},
    {"preset": "omnikv", "token_share": 0.3},
    {"preset": "lessismore", "token_budget": 90},
    {"preset": "lessismore", "token_budget": 90, "dense_anchors": "false"},
    {"preset": "indexcache", "token_budget": 50},
    {"preset": "indexcache", "token_budget": 50, "dense_anchors": "true"},
    {"preset": "indexcache", "token_budget": 50, "source": "exact", "aggregate": "max"},
]
