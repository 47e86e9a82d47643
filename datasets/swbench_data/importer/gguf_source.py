"""A GGUF file as a source of config, weights, tokenizer and chat template."""

import logging
import warnings

import gguf
import numpy as np

from swbench_data.cli import InputError
from swbench_data.importer import architectures, model_config, vocabulary

UNQUANTISED = {"F32": "f32", "F16": "f16", "BF16": "bf16"}

# Licence names of model hubs that are not SPDX identifiers yet but are one in another spelling.
SPDX = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-sa-4.0": "CC-BY-SA-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cc0-1.0": "CC0-1.0",
}


def spdx(name):
    """SPDX identifier of a model hub's licence name; a licence without one becomes a LicenseRef."""
    if not isinstance(name, str) or not name.strip() or name in ("other", "unknown"):
        return "unknown"
    return SPDX.get(name.lower(), "LicenseRef-" + name.strip().replace(" ", "-"))


class CheckedReader(gguf.GGUFReader):
    """The library's reader, which reads past the end in silence: a false length would keep it busy
    for ever."""

    def _get(self, offset, dtype, count=1, override_order=None):
        end = int(offset) + int(count) * np.dtype(dtype).itemsize
        if end > len(self.data):
            raise ValueError(f"needs {end} bytes, the file has {len(self.data)}")
        return super()._get(offset, dtype, count, override_order)


