"""Sketch&Walk: a file of ../sketchwalk for each of its forms."""

from ..sketchwalk.icml import Icml
from ..sketchwalk.printed import Printed
from ..sketchwalk.softmax import Softmax

VARIANTS = {"arxiv": Printed, "softmax": Softmax, "icml": Icml}
DEFAULT_VARIANT = "arxiv"


def each(variant, *cases):
    return [{"variant": variant, **case} for case in cases]


HEAD, GROUP, ALL_BLOCKS = {"per_head": True}, {"per_group": True}, {"causal_blocks": False}
SKETCHES = [
    {"sketch": "exact"},
    {"tail_mean": "padded"},
    {"sketch_dim": 16},
    {"sketch_dim": 16, "transform": "layer"},
]
# What concerns the scores, and therefore onehop as well.
SCORE_VARIATIONS = [
    *each("arxiv", {}, HEAD, GROUP, *SKETCHES, {"signed": True}, {"exponent": 3}),
    *each("softmax", {}, HEAD, GROUP, ALL_BLOCKS, *SKETCHES),
    *each("icml", {}, HEAD, GROUP, ALL_BLOCKS, *SKETCHES, {"preset": "released"}),
    *each("icml", {"temperature": 10}, {"decode_query_window": 4}),
    *each("icml", {"preset": "released", "sketch": "exact", "temperature": 0.1}),
]
VARIATIONS = [
    *SCORE_VARIATIONS,
    *each("arxiv", {"exponent": 1}, {"exponent": 2}, {"signed": True, "exponent": 2.5}),
    *each("softmax", {"exponent": 1}, {"exponent": 4}, {"sketch_dim": 8, **HEAD}),
    *each("softmax", {"logit_scale": "r", "sketch_dim": 32}, {**ALL_BLOCKS, **HEAD}),
    *each("icml", {"sketch_dim": 32, **HEAD}, {**ALL_BLOCKS, **GROUP}),
    *each("icml", {"degree": 1}, {"degree": 6}, {"damping": 0.75}),
]
NATIVE_SCORE_VARIATIONS = [
    *each("arxiv", {}, HEAD),
    *each("softmax", {}, HEAD),
    *each("icml", {}, HEAD, {"preset": "sound"}),
]
NATIVE_VARIATIONS = [
    *each("arxiv", {}, HEAD, {"signed": True}),
    *each("softmax", {}, GROUP),
    *each("icml", {}, HEAD, GROUP, {"preset": "sound"}, {"sink_uses_window": False}),
    *each("icml", {"top_share": 0.3}, {"dense_tail_blocks": 0}, {"sketch_dim": 16}),
    *each("icml", {"sink_share": 0.1, "window_share": 0.2}),
    *each("icml", {"preset": "sound", "sink_share": 0.1, "window_share": 0.02, "top_share": 0.4}),
]
