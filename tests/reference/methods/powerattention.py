"""PowerAttention: the blocks 1, 2, 4, 8 ... back, whatever queries and keys are. One list a
layer."""

import numpy as np

from .. import selection
from ..base import Method

POWERS = {1 << x for x in range(31)}


def row(i):
    """Scores of blocks 0 ... i: powers of two before all others, near before far."""
    back = i - np.arange(i + 1)
    return np.array([(1.0 if x in POWERS else 0.0) + 1 / (x + 1) for x in back.tolist()])


class PowerAttention(Method):
    defaults = {"sink_blocks": 1, "window_blocks": 2}

    def prefill(self, layer):
        b = self.blocks()
        return np.array([[np.pad(row(i), (0, b - 1 - i)) for i in range(b)]])

    def decode(self, layer, step):
        return row(self.current(step))[None]

    def native_list(self, i):
        p = self.params
        return np.array(
            [
                j
                for j in range(i + 1)
                if j < p["sink_blocks"] or i - j < p["window_blocks"] or i - j in POWERS
            ]
        )

    def native_on_scores(self, scores, first, last, query_blocks):
        lists = [[self.native_list(int(t) // self.block) for t in last]]
        return selection.Selection(self.block, lists, first, last)


REFERENCE = PowerAttention
NATIVE_VARIATIONS = [
    {"sink_blocks": 0, "window_blocks": 1},
    {"sink_blocks": 3, "window_blocks": 4},
]
