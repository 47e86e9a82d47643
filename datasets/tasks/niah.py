"""Needle in a haystack, as RULER v1 defines it (Hsieh et al. 2024, arXiv:2404.06654, appendix B)."""

import functools
import math
from pathlib import Path

from counter_rng import CounterRng
from tasks.filler import NOISE, fit
from tasks.task import Job, Sample, Task

# RULER's wording.  It turns the plural into the singular for one needle, except in the needle itself.
QUESTION = ("A special magic number is hidden within the following text. Make sure to memorize it. "
            "I will quiz you about the number afterwards.\n{haystack}\n"
            "What is the special magic number for {word} mentioned in the provided text?")
ANSWER_PREFIX = " The special magic number for {word} mentioned in the provided text is"
NEEDLE = "One of the special magic numbers for {word} is: {number}."

GOLDEN = (math.sqrt(5) - 1) / 2


@functools.cache
def words(kind):
    return (Path(__file__).parent / f"{kind}.txt").read_text().split()


def make_single_1(job: Job):
    """Noise haystack, one word-number needle, depths spread evenly over the samples."""
    rng = CounterRng(job.seed, job.task.name, job.context)
    target = job.context - job.task.max_new_tokens
    samples = []
    for index in range(job.samples):
        word = f"{rng.choice(words('adjectives'), 'adjective', index)}-{rng.choice(words('nouns'), 'noun', index)}"
        number = str(10**6 + rng.below(9 * 10**6, "number", index))
        needle = NEEDLE.format(word=word, number=number)
        # Steps of the golden ratio cover 0 … 1 evenly however many samples are made, and leave
        # sample i where it is when more are asked for.
        depth = (rng.uniform("depth") + index * GOLDEN) % 1.0

        def prompt(n_lines, tail):
            lines = [NOISE] * n_lines
            lines.insert(needle_line(depth, n_lines), needle)
            haystack = "\n".join(lines + ([tail] if tail else []))
            return job.model.encode_prompt(QUESTION.format(word=word, haystack=haystack),
                                           ANSWER_PREFIX.format(word=word), job.chat)

        n_lines, ids = fit(job, target, prompt)
        samples.append(Sample(ids=ids, references=[number], depth=needle_line(depth, n_lines) / max(n_lines, 1)))
    return samples


def needle_line(depth, n_lines):
    """The number of haystack lines before the needle, 0 … n_lines."""
    return min(int(depth * (n_lines + 1)), n_lines)


SINGLE_1 = Task("niah_single_1", score="all", max_new_tokens=128, make=make_single_1, uses_chat=True)
