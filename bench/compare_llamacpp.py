"""A whole model's prefill and decode on the CPU backend beside llama.cpp: the same fp32 weights,
the same ids, the same threads, in turns.

    python3 -m venv /tmp/llama
    export CMAKE_ARGS=-DGGML_NATIVE=ON    # pip builds llama.cpp, which takes some minutes
    /tmp/llama/bin/pip install numpy gguf safetensors tokenizers llama-cpp-python
    PYTHONPATH=datasets /tmp/llama/bin/python bench/compare_llamacpp.py \\
        BUILD/bin/swbench_model_bench datasets/models/smollm2-135m-instruct

Not a part of `make test`. The model folder's weights are written as an fp32 GGUF file, llama.cpp's
cache is fp32 too, and before anything is timed the logits after 512 tokens must agree within 1e-3
(without llama.cpp's flash attention, which rounds more). Then llama.cpp runs with the best of its
batch sizes, with or without flash attention, found first. A time is that of the prompt's layers and
its last logits. Exit status 1 when the logits differ or when prefill has less than --limit times
llama.cpp's tokens/s at some length.
"""

import argparse
import ctypes
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

try:
    import gguf
    import llama_cpp
    import numpy as np
    from tokenizers import Tokenizer

    from swbench_data.importer.architectures import ARCHITECTURES, tensor_specs
    from swbench_data.importer.weights import SafetensorsFile
except ImportError as reason:
    sys.exit(
        f"compare_llamacpp.py: {reason}; expected PYTHONPATH=datasets and an environment with "
        "numpy, gguf, safetensors, tokenizers and llama-cpp-python (see its first lines)"
    )

F32 = 0  # GGML_TYPE_F32
WARM_UP = 512  # tokens, on both sides


def write_gguf(folder, path):
    """The model folder as fp32 GGUF, without a tokenizer. Llama's rows of q and k are in another
    order there: the halves of a head interleaved."""
    config = json.loads((folder / "config.json").read_text())
    row = next(row for row in ARCHITECTURES if row.model_type == config["model_type"])
    weights = SafetensorsFile(folder / "model.safetensors")
    out = gguf.GGUFWriter(str(path), row.gguf_arch)
    out.add_file_type(F32)
    out.add_vocab_size(config["vocab_size"])
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_key_length(config["head_dim"])
    out.add_value_length(config["head_dim"])
    out.add_rope_dimension_count(config["head_dim"])
    out.add_rope_freq_base(config["rope_theta"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_tokenizer_model("no_vocab")
    for spec in tensor_specs(row, config):
        values = weights.read_f32(spec.hf_name)
        if spec.heads:
            values = (
                values.reshape(spec.heads, 2, -1, *values.shape[1:])
                .swapaxes(1, 2)
                .reshape(values.shape)
            )
        out.add_tensor(spec.gguf_name, np.ascontiguousarray(values))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


class Llama:
    """One context of llama.cpp: `tokens` of room, prompts in pieces of `ubatch`."""

    def __init__(self, model, tokens, threads, ubatch, flash):
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = tokens, tokens, ubatch
        params.n_threads = params.n_threads_batch = threads
        params.type_k = params.type_v = F32
        params.flash_attn_type = int(flash)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self.context = llama_cpp.llama_init_from_model(model, params)
        self.tokens = tokens

    def close(self):
        llama_cpp.llama_free(self.context)

    def run(self, ids, position):
        """Milliseconds, and the last token's logits."""
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = (
                int(token),
                position + i,
                1,
                0,
                i == len(ids) - 1,
            )
        if position == 0:
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), False)
        start = clock()
        failed = llama_cpp.llama_decode(self.context, batch)
        logits = (
            np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, -1), (self.vocab,))
            if not failed
            else None
        )
        ms = (clock() - start) * 1e3
        llama_cpp.llama_batch_free(batch)
        if failed:
            sys.exit(
                f"compare_llamacpp.py: llama_decode gave {failed} for {len(ids)} tokens at "
                f"{position}"
            )
        return ms, logits

    def decode_ms(self, token, position, steps):
        """Median milliseconds of the steps after a prompt."""
        times = []
        for step in range(steps):
            ms, logits = self.run([token], position + step)
            times.append(ms)
            token = int(logits.argmax())
        return statistics.median(times)