def open_reader(path, where):
    with open(path, "rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise InputError(f"{where}: starts with {magic!r}, expected b'GGUF'")
    logging.getLogger("gguf").setLevel(logging.CRITICAL)  # what matters is in the one line below
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return CheckedReader(path)
    except Exception as error:  # a lie in the file can raise anything
        raise InputError(
            f"{where}: not readable ({' '.join(str(error).split())}), "
            f"expected a complete GGUF file of version 2 or 3"
        ) from None


class GGUFSource:
    def __init__(self, path):
        self.where = path.name
        self.reader = open_reader(path, self.where)
        self.tensors = {tensor.name: tensor for tensor in self.reader.tensors}
        arch = self.field("general.architecture")
        self.row = architectures.find("gguf_arch", arch, self.where)
        self.config = model_config.complete(self.read_config(arch), self.where, self.row)
        self.specs = architectures.tensor_specs(self.row, self.config)
        architectures.check_tensors(
            self.specs,
            {name: self.shape(tensor) for name, tensor in self.tensors.items()},
            lambda spec: spec.gguf_name,
            lambda name: name == "rope_freqs.weight",
            self.where,
        )

    def field(self, key, default=None):
        entry = self.reader.get_field(key)
        if entry is None:
            return default
        try:
            return entry.contents()
        except Exception as error:
            raise InputError(
                f"{self.where}: {key} is not readable ({error}), expected a complete GGUF file"
            ) from None

    @staticmethod
    def shape(tensor):
        return tuple(int(size) for size in reversed(tensor.shape))  # GGUF: fastest dimension first

    def read_config(self, arch):
        heads = self.field(f"{arch}.attention.head_count")
        embedding = self.tensors.get("token_embd.weight")
        tokens = self.field("tokenizer.ggml.tokens", [])
        head_dim = self.field(f"{arch}.attention.key_length") or self.field(
            f"{arch}.rope.dimension_count"
        )
        config = {
            "architectures": [self.row.hf_class],
            "model_type": self.row.model_type,
            "hidden_size": self.field(f"{arch}.embedding_length"),
            "intermediate_size": self.field(f"{arch}.feed_forward_length"),
            "num_hidden_layers": self.field(f"{arch}.block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self.field(f"{arch}.attention.head_count_kv", heads),
            "head_dim": head_dim,
            # The embedding decides: it may have more rows than the vocabulary has tokens.
            "vocab_size": self.shape(embedding)[0] if embedding is not None else len(tokens),
            "max_position_embeddings": self.field(f"{arch}.context_length"),
            "rms_norm_eps": single_precision(
                self.field(f"{arch}.attention.layer_norm_rms_epsilon")
            ),
            "rope_theta": single_precision(self.field(f"{arch}.rope.freq_base", 10000.0)),
            "tie_word_embeddings": "output.weight" not in self.tensors,
            "hidden_act": self.row.hidden_act,
            "bos_token_id": self.field("tokenizer.ggml.bos_token_id"),
            # llama.cpp keeps the end of a turn and of a message beside the end of the text.
            "eos_token_id": model_config.stop_ids(
                *(self.field(f"tokenizer.ggml.{end}_token_id") for end in ("eos", "eot", "eom"))
            ),
            "attention_bias": "blk.0.attn_q.bias" in self.tensors,
        }
        window = self.field(f"{arch}.attention.sliding_window")
        if window is not None:
            config["sliding_window"] = window
        config["rope_scaling"] = self.rope_scaling(arch, config)
        return config

    def rope_scaling(self, arch, config):
        kind = self.field(f"{arch}.rope.scaling.type", "none")
        if kind == "linear":
            return {"rope_type": "linear", "factor": self.field(f"{arch}.rope.scaling.factor")}
        if kind == "yarn":
            return self.yarn(arch)
        if kind != "none":
            raise InputError(
                f"{self.where}: {arch}.rope.scaling.type is {kind!r}, expected 'none', 'linear' "
                "or 'yarn'; import this model from its Hugging Face folder instead"
            )
        if "rope_freqs.weight" not in self.tensors:
            return None
        # GGUF keeps the frequency divisors of Llama 3.1 but not the parameters they come from.
        # All published models share three of the four; the fourth is the largest divisor.
        divisors = self.tensors["rope_freqs.weight"].data.astype(np.float32).ravel()
        scaling = {
            "rope_type": "llama3",
            "factor": float(divisors.max()),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        expected = llama3_divisors(scaling, config["rope_theta"], config["head_dim"])
        if divisors.shape != expected.shape or not np.allclose(divisors, expected, rtol=1e-4):
            raise InputError(
                f"{self.where}: rope_freqs.weight is not Llama 3.1's RoPE scaling, expected its "
                "divisors; import this model from its Hugging Face folder instead"
            )
        return scaling

    def yarn(self, arch):
        factor, original = (
            self.field(f"{arch}.rope.scaling.{key}")
            for key in ("factor", "original_context_length")
        )
        if factor is None or original is None:
            raise InputError(
                f"{self.where}: {arch}.rope.scaling.type is 'yarn' without factor and "
                "original_context_length, expected both; import this model from its Hugging Face "
                "folder instead"
            )
        for key in (
            "attn_factor",
            "yarn_log_multiplier",
            "yarn_ext_factor",
            "yarn_attn_factor",
            "yarn_beta_fast",
            "yarn_beta_slow",
        ):
            if self.field(f"{arch}.rope.scaling.{key}") is not None:
                raise InputError(
                    f"{self.where}: {arch}.rope.scaling.{key} found, expected yarn with its "
                    "default parameters; import this model from its Hugging Face folder instead"
                )
        return {
            "rope_type": "yarn",
            "factor": single_precision(factor),
            "original_max_position_embeddings": original,
        }

    def default_dtype(self):
        matrices = {t.tensor_type.name for t in self.tensors.values() if len(t.shape) > 1}
        return UNQUANTISED.get(matrices.pop(), "f32") if len(matrices) == 1 else "f32"

    def read_f32(self, spec):
        tensor = self.tensors[spec.gguf_name]
        try:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            raise InputError(
                f"{self.where}: tensor {spec.gguf_name} is {tensor.tensor_type.name}, "
                f"which the gguf library cannot dequantise, expected another quantisation"
            ) from None
        values = np.asarray(values, np.float32).reshape(spec.shape)
        return undo_permutation(values, spec.heads) if spec.heads else values

    def tokenizer(self):
        return vocabulary.tokenizer_from_gguf(self.field, self.config["bos_token_id"], self.where)

    def chat_template(self):
        template = self.field("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    def licence(self):
        return spdx(self.field("general.license"))


def undo_permutation(values, heads):
    """Rows of each head from GGUF's order (0, d/2, 1, d/2+1, …) back to Hugging Face's (0, 1, …,
    d-1)."""
    rows = values.reshape(heads, -1, 2, *values.shape[1:])
    return rows.swapaxes(1, 2).reshape(values.shape)


def llama3_divisors(scaling, theta, head_dim):
    """What Llama 3.1's RoPE scaling divides each frequency by (transformers,
    modeling_rope_utils.py)."""
    wavelength = 2 * np.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    original = scaling["original_max_position_embeddings"]
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    smooth = np.clip((original / wavelength - low) / (high - low), 0.0, 1.0)
    return 1.0 / ((1.0 - smooth) / factor + smooth)


def single_precision(value):
    """The decimal number that a float32 of GGUF stands for: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value
