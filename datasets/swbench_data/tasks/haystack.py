"""Haystacks: what needles are hidden in, and where."""

import bisect
import functools
import itertools
import math
import re

from swbench_data.cli import InputError

# RULER's noise haystack is this line again and again.
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."

GOLDEN = (math.sqrt(5) - 1) / 2
SLOTS = 40  # RULER's depths are 40 steps, and no two needles share one
SENTENCE_END = r"(?<=[.!?])(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.) +|(?<=[.!?][\"'”’)]) +"
LONGEST = 400  # characters of a sentence; a longer one is cut at a space


def depths(rng, index, count):
    """Depths in [0, 1) of `count` needles of sample `index`, each uniform over the samples.

    The first goes in steps of the golden ratio, which cover 0 … 1 evenly however many samples are
    made and leave sample i where it is when more are asked for. The others lie in other fortieths,
    drawn without replacement.
    """
    first = (rng.uniform("depth") + index * GOLDEN) % 1.0
    slots = [slot for slot in range(SLOTS) if slot != int(first * SLOTS)]
    slots.sort(key=lambda slot: rng.bits64("slot", index, slot))
    return [first] + [
        (slot + rng.uniform("depth", index, slot)) / SLOTS for slot in slots[: count - 1]
    ]


class Lines:
    """Lines that are all of about the same length: unit(i) is the i-th."""

    separator = "\n"

    def __init__(self, unit, tail_separator="\n"):
        self.unit, self.tail_separator = unit, tail_separator

    def before(self, depth, n):
        """How many of n units come before a needle at this depth."""
        return min(int(depth * (n + 1)), n)

    def share(self, before, n):
        return before / max(n, 1)

    def text(self, n, needles, tail):
        """n units with the needles (depth, line) between them, and the begun last unit."""
        units = [self.unit(i) for i in range(n)]
        # From the deepest to the first, so that needles at one place come in the order of their
        # depths.
        for depth, needle in sorted(needles, reverse=True):
            units.insert(self.before(depth, n), needle)
        return self.separator.join(units + ([tail] if tail else []))

    def following(self, n, more):
        return self.tail_separator.join(self.unit(i) for i in range(n, n + more))


def noise():
    return Lines(lambda i: NOISE, " ")


class Essay(Lines):
    """Sentences of a text from the start-th on, and again from its beginning where it ends."""

    separator = " "

    def __init__(self, text, start):
        super().__init__(self.sentence, tail_separator=" ")
        self.sentences, self.starts = sentences(text)
        self.start = start

    def sentence(self, i):
        return self.sentences[(self.start + i) % len(self.sentences)]

    def before(self, depth, n):
        """Depth counts characters here, because sentences differ in length; a needle goes between
        two of them."""
        aim = depth * self.characters(n)
        after = bisect.bisect_left(range(n + 1), aim, key=self.characters)
        nearer = after > 0 and (
            after > n or aim - self.characters(after - 1) < self.characters(after) - aim
        )
        return after - 1 if nearer else after

    def share(self, before, n):
        return self.characters(before) / max(self.characters(n), 1)

    def characters(self, n):
        """Length of the first n sentences."""
        rounds, rest = divmod(self.start + n, len(self.sentences))
        return rounds * self.starts[-1] + self.starts[rest] - self.starts[self.start]


@functools.lru_cache(maxsize=2)
def sentences(text):
    """Sentences of a text, with single spaces for all white space, and where each begins in
    characters."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text.characters):
        for sentence in re.split(SENTENCE_END, " ".join(paragraph.split())):
            found += cut(sentence)
    if not found:
        raise InputError(f"{text.source}: has no sentences, expected a text to hide needles in")
    return found, [0, *itertools.accumulate(len(sentence) + 1 for sentence in found)]


def cut(sentence):
    """A sentence in pieces of at most LONGEST characters."""
    while len(sentence) > LONGEST:
        end = sentence.rfind(" ", 1, LONGEST + 1)
        end = LONGEST if end < 0 else end
        yield sentence[:end]
        sentence = sentence[end:].lstrip()
    if sentence:
        yield sentence
