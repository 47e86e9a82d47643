"""Dense attention of the CPU backend beside PyTorch's scaled_dot_product_attention: same shape,
same threads, in turns.

    python bench/compare_torch.py BUILD/bin/swbench_kernel_bench [--threads 2] [--rounds 3]
        [--shape n,H,Hkv,d ...]

Prints the medians and their ratio a shape. Exit status 0 without PyTorch too (then it says so), 1
when dense takes more than --limit times PyTorch's time or sparse (density 0.2, B = 64) less than
--speedup times less than dense.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time


def shape(text):
    n, heads, kv_heads, d = (int(x) for x in text.split(","))
    return n, heads, kv_heads, d


def bench(program, threads, dims, cpu_time):
    env = dict(os.environ)
    if cpu_time:
        env["SWBENCH_BENCH_CPU_TIME"] = "1"
    command = [program, str(threads), *map(str, dims), "2"]
    lines = subprocess.run(
        command, env=env, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    fields = {line.split()[0]: line.split() for line in lines}
    return float(fields["dense"][5]), float(fields["sparse"][5]), fields["#"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--shape", type=shape, nargs="*", default=[(8192, 9, 3, 64), (4096, 32, 8, 128)]
    )
    parser.add_argument("--limit", type=float, default=1.2)
    parser.add_argument("--speedup", type=float, default=3.5)
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time: one thread, on a busy machine"
    )
    args = parser.parse_args()
    try:
        import torch
    except (ImportError, OSError) as reason:
        print(f"skipped: PyTorch cannot be imported ({reason})")
        return 0
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter
    failed = False
    for dims in args.shape:
        n, heads, kv_heads, d = dims
        q, k, v = (
            torch.randn(1, heads, n, d),
            torch.randn(1, kv_heads, n, d),
            torch.randn(1, kv_heads, n, d),
        )
        theirs, dense, sparse = [], [], []
        for turn in range(args.rounds):
            for _ in range(3):
                start = clock()
                torch.nn.functional.scaled_dot_product_attention(
                    q, k, v, is_causal=True, enable_gqa=True
                )
                theirs.append((clock() - start) * 1e3)
            if turn == 0:
                theirs.pop(0)  # warming up
            ours = bench(args.program, args.threads, dims, args.cpu_time)
            dense.append(ours[0])
            sparse.append(ours[1])
        t, a, b = statistics.median(theirs), statistics.median(dense), statistics.median(sparse)
        flops = 2 * heads * d * n * (n + 1)
        print(
            f"n {n} H {heads} Hkv {kv_heads} d {d}, {args.threads} threads: torch "
            f"{torch.__version__} {t:.0f} ms ({flops / t * 1e-6:.0f} GFLOP/s), dense {a:.0f} ms "
            f"({flops / a * 1e-6:.0f} GFLOP/s) = {a / t:.2f} x torch, sparse {b:.0f} ms = dense / "
            f"{a / b:.2f}"
        )
        failed = failed or a > args.limit * t or a < args.speedup * b
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
