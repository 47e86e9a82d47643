"""cwe and fwe: RULER v1's extraction of common words from a list, and of frequent words from a
coded text."""

import functools
import math
import re

from swbench_data.cli import InputError
from swbench_data.counter_rng import CounterRng
from swbench_data.tasks.draws import Draws
from swbench_data.tasks.filler import fit
from swbench_data.tasks.task import Job, Sample, Task
from swbench_data.tasks.text import TEXT

# --- cwe: ten words come 30 times each, the others 3 times; after one solved example --------------

# RULER's wording.
CWE_QUESTION = (
    "Below is a numbered list of words. In these words, some appear more often than others. "
    "Memorize the ones that appear most often.\n{words}\n"
    "Question: What are the 10 most common words in the above list?"
)
CWE_PREFIX = " Answer: The top 10 words that appear most often in the list are:"
COMMON = 10


@functools.lru_cache(maxsize=2)
def vocabulary(text):
    """The words of a text, of 4 to 12 small letters."""
    return sorted(set(re.findall(r"(?<![\w'’-])[a-z]{4,12}(?![\w'’-])", text.characters)))


class WordList:
    """Common and other words in a random order that does not depend on how many others there
    are."""

    def __init__(self, rng, index, common, others, repeats):
        self.common, self.others = common, others
        self.of_common, self.of_others = repeats
        self.priority = functools.cache(lambda copy: rng.bits64("order", index, *copy))

    def entries(self, n):
        """All copies of the common and of n other words, shuffled."""
        copies = [(word, copy) for word in self.common for copy in range(self.of_common)]
        copies += [(word, copy) for word in self.others[:n] for copy in range(self.of_others)]
        return [word for word, _ in sorted(copies, key=self.priority)]

    def text(self, n, tail=""):
        return numbered(self.entries(n)) + (" " + tail if tail else "")

    def following(self, n, more):
        """Further entries, each of a word that comes nowhere else."""
        first = COMMON * self.of_common + n * self.of_others + 1
        return numbered(self.others[n : n + more * self.of_others], first)


def numbered(words, first=1):
    return " ".join(f"{number}. {word}" for number, word in enumerate(words, first))


def make_cwe(job: Job):
    rng = CounterRng(job.seed, job.task.name, job.context)
    return [cwe_sample(job, rng, index) for index in range(job.samples)]


def cwe_sample(job, rng, index):
    # RULER asks less of contexts below 4,096 tokens.
    repeats, example_repeats, example_others = (
        ((30, 3), (10, 3), 30) if job.context >= 4096 else ((6, 1), (3, 1), 10)
    )
    words = vocabulary(job.material)
    shuffled = iter(sorted(words, key=lambda word: rng.bits64("word", index, word)))
    # An answer must be found in a prediction only where it is meant: no word of the lists contains
    # a common one.
    common = []
    for word in shuffled:
        if not any(word in other or other in word for other in common):
            common.append(word)
        if len(common) == 2 * COMMON:
            break
    others = [word for word in shuffled if not any(one in word for one in common)]
    if len(others) < 2 * example_others:
        raise InputError(
            f"{job.material.source}: has {len(words)} different words of 4 to 12 small letters, "
            f"expected some hundreds for {job.task.name}"
        )
    example = WordList(rng, index, common[COMMON:], others[:example_others], example_repeats)
    asked = WordList(rng, index, common[:COMMON], others[example_others:], repeats)
    before = (
        CWE_QUESTION.format(words=example.text(example_others))
        + CWE_PREFIX
        + " "
        + numbered(example.common)
        + "\n"
    )

    def prompt(n, tail):
        if n >= len(asked.others) - 3 * repeats[1]:
            raise InputError(
                f"{job.material.source}: has {len(words)} different words of 4 to 12 small "
                f"letters, expected more for {job.task.name} at context {job.context}"
            )
        return job.model.encode_prompt(
            before + CWE_QUESTION.format(words=asked.text(n, tail)), CWE_PREFIX, job.chat
        )

    _, ids = fit(job, prompt, asked.following, least=COMMON)
    return Sample(ids=ids, references=asked.common)


# --- fwe: the k-th coded word comes N k^-2 / zeta(2) times, and the first one is dots -------------

# RULER's wording.
FWE_QUESTION = (
    "Read the following coded text and track the frequency of each coded word. Find the three "
    "most frequently appeared coded words. {words}\nQuestion: Do not provide any explanation. "
    "Please ignore the dots '....'. What are the three most frequently appeared words in the "
    "above coded text?"
)
FWE_PREFIX = (
    " Answer: According to the coded text above, the three most frequently appeared words are:"
)
DOTS = "..."
ZETA_2 = math.pi**2 / 6
FWE_WORDS = 8  # coded words in the shortest contexts; others have one for 50 tokens
# From this N on the fourth word comes more often than the fifth: N (1/16 - 1/25) / zeta(2) > 1.
FWE_LEAST = 73


def make_fwe(job: Job):
    rng = CounterRng(job.seed, job.task.name, job.context)
    return [fwe_sample(job, rng, index) for index in range(job.samples)]


def fwe_sample(job, rng, index):
    draws = Draws(rng, "word", index)
    words = [DOTS] + [
        draws.draw("six letters") for _ in range(max(job.prompt_tokens // 50, FWE_WORDS) - 1)
    ]

    priority = functools.cache(lambda copy: rng.bits64("order", index, *copy))

    def coded(n):
        counts = [int(n / (rank * rank * ZETA_2)) for rank in range(1, len(words) + 1)]
        copies = [(word, copy) for word, count in zip(words, counts) for copy in range(count)]
        return [word for word, _ in sorted(copies, key=priority)]

    def prompt(n, tail):
        text = " ".join(coded(n) + ([tail] if tail else []))
        return job.model.encode_prompt(FWE_QUESTION.format(words=text), FWE_PREFIX, job.chat)

    # What lacks is made up with more dots, which the question says to ignore.
    _, ids = fit(job, prompt, lambda n, more: " ".join([DOTS] * 40 * more), least=FWE_LEAST)
    return Sample(ids=ids, references=words[1:4])


TASKS = (
    Task("cwe", score="all", max_new_tokens=120, make=make_cwe, material=TEXT, uses_chat=True),
    Task("fwe", score="all", max_new_tokens=50, make=make_fwe, uses_chat=True),
)
