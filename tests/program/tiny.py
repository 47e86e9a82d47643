"""A tiny random model of the Llama family, datasets and tensor bundles for it, and the same model
in NumPy: nothing is downloaded and a cell takes milliseconds. The NumPy model shares no code with
the program; it computes in double precision, one token after the other being a row of the same
causal attention, so a decode step needs no code of its own."""

import hashlib
import json
import pathlib

import h5py
import numpy as np
from safetensors.numpy import save_file

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 64, 96, 3, 4, 2, 16, 256
BOS, EOS = 0, 1
LONGEST = 1024
EPSILON, THETA = 1e-5, 10000.0
CONTEXT, SCORED, NEW = 160, 24, 8
NAME = "tiny"

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "vocab_size": VOCAB,
    "max_position_embeddings": LONGEST,
    "rms_norm_eps": EPSILON,
    "rope_theta": THETA,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "attention_bias": False,
    "torch_dtype": "float32",
}


# --- the model ------------------------------------------------------------------------------------


def weights(seed=11):
    """Hugging Face's names. Sizes of the numbers keep attention between uniform and one-hot, and
    predictions apart."""
    rng = np.random.default_rng(seed)

    def normal(rows, columns, scale):
        return (scale * rng.standard_normal((rows, columns))).astype(np.float32)

    def norm(size=HIDDEN):
        return (1 + 0.1 * rng.standard_normal(size)).astype(np.float32)

    tensors = {
        "model.embed_tokens.weight": normal(VOCAB, HIDDEN, 1.0),
        "lm_head.weight": normal(VOCAB, HIDDEN, 0.15),
        "model.norm.weight": norm(),
    }
    for layer in range(LAYERS):
        for name, values in {
            "input_layernorm": norm(),
            "post_attention_layernorm": norm(),
            "self_attn.q_proj": normal(HEADS * HEAD_DIM, HIDDEN, 0.2),
            "self_attn.k_proj": normal(KV_HEADS * HEAD_DIM, HIDDEN, 0.2),
            "self_attn.v_proj": normal(KV_HEADS * HEAD_DIM, HIDDEN, 0.2),
            "self_attn.o_proj": normal(HIDDEN, HEADS * HEAD_DIM, 0.2),
            "mlp.gate_proj": normal(INNER, HIDDEN, 0.15),
            "mlp.up_proj": normal(INNER, HIDDEN, 0.15),
            "mlp.down_proj": normal(HIDDEN, INNER, 0.15),
        }.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = values
    return tensors


def token_table(texts):
    """tokenizer.safetensors: the bytes of each token."""
    offsets = np.cumsum([0] + [len(text) for text in texts]).astype(np.int64)
    special = np.zeros(len(texts), np.uint8)
    special[[BOS, EOS]] = 1
    return {
        "token_bytes": np.frombuffer(b"".join(texts), np.uint8).copy(),
        "token_offsets": offsets,
        "token_special": special,
    }


def token_texts():
    """Token t reads as two hexadecimal digits and a point, so that a text shows its tokens; the
    special ones read as nothing."""
    return [b"" if token in (BOS, EOS) else f"{token:02x}.".encode() for token in range(VOCAB)]


def text_of(ids):
    return b"".join(token_texts()[token] for token in ids).decode()


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def write_manifest(folder, **changes):
    (folder / "tokenizer.json").write_text(
        "{}"
    )  # swbench reads tokenizer.safetensors; this one is prepare.py's
    manifest = {
        "format": "swbench-model",
        "version": 1,
        "name": NAME,
        "source": "tests/program",
        "licence": "unknown",
        "files": {
            path.name: sha256(path)
            for path in sorted([*folder.glob("*.safetensors"), folder / "tokenizer.json"])
        },
        "source_sha256": "",
        "tokenizer_sha256": sha256(folder / "tokenizer.safetensors"),
        "dtype": "f32",
        "importer_version": 1,
        **changes,
    }
    (folder / "swbench.json").write_text(json.dumps(manifest, indent=1))


