"""The eight needle tasks of RULER v1 (Hsieh et al. 2024, arXiv:2404.06654, appendix B; NVIDIA/RULER
synthetic.yaml)."""

import functools
import math
from dataclasses import dataclass

from swbench_data.counter_rng import CounterRng
from swbench_data.tasks import haystack
from swbench_data.tasks.draws import Draws
from swbench_data.tasks.filler import fit
from swbench_data.tasks.task import Job, Sample, Task
from swbench_data.tasks.text import TEXT

# RULER's wording.  It turns the plural into the singular for one needle, except in the needle
# itself.
NEEDLE = "One of the special magic {values} for {key} is: {value}."
ONE = (
    "A special magic {value} is hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {value} afterwards.\n{haystack}\n"
    "What is the special magic {value} for {keys} mentioned in the provided text?",
    " The special magic {value} for {keys} mentioned in the provided text is",
)
SEVERAL = (
    "Some special magic {value}s are hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {value}s afterwards.\n{haystack}\n"
    "What are all the special magic {value}s for {keys} mentioned in the provided text?",
    " The special magic {value}s for {keys} mentioned in the provided text are",
)


@dataclass(frozen=True)
class Needles:
    hidden_in: str  # "noise", "essay", or "needles": other keys with other values
    key: str = "word"
    value: str = "number"
    keys: int = 1
    values: int = 1  # of each key
    asked: int = 1  # keys that the question asks for, the first ones


def make(needles: Needles, job: Job):
    rng = CounterRng(job.seed, job.task.name, job.context)
    return [make_sample(needles, job, rng, index) for index in range(job.samples)]


def make_sample(needles, job, rng, index):
    draw_key, draw_value = Draws(rng, "key", index), Draws(rng, "value", index)
    hidden = {}  # key -> its values
    for _ in range(needles.keys):
        key = draw_key.draw(needles.key)
        hidden[key] = [draw_value.draw(needles.value) for _ in range(needles.values)]

    def spell(key, value):
        return NEEDLE.format(values=needles.value + "s", key=key, value=value)

    @functools.cache
    def distractor(i):
        return spell(draw_key.draw(needles.key), draw_value.draw(needles.value))

    lines = [spell(key, value) for key, values in hidden.items() for value in values]
    placed = list(zip(haystack.depths(rng, index, len(lines)), lines))
    if needles.hidden_in == "noise":
        hay = haystack.noise()
    elif needles.hidden_in == "needles":
        hay = haystack.Lines(distractor)
    else:
        hay = haystack.Essay(
            job.material, rng.below(len(haystack.sentences(job.material)[0]), "start", index)
        )

    asked = list(hidden)[: needles.asked]
    references = [value for key in asked for value in hidden[key]]
    question, prefix = ONE if len(references) == 1 else SEVERAL
    words = {"value": needles.value, "keys": listed(asked)}

    def prompt(n, tail):
        return job.model.encode_prompt(
            question.format(haystack=hay.text(n, placed, tail), **words),
            prefix.format(**words),
            job.chat,
        )

    n, ids = fit(job, prompt, hay.following)
    depth = hay.share(hay.before(placed[0][0], n), n) if len(references) == 1 else math.nan
    return Sample(ids=ids, references=references, depth=depth)


def listed(keys):
    return ", ".join(keys[:-1]) + ", and " + keys[-1] if len(keys) > 1 else keys[0]


def task(name, needles):
    return Task(
        name,
        score="all",
        max_new_tokens=128,
        make=functools.partial(make, needles),
        material=TEXT if needles.hidden_in == "essay" else None,
        uses_chat=True,
    )


TASKS = (
    task("niah_single_1", Needles("noise")),
    task("niah_single_2", Needles("essay")),
    task("niah_single_3", Needles("essay", value="uuid")),
    task("niah_multikey_1", Needles("essay", keys=4)),
    task("niah_multikey_2", Needles("needles")),
    task("niah_multikey_3", Needles("needles", key="uuid", value="uuid")),
    task("niah_multivalue", Needles("essay", values=4)),
    task("niah_multiquery", Needles("essay", keys=4, asked=4)),
)
