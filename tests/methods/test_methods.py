"""The program against the reference in tests/reference: block lists, outputs and metrics on small
tensor bundles.

One run of the program covers a scenario (a bundle and many methods); each case is one of its cells.
The program computes in single precision, so a list may differ from the reference where scores all
but tie at the cut: such rows are counted, and few may be."""

import dataclasses
import functools
import itertools
import math
import os

import numpy as np
import pytest

import swbench_results
from reference import budgets, generate, methods
from reference.attention import Tensors
from reference.blocks import block_count
from reference.evaluate import Evaluation, layer_metrics, mean_or_nan
from reference.program import RunFailed, find_cell, listed_methods, run, write_bundle

NEAR_TIE = 1e-5  # relative difference of scores that single precision need not resolve
NEAR_TIE_ROWS = 0.005  # share of rows that may differ so
SINGLE = 2.0**-24  # what single precision cannot tell apart
UNDERFLOW = (
    1e-36  # of the row's best score: powers of it that vanish in single precision are not ranked
)
OUTPUT = 1e-4  # relative error of a head's output at a token
METRIC = 1e-4
BF16 = os.environ.get("SWBENCH_TEST_BACKEND") == "cuda"
# Activations of 8 bits and tensor-core sums: inputs are rounded to bf16 before, outputs after.
if BF16:
    NEAR_TIE = 1e-3
    OUTPUT = 2e-2
    METRIC = 1e-2


@dataclasses.dataclass
class Scenario:
    bundle: callable  # -> layers, decode
    methods: list  # (name, params)
    density: tuple = (0.4,)
    phase: tuple = ("prefill",)
    dense_layers: int = 0
    budget: str = "matched"
    seed: int = 1
    dtype: type = np.float32
    metrics: bool = True  # whether recall is well defined (not where the true mass ties)
    near_ties: float = NEAR_TIE_ROWS


def seeded(*key):
    return np.random.default_rng(key)


def each(name, common, *variations):
    return [(name, {**common, **v}) for v in variations]


B16 = {"block_size": 16}
ARXIV, SOFTMAX, ICML = ({"variant": name} for name in ("arxiv", "softmax", "icml"))
HEAD, GROUP = {"per_head": True}, {"per_group": True}
MAP = {"heads": "0,1/1,0/1,1/0,0"}
ALL_PHASES = ("prefill", "decode", "both")

NAMES = methods.NAMES


def with_block(block, name, *cases):
    return [(name, {"block_size": block, **params}) for params in cases]


def once(*lists):
    """All cases of the lists, those that say the same by default but once."""
    found = {}
    for name, params in itertools.chain(*lists):
        usual = {} if name == "dense" else methods.defaults(name, params)
        found.setdefault((name, tuple(sorted({**usual, **params}.items()))), (name, params))
    return list(found.values())


# Every method with every variation that its reference names: the sets of these tests grow with it.
BROAD = once(
    [("dense", {})],
    *(with_block(16, name, *methods.matched_cases(name)) for name in NAMES),
    *(with_block(32, name, {}) for name in NAMES),
)
PLAIN = [(name, B16) for name in NAMES]
VARIANTS = [
    (name, {**B16, "variant": variant})
    for name in NAMES
    for variant in getattr(methods.reference(name), "VARIANTS", [])
]
UNITS = [
    *each("oracle", B16, {"unit": "head"}, {"unit": "layer"}),
    *each("sketchwalk", {**B16, **ARXIV}, HEAD, GROUP),
    *each("sketchwalk", {**B16, **SOFTMAX}, HEAD, GROUP),
    *each("sketchwalk", {**B16, **ICML}, HEAD, GROUP),
    ("spargeattn", {**B16, "simthreshd1": 0.1}),
    ("moba", {**B16, "form": "token"}),
]


