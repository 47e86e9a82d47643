"""latent_1, latent_2: a needle that shares no word with the question.

After NoLiMa (Modarressi et al. 2025), from pairs of our own.  What links the two is everyday
knowledge: one piece (who lives beside the Eiffel Tower lives in Paris) or two (so in France).
"""

import functools

from swbench_data.counter_rng import CounterRng
from swbench_data.tasks import haystack
from swbench_data.tasks.filler import fit
from swbench_data.tasks.task import Job, Sample, Task
from swbench_data.tasks.text import TEXT

PEOPLE = "Agnes Boris Clara Dmitri Elsa Felix Greta Hugo Ingrid Jonas Katya Lars".split()
# What the needle says, what one piece of knowledge makes of it, and what two make.
SIGHTS = (
    ("Eiffel Tower", "Paris", "France"),
    ("Colosseum", "Rome", "Italy"),
    ("Brandenburg Gate", "Berlin", "Germany"),
    ("Acropolis", "Athens", "Greece"),
    ("Kremlin", "Moscow", "Russia"),
    ("Sagrada Familia", "Barcelona", "Spain"),
    ("Charles Bridge", "Prague", "Czechia"),
    ("Little Mermaid statue", "Copenhagen", "Denmark"),
    ("Hofburg", "Vienna", "Austria"),
    ("Atomium", "Brussels", "Belgium"),
    ("Hagia Sophia", "Istanbul", "Turkey"),
    ("Rijksmuseum", "Amsterdam", "the Netherlands"),
    ("Alfama quarter", "Lisbon", "Portugal"),
    ("Buda Castle", "Budapest", "Hungary"),
    ("Vasa Museum", "Stockholm", "Sweden"),
    ("Giza pyramids", "Cairo", "Egypt"),
    ("Taj Mahal", "Agra", "India"),
    ("Forbidden City", "Beijing", "China"),
    ("Meiji Shrine", "Tokyo", "Japan"),
    ("Bondi Beach", "Sydney", "Australia"),
    ("Machu Picchu", "Cusco", "Peru"),
    ("CN Tower", "Toronto", "Canada"),
    ("Sugarloaf Mountain", "Rio de Janeiro", "Brazil"),
)
NEEDLE = "Every morning {who} opens a window and looks straight at the {sight}."
QUESTION = "\nQuestion: Which person in this text has a home in {where}?\n"
PREFIX = "Answer: The one who does is"
NEEDLES = 4  # one is asked for; the others are in other cities and countries


def make(pieces: int, job: Job):
    # One text for both: the draws do not know the task's name.
    rng = CounterRng(job.seed, "latent", job.context)
    return [make_sample(pieces, job, rng, index) for index in range(job.samples)]


def make_sample(pieces, job, rng, index):
    people = sorted(PEOPLE, key=lambda who: rng.bits64("person", index, who))[:NEEDLES]
    sights = sorted(SIGHTS, key=lambda row: rng.bits64("sight", index, row[0]))[:NEEDLES]
    lines = [NEEDLE.format(who=who, sight=row[0]) for who, row in zip(people, sights)]
    told = list(zip(haystack.depths(rng, index, NEEDLES), lines))
    hay = haystack.Essay(
        job.material, rng.below(len(haystack.sentences(job.material)[0]), "start", index)
    )
    question = QUESTION.format(where=sights[0][pieces])

    def prompt(n, tail):
        return job.model.encode_prompt(hay.text(n, told, tail) + question, PREFIX, job.chat)

    _, ids = fit(job, prompt, hay.following)
    return Sample(ids=ids, references=[people[0]], hops=job.model.spans(ids, lines[:1]))


TASKS = tuple(
    Task(
        f"latent_{pieces}",
        score="all",
        max_new_tokens=8,
        make=functools.partial(make, pieces),
        material=TEXT,
        uses_chat=True,
        first_line=True,
    )
    for pieces in (1, 2)
)
