#!/bin/sh
# Builds the fuzz targets and runs each for SECONDS (default 5), where there is a clang with
# libFuzzer; elsewhere it says so and that is all.
# usage: tests/fuzz/run.sh [SECONDS]
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-5}

has_fuzzer() {
    command -v "$1" >/dev/null &&
        echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return !d && n; }' |
        "$1" -x c -fsanitize=fuzzer,address -o /dev/null - 2>/dev/null
}

for compiler in clang clang-20 clang-19 clang-18 clang-17 clang-16 clang-15 clang-14; do
    if has_fuzzer "$compiler"; then
        CC=$compiler cmake --preset fuzz -DSWBENCH_FUZZ_SECONDS="$seconds" >/dev/null
        cmake --build --preset fuzz
        exec ctest --test-dir build/fuzz -j "$(nproc)" --output-on-failure --label-regex fuzz
    fi
done
echo "fuzz: skipped, no clang with libFuzzer here" \
    "(Debian: clang-14, libclang-rt-14-dev, libfuzzer-14-dev)" >&2
