/* Block pooling and the sketch transform. */
#include <algorithm>

#include "kernels/cuda/device/dependent_launch.cuh"
#include "kernels/cuda/device/device.h"

/* A bf16 is the upper half of the float of the same value. */
__device__ inline void add_eight(float (&acc)[8], uint4 raw)
{
    uint32_t pairs[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int k = 0; k < 4; k++) {
        acc[2 * k] += __uint_as_float(pairs[k] << 16);
        acc[2 * k + 1] += __uint_as_float(pairs[k] & 0xffff0000u);
    }
}

/* The mean over `heads` heads, d apart, of eight columns of one token: heads in order. Eight reads
 * at once; left to the compiler, a loop unrolled by eight asks for four. */
__device__ inline void mean_of_heads(const bf16 *x, int heads, int d, float *mean)
{
    float acc[8] = {};
    int h = 0;
#pragma unroll 1
    for (; h + 8 <= heads; h += 8) {
        uint4 raw[8];
#pragma unroll
        for (int i = 0; i < 8; i++, x += d)
            raw[i] = __ldg(reinterpret_cast<const uint4 *>(x));
#pragma unroll
        for (int i = 0; i < 8; i++)
            add_eight(acc, raw[i]);
    }
#pragma unroll 1
    for (; h < heads; h++, x += d)
        add_eight(acc, __ldg(reinterpret_cast<const uint4 *>(x)));
#pragma unroll
    for (int k = 0; k < 8; k++)
        acc[k] = heads == 1 ? acc[k] : acc[k] / (float)heads;
    float4 *to = reinterpret_cast<float4 *>(mean);
    to[0] = make_float4(acc[0], acc[1], acc[2], acc[3]);
    to[1] = make_float4(acc[4], acc[5], acc[6], acc[7]);
}

/* Adds tokens to block sums in token order, so that prefill and token-by-token decode add the same
 * numbers in the same order.
 *
 * One CTA a (key block, unit, slice of columns). First all threads, 8 columns each, make the
 * tokens' means over the unit's heads in shared memory (heads in order); then one thread a column
 * adds the tokens in order. One read of x: tokens · heads · d · 2 bytes; one addition an element.
 * At 128K tokens, 32 heads of 128: 1.07 GB, 0.36 ms at 3.0 TB/s. */
static const int POOL_FLOATS = 4096; /* means held at once */

/* `slice` columns a CTA: 128, or fewer where that leaves multiprocessors idle. */

__global__ void __launch_bounds__(256, 4)
    pool_blocks(const bf16 *x, int heads, int d, int per_unit, int block, int t0, int t1, int ld,
                int slice, float *sums)
{
    __shared__ __align__(16) float mean[POOL_FLOATS];
    int u = blockIdx.y, c0 = blockIdx.z * slice, cols = min(slice, d - c0),
        tokens = POOL_FLOATS / slice;
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
            const bf16 *p =
                x + ((int64_t)(base + t - t0) * heads + (int64_t)u * per_unit) * d + c0 + c * 8;
            mean_of_heads(p, per_unit, d, mean + t * slice + c * 8);
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

enum sw_status sw_cuda_pool(struct sw_backend *be, const struct sw_pool *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(a->units >= 1 && a->heads % a->units == 0 && a->block >= 1 && a->t0 >= 0, "pool");
    if (a->head_dim % 8 != 0)
        return SW_FAIL(SW_EUNSUPPORTED, "pooling on cuda: head_dim %d; expected a multiple of 8",
                       a->head_dim);
    if (a->t1 <= a->t0)
        return SW_OK;
    int blocks = (a->t1 - 1) / a->block - a->t0 / a->block + 1;
    REQUIRE(a->units <= 65535 && (a->t1 - 1) / a->block < a->ld, "pool");
    int slice = 128;
    while (slice > 32 && (int64_t)blocks * a->units * div_up(a->head_dim, slice) <
                             4 * (int64_t)s->multiprocessors)
        slice /= 2;
    dim3 grid((unsigned)blocks, (unsigned)a->units, (unsigned)div_up(a->head_dim, slice));
    pool_blocks<<<grid, 256, 0, queue_on(s)>>>(static_cast<const bf16 *>(a->x), a->heads,
                                               a->head_dim, a->heads / a->units, a->block, a->t0,
                                               a->t1, a->ld, slice, a->sums);
    LAUNCHED(s, "pool");
    return SW_OK;
}

/* The unnormalised Walsh–Hadamard transform of v [d_pow2] in shared memory, in place; its kept
 * coordinates, scaled, go to out. */
__device__ inline void hadamard(float *v, const struct sw_srht &t, float *out)
{
    for (int half = 1; half < t.d_pow2; half *= 2) {
        for (int k = threadIdx.x; k < t.d_pow2 / 2; k += blockDim.x) {
            int lo = k + (k & -half); /* half is a power of two: k's upper bits move up by one */
            float x = v[lo], y = v[lo + half];
            v[lo] = x + y;
            v[lo + half] = x - y;
        }
        __syncthreads();
    }
    for (int k = threadIdx.x; k < t.r; k += blockDim.x)
        out[k] = v[t.keep[k]] * t.scale;
}

/* One CTA a (key block, unit): mean, signs, unnormalised Walsh–Hadamard transform in shared
 * memory, kept coordinates scaled. d' log2 d' additions; (d + r) · 4 bytes. */
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
    hadamard(v, t, a.out + ((int64_t)u * a.ld + i) * t.r);
}

