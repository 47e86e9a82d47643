/* A decode step's selection in one launch: sketches, a row of scores, a row of the walk, the best blocks (struct sw_walk_step).
 *
 * As separate operations this is nine launches that wait for each other, 34 µs at 8K and 58 µs at 128K. Two kinds of blocks work side by side: some
 * take 64 key blocks each, make the query's sketch (all alike: 2·H·d bytes from L2) and their logits; the others take 128 × 128 tiles of the cached matrix and
 * multiply the walk's row by them, which needs nothing of this layer's query but the last term, x_c · a[c,:]. The block that finishes last does the
 * rest alone: softmax, power, that last term, the maximum, the radix selection. Nobody waits in a loop, so nothing depends on who runs when;
 * sums have a fixed order. Bytes: 2·b² of the matrix (8.4 MB at b = 2048: 2.8 µs), 4·r·b of key sketches. */
#include <algorithm>
#include <cmath>

#include "kernels/cuda/device.h"
#include "kernels/cuda/radix.cuh"
#include "kernels/cuda/reduce.cuh"

static const int STRIP = 64, TILE = 128, MOST_D = 512; /* key blocks of a score block; side of a tile; padded head_dim at most */

struct step_args {
    struct sw_walk_step in;
    struct sw_srht t;
    int c, b, strips, tiles, whole_exponent; /* c: the token's block; b = c + 1; tiles a side */
    unsigned *done;
    float *logits, *part; /* [b]; [tiles, b]: sums over the rows of each band */
    float2 *stats;        /* [strips]: maximum, sum of exponentials */
    int32_t *indptr, *indices;
};

/* v [d_pow2] in shared memory: signs, Walsh–Hadamard; the r kept coordinates, scaled, into out. Ends with a barrier. */
__device__ inline void transform(const struct sw_srht &t, int d, float *v, float *out)
{
    for (int c = threadIdx.x; c < t.d_pow2; c += THREADS)
        v[c] = c < d ? v[c] * t.signs[c] : 0.0f;
    __syncthreads();
    for (int half = 1; half < t.d_pow2; half *= 2) {
        for (int k = threadIdx.x; k < t.d_pow2 / 2; k += THREADS) {
            int lo = (k / half) * 2 * half + k % half;
            float x = v[lo], y = v[lo + half];
            v[lo] = x + y;
            v[lo + half] = x - y;
        }
        __syncthreads();
    }
    for (int k = threadIdx.x; k < t.r; k += THREADS)
        out[k] = v[t.keep[k]] * t.scale;
    __syncthreads();
}

/* Mean over the heads of one token, heads in order, as pool does it. */
__device__ inline float head_mean(const bf16 *x, int heads, int d, int c)
{
    float sum = 0;
#pragma unroll 8
    for (int h = 0; h < heads; h++)
        sum += __bfloat162float(x[(int64_t)h * d + c]);
    return heads == 1 ? sum : sum / (float)heads;
}

/* Logits of key blocks strip · 64 …; the strip that holds block c first brings its sketch up to date. */
__device__ void score_strip(const step_args &a, int strip)
{
    __shared__ float v[MOST_D], query[MOST_D], fresh[MOST_D], lanes[32];
    const struct sw_walk_step &in = a.in;
    int d = in.head_dim, j0 = strip * STRIP, j1 = min(j0 + STRIP, a.b), warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    for (int c = threadIdx.x; c < d; c += THREADS)
        v[c] = head_mean(static_cast<const bf16 *>(in.q), in.n_heads, d, c);
    transform(a.t, d, v, query);
    bool holds_c = a.c < j1; /* strips ascend: only the last one */
    if (holds_c) {
        int count = in.n - a.c * in.block;
        for (int c = threadIdx.x; c < d; c += THREADS) {
            float *sum = in.k_sums + (int64_t)a.c * d + c, total = (count == 1 ? 0.0f : *sum) + head_mean(static_cast<const bf16 *>(in.k), in.n_kv_heads, d, c);
            *sum = total;
            v[c] = total / (float)(in.padded_tail ? in.block : count);
        }
        transform(a.t, d, v, fresh);
        for (int k = threadIdx.x; k < a.t.r; k += THREADS)
            in.k_sketch[(int64_t)a.c * a.t.r + k] = fresh[k];
    }
    float top = -INFINITY, mine[STRIP / (THREADS / 32)];
#pragma unroll
    for (int e = 0; e < STRIP / (THREADS / 32); e++) {
        int j = j0 + e * (THREADS / 32) + warp;
        float acc = 0;
        if (j < j1) {
            const float *key = holds_c && j == a.c ? fresh : in.k_sketch + (int64_t)j * a.t.r;
            for (int k = lane; k < a.t.r; k += 32)
                acc += query[k] * key[k];
        }
        acc = in.scale * warp_sum(acc);
        mine[e] = j < j1 ? acc : -INFINITY;
        top = fmaxf(top, mine[e]);
        if (lane == 0 && j < j1)
            a.logits[j] = acc;
    }
    top = block_max(top, lanes);
    float sum = 0;
#pragma unroll
    for (int e = 0; e < STRIP / (THREADS / 32); e++)
        if (lane == 0)
            sum += expf(mine[e] - top);
    sum = block_sum(sum, lanes);
    if (threadIdx.x == 0)
        a.stats[strip] = make_float2(top, sum);
}

