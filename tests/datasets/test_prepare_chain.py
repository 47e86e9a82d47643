"""chain_k: a solver that reads only the text finds the answer; one text serves all k."""

import re

import pytest

from swbench_data.cli import InputError
from swbench_data.model_folder import ModelFolder
from swbench_data.tasks import TASKS
from swbench_data.tasks.task import Job
from test_prepare_ruler import TEXT, decode

CHAIN = [name for name in TASKS if name.startswith("chain_")]
HOP = re.compile(
    r"The keeper of (\w+) sends every visitor on to (\w+); whoever asks at \1 hears of \2, for \1 "
    r"trusts \2\."
)
VAULT = re.compile(
    r"The vault of (\w+) holds (\d{3} \d{3}); whoever opens \1 there finds \2, for \1 keeps \2\."
)


@pytest.fixture(scope="module")
def model(tiny_model):
    return ModelFolder(tiny_model)


def make(model, name, context, samples=3, seed=1):
    task = TASKS[name]
    return task.make(Job(task, model, context, samples, seed, TEXT))


def solve(text):
    """What the text says of the place that the question names: the places after it and the
    number."""
    body, question = text.split("\nQuestion: ")
    hops, vaults = dict(HOP.findall(body)), dict(VAULT.findall(body))
    here, way = question.split(" ", 1)[0], []
    while here in hops:
        here = hops[here]
        way.append(here)
    return way, vaults[here], body


@pytest.mark.parametrize("name", CHAIN)
def test_a_reader_of_the_text_finds_the_answer(model, name):
    hops = int(name.split("_")[1])
    context = 8192 if hops > 4 else 4096
    for sample in make(model, name, context):
        assert len(sample.ids) == context - TASKS[name].max_new_tokens
        way, number, _ = solve(decode(model, sample.ids))
        assert len(way) == hops
        assert sample.references == ([*way, number] if name.endswith("_list") else [number])


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_the_order_of_a_chain_is_that_of_its_statements(model, order):
    for sample in make(model, f"chain_4_{order}", 4096):
        way, _, body = solve(decode(model, sample.ids))
        places = [body.index(f"The keeper of {here} sends") for here in way[:-1]]
        places.append(body.index(f"The vault of {way[-1]} holds"))
        assert places == sorted(places, reverse=order == "reverse")


def test_every_k_has_the_same_statements_and_another_beginning(model):
    """Accuracy against k compares questions about one text."""
    texts = [
        solve(decode(model, make(model, f"chain_{k}", 4096, samples=1)[0].ids)) for k in (0, 2, 4)
    ]
    told = [sorted(HOP.findall(body) + VAULT.findall(body)) for _, _, body in texts]
    assert told[0] == told[1] == told[2] and len(told[0]) % 5 == 0
    assert texts[0][1] == texts[1][1] == texts[2][1]
    assert texts[2][0][2:] == texts[1][0]


def test_near_hops_are_near(model):
    """Statements of the asked chain some 128 tokens apart, in any order."""
    for sample in make(model, "chain_4_near", 8192, samples=4):
        text = decode(model, sample.ids)
        way, _, body = solve(text)
        places = sorted(
            [body.index(f"The keeper of {here} sends") for here in way[:-1]]
            + [body.index(f"The vault of {way[-1]} holds")]
        )
        characters = len(text) / len(sample.ids) * 128
        for a, b in zip(places, places[1:]):
            assert 0.3 * characters < b - a < 4 * characters


def test_hops_are_marked_where_they_stand(model):
    """The spans of the asked chain's statements, in its order, in tokens."""
    for sample in make(model, "chain_2", 4096):
        way, number, _ = solve(decode(model, sample.ids))
        assert len(sample.hops) == 3
        start = re.search(r"Question: (\w+)", decode(model, sample.ids)).group(1)
        for (first, last), here in zip(sample.hops, [start, *way]):
            words = decode(model, sample.ids[first:last])
            assert here in words and words.strip().endswith(".")
            assert len(words) < 160
        assert number in decode(model, sample.ids[slice(*sample.hops[-1])])


def test_a_context_without_room_says_what_would_do(model):
    with pytest.raises(InputError, match="context 128 is too short for chain_4, expected at least"):
        make(model, "chain_4", 128)
