/* The walk product and the running average of a cached block matrix. */
#include <algorithm>

#include "kernels/cuda/device/dependent_launch.cuh"
#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/reduce.cuh"

/* --- matrix by matrix ------------------------------------------------------------------------- */

/* out = alpha · anchor + beta · (x · a), at fp32's accuracy on tensor cores: each factor is split
 * into two tf32 numbers (11 bits each) and three of the four products are added, so that the error
 * is about 2^-20 and selections agree with the CPU's but for near-ties; one tf32 product alone
 * (2^-11) would change lists. Of lower-triangular matrices only k = j … i adds: b³/6 multiply-adds
 * instead of b³, three times over:
 * 8.6 GFLOP at b = 2048. Entries that are zero by the contract are not trusted to be written: the
 * copy into shared memory leaves them out.
 *
 * A CTA makes a T × T tile with eight warps. Each warp makes 32 × 32 entries over its share of
 * every step's k: at T = 64 four warps side by side and two shares, at T = 32 one and eight. The
 * shares are added at the end, in order. T = 64 halves what is read; T = 32 keeps all
 * multiprocessors busy where there are few tiles, and the longest sum short. Tiles with the longest
 * sums start first. */
static const int WALK_WARPS = 8, WALK_THREADS = 32 * WALK_WARPS;

template <int T>
struct walk_layout {
    static constexpr int SIDE = T / 32, SHARES = WALK_WARPS / (SIDE * SIDE),
                         DEPTH = T == 64 ? 64 : 128, SHARE = DEPTH / SHARES;
    /* paddings: no two lanes of a fragment in one bank */
    static constexpr int X_LD = DEPTH + 8, A_LD = T + 4, SUM_LD = T + 8;
    /* floats: x [T][X_LD], a [DEPTH][A_LD] */
    static constexpr int STAGE = T * X_LD + DEPTH * A_LD;
    static constexpr int BYTES = 2 * STAGE * (int)sizeof(float);
    static_assert(SHARES * T * SUM_LD <= 2 * STAGE && SHARE % 8 == 0,
                  "the shares' sums take the stages' place");
};

/* ROWS × COLS floats from (row0, col0) on, of a matrix with row stride ld, into a tile with row
 * stride LD. Zeros from row_end and col_end on, and where causal behind column row + diagonal. VEC:
 * base, ld and col0 allow 16 bytes at once; the last of them are zeros where a row ends inside. A
 * thread keeps to one column (or four) and goes down by STEP rows. Most tiles of a long sum have
 * nothing to leave out, and say so once: copies that ask for themselves are as many instructions as
 * a third of the products'. */
template <bool VEC, int ROWS, int COLS, int LD>
__device__ inline void load_floats(uint32_t tile, const float *from, int64_t ld, int row0,
                                   int row_end, int col0, int col_end, bool causal, int diagonal)
{
    constexpr int W = VEC ? 4 : 1, PER_ROW = COLS / W, STEP = WALK_THREADS / PER_ROW,
                  TURNS = ROWS / STEP;
    static_assert(WALK_THREADS % PER_ROW == 0 && ROWS % STEP == 0, "every thread copies as many");
    int r = (int)threadIdx.x / PER_ROW, c = (int)threadIdx.x % PER_ROW * W, row = row0 + r,
        col = col0 + c;
    const float *src = from + row * ld + col;
    uint32_t dst = tile + (uint32_t)(r * LD + c) * 4;
    if (VEC && row0 + ROWS <= row_end && col0 + COLS <= col_end &&
        (!causal || col0 + COLS <= row0 + diagonal + 1)) {
#pragma unroll
        for (int i = 0; i < TURNS; i++, src += STEP * ld)
            copy_async(dst + (uint32_t)(i * STEP * LD) * 4, src, true);
        return;
    }
    int left = col_end - col, below = row + diagonal + 1 - col;
#pragma unroll(VEC ? TURNS : 1)
    for (int i = 0; i < TURNS; i++, src += STEP * ld) {
        int there = causal ? min(left, below + i * STEP) : left,
            count = row + i * STEP < row_end ? min(max(there, 0), W) : 0;
        if (VEC)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(
                             dst + (uint32_t)(i * STEP * LD) * 4),
                         "l"(count > 0 ? src : from), "r"(count * 4)
                         : "memory");
        else
            asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(
                             dst + (uint32_t)(i * STEP * LD) * 4),
                         "l"(count > 0 ? src : from), "r"(count * 4)
                         : "memory");
    }
}