/* part[band, j] = Σ x_k · a[k,j] over the 128 rows k of a band before row c, j <= k. 32 groups of four columns, eight rows at once. */
__device__ void walk_tile(const step_args &a, int band, int column_tile)
{
    __shared__ float4 sums[8][32];
    const struct sw_walk_step &in = a.in;
    int group = threadIdx.x & 31, lead = threadIdx.x >> 5, j = column_tile * TILE + group * 4, k0 = band * TILE;
    float4 acc = make_float4(0, 0, 0, 0);
    bool vec = in.ld % 4 == 0;
#pragma unroll
    for (int i = 0; i < TILE / 8; i++) {
        int k = k0 + i * 8 + lead;
        if (k >= a.c || j > k)
            continue;
        float weight = in.x[k];
        const float *row = in.a + (int64_t)k * in.ld + j;
        float4 m = vec ? *reinterpret_cast<const float4 *>(row) : make_float4(row[0], j + 1 <= k ? row[1] : 0, j + 2 <= k ? row[2] : 0, j + 3 <= k ? row[3] : 0);
        acc.x += weight * m.x;
        acc.y += j + 1 <= k ? weight * m.y : 0.0f;
        acc.z += j + 2 <= k ? weight * m.z : 0.0f;
        acc.w += j + 3 <= k ? weight * m.w : 0.0f;
    }
    sums[lead][group] = acc;
    __syncthreads();
    if (lead > 0)
        return;
    for (int l = 1; l < 8; l++) {
        float4 m = sums[l][group];
        acc.x += m.x;
        acc.y += m.y;
        acc.z += m.z;
        acc.w += m.w;
    }
    float values[4] = {acc.x, acc.y, acc.z, acc.w};
    for (int e = 0; e < 4; e++)
        if (j + e < a.b)
            a.part[(int64_t)band * a.b + j + e] = values[e];
}

__device__ inline float power(float v, float exponent, int whole)
{
    if (whole == 0)
        return powf(v, exponent);
    float r = 1;
    for (int e = whole; e > 0; e >>= 1) {
        if (e & 1)
            r *= v;
        v *= v;
    }
    return r;
}

/* What is left when logits and parts are there: one block. */
__device__ void finish(const step_args &a)
{
    __shared__ struct radix_shared sh;
    __shared__ int counts[2][THREADS / 32];
    __shared__ float lanes[32];
    const struct sw_walk_step &in = a.in;
    float top = -INFINITY;
    for (int s = threadIdx.x; s < a.strips; s += THREADS)
        top = fmaxf(top, __ldcg(&a.stats[s]).x);
    top = block_max(top, lanes);
    float sum = 0;
    for (int s = threadIdx.x; s < a.strips; s += THREADS) {
        float2 v = __ldcg(&a.stats[s]);
        sum += v.y * expf(v.x - top);
    }
    float inv = 1.0f / block_sum(sum, lanes), x_c = in.x ? in.x[a.c] : 1.0f, best = -INFINITY;
    float *row = in.a + (int64_t)a.c * in.ld;
    for (int j = threadIdx.x; j < a.b; j += THREADS) {
        float w = power(expf(__ldcg(&a.logits[j]) - top) * inv, in.exponent, a.whole_exponent), r = x_c * w;
        row[j] = w;
        if (in.x)
            for (int band = j / TILE; band < a.tiles; band++)
                r += __ldcg(&a.part[(int64_t)band * a.b + j]);
        in.out[j] = r;
        best = fmaxf(best, r);
    }
    best = block_max(best, lanes);
    if (best > 0)
        for (int j = threadIdx.x; j < a.b; j += THREADS)
            in.out[j] /= best;
    __syncthreads();

    /* As select_top: block 0 and the last ones are forced, the best of the rest follow. */
    int i = a.c, lo = min(in.forced.sink, i), hi = max(lo, i - in.forced.local + 1), need = min(in.kept - (i - (hi - lo)), hi - lo), equal_needed = need;
    bool all = need >= hi - lo;
    uint32_t threshold = 0;
    if (need > 0 && !all)
        threshold = radix_select(in.out, lo, hi, need, &equal_needed, &sh);
    int run = (i + THREADS) / THREADS, j0 = min((int)threadIdx.x * run, i + 1), j1 = min(j0 + run, i + 1);
    struct pair_sum mine = {0, 0}, total;
    for (int j = j0; j < j1; j++) {
        bool candidate = j >= lo && j < hi;
        uint32_t key = candidate ? key_of_score(in.out[j]) : 0;
        if (!candidate || all || (need > 0 && key > threshold))
            mine.a++;
        else if (need > 0 && key == threshold)
            mine.b++;
    }
    struct pair_sum before = scan_pairs(mine, &total, counts);
    int skip = total.b - (need > 0 && !all ? equal_needed : 0), equal = before.b;
    int32_t *out = a.indices + before.a + max(0, before.b - skip);
    for (int j = j0; j < j1; j++) {
        bool candidate = j >= lo && j < hi;
        uint32_t key = candidate ? key_of_score(in.out[j]) : 0;
        if (!candidate || all || (need > 0 && key > threshold))
            *out++ = j;
        else if (need > 0 && key == threshold && equal++ >= skip)
            *out++ = j;
    }
    if (threadIdx.x == 0) {
        a.indptr[0] = 0;
        a.indptr[1] = in.kept + 1;
    }
}

