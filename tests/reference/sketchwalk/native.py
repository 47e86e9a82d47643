"""The native rule of variant icml."""

import math

import numpy as np

from .. import selection


def icml_native(scores, params, block, first, last, query_blocks):
    """The released rule. query_blocks: how many, when the last few of them are dense (prefill),
    else None."""
    lists, whole, threshold = [], [], []
    windows, sinks = [], []
    prompt = int(last[-1]) + 1
    for t in last:
        n = prompt if query_blocks else int(t) + 1
        windows.append(params["window_share"] * n)
        sinks.append(params["window_share" if params["sink_uses_window"] else "sink_share"] * n)
    for unit in scores:
        rows = [
            icml_native_row(
                unit[r],
                params,
                block,
                int(first[r]),
                int(t),
                prompt if query_blocks else int(t) + 1,
                windows[r],
                sinks[r],
                query_blocks,
            )
            for r, t in enumerate(last)
        ]
        lists.append([row[0] for row in rows])
        whole.append([row[1] for row in rows])
        threshold.append([row[2] for row in rows])
    return selection.Selection(
        block,
        lists,
        first,
        last,
        scores=scores,
        threshold=threshold,
        whole=whole,
        window=windows,
        sink=sinks,
    )


def icml_native_row(scores, params, block, first, last, n, window, sink, query_blocks):
    i = last // block
    everything = np.arange(i + 1)
    if query_blocks and i >= query_blocks - params["dense_tail_blocks"]:
        return everything, np.ones(i + 1, bool), None
    sink_blocks = max(1, math.ceil(params["sink_share"] * n / block))
    window_blocks = max(1, math.ceil(params["window_share"] * n / block))
    candidates = [j for j in everything if sink_blocks <= j <= i - window_blocks]
    cut = np.quantile(scores[candidates], 1 - params["top_share"]) if candidates else None
    above = {j for j in candidates if scores[j] > cut}
    t, u = np.arange(first, last + 1)[:, None], np.arange(last + 1)
    part = ((t - u < window) | (u < sink)) & (u <= t)
    listed = np.array(
        sorted(above | set((np.flatnonzero(part.any(axis=0)) // block).tolist()) | {i})
    )
    return listed, np.array([j in above for j in listed]), cut
