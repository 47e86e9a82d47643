"""qa_1 and qa_2: RULER v1's questions about one document (SQuAD) or several (HotpotQA) among other
documents."""

import functools
import math
from dataclasses import dataclass
from pathlib import Path

from swbench_data.cli import InputError
from swbench_data.counter_rng import CounterRng
from swbench_data.tasks import external, haystack
from swbench_data.tasks.filler import TooShort, fit
from swbench_data.tasks.task import Job, Material, Sample, Task

# RULER's wording.
INSTRUCTION = (
    "Answer the question based on the given documents. Only give me the answer and do not output "
    "any other words."
)
QUESTION = (
    INSTRUCTION
    + "\n\nThe following are given documents.\n\n{documents}\n\n"
    + INSTRUCTION
    + "\n\nQuestion: {question}"
)
ANSWER_PREFIX = " Answer:"
DOCUMENT = "Document {number}:\n{text}"


@dataclass(frozen=True)
class Question:
    text: str
    answers: list
    gold: list  # numbers of the documents that the answer is in
    near: range | list  # numbers of documents on the same subject, which distract first
    id: str


@dataclass(frozen=True)
class Questions:
    source: str
    sha256: str
    documents: list
    questions: list


def read_squad(path: Path) -> Questions:
    """SQuAD 1.1 or 2.0 (published as dev-v2.0.json): the questions that have an answer."""
    data, sha256 = external.read_json(path)
    documents, questions = Numbering(), []
    for a, article in enumerate(external.get(data, "data", list, path)):
        place = f"{path}: data[{a}]"
        numbers, paragraphs = [], external.get(article, "paragraphs", list, place)
        for p, paragraph in enumerate(paragraphs):
            numbers.append(
                documents.number(
                    external.get(paragraph, "context", str, f"{place}.paragraphs[{p}]")
                )
            )
        for p, paragraph in enumerate(paragraphs):
            for q, asked in enumerate(
                external.get(paragraph, "qas", list, f"{place}.paragraphs[{p}]")
            ):
                at = f"{place}.paragraphs[{p}].qas[{q}]"
                answers = [
                    external.get(answer, "text", str, f"{at}.answers")
                    for answer in external.get(asked, "answers", list, at)
                ]
                if not asked.get("is_impossible") and any(map(str.strip, answers)):
                    questions.append(
                        question(asked, "question", "id", answers, [numbers[p]], numbers, at)
                    )
    return finished(path, sha256, documents, questions)


def read_hotpotqa(path: Path) -> Questions:
    """HotpotQA with distractors (published as hotpot_dev_distractor_v1.json)."""
    data, sha256 = external.read_json(path)
    external.check(data, list, path)
    documents, questions = Numbering(), []
    for d, asked in enumerate(data):
        at = f"{path}: [{d}]"
        gold = []
        for entry in external.get(asked, "context", list, at):
            if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], list)):
                raise InputError(
                    f"{at}.context: {external.shown(entry)}, expected [title, [sentence, …]]"
                )
            for text in (entry[0], *entry[1]):
                external.check(text, str, f"{at}.context")
            gold.append(documents.number(entry[0] + "\n" + "".join(entry[1])))
        answer = external.get(asked, "answer", str, at)
        if gold and answer.strip():
            questions.append(question(asked, "question", "_id", [answer], gold, [], at))
    return finished(path, sha256, documents, questions)


SQUAD = Material("squad", "SQuAD's published json", read_squad, "squad.json")
HOTPOTQA = Material("hotpotqa", "HotpotQA's published json", read_hotpotqa, "hotpotqa.json")


class Numbering(dict):
    """Equal documents are one."""

    def number(self, text):
        return self.setdefault(text, len(self))


def question(asked, text, id, answers, gold, near, place):
    return Question(
        external.get(asked, text, str, place),
        list(dict.fromkeys(filter(str.strip, answers))),
        list(dict.fromkeys(gold)),
        [number for number in near if number not in gold],
        external.get(asked, id, str, place) if id in asked else "",
    )


def finished(path, sha256, documents, questions):
    if not questions:
        raise InputError(f"{path}: has no question with an answer and its documents")
    return Questions(path.name, sha256, list(documents), questions)


def make(job: Job) -> list[Sample]:
    """Samples in a random order of the questions, those left out whose documents the context cannot
    hold."""
    rng = CounterRng(job.seed, job.task.name, job.context)
    material = job.material
    if len(material.questions) < job.samples:
        raise InputError(
            f"{material.source}: has {len(material.questions)} questions, expected at least "
            f"{job.samples}; ask for fewer samples"
        )
    order = sorted(
        range(len(material.questions)), key=lambda number: rng.bits64("question", number)
    )
    samples, too_short = [], []
    for number in order:
        if len(samples) == job.samples:
            break
        try:
            samples.append(make_sample(job, rng, len(samples), material.questions[number]))
        except TooShort as error:
            too_short.append(error.needed)
    if len(samples) == job.samples:
        return samples
    raise TooShort(job, sorted(too_short)[job.samples - len(samples) - 1])


def make_sample(job, rng, index, question):
    """Documents in a random order, the ones that hold the answer among them, and the last one cut
    to fit."""
    documents = job.material.documents
    gold_places = haystack.depths(rng, index, 1) + [
        rng.uniform("gold", index, i) for i in range(1, len(question.gold))
    ]

    @functools.cache  # a question whose documents do not fit needs none
    def distractors():
        own = {*question.gold, *question.near}
        others = [number for number in range(len(documents)) if number not in own]
        if not others and not question.near:
            raise InputError(
                f"{job.material.source}: has no documents but the question's, expected some to "
                "distract"
            )
        return [
            *sorted(question.near, key=lambda number: rng.bits64("near", index, number)),
            *sorted(others, key=lambda number: rng.bits64("other", index, number)),
        ]

    def distractor(i):
        """A file that has too few gives them again."""
        return distractors()[i % len(distractors())]

    def shuffled(n):
        """(place, number) of the gold documents and n distractors."""
        places = [(rng.uniform("place", index, i), distractor(i)) for i in range(n)]
        return sorted([*zip(gold_places, question.gold), *places])

    def prompt(n, tail):
        shown = [
            DOCUMENT.format(number=i, text=documents[number])
            for i, (_, number) in enumerate(shuffled(n), 1)
        ]
        text = "\n\n".join(shown + ([tail] if tail else []))
        return job.model.encode_prompt(
            QUESTION.format(documents=text, question=question.text), ANSWER_PREFIX, job.chat
        )

    def following(n, more):
        first = len(question.gold) + n
        return "\n\n".join(
            DOCUMENT.format(number=first + i + 1, text=documents[distractor(n + i)])
            for i in range(more)
        )

    n, ids = fit(job, prompt, following)
    depth = [number for _, number in shuffled(n)].index(question.gold[0]) / max(n, 1)
    return Sample(
        ids=ids,
        references=question.answers,
        depth=depth if len(question.gold) == 1 else math.nan,
        origin=question.id,
    )


def task(name, material):
    return Task(name, score="part", max_new_tokens=32, make=make, material=material, uses_chat=True)


TASKS = (task("qa_1", SQUAD), task("qa_2", HOTPOTQA))