__global__ void __launch_bounds__(THREADS) step_blocks(step_args a)
{
    __shared__ bool last;
    int id = blockIdx.x;
    if (id < a.strips) {
        score_strip(a, id);
    } else { /* tiles of the lower triangle, row bands from the top */
        int tile = id - a.strips, band = (int)((sqrtf(8.0f * (float)tile + 1.0f) - 1.0f) * 0.5f);
        while ((band + 1) * (band + 2) / 2 <= tile)
            band++;
        while (band * (band + 1) / 2 > tile)
            band--;
        walk_tile(a, band, tile - band * (band + 1) / 2);
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(a.done, 1u) == gridDim.x - 1;
        if (last)
            *a.done = 0;
    }
    __syncthreads();
    if (!last)
        return;
    __threadfence();
    finish(a);
}

static enum sw_status walk_step(struct sw_backend *be, const struct sw_walk_step *in, struct sw_selection *out)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(in->n >= 1 && in->block >= 1 && in->transform && in->out != in->x && in->forced.local >= 1 && in->forced.sink >= 0, "walk_step");
    step_args a = {};
    a.in = *in;
    a.t = *in->transform;
    a.c = (in->n - 1) / in->block;
    a.b = a.c + 1;
    REQUIRE(a.b <= in->ld && in->kept >= std::min(a.c, in->forced.sink + in->forced.local - 1) && in->kept <= a.c, "walk_step");
    if (a.t.d_pow2 > MOST_D)
        return SW_FAIL(SW_EUNSUPPORTED, "walk_step: a padded head_dim of %d; expected at most %d", a.t.d_pow2, MOST_D);
    a.strips = div_up(a.b, STRIP);
    a.tiles = in->x ? div_up(a.c, TILE) : 0;
    a.whole_exponent = in->exponent >= 1 && in->exponent <= 64 && in->exponent == floorf(in->exponent) ? (int)in->exponent : 0;
    SW_TRY(sw_cuda_selection_reserve(out, be, 1, 1, std::max<int64_t>(in->ld, a.b), false));
    out->block = in->block;
    out->n = in->n;
    out->n_q = 1;
    out->row0 = a.c;
    out->rows = 1;
    out->units = 1;
    a.indptr = out->indptr;
    a.indices = out->indices;
    /* Sized by ld, so that no later step of the sequence needs more. */
    size_t strips = (size_t)div_up(in->ld, STRIP), bands = (size_t)div_up(in->ld, TILE), width = (size_t)in->ld, had = s->scratch[SCRATCH_STEP].bytes;
    void *room;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_STEP, 16 + strips * sizeof(float2) + (width + bands * width) * sizeof(float), &room));
    if (s->scratch[SCRATCH_STEP].bytes != had) /* new: zero it once; every call leaves a zero */
        CUDA_TRY(s, cudaMemsetAsync(room, 0, 16, s->stream));
    a.done = static_cast<unsigned *>(room);
    a.stats = reinterpret_cast<float2 *>(static_cast<char *>(room) + 16);
    a.logits = reinterpret_cast<float *>(a.stats + strips);
    a.part = a.logits + width;
    step_blocks<<<(unsigned)(a.strips + a.tiles * (a.tiles + 1) / 2), THREADS, 0, s->stream>>>(a);
    LAUNCHED(s, "walk_step");
    return SW_OK;
}

void sw_cuda_bind_walk_step(struct sw_backend *be) { be->walk_step = walk_step; }
