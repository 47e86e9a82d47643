"""graphwalks_D: breadth-first search over the edges that the text tells finds the answer."""

import re

import pytest

from swbench_data.cli import InputError
from swbench_data.model_folder import ModelFolder
from swbench_data.tasks import TASKS
from swbench_data.tasks.task import Job
from test_prepare_ruler import decode

EDGE = re.compile(r"^- (\w+) leads to (\w+)\.$", re.MULTILINE)


@pytest.fixture(scope="module")
def model(tiny_model):
    return ModelFolder(tiny_model)


def make(model, name, context, samples=4, seed=1):
    task = TASKS[name]
    return task.make(Job(task, model, context, samples, seed))


def solve(text):
    """Places by distance from the one that the question names, and the edges."""
    edges = EDGE.findall(text)
    start = re.search(r"Question: Starting at (\w+), which", text).group(1)
    levels, seen = [{start}], {start}
    while levels[-1]:
        levels.append({there for here, there in edges if here in levels[-1]} - seen)
        seen |= levels[-1]
    return levels, edges


@pytest.mark.parametrize("context", [2048, 8192])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_search_finds_the_answer(model, depth, context):
    name = f"graphwalks_{depth}"
    for sample in make(model, name, context):
        text = decode(model, sample.ids)
        levels, edges = solve(text)
        assert len(sample.ids) == context - TASKS[name].max_new_tokens
        assert set(sample.references) == levels[depth]
        assert levels[depth] <= {here for here, _ in edges}
        assert len(sample.references) == len(levels[depth])
        assert re.search(rf"reached in {depth} steps? but in no fewer", text)
        # What is marked: every edge out of a nearer place, and nothing else.
        told = [
            EDGE.search(decode(model, sample.ids[first:last]).strip()).groups()
            for first, last in sample.hops
        ]
        nearer = set().union(*levels[:depth])
        assert sorted(told) == sorted(edge for edge in edges if edge[0] in nearer)
        assert len(edges) > 3 * len(told)


def test_some_ways_lead_back_or_together(model):
    """A place must not be counted for being led to: only its distance counts."""
    samples = make(model, "graphwalks_3", 4096, samples=8)
    assert len({len(sample.references) for sample in samples}) > 1


def test_a_context_without_room_says_what_would_do(model):
    with pytest.raises(InputError, match="context 128 is too short for graphwalks_3, expected at"):
        make(model, "graphwalks_3", 128)
