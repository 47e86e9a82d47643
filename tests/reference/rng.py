"""Counter-based random numbers: the finaliser of splitmix64 over (seed, purpose, index)."""

import numpy as np

SIGNS, PERMUTATION, RANDOM_METHOD, LAYER = 1, 2, 3, 10
MASK = (1 << 64) - 1


def mix64(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def mix64_array(x):
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def stream(seed, purpose):
    return mix64(mix64(seed) ^ (purpose << 32))


def u64(seed, purpose, index):
    return mix64(stream(seed, purpose) ^ index)


def uniform(seed, purpose, index):
    """In [0, 1), for an array of uint64 counters."""
    bits = mix64_array(np.uint64(stream(seed, purpose)) ^ np.asarray(index, np.uint64))
    return (bits >> np.uint64(11)).astype(float) * 2.0**-53


def hash_scores(seed, layer, units, rows, cols):
    """The random method's scores [units, len(rows), cols]."""
    unit = np.arange(units, dtype=np.uint64) + np.uint64(layer * units)
    row, col = np.asarray(rows, np.uint64), np.arange(cols, dtype=np.uint64)
    index = (unit << np.uint64(40))[:, None, None] | (row << np.uint64(20))[:, None] | col
    return uniform(seed, RANDOM_METHOD, index)
