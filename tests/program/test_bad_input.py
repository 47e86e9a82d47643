"""Bad input of every kind: one line that says where, what was found and what was expected, the
right exit code, and nothing half-written."""

import csv
import io
import json
import os
import resource
import shutil
import signal
import struct

import h5py
import numpy as np
import pytest

import tiny
from conftest import EASY, swbench

NOISE = (
    "Traceback",
    "HDF5-DIAG",
    "Sanitizer",
    "runtime error",
    "core dumped",
    "Assertion",
    "(null)",
    "internal",
)


def judge(done, words, code=2):
    """The one line of a run that went wrong."""
    assert done.returncode == code, (
        f"exit {done.returncode}\n{done.stdout[-800:]}\n{done.stderr[-2000:]}"
    )
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert all(word in lines[0] for word in words), (words, lines[0])
    assert (
        not any(noise in lines[0] for noise in NOISE)
        and lines[0].isprintable()
        and len(lines[0]) < 800
    ), lines[0]


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refused(folder, config, *words, args=(), verbs=("run", "plan")):
    """Both verbs refuse the config in the same words, and leave no trace."""
    before = files(folder)
    for verb in verbs:
        judge(swbench(verb, config, *args), words)
        assert files(folder) == before


# --- the config -----------------------------------------------------------------------------------

TASK = {"kind": "task", "model": "m", "tasks": ["t"]}
SYNTHETIC = {"kind": "synthetic", "shape": "smollm2-135m"}
AXES = {"context": 64, "density": 0.5}

CHANGES = {
    "unknown_key": ({"mesure": []}, ["c.yaml:", "mesure", "unknown key", "'measure'"]),
    "key_elsewhere": ({"density": 0.5}, ["density", "axes"]),
    "unknown_axis": ({"axes": {**AXES, "contxt": 1}}, ["axes.contxt", "'context'"]),
    "wrong_type": ({"dense_layers": "two"}, ["dense_layers", "'two'", "integer"]),
    "list_for_one": ({"seed": [1, 2]}, ["seed", "a list", "integer"]),
    "map_for_list": ({"methods": {"name": "dense"}}, ["methods", "a mapping", "list"]),
    "text_for_map": ({"axes": "dense"}, ["axes", "'dense'", "mapping"]),
    "quoted_number": ({"dense_layers": "2"}, ["dense_layers", "2", "without quotes"]),
    "fraction": ({"dense_layers": 1.5}, ["dense_layers", "1.5", "integer"]),
    "nothing": ({"seed": ""}, ["seed", "integer"]),
    "density_0": ({"axes": {**AXES, "density": 0}}, ["axes.density", "'0'", "(0, 1]"]),
    "density_-1": ({"axes": {**AXES, "density": -1}}, ["axes.density", "'-1'", "(0, 1]"]),
    "density_1.5": ({"axes": {**AXES, "density": [0.5, 1.5]}}, ["axes.density", "'1.5'", "(0, 1]"]),
    "density_nan": ({"axes": {**AXES, "density": float("nan")}}, ["axes.density", "nan", "(0, 1]"]),
    "density_inf": ({"axes": {**AXES, "density": float("inf")}}, ["axes.density", "inf", "(0, 1]"]),
    "density_none": ({"axes": {**AXES, "density": []}}, ["axes.density", "empty list"]),
    "density_twice": (
        {"axes": {**AXES, "density": [0.5, 0.50]}},
        ["axes.density", "'0.5'", "twice"],
    ),
    "context_0": ({"axes": {**AXES, "context": 0}}, ["axes.context", "'0'"]),
    "context_huge": ({"axes": {**AXES, "context": 10**30}}, ["axes.context", "integer"]),
    "no_context": ({"axes": {"density": 0.5}}, ["axes.context", "missing"]),
    "seed_negative": ({"seed": -1}, ["seed", "'-1'"]),
    "seed_huge": ({"seed": 2**63}, ["seed", "expected an integer"]),
    "phase": ({"axes": {**AXES, "phase": "prefil"}}, ["axes.phase", "'prefil'", "prefill"]),
    "budget": ({"budget": "matchd"}, ["budget", "'matchd'", "matched"]),
    "measure": ({"measure": ["accurac"]}, ["measure", "'accurac'", "accuracy"]),
    "backend": ({"backend": "gpu"}, ["backend", "'gpu'", "cuda"]),
    "version": ({"version": 2}, ["version", "'2'"]),
    "no_version": ({"version": None}, ["version", "missing"]),
    "no_methods": ({"methods": []}, ["methods", "list"]),
    "name_is_a_path": ({"name": "../up"}, ["name", "'../up'"]),
    "unknown_method": ({"methods": ["onehopp"]}, ["methods[0]", "'onehopp'", "'onehop'"]),
    "unknown_param": (
        {"methods": [{"name": "oracle", "params": {"blocksize": 16}}]},
        ["blocksize", "'block_size'"],
    ),
    "bad_param": (
        {"methods": [{"name": "oracle", "params": {"block_size": 17}}]},
        ["block_size", "'17'", "16"],
    ),
    "bad_choice": (
        {"methods": [{"name": "oracle", "params": {"unit": "heads"}}]},
        ["unit", "'heads'", "head"],
    ),
    "contradicting_params": (
        {"methods": [{"name": "onehop", "params": {"per_head": True, "per_group": True}}]},
        ["per_head", "per_group"],
    ),
    "method_twice": ({"methods": ["dense", "dense"]}, ["methods[1]", "methods[0]"]),
    "unknown_kind": (
        {"workloads": [{"kind": "tensor", "path": "x"}]},
        ["workloads[0]", "'tensor'", "tensors"],
    ),
    "key_of_another_kind": (
        {"workloads": [{**SYNTHETIC, "samples": 3}]},
        ["workloads[0].samples", "synthetic"],
    ),
    "unknown_shape": (
        {"workloads": [{**SYNTHETIC, "shape": "llama-3.1-9b"}]},
        ["shape", "'llama-3.1-9b'", "'llama-3.1-8b'"],
    ),
    "unknown_model": ({"workloads": [TASK]}, ["datasets/models/m", "import_model.py"]),
    "missing_bundle": (
        {"workloads": [{"kind": "tensors", "path": "nowhere.h5"}]},
        ["nowhere.h5", "No such file"],
    ),
    "workload_twice": ({"workloads": [SYNTHETIC, {**SYNTHETIC}]}, ["workloads"]),
    "samples_0": ({"workloads": [{**TASK, "samples": 0}]}, ["samples", "'0'"]),
    "recovery_samples": (
        {"workloads": [{**TASK, "samples": 2, "recovery_samples": 3}]},
        ["recovery_samples", "3", "2"],
    ),
    "task_is_a_path": ({"workloads": [{**TASK, "tasks": ["../x"]}]}, ["tasks", "'../x'"]),
    "control_character": ({"output": "a\tb"}, ["output", "one line"]),
}


