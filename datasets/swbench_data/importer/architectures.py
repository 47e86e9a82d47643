"""The model families that can be imported, one row each.

A row says which tensors a model of the family has, by their Hugging Face and GGUF names, and what
the two formats do differently.  A family whose layers look like Llama's is one more row.
"""

from dataclasses import dataclass, field

from swbench_data.cli import InputError, did_you_mean

# GGUF name in a layer -> (Hugging Face name in a layer, shape).  Letters: D hidden, I intermediate,
# Q query rows (heads * head_dim), K key rows (kv heads * head_dim), H head_dim.
LLAMA_LAYER = {
    "attn_norm": ("input_layernorm", "D"),
    "attn_q": ("self_attn.q_proj", "QD"),
    "attn_k": ("self_attn.k_proj", "KD"),
    "attn_v": ("self_attn.v_proj", "KD"),
    "attn_output": ("self_attn.o_proj", "DQ"),
    "ffn_norm": ("post_attention_layernorm", "D"),
    "ffn_gate": ("mlp.gate_proj", "ID"),
    "ffn_up": ("mlp.up_proj", "ID"),
    "ffn_down": ("mlp.down_proj", "DI"),
}

# Qwen3 normalises each head's query and key before RoPE.
QWEN3_LAYER = {
    **LLAMA_LAYER,
    "attn_q_norm": ("self_attn.q_norm", "H"),
    "attn_k_norm": ("self_attn.k_norm", "H"),
}
QKV, QKVO = ("attn_q", "attn_k", "attn_v"), ("attn_q", "attn_k", "attn_v", "attn_output")


@dataclass(frozen=True)
class Architecture:
    model_type: str  # `model_type` of config.json
    hf_class: str  # `architectures` of config.json
    gguf_arch: str | None  # `general.architecture` of a GGUF file; None: has none of its own
    hidden_act: str = "silu"
    # The GGUF converter reorders the rows of q and k of this family so that RoPE turns neighbouring
    # rows (2i, 2i+1); Hugging Face turns (i, i + head_dim/2).
    gguf_permutes_qk: bool = False
    layer: dict = field(default_factory=lambda: LLAMA_LAYER)
    biased: tuple = ()  # layer tensors that have a bias when `attention_bias` is true …
    always_biased: bool = False  # … or always
    implied: tuple = (
        "num_key_value_heads",
        "head_dim",
    )  # may be left out of config.json: as many as heads; hidden / heads


ARCHITECTURES = [
    Architecture("llama", "LlamaForCausalLM", "llama", gguf_permutes_qk=True, biased=QKVO),
    # GGUF files of Mistral models say "llama", and are.
    Architecture("mistral", "MistralForCausalLM", None, implied=("head_dim",)),
    Architecture(
        "qwen2", "Qwen2ForCausalLM", "qwen2", biased=QKV, always_biased=True, implied=("head_dim",)
    ),
    Architecture("qwen3", "Qwen3ForCausalLM", "qwen3", layer=QWEN3_LAYER, biased=QKVO, implied=()),
]


def find(key, value, where):
    """The row whose field `key` is `value`."""
    for row in ARCHITECTURES:
        if value is not None and getattr(row, key) == value:
            return row
    known = [getattr(row, key) for row in ARCHITECTURES if getattr(row, key)]
    raise InputError(
        f"{where}: architecture {value!r} is not supported, expected one of: "
        f"{', '.join(known)}{did_you_mean(value, known)}"
    )


@dataclass(frozen=True)
class TensorSpec:
    hf_name: str
    gguf_name: str
    shape: tuple
    heads: int = 0  # > 0: rows of this many heads, reordered in GGUF


def tensor_specs(row, config):
    """Every tensor that a model with this config has, in the order of the forward pass."""
    size = {
        "D": config["hidden_size"],
        "I": config["intermediate_size"],
        "Q": config["num_attention_heads"] * config["head_dim"],
        "K": config["num_key_value_heads"] * config["head_dim"],
        "H": config["head_dim"],
        "V": config["vocab_size"],
    }
    permuted = {}
    if row.gguf_permutes_qk:
        permuted = {
            "attn_q": config["num_attention_heads"],
            "attn_k": config["num_key_value_heads"],
        }

    def spec(hf_name, gguf_name, shape, heads=0):
        return TensorSpec(hf_name, gguf_name, tuple(size[letter] for letter in shape), heads)

    specs = [spec("model.embed_tokens.weight", "token_embd.weight", "VD")]
    for layer in range(config["num_hidden_layers"]):
        for gguf, (hf, shape) in row.layer.items():
            hf_name, gguf_name = f"model.layers.{layer}.{hf}", f"blk.{layer}.{gguf}"
            heads = permuted.get(gguf, 0)
            specs.append(spec(hf_name + ".weight", gguf_name + ".weight", shape, heads))
            if gguf in row.biased and (row.always_biased or config["attention_bias"]):
                specs.append(spec(hf_name + ".bias", gguf_name + ".bias", shape[:1], heads))
    specs.append(spec("model.norm.weight", "output_norm.weight", "D"))
    if not config["tie_word_embeddings"]:
        specs.append(spec("lm_head.weight", "output.weight", "VD"))
    return specs


def check_tensors(specs, shapes, name_of, ignored, where):
    """Compares the tensors a file has (name -> shape) with those it should have."""
    expected = {name_of(spec): spec.shape for spec in specs}
    for name, shape in expected.items():
        if name not in shapes:
            raise InputError(f"{where}: tensor {name} is missing, expected shape {list(shape)}")
        if tuple(shapes[name]) != shape:
            raise InputError(
                f"{where}: tensor {name} has shape {list(shapes[name])}, "
                f"expected {list(shape)} from the model's configuration"
            )
    extra = [name for name in shapes if name not in expected and not ignored(name)]
    if extra:
        # An unknown tensor means a forward pass that differs from the family's.
        raise InputError(
            f"{where}: unknown tensor {extra[0]}, expected only those of a "
            f"{len(expected)}-tensor model of this architecture"
        )
