"""echo_request_I: the answer to the I-th of several identical requests in a long dialogue.

After MRCR (Vodrahalli et al. 2024), in words of our own.  What is asked for twice and more has a
different answer each time, so that only the order tells them apart.
"""

import functools

from swbench_data.counter_rng import CounterRng
from swbench_data.tasks import haystack
from swbench_data.tasks.draws import Draws
from swbench_data.tasks.filler import fit
from swbench_data.tasks.task import Job, Sample, Task

TURN = "Guest: Please give me a password for the {place}.\nHost: Take {password} for it."
TEXT = "A guest and a host talk; some requests come more than once.\n{turns}\n"
QUESTION = (
    "Question: The guest asked several times for a password for the {place}. Which one did the "
    "host give the {nth} time?\n"
)
PREFIX = "Answer: the {nth} password for the {place} was"
REPEATS = 4  # of the asked request
NTH = {1: "first", 2: "second", 4: "fourth"}


def make(nth: int, job: Job):
    # One dialogue for all I of a length: the draws do not know the task's name.
    rng = CounterRng(job.seed, "echo_request", job.context)
    return [make_sample(nth, job, rng, index) for index in range(job.samples)]


def make_sample(nth, job, rng, index):
    passwords = Draws(rng, "password", index)
    places = Draws(rng, "place", index)
    place = places.draw("noun")
    others = [places.draw("noun") for _ in range(60)]
    given = [passwords.draw("two threes") for _ in range(REPEATS)]
    turns = [TURN.format(place=place, password=password) for password in given]
    told = list(zip(sorted(haystack.depths(rng, index, REPEATS)), turns))

    @functools.cache
    def filler(i):
        other = rng.choice(others, "other", index, i)
        return TURN.format(place=other, password=passwords.draw("two threes"))

    hay = haystack.Lines(filler)
    named = {"place": place, "nth": NTH[nth]}

    def prompt(n, tail):
        text = TEXT.format(turns=hay.text(n, told, tail))
        return job.model.encode_prompt(
            text + QUESTION.format(**named), PREFIX.format(**named), job.chat
        )

    _, ids = fit(job, prompt, hay.following)
    # Which one is the I-th follows from those before it.
    return Sample(ids=ids, references=[given[nth - 1]], hops=job.model.spans(ids, turns[:nth]))


TASKS = tuple(
    Task(
        f"echo_request_{nth}",
        score="all",
        max_new_tokens=16,
        make=functools.partial(make, nth),
        uses_chat=True,
        first_line=True,
    )
    for nth in NTH
)
