/* A decode step's selection in one launch: sketches, a row of scores, a row of the walk, the best blocks (struct sw_walk_step).
 *
 * All of it is latency: the bytes (2·b² of the matrix, 8.4 MB at b = 2048; 4·r·b of key sketches) are 3 µs, one cold read after another is the rest. So whatever
 * can be asked for at once is asked for before anybody waits, and what is computed twice is cheaper than what is handed over.
 * Two kinds of blocks work side by side: some take 64 key blocks each, make the query's sketch (all alike: 2·H·d bytes from L2; each warp transforms its own copy, in
 * registers) and their logits; the others take 256 × 64 tiles of the cached matrix and multiply the walk's row by them, which needs nothing of this layer's query but
 * the last term, x_c · a[c,:]. The block that finishes last does the rest alone, from shared memory: softmax, power, that last term, the maximum, the
 * radix selection. Nobody waits in a loop, so nothing depends on who runs when; sums have a fixed order. */
#include <algorithm>
#include <cmath>

#include "kernels/cuda/device.h"
#include "kernels/cuda/early.cuh"
#include "kernels/cuda/radix.cuh"
#include "kernels/cuda/reduce.cuh"

static const int STEP_THREADS = 512, STEP_WARPS = STEP_THREADS / 32;
static const int STRIP = 64, KEYS = STRIP / STEP_WARPS; /* key blocks of a score block, and of one of its warps */
static const int BAND = 256, WIDE = 64;                 /* rows and columns of a tile */
static const int MOST_SHARED = 2048;                    /* blocks whose scores fit in shared memory; longer rows stay in L2 */
static const int MOST_D = 256;                          /* padded head_dim at most */

struct step_args {
    struct sw_walk_step in;
    struct sw_srht t;
    int c, b, strips, bands, ld, whole_exponent; /* c: the token's block; b = c + 1; ld: of part, a multiple of 4 */
    unsigned *done;
    float *logits, *part; /* [ld]; [bands, ld]: sums over the rows of each band */
    int32_t *indptr, *indices;
};

union step_shared {
    struct { float sums[STEP_THREADS], key[MOST_D], rows[STEP_WARPS][MOST_D]; } sketch;
    float tile[STEP_WARPS][WIDE];
    struct {
        float weights[MOST_SHARED], walked[MOST_SHARED], lanes[32];
        struct radix_shared radix;
        int counts[2][STEP_WARPS];
    } finish;
};

/* Walsh–Hadamard transform of a warp's vector, lane + 32·e in v[e]. */
template <int E>
__device__ inline void transform(float (&v)[E])
{
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int half = 1; half < 32; half *= 2)
#pragma unroll
        for (int e = 0; e < E; e++) {
            float other = __shfl_xor_sync(0xffffffffu, v[e], half);
            v[e] = lane & half ? other - v[e] : v[e] + other;
        }
#pragma unroll
    for (int half = 1; half < E; half *= 2)
#pragma unroll
        for (int e = 0; e < E; e++)
            if (!(e & half)) {
                float x = v[e], y = v[e + half];
                v[e] = x + y;
                v[e + half] = x - y;
            }
}

/* The r kept coordinates of a warp's transformed vector, scaled; zeros beyond. `row`: the warp's own shared memory. */
template <int E>
__device__ inline void keep_coordinates(float (&v)[E], const int (&keep)[E], float scale, float *row)
{
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int e = 0; e < E; e++)
        row[lane + 32 * e] = v[e];
    __syncwarp();
#pragma unroll
    for (int e = 0; e < E; e++)
        v[e] = keep[e] >= 0 ? row[keep[e]] * scale : 0.0f;
    __syncwarp();
}

/* Sum over heads h0 … h1-1 of coordinate c of one token. */
__device__ inline float head_sum(const bf16 *x, int h0, int h1, int d, int c)
{
    float sum = 0;
#pragma unroll 8
    for (int h = h0; h < h1; h++)
        sum += __bfloat162float(x[(int64_t)h * d + c]);
    return sum;
}

