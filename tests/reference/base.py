"""What all methods have in common.

prefill(layer) returns the block scores of the prompt's rows [U, b, b]; decode(layer, step) those of
one decoded token [U, c + 1] and must follow the prompt and the steps before it, layer by layer,
since state is kept. Both are only called for sparse layers and for the phases that the method has;
in the other phase it is dense. Under a matched budget these scores are all that a method says (one
with choices of its own for every token overrides matched_prefill); a native rule is native_prefill
and native_decode, or native_on_scores."""

from . import selection
from .blocks import block_count


class Method:
    phases = ("prefill", "decode")
    has_native_rule = True
    # Why lists of earlier rows depend on the prompt's end; "": they do not.
    looks_ahead = ""
    # A native rule that needs the scores alone: a function (scores, first, last, query_blocks) ->
    # Selection of rows of the tokens first ... last; query_blocks: of the prompt, None in decode.
    native_on_scores = None
    # Whether a native rule that chooses single tokens may leave the query's own one out.
    free_token = False

    def __init__(self, tensors, block, dense_layers, seed, native=False, density=1.0, **params):
        """native: under the native budget; density: asked for."""
        self.tensors, self.block, self.first_sparse, self.seed = tensors, block, dense_layers, seed
        self.native, self.density = native, density
        unknown = set(params) - set(self.defaults)
        assert not unknown, f"no such parameter: {unknown}"
        self.params = {**self.defaults, **(self.native_defaults if native else {}), **params}

    defaults = {}
    native_defaults = {}  # what differs under the native budget: the published values

    def forced(self):
        """(leading, trailing) blocks that a matched budget has to pay for."""
        return 1, 2

    def blocks(self):
        """Of the prompt."""
        return block_count(self.tensors.n, self.block)

    def keys(self, layer, step):
        """All keys that step's query sees, its own included."""
        return self.tensors.all_keys(layer)[: self.tensors.n + step + 1]

    def current(self, step):
        return (self.tensors.n + step) // self.block

    def matched_prefill(self, layer, m):
        """The Selection with m[i] blocks besides the diagonal in row i."""
        return selection.by_budget(
            self.prefill(layer), m, self.block, *selection.prefill_rows(self.tensors.n, self.block)
        )

    def native_prefill(self, layer):
        """The Selection by the method's own rule."""
        raise NotImplementedError

    def native_decode(self, layer, step):
        """(lists [U], margins [U]) by the method's own rule; where it keeps single tokens, also
        which [U, keys]."""
        raise NotImplementedError


def mean_units(x, units):
    """[heads, ...] -> [units, ...], each the mean of consecutive heads."""
    return x.reshape(units, -1, *x.shape[1:]).mean(axis=1)
