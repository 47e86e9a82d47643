"""hop_recall: share of the blocks with an answer's statements that the asking row keeps, against
the lists that the same run saved."""

import h5py
import numpy as np
import pytest

import tiny
from conftest import swbench

SPANS = [[3, 21], [40, 44], [15, 18]]  # of the first sample; blocks of 16: {0, 1}, {2}, {0, 1}
BLOCK = 16
BLOCKS = [0, 1, 2]


@pytest.fixture(scope="module")
def cells(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hops")
    tiny.write_dataset(
        tiny.dataset_path(folder, "echo_tiny", 2),
        world.model,
        tiny.prompts(2),
        [["one"], ["two"]],
        values={"hops": np.array([*SPANS, [0, 1]]), "hop_offsets": np.array([0, 3, 4])},
    )
    config = world.config(
        folder / "c.yaml",
        workloads=[{"kind": "task", "model": str(world.model), "data": str(folder),
                    "tasks": ["echo_tiny"], "samples": 2, "recovery_samples": 1}],
        axes={"context": tiny.CONTEXT, "density": [0.5], "phase": ["prefill", "decode"]},
        methods=[{"name": "random", "params": {"block_size": BLOCK}},
                 {"name": "onehop", "params": {"block_size": BLOCK, "per_head": True}}],
        measure=["accuracy", "recovery"],
        save=["selection"],
    )  # fmt: skip
    swbench("run", config, "--output", folder / "out", "-q", check=0)
    return sorted((folder / "out" / "cells").glob("*.h5"))


def kept(selection, unit, row):
    rows = int(selection.attrs["rows"])
    begin, end = selection["indptr"][unit * rows + row : unit * rows + row + 2]
    return set(selection["indices"][begin:end].tolist())


def test_is_what_the_saved_lists_keep(cells):
    assert len(cells) == 4
    some = set()
    for path in cells:
        with h5py.File(path) as file:
            decode = file.attrs["phase"] in ("decode", b"decode")
            group = file["decode"] if decode else file
            by_head = file["per_layer_head/hop_recall"][:]
            layers, heads = by_head.shape
            for layer in range(int(file.attrs["dense_layers"]), layers):
                lists = group[f"layer_{layer:03d}/selection"]
                rows, units = int(lists.attrs["rows"]), int(lists.attrs["units"])
                for head in range(heads):
                    unit = head * units // heads
                    asking = range(rows) if decode else [rows - 1]
                    share = [len(kept(lists, unit, r) & set(BLOCKS)) / len(BLOCKS) for r in asking]
                    assert by_head[layer, head] == pytest.approx(np.mean(share), abs=1e-12)
                    some.add(round(by_head[layer, head], 6))
            assert file["metrics/hop_recall"][()] == pytest.approx(np.nanmean(by_head), abs=1e-12)
    assert len(some) > 1, "every list kept as much: the test shows nothing"
