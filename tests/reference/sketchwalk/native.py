"""The native rule of variant icml, as released."""

import numpy as np

from .. import selection


def tokens(share, n):
    return max(1, int(share * n))


def blocks(count, block):
    return -(-count // block)


def icml_native(scores, params, sink_is_window, block, first, last, query_blocks):
    """query_blocks: how many, when the last few of them are dense (prefill), else None."""
    prompt = int(last[-1]) + 1
    rows = []
    for f, t in zip(first, last):
        n = prompt if query_blocks else int(t) + 1
        window, sink = tokens(params["window_share"], n), tokens(params["sink_share"], n)
        ends = blocks(sink, block), blocks(window, block)
        kept = 0 if query_blocks is None else window, window if sink_is_window else sink
        tail = bool(query_blocks) and t // block >= query_blocks - params["dense_tail_blocks"]
        rows.append((int(f), int(t), ends, kept, tail))

    def chosen(unit):
        return [
            icml_native_row(unit[r], params["top_share"], block, *row, query_blocks is None)
            for r, row in enumerate(rows)
        ]

    by_unit = [chosen(unit) for unit in scores]
    lists, whole, threshold = (
        [[row[part] for row in unit] for unit in by_unit] for part in range(3)
    )
    return selection.Selection(
        block,
        lists,
        first,
        last,
        scores=scores,
        threshold=threshold,
        whole=whole,
        window=[kept[0] for _, _, _, kept, _ in rows],
        sink=[kept[1] for _, _, _, kept, _ in rows],
    )


def icml_native_row(scores, top_share, block, first, last, ends, kept, dense, whole_ends):
    """ends: (sink, window) blocks that are no candidates; kept: (window, sink) tokens. Returns the
    list, which of it is whole, and the threshold."""
    i = last // block
    everything = np.arange(i + 1)
    if dense:
        return everything, np.ones(i + 1, bool), None
    candidates = [j for j in everything if ends[0] <= j <= i - ends[1]]
    cut = np.quantile(scores[candidates], 1 - top_share) if candidates else None
    above = {j for j in everything if candidates and scores[j] > cut}
    if whole_ends:
        above |= set(everything) - set(candidates)
    t, u = np.arange(first, last + 1)[:, None], np.arange(last + 1)
    part = ((t - u < kept[0]) | (u < kept[1])) & (u <= t)
    listed = np.array(
        sorted(above | set((np.flatnonzero(part.any(axis=0)) // block).tolist()) | {i})
    )
    return listed, np.array([j in above for j in listed]), cut
