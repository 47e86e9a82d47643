/* The walk of short prompts: product, rows divided by their maxima, and their selection in one launch. `walk` alone, which the truth that is rolled out over layers is
 * made of too, keeps to walk.cu and the order of its sums.
 *
 * Up to 256 blocks (16K tokens at B = 64) the product is nothing, 0.35 M multiply-adds at b = 128, and what is waited for is the first bytes of one kernel after the other:
 * here rows stay where they were made. A block makes eight rows, all columns: sixteen columns of a by the eight rows are a product of the tensor cores (three tf32 ones,
 * mma.cuh), as in score_rows, over 64 k at a time. Such pieces of the triangle, at b = 128 twelve for the longest rows, are shared out to sixteen warps, each of which asks
 * for all of its 64 × 16 numbers of a at once, 4 KB, and adds eight products; the shares of a column are added in order. Each block reads a's triangle up to its last
 * row: 33 KB of L2 at most at b = 128, 131 KB at b = 256. Then a warp a row. */
#include "kernels/cuda/best.cuh"
#include "kernels/cuda/device.h"
#include "kernels/cuda/early.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/reduce.cuh"

static const int STRIP_ROWS = 8, STRIP_WARPS = 16, STRIP_COLUMNS = 16, STRIP_K = 64, STRIP_STEPS = STRIP_K / 8, STRIP_MOST = 256;
static_assert(STRIP_MOST <= 32 * TEAM_EACH && STRIP_ROWS <= STRIP_WARPS, "a warp a row");

/* Row stride of the shares: whole pieces fit, and the 32 places of a store (8 columns of every second row) are 32 banks. */
static inline __host__ __device__ int strip_ld(int b) { return (b + 31) / 32 * 32 + 4; }

static inline int strip_bytes(int b)
{
    int shares = div_up(b, STRIP_K);
    return shares * STRIP_STEPS * 32 * 16 + shares * STRIP_ROWS * strip_ld(b) * (int)sizeof(float);
}

