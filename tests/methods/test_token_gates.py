"""MoBA where the scenarios do not reach: its decode steps, and the token masks of its token form as
they are stored and counted."""

import os

import h5py
import numpy as np
import pytest

from reference import budgets, generate
from reference.attention import Tensors
from reference.blocks import block_count, forced_set, select
from reference.program import find_cell, run, write_bundle
from reference.sketch import block_means

N, STEPS, B, HEADS, KV, LAYERS, DENSITY, TOPK = 299, 40, 16, 4, 2, 2, 0.5, 5
COMMON, DIAGONAL = (1, 2), (0, 1)
BF16 = os.environ.get("SWBENCH_TEST_BACKEND") == "cuda"
NEAR = 1e-3 if BF16 else 1e-5


def rounded(parts):
    """float32 values that bf16 holds."""

    def one(x):
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)

    return [[one(x) for x in layer] for layer in parts]


@pytest.fixture(scope="module")
def bundle():
    made = generate.structured(np.random.default_rng(21), N, HEADS, KV, 64, LAYERS, steps=STEPS)
    return tuple(rounded(part) for part in made) if BF16 else made


@pytest.fixture(scope="module", params=["matched", "native"])
def cells(request, bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    write_bundle(folder / "bundle.h5", *bundle)
    forms = [("moba", {"block_size": B, "form": form, "topk": TOPK}) for form in ("block", "token")]
    return request.param, run(
        folder, folder / "bundle.h5", forms, (DENSITY,), ("prefill", "decode"), 0, request.param
    )


def cell(cells, form, phase):
    return find_cell(cells[1], "moba", {"block_size": B, "form": form, "topk": TOPK}, phase)


@pytest.mark.parametrize("form", ["block", "token"])
def test_decode_keeps_the_best_gates(cells, bundle, form):
    t, differ = Tensors(*bundle), 0
    for layer in range(LAYERS):
        lists = cell(cells, form, "decode").selection(layer, True)
        assert len(lists) == HEADS
        for step in range(STEPS):
            n = N + step + 1
            keys, i = block_means(t.all_keys(layer)[:n], B), block_count(n, B) - 1
            forced = COMMON if cells[0] == "matched" and form == "block" else DIAGONAL
            m = min(i, TOPK - 1)
            if cells[0] == "matched":
                m = budgets.decode_blocks(n, B, DENSITY, sum(forced) - 1) - 1
            for head in range(HEADS):
                gates = keys[head * KV // HEADS] @ t.steps[layer][0][step, head]
                want, got = select(gates, i, m, *forced), lists[head][step]
                assert len(got) == m + 1 and forced_set(i, *forced) <= set(got.tolist())
                left_out, instead = (
                    gates[np.setdiff1d(a, b)] for a, b in ((want, got), (got, want))
                )
                if len(left_out):
                    assert left_out.max() - instead.min() <= NEAR * abs(gates).max()
                    differ += 1
    assert differ <= 2


def pairs_of(path, layer, n):
    """[unit, token, key]: the pairs that a stored selection with token masks keeps."""
    with h5py.File(path) as file:
        group = file[f"layer_{layer:03d}/selection"]
        assert int(group.attrs["window"]) == 0 and int(group.attrs["sink"]) == 0
        indptr, indices, whole, queries = (
            group[name][:] for name in ("indptr", "indices", "whole", "queries")
        )
        units, rows = int(group.attrs["units"]), int(group.attrs["rows"])
    kept = np.zeros((units, n, n), bool)
    for row in range(units * rows):
        for e in range(indptr[row], indptr[row + 1]):
            for t in range(row % rows * B, min(n, (row % rows + 1) * B)):
                if whole[e] or queries[e, t % B // 64] >> np.uint64(t % B % 64) & np.uint64(1):
                    kept[row // rows, t, indices[e] * B : min((indices[e] + 1) * B, t + 1)] = True
    return kept


def test_token_masks_are_stored_and_counted(cells):
    chosen = cell(cells, "token", "prefill")
    budget = np.minimum(np.arange(block_count(N, B)), TOPK - 1)
    if cells[0] == "matched":
        budget, _ = budgets.rows_proportional(N, B, DENSITY, *DIAGONAL)
    density, union = [], []
    for layer in range(LAYERS):
        kept = pairs_of(chosen.path, layer, N)
        for t in range(
            N
        ):  # each token and head: so many whole past blocks, and its own as far as it is causal
            assert (kept[:, t].sum(axis=1) == budget[t // B] * B + t % B + 1).all()
        listed = np.zeros_like(kept)
        for u, rows in enumerate(chosen.selection(layer, False)):
            for i, row in enumerate(rows):
                for j in row:
                    listed[u, i * B : (i + 1) * B, j * B : (j + 1) * B] = True
        listed &= np.tri(N, dtype=bool)
        assert not (kept & ~listed).any()
        density.append(kept.sum() / HEADS / budgets.causal_pairs(N))
        union.append(listed.sum() / HEADS / budgets.causal_pairs(N))
    assert chosen.metrics["density"]["value"] == pytest.approx(np.mean(density), abs=1e-9)
    assert chosen.metrics["block_union_density"]["value"] == pytest.approx(np.mean(union), abs=1e-9)
    assert np.mean(union) > np.mean(density) + 0.01
    assert "block_union_density" not in cell(cells, "block", "prefill").metrics