/* Logits of key blocks strip · 64 …; the strip that holds block c brings that block's sketch up to date. d_pow2 = 32·E. */
template <int E>
__device__ void score_strip(const step_args &a, int strip, union step_shared *sh)
{
    constexpr int D = 32 * E, GROUPS = STEP_THREADS / D; /* groups of heads are summed side by side */
    const struct sw_walk_step &in = a.in;
    int d = in.head_dim, r = a.t.r, j0 = strip * STRIP, j1 = min(j0 + STRIP, a.b), warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    bool holds_c = a.c < j1; /* strips ascend: only the last one */

    /* Everything that this block reads, at once. */
    int coordinate = threadIdx.x % D, group = threadIdx.x / D;
    float part = coordinate < d ? head_sum(static_cast<const bf16 *>(in.q), in.n_heads * group / GROUPS, in.n_heads * (group + 1) / GROUPS, d, coordinate) : 0.0f;
    float signs[E], key[KEYS][E];
    int keep[E];
#pragma unroll
    for (int e = 0; e < E; e++) {
        int k = lane + 32 * e;
        signs[e] = a.t.signs[k];
        keep[e] = k < r ? a.t.keep[k] : -1;
#pragma unroll
        for (int i = 0; i < KEYS; i++) {
            int j = j0 + i * STEP_WARPS + warp;
            key[i][e] = k < r && j < a.c ? in.k_sketch[(int64_t)j * r + k] : 0.0f;
        }
    }
    if (holds_c && threadIdx.x < d) { /* heads in order, as pool adds them */
        int count = in.n - a.c * in.block;
        float *sum = in.k_sums + (int64_t)a.c * d + threadIdx.x, before = count == 1 ? 0.0f : *sum;
        float mean = head_sum(static_cast<const bf16 *>(in.k), 0, in.n_kv_heads, d, threadIdx.x);
        float total = before + (in.n_kv_heads == 1 ? mean : mean / (float)in.n_kv_heads);
        *sum = total;
        sh->sketch.key[threadIdx.x] = total / (float)(in.padded_tail ? in.block : count);
    }
    sh->sketch.sums[threadIdx.x] = part;
    __syncthreads();

    float query[E];
#pragma unroll
    for (int e = 0; e < E; e++) {
        float sum = 0;
        for (int g = 0; g < GROUPS; g++)
            sum += sh->sketch.sums[g * D + lane + 32 * e];
        query[e] = sum / (float)in.n_heads * signs[e];
    }
    transform(query);
    keep_coordinates(query, keep, a.t.scale, sh->sketch.rows[warp]);
#pragma unroll
    for (int i = 0; i < KEYS; i++) {
        int j = j0 + i * STEP_WARPS + warp;
        if (j >= j1)
            break;
        if (j == a.c) {
#pragma unroll
            for (int e = 0; e < E; e++)
                key[i][e] = lane + 32 * e < d ? sh->sketch.key[lane + 32 * e] * signs[e] : 0.0f;
            transform(key[i]);
            keep_coordinates(key[i], keep, a.t.scale, sh->sketch.rows[warp]);
#pragma unroll
            for (int e = 0; e < E; e++)
                if (lane + 32 * e < r)
                    in.k_sketch[(int64_t)j * r + lane + 32 * e] = key[i][e];
        }
        float acc = 0;
#pragma unroll
        for (int e = 0; e < E; e++)
            acc += query[e] * key[i][e];
        acc = in.scale * warp_sum(acc);
        if (lane == 0)
            a.logits[j] = acc;
    }
}

