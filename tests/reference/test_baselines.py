"""The baselines of the reference: worked examples, and what must hold for every method of the table
whatever the input."""

import functools

import numpy as np
import pytest

from . import budgets, generate, lines, methods, selection
from .attention import Tensors, block_mass, probabilities, sum_over_blocks
from .blocks import best_of, block_count, forced_set, select
from .evaluate import Evaluation, layer_metrics
from .methods import flexprefill, quest, snapkv, spargeattn, xattention
from .sketch import block_logits


def seeded(*key):
    return np.random.default_rng(key)


def as_lists(chosen):
    return [[row.tolist() for row in unit] for unit in chosen.lists]


def one_layer(q, k, steps=None):
    """Of [n, heads, d] each; values are random."""
    v = seeded(len(q)).standard_normal(k.shape)
    return Tensors([(q, k, v)], steps and [steps])


def structured(seed, n=200, steps=0, layers=1, heads=4, kv_heads=2, d=32, strength=1.0):
    return generate.tensors(
        generate.structured(
            seeded(seed), n, heads, kv_heads, d, layers, strength=strength, steps=steps
        )
    )


# --- every method of the table --------------------------------------------------------------------
MATCHED = [(name, params) for name in methods.NAMES for params in methods.matched_cases(name)]
NATIVE = [(name, params) for name in methods.NAMES for params in methods.native_cases(name)]

INPUTS = {
    "gaussian": lambda: generate.gaussian(seeded(1), 133, 4, 2, 16, 2, steps=20),
    "structured": lambda: generate.structured(seeded(2), 176, 4, 2, 32, 2, steps=18),
    "whole_blocks": lambda: generate.structured(seeded(3), 160, 4, 1, 16, 1, strength=2.0, steps=5),
    "ties": lambda: generate.constant_keys(seeded(4), 121, 4, 2, 16, 2, steps=9),
    "duplicated_heads": lambda: generate.duplicated_heads(seeded(5), 130, 4, 2, 16, 2, steps=6),
    "hot_key": lambda: generate.hot_key(seeded(6), 145, 4, 2, 16, 2, at=37, steps=4),
    "shorter_than_a_block": lambda: generate.gaussian(seeded(7), 9, 4, 2, 16, 2, steps=10),
    "one_token": lambda: generate.gaussian(seeded(8), 1, 4, 2, 16, 2, steps=3),
    "zeros": lambda: tuple(
        [(np.zeros((n, 4, 16)), np.zeros((n, 2, 16)), seeded(n).standard_normal((n, 2, 16)))] * 2
        for n in (100, 4)
    ),
    "huge": lambda: generate.gaussian(seeded(9), 120, 4, 2, 16, 1, steps=4, scale=40.0),
}


@functools.cache
def bundle(name):
    return generate.tensors(INPUTS[name]())


def label(case):
    return "-".join([case[0], *(f"{k}={v}" for k, v in case[1].items())])


every_method = pytest.mark.parametrize("case", MATCHED, ids=label)
every_rule = pytest.mark.parametrize("case", NATIVE, ids=label)
every_input = pytest.mark.parametrize("name", INPUTS)


@functools.lru_cache(maxsize=64)
def evaluated(tensors, method, params, density, budget="matched", dense_layers=0):
    return Evaluation(
        tensors, method, {"block_size": 16, **dict(params)}, density, budget, dense_layers
    )


def evaluate(tensors, case, density=1.0, budget="matched"):
    return evaluated(tensors, case[0], tuple(case[1].items()), density, budget)


def selections(e):
    """Of the phases and layers in which the method decides."""
    for phase in e.method.phases:
        if phase == "prefill" or e.tensors.n_steps:
            for layer in e.sparse_layers(phase):
                yield phase, layer, getattr(e, phase)[layer]


