"""What the forms of Sketch&Walk share."""

import numpy as np

from ..attention import softmax
from ..base import Method, mean_units
from ..sketch import Transform


class SketchMethod(Method):
    def __init__(self, *args, **params):
        super().__init__(*args, **params)
        self.transform = Transform(self.tensors.d, self.params["sketch_dim"], self.seed)

    @property
    def looks_ahead(self):
        one_hop = self.params["walk"] == "none"
        if self.params["causal_blocks"] or (one_hop and self.softmaxes_a_row() == 1):
            return ""  # later blocks scale a row of one softmax, and change no order
        return "a row's softmax is over later blocks too"

    def softmaxes_a_row(self):
        return 1

    def units(self):
        if self.params["per_head"]:
            return self.tensors.heads
        return self.tensors.kv_heads if self.params["per_group"] else 1

    def padded(self):
        return self.params["tail_mean"] == "padded"

    def true_mass(self, layer):
        return mean_units(self.tensors.mass(layer, self.block), self.units())


def row_softmax(logits, causal):
    if causal:
        logits = np.where(np.tri(*logits.shape[-2:], dtype=bool), logits, -np.inf)
    return softmax(logits)