enum sw_status sw_cuda_sketch(struct sw_backend *be, const struct sw_sketch *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(a->i0 >= 0 && a->i1 <= a->ld, "sketch");
    if (a->i1 <= a->i0)
        return SW_OK;
    struct sw_srht t = {};
    if (a->transform) {
        t = *a->transform;
        REQUIRE(t.d_pow2 >= a->d && (t.d_pow2 & (t.d_pow2 - 1)) == 0 && t.r <= t.d_pow2 &&
                    t.d_pow2 <= 8192,
                "sketch");
    }
    dim3 grid((unsigned)(a->i1 - a->i0), (unsigned)a->units);
    sketch_rows<<<grid, 128, (size_t)t.d_pow2 * sizeof(float), queue_on(s)>>>(*a, t, !a->transform);
    LAUNCHED(s, "sketch");
    return SW_OK;
}

/* --- both in one launch ----------------------------------------------------------------------- */

struct pool_job {
    const bf16 *x;
    float *sums, *out;
    struct sw_srht t; /* r = 0: the means as they are */
    int heads, per_unit, block, t0, t1, ld, blocks;
    bool padded_tail;
};
/* means held at once: 64 tokens of 128 */
static const int MOST_JOBS = 2, JOB_THREADS = 512, JOB_FLOATS = 8192;
struct pool_jobs {
    struct pool_job job[MOST_JOBS];
    int d, first; /* CTAs of the first job */
};

/* As hadamard, a coordinate a thread: the stages within a warp by shuffles, the others through
 * shared memory, two buffers by turns. What is added and in which order is the same. v: two times
 * d_pow2 <= JOB_THREADS. */
__device__ inline void hadamard_threads(float mine, float *v, const struct sw_srht &t, int kept,
                                        float *out)
{
    int c = threadIdx.x;
#pragma unroll
    for (int half = 1; half < 32; half *= 2) {
        float other = __shfl_xor_sync(0xffffffffu, mine, half);
        if (half < t.d_pow2)
            mine = c & half ? other - mine : mine + other;
    }
    for (int half = 32; half < t.d_pow2; half *= 2) {
        if (c < t.d_pow2)
            v[c] = mine;
        __syncthreads();
        if (c < t.d_pow2) {
            float other = v[c ^ half];
            mine = c & half ? other - mine : mine + other;
        }
        v += half & 0x5555 ? -t.d_pow2 : t.d_pow2; /* 32, 64, 128, …: the other buffer and back */
    }
    if (c < t.d_pow2)
        v[c] = mine;
    __syncthreads();
    if (c < t.r)
        out[c] = v[kept] * t.scale;
}

/* pool_blocks and sketch_rows, one CTA a (key block, unit), all columns: the transform needs
 * them. 512 threads with seven 16-byte reads each under way are 57 KB, two CTAs 115 KB a
 * multiprocessor, where 18 are enough for 3.3 TB/s at 700 ns; at 8K a multiprocessor has one CTA
 * of queries, most of the time alone. The last CTA's way from its last byte to its sketch is
 * waited for by everybody: what the sketch needs besides is asked for first of all. */
