"""The reference itself: worked examples that a hand can check, and what must hold whatever the
input."""

import numpy as np
import pytest

from . import budgets, generate, methods, rng, selection
from .attention import Tensors, block_mass, probabilities, softmax
from .blocks import block_count, forced_set, select
from .evaluate import Evaluation, layer_metrics
from .sketch import Transform, block_means, kept_coordinates
from .sketchwalk import native
from .sketchwalk.icml import Icml
from .sketchwalk.native import icml_native_row


def random_generator(*key):
    return np.random.default_rng(key)


def assert_same_lists(a, b):
    for x, y in zip(a, b, strict=True):
        assert x.units == y.units
        for u in range(x.units):
            assert [row.tolist() for row in x.lists[u]] == [row.tolist() for row in y.lists[u]]


# --- budgets --------------------------------------------------------------------------------------
def test_row_budgets_of_a_tiny_case():
    m, floored = budgets.rows_proportional(8, 2, 2 / 3, sink=0, local=1)
    assert m.tolist() == [0, 0, 1, 2] and not floored
    assert budgets.kept_pairs(8, 2, m) == 24
    assert budgets.causal_pairs(8) == 36


def test_row_budgets_of_64_blocks():
    m, _ = budgets.rows_proportional(64 * 64, 64, 0.2)
    assert budgets.kept_pairs(4096, 64, m) / budgets.causal_pairs(4096) == pytest.approx(
        0.19990, abs=5e-6
    )
    assert budgets.block_density(m) == pytest.approx(0.2120, abs=5e-5)


def test_floor_of_the_forced_set():
    forced = budgets.forced_row_counts(4096, 64)
    assert budgets.kept_pairs(4096, 64, forced) / budgets.causal_pairs(4096) == pytest.approx(
        0.077, abs=1e-3
    )
    m, floored = budgets.rows_proportional(4096, 64, 0.05)
    assert floored and m.tolist() == forced.tolist()


@pytest.mark.parametrize("n", [1, 15, 16, 17, 333, 1024, 1031])
@pytest.mark.parametrize("block", [16, 64])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.35, 0.5, 0.9, 1.0])
def test_row_budgets_hit_the_density(n, block, density):
    m, floored = budgets.rows_proportional(n, block, density)
    row = np.arange(len(m))
    assert (m <= row).all() and (m >= np.minimum(row, 2)).all()
    if density == 1.0:
        assert (m == row).all()
    elif not floored:
        assert (
            abs(budgets.kept_pairs(n, block, m) - density * budgets.causal_pairs(n))
            <= block * block / 2
        )


def test_decode_budget():
    assert budgets.decode_blocks(1, 64, 0.5) == 1
    assert budgets.decode_blocks(4096, 64, 0.25) == 16  # 15 whole blocks before the current one
    assert budgets.decode_blocks(4097, 64, 0.25) == 17  # the current block holds one token
    assert budgets.decode_blocks(4096, 64, 0.001) == 3  # the forced set
    assert budgets.decode_blocks(4096, 64, 1.0) == 64


# --- selection ------------------------------------------------------------------------------------
def test_ties_go_to_the_later_block():
    assert select(np.zeros(8), 7, 4).tolist() == [0, 4, 5, 6, 7]
    assert select(np.array([0, 1.0, np.nan, -0.0, 0.0, 1.0, 0, 0]), 7, 4).tolist() == [
        0,
        1,
        5,
        6,
        7,
    ]


def test_forced_sets():
    assert [sorted(forced_set(i)) for i in range(4)] == [[0], [0, 1], [0, 1, 2], [0, 2, 3]]
    assert forced_set(5, sink=0, local=1) == {5}


def test_a_larger_budget_keeps_more_of_the_same():
    scores = random_generator(1).standard_normal(40)
    kept = [set(select(scores, 39, m).tolist()) for m in range(2, 40)]
    assert all(a < b for a, b in zip(kept, kept[1:]))


def test_sink_window_native_list():
    method = methods.make("sink_window", None, 64, 0, 1, start=4, recent=128)
    assert method.native_list(5 * 64).tolist() == [0, 3, 4, 5]


# --- true mass ------------------------------------------------------------------------------------
def test_mass_of_zero_queries():
    mass = block_mass(probabilities(np.zeros((4, 1, 8)), np.ones((4, 1, 8))), 2)[0]
    assert mass[0].tolist() == [1, 0]
    assert mass[1] == pytest.approx([7 / 12, 5 / 12])