/* part[band, j] = Σ x_k · a[k,j] over the 256 rows k of a band before row c, j <= k. 16 groups of four columns, 32 rows at once. */
__device__ void walk_tile(const step_args &a, int band, int tile, union step_shared *sh)
{
    const struct sw_walk_step &in = a.in;
    int group = threadIdx.x & 15, lead = threadIdx.x >> 4, j = tile * WIDE + group * 4, k0 = band * BAND;
    float acc[4] = {};
    bool vec = in.ld % 4 == 0;
#pragma unroll
    for (int i = 0; i < BAND / 32; i++) {
        int k = k0 + i * 32 + lead;
        if (k >= a.c || j > k)
            continue;
        float weight = in.x[k];
        const float *row = in.a + (int64_t)k * in.ld + j;
        float4 m = vec ? *reinterpret_cast<const float4 *>(row)
                       : make_float4(row[0], j + 1 <= k ? row[1] : 0.0f, j + 2 <= k ? row[2] : 0.0f, j + 3 <= k ? row[3] : 0.0f);
        acc[0] += weight * m.x;
        acc[1] += j + 1 <= k ? weight * m.y : 0.0f;
        acc[2] += j + 2 <= k ? weight * m.z : 0.0f;
        acc[3] += j + 3 <= k ? weight * m.w : 0.0f;
    }
#pragma unroll
    for (int e = 0; e < 4; e++)
        acc[e] += __shfl_xor_sync(0xffffffffu, acc[e], 16); /* the warp's two rows */
    if ((threadIdx.x & 16) == 0)
        *reinterpret_cast<float4 *>(&sh->tile[threadIdx.x >> 5][group * 4]) = make_float4(acc[0], acc[1], acc[2], acc[3]);
    __syncthreads();
    if (threadIdx.x >= WIDE)
        return;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < STEP_WARPS; w++)
        sum += sh->tile[w][threadIdx.x];
    j = tile * WIDE + (int)threadIdx.x;
    if (j < a.ld)
        a.part[(int64_t)band * a.ld + j] = sum;
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

/* The walk's row, out[0 … b): logits and parts are there. Leaves it in `walked` too; ends without a barrier. A thread keeps to its own groups of four columns. */
__device__ void finish_row(const step_args &a, float *weights, float *walked, float *lanes)
{
    const struct sw_walk_step &in = a.in;
    float top = -INFINITY, sum = 0, best = -INFINITY, x_c = in.x ? in.x[a.c] : 1.0f;
    for (int j = 4 * threadIdx.x; j < a.b; j += 4 * STEP_THREADS) {
        float4 logit = __ldcg(reinterpret_cast<const float4 *>(a.logits + j)), walk = make_float4(0, 0, 0, 0);
        for (int first = j / BAND; first < a.bands; first += 8)
#pragma unroll
            for (int band = 0; band < 8; band++)
                if (first + band < a.bands) {
                    float4 v = __ldcg(reinterpret_cast<const float4 *>(a.part + (int64_t)(first + band) * a.ld + j));
                    walk.x += v.x;
                    walk.y += v.y;
                    walk.z += v.z;
                    walk.w += v.w;
                }
        float l[4] = {logit.x, logit.y, logit.z, logit.w}, w[4] = {walk.x, walk.y, walk.z, walk.w};
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (j + e < a.b) {
                weights[j + e] = l[e];
                walked[j + e] = w[e];
                top = fmaxf(top, l[e]);
            }
    }
    top = block_max(top, lanes);
    for (int j = 4 * threadIdx.x; j < a.b; j += 4 * STEP_THREADS)
        for (int e = j; e < min(j + 4, a.b); e++)
            sum += weights[e] = expf(weights[e] - top);
    float inv = 1.0f / block_sum(sum, lanes), *row = in.a + (int64_t)a.c * in.ld;
    for (int j = 4 * threadIdx.x; j < a.b; j += 4 * STEP_THREADS)
        for (int e = j; e < min(j + 4, a.b); e++) {
            float w = power(weights[e] * inv, in.exponent, a.whole_exponent), r = in.x ? x_c * w + walked[e] : w;
            row[e] = w;
            walked[e] = r;
            best = fmaxf(best, r);
        }
    best = block_max(best, lanes);
    for (int j = 4 * threadIdx.x; j < a.b; j += 4 * STEP_THREADS)
        for (int e = j; e < min(j + 4, a.b); e++) {
            float r = best > 0 ? walked[e] / best : walked[e];
            walked[e] = r;
            in.out[e] = r;
        }
}

