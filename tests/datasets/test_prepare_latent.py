"""latent_N: a reader who knows where sights are finds the person; no word gives the needle away."""

import re

import pytest

from swbench_data.cli import InputError
from swbench_data.model_folder import ModelFolder
from swbench_data.tasks import TASKS
from swbench_data.tasks.latent import SIGHTS
from swbench_data.tasks.task import Job
from test_prepare_ruler import TEXT, decode

NEEDLE = re.compile(r"Every morning (\w+) opens a window and looks straight at the ([^.]+)\.")


@pytest.fixture(scope="module")
def model(tiny_model):
    return ModelFolder(tiny_model)


def make(model, name, context, samples=3, seed=1):
    task = TASKS[name]
    return task.make(Job(task, model, context, samples, seed, TEXT))


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_reader_who_knows_finds_the_answer(model, pieces):
    knows = {row[0]: row[pieces] for row in SIGHTS}
    for sample in make(model, f"latent_{pieces}", 2048):
        assert len(sample.ids) == 2048 - 8
        body, question = decode(model, sample.ids).split("\nQuestion: ")
        where = re.search(r"a home in ([^?]+)\?", question)[1]
        told = NEEDLE.findall(body)
        assert len(told) == 4
        assert [who for who, sight in told if knows[sight] == where] == sample.references
        ((first, last),) = sample.hops
        assert NEEDLE.search(decode(model, sample.ids[first:last]))[1] == sample.references[0]


def test_the_needle_shares_no_word_with_the_question():
    asked = set("which person in this text has a home one who does is answer question".split())
    for sight, city, country in SIGHTS:
        said = set(
            f"every morning opens a window and looks straight at the {sight}".lower().split()
        )
        named = set(f"{city} {country}".lower().split())
        assert not (said - {"a", "the"}) & (asked | named)
    for column in zip(*SIGHTS):
        assert len(set(column)) == len(column)


def test_a_context_without_room_says_what_would_do(model):
    with pytest.raises(InputError, match="context 64 is too short for latent_2, expected at least"):
        make(model, "latent_2", 64)
