"""The first and the most recent blocks."""

import math

import numpy as np

from .. import selection
from ..base import Method
from ..blocks import block_count


class SinkWindow(Method):
    """Most recent first. Under a native budget: the blocks of the first `start` and the last
    `recent` tokens."""

    defaults = {"start": 4, "recent": 512}

    def prefill(self, layer):
        b = block_count(self.tensors.n, self.block)
        return np.broadcast_to(np.arange(b, dtype=float), (1, b, b))

    def decode(self, layer, step):
        return np.arange(self.current(step) + 1, dtype=float)[None]

    def native_list(self, first):
        """Of the row whose first query stands at `first`: what that query sees, and the rest."""
        i = first // self.block
        first_recent = max(0, first - self.params["recent"] + 1) // self.block
        return np.array(
            [
                j
                for j in range(i + 1)
                if j < math.ceil(self.params["start"] / self.block) or j >= first_recent
            ]
        )

    def native_on_scores(self, scores, first, last, query_blocks):
        lists = [[self.native_list(int(t)) for t in first]]
        return selection.Selection(self.block, lists, first, last)


REFERENCE = SinkWindow
NATIVE_VARIATIONS = [{"start": 4, "recent": 100}, {"start": 40, "recent": 64}]
