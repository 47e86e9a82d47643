/* A decode step's selection in one launch: sketches, a row of scores, a row of the walk, the best blocks (struct sw_walk_step).
 *
 * All of it is latency: the bytes (2·b² of the matrix, 8.4 MB at b = 2048; 4·r·b of key sketches) are 3 µs, one cold read after another is the rest. So whatever
 * can be asked for at once is asked for before anybody waits, and what is computed twice is cheaper than what is handed over.
 * Three kinds of blocks work side by side, for each sequence. Some take 32 key blocks each, make the query's sketch (all alike: 2·H·d bytes from L2; each warp
 * transforms its own copy, in registers) and their logits. Others take tiles of 1,024 × 32 of the cached matrix and multiply the walk's row by them, which needs
 * nothing of this layer's query but the last term, x_c · a[c,:]. One, the finisher, does the rest alone, from shared memory: softmax, power, that last term, the
 * maximum, the selection. Sums have a fixed order.
 * What is handed over is its own flag: logits, parts and entries of the list hold NOT_YET until they are written, and who needs one reads it until it does not. That
 * costs one way through L2 (0.6 µs) where a counter behind a fence costs three. Two things wait so: the finisher for the workers of its sequence, and attention that was
 * launched early for the list (decode.cu). Neither can wait for a block that has no place: finishers are fewer than the places, and an early launch begins when every
 * block of this one runs. */
#include <algorithm>
#include <cmath>

#include "kernels/cuda/device.h"
#include "kernels/cuda/early.cuh"
#include "kernels/cuda/radix.cuh" /* the order of scores */
#include "kernels/cuda/reduce.cuh"

static const int STEP_THREADS = 512, STEP_WARPS = STEP_THREADS / 32;
static const int STRIP = 32, KEYS = STRIP / STEP_WARPS; /* key blocks of a score block, and of one of its warps */
static const int BAND = 1024, WIDE = 32;                /* rows and columns of a tile */
static const int TURN = 4 * STEP_THREADS;               /* columns that the finisher takes at once */
static const int MOST_SHARED = 2 * TURN;                /* blocks whose scores fit in shared memory: 256K tokens; longer rows stay in L2 */
static const int MOST_D = 256;                          /* padded head_dim at most */

union step_shared {
    struct { float sums[STEP_THREADS], key[MOST_D], rows[STEP_WARPS][MOST_D]; } sketch;
    float tile[STEP_WARPS][WIDE];
    struct {
        union { float weights[MOST_SHARED]; int bins[TURN]; };
        float walked[MOST_SHARED];
        int found[3]; /* of the search: a bin, candidates beyond it, candidates from it on */
    } finish;
};

/* Arguments of one sequence of the batch. */
__device__ inline step_args of_sequence(step_args a, int seq)
{
    struct sw_walk_step &in = a.in;
    int64_t ld = in.ld;
    in.q = static_cast<const bf16 *>(in.q) + (int64_t)seq * in.n_heads * in.head_dim;
    in.k = static_cast<const bf16 *>(in.k) + seq * in.k_stride;
    in.k_sums += seq * ld * in.head_dim;
    in.k_sketch += seq * ld * a.t.r;
    in.a += seq * ld * ld;
    in.x = in.x ? in.x + seq * ld : nullptr;
    in.out += seq * ld;
    a.written += seq;
    a.logits += seq * ld;
    a.part += seq * ld * a.bands_room;
    a.indptr += seq;
    a.indices += (int64_t)seq * (in.kept + 1);
    return a;
}

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

/* Sum over heads h0 … h1-1 of coordinate c of one token, in two halves: the first eight are asked for, and later added, so that other reads can be asked for between. */
__device__ inline void ask_heads(const bf16 *x, int h0, int h1, int d, int c, bf16 (&first)[8])
{
#pragma unroll
    for (int i = 0; i < 8; i++)
        first[i] = h0 + i < h1 && c < d ? x[(h0 + i) * d + c] : __float2bfloat16(0.0f);
}
__device__ inline float add_heads(const bf16 *x, int h0, int h1, int d, int c, const bf16 (&first)[8])
{
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 8; i++)
        sum += __bfloat162float(first[i]);
    if (c < d)
#pragma unroll 8
        for (int h = h0 + 8; h < h1; h++)
            sum += __bfloat162float(x[h * d + c]);
    return sum;
}

