"""A draw a block: a hash of its place."""

from .. import rng
from ..base import Method
from ..blocks import block_count


class Random(Method):
    has_native_rule = False
    defaults = {"agg": "head"}

    def units(self):
        return {"layer": 1, "head": self.tensors.heads}[self.params["agg"]]

    def prefill(self, layer):
        b = block_count(self.tensors.n, self.block)
        return rng.hash_scores(self.seed, layer, self.units(), range(b), b)

    def decode(self, layer, step):
        c = self.current(step)
        return rng.hash_scores(self.seed, layer, self.units(), [c], c + 1)[:, 0]


REFERENCE = Random
VARIATIONS = [{"agg": "layer"}]