def assert_lists_are_valid(chosen, n):
    """I1: strictly ascending, causal, with the diagonal; and a mask keeps nothing outside its
    lists, and each token itself."""
    for u, rows in enumerate(chosen.lists):
        assert len(rows) == chosen.rows
        for r, row in enumerate(rows):
            i = chosen.row_block(r)
            last = row[-1] <= i if chosen.free_diagonal else row[-1] == i
            assert (np.diff(row) > 0).all() and row[0] >= 0 and last
            if chosen.pairs is not None:
                mask, t = chosen.mask(u, r, n), np.arange(chosen.first[r], chosen.last[r] + 1)
                assert not (mask & (np.arange(n) > t[:, None])).any()
                assert chosen.free_token or mask[np.arange(len(t)), t].all()
                own = {i} if chosen.free_token else set()
                blocks = set(np.flatnonzero(mask.any(axis=0)) // chosen.block)
                assert blocks | own == set(row.tolist())


def test_a_method_without_a_reference_says_which_file_to_add():
    with pytest.raises(AssertionError, match="add tests/reference/methods/newcomer.py"):
        methods.make("newcomer", bundle("gaussian"), 16, 0, 1)


@every_input
@every_method
def test_lists_and_counts_of_a_matched_budget(name, case):
    """I1, I2: whatever the scores, every row keeps its budget."""
    t = bundle(name)
    e = evaluate(t, case, 0.5)
    sink, local = e.method.forced()
    m, _ = budgets.rows_proportional(t.n, 16, 0.5, sink, local)
    steps = [
        budgets.decode_blocks(t.n + s + 1, 16, 0.5, sink + local - 1) for s in range(t.n_steps)
    ]
    for phase, _layer, chosen in selections(e):
        n = t.n + (t.n_steps if phase == "decode" else 0)
        assert_lists_are_valid(chosen, n)
        counts = m + 1 if phase == "prefill" else steps
        if chosen.pairs is None:
            assert all([len(row) for row in unit] == list(counts) for unit in chosen.lists)
        else:
            kept = [
                sum(chosen.mask(u, r, n).sum() for r in range(chosen.rows))
                for u in range(chosen.units)
            ]
            assert phase == "prefill" and kept == [budgets.kept_pairs(t.n, 16, m)] * chosen.units


@every_input
@every_rule
def test_lists_of_a_native_rule(name, case):
    """I1. Margins say how near each decision was: never below nothing."""
    t = bundle(name)
    for phase, _layer, chosen in selections(evaluate(t, case, budget="native")):
        assert_lists_are_valid(chosen, t.n + (t.n_steps if phase == "decode" else 0))
        for row in [row for unit in chosen.margin or [] for row in unit]:
            assert (np.asarray(row) >= 0).all()


@every_method
def test_everything_kept_is_dense(case):
    """I3."""
    t = bundle("structured")
    e = evaluate(t, case, 1.0)
    for phase, layer, _chosen in selections(e):
        dense = t.dense_output(layer) if phase == "prefill" else t.dense_output_decode(layer)
        assert np.allclose(e.output(layer, phase), dense, rtol=0, atol=1e-12)


@every_method
def test_a_larger_budget_keeps_more_of_the_same(case):
    """I4."""
    t = bundle("structured")
    method = methods.make(case[0], t, 16, 0, 1, **case[1])
    if "prefill" in method.phases:
        for layer in range(2):
            small, large = (
                (method.matched_prefill(layer, np.minimum(m, np.arange(11))) for m in (4, 5))
                if case[0] != "sketchwalk"
                else (
                    selection.by_budget(
                        scores, np.minimum(m, np.arange(11)), 16, *selection.prefill_rows(t.n, 16)
                    )
                    for scores in [method.prefill(layer)]
                    for m in (4, 5)
                )
            )  # a walk must not be walked twice
            assert not (small.token_mask(t.n) & ~large.token_mask(t.n)).any()
            assert small.token_mask(t.n).sum() < large.token_mask(t.n).sum()
    for step in range(t.n_steps if "decode" in method.phases else 0):
        for layer in range(2):
            c = method.current(step)
            for row in method.decode(layer, step):
                assert set(select(row, c, 4).tolist()) < set(select(row, c, 5).tolist())


@every_method
@pytest.mark.parametrize("name", ["structured", "gaussian", "hot_key"])
def test_no_method_catches_more_than_the_oracle_of_its_unit(name, case):
    """I5. Where tokens choose for themselves the bound is the best that tokens can choose."""
    t = bundle(name)
    e = evaluate(t, case, 0.5)
    for phase, layer, chosen in selections(e):
        if chosen.pairs is not None:
            m, _ = budgets.rows_proportional(t.n, 16, 0.5, *e.method.forced())
            by_block = sum_over_blocks(t.p(layer), 16)
            caught = (t.p(layer) * chosen.token_mask(t.n)).sum(axis=2)
            for token in range(t.n):
                i = token // 16
                best = (
                    np.sort(by_block[:, token, :i], axis=1)[:, i - m[i] :].sum(axis=1)
                    + by_block[:, token, i]
                )
                assert (caught[:, token] <= best + 1e-12).all()
            continue
        mass = t.mass(layer, 16) if phase == "prefill" else t.mass_decode(layer, 16)
        mass = mass.reshape(chosen.units, -1, *mass.shape[1:]).mean(axis=1)
        for u in range(chosen.units):
            for r in range(chosen.rows):
                row, i = chosen.lists[u][r], chosen.row_block(r)
                best = select(mass[u, r], i, len(row) - 1, *e.method.forced())
                assert mass[u, r, row].sum() <= mass[u, r, best].sum() + 1e-12


@pytest.mark.parametrize(
    "case, budget",
    [(case, "matched") for case in MATCHED if case[0] != "random"]
    + [(case, "native") for case in NATIVE],
    ids=lambda x: x if isinstance(x, str) else label(x),
)
def test_identical_heads_get_identical_lists(case, budget):
    """I6. (Random draws a head's own numbers.)"""
    t = bundle("duplicated_heads")
    for phase, _layer, chosen in selections(evaluate(t, case, 0.5, budget)):
        assert all(rows == as_lists(chosen)[0] for rows in as_lists(chosen))
        if chosen.pairs is not None:
            masks = chosen.token_mask(t.n + (t.n_steps if phase == "decode" else 0))
            assert (masks == masks[0]).all()


def looks_ahead(name, params):
    """Who may fail I7: what looks at the prompt's end or at later blocks, and therefore cannot be
    applied to a prompt in chunks."""
    return bool(methods.make(name, bundle("structured"), 16, 0, 1, **params).looks_ahead)


def turning(*shape):
    """From token 192 on the keys of the first KV head are large and point elsewhere."""
    prompt, _ = generate.gaussian(*shape, scale=1.5)
    for _, k, _ in prompt:
        k[192:, 0] = 4 * k[192:, 0] + 4
    return prompt, None


def rows_that_change_when_tokens_follow(case, kind):
    """Of the full rows of the first 192 tokens, at fixed budgets."""
    whole = generate.tensors(kind(seeded(10), 250, 4, 2, 32, 2))
    start = Tensors([tuple(x[:192] for x in layer) for layer in whole.layers])
    m, changed = np.minimum(np.arange(16), 5), 0
    short, long = (methods.make(case[0], t, 16, 0, 1, **case[1]) for t in (start, whole))
    for layer in range(2):
        a, b = short.matched_prefill(layer, m[:12]), long.matched_prefill(layer, m)
        for u in range(a.units):
            changed += sum(
                a.lists[u][r].tolist() != b.lists[u][r].tolist()
                or (a.mask(u, r, 192) != b.mask(u, r, 250)[:, :192]).any()
                for r in range(12)
            )
    return changed


def changes(case):
    return sum(
        rows_that_change_when_tokens_follow(case, kind)
        for kind in (generate.gaussian, generate.structured, turning)
    )


WITH_PREFILL = [case for case in MATCHED if "prefill" in methods.kind(*case).phases]
LOOKING_AHEAD = [case for case in WITH_PREFILL if looks_ahead(*case)]


@pytest.mark.parametrize(
    "case", [case for case in WITH_PREFILL if case not in LOOKING_AHEAD], ids=label
)
def test_lists_do_not_depend_on_later_tokens(case):
    """I7 in prefill."""
    assert changes(case) == 0


@pytest.mark.parametrize("name", sorted({name for name, _ in LOOKING_AHEAD}))
def test_who_is_said_to_look_ahead_does(name):
    assert any(changes(case) > 0 for case in LOOKING_AHEAD if case[0] == name)


@pytest.mark.parametrize(
    "case, budget",
    [(case, "matched") for case in MATCHED] + [(case, "native") for case in NATIVE],
    ids=lambda x: x if isinstance(x, str) else label(x),
)
def test_steps_do_not_depend_on_later_steps(case, budget):
    """I7 in decode, for all methods."""
    if "decode" not in methods.kind(*case).phases:
        pytest.skip("decode is dense")
    t = bundle("structured")
    fewer = Tensors(t.layers, [tuple(x[:7] for x in layer) for layer in t.steps])
    long, short = (evaluate(x, case, 0.5, budget) for x in (t, fewer))
    for layer in range(2):
        assert [rows[:7] for rows in as_lists(long.decode[layer])] == as_lists(short.decode[layer])


DECODE_ONLY = [name for name in methods.NAMES if methods.kind(name, {}).phases == ("decode",)]


@pytest.mark.parametrize("name", DECODE_ONLY)
def test_the_prompt_of_a_decode_method_is_dense(name):
    e = evaluate(bundle("structured"), (name, {}), 0.5)
    assert all(row == list(range(i + 1)) for s in e.prefill for i, row in enumerate(as_lists(s)[0]))
    assert any(len(row) <= row[-1] for s in e.decode for row in as_lists(s)[0])


def test_ties_make_a_sliding_window():
    """Constant keys: equal gates, bounds and shares everywhere."""
    t = bundle("ties")
    window = evaluate(t, ("sink_window", {}), 0.5)
    for case in [
        ("minference", {"pattern": "block_sparse"}),
        ("minference", {"pattern": "a_shape"}),
        ("moba", {}),
    ]:
        for layer in range(2):
            assert all(
                rows == as_lists(window.prefill[layer])[0]
                for rows in as_lists(evaluate(t, case, 0.5).prefill[layer])
            )
    for layer in range(2):
        assert all(
            rows == as_lists(window.decode[layer])[0]
            for rows in as_lists(evaluate(t, ("quest", {}), 0.5).decode[layer])
        )


def test_best_of_and_its_ties():
    assert best_of([1, 3, 3, 2], 1)[0].tolist() == [2] and best_of(
        [1, 3, 3, 2], 1, earlier_first=True
    )[0].tolist() == [1]
    assert best_of([1, 3, 3, 2], 2, [0])[0].tolist() == [0, 2] and best_of([1, 3, 3, 2], 1, [0, 3])[
        0
    ].tolist() == [0, 3]
    assert best_of([1, 3, 3, 2], 9)[0].tolist() == [0, 1, 2, 3] and best_of([], 3)[0].tolist() == []
    assert best_of([4, 1, 2], 2)[1] == pytest.approx(0.5) and best_of([-4, 1, 2], 1)[
        1
    ] == pytest.approx(0.25)
    assert (
        best_of([4, 1, 2], 3)[1] == np.inf == best_of([4, 1, np.inf], 1)[1]
        and best_of([2, 2, 1], 1)[1] == 0
    )


# --- M4 MInference --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "offset, blocks",
    [(70, {1, 2}), (64, {2}), (0, {3}), (192, {0}), (200, {0}), (128 + 63, {0, 1})],
)
def test_blocks_of_a_diagonal(offset, blocks):
    assert lines.offset_blocks(3, offset, 64) == blocks
    assert {(t - offset) // 64 for t in range(192, 256) if t >= offset} == blocks


def test_vertical_and_slash_sums_by_hand():
    a = np.array([[[0.5, 0.5, 0], [0.25, 0.25, 0.5]]])  # the queries 1 and 2 of 3 tokens
    assert lines.columns(a)[0].tolist() == [0.75, 0.75, 0.5]
    assert lines.diagonals(a)[0].tolist() == [0.5 + 0.5, 0.5 + 0.25, 0.25]
    assert lines.split_offsets(np.array([1.0, 0, 2, 0, 4, 5]), 4).tolist() == [
        1 + 2 * 0.5,
        2 * 0.5 + 4 + 5 * 0.75,
        5 * 0.25,
    ]
    s = lines.block_scores(a, 2)[0]
    assert s[1, 0] == pytest.approx((0.75 + 0.75) / 2 + (0.75 * 0.5 + 0.25) / 2)
    assert s[1, 1] == pytest.approx(0.5 / 2 + (1 + 0.75 * 0.5) / 2) and s[0, 1] == 0


def test_diagonals_add_up_to_the_rows():
    t = structured(11, 150)
    a = lines.last_rows(*t.layers[0][:2], 64)
    assert lines.diagonals(a).sum(axis=1) == pytest.approx([64] * 4) and lines.columns(a).sum(
        axis=1
    ) == pytest.approx([64] * 4)
    assert lines.split_offsets(lines.diagonals(a), 16).sum(axis=1) == pytest.approx([64] * 4)
    p = t.p(0)[:, -64:]
    assert lines.diagonals(a)[2, 40] == pytest.approx(
        sum(p[2, row, 150 - 64 + row - 40] for row in range(64))
    )


@pytest.mark.parametrize("budget", ["matched", "native"])
def test_a_hot_column_is_in_every_row(budget):
    """All queries see key u* with a logit of 20."""
    n, hot = 320, 70
    g = seeded(12)
    q, k = 0.1 * g.standard_normal((2, n, 2, 16))
    q[:, :, 0], k[:, :, 0] = 4, 0
    k[hot, :, 0] = 20
    e = Evaluation(
        one_layer(q, k),
        "minference",
        {"block_size": 16, "vertical_size": 31, "slash_size": 1},
        0.4,
        budget,
    )
    for unit in e.prefill[0].lists:
        rows = [
            row for i, row in enumerate(unit) if i >= hot // 16 and len(row) > 3
        ]  # three may be the forced ones
        assert len(rows) > 10 and all(hot // 16 in row for row in rows)


def toeplitz(n, logits):
    """q_t · k_u / sqrt(d) = logits.get(t - u, 0)."""
    k, q = np.eye(n), np.zeros((n, n))
    for offset, value in logits.items():
        q += value * np.sqrt(n) * np.eye(n, k=-offset)
    return one_layer(q[:, None], k[:, None])


def test_lists_of_diagonals_are_shift_invariant():
    """Logits depend only on t - u. The queries' ends make columns hot there; before them the same
    offsets are chosen in every row."""
    t = toeplitz(320, {3 * 8: 11, 5 * 8: 12, 9 * 8: 13})
    method = methods.make("minference", t, 8, 0, 1, last_queries=8)
    lists = as_lists(method.matched_prefill(0, np.minimum(np.arange(40), 5)))[0]
    for i in range(12, 30):
        assert lists[i] == [0, i - 9, i - 5, i - 3, i - 1, i]


def test_forced_lines_and_sizes():
    method = methods.make(
        "minference", structured(13, 500), 16, 0, 1, vertical_size=5, slash_size=60
    )
    v, s = np.zeros(500), np.zeros(500)
    v[400], s[300] = 1, 1
    kept, offsets, _ = method.kept_lines(v, s)
    assert kept.tolist() == list(range(30)) and offsets.tolist() == list(
        range(100)
    )  # the smallest sizes are the forced ones
    method.params |= {
        "vertical_size": 21,
        "slash_size": 67,
        "scale": 1.5,
    }  # 31.5 and 100.5: halves go up
    kept, offsets, _ = method.kept_lines(v, s)
    assert kept.tolist() == [*range(30), 400, 499] and offsets.tolist() == [
        *range(100),
        300,
    ]  # a tie goes to the later key
    method.params |= {"slash_size": 68}
    assert method.kept_lines(v, s)[1].tolist() == [*range(101), 300]
    assert methods.make("minference", structured(13, 50), 16, 0, 1).sizes() == [50, 50]


def test_native_lists_cover_the_token_mask():
    """The block lists hold every pair of the lines, and no block that a whole row of tokens would
    not touch."""
    t = structured(14, 480)
    params = {
        "block_size": 16,
        "vertical_size": 33,
        "slash_size": 110,
        "form": "lines",
        "token_mask": False,
    }
    blocks = Evaluation(t, "minference", params, budget="native").prefill[0]
    tokens = Evaluation(t, "minference", {**params, "token_mask": True}, budget="native").prefill[0]
    assert as_lists(blocks) == as_lists(tokens)
    assert selection.density(tokens)[0].mean() < selection.density(blocks)[0].mean() < 1


def test_tiles_of_the_released_kernel_by_hand():
    """Row 3 of blocks of 64 ends before token 256."""
    t = structured(15, 500)
    method = methods.make("minference", t, 64, 0, 1, form="kernel", token_mask=True)

    def keys(columns, offsets):
        mask = method.by_kernel([(columns, offsets, np.inf)]).token_mask(500)[0]
        return np.flatnonzero(mask[255]).tolist()

    # 200 would begin before key 0; 70 has the keys 122 to 185; column 30 lies in a tile.
    apart = [*range(64), 100, *range(122, 186), *range(192, 256)]
    assert keys([30, 100], [0, 70, 200]) == apart
    # 60 begins at 132, ten keys after 70: their range grows by 64, and again for 0.
    assert keys([], [0, 60, 70]) == list(range(122, 256))
    # It would reach 250 for keys up to 195.
    assert keys([], [60, 70]) == list(range(122, 250))


def test_a_token_mask_by_hand():
    t = structured(15, 300)
    method = methods.make(
        "minference", t, 16, 0, 1, vertical_size=31, slash_size=101, token_mask=True
    )
    a = method.last_rows(0)
    mask = method.native_prefill(0).token_mask(300)
    for h in range(4):
        column = 30 + np.argmax(lines.columns(a)[h, 30:])
        offset = 100 + np.argmax(lines.diagonals(a)[h, 100:])
        wanted = [
            [
                u <= t and (u < 30 or u == column or t - u < 100 or t - u == offset)
                for u in range(300)
            ]
            for t in range(300)
        ]
        assert (mask[h] == np.array(wanted)).all()


def test_a_shape():
    """B = 64: 4 first and 128 last tokens make the blocks {0, 3, 4, 5} of row 5."""
    t = structured(16, 64 * 6)
    e = Evaluation(
        t,
        "minference",
        {"pattern": "a_shape", "init_tokens": 4, "local_tokens": 128},
        budget="native",
    )
    sink = Evaluation(t, "sink_window", {"start": 4, "recent": 128}, budget="native")
    assert as_lists(e.prefill[0])[0][5] == [0, 3, 4, 5]
    assert all(rows == as_lists(sink.prefill[0])[0] for rows in as_lists(e.prefill[0]))
    window = Evaluation(t, "sink_window", {"block_size": 16}, 0.3)
    assert (
        as_lists(
            Evaluation(t, "minference", {"pattern": "a_shape", "block_size": 16}, 0.3).prefill[0]
        )[1]
        == as_lists(window.prefill[0])[0]
    )


def test_block_sparse_adds_only_the_diagonal():
    k = np.zeros((64, 1, 4))
    k[:, 0, 0] = np.repeat([4, 1, 3, 2], 16)
    params = {"pattern": "block_sparse", "top_blocks": 2, "block_size": 16}
    e = Evaluation(one_layer(np.ones((64, 1, 4)), k), "minference", params, budget="native")
    assert as_lists(e.prefill[0])[0] == [[0], [0, 1], [0, 2], [0, 2, 3]]


# --- M5 FlexPrefill -------------------------------------------------------------------------------
def test_divergence():
    assert flexprefill.divergence(np.array([0.5, 0.5]), np.array([1.0, 0])) == pytest.approx(
        0.4645, abs=5e-5
    )
    assert (
        flexprefill.divergence(np.array([1.0, 0]), np.array([0, 1.0]))
        == pytest.approx(np.sqrt(np.log(2)))
        == pytest.approx(0.833, abs=5e-4)
    )
    assert flexprefill.divergence(np.array([0.2, 0.8]), np.array([0.2, 0.8])) == 0


def test_tokens_reaching_a_share():
    assert flexprefill.tokens_reaching(np.array([0.3, 0.5, 0.2]), 0.75) == 2
    assert (
        flexprefill.tokens_reaching(np.array([0.25, 0.5, 0.25]), 0.75) == 3
    )  # a prefix that equals gamma counts, and one more
    assert flexprefill.blocks_reaching(np.array([0.3, 0.5, 0.2]), 0.75, 2)[0] == 2
    assert flexprefill.blocks_reaching(np.array([0.3, 0.5, 0.2]), 0.75, 4)[0] == 1


def test_margin_of_a_block_count():
    """The count changes where the prefix sum at tokens B - 1, 2B - 1, ... crosses gamma."""
    values = seeded(17).dirichlet(np.ones(64))
    for gamma in (0.3, 0.7, 0.9):
        count, margin = flexprefill.blocks_reaching(values, gamma, 4)
        for side in (-1, 1):
            assert (
                flexprefill.blocks_reaching(values, gamma * (1 + side * margin * 0.999), 4)[0]
                == count
            )
        assert {
            flexprefill.blocks_reaching(values, gamma * (1 + side * margin * 1.001), 4)[0]
            for side in (-1, 1)
        } != {count}


def test_entries_within_a_sum():
    scores = np.array([[1.0, 9, 9], [0.5, 0.5, 9], [0.2, 0.3, 0.5]])  # 9: not causal

    def taken(limit):
        return flexprefill.entries_within(scores, limit)[0]

    assert taken(0.9) == [] and taken(1.0) == [(0, 0)] and taken(1.6) == [(0, 0), (2, 2)]
    assert taken(2.5) == [
        (0, 0),
        (2, 2),
        (1, 1),
        (1, 0),
    ]  # of ties the later row, then the later column; 2.5 + 0.3 is too much
    assert len(taken(10)) == 6


def test_query_aware_where_pooling_tells_the_truth():
    """Keys constant within blocks and one query throughout: the mean query's distribution over
    whole blocks is the true one, except for causality within the last block."""
    k = np.repeat(seeded(18).standard_normal((8, 1, 16)), 16, axis=0)
    k[-16:] = 0
    k[-16:, :, 0] = -60  # nothing of the last block matters
    q = np.repeat(seeded(19).standard_normal((1, 1, 16)), 128, axis=0)
    q[:, :, 0] = 4
    method = methods.make("flexprefill", one_layer(q, k), 16, 0, 1)
    assert method.pattern_distance(0)[0] < 1e-9 and method.query_aware(0).all()
    q[::2] *= -0.2  # the mean query now stands for none of them
    assert not methods.make("flexprefill", one_layer(q, k), 16, 0, 1).query_aware(0).any()


def test_matched_scores_are_those_of_the_head_kind():
    t = structured(20, 220)
    method = methods.make("flexprefill", t, 16, 0, 1)
    split = np.sort(method.pattern_distance(0))[1:3].mean()
    method.params["tau"] = split
    aware = method.query_aware(0)
    assert aware.sum() == 2
    vertical = methods.make("minference", t, 16, 0, 1, last_queries=16).prefill(0)
    assert (method.prefill(0)[~aware] == vertical[~aware]).all() and (
        method.prefill(0)[aware] == method.pooled(0)[aware]
    ).all()


def test_vertical_slash_blocks_of_a_head():
    method = methods.make("flexprefill", structured(21, 8), 2, 0, 1)
    v, s = (
        np.array([0, 0, 0.3, 0.2, 0.1, 0.3, 0.05, 0.05]),
        np.array([0, 0.1, 0, 0.6, 0.1, 0.1, 0.1, 0]),
    )
    kept, met, _ = method.vertical_slash(v, s, (2, 1), (2, 1))
    assert (
        kept == {0, 1} and met(3) == {3, 2} and met(0) == {0}
    )  # block 0 and offset 0 take a place each
    method.params["straddle"] = True
    assert method.vertical_slash(v, s, (3, 1), (2, 1))[1](3) == {3, 2, 1}
    assert method.vertical_slash(v, np.zeros(8), (0, 1), (0, 1))[1](3) == {
        3,
        2,
    }  # offset 0 straddles too


@pytest.mark.parametrize("tau", [0.0, 10.0])
def test_density_rises_with_gamma(tau):
    t = structured(22, 320)

    def chosen(gamma):
        return Evaluation(
            t,
            "flexprefill",
            {"block_size": 16, "min_budget": 16, "gamma": gamma, "tau": tau},
            budget="native",
        ).prefill[0]

    found = [chosen(gamma) for gamma in (0.05, 0.3, 0.6, 0.9, 0.99, 1 - 1e-9)]
    for a, b in zip(found, found[1:]):
        assert all(
            set(x.tolist()) <= set(y.tolist())
            for one, two in zip(a.lists, b.lists)
            for x, y in zip(one, two)
        )
    densities = [selection.density(x)[0].mean() for x in found]
    assert densities[0] < densities[2] < densities[4] and densities[-1] > 0.99


def test_straddling_offsets_only_add():
    t = structured(23, 320)
    params = {"block_size": 16, "min_budget": 16, "gamma": 0.4, "tau": 0.0}
    plain, wide = (
        Evaluation(t, "flexprefill", {**params, "straddle": flag}, budget="native").prefill[0]
        for flag in (False, True)
    )
    assert selection.density(plain)[0].mean() < selection.density(wide)[0].mean()
    assert all(
        set(x.tolist()) <= set(y.tolist())
        for one, two in zip(plain.lists, wide.lists)
        for x, y in zip(one, two)
    )


@pytest.mark.parametrize(
    "n, block, least, dense",
    [(64, 32, 0, True), (65, 32, 0, False), (200, 32, 200, True), (201, 32, 200, False)],
)
def test_short_prompts_are_dense(n, block, least, dense):
    e = Evaluation(
        structured(24, n),
        "flexprefill",
        {"block_size": block, "min_budget": least, "gamma": 1e-6, "tau": 0.0},
        budget="native",
    )
    full = all(
        row == list(range(i + 1)) for unit in as_lists(e.prefill[0]) for i, row in enumerate(unit)
    )
    assert full == (dense or least == 200)  # a minimum of nearly all blocks also keeps them all
    assert (e.prefill[0].margin is None) == dense


def test_budget_clamps():
    t = structured(25, 320)
    method = methods.make("flexprefill", t, 16, 0, 1, min_budget=50, max_budget=80)
    flat, peaked = np.full(320, 1 / 320), np.eye(320)[7]
    assert (
        method.clamped(flat)[0] == 5 and method.clamped(peaked)[0] == 4
    )  # ceil(80/16), ceil(50/16)
    method.params["max_budget"] = 0
    assert method.clamped(flat)[0] == (288 + 1) // 16 + 1 and method.least() == 4


# --- M6 XAttention --------------------------------------------------------------------------------
def test_antidiagonal_logits():
    q, k = (np.array(x, float)[:, None, None] for x in ([1, 2, 3, 4], [1, 0, 2, 1]))
    x = xattention.group_logits(q, k, 2)[0]
    assert (2 * x)[np.tri(2, dtype=bool)].tolist() == [2, 4, 11]
    assert xattention.group_weights(q, k, 2)[0, 1] == pytest.approx([0.0293, 0.9707], abs=5e-5)


@pytest.mark.parametrize(
    "threshold, kept",
    [
        (0.8, [0, 2, 3]),
        (0.95, [0, 1, 2, 3]),
        (0.2, [0, 3]),
        (0.0, [0, 3]),
        (0.3, [0, 3]),
        (0.31, [0, 2, 3]),
    ],
)
def test_smallest_set_that_reaches_the_threshold(threshold, kept):
    assert (
        xattention.smallest_set(np.array([0.05, 0.10, 0.60, 0.25]), 3, threshold)[0].tolist()
        == kept
    )


def test_stride_one_and_single_tokens_are_the_truth():
    t = structured(26, 40)
    assert methods.make("xattention", t, 1, 0, 1, stride=1).prefill(0) == pytest.approx(t.p(0))


@pytest.mark.parametrize("n", [96, 90, 97])
def test_rows_sum_to_their_groups(n):
    """B / s groups a row, fewer in a ragged tail; a partial group divides by the whole stride."""
    t = structured(27, n)
    s = methods.make("xattention", t, 16, 0, 1, stride=4).prefill(0)
    assert s.sum(axis=2) == pytest.approx(
        np.tile([4] * (n // 16) + [-(-(n % 16) // 4)] * (n % 16 > 0), (4, 1))
    )
    q, k, _ = t.layers[0]
    groups, last = -(-n // 4), n - 1 - (n - 1) % 4
    by_hand = (
        sum(
            q[last + 3 - x, 2] @ k[last + x, 1]
            for x in range(4)
            if last + 3 - x < n and last + x < n
        )
        / 4
        / np.sqrt(32)
    )
    assert xattention.group_logits(q, k, 4)[2, groups - 1, groups - 1] == pytest.approx(by_hand)


def test_threshold_one_keeps_everything_that_matters():
    t = structured(28, 150)
    few, many = (
        selection.density(
            Evaluation(
                t, "xattention", {"block_size": 16, "threshold": x}, budget="native"
            ).prefill[0]
        )[0].mean()
        for x in (0.5, 0.999)
    )
    assert few < many > 0.9


# --- M7 Quest -------------------------------------------------------------------------------------
def test_upper_bound_by_hand():
    k = np.array([[1.0, -2], [3, 0]])[:, None]
    assert quest.upper_bounds(np.array([[1.0, -1]]), k, 2)[0].tolist() == [5]
    assert (k[:, 0] @ [1, -1]).max() == 3


def test_upper_bounds_hold_and_are_exact_for_single_keys():
    g = seeded(29)
    for _ in range(50):
        q, k = (
            g.standard_normal((4, 8)) * g.choice([-3, 0.1, 2], (4, 8)),
            g.standard_normal((37, 2, 8)) - 0.5,
        )
        logits = np.einsum("hd,nhd->hn", q, np.repeat(k, 2, axis=1))
        assert (
            quest.upper_bounds(q, k, 8)
            >= np.maximum.reduceat(logits, np.arange(0, 37, 8), axis=1) - 1e-12
        ).all()
        assert quest.upper_bounds(q, k, 1) == pytest.approx(logits)


def test_single_key_pages_are_the_token_oracle():
    t = structured(30, 60, steps=10)
    mine, oracle = (Evaluation(t, name, {"block_size": 1}, 0.3) for name in ("quest", "oracle"))
    assert as_lists(mine.decode[0]) == as_lists(oracle.decode[0])


def test_the_current_page_counts():
    t = structured(31, 150, steps=20)
    for budget, pages in ((1, 1), (31, 1), (32, 2), (64, 4), (10**6, 11)):
        e = Evaluation(t, "quest", {"block_size": 16, "token_budget": budget}, budget="native")
        assert all(
            len(row) == min(pages, (150 + s) // 16 + 1)
            for unit in e.decode[0].lists
            for s, row in enumerate(unit)
        )


def test_group_sum_shares_a_list():
    t = structured(32, 150, steps=3)
    heads, group = (
        methods.make("quest", t, 16, 0, 1, agg=agg).decode(0, 1) for agg in ("head", "group_sum")
    )
    assert group == pytest.approx(np.stack([heads[0] + heads[1], heads[2] + heads[3]]))
    assert Evaluation(t, "quest", {"block_size": 16, "agg": "group_sum"}, 0.5).decode[0].units == 2


# --- M8 SpargeAttn --------------------------------------------------------------------------------
def test_self_similarity():
    x, zero = np.array([1.0, 2, -3]), np.zeros(3)
    c = spargeattn.self_similarity(np.array([x, 5 * x, x, -x, x, zero, zero, zero, x])[:, None], 2)[
        0
    ]
    assert c == pytest.approx(
        [1, 0, 0.25, 0, 1]
    )  # a zero token counts 0; a tail divides by its own tokens
    y = seeded(33).standard_normal((7, 1, 5))
    unit = y[:, 0] / np.linalg.norm(y[:, 0], axis=1, keepdims=True)
    assert spargeattn.self_similarity(y, 7)[0, 0] == pytest.approx((unit @ unit.T).mean())


def test_largest_prefix():
    p = np.array([0.3, 0.6, 0.1])
    assert [spargeattn.largest_prefix(p, x) for x in (0.8, 0.95, 0.5, 0.0)] == [1, 2, 1, 1]


def test_blocks_that_are_not_similar_are_always_computed():
    t = structured(34, 160)
    q, k, v = (x.copy() for x in t.layers[0])
    k += 3 * np.repeat(seeded(35).standard_normal((10, 1, 32)), 16, axis=0)
    q += 3
    k[48:64] = (
        np.repeat(k[48:49], 16, axis=0) * np.array([1, -1] * 8)[:, None, None]
    )  # block 3: {x, -x}
    q[96:112] = (
        np.repeat(q[96:97], 16, axis=0) * np.array([1, -1] * 8)[:, None, None]
    )  # query block 6
    odd = Tensors([(q, k, v)])
    e = Evaluation(
        odd,
        "spargeattn",
        {"block_size": 16, "simthreshd1": 0.2, "cdfthreshd": 0.2, "smooth_k": False},
        budget="native",
    )
    for unit in as_lists(e.prefill[0]):
        assert all(3 in row for row in unit[3:]) and unit[6] == list(range(7))
        assert any(len(row) <= i for i, row in enumerate(unit) if i != 6)
    s = methods.make("spargeattn", odd, 16, 0, 1, simthreshd1=0.2, smooth_k=False).prefill(0)
    assert s[:, 8, 3] == pytest.approx([3] * 4) and (np.delete(s[:, 8, :9], 3, axis=1) <= 1).all()


def test_least_similar_blocks_first():
    """Under a matched budget: {x, -x} before a block of one odd token before similar ones."""
    k = np.ones((96, 1, 2))
    k[16:32:2], k[36] = -1, -1
    method = methods.make(
        "spargeattn", one_layer(np.ones((96, 1, 2)), k), 16, 0, 1, simthreshd1=0.9, smooth_k=False
    )
    s = method.prefill(0)[0]
    assert (
        s[5, 1] == 3
        and s[5, 2] == pytest.approx(3 - (14 / 16) ** 2)
        and s[5, [0, 3, 4, 5]] == pytest.approx([0.25] * 4)
    )
    assert as_lists(method.matched_prefill(0, [0, 1, 2, 2, 2, 3]))[0][5] == [0, 1, 4, 5]


def test_a_constant_added_to_all_keys_changes_no_smoothed_list():
    t = structured(36, 170)
    q, k, v = t.layers[0]
    shifted = Tensors([(q, k + seeded(37).standard_normal((1, 2, 32)) * 3, v)])
    for params in ({"simthreshd1": 0.05}, {"simthreshd1": -0.1, "cdfthreshd": 0.6}):
        for budget in ("native", "matched"):
            a, b = (
                Evaluation(x, "spargeattn", {"block_size": 16, **params}, 0.4, budget)
                for x in (t, shifted)
            )
            assert as_lists(a.prefill[0]) == as_lists(b.prefill[0])
        params["smooth_k"] = False
    raw, moved = (
        Evaluation(x, "spargeattn", {"block_size": 16, "simthreshd1": 0.7, "smooth_k": False}, 0.6)
        for x in (t, shifted)
    )
    assert as_lists(raw.prefill[0]) != as_lists(moved.prefill[0])


@pytest.mark.parametrize("share, density", [(0.1, 0.19), (0.2, 0.36), (0.3, 0.51), (0.5, 0.75)])
def test_a_share_of_all_blocks_is_more_of_the_causal_ones(share, density):
    """Causal block density at p of all blocks, diagonal = 1."""
    t = structured(38, 800, heads=1, kv_heads=1)
    e = Evaluation(
        t, "spargeattn", {"block_size": 8, "simthreshd1": -0.1, "topk": share}, budget="native"
    )
    kept = sum(len(row) for row in e.prefill[0].lists[0])
    assert kept / (100 * 101 / 2) == pytest.approx(density, abs=0.02)


# --- M10 the mean-pool family ---------------------------------------------------------------------
def test_one_family():
    """Mean of MoBA's gates ≡ one hop per head ≡ MInference's block-sparse ≡ FlexPrefill's pooled
    ranking."""
    t = structured(39, 213, layers=2)
    family = [
        ("moba", {}),
        ("minference", {"pattern": "block_sparse"}),
        ("flexprefill", {"tau": 10.0}),
        ("onehop", {"per_head": True, "variant": "icml"}),
        ("onehop", {"per_head": True, "variant": "icml", "sketch": "exact"}),
    ]
    for layer in range(2):
        first, *others = [
            as_lists(Evaluation(t, name, {"block_size": 16, **params}, 0.4).prefill[layer])
            for name, params in family
        ]
        assert all(lists == first for lists in others)
    method = methods.make("moba", t, 16, 0, 1)
    gates = method.gates(1)
    means = np.stack([gates[:, at : at + 16].mean(axis=1) for at in range(0, 213, 16)], axis=1)
    assert means == pytest.approx(
        method.prefill(1), abs=1e-5
    )  # scores are rounded to what single precision tells apart
    assert (method.prefill(1) == block_logits(*t.layers[1][:2], 16)).all()


@pytest.mark.parametrize(
    "case",
    [
        ("moba", {}),
        ("minference", {"pattern": "block_sparse"}),
        ("flexprefill", {"tau": 10.0}),
        ("nsa", {}),
        ("onehop", {"per_head": True}),
    ],
    ids=label,
)
def test_constant_blocks_rank_like_the_oracle(case):
    """Keys constant within blocks, one query repeated in its block."""
    q, k = (np.repeat(seeded(40, h).standard_normal((12, 2, 32)), 16, axis=0) for h in range(2))
    t = one_layer(q, k)
    assert as_lists(evaluate(t, case, 0.5).prefill[0]) == as_lists(
        evaluate(t, ("oracle", {}), 0.5).prefill[0]
    )


def test_scaled_queries_leave_rankings_by_head():
    t = generate.tensors(generate.gaussian(seeded(41), 200, 4, 4, 32, 1))
    q, k, v = t.layers[0]
    scaled = Tensors([(q * np.array([1, 20, 1, 1])[:, None], k, v)])
    for case in [
        ("moba", {}),
        ("moba", {"form": "token"}),
        ("onehop", {"per_head": True}),
        ("minference", {"pattern": "block_sparse"}),
    ]:
        assert as_lists(evaluate(t, case, 0.4).prefill[0]) == as_lists(
            evaluate(scaled, case, 0.4).prefill[0]
        )
    assert as_lists(evaluate(t, ("onehop", {}), 0.4).prefill[0]) != as_lists(
        evaluate(scaled, ("onehop", {}), 0.4).prefill[0]
    )


def test_gates_of_single_tokens():
    """B = 2, keys 3, 1, 2 for the blocks 0, 1, 2: with one past block a token of block 3 takes
    block 0 or, with a negative query, 1."""
    k = np.repeat([3.0, 1, 2, 0], 2)[:, None, None]
    q = np.array([1.0, 1, 1, 1, 1, -1, 1, -1])[:, None, None]
    t = one_layer(q, k)
    e = Evaluation(t, "moba", {"block_size": 2, "form": "token", "topk": 2}, budget="native")
    mask = e.prefill[0].token_mask(8)[0]
    kept = [np.flatnonzero(row).tolist() for row in mask]
    assert kept == [
        [0],
        [0, 1],
        [0, 1, 2],
        [0, 1, 2, 3],
        [0, 1, 4],
        [2, 3, 4, 5],
        [0, 1, 6],
        [2, 3, 6, 7],
    ]
    assert as_lists(e.prefill[0])[0] == [[0], [0, 1], [0, 1, 2], [0, 1, 3]]
    assert selection.density(e.prefill[0])[0][0] == mask.sum() / 36
    block = Evaluation(t, "moba", {"block_size": 2, "topk": 2}, budget="native")
    assert as_lists(block.prefill[0])[0] == [
        [0],
        [0, 1],
        [1, 2],
        [2, 3],
    ]  # mean queries of 0: all past gates tie


def test_token_and_block_forms_agree_on_blocks_of_one_token():
    t = structured(42, 40)
    a, b = (
        Evaluation(t, "moba", {"block_size": 1, "form": form, "topk": 5}, budget="native").prefill[
            0
        ]
        for form in ("token", "block")
    )
    assert as_lists(a) == as_lists(b)


def test_nsa_by_hand():
    """B = 2. Over complete blocks the token 2 sees the first one alone, token 3 its own too. With
    the unfinished one it sees the mean of its own whole block, also of the token 3 after it."""
    q = np.array([[1.0, 0], [1, 0], [1, 2], [0, 1], [1, 1]])[:, :, None]
    k = np.array([1.0, 3, 0, 2, 5])[:, None, None]

    def e(*x):
        return np.exp(x) / np.exp(x).sum()

    s = methods.make("nsa", one_layer(q, k), 2, 0, 1).prefill(0)
    # tokens 0 and 1 (no block; the first), 2 (the first), 3 (both), 4 (the first two)
    assert s[0, 0] == pytest.approx([2, 0, 0])
    assert s[0, 1] == pytest.approx([2 + e(0, 0)[0] + e(2, 1)[0], e(0, 0)[1] + e(2, 1)[1], 0])
    assert s[0, 2] == pytest.approx([*(2 * e(2, 1)), 0])
    s = methods.make("nsa", one_layer(q, k), 2, 0, 1, unfinished_block=True).prefill(0)
    assert s.shape == (1, 3, 3)
    assert s[0, 1] == pytest.approx([*(e(2, 1) + e(4, 2) + e(0, 0) + e(2, 1)), 0])
    assert s[0, 2] == pytest.approx(2 * e(2, 1, 5)) and s[0, 0] == pytest.approx([4, 0, 0])


def test_nsa_keeps_its_blocks():
    t = structured(43, 500, steps=20)
    e = Evaluation(t, "nsa", {"block_size": 16}, budget="native")
    for _phase, chosen in (("prefill", e.prefill[0]), ("decode", e.decode[0])):
        assert chosen.units == 2
        for unit in chosen.lists:
            for r, row in enumerate(unit):
                i = chosen.row_block(r)
                assert len(row) == min(16, i + 1) and forced_set(i) <= set(row.tolist())
    narrow = Evaluation(
        t,
        "nsa",
        {"block_size": 16, "top_blocks": 4, "init_blocks": 3, "local_blocks": 4},
        budget="native",
    )
    assert as_lists(narrow.prefill[0])[0][20] == [0, 1, 2, 17, 18, 19, 20]


# --- M9 eviction ----------------------------------------------------------------------------------
def test_average_pool():
    assert snapkv.average_pool(np.array([5.0, 0, 0, 10]), 5).tolist() == [
        1,
        3,
        3,
        2,
    ]  # the divisor stays 5 at the ends
    assert snapkv.average_pool(np.array([5.0, 0, 0, 10]), 1).tolist() == [5, 0, 0, 10]
    assert snapkv.average_pool(np.array([4.0, 0, 0]), 2).tolist() == [2, 2, 0]


def test_snapkv_scores_by_hand():
    t = structured(44, 70, steps=1)
    scores = methods.make("snapkv", t, 16, 0, 1, window=10, pool_kernel=3).prompt_scores(0)
    seen = probabilities(*t.layers[0][:2])[:, 60:].sum(axis=1)[:, :60]
    pooled = [
        [(h[u - 1] if u else 0) + h[u] + (h[u + 1] if u < 59 else 0) for u in range(60)]
        for h in seen
    ]
    by_block = np.array(
        [[sum(h[at : at + 16]) / 3 for at in range(0, 60, 16)] + [0] for h in pooled]
    )
    assert scores == pytest.approx((by_block[::2] + by_block[1::2]) / 2)


def test_snapkv_keeps_its_choice_and_all_that_follows():
    t = structured(45, 203, steps=40)
    e = Evaluation(t, "snapkv", {"block_size": 16, "capacity": 70, "window": 20}, budget="native")
    scores = methods.make("snapkv", t, 16, 0, 1, window=20).prompt_scores(0)
    for g, unit in enumerate(as_lists(e.decode[0])):
        best = sorted(np.argsort(-scores[g, :11])[:3].tolist()) + [
            11,
            12,
        ]  # 5 blocks; the last 20 tokens are in 11 and 12
        assert (
            unit[0] == best
            and unit[4] == best
            and unit[5] == [*best, 13]
            and unit[39] == [*best, 13, 14, 15]
        )
    tiny = Evaluation(t, "snapkv", {"block_size": 16, "capacity": 1, "window": 20}, budget="native")
    assert as_lists(tiny.decode[0])[0][0] == [11, 12]
    whole = Evaluation(t, "snapkv", {"block_size": 16}, budget="native")
    assert as_lists(whole.decode[0])[0][39] == list(range(16))


def test_snapkv_under_a_matched_budget_prefers_what_decoding_wrote():
    t = structured(46, 203, steps=60)
    row = as_lists(Evaluation(t, "snapkv", {"block_size": 16}, 0.3).decode[0])[0][59]
    assert (
        len(row) == budgets.decode_blocks(263, 16, 0.3) == 6
        and row[1:] == [12, 13, 14, 15, 16]
        or set(row) >= {13, 14, 15, 16}
    )
    scores = methods.make("snapkv", t, 16, 0, 1).decode(0, 59)
    assert np.isinf(scores[:, 13:]).all() and np.isfinite(scores[:, :13]).all()


def test_h2o_sums_what_blocks_have_had():
    t = structured(47, 90, steps=12)
    method = methods.make("h2o", t, 16, 0, 1)
    for step in range(12):
        scores = method.decode(0, step)
    whole = np.concatenate([np.pad(t.p(0), ((0, 0), (0, 0), (0, 12))), t.p_decode(0)], axis=1)[
        :, :101, :101
    ]  # not the 12th step's own
    wanted = sum_over_blocks(np.pad(whole.sum(axis=1), ((0, 0), (0, 1))), 16)
    assert scores == pytest.approx((wanted[::2] + wanted[1::2]) / 2)
    sizes = np.array([16, 16, 16, 16, 16, 10])
    first = methods.make("h2o", t, 16, 0, 1).decode(0, 0)
    assert first == pytest.approx(
        np.einsum("i,hij->hj", sizes, block_mass(t.p(0), 16)).reshape(2, 2, 6).mean(axis=1)
    )


def test_h2o_evicts_for_good():
    t = structured(48, 200, steps=60, heads=2, kv_heads=1)
    params = {
        "heavy_ratio": 0.2,
        "recent_ratio": 0.1,
    }  # ceil(40/16) = 3 heavy, ceil(20/16) = 2 recent
    lists = as_lists(Evaluation(t, "h2o", {"block_size": 16, **params}, budget="native").decode[0])[
        0
    ]
    mass = sum_over_blocks(t.p(0), 16).sum(axis=1).mean(axis=0)
    assert lists[0] == sorted(np.argsort(-mass[:11])[:3].tolist()) + [11, 12]
    seen = mass.copy()
    for step, row in enumerate(lists):
        c = (200 + step) // 16
        assert len(row) == 5 and {c - 1, c} <= set(row)
        if step:
            assert set(row) - {c} <= set(lists[step - 1])
            candidates = sorted(set(lists[step - 1]) - {c - 1, c})
            assert set(row) - {c - 1, c} == set(sorted(candidates, key=lambda j: -seen[j])[:3])
        seen = np.pad(seen, (0, c + 1 - len(seen)))
        share = t.mass_decode(0, 16)[:, step].mean(axis=0)
        for j in range(c + 1):
            seen[j] = seen[j] + share[j] if j in row else 0


def test_decode_only_density_is_against_the_whole_context():
    t = structured(49, 200, steps=4)
    e = Evaluation(
        t, "h2o", {"block_size": 16, "heavy_ratio": 0.2, "recent_ratio": 0.1}, budget="native"
    )
    n = 200 + 1 + np.arange(4)
    assert layer_metrics(e, 0, "decode")["density"][1] == pytest.approx(
        np.mean((4 * 16 + n - 192) / n)
    )


def test_blocks_hold_whatever_the_block_size():
    """Blocks larger than the prompt, and single tokens."""
    t = generate.tensors(generate.gaussian(seeded(50), 21, 4, 2, 16, 1, steps=3))
    for name in methods.NAMES:
        for block in (1, 64):
            params = {
                "block_size": block,
                **({"stride": 1} if name in ("xattention", "stem") else {}),
            }
            for budget in ("matched", "native"):
                if budget == "native" and name in ("oracle", "random", "onehop", "sketchwalk"):
                    continue
                e = Evaluation(t, name, params, 0.5, budget)
                for phase, layer, chosen in selections(e):
                    assert_lists_are_valid(chosen, 24 if phase == "decode" else 21)
                    assert chosen.rows == (3 if phase == "decode" else block_count(21, block))
                    assert np.isfinite(e.output(layer, phase)).all()