def test_mass_sums_to_one_with_a_tail():
    t = generate.tensors(generate.gaussian(random_generator(2), 77, 4, 2, 16, 1))
    assert t.mass(0, 16).sum(axis=2) == pytest.approx(np.ones((4, 5)))


def test_oracle_catches_the_most_mass():
    t = generate.tensors(generate.structured(random_generator(3), 256, 4, 2, 32, 3))
    best = Evaluation(t, "oracle", {"block_size": 16}, 0.4)
    for other in ("sink_window", "random"):
        for layer in range(3):
            mine = layer_metrics(best, layer, "prefill")["mass_recall"][0]
            theirs = layer_metrics(Evaluation(t, other, {"block_size": 16}, 0.4), layer, "prefill")[
                "mass_recall"
            ][0]
            assert (np.array(mine) >= theirs).all()
    assert layer_metrics(best, 1, "prefill")["block_recall"][1] == 1.0


def test_random_recall_is_what_chance_gives():
    t = generate.tensors(generate.structured(random_generator(4), 512, 2, 1, 32, 1))
    mass, m = t.mass(0, 16), budgets.rows_proportional(512, 16, 0.4)[0]
    i = 31
    forced = sorted(forced_set(i))
    rest = 1 - mass[0, i, forced].sum()
    got = [
        mass[
            0, i, Evaluation(t, "random", {"block_size": 16}, 0.4, seed=s).prefill[0].lists[0][i]
        ].sum()
        for s in range(60)
    ]
    expected = mass[0, i, forced].sum() + (m[i] - 2) / (i - 2) * rest
    assert abs(np.mean(got) - expected) < 3.5 * np.std(got) / np.sqrt(len(got))


