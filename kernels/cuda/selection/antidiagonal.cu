/* Scores that come from many small softmaxes: XAttention's antidiagonals, gates of single tokens
 * (NSA, MoBA).
 *
 * The logits are products of packed bf16 matrices by cuBLAS into fp32, a strip of rows at a time;
 * then one block a query block turns its rows into probabilities and adds them up per key block, in
 * a fixed order. Key means are fp32: they go in as two bf16 numbers each, side by side, so that a
 * product has an error of 2^-17 and lists agree with the CPU's but for near-ties. */
#include <algorithm>
#include <cmath>

#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/selection/radix.cuh"

static const int64_t STRIP_FLOATS = (int64_t)64 << 20; /* 256 MiB of logits */

/* Columns of the logits: a multiple of 8 for the product's alignment; what is added is zeros. */
static int padded(int columns) { return (columns + 7) & ~7; }

/* --- softmax of rows, added per query block --------------------------------------------------- */

struct gather_args {
    const float *x; /* [rows, ld] of this strip, scaled below */
    int ld, rows0;  /* first row of the strip (a group or a token) */
    int per_block;  /* rows a query block */
    int grain;      /* columns a key block */
    int total_rows;
    int columns; /* in use */
    /* row r sees columns 0 … r; else those of its own block: 0 … row / per_block (its block's
     * index, + row0) */
    bool by_row;
    int block0; /* index of the first query block (row 0's) */
    float scale;
    bool add;   /* to what out holds */
    float *out; /* [blocks, ld_out] of this unit */
    int ld_out, b;
};

/* One block a query block. Shared memory: b sums. Each row is read three times (maximum, sum,
 * values), twice from L2. */
__global__ void __launch_bounds__(256) gather_block(gather_args a)
{
    extern __shared__ float sums[];
    __shared__ float lanes[32];
    int first = a.rows0 + blockIdx.x * a.per_block, last = min(first + a.per_block, a.total_rows),
        i = first / a.per_block;
    for (int j = threadIdx.x; j < a.b; j += blockDim.x)
        sums[j] = 0;
    for (int row = first; row < last; row++) {
        const float *x = a.x + (int64_t)(row - a.rows0) * a.ld;
        int seen = min(a.by_row ? row + 1 : a.block0 + i + 1, a.columns);
        float top = -INFINITY;
        for (int c = threadIdx.x; c < seen; c += blockDim.x)
            top = fmaxf(top, a.scale * x[c]);
        top = block_max(top, lanes);
        float sum = 0;
        for (int c = threadIdx.x; c < seen; c += blockDim.x)
            sum += expf(a.scale * x[c] - top);
        float inv = 1.0f / block_sum(sum, lanes);
        for (int j = threadIdx.x; j * a.grain < seen; j += blockDim.x) {
            float part = 0;
            for (int c = j * a.grain; c < min((j + 1) * a.grain, seen); c++)
                part += expf(a.scale * x[c] - top) * inv;
            sums[j] += part;
        }
    }
    float *out = a.out + (int64_t)i * a.ld_out;
    for (int j = threadIdx.x; j < a.b; j += blockDim.x)
        out[j] = a.add ? out[j] + sums[j] : sums[j];
}

static enum sw_status gather(struct cuda_state *s, const gather_args &a, int rows)
{
    size_t shared = (size_t)a.b * sizeof(float);
    if (shared > 48 << 10)
        CUDA_TRY(s, cudaFuncSetAttribute(gather_block, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         (int)shared));
    gather_block<<<(unsigned)div_up(rows, a.per_block), 256, shared, s->stream>>>(a);
    LAUNCHED(s, "scores of groups");
    return SW_OK;
}

/* --- antidiagonal ----------------------------------------------------------------------------- */

/* Groups of `stride` tokens as rows of stride · d numbers, queries in reverse; tokens that are not
 * there are zeros. */