/* Logits of key blocks strip · 32 …; the strip that holds block c brings that block's sketch up to date. d_pow2 = 32·E. */
template <int E>
__device__ void score_strip(const step_args &a, int strip, union step_shared *sh)
{
    constexpr int D = 32 * E, GROUPS = STEP_THREADS / D; /* groups of heads are summed side by side */
    const struct sw_walk_step &in = a.in;
    int d = in.head_dim, r = a.t.r, j0 = strip * STRIP, j1 = min(j0 + STRIP, a.b), warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    bool holds_c = a.c < j1; /* strips ascend: only the last one */

    /* Everything that this block reads, at once. */
    int coordinate = threadIdx.x % D, h0 = in.n_heads * (threadIdx.x / D) / GROUPS, h1 = in.n_heads * (threadIdx.x / D + 1) / GROUPS;
    const bf16 *q = static_cast<const bf16 *>(in.q), *k_token = static_cast<const bf16 *>(in.k);
    bf16 q_first[8], k_first[8];
    ask_heads(q, h0, h1, d, coordinate, q_first);
    bool adds_key = holds_c && threadIdx.x < d;
    int count = in.n - a.c * in.block;
    float *k_sum = in.k_sums + (int64_t)a.c * d + threadIdx.x, before = adds_key && count > 1 ? *k_sum : 0.0f;
    ask_heads(k_token, 0, adds_key ? in.n_kv_heads : 0, d, threadIdx.x, k_first);
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
    if (adds_key) { /* heads in order, as pool adds them */
        float mean = add_heads(k_token, 0, in.n_kv_heads, d, threadIdx.x, k_first), total = before + (in.n_kv_heads == 1 ? mean : mean / (float)in.n_kv_heads);
        *k_sum = total;
        sh->sketch.key[threadIdx.x] = total / (float)(in.padded_tail ? in.block : count);
    }
    sh->sketch.sums[threadIdx.x] = add_heads(q, h0, h1, d, coordinate, q_first);
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
    if (holds_c && warp == (a.c - j0) % STEP_WARPS) { /* this warp has block c */
        float fresh[E];
#pragma unroll
        for (int e = 0; e < E; e++)
            fresh[e] = lane + 32 * e < d ? sh->sketch.key[lane + 32 * e] * signs[e] : 0.0f;
        transform(fresh);
        keep_coordinates(fresh, keep, a.t.scale, sh->sketch.rows[warp]);
#pragma unroll
        for (int e = 0; e < E; e++) {
            if (lane + 32 * e < r)
                in.k_sketch[(int64_t)a.c * r + lane + 32 * e] = fresh[e];
#pragma unroll
            for (int i = 0; i < KEYS; i++)
                if (j0 + i * STEP_WARPS + warp == a.c)
                    key[i][e] = fresh[e];
        }
    }
    float logit[KEYS];
#pragma unroll
    for (int i = 0; i < KEYS; i++) {
        logit[i] = 0;
#pragma unroll
        for (int e = 0; e < E; e++)
            logit[i] += query[e] * key[i][e];
    }
#pragma unroll
    for (int o = 16; o > 0; o >>= 1)
#pragma unroll
        for (int i = 0; i < KEYS; i++)
            logit[i] += __shfl_xor_sync(0xffffffffu, logit[i], o);
#pragma unroll
    for (int i = 0; i < KEYS; i++)
        if (lane == i && j0 + i * STEP_WARPS + warp < j1)
            a.logits[j0 + i * STEP_WARPS + warp] = in.scale * logit[i];
}

/* part[band, j] = Σ x_k · a[k,j] over the rows k of a band before row c. Eight groups of four columns, 64 rows at once, each thread's eight loads in flight together.
 * Above the diagonal a is zero. */