EVERY = once(UNITS, VARIANTS, PLAIN)
LARGE = once(
    [("dense", {})],
    *[
        [(name, {**params, "block_size": block}) for name, params in cases]
        for block in (64, 128)
        for cases in (UNITS, VARIANTS, PLAIN, each("sketchwalk", ICML, {"sketch_dim": 64}))
    ],
)
NATIVE = once(
    *(with_block(16, name, *methods.native_cases(name)) for name in NAMES),
    *(with_block(32, name, *methods.native_cases(name)[:1]) for name in NAMES),
)
TYING = [
    ("moba", B16),
    ("minference", {**B16, "pattern": "block_sparse"}),
    ("minference", {**B16, "pattern": "a_shape"}),
]
SCENARIOS = {
    "structured": Scenario(
        lambda: generate.structured(seeded(1), 299, 4, 2, 64, 4, steps=24),
        BROAD,
        (0.55,),
        ALL_PHASES,
        dense_layers=1,
    ),
    "gaussian": Scenario(
        lambda: generate.gaussian(seeded(2), 260, 6, 3, 32, 3, steps=8),
        BROAD,
        (0.5, 0.7),
        ("prefill", "decode"),
    ),
    "large": Scenario(
        lambda: generate.structured(seeded(3), 839, 8, 2, 128, 4, block=64, strength=0.5),
        LARGE,
        (0.4, 0.7),
        dense_layers=2,
        dtype=np.float16,
    ),
    "true_mass": Scenario(
        lambda: generate.structured(seeded(4), 250, 4, 2, 64, 3),
        each(
            "sketchwalk",
            {**B16, "sketch": "tokens"},
            ARXIV,
            ICML,
            {**ARXIV, **HEAD},
            {**ICML, **GROUP},
        ),
    ),
    "one_kv_head": Scenario(
        lambda: generate.hot_key(seeded(5), 161, 4, 1, 96, 3, at=37, steps=20),
        EVERY,
        (0.65,),
        ALL_PHASES,
    ),
    "one_head": Scenario(
        lambda: generate.gaussian(seeded(6), 144, 1, 1, 32, 2, steps=5),
        EVERY,
        (0.7,),
        ("prefill", "decode"),
    ),
    "saturated": Scenario(
        lambda: generate.structured(seeded(7), 200, 4, 2, 64, 3, strength=3.0), EVERY, (0.55,)
    ),
    "duplicated_heads": Scenario(
        lambda: generate.duplicated_heads(seeded(8), 208, 4, 2, 64, 3, steps=17),
        once(EVERY, [("oracle", {"unit": "group", **B16})]),
        (0.6,),
        phase=("prefill", "decode"),
    ),
    "constant_keys": Scenario(
        lambda: generate.constant_keys(seeded(9), 173, 4, 2, 64, 2),
        [
            *each("onehop", B16, ARXIV, SOFTMAX, ICML, {**SOFTMAX, **HEAD}, {**ICML, **HEAD}),
            ("sink_window", B16),
            *TYING,
        ],
        (0.65,),
        metrics=False,
    ),
    "shorter_than_a_block": Scenario(
        lambda: generate.gaussian(seeded(10), 9, 2, 1, 32, 2, steps=12),
        [("dense", {}), *EVERY],
        phase=ALL_PHASES,
    ),
    "full_budget": Scenario(
        lambda: generate.structured(seeded(11), 165, 4, 2, 64, 2, steps=6),
        EVERY,
        (1.0,),
        ALL_PHASES,
    ),
    "floor": Scenario(
        lambda: generate.gaussian(seeded(12), 130, 2, 2, 64, 2, steps=4),
        EVERY,
        (0.05,),
        ("prefill", "decode"),
    ),
    "lists_of_other_heads": Scenario(
        lambda: generate.structured(seeded(18), 299, 4, 2, 64, 4, steps=24),
        [
            *each(
                "reuse", {**B16, **MAP}, {"preset": "kascade", "anchors": "0,2"}, {"share": "group"}
            ),
        ],
        (0.5,),
        ALL_PHASES,
    ),
    "pages_of_few_layers": Scenario(
        lambda: generate.structured(seeded(20), 299, 4, 2, 64, 4, steps=24),
        each(
            "reuse",
            {**B16, "source": "quest"},
            {},
            {"share": "group"},
            {"share": "head", "every": 2},
            {"aggregate": "max", "share": "group"},
        ),
        (0.5,),
        ("decode",),
    ),
    "native_lists_of_other_heads": Scenario(
        lambda: generate.structured(seeded(19), 299, 4, 2, 64, 4, steps=24),
        [("reuse", {**B16, **MAP, "preset": "kascade", "anchors": "0,2", "token_budget": 70})],
        phase=ALL_PHASES,
        budget="native",
    ),
    "native": Scenario(
        lambda: generate.structured(seeded(13), 509, 4, 2, 64, 4, steps=24),
        NATIVE,
        phase=("prefill", "decode"),
        dense_layers=2,
        budget="native",
    ),
    "native_baselines": Scenario(
        lambda: generate.structured(seeded(16), 509, 4, 2, 64, 3, strength=0.5, steps=24),
        NATIVE,
        phase=ALL_PHASES,
        dense_layers=1,
        budget="native",
    ),
    "native_baselines_short": Scenario(
        lambda: generate.gaussian(seeded(17), 21, 4, 2, 32, 2, steps=20),
        NATIVE,
        phase=ALL_PHASES,
        budget="native",
    ),
    "native_sink_window": Scenario(
        lambda: generate.gaussian(seeded(14), 333, 2, 1, 64, 2),
        each(
            "sink_window",
            {},
            {"block_size": 16, "start": 4, "recent": 100},
            {"block_size": 32, "start": 40, "recent": 64},
        ),
        budget="native",
    ),
    "other_seed": Scenario(
        lambda: generate.structured(seeded(1), 299, 4, 2, 64, 4, steps=24),
        [
            *each(
                "sketchwalk",
                B16,
                ARXIV,
                ICML,
                SOFTMAX,
                {**ARXIV, "sketch_dim": 16},
                {**SOFTMAX, "sketch_dim": 16},
                {**ICML, "sketch_dim": 16},
            ),
            ("random", B16),
        ],
        (0.55,),
        ("both",),
        dense_layers=1,
        seed=2**40 + 77,
    ),
    "equal_walks": Scenario(
        lambda: generate.structured(seeded(15), 250, 4, 2, 64, 3, steps=20),
        [
            *each("onehop", B16, ARXIV, SOFTMAX, ICML),
            *each(
                "sketchwalk",
                B16,
                {**ARXIV, "walk": "none"},
                {**SOFTMAX, "walk": "none"},
                {**ICML, "walk": "none"},
                {**ICML, "damping": 0},
            ),
        ],
        (0.5,),
        ("both",),
    ),
    "last_layer_sparse": Scenario(
        lambda: generate.structured(seeded(15), 250, 4, 2, 64, 3, steps=20),
        [("onehop", {**B16, **SOFTMAX}), ("sketchwalk", {**B16, **SOFTMAX, "exponent": 1})],
        (0.5,),
        ("both",),
        dense_layers=2,
    ),
    # The blocks that nobody looks for tie.
    "multi_hop": Scenario(
        lambda: generate.multi_hop()[:2],
        [*each("onehop", B16, SOFTMAX, ICML), *each("sketchwalk", B16, SOFTMAX, ICML)],
        (0.45,),
        near_ties=1.0,
    ),
    "multi_hop_without_dislike": Scenario(
        lambda: generate.multi_hop(dislike=0)[:2],
        [*each("onehop", B16, ARXIV), *each("sketchwalk", B16, ARXIV)],
        (0.45,),
        near_ties=1.0,
    ),
}


