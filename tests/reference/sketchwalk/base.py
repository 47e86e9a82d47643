"""What the forms of Sketch&Walk share."""

import functools

import numpy as np

from .. import rng
from ..attention import softmax
from ..base import Method, mean_units
from ..sketch import Transform, block_means

COMMON = {
    "sketch": "hadamard",
    "transform": "auto",
    "causal_blocks": "auto",
    "tail_mean": "auto",
    "per_head": False,
    "per_group": False,
    "walk": "on",
}


class SketchMethod(Method):
    released = False  # whether what is `auto` follows the released code

    @functools.cache
    def transform(self, layer):
        one_each = self.choice("transform", "layer" if self.released else "shared") == "layer"
        seed = rng.u64(self.seed, rng.LAYER, layer) if one_each else self.seed
        return Transform(self.tensors.d, self.params["sketch_dim"], seed)

    def choice(self, name, usual):
        """A parameter that may be `auto`; truth values may be given as such or as words."""
        value = self.params[name]
        value = {True: "true", False: "false"}.get(value, value)
        return usual if value == "auto" else value

    def causal(self):
        return self.choice("causal_blocks", "false" if self.released else "true") == "true"

    def padded(self):
        return self.choice("tail_mean", "padded" if self.released else "true") == "padded"

    @property
    def looks_ahead(self):
        one_hop = self.params["walk"] == "none"
        if self.causal() or (one_hop and self.softmaxes_a_row() == 1):
            return ""  # later blocks scale a row of one softmax, and change no order
        return "a row's softmax is over later blocks too"

    def softmaxes_a_row(self):
        return 1

    def units(self):
        if self.params["per_head"]:
            return self.tensors.heads
        return self.tensors.kv_heads if self.params["per_group"] else 1

    def true_mass(self, layer):
        return mean_units(self.tensors.mass(layer, self.block), self.units())


class AveragedHeads(SketchMethod):
    """arxiv and softmax: q and k are averaged over a unit's heads, then sketched."""

    def sketch(self, x, layer):
        return x if self.params["sketch"] == "exact" else self.transform(layer).unbiased(x)

    def query_units(self, q):
        """[n, H, d] -> [n, U, d]."""
        return mean_units(q.transpose(1, 0, 2), self.units()).transpose(1, 0, 2)

    def query_sketch(self, q, layer):
        return self.sketch(block_means(self.query_units(q), self.block, self.padded()), layer)

    def single_query(self, layer, step):
        """[U, 1, r]."""
        q = self.tensors.steps[layer][0][step : step + 1]
        return self.sketch(self.query_units(q).transpose(1, 0, 2), layer)

    def key_sketch(self, k, layer):
        """Units that share a KV head share its sketch: [U, b, r]."""
        if self.units() == 1:
            k = k.mean(axis=1, keepdims=True)
        means = block_means(k, self.block, self.padded())
        return np.repeat(self.sketch(means, layer), self.units() // len(means), axis=0)


def row_softmax(logits, causal):
    if causal:
        logits = np.where(np.tri(*logits.shape[-2:], dtype=bool), logits, -np.inf)
    return softmax(logits)
