/* Block pooling and the sketch transform. */
#include <algorithm>

#include "kernels/cuda/device.h"

/* Adds tokens to block sums in token order, so that prefill and token-by-token decode add the same numbers in the same order.
 *
 * One block a (key block, unit, slice of columns). First all threads, 8 columns each, make the tokens' means over the unit's heads in shared
 * memory (heads in order); then one thread a column adds the tokens in order. One read of x: tokens · heads · d · 2 bytes; one addition an
 * element. At 128K tokens, 32 heads of 128: 1.07 GB, 0.36 ms at 3.0 TB/s. */
static const int POOL_FLOATS = 4096; /* means held at once */

/* `slice` columns a block: 128, or fewer where that leaves multiprocessors idle. */

__global__ void __launch_bounds__(256) pool_blocks(const bf16 *x, int heads, int d, int per_unit, int block, int t0, int t1, int ld,
                                                   int slice, float *sums)
{
    __shared__ __align__(16) float mean[POOL_FLOATS];
    int u = blockIdx.y, c0 = blockIdx.z * slice, cols = min(slice, d - c0), tokens = POOL_FLOATS / slice;
    int kb = t0 / block + blockIdx.x;
    int begin = max(t0, kb * block), end = min(t1, (kb + 1) * block);
    float *out = sums + ((int64_t)u * ld + kb) * d + c0;
    int col = threadIdx.x; /* in the adding phase */
    float total = col < cols && begin > kb * block ? out[col] : 0.0f;
    int chunks = cols / 8;
    for (int base = begin; base < end; base += tokens) {
        int count = min(tokens, end - base);
        for (int i = threadIdx.x; i < count * chunks; i += blockDim.x) {
            int t = i / chunks, c = i % chunks;
            const bf16 *p = x + ((int64_t)(base + t - t0) * heads + (int64_t)u * per_unit) * d + c0 + c * 8;
            float acc[8] = {};
#pragma unroll 8
            for (int h = 0; h < per_unit; h++) {
                uint4 raw = __ldg(reinterpret_cast<const uint4 *>(p + (int64_t)h * d));
                const __nv_bfloat162 *pairs = reinterpret_cast<const __nv_bfloat162 *>(&raw);
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    float2 v = __bfloat1622float2(pairs[k]);
                    acc[2 * k] += v.x;
                    acc[2 * k + 1] += v.y;
                }
            }
#pragma unroll
            for (int k = 0; k < 8; k++)
                acc[k] = per_unit == 1 ? acc[k] : acc[k] / (float)per_unit;
            float4 *to = reinterpret_cast<float4 *>(mean + t * slice + c * 8);
            to[0] = make_float4(acc[0], acc[1], acc[2], acc[3]);
            to[1] = make_float4(acc[4], acc[5], acc[6], acc[7]);
        }
        __syncthreads();
        if (col < cols)
            for (int t = 0; t < count; t++)
                total += mean[t * slice + col];
        __syncthreads();
    }
    if (col < cols)
        out[col] = total;
}

static enum sw_status pool(struct sw_backend *be, const struct sw_pool *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(a->units >= 1 && a->heads % a->units == 0 && a->block >= 1 && a->t0 >= 0, "pool");
    if (a->head_dim % 8 != 0)
        return SW_FAIL(SW_EUNSUPPORTED, "pooling on cuda: head_dim %d; expected a multiple of 8", a->head_dim);
    if (a->t1 <= a->t0)
        return SW_OK;
    int blocks = (a->t1 - 1) / a->block - a->t0 / a->block + 1;
    REQUIRE(a->units <= 65535 && (a->t1 - 1) / a->block < a->ld, "pool");
    int slice = 128;
    while (slice > 32 && (int64_t)blocks * a->units * div_up(a->head_dim, slice) < 4 * (int64_t)s->multiprocessors)
        slice /= 2;
    dim3 grid((unsigned)blocks, (unsigned)a->units, (unsigned)div_up(a->head_dim, slice));
    pool_blocks<<<grid, 256, 0, s->stream>>>(static_cast<const bf16 *>(a->x), a->heads, a->head_dim, a->heads / a->units, a->block, a->t0,
                                             a->t1, a->ld, slice, a->sums);
    LAUNCHED(s, "pool");
    return SW_OK;
}

/* One block a (key block, unit): mean, signs, unnormalised Walsh–Hadamard transform in shared memory, kept coordinates scaled.
 * d' log2 d' additions; (d + r) · 4 bytes. */
__global__ void sketch_rows(struct sw_sketch a, struct sw_srht t, bool plain)
{
    extern __shared__ float v[]; /* [d_pow2] */
    int i = a.i0 + blockIdx.x, u = blockIdx.y;
    int count = a.padded_tail ? a.block : min(a.block, a.n - i * a.block);
    const float *sums = a.sums + ((int64_t)u * a.ld + i) * a.d;
    if (plain) {
        float *out = a.out + ((int64_t)u * a.ld + i) * a.d;
        for (int c = threadIdx.x; c < a.d; c += blockDim.x)
            out[c] = sums[c] / (float)count;
        return;
    }
    for (int c = threadIdx.x; c < t.d_pow2; c += blockDim.x)
        v[c] = c < a.d ? sums[c] / (float)count * t.signs[c] : 0.0f;
    __syncthreads();
    for (int half = 1; half < t.d_pow2; half *= 2) {
        for (int k = threadIdx.x; k < t.d_pow2 / 2; k += blockDim.x) {
            int lo = (k / half) * 2 * half + k % half;
            float x = v[lo], y = v[lo + half];
            v[lo] = x + y;
            v[lo + half] = x - y;
        }
        __syncthreads();
    }
    float *out = a.out + ((int64_t)u * a.ld + i) * t.r;
    for (int k = threadIdx.x; k < t.r; k += blockDim.x)
        out[k] = v[t.keep[k]] * t.scale;
}

static enum sw_status sketch(struct sw_backend *be, const struct sw_sketch *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(a->i0 >= 0 && a->i1 <= a->ld, "sketch");
    if (a->i1 <= a->i0)
        return SW_OK;
    struct sw_srht t = {};
    if (a->transform) {
        t = *a->transform;
        REQUIRE(t.d_pow2 >= a->d && (t.d_pow2 & (t.d_pow2 - 1)) == 0 && t.r <= t.d_pow2 && t.d_pow2 <= 8192, "sketch");
    }
    dim3 grid((unsigned)(a->i1 - a->i0), (unsigned)a->units);
    sketch_rows<<<grid, 128, (size_t)t.d_pow2 * sizeof(float), s->stream>>>(*a, t, !a->transform);
    LAUNCHED(s, "sketch");
    return SW_OK;
}

void sw_cuda_bind_pool(struct sw_backend *be)
{
    be->pool = pool;
    be->sketch = sketch;
}
