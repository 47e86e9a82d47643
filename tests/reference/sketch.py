"""Block means and the subsampled randomised Hadamard transform (SRHT)."""

import numpy as np

from . import rng
from .blocks import block_count, block_sizes


def block_means(x, block, padded=False):
    """x [n, heads, d] -> [heads, b, d]. The tail divides by its own tokens, or, padded with zeros,
    by B."""
    n, heads, d = x.shape
    b = block_count(n, block)
    whole = np.zeros((b * block, heads, d))
    whole[:n] = x
    size = np.full(b, block) if padded else block_sizes(n, block)
    return (whole.reshape(b, block, heads, d).sum(axis=1) / size[:, None, None]).transpose(1, 0, 2)


def block_logits(q, k, block):
    """Unscaled <mean query of i, mean key of j>: [H, b, b], with means over real tokens."""
    key = block_means(k, block)
    query = block_means(q, block)
    key = np.repeat(key, len(query) // len(key), axis=0).transpose(0, 2, 1)
    # Scores are ordered in single precision: what its rounding of the largest terms cannot tell
    # apart is a tie.
    step = 2.0**-24 * np.max(abs(query) @ abs(key), initial=1e-300)
    return np.round(query @ key / step) * step


def next_power_of_two(d):
    return 1 << (d - 1).bit_length()


def hadamard(size):
    """Walsh-Hadamard matrix of +1 and -1, unnormalised."""
    h = np.ones((1, 1))
    while len(h) < size:
        h = np.block([[h, h], [h, -h]])
    return h


def signs(seed, size):
    return np.array([-1.0 if rng.u64(seed, rng.SIGNS, c) & 1 else 1.0 for c in range(size)])


def kept_coordinates(seed, size, r):
    """The first r entries of a Fisher-Yates shuffle."""
    order = list(range(size))
    for i in range(size - 1, 0, -1):
        j = rng.u64(seed, rng.PERMUTATION, i) % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order[:r]


class Transform:
    """x [..., d] -> kept entries [..., r] of the unnormalised H·D·x, x padded with zeros to d' =
    the next power of two."""

    def __init__(self, d, r, seed):
        self.d, self.size = d, next_power_of_two(d)
        self.r = min(r, self.size)
        matrix = hadamard(self.size) * signs(seed, self.size)
        self.matrix = matrix[kept_coordinates(seed, self.size, self.r)][:, :d]

    def raw(self, x):
        return x @ self.matrix.T

    def unbiased(self, x):
        """sqrt(d'/r) · S · H/sqrt(d') · D · x: inner products are kept on average, and exactly when
        r = d'."""
        return self.raw(x) / np.sqrt(self.r)
