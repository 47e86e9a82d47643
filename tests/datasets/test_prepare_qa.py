"""RULER's questions from SQuAD's and HotpotQA's files, and what is wrong with files that users
bring."""

import json
import re

import h5py
import numpy as np
import pytest

from swbench_data.model_folder import ModelFolder
from swbench_data.tasks import TASKS, questions
from swbench_data.tasks.task import Job


def squad(articles=6, paragraphs=4):
    data = []
    for a in range(articles):
        data.append(
            {
                "title": f"t{a}",
                "paragraphs": [
                    {
                        "context": (
                            f"Article {a}, paragraph {p}: the answer of {a}-{p} is gold{a}x{p}, "
                            "and nothing else is known of it."
                        ),
                        "qas": [
                            {
                                "id": f"id-{a}-{p}",
                                "question": f"What is the answer of {a}-{p}?",
                                "is_impossible": False,
                                "answers": [
                                    {"text": f"gold{a}x{p}", "answer_start": 0},
                                    {"text": f"gold{a}x{p}", "answer_start": 0},
                                    {"text": " ", "answer_start": 0},
                                ],
                            },
                            {
                                "id": "never",
                                "question": "Impossible?",
                                "is_impossible": True,
                                "answers": [],
                            },
                        ],
                    }
                    for p in range(paragraphs)
                ],
            }
        )
    return {"version": "v2.0", "data": data}


def hotpotqa(n=12):
    return [
        {
            "_id": f"h{i}",
            "question": f"Who met whom in {i}?",
            "answer": f"Nobody{i}.",
            "supporting_facts": [],
            "context": [
                [f"Title {i}-{d}", [f"First of {i}-{d}.", f" Second, Nobody{i}."]] for d in range(3)
            ],
        }
        for i in range(n)
    ]


def write(path, document):
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@pytest.fixture(scope="module")
def model(tiny_model):
    return ModelFolder(tiny_model)


def make(model, name, material, context, samples=4, seed=1):
    task = TASKS[name]
    return task.make(Job(task, model, context, samples, seed, material))


@pytest.mark.parametrize(
    "name, reader, document, gold",
    [
        ("qa_1", questions.read_squad, squad(12), 1),
        ("qa_2", questions.read_hotpotqa, hotpotqa(), 3),
    ],
)
@pytest.mark.parametrize("context", [1700, 2048, 4096])
def test_documents_and_question(model, tmp_path, name, reader, document, gold, context):
    material = reader(write(tmp_path / "q.json", document))
    for sample in make(model, name, material, context):
        assert len(sample.ids) == context - 32
        text = model.tokenizer.decode(sample.ids, skip_special_tokens=False)
        asked = re.search(r"Question: (.*?)<\|im_end\|>", text)[1]
        (question,) = [one for one in material.questions if one.text == asked]
        assert (
            sample.references == question.answers
            and len(sample.references) == 1
            and sample.origin == question.id
        )
        shown = re.split(
            r"Document \d+:\n",
            text.split("given documents.\n\n")[1].split("\n\nAnswer the question")[0],
        )[1:]
        assert re.findall(r"Document (\d+):\n", text)[: len(shown)] == [
            str(i + 1) for i in range(len(shown))
        ]
        shown[-1] = re.sub(
            r"\n\n(Document \d*:?|D[a-z]*)$", "", shown[-1]
        )  # where the last one is cut right there
        whole = [document for document in map(str.strip, shown) if document in material.documents]
        assert len(whole) >= len(shown) - 1
        places = [whole.index(material.documents[number]) for number in question.gold]
        assert len(places) == gold and all(
            whole.count(material.documents[number]) == 1 for number in question.gold
        )
        if gold == 1:
            assert sample.depth == pytest.approx(places[0] / (len(whole) - 1))
            near = sum(
                document.startswith(f"Article {question.id.split('-')[1]},") for document in whole
            )
            assert near == min(4, len(whole))  # its own article's paragraphs come before others'
        else:
            assert np.isnan(sample.depth)
        assert text.endswith("<|im_start|>assistant\n Answer:")


def test_question_order_is_drawn(model, tmp_path):
    material = questions.read_squad(write(tmp_path / "q.json", squad()))
    few, many = make(model, "qa_1", material, 2048, 2), make(model, "qa_1", material, 2048, 24)
    assert [s.ids for s in few] == [s.ids for s in many[:2]] and len({s.origin for s in many}) == 24
    assert [s.origin for s in many] != [
        s.origin for s in make(model, "qa_1", material, 2048, 24, seed=2)
    ]


def test_long_questions_are_left_out(model, tmp_path):
    document = squad(3)
    for paragraph in document["data"][0]["paragraphs"]:
        paragraph["context"] += " and so on" * 300
    material = questions.read_squad(write(tmp_path / "q.json", document))
    origins = {sample.origin for sample in make(model, "qa_1", material, 1500, 8)}
    assert len(origins) == 8 and not any(origin.startswith("id-0") for origin in origins)
    with pytest.raises(questions.TooShort) as error:
        make(model, "qa_1", material, 1500, 9)
    least = int(re.search(r"at least (\d+)", str(error.value))[1])
    assert len(make(model, "qa_1", material, least, 9)) == 9


def qa(tiny_model, out, *more, task="qa_1,qa_2"):
    return (
        "--model",
        tiny_model,
        "--task",
        task,
        "--context",
        "2048",
        "--samples",
        "2",
        "--out",
        out,
        *more,
    )