@pytest.mark.parametrize("case", CHANGES)
def test_config_value(world, tmp_path, case):
    changes, words = CHANGES[case]
    config = world.config(
        tmp_path / "c.yaml",
        **{"workloads": [SYNTHETIC], "axes": AXES, "methods": ["oracle"], **changes},
    )
    refused(tmp_path, config, *words)
    if case not in (
        "unknown_model",
        "missing_bundle",
        "workload_twice",
        "contradicting_params",
    ):  # these need more than the file
        judge(swbench("validate", config), words)


LAYERS = {
    "anchors_not_ascending": (dict(anchors="3,2"), ["anchors", "'3,2'", "ascending"]),
    "anchors_no_numbers": (dict(anchors="all"), ["anchors", "'all'", "2,8,13"]),
    "anchors_and_every": (dict(anchors="2", every=3), ["anchors and every"]),
    "anchors_of_no_preset": (dict(choose="given"), ["choose: given", "anchors"]),
    "heads_too_few": (dict(heads="0,1", share="group"), ["heads: layer 0, list 1", "below 3"]),
    "heads_missing": (dict(map="similarity"), ["map: similarity needs heads"]),
    "heads_for_nothing": (dict(map="identity", heads="0"), ["heads", "map: identity"]),
}


@pytest.mark.parametrize("case", LAYERS)
def test_layers_of_reuse(world, tmp_path, case):
    params, words = LAYERS[case]
    methods = [{"name": "reuse", "params": params}]
    config = world.config(tmp_path / "c.yaml", workloads=[SYNTHETIC], axes=AXES, methods=methods)
    refused(tmp_path, config, "reuse", *words)


TEXTS = {
    "empty": (b"", ["config"]),
    "scalar": (b"hello", ["hello", "config"]),
    "syntax": (b"version: 1\nname: [a, b\nseed: 1\n", ["not valid YAML"]),
    "tab": (b"version: 1\n\tname: a\n", ["not valid YAML"]),
    "binary": (bytes(range(256)) * 8, ["not YAML"]),
    "zeros": (b"\0" * 4096, ["not YAML"]),
    "truncated_utf8": (b"version: 1\nname: \xe2\x82", ["not YAML"]),
    "duplicate_keys": (b"version: 1\nversion: 1\n", [":2:", "'version'", "twice"]),
    "deep_lists": (b"version: " + b"[" * 100000, ["12 levels"]),
    "deep_maps": (b"{a: " * 50000, ["12 levels"]),
    "huge": (b"# " + b"x" * (3 << 20), ["1 MiB"]),
    "many_values": (b"version: [" + b"1," * 50000 + b"1]", ["10000 values"]),
    "billion_laughs": (b"a: &a [x, x]\nb: &b [*a, *a]\n", ["anchors"]),
    "tag": (b"version: !!python/object:os.system 1\n", ["tags"]),
    "two_documents": (b"version: 1\n---\nversion: 1\n", [":2:", "second document"]),
    "merge_key": (
        b"<<: {version: 1}\nname: x\nworkloads: [{kind: synthetic, shape: qwen2-7b}]\nmethods: "
        b"[dense]\naxes: {context: 64}\n",
        ["<<"],
    ),
}


@pytest.mark.parametrize("case", TEXTS)
def test_config_text(tmp_path, case):
    text, words = TEXTS[case]
    config = tmp_path / "c.yaml"
    config.write_bytes(text)
    for verb in ("run", "plan", "validate"):
        done = swbench(verb, config, cwd=tmp_path)
        if case == "merge_key":  # two things are wrong
            assert done.returncode == 2 and "<<" in done.stderr
        else:
            judge(done, ["c.yaml", *words])
    assert files(tmp_path) == ["c.yaml"]


def test_every_problem_is_listed(world, tmp_path):
    config = world.config(
        tmp_path / "c.yaml", mesure=1, seed="x", axes={"context": 64, "density": 2}
    )
    lines = swbench("validate", config, check=2).stderr.splitlines()
    assert [any(word in line for line in lines) for word in ("mesure", "seed", "density")] == [
        True
    ] * 3 and len(lines) == 3


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args, words",
    [
        ([], ["verb"]),
        (["rnu"], ["'rnu'", "'run'"]),
        (["run"], ["too few", "CONFIG"]),
        (["run", "a", "b"], ["too many"]),
        (["run", "nowhere.yaml"], ["nowhere.yaml", "No such file"]),
        (["run", "."], [".", "directory"]),
        (["run", "x", "--limt", "3"], ["'--limt'", "'--limit'"]),
        (["run", "x", "--limit"], ["--limit", "N"]),
        (["run", "x", "--limit", "-1"], ["--limit", "-1"]),
        (["run", "x", "--limit", "many"], ["--limit", "many"]),
        (["run", "x", "-q=1"], ["-q", "no value"]),
        (["plan", "x", "--fresh"], ["'--fresh'"]),
        (["ls", "method"], ["'method'", "'methods'"]),
        (["ls"], ["too few"]),
        (["help", "sketchwlak"], ["'sketchwlak'", "'sketchwalk'"]),
        (["export", "nowhere"], ["nowhere", "No such file"]),
        (["export", "/dev/null"], ["/dev/null"]),
        (["report", "/"], ["/", "cells"]),
        (["export", ".", "--format", "xml"], ["--format", "'xml'", "csv"]),
        (["report", ".", "--format", "html"], ["--format", "'html'", "md"]),
        (["export", ".", "--metric", "pll"], ["--metric", "'pll'", "'ppl'"]),
        (["validate"], ["too few"]),
        (["validate", "nowhere"], ["nowhere", "No such file"]),
        (["validate", "/"], ["/", "expected"]),
        (["validate", "/dev/null"], ["/dev/null"]),
    ],
)
def test_arguments(tmp_path, args, words):
    judge(swbench(*args, cwd=tmp_path), words)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "setting, words",
    [
        ("seed", ["KEY=VALUE"]),
        ("=1", ["KEY=VALUE"]),
        ("seed=x", ["--set", "seed", "'x'"]),
        ("nosuch=1", ["nosuch", "unknown key"]),
        ("axes.density=[0.5", ["--set", "YAML"]),
        ("axes.density=2", ["axes.density", "'2'"]),
        ("methods.7.name=dense", ["7"]),
        ("methods[0].name=denze", ["'denze'", "'dense'"]),
        ("name.first=x", ["--set", "name.first"]),
        ("axes..density=0.1", ["empty step"]),
        ("seed=", ["seed", "nothing"]),
        ("backend=gpu", ["backend", "gpu"]),
        ("output=", ["output"]),
    ],
)
def test_set(world, tmp_path, setting, words):
    config = world.config(tmp_path / "c.yaml", methods=[{"name": "dense"}, {"name": "oracle"}])
    refused(tmp_path, config, *words, args=["--set", setting])