# --- runs and expectations ------------------------------------------------------------------------
def to_bf16(x):
    """float32 values that bf16 holds: rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


@functools.cache
def bundle(name):
    layers, decode = SCENARIOS[name].bundle()

    def as_stored(part):
        return part and [
            [(to_bf16(x) if BF16 else x.astype(SCENARIOS[name].dtype)) for x in layer]
            for layer in part
        ]

    return as_stored(layers), as_stored(decode)


def test_every_method_of_the_program_has_a_reference_with_its_phases():
    for name, phases in listed_methods().items():
        if name != "dense":
            assert set(methods.kind(name, {}).phases) == phases, name
    assert {"dense", *NAMES} >= set(listed_methods())


@functools.cache
def tensors(name):
    return Tensors(*bundle(name))


@functools.lru_cache(maxsize=2)
def evaluation(name, method, params, density):
    """params: (key, value) pairs."""
    scenario = SCENARIOS[name]
    return Evaluation(
        tensors(name),
        method,
        dict(params),
        density,
        scenario.budget,
        scenario.dense_layers,
        scenario.seed,
    )


def available(name):
    """The methods of a scenario that this build has; the program is run with these."""
    return [
        (method, params) for method, params in SCENARIOS[name].methods if method in listed_methods()
    ]


def has_phase(method, params, phase):
    return method == "dense" or set(parts(phase)) <= set(methods.kind(method, params).phases)


@pytest.fixture(scope="session")
def cells_of(workspace):
    """Name of a scenario -> its cells, from one run of the program (a failed run is not tried
    again)."""
    done = {}

    def run_once(name):
        scenario, folder = SCENARIOS[name], workspace / name
        folder.mkdir()
        layers, decode = bundle(name)
        if not available(name):
            return []
        write_bundle(folder / "bundle.h5", layers, decode, scenario.dtype)
        return run(
            folder,
            folder / "bundle.h5",
            available(name),
            scenario.density,
            scenario.phase,
            scenario.dense_layers,
            scenario.budget,
            scenario.seed,
        )

    def cells(name):
        if name not in done:
            try:
                done[name] = run_once(name)
            except RunFailed as error:
                done[name] = error
        if isinstance(done[name], RunFailed):
            pytest.fail(str(done[name]), pytrace=False)
        return done[name]

    return cells


def cell_of(cells_of, name, method, params, phase, density=None):
    needs_density, cells = method != "dense" and SCENARIOS[name].budget == "matched", cells_of(name)
    if method not in listed_methods():
        pytest.skip(f"this build has no {method}")
    return find_cell(
        cells,
        method,
        params,
        phase,
        (density or SCENARIOS[name].density[0]) if needs_density else None,
        SCENARIOS[name].budget,
    )


def parts(phase):
    return {"prefill": ["prefill"], "decode": ["decode"], "both": ["prefill", "decode"]}[phase]


def cases():
    for name, scenario in SCENARIOS.items():
        for (method, params), density, phase in itertools.product(
            scenario.methods, scenario.density, scenario.phase
        ):
            if (
                method == "dense"
                and density != scenario.density[0]
                or not has_phase(method, params, phase)
            ):
                continue
            label = "-".join(
                [name, method, *(f"{k}={v}" for k, v in params.items()), f"{density:g}", phase]
            )
            yield pytest.param((name, method, params, density, phase), id=label)


every_case = pytest.mark.parametrize(
    "case", list(cases()), scope="module"
)  # the scope keeps the tests of a case together


# --- comparison -----------------------------------------------------------------------------------
def compare_row(got, want, expected, u, r):
    """ "same", "tie" (in single precision), "near" (all but a tie at the cut), "underflow" or
    "wrong"."""
    got, want = set(got.tolist()), set(want.tolist())
    if got == want:
        return "same"
    if expected.margin is not None:
        margin = np.min(expected.margin[u][r])
        return "tie" if margin <= SINGLE else "near" if margin <= NEAR_TIE else "wrong"
    if expected.scores is None:
        return "wrong"
    scores = expected.scores[u][r][: expected.row_block(r) + 1]
    more, fewer = scores[sorted(got - want)], scores[sorted(want - got)]
    if expected.threshold is not None:
        cut = expected.threshold[u][r]
        differing = np.concatenate([more, fewer])
        return (
            "near"
            if cut is not None and (abs(differing - cut) <= NEAR_TIE * abs(cut)).all()
            else "wrong"
        )
    if len(more) != len(fewer):
        return "wrong"
    best, worst = (
        fewer.max(),
        more.min(),
    )  # the reference put `best` above the cut and the program chose `worst`
    finite = scores[np.isfinite(scores)]
    size = (
        max(abs(best), abs(worst)) if finite.min() >= 0 else abs(finite).max()
    )  # sums with signs carry the error of their terms
    if best - worst <= NEAR_TIE * size:
        return "tie" if best - worst <= SINGLE * size else "near"
    return "underflow" if 0 <= best <= UNDERFLOW * finite.max() else "wrong"


def check_lists(lists, expected, where):
    """Ascending, causal, with the diagonal, and the reference's up to ties."""
    assert len(lists) == expected.units, f"{where}: {len(lists)} units, expected {expected.units}"
    verdicts = []
    for u, rows in enumerate(lists):
        assert len(rows) == expected.rows, f"{where}: {len(rows)} rows, expected {expected.rows}"
        for r, got in enumerate(rows):
            i = expected.row_block(r)
            last = got[-1] <= i if expected.free_diagonal else got[-1] == i
            assert (np.diff(got) > 0).all() and got[0] >= 0 and last, (
                f"{where}: unit {u} row {r}: {got}"
            )
            verdicts.append(compare_row(got, expected.lists[u][r], expected, u, r))
            assert verdicts[-1] != "wrong", (
                f"{where}: unit {u} row {r} (block {i}): program {got.tolist()}, reference "
                f"{expected.lists[u][r].tolist()}"
                + (
                    ""
                    if expected.scores is None
                    else f", scores {np.round(expected.scores[u][r][: i + 1], 6).tolist()}"
                )
            )
    return verdicts


