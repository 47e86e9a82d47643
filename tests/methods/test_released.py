"""The native rules against the published code of their methods.

released/*.json hold what that code kept of made-up tensors: it was run once, on the inputs that
`topical` makes again here. A file says which code, with which parameters, and gives rows [layer,
unit, row, key blocks(, kept pairs of a query and a key, or a decode step's kept keys)]: the program
must keep the same."""

import json
import pathlib

import h5py
import numpy as np
import pytest

import swbench_results
from reference.program import run, write_bundle

CASES = sorted((pathlib.Path(__file__).parent / "released").glob("*.json"))
BLOCK_OF_TOPICS, TOPICS = 64, 12


def topical(seed, n, steps, layers, heads, kv_heads, head_dim, strength):
    """Stretches of 64 tokens have one of twelve topics, their keys one and their queries another;
    noise besides. The order of the draws is part of the data."""
    rng, total = np.random.default_rng(seed), n + steps
    stretches = -(-total // BLOCK_OF_TOPICS)
    topics = rng.normal(size=(TOPICS, head_dim))

    def about(which, count):
        spread = np.repeat(topics[which], BLOCK_OF_TOPICS, axis=0)[:total, None]
        return rng.normal(size=(total, count, head_dim)) + strength * spread

    prompt, decode = [], []
    for _ in range(layers):
        of_keys, of_queries = (rng.integers(0, TOPICS, stretches) for _ in range(2))
        k, q = about(of_keys, kv_heads), about(of_queries, heads)
        layer = (q, k, rng.normal(size=(total, kv_heads, head_dim)))
        prompt.append([x[:n].astype(np.float32) for x in layer])
        decode.append([x[n:].astype(np.float32) for x in layer])
    return prompt, decode if steps else None


def kept_pairs(cell, layer, unit, first, last):
    """Pairs of the queries first … last with the keys that the cell says were kept."""
    return sum(
        int(swbench_results.kept(cell.path, "", layer, query, unit).sum())
        for query in range(first, last + 1)
    )


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_native_rule_keeps_what_the_released_code_keeps(tmp_path, path):
    case = json.loads(path.read_text())
    layers, decode = topical(**case["tensors"])
    write_bundle(tmp_path / "bundle.h5", layers, decode)
    (cell,) = run(
        tmp_path,
        tmp_path / "bundle.h5",
        [(case["method"], case["params"])],
        phase=(case["phase"],),
        dense_layers=case["dense_layers"],
        budget="native",
    )
    n, block = case["tensors"]["n"], case["params"]["block_size"]
    with h5py.File(cell.path) as file:
        for layer, unit, row, blocks, *pairs in case["rows"]:
            decoded = case["phase"] == "decode"
            group = file[f"{'decode/' if decoded else ''}layer_{layer:03d}/selection"]
            at = unit * int(group.attrs["rows"]) + row
            entries = slice(group["indptr"][at], group["indptr"][at + 1])
            where = f"layer {layer} unit {unit} row {row}"
            assert group["indices"][entries].tolist() == blocks, where
            first, last = (
                (n + row, n + row) if decoded else (row * block, min(n, (row + 1) * block) - 1)
            )
            if pairs and isinstance(pairs[0], list):
                keys = swbench_results.kept(cell.path, "", layer, first, unit)
                assert np.flatnonzero(keys).tolist() == pairs[0], where
            elif pairs:
                assert [kept_pairs(cell, layer, unit, first, last)] == pairs, where
