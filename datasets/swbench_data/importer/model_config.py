"""config.json: the keys that swbench reads, with Hugging Face's names, checked and completed."""

from swbench_data.cli import InputError

COUNTS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
)

DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def complete(config, where, row):
    """Fills in what Hugging Face leaves to defaults, and rejects what cannot be a model.

    Here are the keys that decide which tensors there are; `swbench validate` judges the others.
    """
    config = dict(config)
    config.pop("dtype", None)  # transformers 5; import_model writes torch_dtype, as it was before
    # transformers 5 keeps theta and scaling in one dictionary.
    rope = config.pop("rope_parameters", None)
    if isinstance(rope, dict):
        if config.get("rope_theta") is None:
            config["rope_theta"] = rope.get("rope_theta")
        scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
        if config.get("rope_scaling") is None and scaling not in ({}, {"rope_type": "default"}):
            config["rope_scaling"] = scaling  # whatever else is there is judged, not dropped
    if config.get("num_key_value_heads") is None and "num_key_value_heads" in row.implied:
        config["num_key_value_heads"] = config.get("num_attention_heads")
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    if (
        config.get("head_dim") is None
        and "head_dim" in row.implied
        and is_count(heads)
        and is_count(hidden)
    ):
        config["head_dim"] = hidden // heads
    for key, default in (
        ("rope_theta", 10000.0),
        ("rope_scaling", None),
        ("attention_bias", False),
        ("tie_word_embeddings", False),
        ("bos_token_id", None),
        ("eos_token_id", None),
        ("hidden_act", "silu"),
    ):
        if config.get(key) is None:
            config[key] = default
    if row.always_biased:
        config["attention_bias"] = True  # Hugging Face does not read the key of this family

    for key in COUNTS:
        if not is_count(config.get(key)):
            raise InputError(
                f"{where}: {key} is {config.get(key)!r}, expected a positive whole number"
            )
    for key in ("rms_norm_eps", "rope_theta"):
        value = config.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise InputError(f"{where}: {key} is {value!r}, expected a positive number")
    if config["num_attention_heads"] % config["num_key_value_heads"]:
        raise InputError(
            f"{where}: num_attention_heads is {config['num_attention_heads']}, expected a "
            f"multiple of num_key_value_heads, {config['num_key_value_heads']}"
        )
    if config["head_dim"] % 2:
        raise InputError(
            f"{where}: head_dim is {config['head_dim']}, expected an even number (RoPE)"
        )
    if config.get("mlp_bias"):
        raise InputError(f"{where}: mlp_bias is true, expected a model without biases in its MLP")
    if config["attention_bias"] and not row.biased:
        raise InputError(
            f"{where}: attention_bias is {config['attention_bias']!r}, expected false: "
            f"{row.model_type} has no biases"
        )
    if config.get("quantization_config"):
        raise InputError(
            f"{where}: quantization_config found, expected plain f32, f16 or bf16 weights"
        )
    for key in ("bos_token_id", "eos_token_id"):
        value = config[key]
        ids = (
            []
            if value is None
            else value
            if isinstance(value, list) and key == "eos_token_id"
            else [value]
        )
        if not all(is_index(id, config["vocab_size"]) for id in ids):
            raise InputError(
                f"{where}: {key} is {value!r}, expected ids below vocab_size, "
                f"{config['vocab_size']}"
            )
    return config


def stop_ids(*values):
    """All ids that several eos_token_id say, each once: a list if there is more than one, None if
    there is none."""
    ids = []
    for value in values:
        ids += value if isinstance(value, list) else [] if value is None else [value]
    ids = [id for index, id in enumerate(ids) if id not in ids[:index]]
    return ids if len(ids) > 1 else ids[0] if ids else None


def is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def is_index(value, size):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < size
