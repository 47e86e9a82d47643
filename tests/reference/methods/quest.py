"""Quest (decode; the prompt is dense). A page is a block; its score is an upper bound of the logits
of its keys. A list is a head's own, or, with agg: group_sum, that of the query heads of a KV
head."""

import numpy as np

from ..base import Method
from ..blocks import best_of


def upper_bounds(q, k, block):
    """q [H, d], k [n, Hkv, d] -> U [H, b]: sum over c of max(q_c max_u k_uc, q_c min_u k_uc)."""
    heads = len(q)
    k = np.repeat(k, heads // k.shape[1], axis=1)
    starts = np.arange(0, len(k), block)
    high, low = np.maximum.reduceat(k, starts), np.minimum.reduceat(k, starts)
    return np.maximum(q * high, q * low).sum(axis=-1).T


class Quest(Method):
    phases = ("decode",)
    defaults = {"agg": "head", "token_budget": 1024}

    def decode(self, layer, step):
        u = upper_bounds(self.tensors.steps[layer][0][step], self.keys(layer, step), self.block)
        if self.params["agg"] == "group_sum":
            u = u.reshape(self.tensors.kv_heads, -1, u.shape[1]).sum(axis=1)
        return u

    def native_decode(self, layer, step):
        pages, c = max(1, self.params["token_budget"] // self.block), self.current(step)
        chosen = [best_of(unit, pages, [c]) for unit in self.decode(layer, step)]
        return [row for row, _ in chosen], [margin for _, margin in chosen]


REFERENCE = Quest
VARIATIONS = [{"agg": "group_sum"}]
NATIVE_VARIATIONS = [
    {"token_budget": 96},
    {"token_budget": 96, "agg": "group_sum"},
    {"token_budget": 16},
    {"token_budget": 1},
]
