"""Tiny models to import, as GGUF and as Hugging Face folder, with known weights."""

import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file

from swbench_data.importer.vocabulary import gpt2_byte_of, tokenizer_from_gguf

ROOT = Path(__file__).resolve().parents[2]

SMOLLM2 = ROOT / "datasets/models/smollm2-135m-instruct"

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
HEAD_DIM = 16
SPECIAL = ["<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ t", "h e", "Ġt he", "i s", "Ġ is", "e l", "l o", "a n", "i n", "Ġ s", "Ġs k"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vocabulary():
    return SPECIAL + sorted(gpt2_byte_of()) + [merge.replace(" ", "") for merge in MERGES]


def hf_tensors(seed=7):
    """Weights of the tiny model under their Hugging Face names."""
    rng = np.random.default_rng(seed)
    hidden, inner, q, k = 64, 96, 4 * HEAD_DIM, 2 * HEAD_DIM
    shapes = {
        "model.embed_tokens.weight": (len(vocabulary()), hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(2):
        for name, shape in {
            "input_layernorm": (hidden,),
            "self_attn.q_proj": (q, hidden),
            "self_attn.k_proj": (k, hidden),
            "self_attn.v_proj": (k, hidden),
            "self_attn.o_proj": (hidden, q),
            "post_attention_layernorm": (hidden,),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def family_tensors(family, seed=9):
    """The tiny model's weights with what a family adds: biases, norms of heads, a head of its
    own."""
    rng = np.random.default_rng(seed)
    sizes = {"q": 4 * HEAD_DIM, "k": 2 * HEAD_DIM, "v": 2 * HEAD_DIM, "o": 64}
    biased = {"llama": "", "llama-bias": "qkvo", "mistral": "", "qwen2": "qkv", "qwen3": ""}[family]
    tensors = {
        **hf_tensors(),
        "lm_head.weight": rng.standard_normal((len(vocabulary()), 64)).astype(np.float32),
    }
    for layer in range(2):
        attention = f"model.layers.{layer}.self_attn."
        tensors |= {
            f"{attention}{letter}_proj.bias": rng.standard_normal(sizes[letter]).astype(np.float32)
            for letter in biased
        }
        if family == "qwen3":
            tensors |= {
                f"{attention}{letter}_norm.weight": rng.standard_normal(HEAD_DIM).astype(np.float32)
                for letter in "qk"
            }
    return tensors


GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}


def gguf_name(hf_name):
    if hf_name.startswith("model.layers."):
        layer, middle = hf_name.removeprefix("model.layers.").split(".", 1)
        middle, kind = middle.rsplit(".", 1)
        return f"blk.{layer}.{GGUF_NAMES[middle]}.{kind}"
    return {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }[hf_name]


def permute(weights, heads):
    """What llama.cpp's converter does to the rows of q and k."""
    return (
        weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )


def write_gguf(
    path,
    arch="llama",
    pre="smollm",
    quantise=False,
    tensors=None,
    merges=MERGES,
    padding=0,
    add=None,
    **extra,
):
    """padding: unused tokens at the end; add(writer): further metadata; extra: metadata texts, __
    for a point."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_context_length(4096)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(10000.0)
    writer.add_string("general.license", "apache-2.0")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(vocabulary() + [f"[PAD{id}]" for id in range(padding)])
    writer.add_token_types(
        [3] * len(SPECIAL) + [1] * (len(vocabulary()) - len(SPECIAL)) + [5] * padding
    )
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template(CHAT_TEMPLATE)
    if add:
        add(writer)
    for key, value in extra.items():
        writer.add_string(key.replace("__", "."), value)
    for name, values in (tensors or hf_tensors()).items():
        if arch == "llama" and name.endswith(("q_proj.weight", "q_proj.bias")):
            values = permute(values, 4)
        elif arch == "llama" and name.endswith(("k_proj.weight", "k_proj.bias")):
            values = permute(values, 2)
        if quantise and values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_hf(folder, config=None, tensors=None):
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({**CONFIG, "vocab_size": len(vocabulary()), **(config or {})})
    )
    save_file(tensors or hf_tensors(), str(folder / "model.safetensors"))
    fields = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": vocabulary(),
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(vocabulary()) - len(SPECIAL)),
        "tokenizer.ggml.merges": MERGES,
    }
    tokenizer_from_gguf(lambda key, default: fields.get(key, default), 0, "test").save(
        str(folder / "tokenizer.json")
    )
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# tiny\n")
    return folder
