"""Small tensor bundles that tests share."""

import numpy as np

from .attention import Tensors


def gaussian(rng, n, heads, kv_heads, d, layers, steps=0, scale=1.0):
    """Independent normals, as float32 holds them. Queries and keys of a token are a little alike,
    so that blocks differ."""

    def one(count):
        common = rng.standard_normal((count, 1, d)) * scale
        q = common + rng.standard_normal((count, heads, d)) * scale
        k = common + rng.standard_normal((count, kv_heads, d)) * scale
        return [np.float32(x) for x in (q, k, rng.standard_normal((count, kv_heads, d)))]

    return [one(n) for _ in range(layers)], [one(steps) for _ in range(layers)] if steps else None


def structured(rng, n, heads, kv_heads, d, layers, block=16, strength=1.0, steps=0):
    """Every stretch of `block` tokens has a topic that its keys carry; its queries look for the
    topic of another stretch."""
    total = n + steps
    stretches = -(-total // block)
    prompt, decode = [], []
    for _ in range(layers):
        topics = rng.standard_normal((stretches, d))
        stretch = np.arange(total) // block
        wanted = np.array([rng.integers(0, s + 1) for s in range(stretches)])[stretch]
        q = rng.standard_normal((total, heads, d)) + strength * topics[wanted][:, None]
        k = rng.standard_normal((total, kv_heads, d)) + strength * topics[stretch][:, None]
        v = rng.standard_normal((total, kv_heads, d)) + topics[stretch][:, None]
        layer = [np.float32(x) for x in (q, k, v)]
        prompt.append([x[:n] for x in layer])
        decode.append([x[n:] for x in layer])
    return prompt, decode if steps else None


def duplicated_heads(rng, n, heads, kv_heads, d, layers, steps=0):
    prompt, decode = gaussian(rng, n, 1, 1, d, layers, steps)

    def copy(part):
        return part and [
            [np.repeat(x, count, axis=1) for x, count in zip(layer, (heads, kv_heads, kv_heads))]
            for layer in part
        ]

    return copy(prompt), copy(decode)


def constant_keys(rng, n, heads, kv_heads, d, layers, steps=0):
    """Every key of a head is the same, and entries are -1, 0 or 1: block scores tie exactly, also
    in single precision."""
    prompt, decode = [], []
    for _ in range(layers):
        q = rng.integers(-1, 2, (n + steps, heads, d))
        k = np.repeat(rng.integers(-1, 2, (1, kv_heads, d)), n + steps, axis=0)
        layer = [np.float32(x) for x in (q, k, rng.standard_normal((n + steps, kv_heads, d)))]
        prompt.append([x[:n] for x in layer])
        decode.append([x[n:] for x in layer])
    return prompt, decode if steps else None


def hot_key(rng, n, heads, kv_heads, d, layers, at, steps=0):
    """One key draws nearly all the attention of the later queries."""
    direction = rng.standard_normal(d)
    prompt, decode = gaussian(rng, n, heads, kv_heads, d, layers, steps, scale=0.5)
    for q, _k, _v in prompt + (decode or []):
        q += np.float32(0.5 * direction)
    for _q, k, _v in prompt:
        k[at] += np.float32(4.0 * direction)
    return prompt, decode


def multi_hop(block=16, strength=12.0, d=64, dislike=1 / 3):
    """Three layers of 16 blocks. The queries of block 12 look for block 7, those of block 7 for
    block 3, those of block 3 for itself; block 12 dislikes the keys of block 3. Only a walk of two
    hops gives block 3 to block 12. Where an even power makes dislike as good as liking, there must
    be none."""
    start, hop, target, blocks = 12, 7, 3, 16
    a, b, c = np.eye(d)[:3] * strength
    q, k = np.zeros((2, blocks, d))
    q[start] = a - dislike * b
    k[hop] = a
    q[hop] = b
    k[target] = b + c
    q[target] = c
    tokens = [np.float32(np.repeat(x, block, axis=0)[:, None]) for x in (q, k)]
    v = np.float32(np.random.default_rng(0).standard_normal((blocks * block, 1, d)))
    return [tokens + [v] for _ in range(3)], None, start, hop, target


def tensors(bundle):
    return Tensors(*bundle[:2])
