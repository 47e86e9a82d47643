"""FlexPrefill (prefill; decode is dense). Every head is query-aware or of the vertical-slash kind,
by a test on the prompt's last block of tokens (not block-aligned). A list is a head's own.

Left open by the description and taken so: in a matched budget a head is what the test says, also
where the prompt is so short that the native rule is dense; block 0 and offset 0 stay when a minimum
of 0 blocks would drop them; where the minimum exceeds the maximum, the maximum holds."""

import numpy as np

from .. import lines, selection
from ..attention import softmax, sum_over_blocks
from ..base import Method
from ..blocks import best_of, relative_gap
from ..sketch import block_logits, block_means


def divergence(p, q):
    """Square root of the Jensen-Shannon divergence in nats; 0 log 0 = 0."""
    m = (p + q) / 2

    def kl(x):
        return sum(a * np.log(a / b) for a, b in zip(x, m) if a > 0)

    return np.sqrt(max(0.0, (kl(p) + kl(q)) / 2))


def tokens_reaching(values, gamma):
    """How many of the largest values have prefix sums within gamma, and one more."""
    return int((np.cumsum(np.sort(values)[::-1]) <= gamma).sum()) + 1


def blocks_reaching(values, gamma, block):
    """tokens_reaching in blocks, and how near a prefix sum comes to gamma where it would make
    another count of blocks."""
    sums = np.cumsum(np.sort(values)[::-1])[block - 2 if block > 1 else 0 :: block]
    margin = float(abs(sums - gamma).min() / gamma) if len(sums) else np.inf
    return tokens_reaching(values, gamma) // block + 1, margin


def entries_within(scores, limit):
    """scores [b, b]: the causal entries, largest first (ties: the later row, then the later
    column), as long as the running sum stays within the limit. Returns their (i, j) and the nearest
    decision."""
    order = sorted((-scores[i, j], -i, -j) for i in range(len(scores)) for j in range(i + 1))
    sums = np.cumsum([-value for value, _, _ in order])
    count = int((sums <= limit).sum())
    values = scores[np.tril_indices(len(scores))]
    gap = relative_gap([-x[0] for x in order[:count]], [-x[0] for x in order[count:]], values)
    return [(-i, -j) for _, i, j in order[:count]], min(gap, float(abs(sums - limit).min() / limit))


class FlexPrefill(Method):
    phases = ("prefill",)
    looks_ahead = "columns, diagonals and the pattern of a head by the last queries"
    defaults = {
        "gamma": 0.9,
        "tau": 0.1,
        "min_budget": 512,
        "max_budget": 0,
        "straddle": False,
        "slash_blocks": "diagonal",
    }
    native_defaults = {"slash_blocks": "end"}

    def attention(self, layer):
        return lines.last_rows(*self.tensors.layers[layer][:2], self.block)

    def pattern_distance(self, layer):
        """[H]: between the last queries' true block distribution and that of the mean query and
        mean keys."""
        q, k, _ = self.tensors.layers[layer]
        a = self.attention(layer)
        true = sum_over_blocks(a, self.block).mean(axis=1)
        mean = q[len(q) - a.shape[1] :].mean(axis=0)
        key = np.repeat(
            block_means(k, self.block), self.tensors.heads // self.tensors.kv_heads, axis=0
        )
        guess = softmax(np.einsum("hd,hbd->hb", mean, key) / np.sqrt(self.tensors.d))
        return np.array([divergence(p, q) for p, q in zip(guess, true)])

    def query_aware(self, layer):
        return self.pattern_distance(layer) < self.params["tau"]

    def pooled(self, layer):
        """Row softmax over j <= i of the means' logits: [H, b, b]."""
        logits = block_logits(*self.tensors.layers[layer][:2], self.block) / np.sqrt(self.tensors.d)
        return softmax(np.where(np.tri(self.blocks(), dtype=bool), logits, -np.inf))

    def prefill(self, layer):
        return np.where(
            self.query_aware(layer)[:, None, None],
            self.pooled(layer),
            lines.block_scores(self.attention(layer), self.block),
        )

    def native_prefill(self, layer):
        n, p = self.tensors.n, self.params
        rows = selection.prefill_rows(n, self.block)
        if n <= max(2 * self.block, p["min_budget"]):
            everything = [np.arange(i + 1) for i in range(self.blocks())]
            return selection.Selection(self.block, [everything] * self.tensors.heads, *rows)
        a = self.attention(layer)
        v, s = lines.columns(a) / a.shape[1], lines.diagonals(a) / a.shape[1]
        distance, pooled = self.pattern_distance(layer), self.pooled(layer)
        units = []
        for h in range(self.tensors.heads):
            nearest = abs(distance[h] - p["tau"]) / p["tau"] if p["tau"] > 0 else np.inf
            if distance[h] < p["tau"]:
                entries, margin = entries_within(pooled[h], p["gamma"] * self.blocks())
                kept, met, other = self.vertical_slash(v[h], s[h], *[(self.least(), np.inf)] * 2)
                units.append((kept, self.with_entries(entries, met), min(nearest, margin, other)))
            else:
                counts = [self.clamped(x) for x in (v[h], s[h])]
                kept, met, other = self.vertical_slash(v[h], s[h], *counts)
                units.append((kept, met, min(nearest, other)))
        return lines.line_lists(units, self.block, n)

    def least(self):
        return min(-(-self.params["min_budget"] // self.block), self.blocks())

    def clamped(self, values):
        count, margin = blocks_reaching(values, self.params["gamma"], self.block)
        most = self.params["max_budget"]
        most = min(-(-most // self.block), self.blocks()) if most else self.blocks()
        return min(max(count, self.least()), most), margin

    def vertical_slash(self, v, s, n_v, n_s):
        """n_v, n_s: (blocks, margin). Block 0 and offset 0 are among them. Ties: the larger block,
        the smaller offset."""
        kept, gap = best_of(sum_over_blocks(v, self.block), n_v[0], [0])
        if self.params["slash_blocks"] == "end":
            pooled = sum_over_blocks(s[::-1], self.block)[::-1]
        else:
            pooled = sum_over_blocks(s, self.block)
        offsets, other = best_of(pooled, n_s[0], [0], earlier_first=True)
        if self.params["straddle"]:
            offsets = np.union1d(offsets, offsets + 1)
        return (
            set(kept.tolist()),
            lambda i: {int(i - o) for o in offsets if o <= i},
            min(gap, other, n_v[1], n_s[1]),
        )

    @staticmethod
    def with_entries(entries, met):
        return lambda i: met(i) | {j for row, j in entries if row == i}


REFERENCE = FlexPrefill
VARIATIONS = [{"tau": 1.0}, {"tau": 0.0}]
NATIVE_VARIATIONS = [
    {"min_budget": 32, "slash_blocks": "diagonal", "gamma": 0.6},
    {"min_budget": 32},
    {"min_budget": 32, "tau": 1.0, "gamma": 0.5},
    {"min_budget": 32, "tau": 0.065, "gamma": 0.6},
    {"min_budget": 32, "tau": 0.0},
    {"min_budget": 32, "tau": 0.0, "gamma": 0.4, "straddle": True},
    {"min_budget": 32, "tau": 0.0, "max_budget": 64},
    {"min_budget": 0, "tau": 1.0, "gamma": 0.3},
]