def adopted(lists, expected):
    """The program's lists with the reference's way of keeping parts of blocks; `expected` itself
    where they are the same, or where tokens choose for themselves."""
    same = all(
        np.array_equal(a, b)
        for one, two in zip(lists, expected.lists, strict=True)
        for a, b in zip(one, two, strict=True)
    )
    if same or expected.pairs is not None:
        return expected
    whole = None
    if expected.whole is not None:

        def flags(u, r, row):
            part = set(expected.lists[u][r][~expected.whole[u][r]].tolist())
            return np.array([j not in part for j in row])

        whole = [[flags(u, r, row) for r, row in enumerate(rows)] for u, rows in enumerate(lists)]
    return dataclasses.replace(expected, lists=lists, whole=whole)


@every_case
def test_block_lists(cells_of, case):
    name, method, params, density, phase = case
    cell = cell_of(cells_of, name, method, params, phase, density)
    if method == "dense":
        pytest.skip("dense has no lists of its own")
    reference, verdicts = evaluation(name, method, tuple(params.items()), density), []
    for part in parts(phase):
        for layer in reference.sparse_layers(part):
            lists = cell.selection(layer, part == "decode")
            verdicts += check_lists(lists, getattr(reference, part)[layer], f"{part} layer {layer}")
        for layer in range(reference.dense_layers):
            for rows in cell.selection(layer, part == "decode"):
                assert [row.tolist() for row in rows] == [
                    row.tolist() for row in getattr(reference, part)[layer].lists[0]
                ]
    assert verdicts.count("near") <= max(1, SCENARIOS[name].near_ties * len(verdicts)), (
        f"{verdicts.count('near')} ties of {len(verdicts)} rows"
    )


