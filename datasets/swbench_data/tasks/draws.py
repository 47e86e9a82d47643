"""Keys and values of needles, all different within a sample."""

import functools
import itertools
import string
import uuid
from pathlib import Path


@functools.cache
def words(kind):
    return (Path(__file__).parent / f"{kind}.txt").read_text().split()


class Draws:
    """Draws for one purpose ("key", "value") in one sample; none comes twice."""

    def __init__(self, rng, purpose, index):
        self.rng, self.purpose, self.index = rng, purpose, index
        self.serial, self.seen = itertools.count(), set()

    def draw(self, kind):
        while True:
            serial = next(self.serial)
            # The first draw of a sample is counted by the sample alone, as in the first version of
            # niah_single_1.
            drawn = KINDS[kind](
                self.rng, self.purpose, *([self.index, serial] if serial else [self.index])
            )
            if drawn not in self.seen:
                self.seen.add(drawn)
                return drawn


def word(rng, purpose, *at):
    adjective = rng.choice(words("adjectives"), "adjective", *at)
    return f"{adjective}-{rng.choice(words('nouns'), 'noun', *at)}"


def number(rng, purpose, *at):
    return str(10**6 + rng.below(9 * 10**6, "number", *at))


def random_uuid(rng, purpose, *at):
    high, low = (rng.bits64(f"{purpose} uuid {half}", *at) for half in ("high", "low"))
    return str(uuid.UUID(int=high << 64 | low, version=4))


def letters(alphabet, length):
    """A kind that spells `length` random letters."""
    return lambda rng, purpose, *at: "".join(
        rng.choice(alphabet, purpose, *at, place) for place in range(length)
    )


def noun(rng, purpose, *at):
    return rng.choice(words("nouns"), purpose, *at)


def two_threes(rng, purpose, *at):
    first, second = (100 + rng.below(900, f"{purpose} {half}", *at) for half in ("high", "low"))
    return f"{first} {second}"


def five_digits(rng, purpose, *at):
    return str(10000 + rng.below(90000, purpose, *at))


KINDS = {
    "word": word,
    "noun": noun,
    "number": number,
    "two threes": two_threes,
    "uuid": random_uuid,
    "five digits": five_digits,
    "three capitals": letters(string.ascii_uppercase, 3),
    "five capitals": letters(string.ascii_uppercase, 5),
    "six letters": letters(string.ascii_lowercase, 6),
}