__device__ void walk_tile(const step_args &a, int band, int tile, union step_shared *sh)
{
    constexpr int GROUPS = WIDE / 4, ROWS = STEP_THREADS / GROUPS, TURNS = 8;
    const struct sw_walk_step &in = a.in;
    int group = threadIdx.x % GROUPS, j = tile * WIDE + group * 4, end = min(a.c, (band + 1) * BAND);
    float acc[4] = {};
#pragma unroll 1
    for (int k0 = band * BAND + (int)threadIdx.x / GROUPS; k0 < end; k0 += TURNS * ROWS) {
        float4 m[TURNS];
        float weight[TURNS];
#pragma unroll
        for (int i = 0; i < TURNS; i++) {
            int k = k0 + i * ROWS;
            bool there = k < end && j <= k;
            weight[i] = there ? in.x[k] : 0.0f;
            m[i] = there ? *reinterpret_cast<const float4 *>(in.a + (int64_t)k * in.ld + j) : make_float4(0, 0, 0, 0);
        }
#pragma unroll
        for (int i = 0; i < TURNS; i++) {
            acc[0] += weight[i] * m[i].x;
            acc[1] += weight[i] * m[i].y;
            acc[2] += weight[i] * m[i].z;
            acc[3] += weight[i] * m[i].w;
        }
    }
#pragma unroll
    for (int o = GROUPS; o < 32; o *= 2) /* the warp's rows */
#pragma unroll
        for (int e = 0; e < 4; e++)
            acc[e] += __shfl_xor_sync(0xffffffffu, acc[e], o);
    if ((threadIdx.x & 31) < GROUPS)
        *reinterpret_cast<float4 *>(&sh->tile[threadIdx.x >> 5][group * 4]) = make_float4(acc[0], acc[1], acc[2], acc[3]);
    __syncthreads();
    j = tile * WIDE + (int)threadIdx.x;
    if (threadIdx.x >= WIDE || j >= (a.b + 3) / 4 * 4) /* not more than the finisher reads and resets */
        return;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < STEP_WARPS; w++)
        sum += sh->tile[w][threadIdx.x];
    a.part[(int64_t)band * in.ld + j] = sum;
}

/* Any other exponent than a whole one from 1 to 64; apart, because it is long. */
__device__ __noinline__ float any_power(float v, float exponent) { return powf(v, exponent); }

__device__ inline void power(float (&v)[4], float exponent, int whole)
{
    if (whole == 0) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            v[i] = any_power(v[i], exponent);
        return;
    }
    float r[4] = {1, 1, 1, 1};
#pragma unroll 1
    for (int e = whole; e > 0; e >>= 1)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (e & 1)
                r[i] *= v[i];
            v[i] *= v[i];
        }
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i] = r[i];
}

/* The warps of the finisher that have columns: four a lane and turn. At b = 128 it is one warp, which waits for nobody. */
struct team {
    int warps;
    int *lanes; /* [2][STEP_WARPS] */
    int turn;   /* of the two halves of `lanes`: one barrier a reduction */

    __device__ void sync() const
    {
        if (warps == 1)
            __syncwarp();
        else
            asm volatile("bar.sync 1, %0;" ::"r"(warps * 32) : "memory");
    }
    /* v of warp `lane`, to every warp; `none` beyond the team. */
    __device__ int exchange(int v, int none)
    {
        int lane = threadIdx.x & 31, *half = lanes + (turn ^= 1) * STEP_WARPS;
        if (lane == 0)
            half[threadIdx.x >> 5] = v;
        sync();
        return lane < warps ? half[lane] : none;
    }
    __device__ uint32_t max_key(uint32_t v)
    {
        v = __reduce_max_sync(0xffffffffu, v);
        return warps == 1 ? v : __reduce_max_sync(0xffffffffu, (uint32_t)exchange((int)v, 0));
    }
    __device__ float max(float v) { return score_of_key(max_key(key_of_score(v))); } /* one instruction a warp, where shuffles take five */
    __device__ float sum(float v)
    {
        v = warp_sum(v);
        return warps == 1 ? v : warp_sum(__int_as_float(exchange(__float_as_int(v), 0)));
    }
    __device__ int count(int v)
    {
        v = __reduce_add_sync(0xffffffffu, v);
        return warps == 1 ? v : __reduce_add_sync(0xffffffffu, exchange(v, 0));
    }
};

__device__ inline float4 load4(const float *p) { return *reinterpret_cast<const float4 *>(p); }
__device__ inline void store4(float *p, float x, float y, float z, float w) { *reinterpret_cast<float4 *>(p) = make_float4(x, y, z, w); }

__device__ inline bool are_there(float4 v, int count) { return is_there(v.x) && (count < 2 || is_there(v.y)) && (count < 3 || is_there(v.z)) && (count < 4 || is_there(v.w)); }

