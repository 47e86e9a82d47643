"""Double Sparsity (decode; the prompt is dense). A token's score is the product of the query and
its key over the channels of the KV head that are largest in the prompt's last tokens, the key
rounded to 16 levels between its own extremes there. Native: the best tokens."""

import functools

import numpy as np

from ..base import Method
from .adamas import as_tokens, over_blocks


def largest_channels(q, k, count):
    """q [n, H, d], k [n, Hkv, d] -> [Hkv, count]: by the mean over tokens and the heads of a group
    of |q_tc k_tc|."""
    n, kv_heads, d = k.shape
    products = np.abs(q.reshape(n, kv_heads, -1, d) * k[:, :, None, :].astype(float))
    means = products.mean(axis=(0, 2))
    return np.argsort(-means, axis=1, kind="stable")[:, :count]


def rounded(x):
    """x [..., c], each row to 16 levels of its own; in single precision, as that is its
    definition."""
    x = x.astype(np.float32)
    low = x.min(axis=-1, keepdims=True)
    step = (x.max(axis=-1, keepdims=True) - low) / np.float32(15)
    level = np.rint((x - low) / np.where(step > 0, step, np.float32(1)))
    return low.astype(float) + step.astype(float) * np.minimum(level, 15)


class DoubleSparsity(Method):
    phases = ("decode",)
    free_token = True
    defaults = {"agg": "max", "heavy_const": 256, "group_factor": 8, "calibration_tokens": 512}

    @functools.cache
    def channels(self, layer):
        q, k = self.tensors.layers[layer][:2]
        last = slice(-min(self.params["calibration_tokens"], len(q)), None)
        return largest_channels(
            q[last], k[last], max(1, q.shape[-1] // self.params["group_factor"])
        )

    def token_scores(self, layer, step):
        q, channels = self.tensors.steps[layer][0][step], self.channels(layer)
        keys = self.keys(layer, step)
        labels = rounded(np.take_along_axis(keys, channels[None], axis=2))
        q = q.reshape(len(channels), -1, q.shape[-1]).astype(float)
        mine = np.take_along_axis(q, channels[:, None], axis=2)
        scores = np.einsum("gac,ngc->gan", mine, labels) / np.sqrt(q.shape[-1])
        return scores.reshape(-1, len(keys))

    def decode(self, layer, step):
        return over_blocks(self.token_scores(layer, step), self.block, self.params["agg"])

    def native_decode(self, layer, step):
        return as_tokens(self.token_scores(layer, step), self.params["heavy_const"], self.block)


REFERENCE = DoubleSparsity
VARIATIONS = [{"agg": "mean"}, {"group_factor": 2, "calibration_tokens": 100}]
NATIVE_VARIATIONS = [{"heavy_const": 49}, {"heavy_const": 17, "group_factor": 4}]
