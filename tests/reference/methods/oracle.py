"""The true block mass, of a head, a KV group or a layer."""

from ..base import Method, mean_units


class Oracle(Method):
    has_native_rule = False
    defaults = {"unit": "head"}

    def units(self):
        return {"layer": 1, "group": self.tensors.kv_heads, "head": self.tensors.heads}[
            self.params["unit"]
        ]

    def prefill(self, layer):
        return mean_units(self.tensors.mass(layer, self.block), self.units())

    def decode(self, layer, step):
        return mean_units(
            self.tensors.mass_decode(layer, self.block)[:, step, : self.current(step) + 1],
            self.units(),
        )


REFERENCE = Oracle
VARIATIONS = [{"unit": "layer"}, {"unit": "group"}]