/* Σ over the bands of the parts of columns j … j+3, once all are there; their places say NOT_YET again afterwards. */
__device__ inline float4 take_parts(const step_args &a, int j)
{
    constexpr int PARTS = 2; /* asked for at once */
    float not_yet = __uint_as_float(NOT_YET);
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 1
    for (int first = j / BAND; first < a.bands; first += PARTS) {
        float4 part[PARTS];
        float *from = a.part + (int64_t)first * a.in.ld + j;
        bool missing;
        do {
            missing = false;
#pragma unroll
            for (int band = 0; band < PARTS; band++)
                part[band] = first + band < a.bands ? load_now(reinterpret_cast<const float4 *>(from + (int64_t)band * a.in.ld)) : make_float4(0, 0, 0, 0);
#pragma unroll
            for (int band = 0; band < PARTS; band++)
                missing |= !are_there(part[band], 4);
        } while (missing);
#pragma unroll
        for (int band = 0; band < PARTS; band++) {
            sum.x += part[band].x;
            sum.y += part[band].y;
            sum.z += part[band].z;
            sum.w += part[band].w;
            if (first + band < a.bands)
                store4(from + (int64_t)band * a.in.ld, not_yet, not_yet, not_yet, not_yet);
        }
    }
    return sum;
}

/* The walk's row, out[0 … b), from logits and parts as they come: logits do first (3.3 µs at b = 2048 beside 5.6), so the row of a is made of them while parts are
 * under way. Their places say NOT_YET again afterwards. Leaves the row in `walked` too, zeros up to a multiple of four. A thread keeps to its own columns. */
__device__ void finish_row(const step_args &a, struct team &team, float *weights, float *walked)
{
    const struct sw_walk_step &in = a.in;
    float top = -INFINITY, sum = 0, best = -INFINITY, x_c = in.x ? in.x[a.c] : 1.0f, *row = in.a + (int64_t)a.c * in.ld;
    float not_yet = __uint_as_float(NOT_YET);
    bool in_place = weights == a.logits;
    int j0 = 4 * threadIdx.x;
#pragma unroll 1
    for (int j = j0; j < a.b; j += TURN) {
        float4 l;
        do
            l = load_now(reinterpret_cast<const float4 *>(a.logits + j));
        while (!are_there(l, a.b - j));
        if (!in_place)
            store4(a.logits + j, not_yet, not_yet, not_yet, not_yet);
        if (j + 1 >= a.b)
            l.y = -INFINITY;
        if (j + 2 >= a.b)
            l.z = -INFINITY;
        if (j + 3 >= a.b)
            l.w = -INFINITY;
        *reinterpret_cast<float4 *>(weights + j) = l;
        top = fmaxf(top, fmaxf(fmaxf(l.x, l.y), fmaxf(l.z, l.w)));
    }
    top = team.max(top);
#pragma unroll 1
    for (int j = j0; j < a.b; j += TURN) {
        float4 l = load4(weights + j);
        l = make_float4(expf(l.x - top), expf(l.y - top), expf(l.z - top), expf(l.w - top));
        *reinterpret_cast<float4 *>(weights + j) = l;
        sum += (l.x + l.y) + (l.z + l.w);
    }
    float inv = 1.0f / team.sum(sum);
#pragma unroll 1
    for (int j = j0; j < a.b; j += TURN) {
        float4 l = load4(weights + j);
        float w[4] = {l.x * inv, l.y * inv, l.z * inv, l.w * inv};
        power(w, in.exponent, a.whole_exponent);
        if (in_place)
            store4(weights + j, not_yet, not_yet, not_yet, not_yet);
        store4(row + j, w[0], w[1], w[2], w[3]);
        float4 r = take_parts(a, j);
        r = make_float4(x_c * w[0] + r.x, x_c * w[1] + r.y, x_c * w[2] + r.z, x_c * w[3] + r.w);
        *reinterpret_cast<float4 *>(walked + j) = r;
        best = fmaxf(best, fmaxf(fmaxf(r.x, r.y), fmaxf(r.z, r.w)));
    }
    best = team.max(best);
    best = best > 0 ? best : 1.0f;
#pragma unroll 1
    for (int j = j0; j < a.b; j += TURN) {
        float4 r = load4(walked + j);
        r = make_float4(r.x / best, r.y / best, r.z / best, r.w / best);
        *reinterpret_cast<float4 *>(walked + j) = r;
        *reinterpret_cast<float4 *>(in.out + j) = r;
    }
}

