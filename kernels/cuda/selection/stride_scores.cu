/* Stem's scores. A mean over all pairs of groups of the products of their tokens is the product of
 * the tokens' sums, one a place in the group, so that no matrix of groups is made.
 *
 * Reading is all: q, k and v once, (H + 2·Hkv)·n·d·2 bytes. The product of the sums is fp32, b²·
 * stride·d FLOPs a head, causal: 3e10 at n = 128K in blocks of 128, 32 heads of 128, stride 8, some
 * 2 ms on an H100; tensor cores would gain little and lose the sums' precision. */
#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/reduce.cuh"

static const int TILE = 32;

struct stride_args {
    const bf16 *q, *k, *v;
    int n, H, Hkv, d, stride, block, b, groups;
    float scale, bonus;
    float *q_sums, *k_sums; /* [H or Hkv, b, stride·d] */
    float *sizes;           /* [Hkv, groups]: log of the largest ‖v‖ */
    float *bonuses;         /* [Hkv, b] */
    struct sw_unit_matrix out;
};

/* Grid (b, heads): sums over the groups of a block, [stride, d]; reverse: last token first. */
__global__ void __launch_bounds__(256) sum_groups(const bf16 *x, int n, int heads, int d,
                                                  int stride, int block, bool reverse, float *sums)
{
    int i = blockIdx.x, h = blockIdx.y, width = stride * d, end = min((i + 1) * block, n);
    float *out = sums + ((int64_t)h * gridDim.x + i) * width;
    for (int e = threadIdx.x; e < width; e += blockDim.x) {
        int place = e / d, c = e % d, first = i * block + (reverse ? stride - 1 - place : place);
        float sum = 0;
        for (int t = first; t < end; t += stride)
            sum += __bfloat162float(x[((int64_t)t * heads + h) * d + c]);
        out[e] = sum;
    }
}

/* Grid (groups / warps, Hkv): a warp a group. */
__global__ void __launch_bounds__(256) group_sizes(stride_args a)
{
    int g = (int)(blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5)), kv = blockIdx.y,
        lane = threadIdx.x & 31;
    if (g >= a.groups)
        return;
    float largest = 0;
    for (int t = g * a.stride; t < min((g + 1) * a.stride, a.n); t++) {
        const bf16 *v = a.v + ((int64_t)t * a.Hkv + kv) * a.d;
        float squares = 0;
        for (int c = lane; c < a.d; c += 32)
            squares += __bfloat162float(v[c]) * __bfloat162float(v[c]);
        largest = fmaxf(largest, warp_sum(squares));
    }
    if (lane == 0)
        a.sizes[(int64_t)kv * a.groups + g] = logf(sqrtf(largest) + 1e-6f);
}

/* Grid (Hkv): mean and deviation of the whole groups, then each block's bonus. */
__global__ void __launch_bounds__(256) block_bonuses(stride_args a)
{
    __shared__ float lanes[32];
    int kv = blockIdx.x, whole = a.n / a.stride, per_block = a.block / a.stride;
    const float *sizes = a.sizes + (int64_t)kv * a.groups;
    float sum = 0, squares = 0;
    for (int g = threadIdx.x; g < whole; g += blockDim.x)
        sum += sizes[g];
    float mean = block_sum(sum, lanes) / (float)max(whole, 1);
    for (int g = threadIdx.x; g < whole; g += blockDim.x)
        squares += (sizes[g] - mean) * (sizes[g] - mean);
    squares = block_sum(squares, lanes);
    float deviation = whole > 1 ? sqrtf(squares / (float)(whole - 1)) + 1e-6f : INFINITY;
    for (int j = threadIdx.x; j < a.b; j += blockDim.x) {
        float over = 0;
        for (int g = j * per_block; g < min((j + 1) * per_block, a.groups); g++)
            over += fmaxf(0.0f, (sizes[g] - mean) / deviation);
        a.bonuses[(int64_t)kv * a.b + j] = a.bonus * over / (float)per_block;
    }
}