# --- rng ------------------------------------------------------------------------------------------
def test_splitmix_known_values():
    # the first outputs of splitmix64 seeded with 0: the state advances by the golden ratio before
    # mixing
    golden = 0x9E3779B97F4A7C15
    assert [rng.mix64(i * golden & rng.MASK) for i in range(3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]
    values = np.array([0, 1, golden, 2**63 + 5], np.uint64)
    assert rng.mix64_array(values).tolist() == [rng.mix64(int(v)) for v in values]


def test_hash_scores_are_uniform_and_separate():
    scores = rng.hash_scores(1, 2, 3, range(50), 50)
    assert scores.min() >= 0 and scores.max() < 1 and len(np.unique(scores)) == scores.size
    assert scores.mean() == pytest.approx(0.5, abs=0.02)
    assert (rng.hash_scores(1, 2, 3, [7], 50)[:, 0] == scores[:, 7]).all()
    assert not np.isclose(rng.hash_scores(1, 3, 3, range(50), 50), scores).any()


# --- sketch ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("d", [8, 64, 96, 128])
def test_transform_is_exact_at_full_size(d):
    x, y = random_generator(d).standard_normal((2, 10, d))
    for seed in (1, 2):
        whole = Transform(d, 1 << 20, seed)
        assert whole.unbiased(x) @ whole.unbiased(y).T == pytest.approx(x @ y.T)


def test_transform_is_unbiased_and_its_spread_falls():
    x, y = random_generator(5).standard_normal((2, 64))
    spread = {}
    for r in (8, 32):
        values = []
        for seed in range(1000):
            t = Transform(64, r, seed)
            values.append(t.unbiased(x) @ t.unbiased(y))
        spread[r] = np.std(values)
        assert abs(np.mean(values) - x @ y) < 3 * spread[r] / np.sqrt(1000)
    # sampling r of d' without replacement: the spread goes as sqrt((1 - r/d') / r)
    assert spread[8] / spread[32] == pytest.approx(
        np.sqrt((1 - 8 / 64) / 8 / ((1 - 32 / 64) / 32)), rel=0.1
    )


def test_kept_coordinates_are_a_permutation():
    assert sorted(kept_coordinates(3, 128, 128)) == list(range(128))
    assert kept_coordinates(3, 128, 5) == kept_coordinates(3, 128, 128)[:5]


@pytest.mark.parametrize("d, factor", [(64, 0.64), (128, 1.28)])
def test_icml_logit_scale(d, factor):
    t = generate.tensors(generate.gaussian(random_generator(6), 64, 2, 1, d, 1))
    method = methods.make("onehop", t, 16, 0, 1, variant="icml")
    q, k, _ = t.layers[0]
    query, key = block_means(q, 16), block_means(k, 16)
    got = method.logits(method.sketch(query, 0), method.sketch(key, 0))
    assert got == pytest.approx(factor * query @ key.transpose(0, 2, 1) / np.sqrt(d))


@pytest.mark.parametrize("padded, tail", [(False, 1.0), (True, 0.25)])
def test_tail_mean(padded, tail):
    assert block_means(np.ones((17, 1, 1)), 4, padded)[0, :, 0].tolist() == [1, 1, 1, 1, tail]


# --- sketch and walk ------------------------------------------------------------------------------
def small(seed, **kwargs):
    settings = {"n": 200, "heads": 4, "kv_heads": 2, "d": 32, "layers": 3, **kwargs}
    return generate.tensors(generate.structured(random_generator(seed), **settings))


VARIANTS = [{"variant": "arxiv"}, {"variant": "softmax"}, {"variant": "icml"}]
UNITS = [{}, {"per_head": True}, {"per_group": True}]


@pytest.mark.parametrize("variant", VARIANTS)
def test_full_budget_is_dense(variant):
    t = small(7, steps=9)
    e = Evaluation(t, "sketchwalk", {**variant, "block_size": 16})
    assert layer_metrics(e, 2, "prefill")["output_rel_error"][1] < 1e-12
    assert layer_metrics(e, 2, "decode")["output_rel_error"][1] < 1e-12


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_identical_heads_give_identical_lists(variant, phase):
    t = generate.tensors(generate.duplicated_heads(random_generator(8), 200, 4, 2, 32, 3, steps=20))
    shared = Evaluation(t, "sketchwalk", {**variant, "block_size": 16}, 0.4)
    for units in UNITS[1:]:
        e = Evaluation(t, "sketchwalk", {**variant, **units, "block_size": 16}, 0.4)
        for one, many in zip(getattr(shared, phase), getattr(e, phase)):
            for rows in many.lists:
                assert [x.tolist() for x in rows] == [x.tolist() for x in one.lists[0]]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("units", UNITS)
def test_seed_does_not_matter_at_full_sketch(variant, units):
    t = small(9, steps=5)
    params = {**variant, **units, "block_size": 16, "sketch_dim": 32}
    a, b = (Evaluation(t, "sketchwalk", params, 0.4, seed=s) for s in (1, 2))
    assert_same_lists(a.prefill + a.decode, b.prefill + b.decode)
    exact = Evaluation(t, "sketchwalk", {**params, "sketch": "exact"}, 0.4)
    assert_same_lists(a.prefill + a.decode, exact.prefill + exact.decode)


@pytest.mark.parametrize(
    "variant, same",
    [
        ("arxiv", {"walk": "none"}),
        ("softmax", {"walk": "none"}),
        ("icml", {"walk": "none"}),
        ("icml", {"damping": 0.0}),
    ],
)
@pytest.mark.parametrize("units", UNITS)
def test_walks_that_are_one_hop(variant, same, units):
    t = small(10, steps=20)
    params = {"variant": variant, **units, "block_size": 16}
    a = Evaluation(t, "onehop", params, 0.4)
    b = Evaluation(t, "sketchwalk", {**params, **same}, 0.4)
    assert_same_lists(a.prefill + a.decode, b.prefill + b.decode)


def test_one_sparse_layer_without_sharpening_is_one_hop():
    t = small(11, steps=20)
    a = Evaluation(t, "onehop", {"variant": "softmax", "block_size": 16}, 0.4, dense_layers=2)
    b = Evaluation(
        t,
        "sketchwalk",
        {"variant": "softmax", "exponent": 1, "block_size": 16},
        0.4,
        dense_layers=2,
    )
    assert_same_lists(a.prefill + a.decode, b.prefill + b.decode)


def test_row_scaling_of_the_walk_changes_nothing():
    t = small(12)
    plain = methods.make("sketchwalk", t, 16, 0, 1, variant="softmax")
    scaled = methods.make("sketchwalk", t, 16, 0, 1, variant="softmax")
    scale = random_generator(12).uniform(0.01, 100, (13, 1))
    for layer in range(3):
        a, b = plain.prefill(layer), scaled.prefill(layer)
        scaled.state = scaled.state * scale
        for i in range(13):
            assert select(a[0, i], i, 5).tolist() == select(b[0, i], i, 5).tolist()


@pytest.mark.parametrize("params", [{}, {"signed": True}, {"exponent": 3}])
def test_scaling_of_the_printed_walk_changes_nothing(params):
    """Rows of R by any positive vector, and W by any factor: what the program's numbers rely on."""
    t = small(12)
    plain = methods.make("sketchwalk", t, 16, 0, 1, variant="arxiv", **params)
    scaled = methods.make("sketchwalk", t, 16, 0, 1, variant="arxiv", **params)
    scale, power = random_generator(12).uniform(0.01, 100, (13, 1)), scaled.power
    scaled.power = lambda a: power(a) / 1e5
    for layer in range(3):
        a, b = plain.prefill(layer), scaled.prefill(layer)
        scaled.state = scaled.state * scale
        for i in range(13):
            assert select(a[0, i], i, 5).tolist() == select(b[0, i], i, 5).tolist()


def test_printed_decode_by_hand():
    """One head, d = 1, blocks of 2 tokens, r = d' = 1: the scores are products of means."""
    q, k = np.array([1.0, 3, -1]), np.array([2.0, 4, 1])
    new_q, new_k = np.array([5.0, 2]), np.array([-3.0, 6])

    def layer(x, y):
        return x[:, None, None], y[:, None, None], y[:, None, None]

    t = Tensors([layer(q, k)], [layer(new_q, new_k)])
    method = methods.make("onehop", t, 2, 0, 1, variant="arxiv")
    assert method.prefill(0)[0] == pytest.approx(
        np.array([[2 * 3, 2 * 1], [-1 * 3, -1 * 1]]) ** 8.0
    )
    # The new token completes block 1: row 1 is of its query alone, column 1 of means so far.
    method.decode(0, 0)
    assert method.scores[0][0] == pytest.approx(np.array([[6, 2 * -1], [5 * 3, 2 * -1]]))
    # The next one begins block 2; row 1 stays what its last query made it.
    method.decode(0, 1)
    assert method.scores[0][0] == pytest.approx(
        np.array([[6, -2, 2 * 6], [15, -2, 2 * 6], [2 * 3, 2 * -1, 2 * 6]])
    )


def test_who_keeps_an_opposed_block():
    """A key block whose mean is opposed to the row's mean query: an even power takes it for the
    best, all else for the worst."""
    g = random_generator(30)
    n, d, opposed = 16 * 16, 32, 5
    q, k = 0.02 * g.standard_normal((2, n, 1, d))
    q[:, :, 0] += 1
    k[:, :, 0] += np.repeat(np.linspace(0.5, 1, 16), 16)[:, None]
    k[16 * opposed : 16 * (opposed + 1), :, 0] = -8
    t = Tensors([(q, k, k)])
    for params, kept in (
        ({"variant": "arxiv"}, True),
        ({"variant": "arxiv", "signed": True}, False),
        ({"variant": "softmax"}, False),
        ({"variant": "icml"}, False),
    ):
        for name in ("onehop", "sketchwalk"):
            row = Evaluation(t, name, {**params, "block_size": 16}, 0.4).prefill[0].lists[0][15]
            assert (opposed in row) == kept, (name, params)


def test_decode_sketches_equal_prefill_sketches():
    prompt, decode = generate.structured(random_generator(13), 150, 4, 2, 32, 2, steps=50)
    whole = Tensors([[np.concatenate(pair) for pair in zip(a, b)] for a, b in zip(prompt, decode)])
    method = methods.make("sketchwalk", Tensors(prompt, decode), 16, 0, 1, variant="softmax")
    for step in (0, 9, 10, 49):
        n = 150 + step + 1
        assert (
            method.key_sketch(method.keys(1, step), 1)
            == method.key_sketch(whole.layers[1][1][:n], 1)
        ).all()


@pytest.mark.parametrize("causal", [True, False])
def test_softmax_decode_ends_like_prefill_with_one_token_blocks(causal):
    """With B = 1 a block's query is its only token, so that decode must repeat prefill exactly."""
    prompt, decode = generate.structured(random_generator(14), 20, 4, 2, 16, 3, block=1, steps=12)
    whole = Tensors([[np.concatenate(pair) for pair in zip(a, b)] for a, b in zip(prompt, decode)])
    params = {"variant": "softmax", "causal_blocks": causal}
    method = methods.make("sketchwalk", Tensors(prompt, decode), 1, 0, 1, **params)
    full = methods.make("sketchwalk", whole, 1, 0, 1, **params)
    for layer in range(3):
        method.prefill(layer)
    expected = [full.prefill(layer) for layer in range(3)]
    for step in range(12):
        rows = [method.decode(layer, step) for layer in range(3)]
        if causal:
            for layer in range(3):
                assert rows[layer][0] == pytest.approx(expected[layer][0, 20 + step, : 21 + step])
    for layer in range(3):
        assert rows[layer] == pytest.approx(expected[layer][:, 31])


def test_icml_decode_with_one_query_and_one_token_blocks_repeats_prefill_rows():
    prompt, decode = generate.structured(random_generator(15), 20, 4, 2, 16, 1, block=1, steps=12)
    whole = Tensors([[np.concatenate(pair) for pair in zip(a, b)] for a, b in zip(prompt, decode)])
    params = {"variant": "icml", "decode_query_window": 1}
    method = methods.make("sketchwalk", Tensors(prompt, decode), 1, 0, 1, **params)
    expected = methods.make("sketchwalk", whole, 1, 0, 1, **params).prefill(0)
    method.prefill(0)
    for step in range(12):
        assert method.decode(0, step)[0] == pytest.approx(expected[0, 20 + step, : 21 + step])


def test_icml_running_average():
    t = generate.tensors(generate.gaussian(random_generator(16), 8, 1, 1, 8, 1, steps=4))
    method = methods.make("sketchwalk", t, 4, 0, 1, variant="icml")
    old = np.array([[[1.0, 0], [0.5, 0.5]]])
    new_block = method.running_average(
        old, np.array([[0.2, 0.3, 0.5]]), 2, 8
    )  # weight 1: the row itself
    assert new_block[0] == pytest.approx(np.array([[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]]))
    again = method.running_average(new_block, np.array([[0.4, 0.3, 0.3]]), 2, 9)  # weight 1/2
    row = np.array([0.3, 0.3, 0.4 + (0.3 - 0.4) / 2])
    assert again[0, 2] == pytest.approx(row / row.sum())
    assert again[0, :2] == pytest.approx(new_block[0, :2])


def test_noncausal_softmax_can_choose_another_block():
    """Two heads with logits (2, 0 | future 6) and (0, 1 | future -9)."""
    logits = np.array([[2.0, 0, 6], [0, 1, -9]])
    assert softmax(logits).sum(axis=0)[:2] == pytest.approx([0.287, 0.733], abs=1e-3)
    assert softmax(logits[:, :2]).sum(axis=0) == pytest.approx([1.150, 0.850], abs=1e-3)


@pytest.mark.parametrize("variant, dislike", [("softmax", 1 / 3), ("icml", 1 / 3), ("arxiv", 0)])
def test_the_walk_finds_what_one_hop_cannot(variant, dislike):
    *bundle, start, hop, target = generate.multi_hop(dislike=dislike)
    t = generate.tensors(bundle)
    m = budgets.rows_proportional(t.n, 16, 0.45)[0][start]
    assert 4 <= m < start - 3
    walk, once = (
        Evaluation(t, name, {"variant": variant, "block_size": 16}, 0.45).prefill[2].lists[0][start]
        for name in ("sketchwalk", "onehop")
    )
    assert target in walk and target not in once and hop in once


def test_one_hop_per_head_equals_the_oracle_where_blocks_are_constant():
    """Keys constant within blocks, one query repeated in its block: off-diagonal ranks by mean
    logit and by mass agree."""
    g = random_generator(17)
    q, k = (np.repeat(g.standard_normal((12, 2, 32)), 16, axis=0) for _ in range(2))
    t = Tensors([(q, k, k)])
    once = Evaluation(t, "onehop", {"variant": "icml", "per_head": True, "block_size": 16}, 0.5)
    assert_same_lists(once.prefill, Evaluation(t, "oracle", {"block_size": 16}, 0.5).prefill)


# --- native icml ----------------------------------------------------------------------------------
SHARE = Icml.defaults["top_share"]


def native_row(scores, i, n, dense=False, whole_ends=False):
    """Row i of blocks of 64 in a prompt of n tokens: as released, whose sink is as long as
    the window but keeps fewer blocks from being candidates."""
    window, sink = native.tokens(0.05, n), native.tokens(0.025, n)
    ends = native.blocks(sink, 64), native.blocks(window, 64)
    kept = (0, window) if whole_ends else (window, window)
    return icml_native_row(scores, SHARE, 64, 64 * i, 64 * i + 63, ends, kept, dense, whole_ends)


def test_native_rule_keeps_the_top_share_of_the_candidates():
    scores = random_generator(18).permutation(40.0 + np.arange(40))
    listed, whole, cut = native_row(scores, 39, 4096)
    # n = 4096: 2 sink blocks (102 tokens), 4 window blocks (204 tokens): candidates 2 ... 35, of 34
    # the best ceil(33/8) = 5; and every other block above the same threshold
    candidates = np.arange(2, 36)
    best = candidates[np.argsort(-scores[candidates])[:5]]
    others = [j for j in (0, 1, 36, 37, 38, 39) if scores[j] > cut]
    assert others and sorted(listed[whole]) == sorted([*best, *others])
    # the sink test reaches into block 3, the window back into block 35
    assert set(listed) == {0, 1, 2, 3, 35, 36, 37, 38, 39} | set(best)


def test_native_rule_in_decode_keeps_whole_blocks():
    listed, whole, _ = native_row(np.ones(40), 39, 4096, whole_ends=True)
    assert listed[whole].tolist() == [0, 1, 36, 37, 38, 39]
    assert listed[~whole].tolist() == [2, 3]  # the sink's tokens, by the length of the window


def test_native_rule_drops_ties_and_keeps_a_dense_tail():
    assert not native_row(np.ones(64), 39, 4096)[1].any()
    tail, whole, _ = native_row(np.ones(64), 60, 4096, dense=True)
    assert len(tail) == 61 and whole.all()


def test_native_shares_are_rounded_down():
    assert native.tokens(0.05, 1281) == 64 and native.tokens(0.05, 19) == 1


@pytest.mark.parametrize("n, share", [(8192, 0.34), (32768, 0.30)])
def test_native_rule_keeps_about_a_third_of_the_pairs(n, share):
    """Counted from one layer of random scores, of which ends above the threshold are few."""
    g, b, kept, window = random_generator(19), n // 64, 0, native.tokens(0.05, n)
    for i in range(b):
        scores = g.random(i + 1)
        scores[: native.blocks(window, 64)] = scores[-native.blocks(window, 64) :] = 0
        listed, whole, _ = native_row(scores, i, n, dense=i >= b - 4)
        s = selection.Selection(
            64,
            [[listed]],
            np.array([i * 64]),
            np.array([i * 64 + 63]),
            whole=[[whole]],
            window=[window],
            sink=[window],
        )
        kept += s.mask(0, 0, i * 64 + 64).sum()
    assert kept / budgets.causal_pairs(n) == pytest.approx(share, abs=0.012)


# --- accounting -----------------------------------------------------------------------------------
def test_density_of_lists_is_the_density_of_budgets():
    t = small(20, n=213)
    e = Evaluation(t, "random", {"block_size": 16}, 0.4)
    m, _ = budgets.rows_proportional(213, 16, 0.4)
    pooled, _ = selection.density(e.prefill[0])
    assert pooled == pytest.approx(
        budgets.kept_pairs(213, 16, m) / budgets.causal_pairs(213) * np.ones(4)
    )


def test_kv_fetch_density_counts_unions():
    s = selection.Selection(
        4,
        [[np.array([0, 2])], [np.array([1, 2])], [np.array([2])], [np.array([2])]],
        np.array([8]),
        np.array([11]),
    )
    assert selection.kv_fetch_density(s, 4, 2) == pytest.approx((1 + 1 / 3) / 2)
    assert selection.kv_fetch_density(s, 4, 4) == pytest.approx((2 + 2 + 1 + 1) / 12)


def test_rollout_truth():
    t = small(21)
    mean = [t.mass(layer, 16).mean(axis=0) for layer in range(3)]
    half = [(np.eye(13) + x) / 2 for x in mean]
    assert t.rollout(0, 16) == pytest.approx(mean[0])
    assert t.rollout(2, 16) == pytest.approx(mean[2] @ half[1] @ half[0])
    assert t.rollout(2, 16).sum(axis=1) == pytest.approx(np.ones(13))
    assert block_count(200, 16) == 13
