"""The forms of Sketch&Walk without their walk."""

from . import sketchwalk

VARIANTS = sketchwalk.VARIANTS
DEFAULT_VARIANT = "icml"
FIXED = {"walk": "none"}
VARIATIONS = sketchwalk.SCORE_VARIATIONS
NATIVE_VARIATIONS = sketchwalk.NATIVE_SCORE_VARIATIONS