/* As select_top: block 0 and the last ones are forced, the best of the rest follow. */
__device__ void finish_list(const step_args &a, const float *walked, union step_shared *sh)
{
    const struct sw_walk_step &in = a.in;
    int i = a.c, lo = min(in.forced.sink, i), hi = max(lo, i - in.forced.local + 1), need = min(in.kept - (i - (hi - lo)), hi - lo), equal_needed = need;
    bool all = need >= hi - lo;
    uint32_t threshold = 0;
    __syncthreads();
    if (need > 0 && !all)
        threshold = radix_select(walked, lo, hi, need, &equal_needed, &sh->finish.radix);
    int run = (i + STEP_THREADS) / STEP_THREADS, j0 = min((int)threadIdx.x * run, i + 1), j1 = min(j0 + run, i + 1);
    struct pair_sum mine = {0, 0}, total;
    for (int j = j0; j < j1; j++) {
        bool candidate = j >= lo && j < hi;
        uint32_t key = candidate ? key_of_score(walked[j]) : 0;
        if (!candidate || all || (need > 0 && key > threshold))
            mine.a++;
        else if (need > 0 && key == threshold)
            mine.b++;
    }
    struct pair_sum before = scan_pairs<STEP_WARPS>(mine, &total, sh->finish.counts);
    int skip = total.b - (need > 0 && !all ? equal_needed : 0), equal = before.b;
    int32_t *out = a.indices + before.a + max(0, before.b - skip);
    for (int j = j0; j < j1; j++) {
        bool candidate = j >= lo && j < hi;
        uint32_t key = candidate ? key_of_score(walked[j]) : 0;
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

template <int E>
__global__ void __launch_bounds__(STEP_THREADS) step_blocks(step_args a)
{
    __shared__ union step_shared sh;
    __shared__ bool last;
    int id = blockIdx.x;
    allow_early();
    if (id < a.strips) {
        score_strip<E>(a, id, &sh);
    } else { /* tiles of the lower triangle, row bands from the top: BAND / WIDE · (band + 1) in each */
        constexpr int A_BAND = BAND / WIDE;
        int tile = id - a.strips, band = 0;
        while (A_BAND * (band + 1) * (band + 2) / 2 <= tile)
            band++;
        walk_tile(a, band, tile - A_BAND * band * (band + 1) / 2, &sh);
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
    bool fits = a.b <= MOST_SHARED;
    float *weights = fits ? sh.finish.weights : a.logits, *walked = fits ? sh.finish.walked : a.in.out;
    finish_row(a, weights, walked, sh.finish.lanes);
    finish_list(a, walked, &sh);
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
    if (a.t.d_pow2 < 32 || a.t.d_pow2 > MOST_D)
        return SW_FAIL(SW_EUNSUPPORTED, "walk_step: a padded head_dim of %d; expected 32 to %d", a.t.d_pow2, MOST_D);
    a.strips = div_up(a.b, STRIP);
    a.bands = in->x ? div_up(a.c, BAND) : 0;
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
    a.ld = div_up(in->ld, 4) * 4;
    size_t width = (size_t)a.ld, bands = (size_t)div_up(in->ld, BAND), had = s->scratch[SCRATCH_STEP].bytes;
    void *room;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_STEP, 16 + (1 + bands) * width * sizeof(float), &room));
    if (s->scratch[SCRATCH_STEP].bytes != had) /* new: zero it once; every call leaves a zero */
        CUDA_TRY(s, cudaMemsetAsync(room, 0, 16, s->stream));
    a.done = static_cast<unsigned *>(room);
    a.logits = reinterpret_cast<float *>(static_cast<char *>(room) + 16);
    a.part = a.logits + width;
    dim3 grid((unsigned)(a.strips + BAND / WIDE * a.bands * (a.bands + 1) / 2));
    void (*kernel)(step_args) = a.t.d_pow2 == 32 ? step_blocks<1> : a.t.d_pow2 == 64 ? step_blocks<2> : a.t.d_pow2 == 128 ? step_blocks<4> : step_blocks<8>;
    kernel<<<grid, STEP_THREADS, 0, s->stream>>>(a);
    LAUNCHED(s, "walk_step");
    return SW_OK;
}

void sw_cuda_bind_walk_step(struct sw_backend *be) { be->walk_step = walk_step; }
