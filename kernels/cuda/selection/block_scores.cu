/* Block scores: logits, causal softmax, sharpening, mean over heads. */
#include <algorithm>
#include <cmath>

#include "kernels/cuda/device/dependent_launch.cuh"
#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/selection/power.cuh"

/* --- logits ----------------------------------------------------------------------------------- */

/* x[u, i, j] = scale · ⟨q[u, i], k[uk, j]⟩ for the rows of one strip: 64 × 64 tiles, 4 × 4 a
 * thread, fp32 (the selections of both backends must agree but for near-ties). 2 · r operations an
 * entry: 0.27 GFLOP at b = 2048, r = 64, one unit. Tiles above the diagonal are skipped. */
static const int TILE = 64, DEPTH = 16;

struct logits_args {
    const float *q, *k;
    float *x;
    int units_q, units_k, row_begin, rows, row0, row_step, b, r, q_ld, k_ld, x_ld, x_rows;
    float scale, clamp;
    bool causal;
};

__device__ inline float logit_of(const logits_args &a, float product)
{
    float x = a.scale * product;
    return a.clamp > 0 ? fminf(fmaxf(x, -a.clamp), a.clamp) : x;
}

__global__ void __launch_bounds__(256) logits_tiles(logits_args a)
{
    __shared__ float qs[DEPTH][TILE + 4], ks[DEPTH][TILE + 4];
    int j0 = blockIdx.x * TILE, i0 = blockIdx.y * TILE, u = blockIdx.z;
    int last_row = a.row0 + (a.row_begin + min(i0 + TILE, a.rows) - 1) * a.row_step;
    if (a.causal && j0 > last_row)
        return;
    const float *q = a.q + ((int64_t)u * a.q_ld + a.row_begin) * a.r;
    const float *k = a.k + (int64_t)(u * (int64_t)a.units_k / a.units_q) * a.k_ld * a.r;
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    float acc[4][4] = {};
    for (int d0 = 0; d0 < a.r; d0 += DEPTH) {
        for (int e = threadIdx.x; e < TILE * DEPTH; e += 256) {
            int row = e / DEPTH, c = e % DEPTH;
            bool in = d0 + c < a.r;
            qs[c][row] = in && i0 + row < a.rows ? q[(int64_t)(i0 + row) * a.r + d0 + c] : 0.0f;
            ks[c][row] = in && j0 + row < a.b ? k[(int64_t)(j0 + row) * a.r + d0 + c] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int c = 0; c < DEPTH; c++) {
            float4 x = *reinterpret_cast<const float4 *>(&qs[c][ty * 4]),
                   y = *reinterpret_cast<const float4 *>(&ks[c][tx * 4]);
            float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
            for (int m = 0; m < 4; m++)
#pragma unroll
                for (int n = 0; n < 4; n++)
                    acc[m][n] += xs[m] * ys[n];
        }
        __syncthreads();
    }
    for (int m = 0; m < 4; m++)
        for (int n = 0; n < 4; n++) {
            int i = i0 + ty * 4 + m, j = j0 + tx * 4 + n;
            if (i < a.rows && j < a.b)
                a.x[((int64_t)u * a.x_rows + i) * a.x_ld + j] = logit_of(a, acc[m][n]);
        }
}

/* Few rows (decode): a warp a key block, its sketch read once for all rows. b · r · 4 bytes. */
__global__ void __launch_bounds__(256) logits_rows(logits_args a)
{
    int j = blockIdx.x * 8 + (threadIdx.x >> 5), lane = threadIdx.x & 31, u = blockIdx.z;
    if (j >= a.b)
        return;
    const float *k = a.k + ((int64_t)(u * (int64_t)a.units_k / a.units_q) * a.k_ld + j) * a.r;
    for (int i = 0; i < a.rows; i++) {
        const float *q = a.q + ((int64_t)u * a.q_ld + a.row_begin + i) * a.r;
        float acc = 0;
        for (int c = lane; c < a.r; c += 32)
            acc += q[c] * k[c];
        acc = warp_sum(acc);
        if (lane == 0)
            a.x[((int64_t)u * a.x_rows + i) * a.x_ld + j] = logit_of(a, acc);
    }
}

