"""Dense causal attention, true block mass, and attention under block lists."""

import functools

import numpy as np

from .blocks import block_count


def softmax(x, axis=-1):
    """Of rows with at least one finite entry; -inf stays out."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def probabilities(q, k, first=0):
    """P [H, len(q), n]: query t stands at position first + t and sees the keys up to itself."""
    n_q, heads, d = q.shape
    n, kv_heads, _ = k.shape
    k = np.repeat(k, heads // kv_heads, axis=1)
    logits = np.matmul(q.transpose(1, 0, 2), k.transpose(1, 2, 0)) / np.sqrt(d)
    allowed = np.arange(n) <= first + np.arange(n_q)[:, None]
    return softmax(np.where(allowed, logits, -np.inf))


def weighted_values(p, v):
    """p [H, rows, n], v [n, Hkv, d] -> [rows, H, d]."""
    v = np.repeat(v, p.shape[0] // v.shape[1], axis=1)
    return np.matmul(p, v.transpose(1, 0, 2)).transpose(1, 0, 2)


def sum_over_blocks(x, block):
    """[..., n] -> [..., b]."""
    return np.add.reduceat(x, np.arange(0, x.shape[-1], block), axis=-1)


def block_mass(p, block):
    """M[h,i,j]: mean over the queries of block i of the probability that falls into block j. p [H,
    n, n]."""
    mass = sum_over_blocks(p, block)
    return np.stack(
        [mass[:, at : at + block].mean(axis=1) for at in range(0, p.shape[1], block)], axis=1
    )


def masked_output(p, mask, v):
    """Attention restricted to mask [U, rows, n]; the heads of a unit share it."""
    kept = p * np.repeat(mask, p.shape[0] // mask.shape[0], axis=0)
    return weighted_values(kept, v) / kept.sum(axis=-1).T[:, :, None]


class Tensors:
    """The contents of a tensor bundle, with what dense attention makes of them (kept once made)."""

    def __init__(self, layers, decode=None):
        """layers, decode: a list of (q, k, v), [n, heads, d] each."""
        self.layers = [tuple(np.asarray(x, float) for x in layer) for layer in layers]
        self.steps = [tuple(np.asarray(x, float) for x in layer) for layer in decode or []]
        self.n, self.heads, self.d = self.layers[0][0].shape
        self.kv_heads = self.layers[0][1].shape[1]
        self.n_steps = len(self.steps[0][0]) if self.steps else 0

    def all_keys(self, layer):
        return np.concatenate([self.layers[layer][1], self.steps[layer][1]])

    def all_values(self, layer):
        return np.concatenate([self.layers[layer][2], self.steps[layer][2]])

    @functools.cache
    def p(self, layer):
        q, k, _ = self.layers[layer]
        return probabilities(q, k)

    @functools.cache
    def p_decode(self, layer):
        return probabilities(self.steps[layer][0], self.all_keys(layer), first=self.n)

    @functools.cache
    def mass(self, layer, block):
        return block_mass(self.p(layer), block)

    @functools.cache
    def mass_decode(self, layer, block):
        """[H, steps, b]: rows of single queries."""
        return sum_over_blocks(self.p_decode(layer), block)

    @functools.cache
    def dense_output(self, layer):
        return weighted_values(self.p(layer), self.layers[layer][2])

    @functools.cache
    def dense_output_decode(self, layer):
        return weighted_values(self.p_decode(layer), self.all_values(layer))

    @functools.cache
    def rollout(self, layer, block):
        """Influence through the layers below: M̄·P of the layer below, P = (I/2 + M̄/2)·(that of
        the layer below)."""
        return self._mean_mass(layer, block) @ self._rollout_product(layer - 1, block)

    def rollout_decode(self, layer, block):
        """[m, blocks]: the same for each decode step. The prompt's matrices, with the step's own
        row for its block; blocks that only decode steps have filled pass influence to themselves
        alone."""
        own = [self.mass_decode(below, block).mean(axis=0) for below in range(layer + 1)]
        prompt = block_count(self.n, block)
        rows = np.zeros(own[0].shape)
        for step in range(len(rows)):
            blocks = block_count(self.n + step + 1, block)

            def matrix(below, step=step, blocks=blocks):
                mass = np.eye(blocks)
                mass[:prompt, :prompt] = self._mean_mass(below, block)
                mass[blocks - 1] = own[below][step, :blocks]
                return mass

            product = np.eye(blocks)
            for below in range(layer):
                product = (np.eye(blocks) + matrix(below)) / 2 @ product
            rows[step, :blocks] = matrix(layer)[blocks - 1] @ product
        return rows

    def _mean_mass(self, layer, block):
        return self.mass(layer, block).mean(axis=0)

    @functools.cache
    def _rollout_product(self, layer, block):
        identity = np.eye(block_count(self.n, block))
        if layer < 0:
            return identity
        return (
            (identity + self._mean_mass(layer, block)) / 2 @ self._rollout_product(layer - 1, block)
        )