@pytest.mark.parametrize("threads", ["x", "2x", "-1", "99999999999", "1e3"])
def test_threads_of_the_environment(world, tmp_path, threads):
    config = world.config(tmp_path / "c.yaml", threads=0)
    judge(
        swbench("run", config, env={"SWBENCH_THREADS": threads}),
        ["SWBENCH_THREADS", f"'{threads}'", "integer"],
    )
    assert files(tmp_path) == ["c.yaml"]


# --- models and weights ---------------------------------------------------------------------------


def header_of(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def write_safetensors(path, header, data, size=None):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    path.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + data)


def edit_header(edit, size=None, name="model.safetensors"):
    def change(folder):
        header, data = header_of(folder / name)
        write_safetensors(folder / name, edit(header) or header, data, size)

    return change


def entry(name, **values):
    return edit_header(lambda header: header[name].update(values))


def drop(name):
    return edit_header(lambda header: header.pop(name) and None)


def overlap(header):
    a, b = (
        header["model.layers.0.self_attn.k_proj.weight"],
        header["model.layers.1.self_attn.k_proj.weight"],
    )
    b["data_offsets"] = a["data_offsets"]


def cut(count, name="model.safetensors"):
    def change(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:count])

    return change


def config_json(**values):
    def change(folder):
        config = {**tiny.CONFIG, **values}
        (folder / "config.json").write_text(
            json.dumps({key: value for key, value in config.items() if value != "absent"})
        )

    return change


def text_file(name, text):
    return lambda folder: (folder / name).write_text(text)


def remove(name):
    return lambda folder: (folder / name).unlink()


Q, HEAD = "model.layers.1.self_attn.q_proj.weight", "lm_head.weight"
MODELS = {
    "no_file": (remove("model.safetensors"), ["safetensors"]),
    "empty_file": (cut(0), ["model.safetensors", "0 bytes"]),
    "seven_bytes": (cut(7), ["model.safetensors", "7 bytes"]),
    "cut_in_header": (cut(200), ["model.safetensors", "header length"]),
    "cut_in_data": (cut(60000), ["model.safetensors", "data bytes"]),
    "header_length_0": (edit_header(lambda header: None, 0), ["header length 0"]),
    "header_length_huge": (
        edit_header(lambda header: None, 2**64 - 1),
        ["header length 18446744073709551615"],
    ),
    "header_length_beyond": (edit_header(lambda header: None, 10**7), ["header length 10000000"]),
    "header_length_short": (edit_header(lambda header: None, 100), ["header", "JSON"]),
    "header_a_list": (edit_header(lambda header: b"[1, 2, 3]"), ["header", "JSON object"]),
    "header_deep": (edit_header(lambda header: b"[" * 100000), ["header", "JSON"]),
    "header_binary": (edit_header(lambda header: b"\xff\xfe\0\1" * 8), ["header", "JSON"]),
    "header_duplicates": (edit_header(lambda header: b'{"a": 1, "a": 2}'), ["header"]),
    "offsets_beyond": (entry(Q, data_offsets=[0, 10**12]), [Q, "data_offsets"]),
    "offsets_huge": (entry(Q, data_offsets=[2**63 - 8, 2**63 - 1]), [Q, "data_offsets"]),
    "offsets_past_int64": (entry(Q, data_offsets=[0, 2**64]), ["header"]),
    "offsets_negative": (entry(Q, data_offsets=[-4, 16380]), [Q, "data_offsets"]),
    "offsets_backwards": (entry(Q, data_offsets=[16384, 0]), [Q, "data_offsets"]),
    "offsets_texts": (entry(Q, data_offsets=["0", "4"]), [Q, "data_offsets"]),
    "offsets_one": (entry(Q, data_offsets=[0]), [Q, "data_offsets"]),
    "offsets_overlap": (edit_header(overlap), ["overlap", "k_proj"]),
    "too_few_bytes": (entry(Q, data_offsets=[0, 4096]), [Q, "4096 bytes"]),
    "shape_wrong": (entry(Q, shape=[32, 128]), [Q, "32", "64"]),
    "shape_flat": (entry(Q, shape=[4096]), [Q]),
    "shape_overflow": (entry(Q, shape=[2**32, 2**32]), [Q, "shape"]),
    "shape_negative": (entry(Q, shape=[-64, -64]), [Q, "shape"]),
    "shape_fraction": (entry(Q, shape=[64.5, 64]), [Q, "shape"]),
    "shape_missing": (edit_header(lambda header: header[Q].pop("shape") and None), [Q, "shape"]),
    "dtype_unknown": (entry(Q, dtype="F8_E4M3"), [Q, "F8_E4M3", "F32"]),
    "dtype_integer": (entry(Q, dtype="I32"), [Q, "F32"]),
    "dtype_f64": (entry(Q, dtype="F64"), [Q, "F64"]),
    "tensor_missing": (drop(Q), [Q, "missing"]),
    "head_missing": (drop(HEAD), [HEAD, "missing"]),
    "weights_a_folder": (
        lambda folder: (folder / "model.safetensors").unlink()
        or (folder / "model.safetensors").mkdir(),
        ["model.safetensors"],
    ),
    "index_to_nowhere": (
        text_file("model.safetensors.index.json", '{"weight_map": {"a": "none.safetensors"}}'),
        ["none.safetensors"],
    ),
    "index_outside": (
        text_file("model.safetensors.index.json", '{"weight_map": {"a": "../x.safetensors"}}'),
        ["../x.safetensors"],
    ),
    "index_broken": (
        text_file("model.safetensors.index.json", '{"weight_map": 3}'),
        ["index.json", "weight_map"],
    ),
    "no_config": (remove("config.json"), ["config.json"]),
    "config_broken": (text_file("config.json", '{"hidden_size": 64,'), ["config.json:1"]),
    "config_a_list": (text_file("config.json", "[]"), ["config.json", "object"]),
    "config_deep": (text_file("config.json", "[" * 100000), ["config.json"]),
    "rope_type": (
        config_json(rope_scaling={"rope_type": "longrope", "factor": 2.0}),
        ["rope_type", "longrope", "llama3"],
    ),
    "rope_nameless": (config_json(rope_scaling={"factor": 2.0}), ["rope_scaling", "rope_type"]),
    "rope_factor": (config_json(rope_scaling={"rope_type": "linear", "factor": 0}), ["factor"]),
    "sliding_window": (config_json(model_type="mistral", sliding_window=128), ["sliding_window"]),
    "model_type": (config_json(model_type="mamba"), ["model_type", "'mamba'", "llama"]),
    "no_model_type": (config_json(model_type="absent"), ["model_type", "missing"]),
    "activation": (config_json(hidden_act="gelu"), ["hidden_act", "'gelu'", "silu"]),
    "attention_bias": (config_json(attention_bias=True), ["attention_bias"]),
    "no_hidden_size": (config_json(hidden_size="absent"), ["hidden_size", "missing"]),
    "no_eps": (config_json(rms_norm_eps="absent"), ["rms_norm_eps", "missing"]),
    "layers_text": (config_json(num_hidden_layers="3"), ["num_hidden_layers", "integer"]),
    "layers_negative": (config_json(num_hidden_layers=-3), ["num_hidden_layers", "integer"]),
    "heads_uneven": (config_json(num_key_value_heads=3), ["num_key_value_heads", "multiple"]),
    "head_dim_odd": (config_json(head_dim=15), ["head_dim", "15"]),
    "too_many_layers": (config_json(num_hidden_layers=4), ["model.layers.3", "missing"]),
    "other_vocabulary": (config_json(vocab_size=300), ["300"]),
    "no_manifest": (remove("swbench.json"), ["swbench.json"]),
    "manifest_broken": (text_file("swbench.json", "{"), ["swbench.json"]),
    "manifest_of_another": (
        lambda folder: tiny.write_manifest(folder, files={"tokenizer.safetensors": "0" * 64}),
        ["tokenizer", "differs"],
    ),
    "no_tokenizer": (remove("tokenizer.safetensors"), ["tokenizer.safetensors"]),
    "tokenizer_cut": (cut(500, "tokenizer.safetensors"), ["tokenizer.safetensors"]),
    "tokenizer_offsets": (
        edit_header(
            lambda header: header["token_offsets"].update(dtype="U8", shape=[2056]),
            name="tokenizer.safetensors",
        ),
        ["tokenizer.safetensors", "token_offsets I64"],
    ),
    "tokenizer_special": (
        edit_header(
            lambda header: header.pop("token_special") and None, name="tokenizer.safetensors"
        ),
        ["tokenizer.safetensors", "token_special"],
    ),
}
SHAPES_OF_THE_CONFIG = ("other_vocabulary",)  # judged against the dataset first
NOT_A_MODELS = (
    "no_manifest",
    "manifest_broken",
    "manifest_of_another",
    "no_tokenizer",
    "tokenizer_cut",
    "tokenizer_offsets",
    "tokenizer_special",
)