/* Grid (key tiles, query tiles, H): a CTA makes TILE × TILE scores, a thread four of one column. */
__global__ void __launch_bounds__(256) product_of_sums(stride_args a)
{
    __shared__ float q[TILE][TILE + 1], k[TILE][TILE + 1];
    int h = blockIdx.z, kv = h / (a.H / a.Hkv), i0 = blockIdx.y * TILE, j0 = blockIdx.x * TILE,
        x = threadIdx.x % TILE, y = threadIdx.x / TILE, width = a.stride * a.d;
    const float *q_sums = a.q_sums + (int64_t)h * a.b * width,
                *k_sums = a.k_sums + (int64_t)kv * a.b * width;
    float acc[4] = {0, 0, 0, 0};
    for (int c0 = 0; j0 <= i0 + TILE - 1 && c0 < width; c0 += TILE) {
        for (int r = y; r < TILE; r += 8) {
            bool there = c0 + x < width;
            q[r][x] = there && i0 + r < a.b ? q_sums[(int64_t)(i0 + r) * width + c0 + x] : 0.0f;
            k[r][x] = there && j0 + r < a.b ? k_sums[(int64_t)(j0 + r) * width + c0 + x] : 0.0f;
        }
        __syncthreads();
        for (int c = 0; c < TILE; c++)
            for (int r = 0; r < 4; r++)
                acc[r] += q[y + 8 * r][c] * k[x][c];
        __syncthreads();
    }
    int j = j0 + x;
    for (int r = 0; r < 4; r++) {
        int i = i0 + y + 8 * r;
        if (i < a.b && j < a.b)
            unit_row(a.out, h, i)[j] =
                j <= i ? a.scale * acc[r] + a.bonuses[(int64_t)kv * a.b + j] : -INFINITY;
    }
}

enum sw_status sw_cuda_stride_scores(struct sw_backend *be, const struct sw_stride_scores *args)
{
    struct cuda_state *s = state_of(be);
    const struct sw_attend *in = args->in;
    REQUIRE(in->batch == 1 && in->n_q == in->n_k && in->v && args->stride >= 1 &&
                args->block % args->stride == 0 && in->n_heads % in->n_kv_heads == 0,
            "stride_scores");
    stride_args a = {};
    a.q = static_cast<const bf16 *>(in->q);
    a.k = static_cast<const bf16 *>(in->k);
    a.v = static_cast<const bf16 *>(in->v);
    a.n = in->n_k;
    a.H = in->n_heads;
    a.Hkv = in->n_kv_heads;
    a.d = in->head_dim;
    a.stride = args->stride;
    a.block = args->block;
    a.b = div_up(a.n, a.block);
    a.groups = div_up(a.n, a.stride);
    float per_block = (float)(a.block / a.stride);
    a.scale = in->scale / ((float)a.stride * per_block * per_block);
    a.bonus = args->bonus;
    a.out = args->out;
    REQUIRE(sw_unit_holds(&a.out, a.b, a.b) && a.out.units == a.H, "stride_scores");
    size_t block_sums = (size_t)a.b * (size_t)a.stride * (size_t)a.d, Hkv = (size_t)a.Hkv;
    void *room;
    SW_TRY(sw_cuda_scratch(
        s, SCRATCH_PACK,
        (((size_t)a.H + Hkv) * block_sums + Hkv * ((size_t)a.groups + (size_t)a.b)) * sizeof(float),
        &room));
    a.q_sums = static_cast<float *>(room);
    a.k_sums = a.q_sums + (size_t)a.H * block_sums;
    a.sizes = a.k_sums + Hkv * block_sums;
    a.bonuses = a.sizes + Hkv * (size_t)a.groups;
    sum_groups<<<dim3((unsigned)a.b, (unsigned)a.H), 256, 0, queue_on(s)>>>(
        a.q, a.n, a.H, a.d, a.stride, a.block, true, a.q_sums);
    LAUNCHED(s, "stride_scores, sums of queries");
    sum_groups<<<dim3((unsigned)a.b, (unsigned)a.Hkv), 256, 0, queue_on(s)>>>(
        a.k, a.n, a.Hkv, a.d, a.stride, a.block, false, a.k_sums);
    LAUNCHED(s, "stride_scores, sums of keys");
    group_sizes<<<dim3((unsigned)div_up(a.groups, 8), (unsigned)a.Hkv), 256, 0, queue_on(s)>>>(a);
    LAUNCHED(s, "stride_scores, sizes of values");
    block_bonuses<<<(unsigned)a.Hkv, 256, 0, queue_on(s)>>>(a);
    LAUNCHED(s, "stride_scores, bonuses");
    unsigned tiles = (unsigned)div_up(a.b, TILE);
    product_of_sums<<<dim3(tiles, tiles, (unsigned)a.H), 256, 0, queue_on(s)>>>(a);
    LAUNCHED(s, "stride_scores");
    return SW_OK;
}
