"""Times the Hopper attention kernel side by side with PyTorch's: cuDNN and FlashAttention-2 through
SDPA, FlexAttention with block masks.

    cc -std=gnu11 -O2 -fPIC -I. -c core/status.c -o status.o
    nvcc -std=c++17 -O3 -I. -shared -Xcompiler -fPIC -gencode arch=compute_90a,code=sm_90a \\
        -o libhopper.so kernels/cuda/attention/attend_hopper.cu status.o
    python bench/compare_gpu.py ./libhopper.so [--lengths 8192 32768 131072] [--density 0.2]
        [--rounds 5] [--shape 32 8 128]
    python bench/compare_gpu.py --decode [--lengths …] [--rounds …] [--shape …]

LIBRARY is a shared library that holds sw_hopper_attend; --decode times PyTorch's dense decode steps
instead, for `bench_ops step` to stand beside. All run interleaved in one process, round
by round, on the same inputs and block lists (bf16, causal); a time is the median over rounds.
TFLOP/s count kept token pairs only."""

import argparse
import ctypes as C
import statistics
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, flex_attention


class Selection(C.Structure):  # struct sw_selection
    _fields_ = [(n, C.c_int) for n in ("block", "n", "units", "row0", "rows", "n_q")] + [
        ("indptr", C.c_void_p),
        ("indices", C.c_void_p),
        ("whole", C.c_void_p),
        ("window", C.c_int),
        ("sink", C.c_int),
        ("columns", C.c_void_p),
        ("slashes", C.c_void_p),
        ("mask_ld", C.c_int),
        ("queries", C.c_void_p),
        ("capacity", C.c_int64),
        ("rows_capacity", C.c_int64),
        ("masks", C.c_void_p),
        ("mask_bytes", C.c_size_t),
        ("backend", C.c_void_p),
        ("launch", C.c_uint64),
    ]


class Attend(C.Structure):
    _fields_ = [
        (n, C.c_int) for n in ("batch", "n_q", "n_k", "n_heads", "n_kv_heads", "head_dim")
    ] + [
        ("kv_stride", C.c_int64),
        ("q", C.c_void_p),
        ("k", C.c_void_p),
        ("v", C.c_void_p),
        ("out", C.c_void_p),
        ("scale", C.c_float),
        ("sel", C.POINTER(Selection)),
        ("kernel", C.c_int),
    ]


def random_rows(b, density, generator):
    """Kept off-diagonal blocks, one bool matrix [b, b], and the kept counts."""
    scores = torch.rand(b, b, generator=generator, device="cuda").tril(-1) + torch.ones(
        b, b, device="cuda"
    ).tril(-1)
    keep = torch.floor(density * torch.arange(b, device="cuda") + 0.5).long()
    rank = scores.argsort(dim=1, descending=True).argsort(dim=1)
    return rank < keep[:, None]


def csr(kept):
    b = kept.shape[0]
    full = kept | torch.eye(b, dtype=torch.bool, device="cuda")
    indptr = torch.zeros(b + 1, dtype=torch.int32, device="cuda")
    indptr[1:] = full.sum(1).cumsum(0)
    return indptr, full.nonzero()[:, 1].to(torch.int32).contiguous()


def flex_mask(kept, block, n):
    b = kept.shape[0]
    order = (~kept).to(torch.int8).sort(dim=1, stable=True).indices.to(torch.int32)
    diagonal = torch.zeros(b, b, dtype=torch.int32, device="cuda")
    diagonal[:, 0] = torch.arange(b, device="cuda")
    ones = torch.ones(b, dtype=torch.int32, device="cuda")
    return BlockMask.from_kv_blocks(
        ones[None, None],
        diagonal[None, None],
        kept.sum(1).to(torch.int32)[None, None],
        order[None, None],
        BLOCK_SIZE=block,
        mask_mod=lambda _b, _h, q, k: q >= k,
        seq_lengths=(n, n),
    )