__global__ void pack_groups(const bf16 *x, int n, int heads, int h, int d, int stride, int groups,
                            bool reverse, bf16 *out)
{
    int64_t id = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, chunks = d / 8,
            count = (int64_t)groups * stride * chunks;
    if (id >= count)
        return;
    int64_t c = id % chunks, place = id / chunks % stride, g = id / chunks / stride,
            t = g * stride + (reverse ? stride - 1 - place : place);
    uint4 v = make_uint4(0, 0, 0, 0);
    if (t < n)
        v = *reinterpret_cast<const uint4 *>(x + (t * heads + h) * d + c * 8);
    *reinterpret_cast<uint4 *>(out + ((g * stride + place) * chunks + c) * 8) = v;
}

static enum sw_status antidiagonal(struct sw_backend *be, const struct sw_antidiagonal *a)
{
    struct cuda_state *s = state_of(be);
    const struct sw_attend *in = a->in;
    int d = in->head_dim, n = in->n_k, G = in->n_heads / in->n_kv_heads, per = a->block / a->stride,
        b = div_up(n, a->block);
    REQUIRE(in->batch == 1 && in->n_q == n && a->stride >= 1 && a->block % a->stride == 0 &&
                sw_unit_holds(&a->out, b, b) && a->out.units == in->n_heads && d % 8 == 0,
            "antidiagonal");
    int groups = div_up(n, a->stride), columns = padded(groups), depth = a->stride * d;
    int strip = (int)std::max<int64_t>(
                    1, std::min<int64_t>(div_up(groups, per), STRIP_FLOATS / columns / per)) *
                per;
    void *room, *logits;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_PACK, 2 * (size_t)columns * (size_t)depth * sizeof(bf16),
                           &room));
    SW_TRY(sw_cuda_scratch(s, SCRATCH_SCORES, (size_t)strip * (size_t)columns * sizeof(float),
                           &logits));
    bf16 *q = static_cast<bf16 *>(room), *k = q + (int64_t)columns * depth;
    unsigned grid = (unsigned)div_up64((int64_t)columns * a->stride * (d / 8), 256);
    for (int h = 0; h < in->n_heads; h++) {
        if (h % G == 0)
            pack_groups<<<grid, 256, 0, s->stream>>>(static_cast<const bf16 *>(in->k), n,
                                                     in->n_kv_heads, h / G, d, a->stride, columns,
                                                     false, k);
        pack_groups<<<grid, 256, 0, s->stream>>>(static_cast<const bf16 *>(in->q), n, in->n_heads,
                                                 h, d, a->stride, columns, true, q);
        LAUNCHED(s, "antidiagonal, pack");
        for (int at = 0; at < groups; at += strip) {
            int rows = std::min(strip, groups - at), seen = padded(std::min(at + rows, groups));
            /* Columns after the strip's last row are not needed: half of the work. */
            SW_TRY(sw_cuda_gemm(s, q + (int64_t)at * depth, k, NULL, rows, depth, seen, false, true,
                                logits));
            gather_args g = {static_cast<float *>(logits),
                             seen,
                             at,
                             per,
                             per,
                             groups,
                             groups,
                             true,
                             0,
                             in->scale / (float)a->stride,
                             false,
                             sw_unit_row(&a->out, (size_t)h, 0),
                             a->out.ld,
                             b};
            SW_TRY(gather(s, g, rows));
        }
    }
    return SW_OK;
}

/* --- token gates ------------------------------------------------------------------------------ */

/* Queries of one head twice side by side [rows, 2d], and key means as high and low halves [columns,
 * 2d]. */
__global__ void pack_queries(const bf16 *q, int rows, int heads, int h, int d, bf16 *out)
{
    int64_t id = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, chunks = d / 8;
    if (id >= rows * chunks)
        return;
    int64_t t = id / chunks, c = id % chunks;
    uint4 v = *reinterpret_cast<const uint4 *>(q + (t * heads + h) * d + c * 8);
    *reinterpret_cast<uint4 *>(out + t * 2 * d + c * 8) = v;
    *reinterpret_cast<uint4 *>(out + t * 2 * d + d + c * 8) = v;
}

__global__ void pack_means(const float *k, int b, int columns, int d, bf16 *out)
{
    int64_t id = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (id >= (int64_t)columns * d)
        return;
    int64_t j = id / d, c = id % d;
    float v = j < b ? k[j * d + c] : 0.0f;
    bf16 high = __float2bfloat16_rn(v);
    out[j * 2 * d + c] = high;
    out[j * 2 * d + d + c] = __float2bfloat16_rn(v - __bfloat162float(high));
}

