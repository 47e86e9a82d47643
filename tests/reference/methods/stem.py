"""Stem (prefill; decode is dense). A list is a head's own.

The score of two blocks is the mean logit of their groups of `stride` tokens, without causality
within the blocks, and a bonus for groups of key tokens whose largest value is larger than usual in
its head. Tokens that the last block lacks are zero vectors, and count in the means."""

import numpy as np

from .. import selection
from ..base import Method
from ..blocks import best_of, block_count
from .xattention import group_logits


def over_blocks(x, per_block, axis):
    """Means over blocks of groups; those that the last block lacks are zeros."""
    lack = -x.shape[axis] % per_block
    pad = [(0, lack if a == axis % x.ndim else 0) for a in range(x.ndim)]
    whole = np.moveaxis(np.pad(x, pad), axis, -1)
    whole = whole.reshape(*whole.shape[:-1], -1, per_block).mean(axis=-1)
    return np.moveaxis(whole, -1, axis)


def value_bonus(v, stride):
    """v [n, Hkv, d] -> [Hkv, groups]: how far above the mean, in deviations; below it 0."""
    size = np.linalg.norm(v, axis=-1).T
    groups = block_count(len(v), stride)
    padded = np.zeros((len(size), groups * stride))
    padded[:, : len(v)] = size
    x = np.log(padded.reshape(len(size), groups, stride).max(axis=-1) + 1e-6)
    whole = x[:, : len(v) // stride]
    if whole.shape[1] < 2:
        return np.zeros_like(x)
    mean, deviation = whole.mean(axis=1), whole.std(axis=1, ddof=1)
    return np.maximum(0, (x - mean[:, None]) / (deviation[:, None] + 1e-6))


def early_blocks(b, keep_ratio, released):
    k = int(keep_ratio * b)
    if released and k != b:
        k = b if b < 56 else int(b * 0.2 + 30) if b < 160 else int(b * 0.1) + 30
    return max(1, k)


def schedule(b, early, decay):
    """Blocks of each row. The line from `early` to its decay is counted from both ends."""
    steps = b - early
    if steps < 2:
        return [early] * b
    last = early * decay
    step = (last - early) / (steps - 1)
    line = [
        early + step * x if x < steps // 2 else last - step * (steps - 1 - x) for x in range(steps)
    ]
    return [early] * early + [max(1, int(np.floor(x))) for x in line]


class Stem(Method):
    phases = ("prefill",)
    looks_ahead = "values' sizes against the whole prompt's"
    defaults = {
        "stride": 8,
        "bonus": 0.2,
        "schedule": "ratio",
        "keep_ratio": 0.2,
        "decay": 0.7,
        "initial_blocks": 4,
        "window_blocks": 4,
    }
    native_defaults = {"schedule": "released"}

    def prefill(self, layer):
        q, k, v = self.tensors.layers[layer]
        stride = self.params["stride"]
        per_block = self.block // stride
        logits = over_blocks(over_blocks(group_logits(q, k, stride), per_block, 1), per_block, 2)
        bonus = over_blocks(self.params["bonus"] * value_bonus(v, stride), per_block, 1)
        return logits + np.repeat(bonus, len(logits) // len(bonus), axis=0)[:, None, :]

    def native_prefill(self, layer):
        p = self.params
        b = self.blocks()
        early = early_blocks(b, p["keep_ratio"], p["schedule"] == "released")
        counts = schedule(b, early, p["decay"])
        lists, margins = [], []
        for unit in self.prefill(layer):
            rows, gaps = [], []
            for i in range(b):
                best, gap = best_of(unit[i, : i + 1], min(counts[i], i + 1))
                forced = [
                    j for j in range(i + 1) if j < p["initial_blocks"] or i - j < p["window_blocks"]
                ]
                rows.append(np.union1d(best, forced).astype(int))
                gaps.append(gap)
            lists.append(rows)
            margins.append(gaps)
        rows = selection.prefill_rows(self.tensors.n, self.block)
        return selection.Selection(self.block, lists, *rows, margin=margins)


REFERENCE = Stem
VARIATIONS = [{"stride": 16}, {"stride": 4, "bonus": 2.0}, {"bonus": 0.0}]
NATIVE_VARIATIONS = [
    {"schedule": "ratio"},
    {"schedule": "ratio", "keep_ratio": 0.4, "decay": 0.3, "initial_blocks": 1, "window_blocks": 1},
    {"schedule": "ratio", "keep_ratio": 0.1, "initial_blocks": 0, "window_blocks": 2},
    {"schedule": "ratio", "keep_ratio": 0.0, "bonus": 2.0},
]