@pytest.mark.parametrize("case", MODELS)
def test_model(world, tmp_path, case):
    change, words = MODELS[case]
    folder = tmp_path / "models" / tiny.NAME
    shutil.copytree(world.model, folder)
    change(folder)
    workload = {
        "kind": "task",
        "model": str(folder),
        "data": str(world.data),
        "tasks": ["ppl_tiny"],
        "samples": 2,
    }
    config = world.config(tmp_path / "c.yaml", workloads=[workload], methods=["dense"])
    if case in SHAPES_OF_THE_CONFIG:
        words = ["tokenizer"]
    refused(tmp_path, config, *words, verbs=["run"])
    if case not in SHAPES_OF_THE_CONFIG + NOT_A_MODELS:
        done = swbench("validate", folder, check=2)
        assert any(all(word in line for word in words) for line in done.stderr.splitlines()), (
            done.stderr
        )


def test_context_beyond_the_models(world, tmp_path):
    config = world.config(tmp_path / "c.yaml", axes={"context": 2048, "density": 0.5})
    refused(tmp_path, config, "axes.context", "2048", str(tiny.LONGEST))


# --- datasets -------------------------------------------------------------------------------------


def ids_with(value):
    windows = [ids.copy() for ids in tiny.windows(2)]
    windows[1][7] = value
    return np.concatenate(windows).astype(np.int32)


def offsets(*values):
    return {"offsets": np.array(values, np.int64)}


N = tiny.CONTEXT
DATASETS = {
    "format": ({"format": "other"}, {}, ["format", "swbench-dataset"]),
    "no_format": ({"format": None}, {}, ["format"]),
    "version": ({"version": 3}, {}, ["version", "3"]),
    "older_version": (
        {"version": 1, "special_ids": None},
        {},
        ["version", "found 1", "prepare.py"],
    ),
    "other_tokenizer": ({"tokenizer_sha256": "0" * 64}, {}, ["tokenizer", "differs"]),
    "other_merges": (
        {"tokenizer_json_sha256": "0" * 64},
        {},
        ["tokenizer", "differs", "prepare.py"],
    ),
    "no_tokenizer_json": ({"tokenizer_json_sha256": None}, {}, ["tokenizer_json_sha256"]),
    "other_template": (
        {"chat_template_sha256": "0" * 64},
        {},
        ["chat template", "differs", "prepare.py"],
    ),
    "other_bos": (
        {"special_ids": json.dumps({"bos_token_id": 7, "eos_token_id": tiny.EOS})},
        {},
        ["bos_token_id", "differs", "prepare.py"],
    ),
    "other_eos": (
        {"special_ids": json.dumps({"bos_token_id": tiny.BOS, "eos_token_id": [tiny.EOS, 9]})},
        {},
        ["eos_token_id", "differs"],
    ),
    "special_ids_broken": ({"special_ids": "[1"}, {}, ["bos_token_id", "differs"]),
    "other_vocabulary": ({"vocab_size": 300}, {}, ["tokenizer", "differs"]),
    "no_vocabulary": ({"vocab_size": None}, {}, ["vocab_size"]),
    "other_context": ({"context": N + 1}, {}, ["context", str(N + 1), str(N)]),
    "other_samples": ({"n_samples": 3}, {}, ["3", "2"]),
    "samples_0": ({"n_samples": 0}, {}, ["n_samples", "0"]),
    "samples_text": ({"n_samples": "2"}, {}, ["n_samples", "integer"]),
    "score": ({"score": "best"}, {}, ["score", "ppl"]),
    "scored_0": ({"scored_tokens": 0}, {}, ["scored_tokens"]),
    "scored_all": ({"scored_tokens": N}, {}, ["scored_tokens"]),
    "scored_negative": ({"scored_tokens": -1}, {}, ["scored_tokens", "-1"]),
    "id_too_large": ({}, {"ids": ids_with(tiny.VOCAB)}, ["256", "vocabulary"]),
    "id_negative": ({}, {"ids": ids_with(-1)}, ["-1", "vocabulary"]),
    "id_past_int32": ({}, {"ids": ids_with(0).astype(np.int64) + (1 << 32)}, ["vocabulary"]),
    "ids_real": ({}, {"ids": ids_with(0).astype(float)}, ["ids", "integer"]),
    "ids_square": ({}, {"ids": ids_with(0).reshape(2, N)}, ["ids"]),
    "no_ids": ({}, {"ids": None}, ["ids", "missing"]),
    "too_few_ids": ({}, {"ids": ids_with(0)[:-1]}, ["offsets", str(2 * N)]),
    "offsets_uneven": ({}, offsets(0, 5, 2 * N), ["sample 0", "5"]),
    "offsets_backwards": ({}, offsets(0, 400, 2 * N), ["offsets"]),
    "offsets_negative": ({}, offsets(0, -5, 2 * N), ["offsets"]),
    "offsets_huge": ({}, offsets(0, 2**62, 2 * N), ["offsets"]),
    "offsets_short": ({}, offsets(0, 2 * N), ["offsets"]),
    "offsets_empty": ({}, offsets(), ["offsets"]),
    "no_offsets": ({}, {"offsets": None}, ["offsets", "missing"]),
    "no_stop_ids": ({}, {"stop_ids": None}, ["stop_ids"]),
}


