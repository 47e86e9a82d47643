"""Adamas (decode; the prompt is dense). A token's score is minus the L1 distance of the codes of
the query and its key: buckets at -10, 0, 10 of the coordinates of an unnormalised Walsh-Hadamard
transform. Native: single tokens, the current one among them. A list is a query head's."""

import numpy as np

from ..base import Method
from ..blocks import best_of

CUTS = (-10, 0, 10)


def hadamard(size):
    """The matrix of Sylvester, [size, size], size a power of two."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def codes(x):
    """x [..., d] -> [..., p], 0 to 3; zeros up to a power of two."""
    d = x.shape[-1]
    y = x.astype(float) @ hadamard(1 << (d - 1).bit_length())[:d]
    return np.searchsorted(CUTS, y, side="left")


def over_blocks(scores, block, how):
    """scores [H, n] -> [H, b]: the largest or the mean of a block's tokens."""
    blocks = np.split(scores, range(block, scores.shape[1], block), axis=1)
    return np.stack([getattr(part, how)(axis=1) for part in blocks], axis=1)


def as_tokens(scores, count, block, forced=()):
    """What native_decode returns where the `count` best tokens of each head are kept."""
    mask, margins = np.zeros(scores.shape, bool), []
    for unit, kept in zip(scores, mask, strict=True):
        chosen, margin = best_of(unit, min(count, len(unit)), forced)
        kept[chosen] = True
        margins.append(margin)
    current = (scores.shape[1] - 1) // block  # listed, whether a token of it is kept or not
    lists = [np.union1d(np.flatnonzero(kept) // block, [current]) for kept in mask]
    return lists, margins, mask


class Adamas(Method):
    phases = ("decode",)
    defaults = {"agg": "max", "token_budget": 1024}

    def token_scores(self, layer, step):
        q = codes(self.tensors.steps[layer][0][step])
        k = codes(self.keys(layer, step)).repeat(len(q) // self.tensors.kv_heads, axis=1)
        return -np.abs(q - k).sum(axis=-1).T

    def decode(self, layer, step):
        return over_blocks(self.token_scores(layer, step), self.block, self.params["agg"])

    def native_decode(self, layer, step):
        scores = self.token_scores(layer, step)
        last = [scores.shape[1] - 1]
        lists, margins, mask = as_tokens(scores, self.params["token_budget"], self.block, last)
        # whole numbers: what ties does so in any precision
        return lists, [np.inf for _ in margins], mask


REFERENCE = Adamas
VARIATIONS = [{"agg": "mean"}]
NATIVE_VARIATIONS = [{"token_budget": 96}, {"token_budget": 17}, {"token_budget": 1}]
