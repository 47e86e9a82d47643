"""A method on a tensor bundle: its selections, outputs and metrics, as a cell of a run has them."""

import numpy as np

from . import budgets, methods, selection
from .attention import masked_output
from .blocks import best_first, block_count, forced_set


class Evaluation:
    """name, params as in a config. Selections per layer: `prefill` [L], `decode` [L] (empty without
    decode tokens)."""

    def __init__(
        self, tensors, name, params, density=1.0, budget="matched", dense_layers=0, seed=1
    ):
        params = dict(params)
        self.tensors, self.block = tensors, params.pop("block_size", 64)
        self.n_layers, self.density, self.budget = len(tensors.layers), density, budget
        self.dense_layers = self.n_layers if name == "dense" else dense_layers
        self.method = (
            None
            if name == "dense"
            else methods.make(
                name,
                tensors,
                self.block,
                dense_layers,
                seed,
                native=budget == "native",
                density=density,
                **params,
            )
        )
        self._outputs = {}
        self.prefill = self._prefill()
        self.decode = self._decode() if tensors.n_steps else []

    def sparse_layers(self, phase="prefill"):
        """Of a phase that the method does not have: none."""
        sparse = self.method is not None and phase in self.method.phases
        return range(self.dense_layers, self.n_layers) if sparse else range(0)

    def _prefill(self):
        n, rows = self.tensors.n, selection.prefill_rows(self.tensors.n, self.block)
        forced = self.method.forced() if self.method else (1, 2)
        m, self.floored = budgets.rows_proportional(n, self.block, self.density, *forced)
        result = [selection.full(self.block, *rows) for _ in range(self.n_layers)]
        for layer in self.sparse_layers("prefill"):
            if self.budget == "matched":
                result[layer] = self.method.matched_prefill(layer, m)
            elif self.method.native_on_scores:
                result[layer] = self.method.native_on_scores(
                    self.method.prefill(layer), *rows, query_blocks=block_count(n, self.block)
                )
            else:
                result[layer] = self.method.native_prefill(layer)
        return result

    def _decode(self):
        n, steps = self.tensors.n, self.tensors.n_steps
        rows = selection.decode_rows(n, steps)
        sink, local = self.method.forced() if self.method else (1, 2)
        m = [
            budgets.decode_blocks(n + s + 1, self.block, self.density, sink + local - 1) - 1
            for s in range(steps)
        ]
        on_scores = self.method and self.method.native_on_scores
        by_rule = self.budget != "matched" and not on_scores
        result = [selection.full(self.block, *rows) for _ in range(self.n_layers)]
        found = {layer: [] for layer in self.sparse_layers("decode")}
        for step in range(steps):
            for layer in found:
                found[layer].append(
                    (self.method.native_decode if by_rule else self.method.decode)(layer, step)
                )
        for layer, by_step in found.items():
            if by_rule:
                lists, margin = (
                    [[step[part][u] for step in by_step] for u in range(len(by_step[0][part]))]
                    for part in (0, 1)
                )
                masks = [step[2] for step in by_step if len(step) > 2 and step[2] is not None]
                pairs = [[mask[u : u + 1] for mask in masks] for u in range(len(lists))]
                result[layer] = selection.Selection(
                    self.block,
                    lists,
                    *rows,
                    margin=margin,
                    pairs=pairs if masks else None,
                    free_token=self.method.free_token,
                )
                continue
            scores = [[step[u] for step in by_step] for u in range(len(by_step[0]))]
            if self.budget == "matched":
                result[layer] = selection.by_budget(scores, m, self.block, *rows, sink, local)
            else:
                result[layer] = on_scores(scores, *rows, query_blocks=None)
        return result

    def output(self, layer, phase, chosen=None):
        """Of this method's selection, or of another one for the same rows."""
        own, t = getattr(self, phase)[layer], self.tensors
        chosen, key = chosen or own, (layer, phase)
        if chosen is own and key in self._outputs:
            return self._outputs[key]
        if phase == "prefill":
            result = masked_output(t.p(layer), chosen.token_mask(t.n), t.layers[layer][2])
        else:
            result = masked_output(
                t.p_decode(layer), chosen.token_mask(t.n + t.n_steps), t.all_values(layer)
            )
        if chosen is own:
            self._outputs[key] = result
        return result


# --- metrics --------------------------------------------------------------------------------------
def recall_of_row(kept, truth, i):
    """|kept ∩ T| / k outside the forced set, T the k best by truth; None when nothing is kept
    outside it."""
    forced = forced_set(i)
    outside = [j for j in kept if j not in forced]
    if not outside:
        return None
    best = [j for j in best_first(truth[: i + 1]) if j not in forced][: len(outside)]
    return len(set(outside) & set(best)) / len(outside)


def mean_or_nan(values):
    values = [v for v in values if v is not None and not np.isnan(v)]
    return float(np.mean(values)) if values else float("nan")


def recalls(chosen, truth_of_head, heads):
    """[H]: averaged over the rows that keep something outside the forced set."""
    return [
        mean_or_nan(
            recall_of_row(
                chosen.lists[h * chosen.units // heads][r], truth_of_head(h)[r], chosen.row_block(r)
            )
            for r in range(chosen.rows)
        )
        for h in range(heads)
    ]


def layer_metrics(evaluation, layer, phase, chosen=None):
    """Name -> (each head's figure or None, the layer's figure)."""
    t, chosen = evaluation.tensors, chosen or getattr(evaluation, phase)[layer]
    heads = t.heads
    mass = t.mass(layer, chosen.block) if phase == "prefill" else t.mass_decode(layer, chosen.block)
    dense = t.dense_output(layer) if phase == "prefill" else t.dense_output_decode(layer)
    sparse = evaluation.output(layer, phase, chosen)
    own = recalls(chosen, lambda h: mass[h], heads)
    caught = [
        mean_or_nan(
            mass[h, r, chosen.lists[h * chosen.units // heads][r]].sum() for r in range(chosen.rows)
        )
        for h in range(heads)
    ]
    error = np.sqrt(((sparse - dense) ** 2).sum(axis=(0, 2)) / (dense**2).sum(axis=(0, 2)))
    pooled, by_step = selection.density(chosen)
    result = {
        "block_recall": (own, mean_or_nan(own)),
        "mass_recall": (caught, mean_or_nan(caught)),
        "output_rel_error": (error, np.linalg.norm(sparse - dense) / np.linalg.norm(dense)),
        "density": (None, (pooled if phase == "prefill" else by_step).mean()),
        "kv_fetch_density": (None, selection.kv_fetch_density(chosen, heads, t.kv_heads)),
    }
    if chosen.units == 1:
        shared = mean_or_nan(recalls(chosen, lambda h: mass.mean(axis=0), 1))
        result["block_recall_shared"] = (None, shared)
    rollout = (
        t.rollout(layer, chosen.block)
        if phase == "prefill"
        else t.rollout_decode(layer, chosen.block)
    )
    over_heads = recalls(chosen, lambda h: rollout, heads)
    result["block_recall_rollout"] = (over_heads, mean_or_nan(over_heads))
    return result
