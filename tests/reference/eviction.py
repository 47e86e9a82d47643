"""SnapKV and H2O in block form (decode; the prompt is dense). The query heads of a KV head share a
list.

Under the native rule what is dropped is gone; under a matched budget every step chooses among all
blocks.

Left open by the descriptions and taken so. SnapKV: a prompt no longer than the window scores 0
everywhere; an even kernel reaches one further back than forward; where the window's blocks alone
are more than the capacity they are kept. H2O: the first choice is made at the first decoded token,
so that the prompt's mass is whole; at least the current block is recent; scores are the means over
a group's heads."""

import functools
import math

import numpy as np

from .attention import sum_over_blocks
from .base import Method, mean_units
from .blocks import best_of
from .lines import last_rows


def average_pool(x, kernel):
    """x [..., n]: mean of `kernel` neighbours, zeros beyond the ends; the divisor is always the
    kernel."""
    n, before = x.shape[-1], kernel // 2
    padded = np.concatenate(
        [np.zeros((*x.shape[:-1], before)), x, np.zeros((*x.shape[:-1], kernel - 1 - before))],
        axis=-1,
    )
    return sum(padded[..., at : at + n] for at in range(kernel)) / kernel


class SnapKV(Method):
    phases = ("decode",)
    defaults = {"window": 32, "capacity": 2048, "pool_kernel": 5}

    @functools.cache
    def prompt_scores(self, layer):
        """[Hkv, b]: what the prompt's last queries see in the blocks before them."""
        a = last_rows(*self.tensors.layers[layer][:2], self.params["window"])
        n, before = self.tensors.n, self.tensors.n - a.shape[1]
        pooled = np.zeros((len(a), n))
        pooled[:, :before] = average_pool(a.sum(axis=1)[:, :before], self.params["pool_kernel"])
        return sum_over_blocks(mean_units(pooled, self.tensors.kv_heads), self.block)

    def decode(self, layer, step):
        """Blocks that decoding began rank before all others, the latest first (by the rule for
        ties)."""
        scores = self.prompt_scores(layer)
        return np.pad(
            scores, ((0, 0), (0, self.current(step) + 1 - scores.shape[1])), constant_values=np.inf
        )

    @functools.cache
    def kept_of_prompt(self, layer):
        n, b = self.tensors.n, self.blocks()
        window = range(max(0, n - self.params["window"]) // self.block, b)
        return [
            best_of(unit, -(-self.params["capacity"] // self.block), window)
            for unit in self.prompt_scores(layer)
        ]

    def native_decode(self, layer, step):
        began = np.arange(self.blocks(), self.current(step) + 1)
        chosen = self.kept_of_prompt(layer)
        return [np.concatenate([row, began]) for row, _ in chosen], [margin for _, margin in chosen]


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
