"""LongBench's English tasks from small files in the published layout."""

import hashlib
import json

import h5py
import numpy as np
import pytest

from swbench_data.model_folder import ModelFolder
from swbench_data.tasks import TASKS, longbench
from swbench_data.tasks.task import Job

# SHA-256 of config/dataset2prompt.json's entries and the numbers of config/dataset2maxlen.json
# (THUDM/LongBench at 2e00731), and the measure of eval.py; * for scored by the first line, ! for no
# chat template.
PUBLISHED = """
narrativeqa f1 128 aada7ed24b06abace5b0045ac3bcfe06fc831a6cf434f0ecfd99fb7b3d299e1c
qasper f1 128 0fbdd123fe7f83d6d6a9c583ca28cb29d68e523bf8fec01a0cf2dcd11037775d
multifieldqa_en f1 64 20b4666a2de8a1f701bdb6c4e015fa9f8758d64b361d841f7766df6c9ceba770
hotpotqa f1 32 9ec4ae308865bd0c62af20b3dc7b12b31f2b447f55684bd88c1aa40f2f636deb
2wikimqa f1 32 9ec4ae308865bd0c62af20b3dc7b12b31f2b447f55684bd88c1aa40f2f636deb
musique f1 32 9ec4ae308865bd0c62af20b3dc7b12b31f2b447f55684bd88c1aa40f2f636deb
gov_report rouge_l 512 91c25d585b189ced91c9280efcb4ecb5dcff9548cd4e3bfae66c68025b569e95
qmsum rouge_l 512 dca23b678fe0183bbd9555b57947022aed1b85739da5ad7e1b4708dd0c71c409
multi_news rouge_l 512 2af3f28c40b902e6535d4910510d51653613c49de9b2fc287c5958395061101d
trec*! classification 64 0eff8bebdba99d91e9d7d91b6ab39455ac74648bea92c9255c9f68c62175b2db
triviaqa*! f1 32 00a802e6377e72fca39b169cf6c28893bedf23ba7286b03ecd15867c3e27a7c4
samsum*! rouge_l 128 a68d884234907eefcaa0eacf7b2997f60fa46603988dceae6a44f9b49f045b3f
passage_count number 32 986550b6c61009c629a4535766d94b7b51e2b2b9e1ed169e4ecb54417466e964
passage_retrieval_en retrieval 32 39b96b7fa52bdd2aa2bde34ea199158505201b9a0a2c3ce94e80249293f60431
lcc! code 64 6a1f24cf0bb83cd90f1fca8f0dd24801626c2aaea29db834ddc83b950e71190e
repobench-p! code 64 ee9ec182ea5ffeb70a7140d55baea97264a8612d88226d323afa90859c36240c
"""
NAMES = [line.split()[0].rstrip("*!") for line in PUBLISHED.split("\n") if line]
CLASSES = ["Animal", "City"]


def row(name, i, **changes):
    answers = {
        "passage_retrieval_en": [f"Paragraph {i + 1}"],
        "passage_count": [str(i)],
        "trec": [CLASSES[i % 2]],
    }
    return {
        "input": f"input {i}",
        "context": f"context {i} of {{braces}}",
        "answers": answers.get(name, [f"answer {i}", "", "other"]),
        "length": 3,
        "dataset": name,
        "language": "en",
        "all_classes": CLASSES if name == "trec" else None,
        "_id": f"{name}-{i}",
        **changes,
    }


def write(folder, name, rows):
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.jsonl"
    path.write_text(
        "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in rows)
    )
    return path


@pytest.fixture(scope="module")
def model(tiny_model):
    return ModelFolder(tiny_model)


def make(model, name, rows, tmp_path, context=2048, samples=None, seed=1):
    task = TASKS[f"longbench_{name}"]
    material = task.material.read(write(tmp_path / "lb", name, rows))
    return task.make(Job(task, model, context, samples or len(rows), seed, material))


def decode(model, ids):
    return model.tokenizer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("line", PUBLISHED.strip().split("\n"), ids=lambda line: line.split()[0])
def test_as_published(line):
    name, score, new_tokens, sha256 = line.replace("*", "").replace("!", "").split()
    task = TASKS[f"longbench_{name}"]
    assert (task.score, task.max_new_tokens, task.exact) == (score, int(new_tokens), False)
    assert task.first_line == ("*" in line) and task.uses_chat == ("!" not in line)
    assert hashlib.sha256(task.make.args[0].encode()).hexdigest() == sha256


def test_there_are_16():
    assert sorted(NAMES) == sorted(
        name.removeprefix("longbench_") for name in TASKS if name.startswith("longbench_")
    )
    assert len(NAMES) == 16


def prompt_of(name, line):
    return (
        TASKS[f"longbench_{name}"]
        .make.args[0]
        .replace("{context}", line["context"])
        .replace("{input}", line["input"])
    )


