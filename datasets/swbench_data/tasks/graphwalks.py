"""graphwalks_D: which places are exactly D steps from one, in a directed graph told as its edges.

After GraphWalks (OpenAI 2025), in words of our own.  Each line is an edge; breadth-first search
from the place that the question names gives the answer, a set.
"""

import functools

from swbench_data.counter_rng import CounterRng
from swbench_data.tasks import haystack
from swbench_data.tasks.draws import Draws, words
from swbench_data.tasks.filler import fit
from swbench_data.tasks.task import Job, Sample, Task

EDGE = "- {here} leads to {there}."
TEXT = "Each line tells of a way that can be walked in one direction only.\n{lines}\n"
QUESTION = (
    "Question: Starting at {start}, which places are reached in {steps} but in no fewer? Name each "
    "once, with commas between them.\n"
)
PREFIX = "Answer: the places at a distance of {steps} from {start} are"
WAYS = 2  # out of each place that is nearer than the depth
NEW = 0.75  # how often a way leads to a place that no earlier one led to


def make(depth: int, job: Job):
    rng = CounterRng(job.seed, job.task.name, job.context)
    return [make_sample(depth, job, rng, index) for index in range(job.samples)]


def make_sample(depth, job, rng, index):
    levels, ways = walk(depth, rng, index)
    lines = [EDGE.format(here=here, there=there) for here, there in ways]
    near = {here for here, _ in ways}  # whose ways are all told: more would change the answer
    others = [place for place in words("nouns") if place not in near]

    def anywhere(here, *at):
        there = rng.choice([place for place in words("nouns") if place != here], "to", index, *at)
        return EDGE.format(here=here, there=there)

    @functools.cache
    def filler(i):
        return anywhere(rng.choice(others, "from", index, i), i)

    # The places of the answer lead on too, so that no dead end gives them away.
    beyond = [anywhere(here, "beyond", here, way) for here in levels[depth] for way in range(WAYS)]
    told = [
        (rng.uniform("place", index, serial), line) for serial, line in enumerate(lines + beyond)
    ]

    # Filler's last line may be cut; it starts where it changes nothing, whatever it leads to.
    hay = haystack.Lines(filler)
    steps = f"{depth} step{'s' if depth > 1 else ''}"
    named = {"start": levels[0][0], "steps": steps}

    def prompt(n, tail):
        text = TEXT.format(lines=hay.text(n, told, tail))
        return job.model.encode_prompt(
            text + QUESTION.format(**named), PREFIX.format(**named), job.chat
        )

    _, ids = fit(job, prompt, hay.following)
    return Sample(ids=ids, references=levels[depth], hops=job.model.spans(ids, lines))


def walk(depth, rng, index):
    """Places by their distance from the first, and the ways out of those nearer than depth in the
    order of the search."""
    names = Draws(rng, "node", index)
    levels, known, ways = [[names.draw("noun")]], [], []
    for level in range(depth):
        known += levels[level]
        found = []
        for here in levels[level]:
            reached = []
            for way in range(WAYS):
                old = [place for place in known + found if place not in (here, *reached)]
                first = not found and here == levels[level][-1]  # a level is never empty
                if first or not old or rng.uniform("new", index, here, way) < NEW:
                    there = names.draw("noun")
                    found.append(there)
                else:
                    there = rng.choice(old, "old", index, here, way)
                reached.append(there)
            ways += [(here, there) for there in reached]
        levels.append(found)
    return levels, ways


TASKS = tuple(
    Task(
        f"graphwalks_{depth}",
        score="set_f1",
        max_new_tokens=8 + 4 * WAYS**depth,
        make=functools.partial(make, depth),
        uses_chat=True,
        first_line=True,
    )
    for depth in (1, 2, 3)
)
