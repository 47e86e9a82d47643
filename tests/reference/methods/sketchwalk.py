"""Sketch&Walk: a file of ../sketchwalk for each of its forms."""

from ..sketchwalk.icml import Icml
from ..sketchwalk.softmax import Softmax

VARIANTS = {"arxiv": Softmax, "icml": Icml}
DEFAULT_VARIANT = "arxiv"


def each(variant, *cases):
    return [{"variant": variant, **case} for case in cases]


# What concerns the scores, and therefore onehop as well.
SCORE_VARIATIONS = [
    *each("arxiv", {}, {"per_head": True}, {"per_group": True}, {"causal_blocks": False}),
    *each("icml", {}, {"per_head": True}, {"per_group": True}, {"causal_blocks": False}),
    *each("arxiv", {"sketch": "exact"}, {"tail_mean": "padded"}, {"sketch_dim": 16}),
    *each("icml", {"sketch": "exact"}, {"tail_mean": "padded"}, {"sketch_dim": 16}),
    *each("icml", {"temperature": 10}, {"decode_query_window": 4}),
]
VARIATIONS = [
    *SCORE_VARIATIONS,
    *each("arxiv", {"exponent": 1}, {"exponent": 4}, {"normalize": "none"}),
    *each("arxiv", {"logit_scale": "r", "sketch_dim": 32}, {"sketch_dim": 8, "per_head": True}),
    *each("arxiv", {"causal_blocks": False, "per_head": True}),
    *each(
        "icml", {"sketch_dim": 32, "per_head": True}, {"causal_blocks": False, "per_group": True}
    ),
    *each("icml", {"degree": 1}, {"degree": 6}, {"damping": 0.75}),
]
NATIVE_SCORE_VARIATIONS = each("icml", {}, {"per_head": True})
NATIVE_VARIATIONS = each(
    "icml",
    {},
    {"per_head": True},
    {"per_group": True},
    {"sink_uses_window": True},
    {"top_share": 0.3},
    {"dense_tail_blocks": 0},
    {"causal_blocks": False, "tail_mean": "padded"},
    {"sink_share": 0.1, "window_share": 0.2},
)
