"""SnapKV in block form (decode; the prompt is dense). The query heads of a KV head share a list.

Under the native rule what is dropped is gone; under a matched budget every step chooses among all
blocks. Left open by the description and taken so: a prompt no longer than the window scores 0
everywhere; an even kernel reaches one further back than forward; where the window's blocks alone
are more than the capacity they are kept."""

import functools

import numpy as np

from ..attention import sum_over_blocks
from ..base import Method, mean_units
from ..blocks import best_of
from ..lines import last_rows


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


REFERENCE = SnapKV
VARIATIONS = [{"window": 7, "pool_kernel": 3}]
NATIVE_VARIATIONS = [
    {"capacity": 128},
    {"capacity": 100, "window": 20, "pool_kernel": 3},
    {"capacity": 40, "window": 40},
]
