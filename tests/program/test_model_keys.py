"""What a key of config.json does: used, harmless, refused, or named as not understood. And tensors
that a config does not speak of."""

import json
import shutil
import struct

import numpy as np
import pytest

import tiny
from conftest import HERE, swbench

FAMILIES = HERE.parent / "fixtures" / "families"


def changed(folder, tmp_path, **values):
    """A copy of a model folder with other values in its config.json ("absent" takes a key out)."""
    config = {**json.loads((folder / "config.json").read_text()), **values}
    copy = tmp_path / "model"
    copy.mkdir()
    shutil.copy(folder / "model.safetensors", copy)
    (copy / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if value != "absent"})
    )
    return copy


SCALED = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
# family, changed keys, words of the one line
REFUSED = {
    "sliding_window": (
        "mistral",
        {"sliding_window": 64},
        ["'sliding_window' is 64", "128", "null"],
    ),
    "window_by_default": (
        "mistral",
        {"sliding_window": "absent", "max_position_embeddings": 32768},
        ["sliding_window", "missing", "4096", "null"],
    ),
    "window_negative": ("mistral", {"sliding_window": -1}, ["sliding_window", "positive"]),
    "window_text": ("mistral", {"sliding_window": "64"}, ["sliding_window", "integer"]),
    "window_used": ("qwen2", {"use_sliding_window": True}, ["'sliding_window' is 64"]),
    "window_switch": (
        "qwen2",
        {"use_sliding_window": "yes"},
        ["use_sliding_window", "true or false"],
    ),
    "layer_types": (
        "qwen3",
        {"layer_types": ["full_attention", "sliding_attention"]},
        ["layer_types[1]", "sliding_attention"],
    ),
    "layer_types_other": (
        "llama",
        {"layer_types": ["linear_attention", "full_attention"]},
        ["layer_types[0]", "linear_attention"],
    ),
    "layer_types_text": ("llama", {"layer_types": "full_attention"}, ["layer_types", "list"]),
    "attention_bias": (
        "mistral",
        {"attention_bias": True},
        ["attention_bias", "'mistral' has none"],
    ),
    "attention_bias_text": ("llama", {"attention_bias": "no"}, ["attention_bias", "true or false"]),
    "mlp_bias": (
        "llama",
        {"mlp_bias": True},
        ["'mlp_bias' is true", "expected false", "bias in the MLP"],
    ),
    "dynamic": (
        "llama",
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        ["rope_type", "'dynamic'", "linear, llama3 or yarn"],
    ),
    "longrope": (
        "llama",
        {"rope_scaling": {"rope_type": "longrope", "factor": 2.0}},
        ["rope_type", "'longrope'"],
    ),
    "rope_a_line": (
        "llama",
        {"rope_scaling": {"rope_type": "a\nb", "factor": 2.0}},
        ["rope_type", "'a?b'"],
    ),
    "mscale": (
        "llama",
        {"rope_scaling": {**SCALED, "mscale": 1.0}},
        ["rope_scaling.mscale", "1.0"],
    ),
    "mrope": (
        "qwen2",
        {"rope_scaling": {"type": "default", "mrope_section": [1, 2]}},
        ["mrope_section", "[1,2]"],
    ),
    "part_of_a_head": (
        "llama",
        {"partial_rotary_factor": 0.5},
        ["'partial_rotary_factor' is 0.5", "expected 1"],
    ),
    "part_in_scaling": (
        "llama",
        {"rope_scaling": {**SCALED, "partial_rotary_factor": 0.5}},
        ["partial_rotary_factor", "0.5"],
    ),
    "two_scalings": (
        "llama-yarn",
        {"rope_scaling": SCALED},
        ["rope_scaling", "rope_parameters", "differ"],
    ),
    "two_originals": (
        "llama-yarn",
        {"original_max_position_embeddings": 64},
        ["original_max_position_embeddings", "32", "64"],
    ),
    "scaling_switch": (
        "llama",
        {"rope_scaling": {**SCALED, "truncate": 1}},
        ["truncate", "true or false"],
    ),
    "interleaved": (
        "llama",
        {"rope_interleaved": True},
        ["rope_interleaved", "neighbouring pairs"],
    ),
    "activation": (
        "qwen2",
        {"hidden_act": "gelu_pytorch_tanh"},
        ["hidden_act", "gelu_pytorch_tanh", "silu"],
    ),
    "activation_number": ("qwen2", {"hidden_act": 7}, ["hidden_act", "silu"]),
    "experts": ("qwen3", {"num_experts": 128}, ["'num_experts' is 128", "mixture of experts"]),
    "local_experts": ("mistral", {"num_local_experts": 8}, ["num_local_experts", "8"]),
    "quantised": (
        "llama",
        {"quantization_config": {"quant_method": "awq", "bits": 4}},
        ["quantization_config", "awq", "quantised"],
    ),
    "tied_text": (
        "llama",
        {"tie_word_embeddings": "yes"},
        ["tie_word_embeddings", "true or false"],
    ),
    "tied_other_head": (
        "llama",
        {"tie_word_embeddings": True},
        ["lm_head.weight", "differs", "tie_word_embeddings"],
    ),
    "granite_attention": (
        "llama",
        {"attention_multiplier": 0.0078125},
        ["attention_multiplier", "0.0078125", "scale of attention"],
    ),
    "granite_logits": (
        "llama",
        {"logits_scaling": 8.0},
        ["logits_scaling", "8.0", "scaled logits"],
    ),
    "granite_embedding": (
        "llama",
        {"embedding_multiplier": 12.0},
        ["embedding_multiplier", "12.0"],
    ),
    "minicpm": ("llama", {"scale_emb": 12}, ["scale_emb", "12"]),
    "gemma": ("llama", {"final_logit_softcapping": 30.0}, ["final_logit_softcapping", "30.0"]),
    "own_code": (
        "llama",
        {"auto_map": {"AutoModelForCausalLM": "modeling.My"}},
        ["auto_map", "code of its own"],
    ),
    "head_dim_missing": ("qwen3", {"head_dim": "absent"}, ["head_dim", "missing"]),
    "kv_heads_missing": (
        "qwen2",
        {"num_key_value_heads": "absent"},
        ["num_key_value_heads", "missing"],
    ),
    "kv_heads_list": ("llama", {"num_key_value_heads": [2, 1]}, ["num_key_value_heads", "integer"]),
    "eos_high": ("llama", {"eos_token_id": [1, 288]}, ["eos_token_id", "[1,288]", "288"]),
    "eos_nested": ("llama", {"eos_token_id": [[1]]}, ["eos_token_id", "[[1]]"]),
    "bos_list": ("llama", {"bos_token_id": [0]}, ["bos_token_id", "[0]", "an id"]),
    "bias_unread": (
        "llama-bias",
        {"attention_bias": False},
        ["self_attn.k_proj.bias", "not part of a 'llama' model"],
    ),
    "other_family": (
        "qwen3",
        {"model_type": "llama"},
        ["self_attn.k_norm.weight", "not part of a 'llama' model"],
    ),
    "layer_left_out": ("llama", {"num_hidden_layers": 1}, ["model.layers.1.", "not part"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path, case):
    family, values, words = REFUSED[case]
    done = swbench("validate", changed(FAMILIES / family, tmp_path, **values), check=2)
    assert any(all(word in line for word in words) for line in done.stderr.splitlines()), (
        done.stderr
    )
    assert "warning" not in done.stderr and all(
        line.isprintable() for line in done.stderr.splitlines()
    )


HARMLESS = {
    "names": (
        "llama",
        {
            "_name_or_path": "a/b",
            "transformers_version": "4.40.0",
            "unsloth_fixed": True,
            "dtype": "bfloat16",
        },
    ),
    "neutral": (
        "llama",
        {
            "partial_rotary_factor": 1.0,
            "logits_scaling": 1,
            "num_experts": 0,
            "quantization_config": None,
            "mlp_bias": False,
            "pruned_heads": {},
            "attn_logit_softcapping": None,
        },
    ),
    "window_off": ("qwen2", {"sliding_window": None}),
    "window_unused": ("qwen3", {"sliding_window": 64, "use_sliding_window": False}),
    "window_whole": (
        "qwen2",
        {
            "sliding_window": 128,
            "use_sliding_window": True,
            "layer_types": ["full_attention", "sliding_attention"],
        },
    ),
    "stops": ("llama", {"eos_token_id": [1, 2, 287], "bos_token_id": None}),
    "scaling_default": ("llama", {"rope_scaling": {"rope_type": "default"}, "rope_theta": 1e4}),
    "scaling_null_and_newer": ("llama-yarn", {"rope_scaling": None}),
    "original_beside": ("llama-yarn", {"original_max_position_embeddings": 32}),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_harmless(tmp_path, case):
    family, values = HARMLESS[case]
    done = swbench("validate", changed(FAMILIES / family, tmp_path, **values), check=0)
    assert done.stderr == "" and "good: model folder" in done.stdout


@pytest.mark.parametrize(
    "values, words",
    [
        ({"surprise": 3}, ["config.json: warning: 'surprise' is not understood (3)"]),
        ({"surprise": {"list": list(range(500))}}, ["'surprise'", '({"list":[0,1,2', "...)"]),
        ({"two\nlines": "x\ty"}, ["'two?lines'", '("x\\ty")']),
        (
            {"rope_scaling": {**SCALED, "surprise": 3}},
            ["'rope_scaling.surprise' is not understood (3)"],
        ),
    ],
)
def test_unknown(tmp_path, values, words):
    """Said by validate, with its value, and no reason to refuse: a name tells nothing of what it
    does."""
    done = swbench("validate", changed(FAMILIES / "llama", tmp_path, **values), check=0)
    assert len(done.stderr.splitlines()) == 1 and all(word in done.stderr for word in words), (
        done.stderr
    )


def test_a_run_refuses_too(world, tmp_path):
    """The same judgement before anything is computed, in one line."""
    shutil.copytree(world.model, tmp_path / "models" / tiny.NAME)
    folder = tmp_path / "models" / tiny.NAME
    workload = {
        "kind": "task",
        "model": str(folder),
        "data": str(world.data),
        "tasks": ["ppl_tiny"],
        "samples": 2,
    }
    for key, value in {"num_experts": 8, "attention_multiplier": 0.1, "mlp_bias": True}.items():
        (folder / "config.json").write_text(json.dumps({**tiny.CONFIG, key: value}))
        for verb in ("plan", "run"):
            done = swbench(
                verb,
                world.config(tmp_path / "c.yaml", workloads=[workload], methods=["dense"]),
                check=2,
            )
            assert (
                len(done.stderr.splitlines()) == 1
                and f"'{key}' is" in done.stderr
                and not (tmp_path / "out").exists()
            )


def test_a_stored_tied_head(tmp_path):
    """A tied head that is stored all the same is the embedding, or the folder is refused."""
    folder = changed(FAMILIES / "smollm2", tmp_path)
    tensors = bits_of(folder / "model.safetensors")
    for head, code in (
        (tensors["model.embed_tokens.weight"], 0),
        (tensors["model.embed_tokens.weight"] ^ 1, 2),
    ):
        write_bf16(folder / "model.safetensors", {**tensors, "lm_head.weight": head})
        done = swbench("validate", folder, check=code)
        assert code == 0 or "lm_head.weight" in done.stderr


def test_old_checkpoints_store_rope(tmp_path):
    folder = tiny.write_model(
        tmp_path / "old",
        tensors={
            **tiny.weights(),
            "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32),
        },
    )
    assert swbench("validate", folder, check=0).stderr == ""


def bits_of(path):
    """NumPy has no bf16: the raw 16 bits of each tensor."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[8 + size :], np.uint16)[
            entry["data_offsets"][0] // 2 : entry["data_offsets"][1] // 2
        ].reshape(entry["shape"])
        for name, entry in header.items()
    }


def write_bf16(path, tensors):
    header, at = {}, 0
    for name, bits in tensors.items():
        header[name] = {
            "dtype": "BF16",
            "shape": list(bits.shape),
            "data_offsets": [at, at + bits.nbytes],
        }
        at += bits.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(
        struct.pack("<Q", len(text)) + text + b"".join(bits.tobytes() for bits in tensors.values())
    )
