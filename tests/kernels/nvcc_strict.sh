#!/bin/sh
# nvcc_strict.sh STRICT NVCC: a kernel that spills, one that touches sums of a wgmma product in
# flight and one that does neither; only the last may give an object. Needs no GPU.
strict=$1 nvcc=$2
cd "$(mktemp -d)" || exit 1
trap 'rm -rf "$PWD"' EXIT
cat >fine.cu <<'EOF'
__global__ void fine(float *x) { x[threadIdx.x] = 1; }
EOF
cat >spills.cu <<'EOF'
__global__ void __launch_bounds__(1024, 2) spills(const float *in, float *out, int n)
{
    float v[96];
#pragma unroll
    for (int i = 0; i < 96; i++)
        v[i] = in[i * 1024 + threadIdx.x];
    for (int t = 0; t < n; t++)
#pragma unroll
        for (int i = 0; i < 96; i++)
            v[i] = v[i] * v[(i * 7 + 5) % 96] + in[t];
#pragma unroll
    for (int i = 0; i < 96; i++)
        out[i * 1024 + threadIdx.x] = v[i];
}
EOF
cat >serialises.cu <<'EOF'
__global__ void serialises(float *out, unsigned long long a, unsigned long long b, int n)
{
    float d[4] = {};
    asm volatile("wgmma.fence.sync.aligned;");
    for (int i = 0; i < n; i++) {
        asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 "
                     "{%0,%1,%2,%3}, %4, %5, 1, 1, 1, 0, 0;"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "l"(a), "l"(b));
        d[0] += 1;
        asm volatile("wgmma.commit_group.sync.aligned;");
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;");
    for (int i = 0; i < 4; i++)
        out[threadIdx.x * 4 + i] = d[i];
}
EOF
failed=0
check() { # name, what it must say (nothing: it must compile)
    "$strict" "$nvcc" -gencode arch=compute_90a,code=sm_90a -Xptxas=-v \
        -c "$1.cu" -o "$1.o" >log 2>&1
    status=$?
    if [ -z "$2" ] && { [ $status -ne 0 ] || [ ! -f "$1.o" ] || [ -s log ]; }; then
        echo "$1.cu: exit $status, expected an object and no word:"
        cat log
        failed=1
    elif [ -n "$2" ] && { [ $status -eq 0 ] || [ -f "$1.o" ] || ! grep -q "$2" log; }; then
        echo "$1.cu: exit $status, expected a failure that says '$2', and no object:"
        cat log
        failed=1
    fi
}
check fine ''
check spills 'error: .*spills registers on sm_90a: .* bytes spill stores'
check serialises 'error.*(C7511).*wgmma.mma_async instructions are serialized'
exit $failed