__global__ void __launch_bounds__(32 * STRIP_WARPS, 1) walk_strips(struct sw_walk a, top_args lists, bool early)
{
    extern __shared__ __align__(16) uint4 rows_of_x[]; /* [shares · STEPS][32 lanes] (high and low of k = t and t + 4), shares [shares][ROWS][ld] */
    allow_early();
    int i0 = ((int)gridDim.x - 1 - (int)blockIdx.x) * STRIP_ROWS, u = blockIdx.y, rows = min(STRIP_ROWS, a.rows - i0), ld = strip_ld(a.b);
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    int used = a.causal ? min(a.b, a.row0 + i0 + rows) : a.b, tiles = (used + STRIP_COLUMNS - 1) / STRIP_COLUMNS, shares = (used + STRIP_K - 1) / STRIP_K;
    float *sums = reinterpret_cast<float *>(rows_of_x + (a.b + STRIP_K - 1) / STRIP_K * STRIP_STEPS * 32);
    const float *x = a.x + ((int64_t)u * a.ld_rows + i0) * a.ld, *m = a.a + (int64_t)u * a.a_ld_rows * a.ld;
    struct place place = {0, 0};
    if (warp < rows)
        place = place_of(lists, u, i0 + warp); /* sent before the first kernel of the chain began */
#pragma unroll 1
    for (int pass = early ? 0 : 1; pass < 2; pass++) { /* as score_rows: the rehearsal, then the work */
        bool real = pass == 1;
        if (real)
            wait_for_previous();
        __syncthreads(); /* nobody is in the rehearsal any more */
        float mine[STRIP_STEPS][4]; /* as the lanes hold a product's left factor: columns g and g + 8 of k = t, then of k = t + 4 */
        int tile = 0, share = 0;
        auto ask = [&](int piece) { /* piece: share by share, in each the tiles that have any k of it */
            for (share = 0; share < shares; share++) {
                int count = a.causal ? min(tiles, (share + 1) * (STRIP_K / STRIP_COLUMNS)) : tiles;
                if (piece < count)
                    break;
                piece -= count;
            }
            tile = piece;
            /* Row k0 + 4n of a is wanted from n's `first` on (a lane's two columns) to where the rows of x end. */
            int k0 = share * STRIP_K + t, j = tile * STRIP_COLUMNS + g, end = real && share < shares ? used - k0 : 0, first[2];
#pragma unroll
            for (int e = 0; e < 2; e++)
                first[e] = a.causal ? j + 8 * e - k0 : j + 8 * e < a.b ? 0 : STRIP_K;
            const float *from = m + (int64_t)k0 * a.ld + j;
#pragma unroll
            for (int n = 0; n < STRIP_K / 4; n++, from += 4 * (int64_t)a.ld)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    mine[n / 2][n % 2 * 2 + e] = 4 * n >= first[e] && 4 * n < end ? from[8 * e] : 0.0f;
        };
        ask(warp);
#pragma unroll 1
        for (int e = threadIdx.x; e < shares * STRIP_STEPS * 32; e += 32 * STRIP_WARPS) { /* step e / 32 of this thread's lane */
            int k = e / 32 * 8 + t, end = real && g < rows ? a.causal ? min(used, a.row0 + i0 + g + 1) : used : 0;
            float v0 = k < end ? x[(int64_t)g * a.ld + k] : 0.0f, v1 = k + 4 < end ? x[(int64_t)g * a.ld + k + 4] : 0.0f;
            uint4 both;
            split_tf32(v0, both.x, both.z);
            split_tf32(v1, both.y, both.w);
            rows_of_x[e] = both;
        }
        __syncthreads();
#pragma unroll 1
        for (int piece = warp; share < shares; ask(piece += STRIP_WARPS)) {
            float acc[3][4] = {}; /* the three products apart, so that few wait for the one before */
            const uint4 *right = rows_of_x + share * STRIP_STEPS * 32 + lane;
#pragma unroll
            for (int s = 0; s < STRIP_STEPS; s++) {
                uint4 v = right[s * 32];
                uint32_t hi[4], lo[4];
#pragma unroll
                for (int e = 0; e < 4; e++)
                    split_tf32(mine[s][e], hi[e], lo[e]);
                mma1688(acc[0], lo, v.x, v.y);
                mma1688(acc[1], hi, v.z, v.w);
                mma1688(acc[2], hi, v.x, v.y);
            }
#pragma unroll
            for (int e = 0; e < 4; e++) /* column g or g + 8 of row 2t or 2t + 1 */
                sums[(share * STRIP_ROWS + 2 * t + (e & 1)) * ld + tile * STRIP_COLUMNS + (e >> 1) * 8 + g] = (acc[0][e] + acc[1][e]) + acc[2][e];
        }
        __syncthreads();
        if (warp >= rows)
            continue;
        int r = i0 + warp, allowed = a.causal ? min(a.b, a.row0 + r + 1) : a.b;
        int64_t at = ((int64_t)u * a.ld_rows + r) * a.ld;
        float *row = sums + warp * ld, top = -INFINITY; /* the first share's place: a lane keeps to its own columns */
#pragma unroll 2
        for (int j = lane; j < allowed; j += 32) {
            float sum = 0;
            int from = a.causal ? j / STRIP_K : 0;
#pragma unroll
            for (int s = 0; s < STRIP_MOST / STRIP_K; s++)
                if (s >= from && s < shares)
                    sum += row[s * STRIP_ROWS * ld + j];
            float v = real ? a.beta * sum : 1.0f + (float)j; /* in the rehearsal something to select from */
            if (real && a.alpha != 0.0f)
                v += a.alpha * a.anchor[at + j];
            row[j] = v;
            top = fmaxf(top, v);
        }
        top = warp_max(top);
        bool scale = a.scale_rows && top > 0;
#pragma unroll 4
        for (int j = lane; j < allowed; j += 32) {
            float v = scale ? row[j] / top : row[j];
            row[j] = v;
            if (real)
                a.out[at + j] = v;
        }
        for (int j = allowed + lane; real && j < a.b; j += 32)
            a.out[at + j] = 0.0f;
        __syncwarp();
        struct row_team team = {warp, 1, 0, nullptr};
        select_row<true>(lists, team, u, r, place, row, real);
    }
}

/* Fewer rows are a product of rows by a matrix; without a product there is nothing to put together. */
bool sw_cuda_walk_takes_strips(const struct sw_walk *a) { return a->rows > STRIP_ROWS && a->b <= STRIP_MOST && a->beta != 0.0f; }

enum sw_status sw_cuda_walk_strips(struct cuda_state *s, const struct sw_walk *a, const struct top_args &lists)
{
    REQUIRE(a->b <= a->ld && a->rows <= a->ld_rows && a->b <= a->a_ld_rows && a->units >= 1 && a->units <= 65535, "walk");
    REQUIRE(a->out != a->x && a->out != a->a && (a->anchor || a->alpha == 0.0f), "walk");
    CUDA_TRY(s, cudaFuncSetAttribute(walk_strips, cudaFuncAttributeMaxDynamicSharedMemorySize, strip_bytes(STRIP_MOST)));
    dim3 grid((unsigned)div_up(a->rows, STRIP_ROWS), (unsigned)a->units);
    CUDA_TRY(s, early_launch(s, true, walk_strips, grid, 32 * STRIP_WARPS, strip_bytes(a->b), *a, lists, s->major >= 9));
    LAUNCHED(s, "walk");
    return SW_OK;
}
