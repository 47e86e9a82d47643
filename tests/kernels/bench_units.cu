/* bench_units.cu: what the tensor cores and the exponentials of one multiprocessor can do side by side. At head_dim 64 attention has as much to do for both (NOTES-hopper.md),
 * so this is its limit, whatever the order in which things are done. Needs a Hopper GPU (exit 77 without one).
 *
 * Some warpgroups multiply, 64 × 64 × 64 at a time, as S = Q·Kᵀ and O += P·V do for 64 keys; others do what a softmax does with 64 × 64 scores: 32 a thread. Neither waits for
 * the other, none waits for data. Cycles are the multiprocessor's own; a product takes its tensor cores 128 of them, 64 × 64 exponentials its MUFU 256. */
#include <cstdio>
#include <cstdlib>

#include <cuda_runtime.h>

#include "kernels/cuda/attend_hopper_ptx.cuh"
#include "kernels/cuda/mma.cuh"

enum work { EXP2, SUMS, PACKED }; /* exponentials alone; of scaled scores less a maximum, and their sums; and packed to bf16 */
enum { WARPGROUPS = 5, SCORES = 32, PRODUCT_CYCLES = 128, EXP2_CYCLES = 256, ROUNDS = 4000 };

struct stream { long long cycles; int rounds; }; /* of one warpgroup */

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
/* Whether the flag is set, the same answer for all of a warpgroup. */
__device__ bool all_see(const volatile int *flag, int warpgroup)
{
    int seen;
    asm volatile("{\n.reg .pred p, q;\nsetp.ne.s32 p, %1, 0;\nbarrier.cta.red.or.pred q, %2, 128, p;\nselp.s32 %0, 1, 0, q;\n}" : "=r"(seen) : "r"(*flag), "r"(1 + warpgroup) : "memory");
    return seen;
}

/* Until `stop` is set. */
__device__ int multiply(const volatile int *stop, int warpgroup, uint32_t tile, float *sink)
{
    float d[32] = {};
    uint32_t a[4], b = descriptor(tile, 0);
    for (int i = 0; i < 4; i++)
        a[i] = pack_bf16(1.0f / (threadIdx.x + i + 1), -1.0f / (threadIdx.x + 2 * i + 1));
    int rounds = 0;
    while (!all_see(stop, warpgroup))
#pragma unroll 1
        for (int i = 0; i < 16; i++, rounds++) {
            pin(d);
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < 4; k++)
                wgmma_rs_n64<1>(d, a, b + 2 * k);
            wgmma_commit();
            wgmma_wait<0>();
        }
    pin(d);
    for (int i = 0; i < 32; i++)
        *sink += d[i];
    return rounds;
}

template <enum work WORK> __device__ void exponentials(int rounds, float scale, float *sink)
{
    float s[SCORES], sum[4] = {}, max[2] = {0.5f, 0.25f};
    for (int i = 0; i < SCORES; i++)
        s[i] = -1.0f / (threadIdx.x + i + 1);
#pragma unroll 1
    for (int round = 0; round < rounds; round++) {
        float e[SCORES];
#pragma unroll
        for (int i = 0; i < SCORES; i++)
            e[i] = exp2_fast(WORK == EXP2 ? s[i] : fmaf(s[i], scale, -max[i / 2 % 2]));
#pragma unroll
        for (int i = 0; i < SCORES; i++) { /* the next scores, so that nothing is done once for all rounds, or for nobody */
            if (WORK != EXP2)
                sum[i % 4] += e[i];
            s[i] = WORK == PACKED && i % 2 == 0 ? __uint_as_float(pack_bf16(e[i], e[i + 1])) : -e[i];
        }
    }
    for (int i = 0; i < SCORES; i++)
        *sink += s[i] + sum[i % 4];
}
#endif

template <enum work WORK> __global__ void __launch_bounds__(WARPGROUPS * 128, 1) side_by_side(int products, int softmaxes, float scale, float *sink, stream *of)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    __shared__ __align__(1024) __nv_bfloat16 tile[64 * 64];
    __shared__ int stop;
    for (int i = threadIdx.x; i < 64 * 64; i += blockDim.x)
        tile[i] = __float2bfloat16(1.0f / (i % 97 + 1));
    if (threadIdx.x == 0)
        stop = 0;
    __syncthreads();
    int warpgroup = threadIdx.x / 128, rounds = ROUNDS;
    if (warpgroup >= products + softmaxes)
        return;
    long long begin = clock64();
    if (warpgroup < products) {
        rounds = multiply(&stop, warpgroup, (uint32_t)__cvta_generic_to_shared(tile), sink + threadIdx.x);
    } else {
        exponentials<WORK>(rounds, scale, sink + threadIdx.x);
        stop = 1;
    }
    if (threadIdx.x % 128 == 0)
        of[warpgroup] = {clock64() - begin, rounds};
#endif
}

static void fail_on(cudaError_t e, const char *what)
{
    if (e == cudaSuccess)
        return;
    fprintf(stderr, "bench_units: %s: %s\n", what, cudaGetErrorString(e));
    exit(3);
}

template <enum work WORK> static void measure(const char *what, int products, int softmaxes, float *sink, stream *of)
{
    stream got[WARPGROUPS];
    for (int i = 0; i < 2; i++) /* the first brings the code */
        side_by_side<WORK><<<1, WARPGROUPS * 128>>>(products, softmaxes, 0.125f, sink, of);
    fail_on(cudaMemcpy(got, of, sizeof got, cudaMemcpyDeviceToHost), "side_by_side");
    double tensor = 0, mufu = 0;
    for (int i = 0; i < products + softmaxes; i++)
        (i < products ? tensor : mufu) += (double)(i < products ? PRODUCT_CYCLES : EXP2_CYCLES) * got[i].rounds / (double)got[i].cycles;
    printf("%-34s %8d %9d %9.1f %% %8.1f %%\n", what, products, softmaxes, 100 * tensor, 100 * mufu);
}

int main(void)
{
    cudaDeviceProp gpu;
    if (cudaGetDeviceProperties(&gpu, 0) != cudaSuccess || gpu.major != 9 || gpu.minor != 0) {
        printf("skipped: needs a GPU of compute capability 9.0\n");
        return 77;
    }
    float *sink;
    stream *of;
    fail_on(cudaMalloc(&sink, WARPGROUPS * 128 * sizeof *sink), "memory");
    fail_on(cudaMalloc(&of, WARPGROUPS * sizeof *of), "memory");
    fail_on(cudaMemset(sink, 0, WARPGROUPS * 128 * sizeof *sink), "memory");
    printf("%s\n%-34s %8s %9s %11s %10s\n", gpu.name, "a softmax has", "products", "softmaxes", "tensor", "MUFU");
    static const int split[][2] = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {2, 1}, {2, 2}, {2, 3}, {3, 2}};
    for (auto &n : split)
        measure<EXP2>("exp2", n[0], n[1], sink, of);
    for (auto &n : split)
        measure<SUMS>("fma, exp2, sum", n[0], n[1], sink, of);
    for (auto &n : split)
        measure<PACKED>("fma, exp2, sum, packed to bf16", n[0], n[1], sink, of);
    return 0;
}