/* --- softmax, power, mean over units ---------------------------------------------------------- */

struct finish_args {
    const float *x; /* [units_q, x_rows, x_ld] of this strip */
    struct sw_unit_matrix out;
    int units_q, row_begin, rows, row0, b, x_ld, x_rows, whole_exponent;
    float exponent;
    bool softmax, causal, pool_rows;
    const float *column_scores; /* [units_k, k_ld] or NULL */
    int units_k, k_ld;
};

/* The columns of unit u that have a score of their own; NULL: none. */
__device__ inline const float *own_scores(const finish_args &a, int u)
{
    return a.column_scores ? a.column_scores + (u * (int64_t)a.units_k / a.units_q) * a.k_ld
                           : nullptr;
}
__device__ inline bool has_own(const float *own, int j) { return own && own[j] == own[j]; }

/* One CTA an (output unit, output row). Each thread keeps to its own columns, so that the sum
 * over units goes through `out` itself (L1/L2) and its order is fixed. Reads the logits three times
 * (maximum, sum, value), the last two from L1/L2. */
__global__ void __launch_bounds__(256) finish_rows(finish_args a)
{
    __shared__ float lanes[32];
    int uo = blockIdx.y, per = a.units_q / a.out.units;
    int rows = a.pool_rows ? a.rows : 1, row = a.pool_rows ? 0 : blockIdx.x;
    int allowed = a.causal ? min(a.b, a.row0 + (a.pool_rows ? 0 : a.row_begin + row) + 1) : a.b;
    float *out = unit_row(a.out, uo, a.pool_rows ? 0 : a.row_begin + row);
    float count = (float)(per * rows);
    for (int j = allowed + threadIdx.x; j < a.b; j += blockDim.x)
        out[j] = 0.0f;
    for (int n = 0; n < per * rows; n++) {
        int u = uo * per + n / rows, i = row + n % rows;
        const float *x = a.x + ((int64_t)u * a.x_rows + i) * a.x_ld, *own = own_scores(a, u);
        float top = 0, scale = 1;
        if (a.softmax) {
            top = -INFINITY;
            for (int j = threadIdx.x; j < allowed; j += blockDim.x)
                if (!has_own(own, j))
                    top = fmaxf(top, x[j]);
            top = block_max(top, lanes);
            float sum = 0;
            for (int j = threadIdx.x; j < allowed; j += blockDim.x)
                if (!has_own(own, j))
                    sum += expf(x[j] - top);
            scale = 1.0f / block_sum(sum, lanes);
        }
        for (int j = threadIdx.x; j < allowed; j += blockDim.x) {
            float v = a.softmax ? expf(x[j] - top) * scale : x[j];
            v = has_own(own, j) ? own[j] : power_of(v, a.exponent, a.whole_exponent);
            float sum = n == 0 ? v : out[j] + v;
            out[j] = n == per * rows - 1 && per * rows > 1 ? sum / count : sum;
        }
    }
}

/* The same for few output rows made of many (decode: heads × window queries into one row), where
 * one CTA an output row would leave the GPU idle. First maximum and sum of every row, a CTA a row;
 * then a CTA 32 columns, its 32 warps taking the rows by turns, added in a fixed order. Two
 * reads of the logits: 8 · heads · window · b bytes, 17 MB at 32 × 32 × 2048. */