@pytest.mark.parametrize("case", DATASETS)
def test_dataset(world, tmp_path, case):
    attributes, values, words = DATASETS[case]
    path = tiny.write_dataset(
        tiny.dataset_path(tmp_path, "ppl_tiny", 2),
        world.model,
        tiny.windows(2),
        attributes=attributes,
        values=values,
    )
    workload = {
        "kind": "task",
        "model": str(world.model),
        "data": str(tmp_path),
        "tasks": ["ppl_tiny"],
        "samples": 2,
    }
    config = world.config(tmp_path / "c.yaml", workloads=[workload], methods=["dense"])
    refused(tmp_path, config, path.name, *words, verbs=["run"])


CLASSES = {"score": "classification"}
ANSWERS = {
    "no_references": ({}, {"references": None}, ["references"]),
    "references_numbers": ({}, {"references": np.array([1, 2])}, ["references"]),
    "reference_empty": (
        {},
        {"references": np.array(["a", ""], dtype=object)},
        ["reference", "empty"],
    ),
    "reference_offsets": ({}, {"reference_offsets": np.array([0, 0, 2])}, ["reference_offsets"]),
    "no_room": ({"max_new_tokens": N}, {}, ["max_new_tokens"]),
    "other_room": ({"max_new_tokens": tiny.NEW + 1}, {}, ["sample 0", str(N)]),
    "scored_like_ppl": ({"score": "ppl"}, {}, ["scored_tokens"]),
    "scored_too": ({"scored_tokens": 3}, {}, ["max_new_tokens", "scored_tokens 3"]),
    "score_unknown": ({"score": "f2"}, {}, ["score", "f1", "rouge_l", "retrieval"]),
    "score_number": ({"score": 3}, {}, ["score", "text"]),
    "first_line_2": ({"first_line": 2}, {}, ["first_line", "2", "0…1"]),
    "first_line_text": ({"first_line": "yes"}, {}, ["first_line", "integer"]),
    "lengths_unknown": ({"lengths": "any"}, {}, ["lengths", "exact", "at_most"]),
    "lengths_number": ({"lengths": 1}, {}, ["lengths", "text"]),
    "lengths_exact": ({"lengths": "exact", "context": N + 1}, {}, ["context"]),
    "longer_than_at_most": (
        {"lengths": "at_most", "max_new_tokens": tiny.NEW + 1},
        {},
        ["sample 0", "at most", str(N)],
    ),
    "no_classes": (CLASSES, {}, ["classes"]),
    "classes_none": (CLASSES, {"classes": np.array([], dtype=object)}, ["classes"]),
    "classes_empty": (
        CLASSES,
        {"classes": np.array(["a", ""], dtype=object)},
        ["classes", "empty"],
    ),
    "classes_numbers": (CLASSES, {"classes": np.array([1, 2])}, ["classes"]),
    "classes_square": (CLASSES, {"classes": np.array([["a"], ["b"]], dtype=object)}, ["classes"]),
    "no_paragraph": (
        {"score": "retrieval"},
        {"references": np.array(["Paragraph 1", "Paragraph one"], dtype=object)},
        ["Paragraph", "retrieval"],
    ),
    "depth_short": ({}, {"depth": np.array([0.5])}, ["depth", "2"]),
    "depth_whole": ({}, {"depth": np.array([0, 1])}, ["depth"]),
    "depth_square": ({}, {"depth": np.array([[0.5], [0.5]])}, ["depth"]),
    "hops_flat": ({}, {"hops": np.array([0, 3]), "hop_offsets": np.array([0, 1, 2])}, ["hops"]),
    "hops_threes": (
        {},
        {"hops": np.array([[0, 3, 4], [1, 2, 4]]), "hop_offsets": np.array([0, 1, 2])},
        ["hops"],
    ),
    "hops_backwards": (
        {},
        {"hops": np.array([[3, 3], [1, 2]]), "hop_offsets": np.array([0, 1, 2])},
        ["hops", "3 to 3"],
    ),
    "hops_beyond": (
        {},
        {"hops": np.array([[0, 3], [1, 10**6]]), "hop_offsets": np.array([0, 1, 2])},
        ["hops", "1000000"],
    ),
    "hops_of_nobody": ({}, {"hops": np.array([[0, 3], [1, 2]])}, ["hop_offsets"]),
    "hop_offsets_short": (
        {},
        {"hops": np.array([[0, 3], [1, 2]]), "hop_offsets": np.array([0, 2])},
        ["hop_offsets"],
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_dataset_of_prompts(world, tmp_path, case):
    attributes, values, words = ANSWERS[case]
    path = tiny.write_dataset(
        tiny.dataset_path(tmp_path, "echo_tiny", 2),
        world.model,
        tiny.prompts(2),
        [["a"], ["b"]],
        attributes=attributes,
        values=values,
    )
    workload = {
        "kind": "task",
        "model": str(world.model),
        "data": str(tmp_path),
        "tasks": ["echo_tiny"],
        "samples": 2,
    }
    config = world.config(tmp_path / "c.yaml", workloads=[workload], methods=["dense"])
    refused(tmp_path, config, path.name, *words, verbs=["run"])
    lines = swbench("validate", path, check=2).stderr.splitlines()
    assert (
        lines
        and all(path.name in line for line in lines)
        and not any(noise in line for noise in NOISE for line in lines)
    ), lines


def test_depth_beyond_the_haystack(world, tmp_path):
    path = tiny.write_dataset(
        tmp_path / "d.h5",
        world.model,
        tiny.prompts(2),
        [["a"], ["b"]],
        values={"depth": np.array([np.nan, 1.5])},
    )
    judge(swbench("validate", path), ["d.h5", "depth", "1.5", "[1]"])


def test_every_problem_of_a_dataset_is_listed(world, tmp_path):
    path = tiny.write_dataset(
        tmp_path / "d.h5",
        world.model,
        tiny.prompts(2),
        [["a"], ["b"]],
        attributes={"score": "f2", "first_line": 7, "lengths": "some"},
    )
    lines = swbench("validate", path, check=2).stderr.splitlines()
    assert [any(word in line for line in lines) for word in ("score", "first_line", "lengths")] == [
        True
    ] * 3 and len(lines) == 3, lines
    path = tiny.write_dataset(
        tmp_path / "e.h5",
        world.model,
        tiny.prompts(2),
        [["Paragraph 1"], ["b"]],
        attributes={"score": "retrieval"},
        values={"depth": np.array([0.5]), "reference_offsets": np.array([0, 3, 2])},
    )
    lines = swbench("validate", path, check=2).stderr.splitlines()
    assert [
        any(word in line for line in lines)
        for word in ("references:", "depth", "reference_offsets")
    ] == [True] * 3 and len(lines) == 3, lines


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n" + b"\0" * 100, None])
def test_not_a_dataset(world, tmp_path, content):
    """None: half of a good one."""
    path = tiny.write_dataset(
        tiny.dataset_path(tmp_path, "ppl_tiny", 2), world.model, tiny.windows(2)
    )
    path.write_bytes(
        path.read_bytes()[: len(path.read_bytes()) // 2] if content is None else content
    )
    workload = {
        "kind": "task",
        "model": str(world.model),
        "data": str(tmp_path),
        "tasks": ["ppl_tiny"],
        "samples": 2,
    }
    refused(
        tmp_path,
        world.config(tmp_path / "c.yaml", workloads=[workload], methods=["dense"]),
        path.name,
        "HDF5",
        verbs=["run"],
    )


def test_no_dataset(world, tmp_path):
    workload = {
        "kind": "task",
        "model": str(world.model),
        "data": str(tmp_path),
        "tasks": ["no_such_task"],
        "samples": 2,
    }
    refused(
        tmp_path,
        world.config(tmp_path / "c.yaml", workloads=[workload]),
        "no_such_task",
        "prepare.py",
    )


# --- bundles --------------------------------------------------------------------------------------


def put(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return change


def spoil(name, value):
    def change(file):
        file[name][3, 1, 5] = value

    return change


def erase(name):
    def change(file):
        del file[name]

    return change


def normal(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


BUNDLES = {
    "format": ({"format": "tensors"}, None, ["format", "swbench-tensors"]),
    "no_format": ({"format": None}, None, ["format"]),
    "no_version": ({"version": None}, None, ["version"]),
    "no_heads": ({"n_heads": None}, None, ["n_heads", "integer"]),
    "heads_text": ({"n_heads": "four"}, None, ["n_heads", "integer"]),
    "heads_0": ({"n_heads": 0}, None, ["n_heads", "0"]),
    "heads_uneven": ({"n_kv_heads": 3}, None, ["n_heads", "multiple"]),
    "head_dim_wrong": ({"head_dim": 32}, None, ["/layer_000/q", "16", "32"]),
    "layers_too_many": ({"n_layers": 3}, None, ["/layer_002", "missing"]),
    "layers_huge": ({"n_layers": 2**40}, None, ["n_layers"]),
    "no_k": ({}, erase("layer_001/k"), ["/layer_001/k", "missing"]),
    "k_a_group": (
        {},
        lambda file: put("layer_001/k", 0)(file)
        or erase("layer_001/k")(file)
        or file.create_group("layer_001/k"),
        ["/layer_001/k"],
    ),
    "q_flat": ({}, put("layer_000/q", normal(200, 64)), ["/layer_000/q", "3"]),
    "k_of_q": ({}, put("layer_000/k", normal(200, 4, 16)), ["/layer_000/k", "[200, 4, 16]"]),
    "v_shorter": ({}, put("layer_000/v", normal(199, 2, 16)), ["/layer_000/v", "199", "200"]),
    "layer_shorter": (
        {},
        lambda file: [
            put(f"layer_001/{x}", normal(9, h, 16))(file) for x, h in zip("qkv", (4, 2, 2))
        ],
        ["/layer_001/q", "9"],
    ),
    "empty": (
        {},
        lambda file: [
            put(f"layer_{n:03d}/{x}", normal(0, h, 16))(file)
            for n in (0, 1)
            for x, h in zip("qkv", (4, 2, 2))
        ],
        ["/layer_000/q", "0 tokens"],
    ),
    "integers": (
        {},
        put("layer_000/q", np.ones((200, 4, 16), np.int32)),
        ["/layer_000/q", "integer", "float32"],
    ),
    "doubles": (
        {},
        put("layer_000/q", np.ones((200, 4, 16))),
        ["/layer_000/q", "float64", "float32"],
    ),
    "texts": ({}, put("layer_000/q", np.full((200, 4, 16), b"x")), ["/layer_000/q", "float32"]),
    "nan": ({}, spoil("layer_001/k", np.nan), ["/layer_001/k", "[3, 1, 5]"]),
    "infinity": ({}, spoil("layer_000/v", -np.inf), ["/layer_000/v", "[3, 1, 5]"]),
    "half_decode": (
        {},
        lambda file: file.create_dataset("decode/layer_000/q", data=normal(4, 4, 16)),
        ["/decode/layer_000/k", "missing"],
    ),
    "dangling_link": (
        {},
        lambda file: erase("layer_000/q")(file)
        or file.__setitem__("layer_000/q", h5py.ExternalLink("none.h5", "/q")),
        ["/layer_000/q"],
    ),
}


@pytest.mark.parametrize("case", BUNDLES)
def test_bundle(world, tmp_path, case):
    attributes, change, words = BUNDLES[case]
    path = tiny.write_bundle(tmp_path / "b.h5", attributes=attributes, change=change)
    config = world.config(tmp_path / "c.yaml", workloads=[{"kind": "tensors", "path": str(path)}])
    refused(tmp_path, config, "b.h5", *words, verbs=["run"])
    if case not in ("format", "no_format"):
        lines = swbench("validate", path, check=2).stderr.splitlines()
        assert all(word in lines[0] for word in words), lines


@pytest.mark.parametrize("content", [b"", b"q k v", b"\x89HDF\r\n\x1a\n" + b"\xff" * 500, None])
def test_not_a_bundle(world, tmp_path, content):
    path = tiny.write_bundle(tmp_path / "b.h5")
    path.write_bytes(path.read_bytes()[:30000] if content is None else content)
    config = world.config(tmp_path / "c.yaml", workloads=[{"kind": "tensors", "path": str(path)}])
    refused(tmp_path, config, "b.h5", "HDF5", verbs=["run"])


@pytest.mark.parametrize("size", [1 << 20, 2**64 - 8])
@pytest.mark.parametrize("kind", ["dataset", "bundle"])
def test_a_text_that_crashes_hdf5(world, tmp_path, kind, size):
    """The first text of the file says that it is longer than the heap it is in; HDF5 1.10 reads on,
    and would take the program with it."""
    workload = {
        "kind": "task",
        "model": str(world.model),
        "data": str(tmp_path),
        "tasks": ["echo_tiny"],
        "samples": 2,
    }
    if kind == "dataset":
        path = tiny.write_dataset(
            tiny.dataset_path(tmp_path, "echo_tiny", 2),
            world.model,
            tiny.prompts(2),
            [["a"], ["b"]],
        )
    else:
        path = tiny.write_bundle(tmp_path / "b.h5")
        workload = {"kind": "tensors", "path": str(path)}
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, data.index(b"GCOL") + 24, size)
    path.write_bytes(data)
    refused(
        tmp_path,
        world.config(tmp_path / "c.yaml", workloads=[workload]),
        path.name,
        "damaged",
        verbs=["run", "plan"],
    )
    judge(swbench("validate", path), [path.name, "damaged"])


@pytest.mark.parametrize("kind", ["dataset", "bundle", "weights"])
def test_a_pipe_is_not_waited_for(world, tmp_path, kind):
    model, workload = world.model, {"kind": "tensors", "path": str(tmp_path / "b.h5")}
    path = tmp_path / "b.h5"
    if kind != "bundle":
        if kind == "weights":
            model = tmp_path / "models" / tiny.NAME
            shutil.copytree(world.model, model)
        path = (
            tiny.dataset_path(tmp_path, "ppl_tiny", 2)
            if kind == "dataset"
            else model / "model.safetensors"
        )
        workload = {
            "kind": "task",
            "model": str(model),
            "data": str(tmp_path if kind == "dataset" else world.data),
            "tasks": ["ppl_tiny"],
            "samples": 2,
        }
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    refused(
        tmp_path,
        world.config(tmp_path / "c.yaml", workloads=[workload]),
        path.name,
        "expected a file",
    )


# --- where output goes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place, words",
    [
        ("file/out", ["file"]),
        ("file", ["file"]),
        ("/proc/out", ["/proc"]),
        ("/proc/self/fd/out", ["/proc"]),
    ],
)
def test_output_that_cannot_be(world, tmp_path, place, words):
    (tmp_path / "file").write_text("kept")
    config = world.config(tmp_path / "c.yaml")
    refused(
        tmp_path,
        config,
        *words,
        args=["--output", tmp_path / place if not place.startswith("/") else place],
        verbs=["run"],
    )
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_read_only_output(world, tmp_path):
    (tmp_path / "out").mkdir(mode=0o555)
    refused(tmp_path, world.config(tmp_path / "c.yaml"), "out", "cannot", verbs=["run"])


def limited(size):
    """Writing past `size` fails as on a full disk."""

    def prepare():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return prepare


@pytest.mark.parametrize("size", [0, 1, 600, 4096])
def test_disk_full(world, tmp_path, size):
    config = world.config(tmp_path / "c.yaml")
    done = swbench("run", config, "-q", preexec_fn=limited(size))
    assert done.returncode in (2, 3), done.stderr
    lines = done.stderr.splitlines()
    assert (
        any("out" in line and ("too large" in line or "cannot write" in line) for line in lines)
        and len(lines) <= 3
    ), done.stderr
    assert not any(noise in done.stderr for noise in NOISE), done.stderr
    assert [name for name in files(tmp_path) if name not in ("c.yaml", "out", "out/cells")] == []
    swbench("run", config, "-q", check=0)  # with room again


def test_disk_full_keeps_what_is_done(world, tmp_path):
    """The first cells fit, a later one does not."""
    config = world.config(tmp_path / "c.yaml")
    swbench("run", config, "-q", "--limit", 1, check=0)
    first = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.h5")}
    done = swbench("run", config, "-q", preexec_fn=limited(4096))
    assert done.returncode in (2, 3)
    assert {
        path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()
    } == first
    swbench("run", config, "-q", check=0)


# --- damaged result folders -----------------------------------------------------------------------


def test_damaged_results(world, tmp_path):
    config, out = world.config(tmp_path / "c.yaml"), tmp_path / "out"
    swbench("run", config, "-q", check=0)
    cell = sorted((out / "cells").iterdir())[1]
    good = cell.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for bad in (b"", b"x", good[:600], good[:-1], bytes(flipped), good + b"x"):
        cell.write_bytes(bad)
        for args in (["export", out], ["report", out], ["validate", out], ["export", cell]):
            judge(swbench(*args), [cell.name])
    cell.write_bytes(good)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["format"] = "something else"
    judge(swbench("export", tmp_path / "other.h5"), ["other.h5"])
    judge(swbench("validate", tmp_path / "other.h5"), ["other.h5"])
    shutil.rmtree(out / "cells")
    judge(swbench("export", out), ["out", "cells"])
    judge(swbench("export", out / "results.h5"), ["out", "cells"])


def test_a_pipe_for_a_cell(world, tmp_path):
    """Nobody waits for its other end; it is replaced, as what is damaged."""
    config, out = world.config(tmp_path / "c.yaml"), tmp_path / "out"
    swbench("run", config, "-q", check=0)
    cell = sorted((out / "cells").iterdir())[1]
    cell.unlink()
    os.mkfifo(cell)
    judge(swbench("export", out), [cell.name, "cannot read"])
    assert "1 cells done" in swbench("run", config, check=0).stderr
    swbench("validate", out, check=0)


def test_a_folder_for_a_cell(world, tmp_path):
    """It cannot be replaced, which is said before anything is run; all other cells would be lost
    behind it."""
    config, out = world.config(tmp_path / "c.yaml"), tmp_path / "out"
    swbench("run", config, "-q", check=0)
    first, *others = sorted((out / "cells").iterdir())
    for path in (first, *others):
        path.unlink()
    first.mkdir()
    refused(tmp_path, config, first.name, "found a folder", verbs=["run"])
    judge(swbench("export", out), [first.name, "cannot read"])


def test_results_that_cannot_be_presented(world, tmp_path):
    """All cells are saved, results.h5 is not: as on a disk that was full at the end, code 3."""
    config, out = world.config(tmp_path / "c.yaml"), tmp_path / "out"
    (out / "results.h5").mkdir(parents=True)
    done = swbench("run", config, check=3)
    assert "results.h5" in done.stderr and "3 cells done" in done.stderr, done.stderr
    (out / "results.h5").rmdir()
    assert "3 there already" in swbench("run", config, check=0).stderr


def test_memory_that_cannot_be_had(world, tmp_path):
    """A cell that needs more than there is fails by itself: recorded, exit 3, the next one is done,
    and a further run tries again."""
    workloads = [
        {"kind": "synthetic", "shape": "llama-3.1-8b", "layers": 300},
        {"kind": "synthetic", "shape": "smollm2-135m", "layers": 1},
    ]
    config = world.config(
        tmp_path / "c.yaml", workloads=workloads, methods=["dense"], axes={"context": 1024}
    )

    def little():
        resource.setrlimit(resource.RLIMIT_AS, (900 << 20, 900 << 20))

    for there in (0, 1):
        done = swbench(
            "run", config, "-q", check=3, preexec_fn=little, env={"OPENBLAS_NUM_THREADS": "1"}
        )
        assert "failed: llama-3.1-8b" in done.stderr and "memory" in done.stderr, done.stderr
        assert f"{1 - there} cells done, {there} there already, 0 skipped, 1 failed" in done.stderr
        rows = swbench("export", tmp_path / "out", check=0).stdout.splitlines()
        assert sum(",failed," in row for row in rows) == 1 and any(",ok," in row for row in rows)


def run_spoilt(world, folder, task, tensors=None, texts=None):
    """One dense cell of `task` by a model with other weights or another token table."""
    model = tiny.write_model(folder / "models" / tiny.NAME, tensors=tensors, texts=texts)
    samples, references = (
        (tiny.windows(2), None) if task == "ppl_tiny" else (tiny.prompts(2), [["a"], ["b"]])
    )
    tiny.write_dataset(tiny.dataset_path(folder, task, 2), model, samples, references)
    workload = {
        "kind": "task",
        "model": str(model),
        "data": str(folder),
        "tasks": [task],
        "samples": 2,
    }
    return swbench(
        "run", world.config(folder / "c.yaml", workloads=[workload], methods=["dense"]), "-q"
    )


def with_nan():
    tensors = tiny.weights()
    tensors["model.layers.1.mlp.up_proj.weight"][3, 3] = np.nan
    return tensors


def test_weights_that_are_no_numbers(world, tmp_path):
    done = run_spoilt(world, tmp_path, "ppl_tiny", tensors=with_nan())
    assert (
        done.returncode == 3 and "failed: tiny ppl_tiny" in done.stderr and "nan" in done.stderr
    ), done.stderr


def test_answers_from_weights_that_are_no_numbers(world, tmp_path):
    assert run_spoilt(world, tmp_path, "echo_tiny", tensors=with_nan()).returncode == 3


def test_values_that_overflow(world, tmp_path):
    """The cell fails, or says something about each of its layers."""
    bundle = tiny.write_bundle(
        tmp_path / "b.h5",
        n=64,
        change=lambda file: file["layer_001/v"].write_direct(
            np.full((64, 2, 16), 3e38, np.float32)
        ),
    )
    config = world.config(
        tmp_path / "c.yaml", workloads=[{"kind": "tensors", "path": str(bundle)}], methods=EASY[1:2]
    )
    if swbench("run", config, "-q").returncode == 3:
        return
    rows = list(
        csv.DictReader(
            io.StringIO(
                swbench("export", tmp_path / "out", "--metric", "output_rel_error", check=0).stdout
            )
        )
    )
    assert [(row["layer"], bool(row["value"])) for row in rows] == [
        ("", True),
        ("0", True),
        ("1", True),
    ]


def test_token_table_shorter_than_the_vocabulary(world, tmp_path):
    """The model answers with a token that has no text."""
    done = run_spoilt(world, tmp_path, "echo_tiny", texts=tiny.token_texts()[:2])
    assert done.returncode == 3 and "vocabulary of 2" in done.stderr, done.stderr


def test_answers_that_are_no_text(world, tmp_path):
    """Tokens of a byte each make no UTF-8; what is stored is readable all the same."""
    assert (
        run_spoilt(
            world, tmp_path, "echo_tiny", texts=[bytes([token]) for token in range(tiny.VOCAB)]
        ).returncode
        == 0
    )
    for path in (tmp_path / "out" / "cells").iterdir():
        with h5py.File(path) as file:
            assert len(file["samples/predictions/prediction"].asstr(errors="strict")[:]) == 2
    swbench("export", tmp_path / "out", "--format", "jsonl", check=0)


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
def test_closed_descriptors(world, tmp_path, closed):
    """A file that gets the number of a closed stream must not get its messages."""
    config = world.config(tmp_path / "c.yaml")
    done = swbench("run", config, preexec_fn=lambda: [os.close(number) for number in closed])
    assert done.returncode == 0
    assert swbench("validate", tmp_path / "out", check=0).stderr == ""


@pytest.mark.parametrize("kind", ["weights", "ids", "values"])
def test_content_is_judged_before_anything_is_written(world, tmp_path, kind):
    if kind == "weights":
        shutil.copytree(world.model, tmp_path / "models" / tiny.NAME)
        cut(60000)(tmp_path / "models" / tiny.NAME)
        workload = {
            "kind": "task",
            "model": str(tmp_path / "models" / tiny.NAME),
            "data": str(world.data),
            "tasks": ["ppl_tiny"],
            "samples": 2,
        }
    elif kind == "ids":
        tiny.write_dataset(
            tiny.dataset_path(tmp_path, "ppl_tiny", 2),
            world.model,
            tiny.windows(2),
            values={"ids": ids_with(tiny.VOCAB)},
        )
        workload = {
            "kind": "task",
            "model": str(world.model),
            "data": str(tmp_path),
            "tasks": ["ppl_tiny"],
            "samples": 2,
        }
    else:
        workload = {
            "kind": "tensors",
            "path": str(tiny.write_bundle(tmp_path / "b.h5", change=spoil("layer_001/k", np.nan))),
        }
    refused(tmp_path, world.config(tmp_path / "c.yaml", workloads=[workload]), verbs=["run"])
