"""The English part of LongBench (Bai et al. 2024, arXiv:2308.14508), from the published jsonl
files."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from swbench_data import cli
from swbench_data.cli import InputError
from swbench_data.counter_rng import CounterRng
from swbench_data.tasks import external
from swbench_data.tasks.filler import TooShort
from swbench_data.tasks.task import Job, Material, Sample, Task


@dataclass(frozen=True)
class Row:
    context: str
    input: str
    answers: list
    id: str


@dataclass(frozen=True)
class Rows:
    source: str
    sha256: str
    rows: list
    classes: list  # the answers that a classification may give


def read(score: str, path: Path) -> Rows:
    """Every line of a published jsonl, checked for what the score needs of it."""
    name = path.stem
    rows, classes = [], []
    for place, line in external.json_lines(path):
        texts = [external.get(line, key, str, place) for key in ("context", "input", "_id")]
        answers = [
            check_text(answer, f"{place}: 'answers'")
            for answer in external.get(line, "answers", list, place)
        ]
        if external.get(line, "dataset", str, place) != name:
            raise InputError(
                f"{place}: 'dataset' is {external.shown(line['dataset'])}, expected {name!r}"
            )
        if not any(map(str.strip, answers)):
            raise InputError(f"{place}: 'answers' has no answer, expected at least one")
        if score == "retrieval" and not all(
            re.search(r"Paragraph \d", answer) for answer in answers
        ):
            raise InputError(
                f"{place}: 'answers' is {external.shown(answers)}, expected a paragraph's number"
            )
        if score == "classification":
            found = [
                check_text(one, f"{place}: 'all_classes'")
                for one in external.get(line, "all_classes", list, place)
            ]
            if not all(found) or not found or (classes and found != classes):
                raise InputError(
                    f"{place}: 'all_classes' is {external.shown(found)}, expected the same names "
                    "in every line"
                )
            classes = found
        # An empty answer scores 0 by every measure here.
        rows.append(Row(*texts[:2], list(filter(str.strip, answers)), texts[2]))
    if not rows:
        raise InputError(f"{path}: is empty, expected one JSON object a line")
    return Rows(path.name, cli.sha256_file(path), rows, classes)


def check_text(value, place):
    external.check(value, str, place)
    return value


def make(prompt: str, job: Job) -> list[Sample]:
    material = job.material
    if len(material.rows) < job.samples:
        raise InputError(
            f"{material.source}: has {len(material.rows)} samples, expected at least "
            f"{job.samples}; ask for fewer samples"
        )
    rng = CounterRng(job.seed, job.task.name)  # every context gets the same samples
    order = sorted(range(len(material.rows)), key=lambda number: rng.bits64("row", number))
    return [
        Sample(
            ids=fitted(job, prompt.format(context=row.context, input=row.input)),
            references=row.answers,
            origin=row.id,
        )
        for row in (material.rows[number] for number in order[: job.samples])
    ]


def fitted(job, text):
    """Ids of the prompt; of one that is too long the middle is left out, as many tokens kept at
    each end."""
    ids = job.model.encode_prompt(text, "", job.chat)
    if len(ids) <= job.prompt_tokens:
        return ids
    spans = job.model.encode_text(text).offsets
    kept = job.prompt_tokens - (len(ids) - len(spans))  # the rest is BOS and the chat template
    while kept >= 2:
        half = kept // 2
        ids = job.model.encode_prompt(
            text[: spans[half - 1][1]] + text[spans[-half][0] :], "", job.chat
        )
        if len(ids) <= job.prompt_tokens:
            return ids
        kept -= len(ids) - job.prompt_tokens
    raise TooShort(
        job, job.task.max_new_tokens + len(job.model.encode_prompt("", "", job.chat)) + 2
    )


def task(name, score, max_new_tokens, prompt, first_line=False, chat=True):
    return Task(
        f"longbench_{name}",
        score=score,
        max_new_tokens=max_new_tokens,
        make=functools.partial(make, prompt),
        material=Material(
            "longbench",
            "folder of LongBench's published jsonl files",
            functools.partial(read, score),
            f"longbench/{name}.jsonl",
            in_folder=True,
        ),
        uses_chat=chat,
        first_line=first_line,
        exact=False,
    )


# Prompts, numbers of new tokens, and which tasks go without a chat template are LongBench's own, as
# they have to be for scores to be comparable: config/dataset2prompt.json,
# config/dataset2maxlen.json and pred.py of THUDM/LongBench (MIT licence), with their misprints
# ("asconcisely").
PASSAGES = (
    "Answer the question based on the given passages. Only give me the answer and do not output "
    "any other words.\n\nThe following are given passages.\n{context}\n\n"
    "Answer the question based on the given passages. Only give me the answer and do not output "
    "any other words.\n\nQuestion: {input}\nAnswer:"
)

TASKS = (
    task(
        "narrativeqa",
        "f1",
        128,
        (
            "You are given a story, which can be either a novel or a movie script, and a "
            "question. Answer the question asconcisely as you can, using a single phrase if "
            "possible. Do not provide any explanation.\n\n"
            "Story: {context}\n\nNow, answer the question based on the story asconcisely as you "
            "can, using a single phrase if possible. Do not provide any explanation.\n\n"
            "Question: {input}\n\nAnswer:"
        ),
    ),
    task(
        "qasper",
        "f1",
        128,
        (
            "You are given a scientific article and a question. Answer the question as concisely "
            "as you can, using a single phrase or sentence if possible. If the question cannot "
            "be answered based on the information in the "
            'article, write "unanswerable". If the question is a yes/no question, answer "yes", '
            '"no", or '
            '"unanswerable". Do not provide any explanation.\n\n'
            "Article: {context}\n\n Answer the question based on the above article as concisely "
            "as you can, using a single phrase or sentence if possible. If the question cannot "
            "be answered based on the information in the "
            'article, write "unanswerable". If the question is a yes/no question, answer "yes", '
            '"no", or '
            '"unanswerable". Do not provide any explanation.\n\n'
            "Question: {input}\n\nAnswer:"
        ),
    ),
    task(
        "multifieldqa_en",
        "f1",
        64,
        (
            "Read the following text and answer briefly.\n\n"
            "{context}\n\nNow, answer the following question based on the above text, only give "
            "me the answer and do not output any other words.\n\nQuestion: {input}\nAnswer:"
        ),
    ),
    task("hotpotqa", "f1", 32, PASSAGES),
    task("2wikimqa", "f1", 32, PASSAGES),
    task("musique", "f1", 32, PASSAGES),
    task(
        "gov_report",
        "rouge_l",
        512,
        (
            "You are given a report by a government agency. Write a one-page summary of the "
            "report.\n\n"
            "Report:\n{context}\n\nNow, write a one-page summary of the report.\n\n"
            "Summary:"
        ),
    ),
    task(
        "qmsum",
        "rouge_l",
        512,
        (
            "You are given a meeting transcript and a query containing a question or "
            "instruction. Answer the query in one or more "
            "sentences.\n\nTranscript:\n{context}\n\n"
            "Now, answer the query based on the above meeting transcript in one or more "
            "sentences.\n\n"
            "Query: {input}\nAnswer:"
        ),
    ),
    task(
        "multi_news",
        "rouge_l",
        512,
        (
            "You are given several news passages. Write a one-page summary of all news. \n\n"
            "News:\n{context}\n\nNow, write a one-page summary of all the news.\n\n"
            "Summary:"
        ),
    ),
    task(
        "trec",
        "classification",
        64,
        (
            "Please determine the type of the question below. Here are some examples of "
            "questions.\n\n"
            "{context}\n{input}"
        ),
        first_line=True,
        chat=False,
    ),
    task(
        "triviaqa",
        "f1",
        32,
        (
            "Answer the question based on the given passage. Only give me the answer and do not "
            "output any other words. The following are some examples.\n\n"
            "{context}\n\n{input}"
        ),
        first_line=True,
        chat=False,
    ),
    task(
        "samsum",
        "rouge_l",
        128,
        (
            "Summarize the dialogue into a few short sentences. The following are some "
            "examples.\n\n"
            "{context}\n\n{input}"
        ),
        first_line=True,
        chat=False,
    ),
    task(
        "passage_count",
        "number",
        32,
        (
            "There are some paragraphs below sourced from Wikipedia. Some of them may be "
            "duplicates. Please carefully read these paragraphs and determine how many unique "
            "paragraphs there are after removing duplicates. In other words, how many "
            "non-repeating paragraphs are there in total?\n\n"
            "{context}\n\nPlease enter the final count of unique paragraphs after removing "
            "duplicates. The output format should only contain the number, such as 1, 2, 3, and "
            "so on.\n\n"
            "The final answer is: "
        ),
    ),
    task(
        "passage_retrieval_en",
        "retrieval",
        32,
        (
            "Here are 30 paragraphs from Wikipedia, along with an abstract. Please determine "
            "which paragraph the abstract is from.\n\n{context}\n\nThe following is an "
            "abstract.\n\n"
            "{input}\n\nPlease enter the number of the paragraph that the abstract is from. The "
            "answer format must be "
            'like "Paragraph 1", "Paragraph 2", etc.\n\n'
            "The answer is: "
        ),
    ),
    task(
        "lcc",
        "code",
        64,
        ("Please complete the code given below. \n{context}Next line of code:\n"),
        chat=False,
    ),
    task(
        "repobench-p",
        "code",
        64,
        ("Please complete the code given below. \n{context}{input}Next line of code:\n"),
        chat=False,
    ),
)