__global__ void __launch_bounds__(256) row_statistics(finish_args a, float2 *stats)
{
    __shared__ float lanes[32];
    int i = blockIdx.x, u = blockIdx.y,
        allowed = a.causal ? min(a.b, a.row0 + (a.pool_rows ? 0 : a.row_begin + i) + 1) : a.b;
    const float *x = a.x + ((int64_t)u * a.x_rows + i) * a.x_ld, *own = own_scores(a, u);
    float top = -INFINITY;
    for (int j = threadIdx.x; j < allowed; j += blockDim.x)
        if (!has_own(own, j))
            top = fmaxf(top, x[j]);
    top = block_max(top, lanes);
    float sum = 0;
    for (int j = threadIdx.x; j < allowed; j += blockDim.x)
        if (!has_own(own, j))
            sum += expf(x[j] - top);
    sum = block_sum(sum, lanes);
    if (threadIdx.x == 0)
        stats[(int64_t)u * a.rows + i] = make_float2(top, 1.0f / sum);
}

__global__ void __launch_bounds__(1024) gather_rows(finish_args a, const float2 *stats)
{
    __shared__ float part[32][33];
    int lane = threadIdx.x & 31, lead = threadIdx.x >> 5, j = blockIdx.x * 32 + lane,
        uo = blockIdx.z;
    int per = a.units_q / a.out.units, rows = a.pool_rows ? a.rows : 1,
        row = a.pool_rows ? 0 : blockIdx.y;
    int allowed = a.causal ? min(a.b, a.row0 + (a.pool_rows ? 0 : a.row_begin + row) + 1) : a.b;
    float acc = 0;
    if (j < allowed)
#pragma unroll 4
        for (int n = lead; n < per * rows; n += 32) {
            int u = uo * per + n / rows, i = row + n % rows;
            float v = a.x[((int64_t)u * a.x_rows + i) * a.x_ld + j];
            if (a.softmax) {
                float2 s = stats[(int64_t)u * a.rows + i];
                v = expf(v - s.x) * s.y;
            }
            const float *own = own_scores(a, u);
            acc += has_own(own, j) ? own[j] : power_of(v, a.exponent, a.whole_exponent);
        }
    part[lead][lane] = acc;
    __syncthreads();
    if (lead > 0 || j >= a.b)
        return;
    float sum = 0;
    for (int p = 0; p < 32; p++)
        sum += part[p][lane];
    unit_row(a.out, uo, a.pool_rows ? 0 : a.row_begin + row)[j] = sum / (float)(per * rows);
}

static enum sw_status finish_few(struct cuda_state *s, const finish_args &f)
{
    void *stats = NULL;
    if (f.softmax) {
        SW_TRY(sw_cuda_scratch(s, SCRATCH_STATS,
                               sizeof(float2) * (size_t)f.units_q * (size_t)f.rows, &stats));
        row_statistics<<<dim3((unsigned)f.rows, (unsigned)f.units_q), 256, 0, queue_on(s)>>>(
            f, static_cast<float2 *>(stats));
        LAUNCHED(s, "block_scores, statistics");
    }
    dim3 grid((unsigned)div_up(f.b, 32), (unsigned)(f.pool_rows ? 1 : f.rows),
              (unsigned)f.out.units);
    gather_rows<<<grid, 1024, 0, queue_on(s)>>>(f, static_cast<const float2 *>(stats));
    LAUNCHED(s, "block_scores, mean");
    return SW_OK;
}

/* --- all of it, one unit into one ------------------------------------------------------------- */

/* Where no mean is to be taken: logits, softmax and power of eight rows a CTA, the rows' logits
 * in shared memory. A warp multiplies sixteen keys at a time by the eight rows, as tensor cores' 16
 * × 8 (mma.cuh: three tf32 products, 2^-20). A key serves a CTA once, so it goes from L2 to
 * registers, sixteen bytes at a time, those of the next sixteen keys asked for while these are
 * multiplied; lane t of a key takes coordinates 4t … 4t + 3 of sixteen, which make two products' k
 * in an order of their own.
 * The queries, split once, lie in shared memory in the order in which the lanes want them. Then a
 * warp a row.
 * At b = 2048, r = 64: 134 M multiply-adds of the triangle, three times over, 6 µs at 512 a cycle
 * and multiprocessor; each CTA reads the keys up to its last column, 67 MB from L2: 12 µs. Long
 * rows first: each multiprocessor has a long and a short CTA. At b = 128 a warp has one piece of
 * sixteen keys: one read, 24 products, a softmax. Then most of the time is the first fetch of the
 * code, out of DRAM after a prompt has gone through L2. So while a dependent kernel waits it
 * rehearses: it goes its way once without reading or writing anything but shared memory, on zeros.
 */
