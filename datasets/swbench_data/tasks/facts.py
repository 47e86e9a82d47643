"""facts_1, facts_2, facts_3: where somebody or something is, from one to three facts in prose.

After BABILong (Kuratov et al. 2024) and bAbI (Weston et al. 2015), from a simulator and in words of
our own: people walk between places, pick things up and put them down.  The statements stand in
order of time, among prose.  One fact: where a person is.  Two: where a thing is that somebody
carries.  Three: where a thing was put down, and where it was before its carrier came there.
"""

import functools

from swbench_data.counter_rng import CounterRng
from swbench_data.tasks import haystack
from swbench_data.tasks.filler import fit
from swbench_data.tasks.task import Job, Sample, Task
from swbench_data.tasks.text import TEXT

PEOPLE = "Agnes Boris Clara Dmitri Elsa Felix Greta Hugo".split()
PLACES = "attic bakery cellar chapel garden kitchen library orchard stable workshop".split()
THINGS = "candle compass hammer kettle ladder lantern mirror violin".split()
WALKS = "At {time} {who} walked over to the {where}."
TAKES = "At {time} {who} picked up the {what} and kept hold of it."
LEAVES = "At {time} {who} put down the {what} and left it lying there."
INTRODUCTION = (
    "Hidden in this text are notes on people, each with a clock time, in order of time: where they "
    "walk, what they pick up and what they put down. What somebody holds goes along.\n"
)
QUESTIONS = {
    1: ("Where is {who} at the end?", "At the end {who} is in the"),
    2: ("Where is the {what} at the end?", "At the end the {what} is in the"),
    3: (
        "Where was the {what} before it came to the {where}?",
        "Before the {what} came to the {where}, it was in the",
    ),
}
EVENTS = 48  # notes in a text, or as many as fill half of it
LEAST = 12  # fewer than that hardly make a story
DAY = 6 * 60  # minutes past midnight at which the first note is made


class World:
    """What happens, one event after another.  Facts are numbers of events."""

    def __init__(self, rng, index):
        self.rng, self.index = rng, index
        self.events = []
        self.walks = {who: [] for who in PEOPLE}  # (place, fact), the last one is where they are
        self.carried = {}  # thing -> (carrier, fact)
        self.lying = {}  # thing -> (place, fact of putting it down, walks on the way to it)
        self.been = {}  # thing -> every place that it came to

    def pick(self, values, purpose):
        return self.rng.choice(sorted(values), purpose, self.index, len(self.events))

    def tell(self, sentence, **words):
        fact = len(self.events)
        hours, minutes = divmod(DAY + 7 * fact, 60)
        self.events.append(sentence.format(time=f"{hours % 24:02}:{minutes:02}", **words))
        return fact

    def step(self):
        """Somebody walks, or deals with a thing where they are."""
        who = self.pick(PEOPLE, "who")
        here = self.walks[who][-1][0] if self.walks[who] else None
        act = self.rng.uniform("act", self.index, len(self.events))
        held = [what for what, (carrier, _) in self.carried.items() if carrier == who]
        # Things that nobody has named yet are wherever they are first picked up.
        free = [
            what
            for what in THINGS
            if what not in self.carried and (what not in self.lying or self.lying[what][0] == here)
        ]
        if here and held and act < 0.25:
            self.leave(who, self.pick(held, "what"))
        elif here and free and act < 0.55:
            self.take(who, self.pick(free, "what"))
        else:
            self.walk(who, self.pick([place for place in PLACES if place != here], "where"))

    def walk(self, who, where):
        self.walks[who].append((where, self.tell(WALKS, who=who, where=where)))
        for what, (carrier, _) in self.carried.items():
            if carrier == who:
                self.been[what].append(where)

    def take(self, who, what):
        self.lying.pop(what, None)
        self.been.setdefault(what, [self.walks[who][-1][0]])
        self.carried[what] = who, self.tell(TAKES, who=who, what=what)

    def leave(self, who, what):
        _, taken = self.carried.pop(what)
        fact = self.tell(LEAVES, who=who, what=what)
        # The walks with the thing in hand, and the one to where it was picked up.
        before = [walk for walk in self.walks[who] if walk[1] < taken][-1:]
        after = [walk for walk in self.walks[who] if walk[1] > taken]
        self.lying[what] = self.walks[who][-1][0], fact, before + after

    def questions(self, facts):
        """(words of the question, answer, facts in the order in which it follows from them)."""
        if facts == 1:
            return [
                ({"who": who}, walks[-1][0], [walks[-1][1]])
                for who, walks in self.walks.items()
                if walks
            ]
        if facts == 2:
            return [
                ({"what": what}, self.walks[who][-1][0], [taken, self.walks[who][-1][1]])
                for what, (who, taken) in self.carried.items()
                if self.walks[who][-1][1] > taken
            ]
        return [
            ({"what": what, "where": where}, way[-2][0], [fact, way[-1][1], way[-2][1]])
            for what, (where, fact, way) in self.lying.items()
            # "Before it came there" must mean one time only.
            if len(way) > 1 and self.been[what].count(where) == 1
        ]


def make(facts: int, job: Job):
    rng = CounterRng(job.seed, job.task.name, job.context)
    return [make_sample(facts, job, rng, index) for index in range(job.samples)]


def make_sample(facts, job, rng, index):
    world = World(rng, index)
    tokens = 0
    while len(world.events) < EVENTS or not world.questions(facts):
        world.step()
        tokens += len(job.model.encode_text(" " + world.events[-1]).ids)
        if len(world.events) >= LEAST and tokens > job.context // 2 and world.questions(facts):
            break
    asked = world.questions(facts)
    named, answer, way = asked[rng.below(len(asked), "asked", index)]
    depths = sorted(rng.uniform("depth", index, fact) for fact in range(len(world.events)))
    told = list(zip(depths, world.events))
    hay = haystack.Essay(
        job.material, rng.below(len(haystack.sentences(job.material)[0]), "start", index)
    )
    question, prefix = (text.format(**named) for text in QUESTIONS[facts])

    def prompt(n, tail):
        text = INTRODUCTION + hay.text(n, told, tail)
        return job.model.encode_prompt(
            f"{text}\nQuestion: {question}\n", f"Answer: {prefix}", job.chat
        )

    _, ids = fit(job, prompt, hay.following)
    spans = job.model.spans(ids, [world.events[fact] for fact in way])
    return Sample(ids=ids, references=[answer], hops=spans)


TASKS = tuple(
    Task(
        f"facts_{facts}",
        score="all",
        max_new_tokens=8,
        make=functools.partial(make, facts),
        material=TEXT,
        uses_chat=True,
        first_line=True,
    )
    for facts in QUESTIONS
)
