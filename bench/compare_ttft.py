"""Time to the first token of what a user could pick instead: Hugging Face transformers' Llama, in
PyTorch, with SDPA held to FlashAttention-2 and to cuDNN.

    python bench/compare_ttft.py [--lengths 8192 32768 131072] [--runs 3]
        [--backends flash cudnn] [--compile] [--mlp-rows 16384] [--layers 32]

A model of Llama-3.1-8B's shape with random bf16 weights reads a prompt of random ids: one forward
pass that fills a KV cache, logits of the last token only, its argmax on the host. So it is what
swbench's ttft_ms is (configs/gpu/first_token.yaml). Backends take turns, run by run; a time is the
median. Peak memory is PyTorch's: weights, cache and activations, without the context. --compile:
PyTorch's compiler fuses RMSNorm, RoPE and the MLP between its products, as a user who cares would
have it. --mlp-rows: the MLP in pieces of so many tokens, where memory needs it (128K tokens in 80
GB do not)."""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.models.llama import modeling_llama

BACKENDS = {
    "flash": ("FlashAttention-2", SDPBackend.FLASH_ATTENTION),
    "cudnn": ("cuDNN", SDPBackend.CUDNN_ATTENTION),
}


def make_model(layers):
    config = transformers.LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    )
    torch.manual_seed(1)
    with torch.device("cuda"):
        model = transformers.AutoModelForCausalLM.from_config(
            config, attn_implementation="sdpa", dtype=torch.bfloat16
        )
    return model.eval()


def fuse(model):
    """One compiled function a kind of module, shared by all layers; transformers' own formulas."""

    @torch.compile(dynamic=False)
    def norm(x, weight, eps):
        wide = x.float()
        return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)

    @torch.compile(dynamic=False)
    def mlp(x, gate, up, down):
        return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)

    for module in model.modules():
        if isinstance(module, modeling_llama.LlamaRMSNorm):
            module.forward = lambda x, m=module: norm(x, m.weight, m.variance_epsilon)
        elif isinstance(module, modeling_llama.LlamaMLP):
            module.forward = lambda x, m=module: mlp(
                x, m.gate_proj.weight, m.up_proj.weight, m.down_proj.weight
            )
    modeling_llama.apply_rotary_pos_emb = torch.compile(
        modeling_llama.apply_rotary_pos_emb, dynamic=False
    )


def split_mlp(model, rows):
    for layer in model.model.layers:
        layer.mlp.forward = lambda x, whole=layer.mlp.forward: torch.cat(
            [whole(part) for part in x.split(rows, dim=1)], dim=1
        )


@torch.inference_mode()
def first_token(model, ids, backend):
    """Seconds until the host has the token, and the peak of memory in GB."""
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    start = time.perf_counter()
    with sdpa_kernel(backend):
        out = model(input_ids=ids, use_cache=True, logits_to_keep=1)
    token = int(out.logits[0, -1].argmax())
    seconds = time.perf_counter() - start
    assert (
        out.past_key_values.get_seq_length() == ids.shape[1]
        and 0 <= token < model.config.vocab_size
    )
    return seconds, torch.cuda.max_memory_allocated() * 1e-9


@torch.inference_mode()
def attention_ms(config, n, backend):
    """One layer's attention alone, in the layout that the model calls it with; also what makes the
    library choose its kernel before a run is timed."""
    H, HKV, D = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    q = torch.randn(1, n, H, D, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
    k, v = (torch.randn(1, HKV, n, D, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    times = []
    with sdpa_kernel(backend):
        for _ in range(4):
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=D**-0.5, enable_gqa=True)
            stop.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(stop))
    return statistics.median(times[1:])


def why(e):
    return f"{type(e).__name__}: {str(e).splitlines()[0][:200] if str(e) else ''}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 32768, 131072])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--backends", nargs="+", choices=list(BACKENDS), default=list(BACKENDS))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--mlp-rows", type=int, default=0)
    parser.add_argument("--layers", type=int, default=32)
    args = parser.parse_args()
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}, cuDNN {torch.backends.cudnn.version()}"
    )
    begin = time.time()
    model = make_model(args.layers)
    if args.compile:
        fuse(model)
    if args.mlp_rows:
        split_mlp(model, args.mlp_rows)
    print(
        f"{args.layers} layers, {sum(p.numel() for p in model.parameters()) / 1e9:.2f} G "
        f"weights, made in {time.time() - begin:.0f} s"
        f"{', fused by torch.compile' if args.compile else ''}"
        f"{f', MLP in pieces of {args.mlp_rows} tokens' if args.mlp_rows else ''}",
        flush=True,
    )
    for n in args.lengths:
        ids = torch.randint(model.config.vocab_size, (1, n), device="cuda")
        usable, attention, runs = [], {}, {}
        for name in args.backends:
            # A backend may refuse the shape; one forward pass of the whole length is compiled and
            # warmed up by the cheaper one of what is there.
            try:
                attention[name] = attention_ms(model.config, n, BACKENDS[name][1])
                first_token(
                    model, ids if args.compile and not usable else ids[:, :2048], BACKENDS[name][1]
                )
                usable.append(name)
            except Exception as e:
                print(f"n {n:6d} {BACKENDS[name][0]:16s} does not run: {why(e)}", flush=True)
            torch.cuda.empty_cache()
        for _ in range(args.runs):
            for name in list(usable):
                try:
                    runs.setdefault(name, []).append(first_token(model, ids, BACKENDS[name][1]))
                except Exception as e:
                    usable.remove(name)
                    print(f"n {n:6d} {BACKENDS[name][0]:16s} does not run: {why(e)}", flush=True)
                    torch.cuda.empty_cache()
        for name in usable:
            seconds, peak = [s for s, _ in runs[name]], max(p for _, p in runs[name])
            rest = statistics.median(seconds) * 1e3 - attention[name] * args.layers
            print(
                f"n {n:6d} {BACKENDS[name][0]:16s} first token "
                f"{statistics.median(seconds) * 1e3:9.1f} ms (of {len(seconds)}: "
                f"{min(seconds) * 1e3:.1f} to {max(seconds) * 1e3:.1f}), peak {peak:5.1f} GB; one "
                f"layer's attention alone {attention[name]:7.2f} ms, all but {args.layers} of "
                f"that {rest:7.1f} ms",
                flush=True,
            )
        del ids
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