/* a group of coordinates is in registers at once */
static const int FUSED_ROWS = 8, FUSED_KEYS = 16, FUSED_GROUP = 64, FUSED_WARPS = 8;

/* Row stride of the logits: whole pieces fit, and the 32 places of a store (8 keys of every second
 * row) are 32 banks. */
static inline __host__ __device__ int fused_ld(int b) { return (b + 31) / 32 * 32 + 4; }

static inline size_t fused_bytes(const struct sw_block_scores *a)
{
    return sizeof(float) * ((size_t)div_up(a->r, FUSED_GROUP) * FUSED_GROUP * FUSED_ROWS * 2 +
                            (size_t)FUSED_ROWS * (size_t)fused_ld(a->b));
}

/* Any other exponent than a whole one from 1 to 64; apart, because it is long and most never come
 * here: a small prompt's kernel is mostly the first fetch of its code. */
static __device__ __noinline__ float any_power(float v, float exponent)
{
    return powf(v, exponent);
}

/* coordinates of a group, 16 at a time; columns of a lane in the softmax */
static const int FUSED_CHUNKS = FUSED_GROUP / 16, AT_ONCE = 8;

/* Sixteen coordinates from `from` on of keys g and g + 8 of a tile; zeros where there are none. */
__device__ __forceinline__ void ask_keys(float4 (&key)[2], const float *k, int tile, int used,
                                         int from, int r, int g)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int j = tile * FUSED_KEYS + half * 8 + g;
        key[half] = j < used && from < r
                        ? *reinterpret_cast<const float4 *>(k + (int64_t)j * r + from)
                        : make_float4(0, 0, 0, 0);
    }
}

/* The rows' queries, split into two tf32 numbers each, in the lanes' order: [groups ·
 * CHUNKS][high, low][32 lanes]. Chunk e / 32 of lane e % 32, which is this thread's lane. */
__device__ __forceinline__ void split_queries(float4 *queries, const float *q, int groups, int rows,
                                              int r)
{
    int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
#pragma unroll 1
    for (int e = threadIdx.x; e < groups * FUSED_CHUNKS * 32; e += 32 * FUSED_WARPS) {
        int from = e / 32 * 16 + 4 * t;
        float4 v = g < rows && from < r
                       ? *reinterpret_cast<const float4 *>(q + (int64_t)g * r + from)
                       : make_float4(0, 0, 0, 0);
        uint32_t hi[4], lo[4];
        split_tf32(v.x, hi[0], lo[0]);
        split_tf32(v.y, hi[1], lo[1]);
        split_tf32(v.z, hi[2], lo[2]);
        split_tf32(v.w, hi[3], lo[3]);
        reinterpret_cast<uint4 *>(queries)[e / 32 * 64 + lane] =
            make_uint4(hi[0], hi[1], hi[2], hi[3]);
        reinterpret_cast<uint4 *>(queries)[e / 32 * 64 + 32 + lane] =
            make_uint4(lo[0], lo[1], lo[2], lo[3]);
    }
}

/* Sixteen coordinates of two keys as the tensor cores want them: two products of eight coordinates,
 * 4t, 4t + 1 and 4t + 2, 4t + 3. */
