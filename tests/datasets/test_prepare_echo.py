"""echo_request_I: a reader who counts the requests in the text finds the answer."""

import re

import pytest

from swbench_data.cli import InputError
from swbench_data.model_folder import ModelFolder
from swbench_data.tasks import TASKS
from swbench_data.tasks.task import Job
from test_prepare_ruler import decode

TURN = re.compile(
    r"Guest: Please give me a password for the (\w+)\.\nHost: Take (\d{3} \d{3}) for it\."
)
NTH = {"first": 1, "second": 2, "fourth": 4}


@pytest.fixture(scope="module")
def model(tiny_model):
    return ModelFolder(tiny_model)


def make(model, nth, context, samples=4, seed=1):
    task = TASKS[f"echo_request_{nth}"]
    return task.make(Job(task, model, context, samples, seed))


@pytest.mark.parametrize("context", [1024, 8192])
@pytest.mark.parametrize("nth", [1, 2, 4])
def test_a_reader_of_the_text_finds_the_answer(model, nth, context):
    for sample in make(model, nth, context):
        assert len(sample.ids) == context - 16
        body, question = decode(model, sample.ids).split("\nQuestion: ")
        place = re.search(r"a password for the (\w+)\.", question)[1]
        assert NTH[re.search(r"give the (\w+) time", question)[1]] == nth
        given = [password for where, password in TURN.findall(body) if where == place]
        assert len(given) == len(set(given)) == 4
        assert sample.references == [given[nth - 1]]
        # What is marked: the requests up to the one that is asked for, in their order.
        told = [decode(model, sample.ids[first:last]) for first, last in sample.hops]
        assert [TURN.search(turn)[2] for turn in told] == given[:nth]


def test_every_i_has_the_same_dialogue(model):
    texts = [
        TURN.findall(decode(model, make(model, nth, 4096, samples=1)[0].ids)) for nth in (1, 4)
    ]
    assert texts[0] and texts[0][:20] == texts[1][:20]


def test_a_context_without_room_says_what_would_do(model):
    with pytest.raises(InputError, match="context 128 is too short for echo_request_4, expected"):
        make(model, 4, 128)