@pytest.mark.parametrize("name", NAMES)
def test_prompts_and_answers(model, tmp_path, name):
    rows = [row(name, i) for i in range(5)]
    samples = make(model, name, rows, tmp_path, 4096)
    assert sorted(sample.origin for sample in samples) == [line["_id"] for line in rows]
    for sample in samples:
        (line,) = [line for line in rows if line["_id"] == sample.origin]
        text, prompt = decode(model, sample.ids), prompt_of(name, line)
        if TASKS[f"longbench_{name}"].uses_chat:
            assert text == f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        else:
            assert text == f"<|im_start|>{prompt}" and sample.ids[0] == model.bos
        assert sample.references == [answer for answer in line["answers"] if answer]
        assert np.isnan(sample.depth)


@pytest.mark.parametrize("name", ["narrativeqa", "lcc", "trec"])
@pytest.mark.parametrize("context", [700, 701, 1000, 1777])
def test_the_middle_is_cut_out(model, tmp_path, name, context):
    long = " ".join(f"w{i}é" for i in range(2000))
    (sample,) = make(model, name, [row(name, 0, context=long)], tmp_path, context)
    budget = context - TASKS[f"longbench_{name}"].max_new_tokens
    assert budget - 3 <= len(sample.ids) <= budget
    prompt = prompt_of(name, row(name, 0, context=long))
    text = decode(model, sample.ids).removeprefix("<|im_start|>").removeprefix("user\n")
    text = text.removesuffix("<|im_end|>\n<|im_start|>assistant\n")
    ends = [
        n for n in range(len(text) + 1) if prompt.startswith(text[:n]) and prompt.endswith(text[n:])
    ]
    assert ends and "\ufffd" not in text
    tokens = [len(model.encode_text(part).ids) for part in (text[: ends[0]], text[ends[-1] :])]
    assert abs(tokens[0] - tokens[1]) <= 8


def test_too_short_for_a_template(model, tmp_path):
    with pytest.raises(
        longbench.TooShort,
        match="context 130 is too short for longbench_narrativeqa, expected at least",
    ):
        make(model, "narrativeqa", [row("narrativeqa", 0, context="word " * 500)], tmp_path, 130)


def test_special_tokens_in_a_benchmarks_text_stay_text(model, tmp_path):
    (sample,) = make(
        model, "qasper", [row("qasper", 0, context="a <|im_end|> b <|im_start|>")], tmp_path, 4096
    )
    ends = sample.ids.count(1)
    assert ends == 1 and "a <|im_end|> b <|im_start|>" in decode(model, sample.ids)


def test_order_is_drawn_and_the_same_for_every_context(model, tmp_path):
    rows = [row("musique", i) for i in range(20)]
    first = [s.origin for s in make(model, "musique", rows, tmp_path, 2048, 5)]
    assert first == [s.origin for s in make(model, "musique", rows, tmp_path, 4096, 10)][:5]
    assert first != [s.origin for s in make(model, "musique", rows, tmp_path, 2048, 5, seed=2)]


def arguments(tiny_model, tmp_path, task, samples=2):
    return (
        "--model",
        tiny_model,
        "--task",
        task,
        "--context",
        "2048",
        "--samples",
        samples,
        "--out",
        tmp_path / "out",
        "--longbench",
        tmp_path / "lb",
    )


def test_files(tiny_model, tmp_path, run):
    for name in ("trec", "lcc"):
        write(tmp_path / "lb", name, ["", *(row(name, i) for i in range(2)), ""])
    command = arguments(tiny_model, tmp_path, "longbench_trec,longbench_lcc,longbench_qmsum")
    result = run("prepare", *command)
    assert (
        result.code == 0
        and "longbench_qmsum is skipped" in result.err
        and result.err.count("wrote") == 2
    )
    with h5py.File(tmp_path / "out/tiny/longbench_trec-2048-s1-n2.h5") as file:
        assert file.attrs["score"] == "classification" and file.attrs["lengths"] == "at_most"
        assert file.attrs["first_line"] == 1 and file.attrs["first_line"].dtype == np.uint8
        assert [name.decode() for name in file["classes"][:]] == CLASSES and file["classes"].attrs[
            "units"
        ] == "text"
        assert (
            file.attrs["text_source"] == "trec.jsonl" and file.attrs["chat_template_sha256"] == ""
        )
    with h5py.File(tmp_path / "out/tiny/longbench_lcc-2048-s1-n2.h5") as file:
        assert (
            file.attrs["score"] == "code"
            and file.attrs["first_line"] == 0
            and "classes" not in file
        )
    assert run("prepare", *command).err.count("up to date") == 2
    write(tmp_path / "lb", "lcc", [row("lcc", i, input="new") for i in range(2)])
    assert run("prepare", *command).err.count("wrote") == 1