/* acc += x · a over one warp's share of a step: x from its first row and k, a from its first k and
 * column. The eight k of a product may come in any order that x and a share: lane t takes 2t and 2t
 * + 1, which are one 8-byte read of x. */
template <int T>
__device__ inline void walk_share(float (&acc)[2][4][4], const float *x, const float *a, int g,
                                  int t)
{
    using L = walk_layout<T>;
#pragma unroll
    for (int kk = 0; kk < L::SHARE; kk += 8) {
        uint32_t x_hi[2][4], x_lo[2][4];
#pragma unroll
        for (int mt = 0; mt < 2; mt++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float2 v = *reinterpret_cast<const float2 *>(
                    x + (mt * 16 + half * 8 + g) * L::X_LD + kk + 2 * t);
                split_tf32(v.x, x_hi[mt][half], x_lo[mt][half]);
                split_tf32(v.y, x_hi[mt][half + 2], x_lo[mt][half + 2]);
            }
        uint32_t a_hi[4][2], a_lo[4][2];
#pragma unroll
        for (int nt = 0; nt < 4; nt++)
#pragma unroll
            for (int r = 0; r < 2; r++)
                split_tf32(a[(kk + 2 * t + r) * L::A_LD + nt * 8 + g], a_hi[nt][r], a_lo[nt][r]);
        /* The small products first; eight sums apart, so that no product waits for the one before
         * it. */
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
}

/* Tile number `at` of row_tiles × col_tiles, diagonal by diagonal from the lower left corner, where
 * a causal sum is longest, to the upper right. */
__device__ inline void tile_by_length(int at, int row_tiles, int col_tiles, int *row_tile,
                                      int *col_tile)
{
    for (int below = row_tiles - 1;; below--) { /* row_tile - col_tile */
        int count = min(row_tiles, col_tiles + below) - max(below, 0);
        if (at < count) {
            *row_tile = max(below, 0) + at;
            *col_tile = *row_tile - below;
            return;
        }
        at -= count;
    }
}

template <int T, bool VEC>
__global__ void __launch_bounds__(WALK_THREADS, 2) walk_tiles(struct sw_walk a)
{
    using L = walk_layout<T>;
    extern __shared__ __align__(16) float stages[];
    int row_tile, col_tile, u = blockIdx.z;
    tile_by_length(blockIdx.x, (a.rows + T - 1) / T, (a.b + T - 1) / T, &row_tile, &col_tile);
    allow_dependents();
    wait_for_previous();
    /* last row of the tile */
    int i0 = row_tile * T, j0 = col_tile * T, bottom = min(i0 + T, a.rows) - 1;
    /* above the diagonal */
    bool empty = a.beta == 0.0f || (a.causal && j0 > a.row0 + bottom);
    const float *x = a.x + (int64_t)u * a.out.ld_rows * a.out.ld, *m = unit_row(a.a, u, 0);
    int k_begin = a.causal ? j0 : 0, k_end = empty      ? k_begin
                                             : a.causal ? min(a.b, a.row0 + bottom + 1)
                                                        : a.b;
    int steps = (k_end - k_begin + L::DEPTH - 1) / L::DEPTH;
    uint32_t at = shared_address(stages);
    auto load = [&](int step) {
        int k0 = k_begin + step * L::DEPTH;
        uint32_t to = at + (uint32_t)((step & 1) * L::STAGE) * 4;
        load_floats<VEC, T, L::DEPTH, L::X_LD>(to, x, a.out.ld, i0, a.rows, k0, k_end, a.causal,
                                               a.row0);
        load_floats<VEC, L::DEPTH, T, L::A_LD>(to + (uint32_t)(T * L::X_LD) * 4, m, a.out.ld, k0,
                                               k_end, j0, a.b, a.causal, 0);
    };
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    int share = warp / (L::SIDE * L::SIDE), wi = warp % (L::SIDE * L::SIDE) / L::SIDE * 32,
        wj = warp % L::SIDE * 32;
    float acc[2][4][4] = {};
    if (steps > 0)
        load(0);
    copy_commit();
    for (int step = 0; step < steps; step++) {
        copy_wait<0>();
        /* this step's tiles are there, and nobody reads the last step's any more */
        __syncthreads();
        if (step + 1 < steps)
            load(step + 1);
        copy_commit();
        const float *xs = stages + (step & 1) * L::STAGE, *as = xs + T * L::X_LD;
        walk_share<T>(acc, xs + wi * L::X_LD + share * L::SHARE,
                      as + share * L::SHARE * L::A_LD + wj, g, t);
    }
    __syncthreads();
    float *sums = stages; /* [SHARES][T][SUM_LD] */
#pragma unroll
    for (int mt = 0; mt < 2; mt++)
#pragma unroll
        for (int nt = 0; nt < 4; nt++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                *reinterpret_cast<float2 *>(
                    sums + (share * T + wi + mt * 16 + half * 8 + g) * L::SUM_LD + wj + nt * 8 +
                    2 * t) = make_float2(acc[mt][nt][2 * half], acc[mt][nt][2 * half + 1]);
    __syncthreads();
#pragma unroll 4
    for (int e = threadIdx.x; e < T * T; e += WALK_THREADS) {
        int r = e / T, c = e % T, i = i0 + r, j = j0 + c;
        if (i >= a.rows || j >= a.b)
            continue;
        float sum = 0;
#pragma unroll
        for (int s = 0; s < L::SHARES; s++)
            sum += sums[(s * T + r) * L::SUM_LD + c];
        int64_t place = ((int64_t)u * a.out.ld_rows + i) * a.out.ld + j;
        bool in = !a.causal || j <= a.row0 + i;
        float v = in ? a.beta * sum : 0.0f;
        if (in && a.alpha != 0.0f)
            v += a.alpha * a.anchor[place];
        a.out.data[place] = v;
    }
}

/* --- row by matrix ---------------------------------------------------------------------------- */

/* Few rows (decode): 32 columns a CTA, 32 threads down k. Reads the triangle of a once: 2 · b²
 * bytes, 8.4 MB at b = 2048 (2.8 µs). */
__global__ void __launch_bounds__(1024) walk_rows(struct sw_walk a)
{
    __shared__ float part[32][33];
    int lane = threadIdx.x & 31, lead = threadIdx.x >> 5, j = blockIdx.x * 32 + lane,
        i = blockIdx.y, u = blockIdx.z;
    const float *x = a.x + ((int64_t)u * a.out.ld_rows + i) * a.out.ld, *m = unit_row(a.a, u, 0);
    int row = a.row0 + i,
        k_end = a.beta == 0.0f ? 0
                : a.causal     ? min(a.b, row + 1)
                               : a.b,
        k_begin = a.causal ? (int)blockIdx.x * 32 : 0;
    float acc = 0;
    if (j < a.b)
#pragma unroll 4
        for (int k = k_begin + lead; k < k_end; k += 32)
            acc += !a.causal || j <= k ? x[k] * m[(int64_t)k * a.a.ld + j] : 0.0f;
    part[lead][lane] = acc;
    __syncthreads();
    if (lead == 0 && j < a.b) {
        float sum = 0;
        for (int p = 0; p < 32; p++)
            sum += part[p][lane];
        int64_t at = ((int64_t)u * a.out.ld_rows + i) * a.out.ld + j;
        bool in = !a.causal || j <= row;
        float v = in ? a.beta * sum : 0.0f;
        if (in && a.alpha != 0.0f)
            v += a.alpha * a.anchor[at];
        a.out.data[at] = v;
    }
}

/* Divides each row by its largest |entry|. 8 bytes an entry, the second read from L2. */
__global__ void __launch_bounds__(256) scale_rows(struct sw_walk a)
{
    __shared__ float lanes[32];
    allow_dependents();
    wait_for_previous();
    int i = blockIdx.x, u = blockIdx.y, used = a.causal ? min(a.b, a.row0 + i + 1) : a.b;
    float *row = unit_row(a.out, u, i);
    float top = 0;
    for (int j = threadIdx.x; j < used; j += blockDim.x)
        top = fmaxf(top, fabsf(row[j]));
    top = block_max(top, lanes);
    if (!(top > 0))
        return;
    for (int j = threadIdx.x; j < used; j += blockDim.x)
        row[j] /= top;
}

template <int T, bool VEC>
static enum sw_status launch_tiles(struct cuda_state *s, const struct sw_walk *a)
{
    CUDA_TRY(s,
             cudaFuncSetAttribute(walk_tiles<T, VEC>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  walk_layout<T>::BYTES));
    dim3 grid((unsigned)(div_up(a->rows, T) * div_up(a->b, T)), 1, (unsigned)a->out.units);
    CUDA_TRY(s, dependent_launch(s, true, walk_tiles<T, VEC>, grid, WALK_THREADS,
                                 walk_layout<T>::BYTES, *a));
    LAUNCHED(s, "walk");
    return SW_OK;
}

enum sw_status sw_cuda_walk_product(struct cuda_state *s, const struct sw_walk *a)
{
    REQUIRE(a->rows >= 1 && sw_unit_holds(&a->out, a->rows, a->b) &&
                sw_unit_holds(&a->a, a->b, a->b) && a->a.units == a->out.units &&
                a->a.ld == a->out.ld,
            "walk");
    REQUIRE(a->out.data != a->x && a->out.data != a->a.data && (a->anchor || a->alpha == 0.0f),
            "walk");
    if (a->rows <= 8) {
        walk_rows<<<dim3((unsigned)div_up(a->b, 32), (unsigned)a->rows, (unsigned)a->out.units),
                    1024, 0, queue_on(s)>>>(*a);
        LAUNCHED(s, "walk");
        return SW_OK;
    }
    int64_t large =
        (int64_t)div_up(a->rows, 64) * div_up(a->b, 64) * a->out.units / (a->causal ? 2 : 1);
    bool vec = a->out.ld % 4 == 0 && ((uintptr_t)a->x | (uintptr_t)a->a.data) % 16 == 0;
    if (large >= s->multiprocessors)
        return vec ? launch_tiles<64, true>(s, a) : launch_tiles<64, false>(s, a);
    return vec ? launch_tiles<32, true>(s, a) : launch_tiles<32, false>(s, a);
}

enum sw_status sw_cuda_walk(struct sw_backend *be, const struct sw_walk *a)
{
    struct cuda_state *s = state_of(be);
    SW_TRY(sw_cuda_walk_product(s, a));
    if (a->scale_rows) {
        CUDA_TRY(s, dependent_launch(s, true, scale_rows,
                                     dim3((unsigned)a->rows, (unsigned)a->out.units), 256, 0, *a));
        LAUNCHED(s, "walk, scale_rows");
    }
    return SW_OK;
}

/* --- running ---------------------------------------------------------------------------------- */

__device__ inline float blend(float x, float value,
                              float weight) /* x may be anything when the first value comes */
{
    return weight == 1.0f ? value : x + weight * (value - x);
}

/* Row c moves towards the new row and is renormalised; one CTA a unit. */
__global__ void __launch_bounds__(256) running_row(struct sw_running a)
{
    __shared__ float lanes[32];
    int u = blockIdx.x;
    float *m = unit_row(a.a, u, a.c);
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

/* Column c the same way; then each touched row is renormalised. One CTA a (row, unit). */
__global__ void __launch_bounds__(128) running_column(struct sw_running a)
{
    __shared__ float lanes[32];
    int i = a.causal ? a.c : blockIdx.x, u = blockIdx.y;
    float *m = unit_row(a.a, u, i);
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

enum sw_status sw_cuda_running(struct sw_backend *be, const struct sw_running *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(a->c >= 0 && a->c < a->b && sw_unit_holds(&a->a, a->b, a->b), "running");
    running_row<<<(unsigned)a->a.units, 256, 0, queue_on(s)>>>(*a);
    LAUNCHED(s, "running, row");
    running_column<<<dim3((unsigned)(a->causal ? 1 : a->b), (unsigned)a->a.units), 128, 0,
                     queue_on(s)>>>(*a);
    LAUNCHED(s, "running, column");
    return SW_OK;
}
