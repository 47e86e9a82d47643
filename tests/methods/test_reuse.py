"""The controls of the walk share everything with one-hop: where all layers select, last_anchor is
one-hop, and so is running_mean's first layer; the same bits, whatever the budget and phase."""

import h5py
import numpy as np
import pytest

from reference import generate
from reference.program import find_cell, run, write_bundle

B16 = {"block_size": 16}
LAYERS, FIRST = 4, 1


@pytest.fixture(scope="module", params=["matched", "native"])
def cells(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    rng = np.random.default_rng(3)
    layers, decode = generate.structured(rng, 509, 4, 2, 64, LAYERS, steps=5)
    write_bundle(folder / "bundle.h5", layers, decode, np.float16)
    found = run(
        folder,
        folder / "bundle.h5",
        [
            ("onehop", B16),
            ("reuse", {**B16, "every": 1}),
            ("reuse", B16),
            ("reuse", {**B16, "preset": "running_mean"}),
        ],
        (0.4,),
        ("prefill", "decode"),
        FIRST,
        request.param,
        1,
    )

    def cell(name, params, phase):
        density = 0.4 if request.param == "matched" else None
        return find_cell(found, name, {**B16, **params}, phase, density, request.param)

    return cell


def stored(cell, layer, phase):
    with h5py.File(cell.path) as file:
        place = f"{'decode/' if phase == 'decode' else ''}layer_{layer:03d}"
        group = file[f"{place}/selection"]
        return [group[x][:] for x in ("indptr", "indices")] + [file[f"{place}/output"][:]]


def alike(one, other, layers, phase):
    return [
        all(
            np.array_equal(a, b)
            for a, b in zip(stored(one, layer, phase), stored(other, layer, phase))
        )
        for layer in layers
    ]


PHASES = pytest.mark.parametrize("phase", ["prefill", "decode"])


@PHASES
def test_last_anchor_with_anchors_everywhere_is_one_hop(cells, phase):
    one = cells("onehop", {}, phase)
    assert all(alike(one, cells("reuse", {"every": 1}, phase), range(FIRST, LAYERS), phase))


@PHASES
def test_the_mean_of_one_layer_is_that_layer(cells, phase):
    one, mean = cells("onehop", {}, phase), cells("reuse", {"preset": "running_mean"}, phase)
    same = alike(one, mean, range(FIRST, LAYERS), phase)
    assert same[0] and not all(same)


@PHASES
def test_layers_after_one_that_selects_have_its_lists(cells, phase):
    own = cells("reuse", {}, phase)
    first = stored(own, FIRST, phase)
    for layer in range(FIRST + 1, LAYERS):
        indptr, indices, output = stored(own, layer, phase)
        assert np.array_equal(indptr, first[0]) and np.array_equal(indices, first[1])
        assert not np.array_equal(output, first[2])