def decode(shape, lengths, rounds):
    """Microseconds of one dense decode step by PyTorch, L2 flushed by reading; the GPU is kept busy
    meanwhile, so that no launch is waited for."""
    H, HKV, D = shape
    flush = torch.ones(64 << 20, device="cuda", dtype=torch.bfloat16)
    for n in lengths:
        for batch in (1, 8) if n == 32768 else (1, 4) if n == 131072 else (1,):
            q = torch.randn(batch, H, 1, D, device="cuda", dtype=torch.bfloat16)
            k, v = (
                torch.randn(batch, n, HKV, D, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
                for _ in range(2)
            )
            for name, backend in (
                ("cuDNN", SDPBackend.CUDNN_ATTENTION),
                ("FlashAttention-2", SDPBackend.FLASH_ATTENTION),
            ):
                times = []
                with sdpa_kernel(backend):
                    for _ in range(3):
                        F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
                    for _ in range(9 * rounds):
                        torch.cuda._sleep(1_000_000)
                        flush.sum()
                        start, stop = (
                            torch.cuda.Event(enable_timing=True),
                            torch.cuda.Event(enable_timing=True),
                        )
                        start.record()
                        F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
                        stop.record()
                        torch.cuda.synchronize()
                        times.append(start.elapsed_time(stop) * 1e3)
                print(
                    f"decode n {n:6d} batch {batch} {name:24s} {statistics.median(times):7.1f} us "
                    f"(best {min(times):7.1f})",
                    flush=True,
                )


def compare_length(args, lib, flex, generator, n):
    """One prompt length: each call checked against a peer's, then timed in turns."""
    H, HKV, D = args.shape
    q = torch.randn(n, H, D, device="cuda", dtype=torch.bfloat16)
    k = torch.randn(n, HKV, D, device="cuda", dtype=torch.bfloat16)
    v = torch.randn(n, HKV, D, device="cuda", dtype=torch.bfloat16)
    tq, tk, tv = (x[None].transpose(1, 2) for x in (q, k, v))
    dense_pairs = n * (n + 1) / 2
    keep_alive, calls = [], {}

    def ours(sel):
        out = torch.empty_like(q)
        a = Attend(
            1,
            n,
            n,
            H,
            HKV,
            D,
            n,
            q.data_ptr(),
            k.data_ptr(),
            v.data_ptr(),
            out.data_ptr(),
            D**-0.5,
            C.pointer(sel) if sel else None,
        )
        keep_alive.append((out, a, sel))

        def call():
            if lib.sw_hopper_attend(C.byref(a), torch.cuda.current_stream().cuda_stream) != 0:
                raise RuntimeError(lib.sw_error_message().decode())
            return out

        return call

    def sdpa(backend):
        def call():
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(tq, tk, tv, is_causal=True, enable_gqa=True)

        return call

    calls["ours dense"] = (ours(None), dense_pairs)
    calls["cuDNN dense"] = (sdpa(SDPBackend.CUDNN_ATTENTION), dense_pairs)
    calls["FlashAttention-2 dense"] = (sdpa(SDPBackend.FLASH_ATTENTION), dense_pairs)
    reference = {}
    for block in (64, 128):
        kept = random_rows(n // block, args.density, generator)
        pairs = float(kept.sum()) * block * block + n * (block + 1) / 2
        indptr, indices = csr(kept)
        keep_alive.append((indptr, indices))
        sel = Selection(
            block,
            n,
            1,
            0,
            n // block,
            n,
            indptr.data_ptr(),
            indices.data_ptr(),
            None,
            0,
            0,
            None,
            None,
            0,
            None,
            indices.numel(),
            n // block,
            None,
            0,
            None,
        )
        calls[f"ours B={block}"] = (ours(sel), pairs)
        if not args.no_flex:
            mask = flex_mask(kept, block, n)
            options = {"BLOCK_M": 64, "BLOCK_N": 64} if block == 64 else None

            def flex_call(mask=mask, options=options):
                return flex(tq, tk, tv, block_mask=mask, enable_gqa=True, kernel_options=options)

            calls[f"Flex B={block}"] = (flex_call, pairs)
            reference[f"ours B={block}"] = f"Flex B={block}"
    reference["ours dense"] = "cuDNN dense"

    usable = {}
    for name, (call, pairs) in calls.items():
        start = time.time()
        try:
            call()
            torch.cuda.synchronize()
            usable[name] = (call, pairs)
        except Exception as e:  # a peer may lack a shape
            print(f"n {n:6d} {name}: {type(e).__name__}: {str(e)[:200]}")
        if time.time() - start > 5:
            print(f"  ({name}: first call {time.time() - start:.0f} s)")
    for mine, theirs in reference.items():
        if theirs in usable and n <= 32768:
            a = usable[mine][0]().float()
            b = usable[theirs][0]()[0].transpose(0, 1).float()
            print(
                f"n {n:6d} {mine} against {theirs}: relative difference "
                f"{float((a - b).norm() / b.norm()):.2e}"
            )

    times = {name: [] for name in usable}
    for _ in range(args.rounds):
        for name, (call, _p) in usable.items():
            repeat = 4 if n <= 8192 else 2 if n <= 32768 else 1
            start, stop = (
                torch.cuda.Event(enable_timing=True),
                torch.cuda.Event(enable_timing=True),
            )
            call()
            start.record()
            for _ in range(repeat):
                call()
            stop.record()
            torch.cuda.synchronize()
            times[name].append(start.elapsed_time(stop) / repeat)
    for name, (_c, pairs) in usable.items():
        ms = statistics.median(times[name])
        print(
            f"n {n:6d} {name:24s} {ms:9.4f} ms (best {min(times[name]):9.4f})  "
            f"{4 * D * H * pairs / ms * 1e-9:6.1f} TFLOP/s",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library", nargs="?")
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 32768, 131072])
    parser.add_argument("--density", type=float, default=0.2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-flex", action="store_true")
    parser.add_argument("--decode", action="store_true")
    parser.add_argument(
        "--shape",
        type=int,
        nargs=3,
        default=[32, 8, 128],
        metavar=("HEADS", "KV_HEADS", "HEAD_DIM"),
    )
    args = parser.parse_args()
    print(
        torch.cuda.get_device_name(),
        "torch",
        torch.__version__,
        "cuDNN",
        torch.backends.cudnn.version(),
    )
    if args.decode:
        return decode(args.shape, args.lengths, args.rounds)
    if not args.library:
        parser.error(
            "found no LIBRARY, expected the shared library that holds sw_hopper_attend (or "
            "--decode)"
        )
    lib = C.CDLL(args.library)
    lib.sw_hopper_attend.argtypes = [C.POINTER(Attend), C.c_void_p]
    lib.sw_error_message.restype = C.c_char_p
    flex = torch.compile(flex_attention, dynamic=False)
    generator = torch.Generator(device="cuda").manual_seed(1)

    for n in args.lengths:
        compare_length(args, lib, flex, generator, n)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
