#!/bin/sh
# What takes too long for every change: the C tests under the thread sanitizer, a small run under
# valgrind, sweeps with many kills and every fault, and ten minutes of each fuzz target.
# usage: tests/nightly.sh [tsan] [valgrind] [sweeps] [fuzz]   (default: all)
#        tests/nightly.sh aa     fifty pairs of runs of configs/ci.yaml against themselves, on a
#                                machine that does nothing else
set -eu
cd "$(dirname "$0")/.."

tsan() (
    cmake --preset tsan >/dev/null
    cmake --build --preset tsan
    export SWBENCH_THREADS=4
    ctest --test-dir build/tsan -j "$(nproc)" --output-on-failure --label-regex sanitize
)

# Every method on a small synthetic layer, prefill and decode; any error, and any memory that is
# lost for good, fails. Valgrind knows no AVX-512.
memcheck() {
    command -v valgrind >/dev/null || { echo "valgrind: skipped, not installed" >&2; return 0; }
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    methods=
    for method in $(build/release/bin/swbench ls methods | awk 'NR > 1 { print $1 }'); do
        if build/release/bin/swbench help "$method" | grep -q '^  block_size'; then
            method="{name: $method, params: {block_size: 16}}"
        fi
        methods="$methods$method, "
    done
    cat >"$folder/small.yaml" <<EOF
version: 1
name: small
backend: cpu
threads: 2
output: $folder/out
workloads: [{kind: synthetic, shape: smollm2-135m, layers: 2, decode_tokens: 1}]
axes: {context: 150, density: [0.5], phase: [prefill, decode]}
methods: [$methods]
dense_layers: 0
timing: {warmup_ms: 0, min_runs: 1, max_seconds: 0.01}
EOF
    valgrind="valgrind --quiet --error-exitcode=9"
    valgrind="$valgrind --leak-check=full --errors-for-leak-kinds=definite"
    export SWBENCH_ISA=avx2 OPENBLAS_CORETYPE=Haswell OPENBLAS_NUM_THREADS=1
    $valgrind build/release/bin/swbench run "$folder/small.yaml"
    $valgrind build/release/bin/swbench validate "$folder/small.yaml"
    $valgrind build/release/bin/swbench plan "$folder/small.yaml" >/dev/null
    $valgrind build/release/bin/swbench export "$folder/out" >/dev/null
    $valgrind build/release/bin/swbench report "$folder/out" >/dev/null
}

[ $# -gt 0 ] || set -- tsan valgrind sweeps fuzz
for part; do
    echo "== $part =="
    case $part in
    tsan) tsan ;;
    valgrind) memcheck ;;
    sweeps)
        ctest --test-dir build/release -j "$(nproc)" --output-on-failure --label-regex nightly
        ;;
    fuzz) tests/fuzz/run.sh 600 ;;
    aa) .venv/bin/python tests/gate/aa.py ;;
    *) echo "nightly.sh: found '$part', expected tsan, valgrind, sweeps, fuzz or aa" >&2; exit 2 ;;
    esac
done