@every_case
def test_saved_selections_say_which_tokens_are_kept(cells_of, case):
    """Where blocks are kept in part: read back by the Python reader, token by token. Rows whose
    lists differ in a tie are left to the comparison of lists."""
    name, method, params, density, phase = case
    cell = cell_of(cells_of, name, method, params, phase, density)
    reference, compared, rows = evaluation(name, method, tuple(params.items()), density), 0, 0
    partial = [
        (part, layer, getattr(reference, part)[layer])
        for part in parts(phase)
        for layer in reference.sparse_layers(part)
        if getattr(reference, part)[layer].whole or getattr(reference, part)[layer].pairs
    ]
    if not partial:
        pytest.skip("blocks are kept whole")
    for part, layer, want in partial:
        lists = cell.selection(layer, part == "decode")
        for u, r in itertools.product(range(want.units), range(want.rows)):
            rows += 1
            if not np.array_equal(lists[u][r], want.lists[u][r]):
                continue
            first, last = int(want.first[r]), int(want.last[r])
            mask = want.mask(u, r, int(want.last[-1]) + 1)
            same = [
                swbench_results.kept(cell.path, "", layer, query, u).tolist()
                == mask[query - first, : query + 1].tolist()
                for query in (first, last)
            ]
            # Where tokens are chosen, they can tie in blocks that both list.
            assert all(same) or want.pairs is not None, f"{part} layer {layer} unit {u} row {r}"
            compared += all(same)
    assert compared >= (1 - SCENARIOS[name].near_ties) * rows, f"{compared} of {rows} rows"


@every_case
def test_outputs(cells_of, case):
    """Of the program's own lists, so that a tie at a cut does not count twice."""
    name, method, params, density, phase = case
    cell = cell_of(cells_of, name, method, params, phase, density)
    reference = evaluation(name, method, tuple(params.items()), density)
    for part in parts(phase):
        for layer in range(reference.n_layers):
            chosen = getattr(reference, part)[layer]
            if layer in reference.sparse_layers(part):
                chosen = adopted(cell.selection(layer, part == "decode"), chosen)
            want, got = reference.output(layer, part, chosen), cell.output(layer, part == "decode")
            assert got.shape == want.shape
            error = np.linalg.norm(got - want, axis=-1) / np.linalg.norm(want, axis=-1)
            if chosen.pairs is not None:
                near = near_tokens(chosen, error.shape[1])
                assert near.mean() <= SCENARIOS[name].near_ties * (
                    4 if BF16 else 1
                )  # a hundred times wider a margin there
                error[near] = 0
            worst = np.unravel_index(error.argmax(), error.shape)
            assert error.max() <= OUTPUT, (
                f"{part} layer {layer}: {error.max():.2e} at token {worst[0]} head {worst[1]}"
            )


