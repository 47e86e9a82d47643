/* radix_select.cuh: the key of the need-th best score of a row without sorting it, and
 * sums over a CTA, which is of whole warps. */
#ifndef SW_CUDA_RADIX_SELECT_CUH
#define SW_CUDA_RADIX_SELECT_CUH

#include <cstdint>

static const int THREADS = 256;

/* Order of scores: NaN last, -0 as +0. Larger key, better score; 0 only for NaN. */
__device__ inline uint32_t key_of_score(float v)
{
    int bits = __float_as_int(v + 0.0f); /* -0 + 0 = +0 */
    uint32_t key = (uint32_t)bits ^ ((uint32_t)(bits >> 31) | 0x80000000u);
    return v == v ? key : 0;
}
__device__ inline float score_of_key(uint32_t key)
{
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

struct pair_sum {
    int a, b;
};

/* Exclusive sums over the CTA's threads; totals to everyone. `lanes`: two ints of shared memory a
 * warp. */
template <int WARPS>
__device__ inline struct pair_sum scan_pairs(struct pair_sum v, struct pair_sum *total,
                                             int (*lanes)[WARPS])
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    struct pair_sum x = v;
    for (int o = 1; o < 32; o *= 2) {
        int a = __shfl_up_sync(0xffffffffu, x.a, o), b = __shfl_up_sync(0xffffffffu, x.b, o);
        if (lane >= o) {
            x.a += a;
            x.b += b;
        }
    }
    __syncthreads();
    if (lane == 31) {
        lanes[0][warp] = x.a;
        lanes[1][warp] = x.b;
    }
    __syncthreads();
    struct pair_sum before = {0, 0}, all = {0, 0};
    for (int w = 0; w < WARPS; w++) {
        if (w == warp)
            before = all;
        all.a += lanes[0][w];
        all.b += lanes[1][w];
    }
    *total = all;
    return {before.a + x.a - v.a, before.b + x.b - v.b};
}

struct radix_shared {
    int bins[256];
    uint32_t prefix;
    int need;
};

/* The key of the need-th largest (1-based) of scores[lo … hi), and how many of the entries equal to
 * it are among the `need` largest. 1 <= need <= hi - lo. */
__device__ inline uint32_t radix_select(const float *scores, int lo, int hi, int need,
                                        int *equal_needed, struct radix_shared *sh)
{
    uint32_t prefix = 0, mask = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int k = threadIdx.x; k < 256; k += blockDim.x)
            sh->bins[k] = 0;
        __syncthreads();
        for (int j = lo + (int)threadIdx.x; j < hi; j += blockDim.x) {
            uint32_t key = key_of_score(scores[j]);
            if ((key & mask) == prefix)
                atomicAdd(&sh->bins[(key >> shift) & 255], 1);
        }
        __syncthreads();
        if (threadIdx.x < 32) { /* from the top: lane 0 holds bins 255 … 248 */
            int lane = threadIdx.x, sum = 0, bins[8];
#pragma unroll
            for (int k = 0; k < 8; k++)
                sum += bins[k] = sh->bins[255 - lane * 8 - k];
            int upto = sum;
            for (int o = 1; o < 32; o *= 2) {
                int v = __shfl_up_sync(0xffffffffu, upto, o);
                if (lane >= o)
                    upto += v;
            }
            int before = upto - sum;
            if (before < need && need <= upto) { /* exactly one lane */
                int left = need - before, skipped = 0;
                bool here = true;
#pragma unroll
                for (int k = 0; k < 7; k++)
                    if (here && left > bins[k]) {
                        left -= bins[k];
                        skipped++;
                    } else {
                        here = false;
                    }
                sh->prefix = prefix | (uint32_t)(255 - lane * 8 - skipped) << shift;
                sh->need = left;
            }
        }
        __syncthreads();
        prefix = sh->prefix;
        need = sh->need;
        mask |= 255u << shift;
        __syncthreads();
    }
    *equal_needed = need;
    return prefix;
}

#endif