struct gates {
    const struct sw_token_gates *in;
    /* key blocks, padded; first query block; tokens at once, whole query blocks */
    int b, columns, row0, strip;
    bf16 *q, *k;
    float *x;
};

static enum sw_status begin_gates(struct cuda_state *s, const struct sw_token_gates *in,
                                  struct gates *g)
{
    int d = in->head_dim;
    REQUIRE(in->n_q >= 1 && in->n_q <= in->n && d % 8 == 0 && in->n_heads % in->n_kv_heads == 0,
            "token gates");
    REQUIRE(in->n_q == 1 || (in->n - in->n_q) % in->block == 0, "token gates");
    g->in = in;
    g->b = div_up(in->n, in->block);
    REQUIRE(g->b <= in->k_ld, "token gates");
    g->columns = padded(g->b);
    g->row0 = (in->n - in->n_q) / in->block;
    int64_t blocks = std::max<int64_t>(1, STRIP_FLOATS / g->columns / in->block);
    g->strip = (int)std::min<int64_t>(in->n_q, blocks * in->block);
    void *room;
    size_t q_elements = (size_t)g->strip * 2 * (size_t)d,
           k_elements = (size_t)g->columns * 2 * (size_t)d;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_PACK, (q_elements + k_elements) * sizeof(bf16), &room));
    g->q = static_cast<bf16 *>(room);
    g->k = g->q + q_elements;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_SCORES, (size_t)g->strip * (size_t)g->columns * sizeof(float),
                           &room));
    g->x = static_cast<float *>(room);
    return SW_OK;
}

/* Logits [rows, columns] of tokens at … at + rows - 1 of head h, without their scale. */
static enum sw_status gate_logits(struct cuda_state *s, const struct gates *g, int h, int at,
                                  int rows)
{
    const struct sw_token_gates *in = g->in;
    int d = in->head_dim, G = in->n_heads / in->n_kv_heads;
    if (at == 0 && h % G == 0)
        pack_means<<<(unsigned)div_up64((int64_t)g->columns * d, 256), 256, 0, s->stream>>>(
            in->k + (int64_t)(h / G) * in->k_ld * d, g->b, g->columns, d, g->k);
    pack_queries<<<(unsigned)div_up64((int64_t)rows * (d / 8), 256), 256, 0, s->stream>>>(
        static_cast<const bf16 *>(in->q) + (int64_t)at * in->n_heads * d, rows, in->n_heads, h, d,
        g->q);
    LAUNCHED(s, "token gates, pack");
    return sw_cuda_gemm(s, g->q, g->k, NULL, rows, 2 * d, g->columns, false, true, g->x);
}

static enum sw_status gate_scores(struct sw_backend *be, const struct sw_gate_scores *a)
{
    struct cuda_state *s = state_of(be);
    const struct sw_token_gates *in = &a->in;
    struct gates g;
    SW_TRY(begin_gates(s, in, &g));
    REQUIRE(sw_unit_holds(&a->out, g.b - g.row0, g.b) && in->n_heads % a->out.units == 0,
            "gate_scores");
    int per_unit = in->n_heads / a->out.units;
    for (int h = 0; h < in->n_heads; h++)
        for (int at = 0; at < in->n_q; at += g.strip) {
            int rows = std::min(g.strip, in->n_q - at);
            SW_TRY(gate_logits(s, &g, h, at, rows));
            gather_args p = {g.x,
                             g.columns,
                             at,
                             in->block,
                             1,
                             in->n_q,
                             g.b,
                             false,
                             g.row0,
                             in->scale,
                             h % per_unit > 0,
                             sw_unit_row(&a->out, (size_t)(h / per_unit), 0),
                             a->out.ld,
                             g.b};
            SW_TRY(gather(s, p, rows));
        }
    return SW_OK;
}