def near_tokens(chosen, heads):
    """[n, H]: tokens that choose their own pairs, and all but another choice."""
    margin = [
        np.concatenate(
            [
                np.broadcast_to(row, last - first + 1)
                for row, first, last in zip(rows, chosen.first, chosen.last)
            ]
        )
        for rows in chosen.margin
    ]
    return np.repeat(np.array(margin) <= NEAR_TIE, heads // chosen.units, axis=0).T


def assert_metric(name, found, wanted):
    """NaN also when the program leaves the metric out."""
    if math.isnan(wanted):
        assert found is None or math.isnan(found), f"{name}: {found}, expected none"
        return
    assert found is not None, f"no metric {name}"
    assert abs(found - wanted) <= METRIC * max(1, abs(wanted)), (
        f"{name}: {found}, expected {wanted}"
    )


@every_case
def test_share_of_negative_scores(cells_of, case):
    """Of what variant arxiv takes to a power, layer by layer; other methods have no such figure."""
    name, method, params, density, phase = case
    cell = cell_of(cells_of, name, method, params, phase, density)
    found = cell.metrics.get("negative_scores")
    reference = evaluation(name, method, tuple(params.items()), density)
    raw = getattr(reference.method, "raw_rows", None)
    if raw is None:
        assert found is None
        pytest.skip("no powers of raw scores")
    layers = reference.sparse_layers("decode" if phase == "decode" else "prefill")
    for layer in range(reference.n_layers):
        if layer not in layers:
            assert math.isnan(found["per_layer"][layer])
            continue
        steps = [
            key for key in raw if key[0] == layer and (key[1] is not None) == (phase == "decode")
        ]
        scores = np.concatenate([raw[key].ravel() for key in steps])
        # Single precision may turn the sign of what all but cancels.
        doubtful = np.mean(abs(scores) < NEAR_TIE * abs(scores).max())
        assert abs(found["per_layer"][layer] - np.mean(scores < 0)) <= doubtful + 1e-12
    assert found["value"] == pytest.approx(np.nanmean(found["per_layer"]), abs=1e-12)


@every_case
def test_metrics(cells_of, case):
    name, method, params, density, phase = case
    cell = cell_of(cells_of, name, method, params, phase, density)
    reference = evaluation(name, method, tuple(params.items()), density)
    if phase == "both":
        pytest.skip("each part has its own case")
    if method == "dense":
        assert_metric("density", cell.metrics["density"]["value"], 1.0)
        return
    layers = {}
    for layer in reference.sparse_layers(phase):
        chosen = adopted(cell.selection(layer, phase == "decode"), getattr(reference, phase)[layer])
        layers[layer] = layer_metrics(reference, layer, phase, chosen)
    if SCENARIOS[name].budget == "native" and any(s.whole for s in getattr(reference, phase)):
        compared = [
            "density",
            "output_rel_error",
        ]  # what partly kept blocks count for recall is not laid down
    elif any(s.pairs is not None for s in getattr(reference, phase)):
        compared = [
            "density",
            "output_rel_error",
            "kv_fetch_density",
        ]  # nor what recall is where tokens choose
    elif SCENARIOS[name].metrics:
        compared = list(layers[reference.dense_layers])
    else:
        compared = ["density", "output_rel_error", "kv_fetch_density"]
    for metric in compared:
        stored = cell.metrics.get(metric)
        if metric == "block_recall_shared" and stored is None:
            continue
        stored = stored or {}
        assert_metric(
            metric,
            stored.get("value"),
            mean_or_nan(figures[metric][1] for figures in layers.values()),
        )
        if "per_layer" in stored:
            for layer, value in enumerate(stored["per_layer"]):
                wanted = layers[layer][metric][1] if layer in layers else math.nan
                if layer in layers or metric not in (
                    "density",
                    "kv_fetch_density",
                    "output_rel_error",
                ):
                    assert_metric(f"{metric} of layer {layer}", float(value), wanted)
        if "per_layer_head" in stored:
            for layer in layers:
                by_head = layers[layer][metric][0]
                for head, value in enumerate(by_head if by_head is not None else []):
                    assert_metric(
                        f"{metric} of layer {layer} head {head}",
                        float(stored["per_layer_head"][layer][head]),
                        value,
                    )
    if "density_all_layers" in cell.metrics:
        sparse = sum(figures["density"][1] for figures in layers.values())
        wanted = (reference.dense_layers + sparse) / reference.n_layers
        assert_metric("density_all_layers", cell.metrics["density_all_layers"]["value"], wanted)


# --- invariants -----------------------------------------------------------------------------------
def all_lists(cell, layers, phase):
    return [
        [row.tolist() for rows in cell.selection(layer, part == "decode") for row in rows]
        for part in parts(phase)
        for layer in layers
    ]


def lists_by_head(cell, layer, decode, heads):
    lists = cell.selection(layer, decode)
    return [[row.tolist() for row in lists[h * len(lists) // heads]] for h in range(heads)]


def same_rows(a, b):
    """Share of equal rows."""
    pairs = [(x, y) for one, two in zip(a, b, strict=True) for x, y in zip(one, two, strict=True)]
    return np.mean([x == y for x, y in pairs])


def forced_by(name, method, params):
    """What the reference's method of these parameters keeps whatever the density: (leading,
    trailing) blocks."""
    own = {key: value for key, value in params.items() if key != "block_size"}
    return methods.make(method, tensors(name), params["block_size"], 0, 1, **own).forced()


@pytest.mark.parametrize("name", [name for name, s in SCENARIOS.items() if s.budget == "matched"])
def test_counted_density_is_within_half_a_block_of_the_request(cells_of, name):
    scenario, n = SCENARIOS[name], tensors(name).n
    if "prefill" not in scenario.phase:
        pytest.skip("no prefill cells")
    cells_of(name)
    for (method, params), density in itertools.product(available(name), scenario.density):
        if method == "dense" or not has_phase(method, params, "prefill"):
            continue
        block = params["block_size"]
        m, floored = budgets.rows_proportional(n, block, density, *forced_by(name, method, params))
        found = cell_of(cells_of, name, method, params, "prefill", density).metrics["density"][
            "value"
        ]
        if floored:
            assert found == pytest.approx(
                budgets.kept_pairs(n, block, m) / budgets.causal_pairs(n), abs=1e-6
            )
        else:
            assert abs(found - density) <= block * block / 2 / budgets.causal_pairs(n) + 1e-9


@pytest.mark.parametrize("name", [name for name, s in SCENARIOS.items() if s.budget == "matched"])
def test_scenarios_leave_the_scores_a_choice(name):
    """Of these tests: a budget at the forced set, or at everything, would compare nothing."""
    if name in ("shorter_than_a_block", "full_budget", "floor"):
        pytest.skip("meant to leave none")
    for density in SCENARIOS[name].density:
        m, _ = budgets.rows_proportional(tensors(name).n, 64 if name == "large" else 16, density)
        row = np.arange(len(m))
        assert ((m > np.minimum(row, 2)) & (m < row)).sum() >= 4


@pytest.mark.parametrize("phase", ALL_PHASES)
@pytest.mark.parametrize("number", range(len(SCENARIOS["full_budget"].methods)))
def test_full_budget_is_dense(cells_of, number, phase):
    method, params = SCENARIOS["full_budget"].methods[number]
    if not has_phase(method, params, phase):
        pytest.skip(f"{method} has no {phase}")
    cell, t = cell_of(cells_of, "full_budget", method, params, phase), tensors("full_budget")
    assert phase == "both" or cell.metrics["density"]["value"] == 1.0
    for layer in range(2):
        for part in parts(phase):
            dense = t.dense_output(layer) if part == "prefill" else t.dense_output_decode(layer)
            assert np.linalg.norm(cell.output(layer, part == "decode") - dense) <= (
                OUTPUT if BF16 else 1e-5
            ) * np.linalg.norm(dense)
            for rows in cell.selection(layer, part == "decode"):
                assert [row.tolist() for row in rows] == [list(range(row[-1] + 1)) for row in rows]


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize(
    "method, params, units",
    [
        ("oracle", B16, [{"unit": "layer"}, {"unit": "head"}, {"unit": "group"}]),
        ("sketchwalk", {**B16, **ARXIV}, [{}, HEAD, GROUP]),
        ("sketchwalk", {**B16, **SOFTMAX}, [{}, HEAD, GROUP]),
        ("sketchwalk", {**B16, **ICML}, [{}, HEAD, GROUP]),
    ],
    ids=["oracle", "arxiv", "softmax", "icml"],
)
def test_identical_heads_get_identical_lists(cells_of, method, params, units, phase):
    cells = [
        cell_of(cells_of, "duplicated_heads", method, {**params, **unit}, phase) for unit in units
    ]
    for layer in range(3):
        shared, *finer = [lists_by_head(cell, layer, phase == "decode", 4) for cell in cells]
        for lists in finer:
            assert all(
                rows == lists[0] for rows in lists
            )  # the very same numbers went into each head
            assert same_rows(lists, shared) >= 1 - NEAR_TIE_ROWS


@pytest.mark.parametrize("variant", [ARXIV, SOFTMAX, ICML], ids=["arxiv", "softmax", "icml"])
def test_seed_matters_only_below_the_full_sketch(cells_of, variant):
    def lists(name, params):
        return all_lists(
            cell_of(cells_of, name, "sketchwalk", {**B16, **variant, **params}, "both"),
            range(1, 4),
            "both",
        )

    assert same_rows(lists("structured", {}), lists("other_seed", {})) >= 1 - NEAR_TIE_ROWS
    assert (
        same_rows(lists("structured", {"sketch_dim": 16}), lists("other_seed", {"sketch_dim": 16}))
        < 0.9
    )


@pytest.mark.parametrize(
    "variant, same",
    [
        (ARXIV, {"walk": "none"}),
        (SOFTMAX, {"walk": "none"}),
        (ICML, {"walk": "none"}),
        (ICML, {"damping": 0}),
    ],
    ids=["arxiv-none", "softmax-none", "icml-none", "icml-damping-0"],
)
def test_walks_that_are_one_hop(cells_of, variant, same):
    a = cell_of(cells_of, "equal_walks", "onehop", {**B16, **variant}, "both")
    b = cell_of(cells_of, "equal_walks", "sketchwalk", {**B16, **variant, **same}, "both")
    assert (
        same_rows(all_lists(a, range(3), "both"), all_lists(b, range(3), "both"))
        >= 1 - NEAR_TIE_ROWS
    )


def test_one_sparse_layer_without_sharpening_is_one_hop(cells_of):
    a = cell_of(cells_of, "last_layer_sparse", "onehop", {**B16, **SOFTMAX}, "both")
    b = cell_of(
        cells_of, "last_layer_sparse", "sketchwalk", {**B16, **SOFTMAX, "exponent": 1}, "both"
    )
    assert same_rows(all_lists(a, [2], "both"), all_lists(b, [2], "both")) >= 1 - NEAR_TIE_ROWS


def test_ties_make_a_sliding_window(cells_of):
    def lists(method, params):
        cell = cell_of(cells_of, "constant_keys", method, {**B16, **params}, "prefill")
        return [lists_by_head(cell, layer, False, 4) for layer in range(2)]

    window = lists("sink_window", {})
    for params in (ARXIV, SOFTMAX, ICML, {**SOFTMAX, **HEAD}, {**ICML, **HEAD}):
        assert lists("onehop", params) == window
    for method, params in TYING:
        if method in listed_methods():
            assert lists(method, params) == window


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize(
    "method, params",
    EVERY,
    ids=lambda x: x if isinstance(x, str) else "-".join(map(str, x.values())),
)
def test_identical_heads_get_identical_lists_of_each(cells_of, method, params, phase):
    if method == "random" and params.get("agg") != "layer":
        pytest.skip("a draw a head")
    if not has_phase(method, params, phase):
        pytest.skip(f"{method} has no {phase}")
    cell = cell_of(cells_of, "duplicated_heads", method, params, phase)
    for layer in range(3):
        lists = lists_by_head(cell, layer, phase == "decode", 4)
        assert all(rows == lists[0] for rows in lists)


def test_one_family_of_pooled_logits(cells_of):
    """MoBA's blocks, MInference's block-sparse pattern, FlexPrefill's query-aware heads and one hop
    per head rank alike."""
    family = [
        ("onehop", {**ICML, **HEAD}),
        ("moba", {}),
        ("minference", {"pattern": "block_sparse"}),
        ("flexprefill", {"tau": 1.0}),
    ]
    cells_of("structured")
    first, *others = [
        cell_of(cells_of, "structured", method, {**B16, **params}, "prefill")
        for method, params in family
        if method in listed_methods()
    ]
    for layer in range(1, 4):
        for cell in others:
            assert (
                same_rows(
                    lists_by_head(cell, layer, False, 4), lists_by_head(first, layer, False, 4)
                )
                >= 1 - NEAR_TIE_ROWS
            )


@pytest.mark.parametrize(
    "scenario, variant",
    [("multi_hop", SOFTMAX), ("multi_hop", ICML), ("multi_hop_without_dislike", ARXIV)],
    ids=["softmax", "icml", "arxiv"],
)
def test_the_walk_finds_what_one_hop_cannot(cells_of, scenario, variant):
    *_, start, hop, target = generate.multi_hop()
    walk, once = (
        cell_of(cells_of, scenario, name, {**B16, **variant}, "prefill")
        .selection(2, False)[0][start]
        .tolist()
        for name in ("sketchwalk", "onehop")
    )
    assert len(walk) == len(once) < start
    assert target in walk and target not in once and hop in once


@pytest.mark.parametrize("name", ["structured", "gaussian"])
def test_oracle_catches_the_most_mass(cells_of, name):
    best = cell_of(cells_of, name, "oracle", {**B16, "unit": "head"}, "prefill").metrics
    assert best["block_recall"]["value"] == pytest.approx(1.0, abs=1e-3)
    shared = cell_of(cells_of, name, "oracle", {**B16, "unit": "layer"}, "prefill").metrics[
        "mass_recall"
    ]["value"]
    for method, params in available(name):
        if (
            method in ("dense", "oracle")
            or params["block_size"] != 16
            or not has_phase(method, params, "prefill")
        ):
            continue
        if params.get("form") == "token":
            continue  # of the blocks that its tokens fetch together there are more
        cell = cell_of(cells_of, name, method, params, "prefill")
        mass = cell.metrics["mass_recall"]["value"]
        assert mass <= best["mass_recall"]["value"] + 1e-6
        if len(cell.selection(SCENARIOS[name].dense_layers, False)) == 1:
            assert mass <= shared + 1e-6, (method, params)


@pytest.mark.parametrize(
    "method, params",
    [
        ("oracle", {**B16, "unit": "head"}),
        ("random", {**B16, "agg": "head"}),
        ("sketchwalk", {**B16, **ARXIV}),
        ("sketchwalk", {**B16, **SOFTMAX}),
        ("sketchwalk", {**B16, **ICML}),
    ],
    ids=["oracle", "random", "arxiv", "softmax", "icml"],
)
def test_a_phase_alone_and_both_phases_agree(cells_of, method, params):
    both = cell_of(cells_of, "structured", method, params, "both")
    for part in ("prefill", "decode"):
        alone = cell_of(cells_of, "structured", method, params, part)
        for layer in range(4):
            for a, b in zip(
                alone.selection(layer, part == "decode"),
                both.selection(layer, part == "decode"),
                strict=True,
            ):
                assert [row.tolist() for row in a] == [row.tolist() for row in b]


def test_decode_only_cells_have_the_steps_under_the_layer_too(cells_of):
    cell = cell_of(cells_of, "structured", "sketchwalk", {**B16, **ICML}, "decode")
    for layer in range(4):
        a, b = cell.selection(layer, True), cell.selection(layer, False)
        assert len(a[0]) == 24 and [row.tolist() for row in a[0]] == [row.tolist() for row in b[0]]


def test_decode_budgets(cells_of):
    n, cell = (
        tensors("structured").n,
        cell_of(cells_of, "structured", "sketchwalk", {**B16, **ICML}, "decode"),
    )
    for step, row in enumerate(cell.selection(3, True)[0]):
        assert len(row) == budgets.decode_blocks(
            n + step + 1, 16, SCENARIOS["structured"].density[0]
        )
        assert row[-1] + 1 == block_count(n + step + 1, 16)


def test_metrics_of_dense_layers_are_not_numbers(cells_of):
    cell = cell_of(cells_of, "structured", "sketchwalk", {**B16, **ICML}, "prefill")
    for name in ("block_recall", "mass_recall"):
        assert (
            np.isnan(cell.metrics[name]["per_layer"][:1]).all()
            and not np.isnan(cell.metrics[name]["per_layer"][1:]).any()
        )
        if "per_layer_head" in cell.metrics[name]:
            assert np.isnan(cell.metrics[name]["per_layer_head"][:1]).all()
