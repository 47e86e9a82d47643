/* A decode step's selection in one launch: sketches, a row of scores, a row of the walk, the best
 * blocks (struct sw_walk_step).
 *
 * All of it is latency: the bytes (2·b² of the matrix, 8.4 MB at b = 2048; 4·r·b of key sketches)
 * are 3 µs, one cold read after another is the rest. So whatever can be asked for at once is asked
 * for before anybody waits, and what is computed twice is cheaper than what is handed over.
 * Three kinds of CTA work side by side, for each sequence. Some take 32 key blocks each, make the
 * query's sketch (all alike: 2·H·d bytes from L2; each warp transforms its own copy, in registers)
 * and these blocks' logits. Others take tiles of 1,024 × 32 or × 16 of the cached matrix and
 * multiply the walk's row by them, which needs nothing of this layer's query but the last term, x_c
 * · a[c,:]. One, the finisher (walk_finish.cuh), does the rest alone: softmax, power, that last
 * term, the maximum, the selection. Sums have a fixed order. What one CTA hands to another is its
 * own flag: logits, parts and entries of the list hold NOT_YET until they are written, and whoever
 * needs one reads it until it does not. That costs one way through L2 (0.6 µs) where a counter
 * behind a fence costs three. Two things wait so: the finisher for the workers of its sequence, and
 * attention that was launched as a dependent kernel for the list (decode.cu; the selection's
 * `launch` says that it may). Neither can wait for a CTA that has no place on a multiprocessor:
 * there are fewer finishers than places, and a dependent launch begins only when every CTA of this
 * one runs. */
#include <algorithm>
#include <cmath>

#include "kernels/cuda/device/dependent_launch.cuh"
#include "kernels/cuda/device/device.h"
#include "kernels/cuda/selection/power.cuh"
#include "kernels/cuda/selection/walk_finish.cuh"

static const int STEP_THREADS = 512, STEP_WARPS = STEP_THREADS / 32;
/* key blocks of a CTA that scores, and of one of its warps */
static const int STRIP = 32, KEYS = STRIP / STEP_WARPS;
/* columns of a tile of BAND rows: narrow ones ask for all their rows at once */
static const int WIDE = 32, NARROW = 16;
static const int MOST_D = 256; /* padded head_dim at most */

struct strip_shared {
    float sums[STEP_THREADS], key[MOST_D], rows[STEP_WARPS][MOST_D];
};
template <bool ONE>
union step_shared {
    struct strip_shared strip;
    float tile[STEP_WARPS][WIDE];
    struct finish_shared<ONE> finish;
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

/* The r kept coordinates of a warp's transformed vector, scaled; zeros beyond. `row`: the warp's
 * own shared memory. */
template <int E>
__device__ inline void keep_coordinates(float (&v)[E], const int (&keep)[E], float scale,
                                        float *row)
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

/* Sum over heads h0 … h1-1 of coordinate c of one token, in two halves: the first eight are asked
 * for, and later added, so that other reads can be asked for between. */
__device__ inline void ask_heads(const bf16 *x, int h0, int h1, int d, int c, bf16 (&first)[8])
{
#pragma unroll
    for (int i = 0; i < 8; i++)
        first[i] = h0 + i < h1 && c < d ? x[(h0 + i) * d + c] : __float2bfloat16(0.0f);
}
__device__ inline float add_heads(const bf16 *x, int h0, int h1, int d, int c,
                                  const bf16 (&first)[8])
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

/* Logits of key blocks strip · 32 …; the strip that holds block c brings that block's sketch up to
 * date. d_pow2 = 32·E. */
template <int E>
__device__ void score_strip(const step_args &a, int strip, struct strip_shared *sh)
{
    /* groups of heads are summed side by side */
    constexpr int D = 32 * E, GROUPS = STEP_THREADS / D;
    const struct sw_walk_step &in = a.in;
    int d = in.head_dim, r = a.t.r, j0 = strip * STRIP, j1 = min(j0 + STRIP, a.b),
        warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    bool holds_c = a.c < j1; /* strips ascend: only the last one */

    /* Everything that this CTA reads, at once. */
    int coordinate = threadIdx.x % D, h0 = in.n_heads * (threadIdx.x / D) / GROUPS,
        h1 = in.n_heads * (threadIdx.x / D + 1) / GROUPS;
    const bf16 *q = static_cast<const bf16 *>(in.q), *k_token = static_cast<const bf16 *>(in.k);
    bf16 q_first[8], k_first[8];
    ask_heads(q, h0, h1, d, coordinate, q_first);
    bool adds_key = holds_c && threadIdx.x < d;
    int count = in.n - a.c * in.block;
    float *k_sum = in.k_sums + (int64_t)a.c * d + threadIdx.x,
          before = adds_key && count > 1 ? *k_sum : 0.0f;
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
        float mean = add_heads(k_token, 0, in.n_kv_heads, d, threadIdx.x, k_first),
              total = before + (in.n_kv_heads == 1 ? mean : mean / (float)in.n_kv_heads);
        *k_sum = total;
        sh->key[threadIdx.x] = total / (float)(in.padded_tail ? in.block : count);
    }
    sh->sums[threadIdx.x] = add_heads(q, h0, h1, d, coordinate, q_first);
    __syncthreads();