/* As select_top: block 0 and the last ones are forced, the best of the rest follow. The threshold by a search among the scores' keys: one look by bins, four a thread
 * between the least and the largest key, then guesses from the counts on both sides and halves by turns within the bin that holds it, until just the wanted number
 * lies above. */
__device__ void finish_list(const step_args &a, struct team &team, const float *walked, union step_shared *sh)
{
    const struct sw_walk_step &in = a.in;
    int i = a.c, lo = min(in.forced.sink, i), hi = max(lo, i - in.forced.local + 1), need = min(in.kept - (i - (hi - lo)), hi - lo), j0 = 4 * threadIdx.x;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    uint32_t key[4]; /* of the first turn; 0: no candidate, or not a number */
    auto keys_at = [&](int j) {
        float4 r = j < a.b ? load4(walked + j) : make_float4(0, 0, 0, 0);
        float v[4] = {r.x, r.y, r.z, r.w};
#pragma unroll
        for (int e = 0; e < 4; e++)
            key[e] = j + e >= lo && j + e < hi ? key_of_score(v[e]) : 0;
    };
    keys_at(j0);
    *reinterpret_cast<int4 *>(sh->finish.bins + j0) = make_int4(0, 0, 0, 0); /* the weights, of the own columns, are not needed any more */
    uint32_t threshold = 0, top = key_of_score(1.0f) + 1; /* none is above the rescaled row's maximum */
    uint32_t least = 0; /* nor below its minimum */
#pragma unroll
    for (int e = 0; e < 4; e++)
        least = max(least, j0 + e >= lo && j0 + e < hi ? ~key[e] : 0);
#pragma unroll 1
    for (int j = j0 + TURN; j < hi; j += TURN)
        for (int e = max(j, lo); e < min(j + 4, hi); e++)
            least = max(least, ~key_of_score(walked[e]));
    threshold = ~team.max_key(least);
    int above = hi - lo, beyond = 0; /* candidates from the threshold on, and from top on */
    if (above > need && need > 0) {
        int shift = max(0, 32 - __clz(top - 1 - threshold) - (7 + 31 - __clz(team.warps))); /* at most 128 · warps bins */
        if (team.warps == 1)
            __syncwarp(); /* the exchange was a barrier; without one, this is it */
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (j0 + e >= lo && j0 + e < hi)
                atomicAdd(&sh->finish.bins[(key[e] - threshold) >> shift], 1);
#pragma unroll 1
        for (int j = j0 + TURN; j < hi; j += TURN)
            for (int e = max(j, lo); e < min(j + 4, hi); e++)
                atomicAdd(&sh->finish.bins[(key_of_score(walked[e]) - threshold) >> shift], 1);
        team.sync();
        int4 bins = *reinterpret_cast<const int4 *>(sh->finish.bins + j0);
        int in_bin[4] = {bins.x, bins.y, bins.z, bins.w}, mine = (bins.x + bins.y) + (bins.z + bins.w), from = mine; /* from: candidates in bins from mine on */
#pragma unroll
        for (int o = 1; o < 32; o *= 2) {
            int v = __shfl_down_sync(0xffffffffu, from, o);
            from += lane + o < 32 ? v : 0;
        }
        if (team.warps > 1) {
            int of_warp = team.exchange(__shfl_sync(0xffffffffu, from, 0), 0);
            from += __reduce_add_sync(0xffffffffu, lane > warp ? of_warp : 0);
        }
        if (from - mine < need && need <= from) { /* one thread */
            int e = 3, past = from - mine;
#pragma unroll
            for (int k = 3; k > 0; k--)
                if (e == k && past + in_bin[k] < need) {
                    past += in_bin[k];
                    e--;
                }
            sh->finish.found[0] = j0 + e;
            sh->finish.found[1] = past;
            sh->finish.found[2] = past + (e == 0 ? in_bin[0] : e == 1 ? in_bin[1] : e == 2 ? in_bin[2] : in_bin[3]);
        }
        team.sync();
        uint64_t begin = threshold + ((uint64_t)sh->finish.found[0] << shift), end = begin + ((uint64_t)1 << shift);
        beyond = sh->finish.found[1];
        above = sh->finish.found[2];
        top = (uint32_t)min(end, (uint64_t)top);
        threshold = (uint32_t)begin;
    }
#pragma unroll 1
    for (bool guess = true; above > need && need > 0 && top - threshold > 1; guess = !guess) {
        uint32_t span = top - threshold, step = guess ? (uint32_t)((float)span * __fdividef((float)(above - need), (float)(above - beyond))) : span / 2;
        uint32_t higher = threshold + min(max(step, 1u), span - 1);
        int n = 0;
#pragma unroll
        for (int e = 0; e < 4; e++)
            n += key[e] >= higher;
#pragma unroll 1
        for (int j = j0 + TURN; j < hi; j += TURN)
            for (int e = max(j, lo); e < min(j + 4, hi); e++)
                n += key_of_score(walked[e]) >= higher;
        n = team.count(n);
        if (n >= need) {
            threshold = higher;
            above = n;
        } else {
            top = higher;
            beyond = n;
        }
    }
    /* Of those that equal the threshold, the first ones are one too many; where none is wanted, all are. */
    int skip = above - need, kept = 0, equal = 0;
    bool none = need <= 0;
#pragma unroll 1
    for (int chunk = 0; chunk < i; chunk += TURN) {
        int j = chunk + j0, mine = 0;
        if (chunk > 0)
            keys_at(j);
        bool take[4], tie[4];
#pragma unroll
        for (int e = 0; e < 4; e++) {
            bool candidate = j + e >= lo && j + e < hi;
            take[e] = j + e < i && (!candidate || (!none && key[e] > threshold));
            tie[e] = candidate && !none && key[e] == threshold;
            mine += take[e] + (tie[e] << 16);
        }
        int upto = mine;
#pragma unroll
        for (int o = 1; o < 32; o *= 2) {
            int v = __shfl_up_sync(0xffffffffu, upto, o);
            if (lane >= o)
                upto += v;
        }
        int before = upto - mine, total = __shfl_sync(0xffffffffu, upto, 31);
        if (team.warps > 1) {
            int of_warp = team.exchange(total, 0);
            before += __reduce_add_sync(0xffffffffu, lane < warp ? of_warp : 0);
            total = __reduce_add_sync(0xffffffffu, of_warp);
        }
        int taken = kept + (before & 0xffff), ties = equal + (before >> 16);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            if (take[e] || (tie[e] && ties >= skip))
                __stcg(a.indices + taken + max(0, ties - skip), j + e);
            taken += take[e];
            ties += tie[e];
        }
        kept += total & 0xffff;
        equal += total >> 16;
    }
    if (threadIdx.x == 0) {
        __stcg(a.indices + in.kept, i); /* the query's own block is the last, always: so a prompt of full turns needs no turn more */
        /* The next sequence's row begins where this one ends, and both say so. */
        int row = (int)(blockIdx.x + a.in.batch - gridDim.x), entries = in.kept + 1;
        a.indptr[0] = row * entries;
        a.indptr[1] = (row + 1) * entries;
    }
}

