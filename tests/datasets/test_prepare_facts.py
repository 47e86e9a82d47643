"""facts_N: a reader who only follows the notes in the text finds the answer."""

import re

import pytest

from swbench_data.cli import InputError
from swbench_data.model_folder import ModelFolder
from swbench_data.tasks import TASKS
from swbench_data.tasks.task import Job
from test_prepare_ruler import TEXT, decode

NOTE = re.compile(
    r"At (\d\d:\d\d) (\w+) "
    r"(?:walked over to the (\w+)\.|picked up the (\w+) and kept hold of it\.|"
    r"put down the (\w+) and left it lying there\.)"
)
FACTS = ["facts_1", "facts_2", "facts_3"]


@pytest.fixture(scope="module")
def model(tiny_model):
    return ModelFolder(tiny_model)


def make(model, name, context, samples=6, seed=1):
    task = TASKS[name]
    return task.make(Job(task, model, context, samples, seed, TEXT))


def read(body):
    """Where people are, and every place that each thing has been to, as the notes say."""
    people, things, holds = {}, {}, {}
    notes = NOTE.findall(body)
    for _, who, where, taken, left in notes:
        if where:
            people[who] = where
            for what in [what for what, carrier in holds.items() if carrier == who]:
                things[what].append(where)
        elif taken:
            assert taken not in holds, "two people hold one thing"
            assert things.get(taken, [people[who]])[-1] == people[who], "picked up from afar"
            holds[taken] = who
            things.setdefault(taken, [people[who]])
        else:
            assert holds.pop(left) == who, "put down by somebody else"
    return notes, people, things


def solve(text):
    body, question = text.split("\nQuestion: ")
    notes, people, things = read(body)
    if asked := re.match(r"Where is (\w+) at the end", question):
        return notes, people[asked[1]]
    if asked := re.match(r"Where is the (\w+) at the end", question):
        return notes, things[asked[1]][-1]
    asked = re.match(r"Where was the (\w+) before it came to the (\w+)\?", question)
    way = things[asked[1]]
    assert way.count(asked[2]) == 1
    return notes, way[way.index(asked[2]) - 1]


@pytest.mark.parametrize("context", [2048, 4096])
@pytest.mark.parametrize("name", FACTS)
def test_a_reader_of_the_text_finds_the_answer(model, name, context):
    for sample in make(model, name, context):
        assert len(sample.ids) == context - TASKS[name].max_new_tokens
        notes, answer = solve(decode(model, sample.ids))
        assert sample.references == [answer]
        assert len(notes) >= 12
        times = [note[0] for note in notes]
        assert times == sorted(times)


@pytest.mark.parametrize("name", FACTS)
def test_facts_are_marked_where_they_stand(model, name):
    facts = int(name[-1])
    for sample in make(model, name, 4096):
        told = [decode(model, sample.ids[first:last]) for first, last in sample.hops]
        assert len(told) == facts and all(NOTE.search(note) for note in told)
        # The answer is the place that the last of them names.
        assert NOTE.search(told[-1])[3] == sample.references[0]


def test_a_context_without_room_says_what_would_do(model):
    with pytest.raises(InputError, match="context 128 is too short for facts_3, expected at least"):
        make(model, "facts_3", 128)