def test_file(tiny_model, tmp_path, run):
    paths = write(tmp_path / "a.json", squad()), write(tmp_path / "b.json", hotpotqa())
    command = qa(tiny_model, tmp_path, "--squad", paths[0], "--hotpotqa", paths[1])
    assert run("prepare", *command).code == 0
    with h5py.File(tmp_path / "tiny/qa_1-2048-s1-n2.h5") as file:
        assert file.attrs["score"] == "part" and file.attrs["max_new_tokens"] == 32
        assert file.attrs["text_source"] == "a.json" and len(file.attrs["text_sha256"]) == 64
        assert (
            file.attrs["first_line"] == 0
            and file.attrs["lengths"] == "exact"
            and "classes" not in file
        )
    assert run("prepare", *command).err.count("up to date") == 2
    write(paths[0], squad(articles=7))
    assert run("prepare", *command).err.count("wrote") == 1


def test_absent_files_are_skipped(tiny_model, tmp_path, run, monkeypatch):
    monkeypatch.setattr("swbench_data.cli.EXTERNAL", tmp_path / "datasets/external")
    result = run("prepare", *qa(tiny_model, tmp_path, task="qa_1,niah_single_1,qa_2"))
    assert result.code == 0 and result.err.count("wrote") == 1
    skipped = [line for line in result.err.splitlines() if " is skipped: " in line]
    assert (
        len(skipped) == 2
        and "qa_1 is skipped" in skipped[0]
        and "datasets/external/squad.json is not there" in skipped[0]
    )
    result = run("prepare", *qa(tiny_model, tmp_path))
    assert result.code == 2 and result.err.count(" is skipped: ") == 2  # nothing at all was made


def test_named_file_must_be_there(tiny_model, tmp_path, refused):
    refused(
        "--squad",
        "prepare",
        *qa(tiny_model, tmp_path, "--squad", tmp_path / "no.json", task="qa_1"),
    )


def changed(change, document):
    change(document)
    return document


@pytest.mark.parametrize(
    "name, document, words",
    [
        ("squad", "{", "q.json: Expecting property name"),
        ("squad", "{\n\n}x", "Extra data at line 3, column 2"),
        ("squad", "[1]", "expected an object with 'data'"),
        ("squad", "[" * 100000, "nested too deep"),
        ("squad", '{"data": ' + "9" * 5000 + "}", "expected JSON of a benchmark"),
        ("squad", '{"data": []}', "has no question"),
        ("squad", '{"data": 3}', "'data' is 3, expected a list"),
        (
            "squad",
            '{"data": [{"paragraphs": [{"qas": []}]}]}',
            "data[0].paragraphs[0]: 'context' is missing, expected a text",
        ),
        (
            "squad",
            changed(lambda d: d["data"][1]["paragraphs"][2]["qas"].append(7), squad()),
            "data[1].paragraphs[2].qas[2]: 7",
        ),
        (
            "squad",
            changed(
                lambda d: d["data"][0]["paragraphs"][0]["qas"][0].update(question=None), squad()
            ),
            "'question' is None",
        ),
        (
            "squad",
            changed(
                lambda d: d["data"][0]["paragraphs"][0]["qas"][0].update(
                    answers=[{"text": "a\0b"}]
                ),
                squad(),
            ),
            "NUL",
        ),
        (
            "squad",
            changed(lambda d: d["data"][0]["paragraphs"][0]["qas"][0].update(id="\ud800"), squad()),
            "'id' has a NUL or half a surrogate",
        ),
        (
            "squad",
            changed(lambda d: d["data"][0]["paragraphs"][0].update(context="\ud800"), squad()),
            "surrogate",
        ),
        (
            "squad",
            changed(
                lambda d: d["data"][0]["paragraphs"][0]["qas"].extend(
                    squad(1, 1)["data"][0]["paragraphs"][0]["qas"]
                ),
                squad(1, 1),
            ),
            "has no documents but the question's",
        ),
        ("squad", squad(1, 2), None),
        ("hotpotqa", "{}", "is {}, expected a list"),
        ("hotpotqa", [{"context": [["t"]]}], "[0].context: ['t'], expected [title, [sentence, …]]"),
        ("hotpotqa", [{"context": [["t", [4]]]}], "[0].context is 4, expected a text"),
        ("hotpotqa", [{"context": [["t", ["s"]]], "question": "q"}], "'answer' is missing"),
        ("hotpotqa", hotpotqa(1), "has 1 questions, expected at least 2"),
    ],
)
def test_bad_files(tiny_model, tmp_path, run, refused, name, document, words):
    task = {"squad": "qa_1", "hotpotqa": "qa_2"}[name]
    command = qa(
        tiny_model, tmp_path / "out", f"--{name}", write(tmp_path / "q.json", document), task=task
    )
    if words is None:
        assert run("prepare", *command).code == 0
        return
    refused(words, "prepare", *command)
    assert not list((tmp_path / "out").rglob("*.h5"))


def test_not_utf8(tiny_model, tmp_path, refused):
    (tmp_path / "q.json").write_bytes(b'{"data": "\xff"}')
    refused(
        "q.json: byte 10 is not UTF-8",
        "prepare",
        *qa(tiny_model, tmp_path, "--squad", tmp_path / "q.json", task="qa_1"),
    )