def write_model(folder, config=None, tensors=None, texts=None):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    save_file(tensors or weights(), str(folder / "model.safetensors"))
    save_file(token_table(texts or token_texts()), str(folder / "tokenizer.safetensors"))
    write_manifest(folder)
    return folder


# --- the same in NumPy ----------------------------------------------------------------------------


def rms_norm(x, weight):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPSILON) * weight


def rope(x):
    """x: [n, heads, HEAD_DIM], at positions 0 … n-1; dimension i turns with i + HEAD_DIM / 2."""
    half = HEAD_DIM // 2
    angle = np.arange(len(x))[:, None] * THETA ** (-np.arange(half) / half)
    cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def attention(q, k, v):
    n, group = len(q), HEADS // KV_HEADS
    out = np.empty_like(q)
    later = np.triu(np.ones((n, n), bool), 1)
    for head in range(HEADS):
        scores = q[:, head] @ k[:, head // group].T / np.sqrt(HEAD_DIM)
        scores[later] = -np.inf
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[:, head] = scores / scores.sum(axis=1, keepdims=True) @ v[:, head // group]
    return out


def logits(tensors, ids):
    """[n, VOCAB] in double precision."""
    w = {name: values.astype(np.float64) for name, values in tensors.items()}
    x = w["model.embed_tokens.weight"][ids]
    for layer in range(LAYERS):

        def weight(name, layer=layer):
            return w[f"model.layers.{layer}.{name}.weight"]

        def project(y, name, heads, weight=weight):
            return (y @ weight(f"self_attn.{name}_proj").T).reshape(len(ids), heads, HEAD_DIM)

        y = rms_norm(x, weight("input_layernorm"))
        mixed = attention(
            rope(project(y, "q", HEADS)),
            rope(project(y, "k", KV_HEADS)),
            project(y, "v", KV_HEADS),
        )
        x = x + mixed.reshape(len(ids), -1) @ weight("self_attn.o_proj").T
        y = rms_norm(x, weight("post_attention_layernorm"))
        gate = y @ weight("mlp.gate_proj").T
        x = (
            x
            + (gate / (1 + np.exp(-gate)) * (y @ weight("mlp.up_proj").T))
            @ weight("mlp.down_proj").T
        )
    return rms_norm(x, w["model.norm.weight"]) @ w["lm_head.weight"].T


def window_losses(tensors, windows, scored=SCORED):
    """Mean negative log-likelihood of the last `scored` tokens of each window."""
    means = []
    for ids in windows:
        z = logits(tensors, ids)[len(ids) - scored - 1 : -1]
        z -= z.max(axis=1, keepdims=True)
        means.append((np.log(np.exp(z).sum(axis=1)) - z[np.arange(scored), ids[-scored:]]).mean())
    return np.array(means)


def greedy(tensors, prompt, count=NEW):
    """The tokens generated, and by how much the chosen logit led the next at its closest."""
    ids, lead = list(prompt), np.inf
    for _ in range(count):
        row = logits(tensors, np.array(ids))[-1]
        second, best = np.sort(row)[-2:]
        lead = min(lead, best - second)
        if row.argmax() == EOS:
            break
        ids.append(int(row.argmax()))
    return ids[len(prompt) :], lead


# --- datasets -------------------------------------------------------------------------------------


def sequences(count, length, seed):
    """Random tokens with repeats in them, so that some positions matter more than others."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(2, VOCAB, (count, length))
    ids[:, length // 2 : length // 2 + 32] = ids[:, 4:36]
    ids[:, 0] = BOS
    return list(ids)


def windows(samples, context=CONTEXT):
    return sequences(samples, context, 21)


def prompts(samples, context=CONTEXT):
    return sequences(samples, context - NEW, 22)


def write_dataset(
    path, model, samples, references=None, seed=1, context=CONTEXT, attributes=None, values=None
):
    """One prepared file as datasets/README.md has it. samples: lists of ids; references: a list of
    texts a sample, None for ppl. attributes and values replace what would be written (None leaves
    it out)."""
    ppl = references is None
    flat = [text for texts in references or [] for text in texts]
    counts = [len(texts) for texts in references] if references else [0] * len(samples)
    text = h5py.string_dtype("utf-8")
    found_values = {
        "ids": np.concatenate([np.asarray(ids) for ids in samples]).astype(np.int32),
        "offsets": np.cumsum([0] + [len(ids) for ids in samples]).astype(np.int64),
        "references": np.array(flat, dtype=object),
        "reference_offsets": np.cumsum([0] + counts).astype(np.int64),
        "depth": np.full(len(samples), np.nan),
        "origin": np.array([""] * len(samples), dtype=object),
        "stop_ids": np.array([EOS], np.int32),
        **(values or {}),
    }
    found_attributes = {
        "format": "swbench-dataset",
        "version": 2,
        "task": "ppl_tiny" if ppl else "echo_tiny",
        "model": NAME,
        "context": context,
        "seed": seed,
        "n_samples": len(samples),
        "tokenizer_sha256": sha256(pathlib.Path(model) / "tokenizer.safetensors"),
        "tokenizer_json_sha256": sha256(pathlib.Path(model) / "tokenizer.json"),
        "special_ids": json.dumps({key: CONFIG[key] for key in ("bos_token_id", "eos_token_id")}),
        "special_tokens": "",
        "first_line": np.uint8(0),
        "lengths": "exact",
        "vocab_size": VOCAB,
        "chat_template_sha256": "",
        "score": "ppl" if ppl else "all",
        "max_new_tokens": 0 if ppl else NEW,
        "scored_tokens": SCORED if ppl else 0,
        "text_source": "",
        "text_sha256": "",
        "generator_version": 1,
        **(attributes or {}),
    }
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, value in found_attributes.items():
            if value is not None:
                file.attrs[name] = value
        for name, value in found_values.items():
            if value is None:
                continue
            dataset = file.create_dataset(
                name, data=value, dtype=text if value.dtype == object else None
            )
            dataset.attrs.update({"units": "1", "long_name": name})
    return path


def dataset_path(root, task, samples, context=CONTEXT, seed=1):
    return pathlib.Path(root) / NAME / f"{task}-{context}-s{seed}-n{samples}.h5"


def write_tasks(root, model, samples=2, seeds=(1, 2)):
    """Both tasks, for each seed. The first prompt expects what the model says, the second something
    else: accuracy is 50 %."""
    tensors = weights()
    answers = [
        [text_of(greedy(tensors, prompt)[0])[3:12]] if i % 2 == 0 else ["nothing like it"]
        for i, prompt in enumerate(prompts(samples))
    ]
    for seed in seeds:
        write_dataset(
            dataset_path(root, "ppl_tiny", samples, seed=seed), model, windows(samples), seed=seed
        )
        write_dataset(
            dataset_path(root, "echo_tiny", samples, seed=seed),
            model,
            prompts(samples),
            answers,
            seed=seed,
        )


# --- bundles --------------------------------------------------------------------------------------


def write_bundle(path, n=200, decode=0, layers=2, attributes=None, change=None):
    """A tensor bundle of random numbers. change(file) edits it afterwards."""
    rng = np.random.default_rng(31)
    with h5py.File(path, "w") as file:
        for name, value in {
            "format": "swbench-tensors",
            "version": 1,
            "n_layers": layers,
            "n_heads": HEADS,
            "n_kv_heads": KV_HEADS,
            "head_dim": HEAD_DIM,
            **(attributes or {}),
        }.items():
            if value is not None:
                file.attrs[name] = value
        for prefix, count in (("", n), ("decode/", decode)):
            for layer in range(layers if count else 0):
                for name, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
                    file[f"{prefix}layer_{layer:03d}/{name}"] = rng.standard_normal(
                        (count, heads, HEAD_DIM)
                    ).astype(np.float32)
        if change:
            change(file)
    return path