@pytest.mark.parametrize(
    "name, lines, words",
    [
        ("qasper", [], "qasper.jsonl: is empty"),
        ("qasper", ["  ", ""], "qasper.jsonl: is empty"),
        ("qasper", ['{"input": '], "qasper.jsonl:1: Expecting value at column"),
        (
            "qasper",
            [row("qasper", 0), "", "[]"],
            "qasper.jsonl:3: [], expected an object with 'context'",
        ),
        (
            "qasper",
            [row("qasper", 0), {"context": "c", "input": "i"}],
            "qasper.jsonl:2: '_id' is missing, expected a text",
        ),
        (
            "qasper",
            [row("qasper", 0, context=None)],
            "qasper.jsonl:1: 'context' is None, expected a text",
        ),
        ("qasper", [row("qasper", 0, input=["a" * 99])], "'input' is ['aaaa"),
        ("qasper", [row("qasper", 0, answers="yes")], "'answers' is 'yes', expected a list"),
        ("qasper", [row("qasper", 0, answers=[True])], "'answers' is True, expected a text"),
        ("qasper", [row("qasper", 0, answers=["", " "])], "'answers' has no answer"),
        ("qasper", [row("qasper", 0, answers=["a\0"])], "'answers' has a NUL"),
        ("qasper", [row("qasper", 0, _id="\udc00")], "half a surrogate pair"),
        ("qasper", [row("narrativeqa", 0)], "'dataset' is 'narrativeqa', expected 'qasper'"),
        ("qasper", [row("qasper", 0)], "qasper.jsonl: has 1 samples, expected at least 2"),
        (
            "qasper",
            ['{"input": "a", "_id": "b", "input": "c"}'],
            "qasper.jsonl:1: 'input' is there twice",
        ),
        ("qasper", ["[" * 100000], "qasper.jsonl:1: nested too deep"),
        ("qasper", ['{"length": ' + "1" * 5000 + "}"], "qasper.jsonl:1: Exceeds the limit"),
        (
            "trec",
            [row("trec", 0, all_classes=None)],
            "trec.jsonl:1: 'all_classes' is None, expected a list",
        ),
        ("trec", [row("trec", 0, all_classes=[1])], "'all_classes' is 1, expected a text"),
        (
            "trec",
            [row("trec", 0), row("trec", 1, all_classes=["City"])],
            "trec.jsonl:2: 'all_classes' is ['City'], expected the same",
        ),
        (
            "passage_retrieval_en",
            [row("passage_retrieval_en", 0, answers=["3"])],
            "expected a paragraph's number",
        ),
    ],
)
def test_bad_lines(tiny_model, tmp_path, refused, name, lines, words):
    write(tmp_path / "lb", name, lines)
    refused(words, "prepare", *arguments(tiny_model, tmp_path, f"longbench_{name}"))
    assert not list((tmp_path / "out").rglob("*.h5"))


def test_bytes_that_are_no_text(tiny_model, tmp_path, refused):
    path = write(tmp_path / "lb", "qasper", [row("qasper", 0)])
    path.write_bytes(path.read_bytes() + b"\xff\n")
    refused(
        "qasper.jsonl:2: byte 0 is not UTF-8",
        "prepare",
        *arguments(tiny_model, tmp_path, "longbench_qasper"),
    )


def test_huge_files(tiny_model, tmp_path, refused, monkeypatch):
    write(tmp_path / "lb", "qasper", [row("qasper", 0), row("qasper", 1, context="x" * (2 << 20))])
    monkeypatch.setattr("swbench_data.tasks.external.LARGEST_LINE", 1 << 20)
    refused(
        "qasper.jsonl:2: more than 1 MiB",
        "prepare",
        *arguments(tiny_model, tmp_path, "longbench_qasper"),
    )
    monkeypatch.setattr("swbench_data.tasks.external.LARGEST_FILE", 1 << 20)
    refused("qasper.jsonl: has", "prepare", *arguments(tiny_model, tmp_path, "longbench_qasper"))


def test_folder_must_be_there(tiny_model, tmp_path, refused):
    refused(
        "lb: not found, expected a folder",
        "prepare",
        *arguments(tiny_model, tmp_path, "longbench_qasper"),
    )


def test_list(run):
    result = run("prepare", "--list")
    lines = result.out.splitlines()
    assert result.code == 0 and len(lines) == 1 + len(TASKS)
    for line, task in zip(lines[1:], TASKS.values()):
        assert line.split()[:3] == [task.name, task.score, str(task.max_new_tokens or "-")]
    assert (
        "datasets/external/longbench/repobench-p.jsonl" in lines[-1]
        and "datasets/external/squad.json" in result.out
    )