__device__ __forceinline__ void split_keys(const float4 (&key)[2], uint32_t (&hi)[2][4],
                                           uint32_t (&lo)[2][4])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        split_tf32(key[half].x, hi[0][half], lo[0][half]);
        split_tf32(key[half].y, hi[0][half + 2], lo[0][half + 2]);
        split_tf32(key[half].z, hi[1][half], lo[1][half]);
        split_tf32(key[half].w, hi[1][half + 2], lo[1][half + 2]);
    }
}

/* Their products with the queries' halves, which stay apart, so that few wait for the one before.
 */
__device__ __forceinline__ void add_products(float (&acc)[2][3][4], const uint32_t (&hi)[2][4],
                                             const uint32_t (&lo)[2][4], uint4 high, uint4 low)
{
    uint32_t b_hi[4] = {high.x, high.y, high.z, high.w}, b_lo[4] = {low.x, low.y, low.z, low.w};
#pragma unroll
    for (int e = 0; e < 2; e++) {
        mma1688(acc[e][0], lo[e], b_hi[2 * e], b_hi[2 * e + 1]);
        mma1688(acc[e][1], hi[e], b_lo[2 * e], b_lo[2 * e + 1]);
        mma1688(acc[e][2], hi[e], b_hi[2 * e], b_hi[2 * e + 1]);
    }
}

/* The warp's row: softmax of its logits x [0 … allowed - 1] to the power `whole`, or `exponent`
 * where that is 0, into out, of which what is not allowed becomes 0. Not `real`: a rehearsal, which
 * writes nothing but x. */
__device__ __forceinline__ void softmax_power(float *x, float *out, int allowed, int b, int whole,
                                              float exponent, bool real)
{
    int lane = threadIdx.x & 31;
    float top = -INFINITY, sum = 0, v[AT_ONCE];
#pragma unroll 1
    for (int j = lane; j < allowed; j += 32 * AT_ONCE)
#pragma unroll
        for (int e = 0; e < AT_ONCE; e++)
            top = fmaxf(top, j + 32 * e < allowed ? x[j + 32 * e] : -INFINITY);
    top = warp_max(top);
#pragma unroll 1
    for (int j = lane; j < allowed; j += 32 * AT_ONCE) {
#pragma unroll
        for (int e = 0; e < AT_ONCE; e++)
            v[e] = j + 32 * e < allowed ? x[j + 32 * e] : -INFINITY;
#pragma unroll
        for (int e = 0; e < AT_ONCE; e++) {
            v[e] = expf(v[e] - top);
            sum += v[e];
            if (j + 32 * e < allowed)
                x[j + 32 * e] = v[e];
        }
    }
    float scale = 1.0f / warp_sum(sum);
#pragma unroll 1
    for (int j = lane; j < allowed; j += 32 * AT_ONCE) {
        float power[AT_ONCE];
#pragma unroll
        for (int e = 0; e < AT_ONCE; e++) {
            v[e] = j + 32 * e < allowed ? x[j + 32 * e] * scale : 0.0f;
            power[e] = 1;
        }
#pragma unroll 1
        for (int left = whole; left > 0; left >>= 1) /* squaring, as in power_of */
#pragma unroll
            for (int e = 0; e < AT_ONCE; e++) {
                if (left & 1)
                    power[e] *= v[e];
                v[e] *= v[e];
            }
#pragma unroll
        for (int e = 0; e < AT_ONCE; e++)
            if (real && j + 32 * e < allowed)
                out[j + 32 * e] = power[e];
        if (real && whole == 0)
#pragma unroll 1
            for (int at = j; at < min(allowed, j + 32 * AT_ONCE); at += 32)
                out[at] = any_power(x[at] * scale, exponent);
    }
    for (int j = allowed + lane; real && j < b; j += 32)
        out[j] = 0.0f;
}

