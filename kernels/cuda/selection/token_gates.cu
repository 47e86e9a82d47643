/* The gates of single tokens: block scores that add up their softmaxes (NSA), and the best blocks
 * of each token (MoBA).
 *
 * Key means are fp32: they go into the product as two bf16 numbers each, side by side, so that it
 * has an error of 2^-17 and lists agree with the CPU's but for near-ties. */
#include <algorithm>
#include <cmath>

#include "kernels/cuda/device/device.h"
#include "kernels/cuda/selection/radix_select.cuh"
#include "kernels/cuda/selection/softmax_rows.cuh"

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
        pack_means<<<(unsigned)div_up64((int64_t)g->columns * d, 256), 256, 0, queue_on(s)>>>(
            in->k + (int64_t)(h / G) * in->k_ld * d, g->b, g->columns, d, g->k);
    pack_queries<<<(unsigned)div_up64((int64_t)rows * (d / 8), 256), 256, 0, queue_on(s)>>>(
        static_cast<const bf16 *>(in->q) + (int64_t)at * in->n_heads * d, rows, in->n_heads, h, d,
        g->q);
    LAUNCHED(s, "token gates, pack");
    return sw_cuda_gemm(s, g->q, g->k, NULL, rows, 2 * d, g->columns, false, true, g->x);
}

/* row_softmax: one CTA a query block, a thread a key block by turns, so that reads are coalesced.
 * The strip's logits are read twice, n·b·4 bytes a head and time, the second time mostly from L2.
 * Shared memory: b sums. */
__global__ void __launch_bounds__(256) row_softmax(gather_args a)
{
    extern __shared__ float sums[];
    __shared__ float lanes[32];
    int first = a.rows0 + blockIdx.x * a.per_block, last = min(first + a.per_block, a.total_rows),
        i = first / a.per_block;
    const float *x = a.x + (int64_t)(first - a.rows0) * a.ld;
    float top = -INFINITY;
    for (int j = threadIdx.x; j <= a.block0 + i; j += blockDim.x)
        for (int row = first; row < last; row++)
            if (a.complete == 0 || (int64_t)(j + 1) * a.complete <= a.position0 + row + 1)
                top = fmaxf(top, a.scale * x[(int64_t)(row - first) * a.ld + j]);
    top = block_max(top, lanes);
    float all = 0;
    for (int j = threadIdx.x; j < a.b; j += blockDim.x) {
        float sum = 0;
        for (int row = first; j <= a.block0 + i && row < last; row++)
            if (a.complete == 0 || (int64_t)(j + 1) * a.complete <= a.position0 + row + 1)
                sum += expf(a.scale * x[(int64_t)(row - first) * a.ld + j] - top);
        sums[j] = sum; /* read by this thread alone */
        all += sum;
    }
    all = block_sum(all, lanes);
    float *out = a.out + (int64_t)i * a.ld_out;
    for (int j = threadIdx.x; j < a.b; j += blockDim.x)
        out[j] = all > 0 ? sums[j] / all : 0.0f;
}

static enum sw_status gather_row_softmax(struct cuda_state *s, const gather_args &a, int rows)
{
    size_t shared = (size_t)a.b * sizeof(float);
    if (shared > 48 << 10)
        CUDA_TRY(s, cudaFuncSetAttribute(row_softmax, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         (int)shared));
    row_softmax<<<(unsigned)div_up(rows, a.per_block), 256, shared, queue_on(s)>>>(a);
    LAUNCHED(s, "gate_scores, softmax of rows");
    return SW_OK;
}

enum sw_status sw_cuda_gate_scores(struct sw_backend *be, const struct sw_gate_scores *a)
{
    struct cuda_state *s = state_of(be);
    const struct sw_token_gates *in = &a->in;
    struct gates g = {};
    SW_TRY(begin_gates(s, in, &g));
    REQUIRE(sw_unit_holds(&a->out, g.b - g.row0, g.b) && in->n_heads % a->out.units == 0,
            "gate_scores");
    REQUIRE(!a->row_softmax || a->out.units == in->n_heads, "gate_scores");
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
                             a->complete ? in->block : 0,
                             in->n - in->n_q,
                             in->scale,
                             h % per_unit > 0,
                             sw_unit_row(&a->out, (size_t)(h / per_unit), 0),
                             a->out.ld,
                             g.b};
            SW_TRY(a->row_softmax ? gather_row_softmax(s, p, rows) : gather(s, p, rows));
        }
    return SW_OK;
}

/* One CTA a token: its best earlier blocks by radix selection. */
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

enum sw_status sw_cuda_gate_top(struct sw_backend *be, const struct sw_gate_top *a)
{
    struct cuda_state *s = state_of(be);
    const struct sw_token_gates *in = &a->in;
    struct gates g = {};
    SW_TRY(begin_gates(s, in, &g));
    REQUIRE(sw_keep_holds(&a->keep, g.b - g.row0, g.b) && a->keep.units == in->n_heads, "gate_top");
    int rows = g.b - g.row0, words = (in->block + 63) / 64;
    size_t entries = (size_t)in->n_heads * (size_t)a->keep.ld_rows * (size_t)a->keep.ld;
    CUDA_TRY(s, cudaMemsetAsync(a->keep.data, 0, entries, queue_on(s)));
    CUDA_TRY(
        s, cudaMemsetAsync(a->queries, 0, entries * (size_t)words * sizeof(uint64_t), queue_on(s)));
    void *top;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_ROWS, (size_t)rows * sizeof(int32_t), &top));
    SW_TRY(sw_cuda_memory_upload(s, top, a->top, (size_t)rows * sizeof(int32_t)));
    for (int h = 0; h < in->n_heads; h++)
        for (int at = 0; at < in->n_q; at += g.strip) {
            int some = std::min(g.strip, in->n_q - at);
            int64_t matrix = (int64_t)h * a->keep.ld_rows * a->keep.ld;
            SW_TRY(gate_logits(s, &g, h, at, some));
            gate_top_tokens<<<(unsigned)some, THREADS, 0, queue_on(s)>>>(
                g.x, g.columns, at, in->n_q, in->n, in->block, g.row0,
                static_cast<const int32_t *>(top), a->keep.data + matrix,
                reinterpret_cast<unsigned long long *>(a->queries) + matrix * words, a->keep.ld,
                words);
            LAUNCHED(s, "gate_top");
        }
    return SW_OK;
}
