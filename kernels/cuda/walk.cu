/* The walk product and the running average of a cached block matrix. */
#include <algorithm>

#include "kernels/cuda/device.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/reduce.cuh"

/* ----------------------------------------------------------------------------------------------- matrix by matrix */

/* out = alpha · anchor + beta · (x · a), at fp32's accuracy on tensor cores: each factor is split into two tf32 numbers (11 bits each) and three
 * of the four products are added, so that the error is about 2^-20 and selections agree with the CPU's but for near-ties; one tf32 product
 * alone (2^-11) would change lists. Of lower-triangular matrices only k = j … i adds: b³/6 multiply-adds instead of b³, three times over:
 * 8.6 GFLOP at b = 2048. 64 × 64 tiles, four warps of 32 × 32, 32 k a step, the next step's tiles on their way. Tiles with the longest sums
 * start first. Entries that are zero by the contract are not trusted to be written: they are masked. */
static const int TILE = 64, DEPTH = 32, X_LD = DEPTH + 4, A_LD = TILE + 8; /* paddings: no two lanes of a fragment in one bank */

/* v = hi + lo + less than 2^-21 |v|: bits cut off, not rounded (two instructions; cvt.rna.tf32 made the kernel wait for the conversion unit). */
__device__ inline void split_tf32(float v, uint32_t &hi, uint32_t &lo)
{
    hi = __float_as_uint(v) & 0xffffe000u;
    lo = __float_as_uint(v - __uint_as_float(hi)) & 0xffffe000u;
}

__device__ inline void mma1688(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* rows × cols floats from a matrix with row stride ld, zeros outside [row_end) × [col_end). VEC: ld and the base allow 16 bytes at once. */
template <bool VEC>
__device__ inline void load_floats(uint32_t tile, int tile_ld, const float *from, int64_t ld, int row0, int rows, int row_end, int col0, int cols,
                                   int col_end)
{
    constexpr int W = VEC ? 4 : 1;
    int per_row = cols / W;
    for (int e = threadIdx.x; e < rows * per_row; e += blockDim.x) {
        int r = e / per_row, c = e % per_row * W, row = row0 + r, col = col0 + c;
        int bytes = row < row_end && col < col_end ? min(W, col_end - col) * 4 : 0;
        const float *src = bytes ? from + row * ld + col : from;
        uint32_t dst = tile + (uint32_t)(r * tile_ld + c) * 4;
        if (VEC)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(dst), "l"(src), "r"(bytes) : "memory");
        else
            asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(dst), "l"(src), "r"(bytes) : "memory");
    }
}