__global__ void __launch_bounds__(32 * FUSED_WARPS, 2)
    score_rows(struct sw_block_scores a, int whole, bool rehearse)
{
    constexpr int CHUNKS = FUSED_CHUNKS;
    /* [groups · CHUNKS][high, low][32 lanes], logits [ROWS][ld] */
    extern __shared__ __align__(16) float4 queries[];
    allow_dependents();
    int i0 = ((int)gridDim.x - 1 - (int)blockIdx.x) * FUSED_ROWS, u = blockIdx.y,
        rows = min(FUSED_ROWS, a.rows - i0);
    int groups = (a.r + FUSED_GROUP - 1) / FUSED_GROUP, ld = fused_ld(a.b);
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    const float *q = a.q + ((int64_t)u * a.q_ld + i0) * a.r,
                *k = a.k + (int64_t)(u * (int64_t)a.units_k / a.units_q) * a.k_ld * a.r;
    float *logits = reinterpret_cast<float *>(queries + groups * CHUNKS * 64);
#pragma unroll 1
    for (int pass = rehearse ? 0 : 1; pass < 2; pass++) { /* the rehearsal, then the work */
        bool real = pass == 1;
        if (real)
            wait_for_previous();
        /* columns that any of the rows needs */
        int used = !real ? 0 : a.causal ? min(a.b, a.row0 + i0 + rows) : a.b;
        int tiles =
            ((real ? used : min(a.b, FUSED_WARPS * FUSED_KEYS)) + FUSED_KEYS - 1) / FUSED_KEYS;
        __syncthreads();       /* nobody is in the rehearsal any more */
        float4 key[CHUNKS][2]; /* of keys g and g + 8 */
        auto ask = [&](int tile, int group, int c) {
            ask_keys(key[c], k, tile, used, group * FUSED_GROUP + c * 16 + 4 * t, a.r, g);
        };
#pragma unroll
        for (int c = 0; c < CHUNKS; c++)
            ask(warp, 0, c);
        split_queries(queries, q, groups, real ? rows : 0, a.r);
        __syncthreads();
        float acc[2][3][4] = {}; /* the three products apart, so that few wait for the one before */
        for (int tile = warp, group = 0; tile < tiles;) {
            int next_group = group + 1 < groups ? group + 1 : 0,
                next = next_group ? tile : tile + FUSED_WARPS;
            const uint4 *query =
                reinterpret_cast<const uint4 *>(queries) + group * CHUNKS * 64 + lane;
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                uint4 high = query[c * 64], low = query[c * 64 + 32];
                uint32_t hi[2][4], lo[2][4];
                split_keys(key[c], hi, lo);
                ask(next, next_group, c);
                add_products(acc, hi, lo, high, low);
            }
            if (next_group == 0)
#pragma unroll
                for (int e = 0; e < 4; e++) { /* key g or g + 8 of row 2t or 2t + 1 */
                    float small = (acc[0][0][e] + acc[1][0][e]) + (acc[0][1][e] + acc[1][1][e]);
                    logits[(2 * t + (e & 1)) * ld + tile * FUSED_KEYS + (e >> 1) * 8 + g] =
                        a.scale * (small + (acc[0][2][e] + acc[1][2][e]));
#pragma unroll
                    for (int p = 0; p < 3; p++)
                        acc[0][p][e] = acc[1][p][e] = 0;
                }
            tile = next;
            group = next_group;
        }
        __syncthreads();
        if (warp >= rows)
            continue;
        int allowed = !real ? 1 : a.causal ? min(a.b, a.row0 + i0 + warp + 1) : a.b;
        softmax_power(logits + warp * ld, unit_row(a.out, u, i0 + warp), allowed, a.b, whole,
                      a.exponent, real);
    }
}

/* Enough rows, and sketches that come 16 bytes at a time. */
static bool fused_takes(const struct cuda_state *s, const struct sw_block_scores *a)
{
    return a->softmax && a->clamp == 0 && !a->pool_rows && !a->column_scores &&
           a->units_q == a->out.units && a->units_q <= 65535 && a->rows >= 2 * FUSED_ROWS &&
           a->r % 4 == 0 && ((uintptr_t)a->q | (uintptr_t)a->k) % 16 == 0 &&
           fused_bytes(a) <= (size_t)s->smem_optin;
}