__device__ inline void pool_job_block(const struct pool_job &j, int d, int id)
{
    __shared__ __align__(16) float mean[JOB_FLOATS];
    int u = id / j.blocks, kb = j.t0 / j.block + id % j.blocks, chunks = d / 8,
        tokens = JOB_FLOATS / d, col = threadIdx.x;
    int begin = max(j.t0, kb * j.block), end = min(j.t1, (kb + 1) * j.block);
    int64_t row = (int64_t)u * j.ld + kb;
    float total = col < d && begin > kb * j.block ? j.sums[row * d + col] : 0.0f,
          sign = col < j.t.d_pow2 ? j.t.signs[col] : 0.0f;
    int kept = col < j.t.r ? j.t.keep[col] : 0;
    for (int base = begin; base < end; base += tokens) {
        int count = min(tokens, end - base);
        for (int i = threadIdx.x; i < count * chunks; i += JOB_THREADS) {
            int t = i / chunks, c = i % chunks;
            mean_of_heads(
                j.x + ((int64_t)(base + t - j.t0) * j.heads + (int64_t)u * j.per_unit) * d + c * 8,
                j.per_unit, d, mean + t * d + c * 8);
        }
        __syncthreads();
        if (col < d)
#pragma unroll 16
            for (int t = 0; t < count; t++)
                total += mean[t * d + col];
        __syncthreads();
    }
    float count = (float)(j.padded_tail ? j.block : min(j.block, j.t1 - kb * j.block)),
          average = total / count;
    if (col < d)
        j.sums[row * d + col] = total;
    if (j.t.r > 0)
        hadamard_threads(col < d ? average * sign : 0.0f, mean, j.t, kept, j.out + row * j.t.r);
    else if (col < d)
        j.out[row * d + col] = average;
}

__global__ void __launch_bounds__(JOB_THREADS, 2)
    pool_sketch_blocks(const __grid_constant__ pool_jobs a)
{
    allow_dependents();
    int id = blockIdx.x;
    pool_job_block(id < a.first ? a.job[0] : a.job[1], a.d, id < a.first ? id : id - a.first);
}

enum sw_status sw_cuda_pool_sketch(struct sw_backend *be, const struct sw_pool *pools,
                                   const struct sw_sketch *sketches, int count)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(count >= 1, "pool_sketch");
    int d = pools[0].head_dim;
    bool together = count <= MOST_JOBS && d % 8 == 0 && d <= JOB_THREADS;
    pool_jobs a = {};
    a.d = d;
    int64_t blocks = 0;
    for (int i = 0; i < count; i++) {
        const struct sw_pool *p = &pools[i];
        const struct sw_sketch *k = &sketches[i];
        REQUIRE(p->units >= 1 && p->heads % p->units == 0 && p->block >= 1 && p->t0 >= 0 &&
                    p->t1 > p->t0 && (p->t1 - 1) / p->block < p->ld,
                "pool_sketch");
        REQUIRE(k->sums == p->sums && k->units == p->units && k->ld == p->ld &&
                    k->d == p->head_dim && k->block == p->block && k->n == p->t1,
                "pool_sketch");
        REQUIRE(k->i0 == p->t0 / p->block && k->i1 == (p->t1 - 1) / p->block + 1, "pool_sketch");
        struct sw_srht t = {};
        if (k->transform) {
            t = *k->transform;
            REQUIRE(t.d_pow2 >= k->d && (t.d_pow2 & (t.d_pow2 - 1)) == 0 && t.r >= 1 &&
                        t.r <= t.d_pow2,
                    "pool_sketch");
        }
        together = together && p->head_dim == d && t.d_pow2 <= JOB_THREADS;
        if (!together)
            break;
        a.job[i] = {static_cast<const bf16 *>(p->x),
                    p->sums,
                    k->out,
                    t,
                    p->heads,
                    p->heads / p->units,
                    p->block,
                    p->t0,
                    p->t1,
                    p->ld,
                    k->i1 - k->i0,
                    k->padded_tail};
        blocks += (int64_t)(k->i1 - k->i0) * p->units;
        if (i == 0)
            a.first = (int)std::min<int64_t>(blocks, INT32_MAX);
    }
    if (!together || blocks > INT32_MAX) {
        for (int i = 0; i < count; i++) {
            SW_TRY(be->pool(be, &pools[i]));
            SW_TRY(be->sketch(be, &sketches[i]));
        }
        return SW_OK;
    }
    pool_sketch_blocks<<<(unsigned)blocks, JOB_THREADS, 0, queue_on(s)>>>(a);
    LAUNCHED(s, "pool_sketch");
    return SW_OK;
}