/* One block a token: its best earlier blocks by radix selection. */
__global__ void __launch_bounds__(THREADS)
    gate_top_tokens(const float *x, int ld, int at, int n_q, int n, int block, int row0,
                    const int32_t *top, uint8_t *keep, unsigned long long *queries, int matrix_ld,
                    int words)
{
    __shared__ struct radix_shared sh;
    __shared__ int lanes[2][THREADS / 32];
    int t = at + blockIdx.x, position = n - n_q + t, i = position / block, r = i - row0,
        bit = position % block;
    const float *scores = x + (int64_t)blockIdx.x * ld;
    uint8_t *row = keep + (int64_t)r * matrix_ld;
    unsigned long long *bits = queries + (int64_t)r * matrix_ld * words;
    int need = min(top[r], i), equal_needed = need;
    bool all = need == i;
    uint32_t threshold = 0;
    if (need > 0 && !all)
        threshold = radix_select(scores, 0, i, need, &equal_needed, &sh);
    int equal_all = 0;
    if (need > 0 && !all) {
        struct pair_sum mine = {0, 0}, total;
        for (int j = threadIdx.x; j < i; j += THREADS)
            mine.b += key_of_score(scores[j]) == threshold;
        (void)scan_pairs(mine, &total, lanes);
        equal_all = total.b;
    }
    int before = 0;
    for (int base = 0; base < i; base += THREADS) {
        int j = base + (int)threadIdx.x;
        uint32_t key = j < i && !all && need > 0 ? key_of_score(scores[j]) : 0;
        bool equal = j < i && !all && need > 0 && key == threshold;
        struct pair_sum mine = {0, equal}, total, place = scan_pairs(mine, &total, lanes);
        bool kept =
            j < i &&
            (all || (need > 0 &&
                     (key > threshold || (equal && before + place.b >= equal_all - equal_needed))));
        if (kept) {
            row[j] = 1;
            atomicOr(&bits[(int64_t)j * words + bit / 64], 1ull << (bit % 64));
        }
        before += total.b;
    }
    if (threadIdx.x == 0) {
        row[i] = 1;
        atomicOr(&bits[(int64_t)i * words + bit / 64], 1ull << (bit % 64));
    }
}

static enum sw_status gate_top(struct sw_backend *be, const struct sw_gate_top *a)
{
    struct cuda_state *s = state_of(be);
    const struct sw_token_gates *in = &a->in;
    struct gates g;
    SW_TRY(begin_gates(s, in, &g));
    REQUIRE(sw_keep_holds(&a->keep, g.b - g.row0, g.b) && a->keep.units == in->n_heads, "gate_top");
    int rows = g.b - g.row0, words = (in->block + 63) / 64;
    size_t entries = (size_t)in->n_heads * (size_t)a->keep.ld_rows * (size_t)a->keep.ld;
    CUDA_TRY(s, cudaMemsetAsync(a->keep.data, 0, entries, s->stream));
    CUDA_TRY(s,
             cudaMemsetAsync(a->queries, 0, entries * (size_t)words * sizeof(uint64_t), s->stream));
    void *top;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_ROWS, (size_t)rows * sizeof(int32_t), &top));
    SW_TRY(sw_cuda_upload(s, top, a->top, (size_t)rows * sizeof(int32_t)));
    for (int h = 0; h < in->n_heads; h++)
        for (int at = 0; at < in->n_q; at += g.strip) {
            int some = std::min(g.strip, in->n_q - at);
            int64_t matrix = (int64_t)h * a->keep.ld_rows * a->keep.ld;
            SW_TRY(gate_logits(s, &g, h, at, some));
            gate_top_tokens<<<(unsigned)some, THREADS, 0, s->stream>>>(
                g.x, g.columns, at, in->n_q, in->n, in->block, g.row0,
                static_cast<const int32_t *>(top), a->keep.data + matrix,
                reinterpret_cast<unsigned long long *>(a->queries) + matrix * words, a->keep.ld,
                words);
            LAUNCHED(s, "gate_top");
        }
    return SW_OK;
}

void sw_cuda_bind_groups(struct sw_backend *be)
{
    be->antidiagonal = antidiagonal;
    be->gate_scores = gate_scores;
    be->gate_top = gate_top;
}