static enum sw_status fused_scores(struct cuda_state *s, const struct sw_block_scores *a, int whole)
{
    CUDA_TRY(s, cudaFuncSetAttribute(score_rows, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     (int)fused_bytes(a)));
    dim3 grid((unsigned)div_up(a->rows, FUSED_ROWS), (unsigned)a->units_q);
    CUDA_TRY(s, dependent_launch(s, true, score_rows, grid, 32 * FUSED_WARPS, (int)fused_bytes(a),
                                 *a, whole, s->major >= 9));
    LAUNCHED(s, "block_scores");
    return SW_OK;
}

/* Strips of rows, which keep the per-head logits within 64 MiB whatever b is. */
static enum sw_status scores_by_strips(struct cuda_state *s, const struct sw_block_scores *a,
                                       int whole)
{
    int64_t row_floats = (int64_t)a->units_q * a->b;
    int strip =
        (int)std::max<int64_t>(1, std::min<int64_t>(a->rows, ((int64_t)16 << 20) / row_floats));
    if (a->pool_rows)
        strip = a->rows;
    else if (strip > TILE && strip < a->rows)
        strip = strip / TILE * TILE;
    void *room;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_SCORES, (size_t)row_floats * (size_t)strip * sizeof(float),
                           &room));
    logits_args l = {a->q,       a->k,       static_cast<float *>(room),
                     a->units_q, a->units_k, 0,
                     0,          a->row0,    a->pool_rows ? 0 : 1,
                     a->b,       a->r,       a->q_ld,
                     a->k_ld,    a->b,       strip,
                     a->scale,   a->clamp,   a->causal};
    finish_args f = {static_cast<float *>(room),
                     a->out,
                     a->units_q,
                     0,
                     0,
                     a->row0,
                     a->b,
                     a->b,
                     strip,
                     whole,
                     a->exponent,
                     a->softmax,
                     a->causal,
                     a->pool_rows,
                     a->column_scores,
                     a->units_k,
                     a->k_ld};
    for (int at = 0; at < a->rows; at += strip) {
        int rows = std::min(strip, a->rows - at);
        l.row_begin = f.row_begin = at;
        l.rows = f.rows = rows;
        if (rows <= 4)
            logits_rows<<<dim3((unsigned)div_up(a->b, 8), 1, (unsigned)a->units_q), 256, 0,
                          queue_on(s)>>>(l);
        else
            logits_tiles<<<dim3((unsigned)div_up(a->b, TILE), (unsigned)div_up(rows, TILE),
                                (unsigned)a->units_q),
                           256, 0, queue_on(s)>>>(l);
        LAUNCHED(s, "block_scores, logits");
        int made = a->pool_rows ? 1 : rows;
        if (made * a->out.units <= 64 && a->units_q / a->out.units * rows / made >= 8) {
            SW_TRY(finish_few(s, f));
            continue;
        }
        finish_rows<<<dim3((unsigned)(a->pool_rows ? 1 : rows), (unsigned)a->out.units), 256, 0,
                      queue_on(s)>>>(f);
        LAUNCHED(s, "block_scores, softmax");
    }
    return SW_OK;
}

enum sw_status sw_cuda_block_scores(struct sw_backend *be, const struct sw_block_scores *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(a->rows >= 1 && a->b >= 1 && sw_unit_holds(&a->out, a->pool_rows ? 1 : a->rows, a->b) &&
                a->units_q % a->out.units == 0,
            "block_scores");
    REQUIRE(a->units_k >= 1 && (a->units_q % a->units_k == 0 || a->units_k % a->units_q == 0) &&
                a->rows <= a->q_ld && a->b <= a->k_ld,
            "block_scores");
    int whole = whole_power(a->exponent);
    return fused_takes(s, a) ? fused_scores(s, a, whole) : scores_by_strips(s, a, whole);
}
