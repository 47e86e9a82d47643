/* Columns and slashes: how the last queries of a prompt spread over keys and distances, and block
 * scores made of them. */
#include <algorithm>
#include <cmath>

#include "kernels/cuda/attention/attend.h"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/reduce.cuh"

/* Logits of 64 of the last queries of one head against 64 keys: 8 · 64 · 64 · d operations on
 * tensor cores, bf16 in, fp32 out. All heads of a chunk at once: H · last · n · 4 bytes written
 * here and read three times below, 1.1 GB at 32 heads × 64 × 128K: the bytes are the limit. */
struct line_args {
    const bf16 *q, *k;
    float *x;      /* [heads, last, n] */
    float2 *stats; /* [heads, last]: maximum, 1 / sum */
    int h0, heads, G, H, Hkv, d, last, n_q, n;
    float scale;
};

template <int D>
__global__ void __launch_bounds__(128) line_logits(line_args a)
{
    constexpr int CH = D / 8;
    extern __shared__ __align__(128) unsigned char shared[];
    int key0 = blockIdx.x * 64, row0 = blockIdx.y * 64, h = a.h0 + blockIdx.z,
        warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    uint32_t q_tile = shared_address(shared), k_tile = q_tile + 64 * D * 2;
    for (int i = threadIdx.x; i < 64 * CH; i += blockDim.x) {
        int r = i / CH, c = i % CH, t = a.n_q - a.last + row0 + r, key = key0 + r;
        bool has_q = row0 + r < a.last && c * 8 < a.d, has_k = key < a.n && c * 8 < a.d;
        copy_async(q_tile + tile_at<D>(r, c),
                   a.q + (has_q ? ((int64_t)t * a.H + h) * a.d + c * 8 : 0), has_q);
        copy_async(k_tile + tile_at<D>(r, c),
                   a.k + (has_k ? ((int64_t)key * a.Hkv + h / a.G) * a.d + c * 8 : 0), has_k);
    }
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    float s[8][4] = {};
#pragma unroll
    for (int kc = 0; kc < CH; kc += 2) {
        uint32_t qa[4];
        load_matrix(qa, a_address<D>(q_tile, warp * 16, kc, lane));
#pragma unroll
        for (int pair = 0; pair < 4; pair++) {
            uint32_t kb[4];
            load_matrix(kb, k_address<D>(k_tile, pair * 16, kc, lane));
            mma16816(s[pair * 2], qa, kb[0], kb[1]);
            mma16816(s[pair * 2 + 1], qa, kb[2], kb[3]);
        }
    }
    for (int nt = 0; nt < 8; nt++)
        for (int r = 0; r < 4; r++) {
            int row = row0 + warp * 16 + (lane >> 2) + (r >> 1) * 8,
                key = key0 + nt * 8 + (lane & 3) * 2 + (r & 1);
            if (row < a.last && key < a.n)
                a.x[((int64_t)blockIdx.z * a.last + row) * a.n + key] = a.scale * s[nt][r];
        }
}

/* Maximum and 1 / sum over the keys that the query sees; one CTA a row. */
__global__ void __launch_bounds__(512) line_statistics(line_args a)
{
    __shared__ float lanes[32];
    int row = blockIdx.x, seen = a.n - a.last + row + 1;
    const float *x = a.x + ((int64_t)blockIdx.y * a.last + row) * a.n;
    float top = -INFINITY;
    for (int u = threadIdx.x; u < seen; u += blockDim.x)
        top = fmaxf(top, x[u]);
    top = block_max(top, lanes);
    float sum = 0;
    for (int u = threadIdx.x; u < seen; u += blockDim.x)
        sum += expf(x[u] - top);
    sum = block_sum(sum, lanes);
    if (threadIdx.x == 0)
        a.stats[(int64_t)blockIdx.y * a.last + row] = make_float2(top, 1.0f / sum);
}

/* A thread a key (columns) or a distance (slashes): its sum over the rows, in their order. */
template <bool SLASHES>
__global__ void __launch_bounds__(256) line_sums(line_args a, int ld, float *out)
{
    int at = blockIdx.x * blockDim.x + threadIdx.x, first = a.n - a.last;
    if (at >= a.n)
        return;
    float sum = 0;
    for (int row = 0; row < a.last; row++) {
        int key = SLASHES ? first + row - at : at;
        if (key < 0 || key > first + row)
            continue;
        int64_t r = (int64_t)blockIdx.y * a.last + row;
        float2 s = a.stats[r];
        sum += expf(a.x[r * a.n + key] - s.x) * s.y;
    }
    out[(int64_t)(a.h0 + blockIdx.y) * ld + at] = sum;
}

template <int D>
static enum sw_status logits(struct cuda_state *s, const line_args &a)
{
    CUDA_TRY(s, cudaFuncSetAttribute(line_logits<D>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     128 * D * 2));
    dim3 grid((unsigned)div_up(a.n, 64), (unsigned)div_up(a.last, 64), (unsigned)a.heads);
    line_logits<D><<<grid, 128, 128 * D * 2, queue_on(s)>>>(a);
    LAUNCHED(s, "vertical_slash, logits");
    return SW_OK;
}

