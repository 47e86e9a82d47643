/* The walk product and the running average of a cached block matrix. */
#include <algorithm>

#include "kernels/cuda/device.h"
#include "kernels/cuda/reduce.cuh"

/* ----------------------------------------------------------------------------------------------- matrix by matrix */

/* out = alpha · anchor + beta · (x · a). 64 × 64 tiles, 4 × 4 a thread, fp32: the walk goes through every layer, and products in tf32 or
 * bf16 would change which blocks are selected. Of lower-triangular matrices only k = j … i adds: b³/6 multiply-adds instead of b³ (1.4 G at
 * b = 2048, 43 µs at the fp32 peak of 67 TFLOP/s). Tiles with the longest sums start first. Entries that are zero by the contract
 * are not trusted to be written: they are masked. */
static const int TILE = 64, DEPTH = 16;

__global__ void __launch_bounds__(256) walk_tiles(struct sw_walk a)
{
    __shared__ float xs[DEPTH][TILE + 4], as[DEPTH][TILE + 4];
    int i0 = ((int)gridDim.y - 1 - (int)blockIdx.y) * TILE, j0 = blockIdx.x * TILE, u = blockIdx.z;
    int bottom = min(i0 + TILE, a.rows) - 1;                    /* last row of the tile */
    bool empty = a.beta == 0.0f || (a.causal && j0 > a.row0 + bottom); /* above the diagonal */
    const float *x = a.x + (int64_t)u * a.ld_rows * a.ld, *m = a.a + (int64_t)u * a.a_ld_rows * a.ld;
    int k_begin = a.causal ? j0 : 0, k_end = a.causal ? min(a.b, a.row0 + bottom + 1) : a.b;
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    float acc[4][4] = {};
    for (int k0 = k_begin; k0 < k_end && !empty; k0 += DEPTH) {
        for (int e = threadIdx.x; e < TILE * DEPTH; e += 256) {
            int row = e / DEPTH, c = e % DEPTH, i = i0 + row, k = k0 + c;
            xs[c][row] = i < a.rows && k < k_end && (!a.causal || k <= a.row0 + i) ? x[(int64_t)i * a.ld + k] : 0.0f;
        }
        for (int e = threadIdx.x; e < TILE * DEPTH; e += 256) {
            int c = e / TILE, col = e % TILE, j = j0 + col, k = k0 + c;
            as[c][col] = j < a.b && k < k_end && (!a.causal || j <= k) ? m[(int64_t)k * a.ld + j] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int c = 0; c < DEPTH; c++) {
            float4 p = *reinterpret_cast<const float4 *>(&xs[c][ty * 4]), q = *reinterpret_cast<const float4 *>(&as[c][tx * 4]);
            float ps[4] = {p.x, p.y, p.z, p.w}, qs[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int n = 0; n < 4; n++)
                    acc[r][n] += ps[r] * qs[n];
        }
        __syncthreads();
    }
    for (int r = 0; r < 4; r++)
        for (int n = 0; n < 4; n++) {
            int i = i0 + ty * 4 + r, j = j0 + tx * 4 + n;
            if (i >= a.rows || j >= a.b)
                continue;
            int64_t at = ((int64_t)u * a.ld_rows + i) * a.ld + j;
            bool in = !a.causal || j <= a.row0 + i;
            float v = in ? a.beta * acc[r][n] : 0.0f;
            if (in && a.alpha != 0.0f)
                v += a.alpha * a.anchor[at];
            a.out[at] = v;
        }
}

/* --------------------------------------------------------------------------------------------------- row by matrix */

/* Few rows (decode): 32 columns a block, 32 threads down k. Reads the triangle of a once: 2 · b² bytes, 8.4 MB at b = 2048 (2.8 µs). */
__global__ void __launch_bounds__(1024) walk_rows(struct sw_walk a)
{
    __shared__ float part[32][33];
    int lane = threadIdx.x & 31, lead = threadIdx.x >> 5, j = blockIdx.x * 32 + lane, i = blockIdx.y, u = blockIdx.z;
    const float *x = a.x + ((int64_t)u * a.ld_rows + i) * a.ld, *m = a.a + (int64_t)u * a.a_ld_rows * a.ld;
    int row = a.row0 + i, k_end = a.beta == 0.0f ? 0 : a.causal ? min(a.b, row + 1) : a.b, k_begin = a.causal ? (int)blockIdx.x * 32 : 0;
    float acc = 0;
    if (j < a.b)
#pragma unroll 4
        for (int k = k_begin + lead; k < k_end; k += 32)
            acc += !a.causal || j <= k ? x[k] * m[(int64_t)k * a.ld + j] : 0.0f;
    part[lead][lane] = acc;
    __syncthreads();
    if (lead == 0 && j < a.b) {
        float sum = 0;
        for (int p = 0; p < 32; p++)
            sum += part[p][lane];
        int64_t at = ((int64_t)u * a.ld_rows + i) * a.ld + j;
        bool in = !a.causal || j <= row;
        float v = in ? a.beta * sum : 0.0f;
        if (in && a.alpha != 0.0f)
            v += a.alpha * a.anchor[at];
        a.out[at] = v;
    }
}

