/* bench_units.cu: what the tensor cores and the exponentials of one multiprocessor do side by side.
 * At head_dim 64 attention has as much to do for both (NOTES-hopper.md). Needs a Hopper GPU (exit
 * 77 without one).
 *
 * Some warpgroups multiply, 64 × 64 × 64 at a time, as S = Q·Kᵀ does for 64 keys; others do what a
 * softmax does with 64 × 64 scores, 32 a thread. Neither waits for the other, none waits for data;
 * all go on to the same moment. Cycles are the multiprocessor's own: a product takes its tensor
 * cores 128 of them, 64 × 64 exponentials its MUFU 256. */
#include <algorithm>

#include "bench/hopper.cuh"
#include "kernels/cuda/attention/attend_hopper_ptx.cuh"
#include "kernels/cuda/device/mma.cuh"

/* exponentials alone; of scaled scores less a maximum, and their sums; and packed to bf16 */
enum work { EXP2, SUMS, PACKED };
enum {
    WARPGROUPS = 6,
    WARPS = 4 * WARPGROUPS,
    SCORES = 32,
    PRODUCT_CYCLES = 128,
    EXP2_CYCLES = 256,
    WINDOW = 2000000,
    REPEATS = 5
};

struct stream {
    long long cycles, rounds;
}; /* of one warp */

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
/* Whether one of a warpgroup's threads says so: wgmma is for all four warps or for none. */
__device__ bool one_of_warpgroup(bool says)
{
    int any;
    asm volatile("{\n.reg .pred p, q;\nsetp.ne.s32 p, %1, 0;\nbarrier.cta.red.or.pred q, %2, 128, "
                 "p;\nselp.s32 %0, 1, 0, q;\n}"
                 : "=r"(any)
                 : "r"((int)says), "r"(1 + (int)threadIdx.x / 128)
                 : "memory");
    return any;
}

__device__ int multiply(long long end, uint32_t tile, float *sink)
{
    float d[32] = {};
    uint32_t a[4], b = descriptor(tile, 0);
    for (int i = 0; i < 4; i++)
        a[i] = pack_bf16(1.0f / (threadIdx.x + i + 1), -1.0f / (threadIdx.x + 2 * i + 1));
    int rounds = 0;
    while (!one_of_warpgroup(clock64() >= end))
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

/* What one round leaves are the scores of the next, so that nothing is done once for all, or for
 * nobody, and nothing is done besides. */
template <enum work WORK>
__device__ int exponentials(long long end, float scale, float *sink)
{
    float s[SCORES], sum[4] = {}, max[2] = {0.5f, 0.25f};
    for (int i = 0; i < SCORES; i++)
        s[i] = 1.0f / (threadIdx.x + i + 1);
    int rounds = 0;
    while (clock64() < end)
#pragma unroll 1
        for (int round = 0; round < 16; round++, rounds++) {
            float e[SCORES];
#pragma unroll
            for (int i = 0; i < SCORES; i++)
                e[i] =
                    WORK == EXP2 ? exp2_fast(-s[i]) : exp2_fast(fmaf(s[i], scale, -max[i / 2 % 2]));
#pragma unroll
            for (int i = 0; i < SCORES; i++) {
                if (WORK != EXP2)
                    sum[i % 4] += e[i];
                s[i] = WORK == PACKED && i % 2 == 0 ? __uint_as_float(pack_bf16(e[i], e[i + 1]))
                                                    : e[i];
            }
        }
    for (int i = 0; i < SCORES; i++)
        *sink += s[i] + sum[i % 4];
    return rounds;
}
#endif

template <enum work WORK>
__global__ void __launch_bounds__(WARPGROUPS * 128, 1)
    side_by_side(int products, int softmaxes, float scale, float *sink, stream *of)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    __shared__ __align__(1024) __nv_bfloat16 tile[64 * 64];
    __shared__ long long begin;
    for (int i = threadIdx.x; i < 64 * 64; i += blockDim.x)
        tile[i] = __float2bfloat16(1.0f / (i % 97 + 1));
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); /* wgmma reads by another proxy */
    if (threadIdx.x == 0)
        begin = clock64();
    __syncthreads();
    int warpgroup = threadIdx.x / 128, rounds;
    if (warpgroup >= products + softmaxes)
        return;
    long long end = begin + WINDOW;
    if (warpgroup < products)
        rounds = multiply(end, (uint32_t)__cvta_generic_to_shared(tile), sink + threadIdx.x);
    else
        rounds = exponentials<WORK>(end, scale, sink + threadIdx.x);
    if (threadIdx.x % 32 == 0)
        of[threadIdx.x / 32] = {clock64() - begin, rounds};
#endif
}

template <enum work WORK>
static void measure(const char *what, int products, int softmaxes, float *sink, stream *of)
{
    double tensor[REPEATS], mufu[REPEATS];
    for (int run = -1; run < REPEATS; run++) { /* the first brings the code */
        stream got[WARPS];
        side_by_side<WORK><<<1, WARPGROUPS * 128>>>(products, softmaxes, -0.125f, sink, of);
        CUDA(cudaGetLastError());
        CUDA(cudaMemcpy(got, of, sizeof got, cudaMemcpyDeviceToHost));
        if (run < 0)
            continue;
        tensor[run] = mufu[run] = 0;
        for (int warp = 0; warp < 4 * (products + softmaxes); warp++) {
            bool product = warp < 4 * products;
            (product ? tensor : mufu)[run] += 100.0 / 4 * (product ? PRODUCT_CYCLES : EXP2_CYCLES) *
                                              (double)got[warp].rounds / (double)got[warp].cycles;
        }
    }
    std::sort(tensor, tensor + REPEATS);
    std::sort(mufu, mufu + REPEATS);
    printf("%-26s %8d %9d %9.1f %% %8.1f %%\n", what, products, softmaxes, tensor[REPEATS / 2],
           mufu[REPEATS / 2]);
    if (tensor[REPEATS - 1] > 102 || mufu[REPEATS - 1] > 102) {
        printf("more than there is: not all of it was done\n");
        exit(1);
    }
}

int main(void)
{
    need_hopper();
    cudaDeviceProp gpu;
    CUDA(cudaGetDeviceProperties(&gpu, 0));
    float *sink;
    stream *of;
    CUDA(cudaMalloc(&sink, WARPGROUPS * 128 * sizeof *sink));
    CUDA(cudaMalloc(&of, WARPS * sizeof *of));
    CUDA(cudaMemset(sink, 0, WARPGROUPS * 128 * sizeof *sink));
    CUDA(cudaMemset(of, 0, WARPS * sizeof *of));
    printf("%s, warpgroups and %% of the peak, median of %d\n%-26s %8s %9s %11s %10s\n", gpu.name,
           REPEATS, "a softmax has", "products", "softmaxes", "tensor", "MUFU");
    static const int split[][2] = {{0, 1}, {0, 2}, {0, 3}, {1, 1}, {1, 2}, {2, 1},
                                   {2, 2}, {2, 3}, {2, 4}, {3, 2}, {3, 3}};
    for (int products = 1; products <= 3; products++)
        measure<EXP2>("none", products, 0, sink, of);
    for (auto &n : split)
        measure<EXP2>("exp2", n[0], n[1], sink, of);
    for (auto &n : split)
        measure<SUMS>("fma, exp2, sum", n[0], n[1], sink, of);
    for (auto &n : split)
        measure<PACKED>("fma, exp2, sum, to bf16", n[0], n[1], sink, of);
    return 0;
}