    float query[E];
#pragma unroll
    for (int e = 0; e < E; e++) {
        float sum = 0;
        for (int g = 0; g < GROUPS; g++)
            sum += sh->sums[g * D + lane + 32 * e];
        query[e] = sum / (float)in.n_heads * signs[e];
    }
    transform(query);
    keep_coordinates(query, keep, a.t.scale, sh->rows[warp]);
    if (holds_c && warp == (a.c - j0) % STEP_WARPS) { /* this warp has block c */
        float fresh[E];
#pragma unroll
        for (int e = 0; e < E; e++)
            fresh[e] = lane + 32 * e < d ? sh->key[lane + 32 * e] * signs[e] : 0.0f;
        transform(fresh);
        keep_coordinates(fresh, keep, a.t.scale, sh->rows[warp]);
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

/* part[band, j] = Σ x_k · a[k,j] over the rows k of a band before row c. Groups of four columns,
 * each thread's eight rows in flight together: 512 rows of a wide tile, all 1,024 of a narrow one.
 * Above the diagonal a is zero. The width is no template, of which two copies were 5 KB. */
__device__ void walk_tile(const step_args &a, int band, int tile, float (*sh)[WIDE])
{
    constexpr int TURNS = 8;
    const struct sw_walk_step &in = a.in;
    int groups = a.wide / 4, rows = STEP_THREADS / groups, group = threadIdx.x % groups,
        j = tile * a.wide + group * 4, end = min(a.c, (band + 1) * BAND);
    float acc[4] = {};
#pragma unroll 1
    for (int k0 = band * BAND + (int)threadIdx.x / groups; k0 < end; k0 += TURNS * rows) {
        float4 m[TURNS];
        float weight[TURNS];
#pragma unroll
        for (int i = 0; i < TURNS; i++) {
            int k = k0 + i * rows;
            bool there = k < end && j <= k;
            weight[i] = there ? in.x[k] : 0.0f;
            m[i] = there ? *reinterpret_cast<const float4 *>(in.a + (int64_t)k * in.ld + j)
                         : make_float4(0, 0, 0, 0);
        }
#pragma unroll
        for (int i = 0; i < TURNS; i++) {
            acc[0] += weight[i] * m[i].x;
            acc[1] += weight[i] * m[i].y;
            acc[2] += weight[i] * m[i].z;
            acc[3] += weight[i] * m[i].w;
        }
    }
#pragma unroll 1
    for (int o = groups; o < 32; o *= 2) /* the warp's rows */
#pragma unroll
        for (int e = 0; e < 4; e++)
            acc[e] += __shfl_xor_sync(0xffffffffu, acc[e], o);
    if ((int)(threadIdx.x & 31) < groups)
        *reinterpret_cast<float4 *>(&sh[threadIdx.x >> 5][group * 4]) =
            make_float4(acc[0], acc[1], acc[2], acc[3]);
    __syncthreads();
    j = tile * a.wide + (int)threadIdx.x;
    if ((int)threadIdx.x >= a.wide ||
        j >= (a.b + 3) / 4 * 4) /* not more than the finisher reads and resets */
        return;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < STEP_WARPS; w++)
        sum += sh[w][threadIdx.x];
    a.part[(int64_t)band * in.ld + j] = sum;
}

/* Two CTAs a multiprocessor where their 64 registers a thread do without spilling: at 32 they do
 * not on sm_80, at 256 nowhere. */
template <int E, bool ONE>
__global__ void __launch_bounds__(STEP_THREADS, E == 2 || E == 4 ? 2 : 1) step_blocks(step_args all)
{
    __shared__ __align__(16) union step_shared<ONE> sh;
    int id = blockIdx.x, works = all.workers * all.in.batch;
    if (id < works) {
        step_args a = of_sequence(all, id / all.workers);
        id %= all.workers;
        allow_dependents();
        if (id < a.strips) {
            score_strip<E>(a, id, &sh.strip);
        } else { /* tiles of the lower triangle, row bands from the top: a_band · (band + 1) in each
                    but the last, which ends with block c */
            int a_band = BAND / a.wide, tile = id - a.strips, band = 0;
            while (band < a.bands - 1 && a_band * (band + 1) * (band + 2) / 2 <= tile)
                band++;
            tile -= a_band * band * (band + 1) / 2;
            walk_tile(a, band, tile, sh.tile);
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
    /* no CTA of a dependent kernel looks at these before all CTAs have come to this */
    allow_dependents();
    finish<ONE>(a, &sh.finish);
}

/* Rows of one turn have a kernel of their own: with both kinds in one, 95 KB of code instead of 54,
 * a step with attention behind it took 2.3 µs longer at 128K, although nothing of the other half
 * ran. */
template <int E>
static void (*step_kernel(int b))(step_args)
{
    return b <= TURN ? step_blocks<E, true> : step_blocks<E, false>;
}

/* What the CTAs of this step do, without the memory that they do it in. */
static enum sw_status plan_step(const struct cuda_state *s, const struct sw_walk_step *in,
                                step_args *step)
{
    step_args &a = *step;
    a.in = *in;
    a.t = *in->transform;
    a.c = (in->n - 1) / in->block;
    a.b = a.c + 1;
    if (in->ld % 4 != 0)
        return SW_FAIL(SW_EUNSUPPORTED, "walk_step: rows of %d floats; expected a multiple of 4",
                       in->ld);
    REQUIRE(a.b <= in->ld && in->kept >= std::min(a.c, in->forced.sink + in->forced.local - 1) &&
                in->kept <= a.c,
            "walk_step");
    if (a.t.d_pow2 < 32 || a.t.d_pow2 > MOST_D)
        return SW_FAIL(SW_EUNSUPPORTED, "walk_step: a padded head_dim of %d; expected 32 to %d",
                       a.t.d_pow2, MOST_D);
    a.strips = div_up(a.b, STRIP);
    a.bands = in->x ? div_up(a.c, BAND) : 0;
    a.bands_room = div_up(in->ld, BAND);
    a.whole_exponent = whole_power(in->exponent);
    auto workers = [&](int wide) {
        int a_band = BAND / wide, above = a.bands * (a.bands - 1) / 2,
            last = a.bands ? std::min(div_up(a.b, wide), a_band * a.bands) : 0;
        return a.strips + a_band * above + last;
    };
    /* Narrow tiles where rows are more than a wide one asks for at once, and all CTAs have
     * places, two a multiprocessor. Sums depend on it in their last bits, and so on the batch, as
     * those of decode attention do. */
    a.wide = a.c > 512 && (workers(NARROW) + 1) * (int64_t)in->batch <= 2 * s->multiprocessors
                 ? NARROW
                 : WIDE;
    a.workers = workers(a.wide);
    if (in->batch > s->multiprocessors || (int64_t)a.workers * in->batch > INT32_MAX / 2)
        return SW_FAIL(SW_EUNSUPPORTED,
                       "walk_step: %d sequences of %d blocks; expected at most %d sequences",
                       in->batch, a.b, s->multiprocessors);
    return SW_OK;
}

enum sw_status sw_cuda_walk_step(struct sw_backend *be, const struct sw_walk_step *in,
                                 struct sw_selection *out)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(in->batch >= 1 && in->n >= 1 && in->block >= 1 && in->transform && in->out != in->x &&
                in->forced.local >= 1 && in->forced.sink >= 0,
            "walk_step");
    step_args a = {};
    SW_TRY(plan_step(s, in, &a));
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
    SW_TRY(sw_cuda_scratch_filled(
        s, SCRATCH_STEP, batch * (1 + (size_t)a.bands_room) * width * sizeof(float), 0xff, &room));
    a.logits = static_cast<float *>(room);
    a.part = a.logits + batch * width;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_STEP_WRITTEN, batch * sizeof *a.written, &room));
    a.written = static_cast<unsigned *>(room);
    unsigned grid = (unsigned)((a.workers + 1) * in->batch);
    void (*kernel)(step_args) = a.t.d_pow2 == 32    ? step_kernel<1>(a.b)
                                : a.t.d_pow2 == 64  ? step_kernel<2>(a.b)
                                : a.t.d_pow2 == 128 ? step_kernel<4>(a.b)
                                                    : step_kernel<8>(a.b);
    kernel<<<grid, STEP_THREADS, 0, queue_on(s)>>>(a);
    LAUNCHED(s, "walk_step");
    s->step_written = a.written;
    s->step_entries = in->kept + 1;
    out->launch = s->queue.count();
    return SW_OK;
}