/* Divides each row by its maximum. 8 bytes an entry, the second read from L2. */
__global__ void __launch_bounds__(256) scale_rows(struct sw_walk a)
{
    __shared__ float lanes[32];
    int i = blockIdx.x, u = blockIdx.y, used = a.causal ? min(a.b, a.row0 + i + 1) : a.b;
    float *row = a.out + ((int64_t)u * a.ld_rows + i) * a.ld;
    float top = -INFINITY;
    for (int j = threadIdx.x; j < used; j += blockDim.x)
        top = fmaxf(top, row[j]);
    top = block_max(top, lanes);
    if (!(top > 0))
        return;
    for (int j = threadIdx.x; j < used; j += blockDim.x)
        row[j] /= top;
}

static enum sw_status walk(struct sw_backend *be, const struct sw_walk *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(a->b <= a->ld && a->rows >= 1 && a->rows <= a->ld_rows && a->b <= a->a_ld_rows && a->units >= 1, "walk");
    REQUIRE(a->out != a->x && a->out != a->a && (a->anchor || a->alpha == 0.0f), "walk");
    if (a->rows <= 8)
        walk_rows<<<dim3((unsigned)div_up(a->b, 32), (unsigned)a->rows, (unsigned)a->units), 1024, 0, s->stream>>>(*a);
    else
        walk_tiles<<<dim3((unsigned)div_up(a->b, TILE), (unsigned)div_up(a->rows, TILE), (unsigned)a->units), 256, 0, s->stream>>>(*a);
    LAUNCHED(s, "walk");
    if (a->scale_rows) {
        scale_rows<<<dim3((unsigned)a->rows, (unsigned)a->units), 256, 0, s->stream>>>(*a);
        LAUNCHED(s, "walk, scale_rows");
    }
    return SW_OK;
}

/* ----------------------------------------------------------------------------------------------------- running */

__device__ inline float blend(float x, float value, float weight) /* x may be anything when the first value comes */
{
    return weight == 1.0f ? value : x + weight * (value - x);
}

/* Row c moves towards the new row and is renormalised; one block a unit. */
__global__ void __launch_bounds__(256) running_row(struct sw_running a)
{
    __shared__ float lanes[32];
    int u = blockIdx.x;
    float *m = a.a + ((int64_t)u * a.ld_rows + a.c) * a.ld;
    const float *row = a.row + (int64_t)u * a.row_ld;
    float sum = 0;
    for (int j = threadIdx.x; j < a.b; j += blockDim.x) {
        m[j] = blend(m[j], row[j], a.weight);
        sum += m[j];
    }
    sum = block_sum(sum, lanes);
    if (sum > 0)
        for (int j = threadIdx.x; j < a.b; j += blockDim.x)
            m[j] /= sum;
}

/* Column c the same way; then each touched row is renormalised. One block a (row, unit). */
__global__ void __launch_bounds__(128) running_column(struct sw_running a)
{
    __shared__ float lanes[32];
    int i = a.causal ? a.c : blockIdx.x, u = blockIdx.y;
    float *m = a.a + ((int64_t)u * a.ld_rows + i) * a.ld;
    if (threadIdx.x == 0)
        m[a.c] = blend(m[a.c], a.row[(int64_t)u * a.row_ld + i], a.weight);
    __syncthreads();
    float sum = 0;
    for (int j = threadIdx.x; j < a.b; j += blockDim.x)
        sum += m[j];
    sum = block_sum(sum, lanes);
    if (sum > 0)
        for (int j = threadIdx.x; j < a.b; j += blockDim.x)
            m[j] /= sum;
}

static enum sw_status running(struct sw_backend *be, const struct sw_running *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(a->c >= 0 && a->c < a->b && a->b <= a->ld && a->b <= a->ld_rows, "running");
    running_row<<<(unsigned)a->units, 256, 0, s->stream>>>(*a);
    LAUNCHED(s, "running, row");
    running_column<<<dim3((unsigned)(a->causal ? 1 : a->b), (unsigned)a->units), 128, 0, s->stream>>>(*a);
    LAUNCHED(s, "running, column");
    return SW_OK;
}

void sw_cuda_bind_walk(struct sw_backend *be)
{
    be->walk = walk;
    be->running = running;
}
