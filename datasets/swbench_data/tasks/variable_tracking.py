"""vt: RULER v1's variable tracking, one chain of four hops in noise, with one solved example before
it. vt_1, vt_2 and vt_8: the same with as many hops, and with the tokens of each assignment."""

import functools

from swbench_data.counter_rng import CounterRng
from swbench_data.tasks import haystack
from swbench_data.tasks.draws import Draws
from swbench_data.tasks.filler import fit, most_units
from swbench_data.tasks.task import Job, Sample, Task

# RULER's wording.
QUESTION = (
    "Memorize and track the chain(s) of variable assignment hidden in the following "
    "text.\n\n{haystack}\n"
    "Question: Find all variables that are assigned the value {value} in the text above."
)
ANSWER_PREFIX = (
    " Answer: According to the chain(s) of variable assignment in the text above, {count} "
    "variables are assigned the value {value}, they are: "
)
HOPS = 4  # of vt; a chain has one variable more, which the value itself is handed to
TOKENS = 6  # of an answer's variable: RULER allows 30 for five
# The example has as many noise lines as fit in 500 tokens and at least 5, as RULER's; a quarter of
# a short context.
EXAMPLE_TOKENS, EXAMPLE_LINES = 500, 5


def make(hops: int, job: Job):
    rng = CounterRng(job.seed, job.task.name, job.context)
    return [make_sample(hops, job, rng, index) for index in range(job.samples)]


def make_sample(hops, job, rng, index):
    hay = haystack.noise()
    values = Draws(rng, "value", index)
    example = Chain(hops, rng, index, "example", "three capitals", values)
    chain = Chain(hops, rng, index, "chain", "five capitals", values)

    def solved(n):
        return (
            example.question(hay.text(n, example.lines, ""))
            + example.prefix()
            + " ".join(example.variables)
            + "\n\n"
        )

    def tokens(n):
        return len(job.model.encode_text(solved(n)).ids)

    limit = min(EXAMPLE_TOKENS, job.context // 4)
    before = solved(
        most_units(tokens, limit, EXAMPLE_LINES) if tokens(EXAMPLE_LINES) < limit else EXAMPLE_LINES
    )

    def prompt(n, tail):
        return job.model.encode_prompt(
            before + chain.question(hay.text(n, chain.lines, tail)), chain.prefix(), job.chat
        )

    _, ids = fit(job, prompt, hay.following)
    # RULER's own task stays the file that it was.
    way = [] if job.task.name == "vt" else [line for _, line in chain.lines]
    return Sample(ids=ids, references=chain.variables, hops=job.model.spans(ids, way))


class Chain:
    """A value, handed from one variable to the next; lines: (depth, assignment), in order."""

    def __init__(self, hops, rng, index, purpose, kind, values):
        names = Draws(rng, f"{purpose} variable", index)
        self.value = values.draw("five digits")
        self.variables = [names.draw(kind) for _ in range(hops + 1)]
        sources = [self.value] + [f"VAR {name}" for name in self.variables]
        assignments = [f"VAR {name} = {source}" for name, source in zip(self.variables, sources)]
        places = sorted(haystack.depths(CounterRng(rng.key, purpose), index, hops + 1))
        self.lines = list(zip(places, assignments))

    def question(self, text):
        return QUESTION.format(haystack=text, value=self.value)

    def prefix(self):
        return ANSWER_PREFIX.format(count=len(self.variables), value=self.value)


def task(name, hops):
    return Task(
        name,
        score="all",
        max_new_tokens=TOKENS * (hops + 1),
        make=functools.partial(make, hops),
        uses_chat=True,
    )


TASKS = (task("vt", HOPS), *(task(f"vt_{hops}", hops) for hops in (1, 2, 8)))