template <bool VEC>
__global__ void __launch_bounds__(128) walk_tiles(struct sw_walk a)
{
    __shared__ __align__(16) float xs[2][TILE * X_LD], as[2][DEPTH * A_LD];
    int i0 = ((int)gridDim.y - 1 - (int)blockIdx.y) * TILE, j0 = blockIdx.x * TILE, u = blockIdx.z;
    int bottom = min(i0 + TILE, a.rows) - 1;                           /* last row of the tile */
    bool empty = a.beta == 0.0f || (a.causal && j0 > a.row0 + bottom); /* above the diagonal */
    const float *x = a.x + (int64_t)u * a.ld_rows * a.ld, *m = a.a + (int64_t)u * a.a_ld_rows * a.ld;
    int k_begin = a.causal ? j0 : 0, k_end = empty ? k_begin : a.causal ? min(a.b, a.row0 + bottom + 1) : a.b;
    int steps = (k_end - k_begin + DEPTH - 1) / DEPTH;
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    int wi = (warp >> 1) * 32, wj = (warp & 1) * 32; /* this warp's part of the tile */
    float acc[2][4][4] = {};
    uint32_t xs_at = shared_address(xs), as_at = shared_address(as);
    if (steps > 0) {
        load_floats<VEC>(xs_at, X_LD, x, a.ld, i0, TILE, a.rows, k_begin, DEPTH, k_end);
        load_floats<VEC>(as_at, A_LD, m, a.ld, k_begin, DEPTH, k_end, j0, TILE, a.b);
    }
    copy_commit();
    for (int step = 0; step < steps; step++) {
        int k0 = k_begin + step * DEPTH, now = step & 1, next = now ^ 1;
        if (step + 1 < steps) {
            load_floats<VEC>(xs_at + (uint32_t)(next * TILE * X_LD) * 4, X_LD, x, a.ld, i0, TILE, a.rows, k0 + DEPTH, DEPTH, k_end);
            load_floats<VEC>(as_at + (uint32_t)(next * DEPTH * A_LD) * 4, A_LD, m, a.ld, k0 + DEPTH, DEPTH, k_end, j0, TILE, a.b);
        }
        copy_commit();
        copy_wait<1>();
        __syncthreads();
        bool mask_x = a.causal && k0 + DEPTH - 1 > a.row0 + i0, mask_a = a.causal && j0 + TILE - 1 > k0;
        const float *xt = xs[now], *at = as[now];
#pragma unroll
        for (int kk = 0; kk < DEPTH; kk += 8) {
            uint32_t x_hi[2][4], x_lo[2][4];
#pragma unroll
            for (int mt = 0; mt < 2; mt++)
#pragma unroll
                for (int r = 0; r < 4; r++) {
                    int row = wi + mt * 16 + g + (r & 1) * 8, k = kk + t + (r >> 1) * 4;
                    float v = xt[row * X_LD + k];
                    if (mask_x && k0 + k > a.row0 + i0 + row)
                        v = 0.0f;
                    split_tf32(v, x_hi[mt][r], x_lo[mt][r]);
                }
            uint32_t a_hi[4][2], a_lo[4][2];
#pragma unroll
            for (int nt = 0; nt < 4; nt++)
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    int k = kk + t + r * 4, col = wj + nt * 8 + g;
                    float v = at[k * A_LD + col];
                    if (mask_a && j0 + col > k0 + k)
                        v = 0.0f;
                    split_tf32(v, a_hi[nt][r], a_lo[nt][r]);
                }
            /* The small products first; eight sums apart, so that no product waits for the one before it. */
#pragma unroll
            for (int e = 0; e < 8; e++)
                mma1688(acc[e & 1][e >> 1], x_lo[e & 1], a_hi[e >> 1][0], a_hi[e >> 1][1]);
#pragma unroll
            for (int e = 0; e < 8; e++)
                mma1688(acc[e & 1][e >> 1], x_hi[e & 1], a_lo[e >> 1][0], a_lo[e >> 1][1]);
#pragma unroll
            for (int e = 0; e < 8; e++)
                mma1688(acc[e & 1][e >> 1], x_hi[e & 1], a_hi[e >> 1][0], a_hi[e >> 1][1]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int mt = 0; mt < 2; mt++)
#pragma unroll
        for (int nt = 0; nt < 4; nt++)
#pragma unroll
            for (int r = 0; r < 4; r++) {
                int i = i0 + wi + mt * 16 + g + (r >> 1) * 8, j = j0 + wj + nt * 8 + t * 2 + (r & 1);
                if (i >= a.rows || j >= a.b)
                    continue;
                int64_t at = ((int64_t)u * a.ld_rows + i) * a.ld + j;
                bool in = !a.causal || j <= a.row0 + i;
                float v = in ? a.beta * acc[mt][nt][r] : 0.0f;
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
    else {
        dim3 grid((unsigned)div_up(a->b, TILE), (unsigned)div_up(a->rows, TILE), (unsigned)a->units);
        bool vec = a->ld % 4 == 0 && ((uintptr_t)a->x | (uintptr_t)a->a) % 16 == 0;
        (vec ? walk_tiles<true> : walk_tiles<false>)<<<grid, 128, 0, s->stream>>>(*a);
    }
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
