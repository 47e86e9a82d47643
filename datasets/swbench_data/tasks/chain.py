"""chain_k: a number at the end of k hops, among other chains, in prose.

A chain is a row of places: the keeper of each sends visitors on to the next, and the last one's
vault holds a number.  The question names a place k hops before the vault.  All k share one text (a
chain has at least four hops, the question starts further along), so that accuracy against k is
paired.  Each statement names its places three times: blocks of keys keep a trace of it in their
mean, which one mention would not leave.
"""

import functools
from dataclasses import dataclass

from swbench_data.counter_rng import CounterRng
from swbench_data.tasks import haystack
from swbench_data.tasks.draws import Draws
from swbench_data.tasks.filler import fit
from swbench_data.tasks.task import Job, Sample, Task
from swbench_data.tasks.text import TEXT

# Of our own making. datasets/hops trains a small model on these very sentences.
HOP = (
    "The keeper of {here} sends every visitor on to {there}; whoever asks at {here} hears of "
    "{there}, for {here} trusts {there}."
)
VAULT = (
    "The vault of {here} holds {number}; whoever opens {here} there finds {number}, for {here} "
    "keeps {number}."
)
QUESTION = (
    "\nQuestion: {start} is where the way begins, and every keeper from {start} sends us on to the "
    "next, until a vault holds a number. {what}\n"
)
WHAT = {
    "direct": "Which number is at the end of the way from {start}?",
    "list": "Which places and which number lie on the way from {start}?",
}
PREFIX = {
    "direct": "Answer: the number at the end of {start} is",
    "list": "Answer: the way after {start} is",
}
HOPS = 4  # of every chain, or as many as are asked for if that is more
CHAINS = 8  # in a text, or as many as fill half of it if those are fewer, but two


@dataclass(frozen=True)
class Chains:
    hops: int  # k: from the place that the question names to the vault
    # Where the statements of a chain stand: "forward" each before the one it leads to, "reverse"
    # each after it, "random".
    order: str = "random"
    answer: str = "direct"  # the number, or "list": each place on the way, then the number
    apart: int = 0  # tokens, about, between the asked chain's statements; 0: anywhere

    @property
    def length(self):
        return max(self.hops, HOPS)


def make(chains: Chains, job: Job):
    # One text for all k of a length: the draws do not know the task's name.
    rng = CounterRng(job.seed, f"chain {chains.length} {chains.order} {chains.apart}", job.context)
    return [make_sample(chains, job, rng, index) for index in range(job.samples)]


def make_sample(chains, job, rng, index):
    places, numbers = Draws(rng, "place", index), Draws(rng, "number", index)
    told, tokens = [], 0  # (depth, statement)
    for chain in range(CHAINS):
        names = [places.draw("noun") for _ in range(chains.length + 1)]
        number = numbers.draw("two threes")
        lines = statements(names, number)
        tokens += len(job.model.encode_text(" ".join(lines)).ids)
        if chain >= 2 and tokens > job.context // 2:
            break
        told += zip(depths(chains, job, rng, index, chain, len(lines)), lines)
        if chain == 0:
            first = chains.length - chains.hops
            asked, answer, way = names[first:], number, lines[first:]
    hay = haystack.Essay(
        job.material, rng.below(len(haystack.sentences(job.material)[0]), "start", index)
    )
    question = QUESTION.format(start=asked[0], what=WHAT[chains.answer].format(start=asked[0]))
    prefix = PREFIX[chains.answer].format(start=asked[0])

    def prompt(n, tail):
        return job.model.encode_prompt(hay.text(n, told, tail) + question, prefix, job.chat)

    _, ids = fit(job, prompt, hay.following)
    references = [answer] if chains.answer == "direct" else [*asked[1:], answer]
    return Sample(ids=ids, references=references, hops=job.model.spans(ids, way))


def statements(names, number):
    """The hops of a chain in its order, and its vault."""
    hops = [HOP.format(here=here, there=there) for here, there in zip(names, names[1:])]
    return [*hops, VAULT.format(here=names[-1], number=number)]


def depths(chains, job, rng, index, chain, count):
    """Where the statements of a chain stand, in [0, 1)."""
    found = [rng.uniform("depth", index, chain, place) for place in range(count)]
    if chains.apart and chain == 0:
        step = min(chains.apart / job.context, 1 / count)
        first = found[0] * (1 - step * (count - 1))
        found = [first + step * place for place in range(count)]
        if chains.order == "random":
            found.sort(key=lambda depth: rng.bits64("order", index, int(depth * 2**40)))
    if chains.order != "random":
        found.sort(reverse=chains.order == "reverse")
    return found


def task(name, **options):
    chains = Chains(**options)
    # A place takes some four tokens with its comma, a number up to eight, and some to end.
    room = 16 + 4 * chains.hops if chains.answer == "list" else 16
    return Task(
        name,
        score="all",
        max_new_tokens=room,
        make=functools.partial(make, chains),
        material=TEXT,
        uses_chat=True,
        first_line=True,
    )


TASKS = (
    *(task(f"chain_{k}", hops=k) for k in (0, 1, 2, 3, 4, 6, 8)),
    *(
        task(f"chain_{k}_{order}", hops=k, order=order)
        for k in (1, 2, 4, 8)
        for order in ("forward", "reverse")
    ),
    *(task(f"chain_{k}_list", hops=k, answer="list") for k in (1, 2, 4)),
    *(task(f"chain_{k}_near", hops=k, apart=128) for k in (1, 2, 4)),
)
