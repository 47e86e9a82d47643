"""H2O in block form (decode; the prompt is dense). The query heads of a KV head share a list.

Under the native rule what is dropped is gone; under a matched budget every step chooses among all
blocks. Left open by the description and taken so: the first choice is made at the first decoded
token, so that the prompt's mass is whole; at least the current block is recent; scores are the
means over a group's heads."""

import math

import numpy as np

from ..attention import sum_over_blocks
from ..base import Method, mean_units
from ..blocks import best_of


class H2O(Method):
    phases = ("decode",)
    defaults = {"heavy_ratio": 0.1, "recent_ratio": 0.1}

    def __init__(self, *args, **params):
        super().__init__(*args, **params)
        self.mass, self.alive, self.margin = {}, {}, {}

    def accumulated(self, layer, c):
        """[Hkv, c + 1]: attention that the blocks have had before this step."""
        if layer not in self.mass:
            self.mass[layer] = mean_units(
                sum_over_blocks(self.tensors.p(layer), self.block).sum(axis=1),
                self.tensors.kv_heads,
            )
        old = self.mass[layer]
        self.mass[layer] = np.pad(old, ((0, 0), (0, c + 1 - old.shape[1])))
        return self.mass[layer]

    def row(self, layer, step):
        """[Hkv, c + 1]: dense probabilities of the step."""
        return mean_units(
            self.tensors.mass_decode(layer, self.block)[:, step, : self.current(step) + 1],
            self.tensors.kv_heads,
        )

    def decode(self, layer, step):
        scores = self.accumulated(layer, self.current(step)).copy()
        self.mass[layer] += self.row(layer, step)
        return scores

    def native_decode(self, layer, step):
        c, n, share = self.current(step), self.tensors.n, self.row(layer, step)
        heavy, recent = (
            math.ceil(self.params[name] * n / self.block)
            for name in ("heavy_ratio", "recent_ratio")
        )
        scores, latest = self.accumulated(layer, c), range(max(0, c + 1 - max(1, recent)), c + 1)
        alive = self.alive.setdefault(layer, [set(range(self.blocks())) for _ in scores])
        margin = self.margin.setdefault(layer, [math.inf] * len(scores))
        lists = []
        for unit, score in enumerate(scores):
            older = np.array(sorted(alive[unit] - set(latest)), int)
            best, gap = best_of(score[older], heavy)
            margin[unit] = min(margin[unit], gap)  # an early decision may show late
            alive[unit] = set(older[best].tolist()) | set(latest)
            lists.append(np.array(sorted(alive[unit])))
            gone = np.setdiff1d(np.arange(c + 1), lists[-1])
            score[gone] = 0
            score[lists[-1]] += share[unit, lists[-1]]
        return lists, list(margin)


REFERENCE = H2O
NATIVE_VARIATIONS = [
    {"heavy_ratio": 0.2},
    {"heavy_ratio": 0.05, "recent_ratio": 0.3},
    {"heavy_ratio": 0.0, "recent_ratio": 0.0},
]