/* Two blocks a multiprocessor where their 64 registers a thread do without spilling: at 32 they do not on sm_80, at 256 nowhere. */
template <int E>
__global__ void __launch_bounds__(STEP_THREADS, E == 2 || E == 4 ? 2 : 1) step_blocks(step_args all)
{
    __shared__ __align__(16) union step_shared sh;
    __shared__ int lanes[2 * STEP_WARPS];
    int id = blockIdx.x, works = all.workers * all.in.batch;
    if (id < works) {
        step_args a = of_sequence(all, id / all.workers);
        id %= all.workers;
        allow_early();
        if (id < a.strips) {
            score_strip<E>(a, id, &sh);
        } else { /* tiles of the lower triangle, row bands from the top: A_BAND · (band + 1) in each but the last, which ends with block c */
            constexpr int A_BAND = BAND / WIDE;
            int tile = id - a.strips, band = 0;
            while (band < a.bands - 1 && A_BAND * (band + 1) * (band + 2) / 2 <= tile)
                band++;
            walk_tile(a, band, tile - A_BAND * band * (band + 1) / 2, &sh);
        }
        return;
    }
    step_args a = of_sequence(all, id - works);
    for (int e = threadIdx.x; e <= a.in.kept; e += STEP_THREADS)
        a.indices[e] = (int32_t)NOT_YET;
    if (threadIdx.x == 0)
        *a.written = 0;
    __threadfence();
    __syncthreads();
    allow_early(); /* no early block is brought in, and looks at these, until all blocks have come to this */
    struct team team = {min(STEP_WARPS, (a.b + 127) / 128), lanes, 0};
    if ((int)(threadIdx.x >> 5) >= team.warps)
        return;
    bool fits = a.b <= MOST_SHARED;
    float *walked = fits ? sh.finish.walked : a.in.out;
    finish_row(a, team, fits ? sh.finish.weights : a.logits, walked);
    finish_list(a, team, walked, &sh);
    team.sync();
    if (threadIdx.x == 0) /* one thread's release holds for the team, which the barrier orders before it */
        asm volatile("st.release.gpu.global.u32 [%0], 1;" ::"l"(a.written) : "memory");
}