enum sw_status sw_cuda_vertical_slash(struct sw_backend *be, const struct sw_vertical_slash *l)
{
    struct cuda_state *s = state_of(be);
    const struct sw_attend *in = l->in;
    REQUIRE(in->batch == 1 && l->last >= 1 && l->last <= in->n_q && l->ld >= in->n_k &&
                in->n_heads % in->n_kv_heads == 0,
            "vertical_slash");
    if (in->head_dim % 8 != 0 || in->head_dim > 256)
        return SW_FAIL(SW_EUNSUPPORTED,
                       "vertical_slash on cuda: head_dim %d; expected a multiple of 8 up to 256",
                       in->head_dim);
    line_args a = {static_cast<const bf16 *>(in->q),
                   static_cast<const bf16 *>(in->k),
                   NULL,
                   NULL,
                   0,
                   0,
                   in->n_heads / in->n_kv_heads,
                   in->n_heads,
                   in->n_kv_heads,
                   in->head_dim,
                   l->last,
                   in->n_q,
                   in->n_k,
                   in->scale};
    /* 512 MiB of logits at once */
    int64_t head_floats = (int64_t)l->last * in->n_k, room = (int64_t)128 << 20;
    int chunk = (int)std::max<int64_t>(1, std::min<int64_t>(in->n_heads, room / head_floats));
    void *p;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_SCORES, (size_t)(head_floats * chunk) * sizeof(float), &p));
    a.x = static_cast<float *>(p);
    SW_TRY(sw_cuda_scratch(s, SCRATCH_STATS, sizeof(float2) * (size_t)chunk * (size_t)l->last, &p));
    a.stats = static_cast<float2 *>(p);
    for (a.h0 = 0; a.h0 < in->n_heads; a.h0 += chunk) {
        a.heads = std::min(chunk, in->n_heads - a.h0);
#define CALL(D) logits<(D)>(s, a)
        SW_TRY(FOR_HEAD_DIM(a.d, CALL));
#undef CALL
        line_statistics<<<dim3((unsigned)a.last, (unsigned)a.heads), 512, 0, queue_on(s)>>>(a);
        LAUNCHED(s, "vertical_slash, statistics");
        dim3 grid((unsigned)div_up(a.n, 256), (unsigned)a.heads);
        if (l->columns) {
            line_sums<false><<<grid, 256, 0, queue_on(s)>>>(a, l->ld, l->columns);
            LAUNCHED(s, "vertical_slash, columns");
        }
        if (l->slashes) {
            line_sums<true><<<grid, 256, 0, queue_on(s)>>>(a, l->ld, l->slashes);
            LAUNCHED(s, "vertical_slash, slashes");
        }
    }
    return SW_OK;
}

/* --- in blocks -------------------------------------------------------------------------------- */

__global__ void pool_vertical_slash_blocks(struct sw_pool_vertical_slash a, int blocks)
{
    int j = blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= blocks)
        return;
    const float *in = a.in + (int64_t)blockIdx.y * a.ld;
    /* entries by which blocks counted from the end begin earlier */
    int back = a.from_end ? blocks * a.block - a.n : 0;
    float sum = a.largest ? -INFINITY : 0;
    if (a.split && j > 0) /* what the block before gives on */
        for (int x = (j - 1) * a.block; x < j * a.block; x++)
            sum += in[x] * ((float)(x % a.block) / (float)a.block);
    for (int x = max(j * a.block - back, 0); x < min((j + 1) * a.block - back, a.n); x++)
        if (a.largest)
            sum = fmaxf(sum, in[x]);
        else
            sum += a.split ? in[x] * (1.0f - (float)(x % a.block) / (float)a.block) : in[x];
    a.out[(int64_t)blockIdx.y * a.ld_out + j] = a.scale * sum;
}

enum sw_status sw_cuda_pool_vertical_slash(struct sw_backend *be,
                                           const struct sw_pool_vertical_slash *a)
{
    struct cuda_state *s = state_of(be);
    int blocks = div_up(a->n, a->block);
    REQUIRE(a->rows >= 1 && a->rows <= 65535 && a->n >= 1 && a->n <= a->ld && blocks <= a->ld_out &&
                !(a->split && (a->from_end || a->largest)),
            "pool_vertical_slash");
    pool_vertical_slash_blocks<<<dim3((unsigned)div_up(blocks, 64), (unsigned)a->rows), 64, 0,
                                 queue_on(s)>>>(*a, blocks);
    LAUNCHED(s, "pool_vertical_slash");
    return SW_OK;
}

__global__ void vertical_slash_rows(struct sw_vertical_slash_scores a)
{
    int j = blockIdx.x * blockDim.x + threadIdx.x, r = blockIdx.y, u = blockIdx.z, i = a.row0 + r;
    if (j >= a.b)
        return;
    const float *columns = a.columns + (int64_t)u * a.ld_in,
                *slashes = a.slashes + (int64_t)u * a.ld_in;
    unit_row(a.out, u, r)[j] = j <= i ? columns[j] + slashes[i - j] : 0.0f;
}

enum sw_status sw_cuda_vertical_slash_scores(struct sw_backend *be,
                                             const struct sw_vertical_slash_scores *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(sw_unit_holds(&a->out, a->rows, a->b) && a->rows >= 1 && a->b <= a->ld_in &&
                a->row0 + a->rows <= a->b,
            "vertical_slash_scores");
    vertical_slash_rows<<<dim3((unsigned)div_up(a->b, 128), (unsigned)a->rows,
                               (unsigned)a->out.units),
                          128, 0, queue_on(s)>>>(*a);
    LAUNCHED(s, "vertical_slash_scores");
    return SW_OK;
}
