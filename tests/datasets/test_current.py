"""A dataset counts as current only while everything that it was made from is as it was."""

import hashlib
import json
import shutil

import h5py
import pytest
from tokenizers import Tokenizer, normalizers

import test_prepare_longbench as longbench_files
import test_prepare_qa as qa_files
from swbench_data import prepare
from swbench_data.model_folder import ModelFolder
from swbench_data.tasks import TASKS
from swbench_data.tasks.task import Job, Text
from test_prepare_ruler import prose


@pytest.fixture
def model(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "tiny")


def edit_json(name, **changes):
    def change(folder):
        path = folder / name
        path.write_text(
            json.dumps({**(json.loads(path.read_text()) if path.is_file() else {}), **changes})
        )

    return change


def edit_template(folder):
    path = folder / "chat_template.jinja"
    path.write_text("{{ eos_token }}" + path.read_text())


def edit_tokenizer(folder):
    """The same tokens, found otherwise."""
    path = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save(path)


CHANGES = {
    "merges": edit_tokenizer,
    "token_table": edit_json("swbench.json", tokenizer_sha256="0" * 64),
    "vocab_size": edit_json("config.json", vocab_size=999),
    "bos": edit_json("config.json", bos_token_id=1),
    "no_bos": edit_json("config.json", bos_token_id=None),
    "eos": edit_json("config.json", eos_token_id=[1, 5]),
    "template": edit_template,
    "no_template": lambda folder: (folder / "chat_template.jinja").unlink(),
    "spelling": edit_json("tokenizer_config.json", bos_token="<s>"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_another_model(model, tmp_path, run, case):
    command = (
        "prepare",
        "--model",
        model,
        "--task",
        "niah_single_1",
        "--context",
        "1200",
        "--samples",
        "2",
        "--out",
        tmp_path / "out",
    )
    assert "wrote" in run(*command).err and "up to date" in run(*command).err
    CHANGES[case](model)
    assert "wrote" in run(*command).err and "up to date" in run(*command).err


def test_end_of_turn_tokens(model, tmp_path, run, monkeypatch):
    """What ends an answer besides eos is a rule of ours: it is in the list, and in no attribute."""
    command = (
        "prepare",
        "--model",
        model,
        "--task",
        "niah_single_1",
        "--context",
        "1200",
        "--samples",
        "2",
        "--out",
        tmp_path / "out",
    )
    assert "wrote" in run(*command).err
    monkeypatch.setattr("swbench_data.model_folder.END_OF_TURN", ("<|im_start|>",))
    assert "wrote" in run(*command).err
    with h5py.File(tmp_path / "out/tiny/niah_single_1-1200-s1-n2.h5") as file:
        assert file["stop_ids"][:].tolist() == [0, 1]


@pytest.mark.parametrize(
    "field, value",
    [
        ("score", "part"),
        ("max_new_tokens", 64),
        ("first_line", True),
        ("exact", False),
        ("uses_chat", False),
    ],
)
def test_another_task(model, tmp_path, run, monkeypatch, field, value):
    command = (
        "prepare",
        "--model",
        model,
        "--task",
        "niah_single_1",
        "--context",
        "1200",
        "--samples",
        "2",
        "--out",
        tmp_path / "out",
    )
    assert "wrote" in run(*command).err
    task = TASKS["niah_single_1"]
    monkeypatch.setitem(TASKS, "niah_single_1", type(task)(**{**vars(task), field: value}))
    assert "wrote" in run(*command).err


def test_another_generator_or_layout(model, tmp_path, run, monkeypatch):
    command = (
        "prepare",
        "--model",
        model,
        "--task",
        "niah_single_1",
        "--context",
        "1200",
        "--samples",
        "2",
        "--out",
        tmp_path / "out",
    )
    path = tmp_path / "out/tiny/niah_single_1-1200-s1-n2.h5"
    run(*command)
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 1
    assert "wrote" in run(*command).err
    with h5py.File(path, "a") as file:
        del file["stop_ids"]
    assert "wrote" in run(*command).err
    monkeypatch.setattr(prepare, "GENERATOR_VERSION", "0")
    assert "wrote" in run(*command).err and "up to date" in run(*command).err


# What each task generated under each version, as the beginning of a SHA-256. A change of prompts or
# answers that is meant needs a new GENERATOR_VERSION and a row of its own here, so that nobody's
# old dataset counts as current.
GENERATED = {
    "1": {
        "ppl_book": "1e892b0b0feee8c2",
        "niah_single_1": "0680a8a165d07120",
        "niah_single_2": "976d32b6bd6e385b",
        "niah_single_3": "4214b3ff926868cf",
        "niah_multikey_1": "33edb9fadec7032f",
        "niah_multikey_2": "0c0357ee71a81d73",
        "niah_multikey_3": "f1af8dea100c1a2b",
        "niah_multivalue": "072a6c4309c161f8",
        "niah_multiquery": "bc30bcfb4a9742e3",
        "vt": "bfcbcf54ef38408f",
        "vt_1": "b865fbf2ee759233",
        "vt_2": "ab3527e96a7df112",
        "vt_8": "abdde2d4c3e0a31d",
        "chain_0": "f4d82201dfe93cc4",
        "chain_1": "2fff4e3668a755fe",
        "chain_2": "35e55866b54ffb2e",
        "chain_3": "7bba42bf23a2148a",
        "chain_4": "679422e774ca8632",
        "chain_6": "8a0c6f576d166295",
        "chain_8": "17cd1f9d01e99a4c",
        "chain_1_forward": "4f8c20b47a97f300",
        "chain_1_reverse": "5f230e1f4d962e93",
        "chain_2_forward": "fa4db2a0bd66cd14",
        "chain_2_reverse": "75ebad82cb20dfa0",
        "chain_4_forward": "c0817647efb88d5b",
        "chain_4_reverse": "b89e9710cc04d930",
        "chain_8_forward": "e3ce367c617c087a",
        "chain_8_reverse": "047016c79a81334b",
        "chain_1_list": "474b6cc97c32911a",
        "chain_2_list": "a35dc62ceb9c79df",
        "chain_4_list": "a8ed90e30bf0f16e",
        "chain_1_near": "dc8f72f473e78418",
        "chain_2_near": "ef744a6bb8b2109f",
        "chain_4_near": "4b5682d4fb00e3df",
        "echo_request_1": "dbea9aec421ee0f2",
        "echo_request_2": "d7bbe36e7a32d965",
        "echo_request_4": "c528cf43b8db71a4",
        "facts_1": "a84ba7a28aa08594",
        "facts_2": "550327fd00ce2e14",
        "facts_3": "03f767dc2aef3b78",
        "graphwalks_1": "bf82c2d984bea62e",
        "graphwalks_2": "cbb18a52dd10934b",
        "graphwalks_3": "cda4123ad6ea5f4b",
        "latent_1": "0db4289a387bc970",
        "latent_2": "ee27d9dad81d75a7",
        "cwe": "5559d52ae0ae6d4b",
        "fwe": "69c92e560063b11c",
        "qa_1": "54bcae3ebaa101f7",
        "qa_2": "b5fd06190746a6a1",
        "longbench_narrativeqa": "ce550b86a92f0b41",
        "longbench_qasper": "c1f1f8d777f4d6b0",
        "longbench_multifieldqa_en": "a392b201c57122da",
        "longbench_hotpotqa": "a9be1c8d7bb670c7",
        "longbench_2wikimqa": "6b05b1bdb05e69a0",
        "longbench_musique": "73eddac85e30a7cb",
        "longbench_gov_report": "402aa4a92fa6d930",
        "longbench_qmsum": "5e9e98caf94660f1",
        "longbench_multi_news": "0cf1eacb6572c3a0",
        "longbench_trec": "3ee25fb7777c20e0",
        "longbench_triviaqa": "2e2628bbc37c4009",
        "longbench_samsum": "384f35c421303ebe",
        "longbench_passage_count": "fe604bc955816481",
        "longbench_passage_retrieval_en": "25f1d91d805bf26e",
        "longbench_lcc": "c747f7b63420fb59",
        "longbench_repobench-p": "ee982c49b7a37291",
    }
}


def job(model, name, folder):
    task, material = TASKS[name], None
    option = task.material and task.material.option
    if option == "text":
        material = Text(prose(), "prose.txt", "0" * 64)
    elif option == "longbench":
        short = name.removeprefix("longbench_")
        rows = [longbench_files.row(short, i) for i in range(1, 4)]
        material = task.material.read(longbench_files.write(folder, short, rows))
    elif option:
        document = qa_files.squad(12) if option == "squad" else qa_files.hotpotqa()
        material = task.material.read(qa_files.write(folder / f"{option}.json", document))
    return Job(task, model, 4000, 2, 3, material)


def test_a_change_of_prompts_raises_the_version(tiny_model, tmp_path):
    model, found = ModelFolder(tiny_model), {}
    for name, task in TASKS.items():
        samples = [
            [list(sample.ids), list(sample.references), str(sample.depth), sample.origin]
            for sample in task.make(job(model, name, tmp_path))
        ]
        found[name] = hashlib.sha256(json.dumps(samples).encode()).hexdigest()[:16]
    assert found == GENERATED.get(prepare.GENERATOR_VERSION)