static enum sw_status walk_step(struct sw_backend *be, const struct sw_walk_step *in, struct sw_selection *out)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(in->batch >= 1 && in->n >= 1 && in->block >= 1 && in->transform && in->out != in->x && in->forced.local >= 1 && in->forced.sink >= 0, "walk_step");
    step_args a = {};
    a.in = *in;
    a.t = *in->transform;
    a.c = (in->n - 1) / in->block;
    a.b = a.c + 1;
    if (in->ld % 4 != 0)
        return SW_FAIL(SW_EUNSUPPORTED, "walk_step: rows of %d floats; expected a multiple of 4", in->ld);
    REQUIRE(a.b <= in->ld && in->kept >= std::min(a.c, in->forced.sink + in->forced.local - 1) && in->kept <= a.c, "walk_step");
    if (a.t.d_pow2 < 32 || a.t.d_pow2 > MOST_D)
        return SW_FAIL(SW_EUNSUPPORTED, "walk_step: a padded head_dim of %d; expected 32 to %d", a.t.d_pow2, MOST_D);
    a.strips = div_up(a.b, STRIP);
    a.bands = in->x ? div_up(a.c, BAND) : 0;
    a.bands_room = div_up(in->ld, BAND);
    a.whole_exponent = in->exponent >= 1 && in->exponent <= 64 && in->exponent == floorf(in->exponent) ? (int)in->exponent : 0;
    int per_band = BAND / WIDE, above = a.bands * (a.bands - 1) / 2, last = a.bands ? std::min(div_up(a.b, WIDE), per_band * a.bands) : 0;
    a.workers = a.strips + per_band * above + last;
    if (in->batch > s->multiprocessors || (int64_t)a.workers * in->batch > INT32_MAX / 2)
        return SW_FAIL(SW_EUNSUPPORTED, "walk_step: %d sequences of %d blocks; expected at most %d sequences", in->batch, a.b, s->multiprocessors);
    SW_TRY(sw_cuda_selection_reserve(out, be, in->batch, 1, in->batch * (int64_t)in->ld, false));
    out->block = in->block;
    out->n = in->n;
    out->n_q = 1;
    out->row0 = a.c;
    a.indptr = out->indptr;
    a.indices = out->indices;
    /* Sized by ld, so that no later step of the sequence needs more. */
    size_t batch = (size_t)in->batch, width = (size_t)in->ld;
    void *room;
    SW_TRY(sw_cuda_scratch_filled(s, SCRATCH_STEP, batch * (1 + (size_t)a.bands_room) * width * sizeof(float), 0xff, &room));
    a.logits = static_cast<float *>(room);
    a.part = a.logits + batch * width;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_STEP_WRITTEN, batch * sizeof *a.written, &room));
    a.written = static_cast<unsigned *>(room);
    unsigned grid = (unsigned)((a.workers + 1) * in->batch);
    void (*kernel)(step_args) = a.t.d_pow2 == 32 ? step_blocks<1> : a.t.d_pow2 == 64 ? step_blocks<2> : a.t.d_pow2 == 128 ? step_blocks<4> : step_blocks<8>;
    kernel<<<grid, STEP_THREADS, 0, s->stream>>>(a);
    LAUNCHED(s, "walk_step");
    s->step = a;
    s->step_is_last = true;
    return SW_OK;
}

void sw_cuda_bind_walk_step(struct sw_backend *be) { be->walk_step = walk_step; }