def ours(args, ids_file, logits_file):
    """Milliseconds of the prompt and of a step after it; writes the logits."""
    command = [
        args.program,
        args.model,
        ids_file,
        str(args.threads),
        "1",
        str(args.decode),
        logits_file,
    ]
    env = dict(os.environ, SWBENCH_BENCH_CPU_TIME="1") if args.cpu_time else None
    lines = subprocess.run(
        command, env=env, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    fields = {line.split()[0]: line.split() for line in lines}
    return float(fields["prefill"][5]), float(fields["decode"][5])


def same_logits(a, b, n):
    off = float(np.abs(a - b).max())
    print(
        f"logits after {n} tokens: largest difference {off:.2e} of values up to "
        f"{np.abs(b).max():.1f}, best id {a.argmax()} and {b.argmax()}",
        flush=True,
    )
    return off < 1e-3 and int(a.argmax()) == int(b.argmax())


def prove_same_model(args, model, ids, ids_file):
    """Without flash attention, which in llama.cpp rounds more than fp32 does; compare() prints the
    difference of what it times."""
    ours(args, ids_file, ids_file + ".logits")
    context = Llama(model, len(ids), args.threads, len(ids), False)
    same = same_logits(
        np.fromfile(ids_file + ".logits", np.float32), context.run(ids, 0)[1], len(ids)
    )
    context.close()
    if not same:
        sys.exit(
            "compare_llamacpp.py: this is not the same model; expected the same best id, and "
            "differences below 1e-3"
        )


def best_setting(args, model, ids):
    times = {}
    settings = [
        (u, f)
        for u, f in itertools.product(args.ubatch, args.flash)
        if u <= max(len(ids), min(args.ubatch))
    ]
    for ubatch, flash in settings if len(settings) > 1 else []:
        context = Llama(model, len(ids) + args.decode, args.threads, min(ubatch, len(ids)), flash)
        context.run(ids[:WARM_UP], 0)
        times[ubatch, flash] = min(context.run(ids, 0)[0] for _ in range(args.tuning))
        context.close()
    return min(settings, key=times.get) if times else settings[0], times


def compare(args, model, ids, ids_file):
    (ubatch, flash), times = best_setting(args, model, ids)
    print(
        f"llama.cpp at {len(ids)} tokens: n_ubatch {ubatch}{' flash' if flash else ''}"
        + (
            " of (ms) "
            + ", ".join(f"{u}{' flash' if f else ''} {t:.0f}" for (u, f), t in times.items())
            if times
            else ""
        ),
        flush=True,
    )
    context = Llama(model, len(ids) + args.decode, args.threads, min(ubatch, len(ids)), flash)
    context.run(ids[:WARM_UP], 0)
    a, b, steps_a, steps_b, load = [], [], [], [], []
    for turn in range(args.rounds):
        prefill, decode = ours(args, ids_file, ids_file + ".logits")
        a.append(prefill)
        steps_a.append(decode)
        prefill, logits = context.run(ids, 0)
        b.append(prefill)
        if turn == 0:
            same_logits(np.fromfile(ids_file + ".logits", np.float32), logits, len(ids))
        steps_b.append(context.decode_ms(int(logits.argmax()), len(ids), args.decode))
        load.append(os.getloadavg()[0])
    context.close()

    def line(name, ours_ms, theirs_ms, tokens):
        rate = [
            tokens * 1e3 / f(ms) for f in (statistics.median, min) for ms in (ours_ms, theirs_ms)
        ]
        print(
            f"{name} {len(ids)}: ours {rate[0]:.1f} tokens/s, llama.cpp {rate[1]:.1f} = "
            f"{rate[0] / rate[1]:.2f} x (medians of {args.rounds}); best runs {rate[2]:.1f} and "
            f"{rate[3]:.1f} = {rate[2] / rate[3]:.2f} x; load average up to {max(load):.1f}",
            flush=True,
        )
        return rate[0] / rate[1]

    line("decode after", steps_a, steps_b, 1)
    return line("prefill of", a, b, len(ids))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", help="swbench_model_bench of a build")
    parser.add_argument("model", help="an imported model folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, nargs="*", default=[512, 2048, 8192])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tuning", type=int, default=2, help="runs of each setting of llama.cpp")
    parser.add_argument("--ubatch", type=int, nargs="*", default=[128, 256, 512, 1024, 2048])
    parser.add_argument(
        "--flash",
        type=int,
        nargs="*",
        default=[0, 1],
        choices=[0, 1],
        help="without and with flash attention",
    )
    parser.add_argument(
        "--decode", type=int, default=32, help="steps after each prompt, at least 1"
    )
    parser.add_argument("--limit", type=float, default=1.0)
    parser.add_argument(
        "--text",
        default=str(ROOT / "datasets/texts/austen.txt"),
        help="what the prompts are made of",
    )
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time: one thread, on a busy machine"
    )
    args = parser.parse_args()
    global clock
    clock = time.process_time if args.cpu_time else time.perf_counter
    folder = Path(args.model)
    with open(args.text, encoding="utf-8") as file:
        ids = (
            Tokenizer.from_file(str(folder / "tokenizer.json"))
            .encode(file.read(8 * max(args.tokens + [WARM_UP])))
            .ids
        )
    if len(ids) < max(args.tokens + [WARM_UP]):
        sys.exit(
            f"compare_llamacpp.py: {args.text} has {len(ids)} tokens, expected "
            f"{max(args.tokens + [WARM_UP])}"
        )
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    ratios = []
    with tempfile.TemporaryDirectory() as temporary:
        path = os.path.join(temporary, "fp32.gguf")
        write_gguf(folder, path)
        model = llama_cpp.llama_model_load_from_file(
            path.encode(), llama_cpp.llama_model_default_params()
        )
        print(
            f"llama-cpp-python {llama_cpp.__version__}, {args.threads} threads, fp32; "
            f"{llama_cpp.llama_print_system_info().decode().strip()}"
        )
        for n in [WARM_UP] + args.tokens:
            ids_file = os.path.join(temporary, f"{n}.ids")
            np.array(ids[:n], np.int32).tofile(ids_file)
        prove_same_model(args, model, ids[:WARM_UP], os.path.join(temporary, f"{WARM_UP}.ids"))
        for n in args.tokens:
            ids_file = os.path.join(temporary, f"{n}.ids")
            ratios.append(compare(args, model, ids[:n], ids_file))
        llama_cpp.llama_model_free(model)
    return 1 if min(ratios) < args.limit else 0


if __name__ == "__main__":
    sys.exit(main())
