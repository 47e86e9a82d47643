/* True block mass: how much probability the queries of block i give to the keys of block j, without
 * n² memory.
 *
 * Two passes with tensor cores over S = Q·Kᵀ: the first finds each query's log Σ exp, the second
 * sums exp(s - lse) over the pairs of each (i, j). Twice 2·d·n²/2 operations a head: 7e13 · 2 at n
 * = 128K, 32 heads of 128, about half a second a layer on an H100. Bytes are small beside it: n·H·4
 * for the sums of exponentials, b²·H·4 for the result. One CTA of 1, 2 or 4 warps takes min(B,
 * 64) query rows of one head; a query block of more than 64 rows is taken by one CTA in turns, so
 * that every sum has one order. */
#include <algorithm>

#include "kernels/cuda/attention/attend.h"
#include "kernels/cuda/device/mma.cuh"

struct mass_args {
    attend_args a; /* dense */
    float *lse;    /* [H, n_q]: log2 of the sum of exponentials, of scaled scores */
    struct sw_unit_matrix out;
    int block, rows_per_turn, first_block, b;
};

template <int D>
__device__ inline void load_rows(uint32_t tile, const bf16 *base, int64_t row_stride, int d,
                                 int first, int end, int rows)
{
    constexpr int CH = D / 8;
    for (int i = threadIdx.x; i < rows * CH; i += blockDim.x) {
        int r = i / CH, c = i % CH;
        bool valid = first + r < end && c * 8 < d;
        copy_async(tile + tile_at<D>(r, c), base + (valid ? (first + r) * row_stride + c * 8 : 0),
                   valid);
    }
}

/* s[8][4]: this warp's 16 query rows against the 64 keys of the tile. */
template <int D>
__device__ inline void warp_scores(float (&s)[8][4], uint32_t q_tile, uint32_t k_tile, int row,
                                   int lane)
{
#pragma unroll
    for (int nt = 0; nt < 8; nt++)
#pragma unroll
        for (int c = 0; c < 4; c++)
            s[nt][c] = 0;
#pragma unroll
    for (int kc = 0; kc < D / 8; kc += 2) {
        uint32_t qa[4];
        load_matrix(qa, a_address<D>(q_tile, row, kc, lane));
#pragma unroll
        for (int pair = 0; pair < 4; pair++) {
            uint32_t kb[4];
            load_matrix(kb, k_address<D>(k_tile, pair * 16, kc, lane));
            mma16816(s[pair * 2], qa, kb[0], kb[1]);
            mma16816(s[pair * 2 + 1], qa, kb[2], kb[3]);
        }
    }
}

/* Scaled scores of this lane's rows, queries t and t + 8, by the keys from key0 on; -infinity where
 * the key is later than the query. */
__device__ __forceinline__ void scale_and_mask(float (&s)[8][4], int t, int key0, bool mask,
                                               float scale_log2, int lane)
{
#pragma unroll
    for (int nt = 0; nt < 8; nt++)
#pragma unroll
        for (int c = 0; c < 4; c++) {
            int key = key0 + nt * 8 + (lane & 3) * 2 + (c & 1);
            s[nt][c] = mask && key > t + 8 * (c >> 1) ? -INFINITY : s[nt][c] * scale_log2;
        }
}

/* The first pass: the tile joins each row's maximum and sum of exponentials. */
__device__ __forceinline__ void add_to_sums(const float (&s)[8][4], float (&top)[2],
                                            float (&sum)[2])
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float best = top[r];
#pragma unroll
        for (int nt = 0; nt < 8; nt++)
            best = fmaxf(best, fmaxf(s[nt][2 * r], s[nt][2 * r + 1]));
        best = quad_max(best);
        float base = best == -INFINITY ? 0.0f : best, add = 0;
#pragma unroll
        for (int nt = 0; nt < 8; nt++)
            add += exp2f(s[nt][2 * r] - base) + exp2f(s[nt][2 * r + 1] - base);
        sum[r] = sum[r] * exp2f(top[r] - base) + add;
        top[r] = best;
    }
}

/* The second pass: this lane's probabilities, added per 16 keys. */
__device__ __forceinline__ void add_to_parts(const float (&s)[8][4], const float (&lse)[2],
                                             float (&part)[4])
{
#pragma unroll
    for (int g = 0; g < 4; g++) {
        float add = 0;
#pragma unroll
        for (int c = 0; c < 4; c++)
            add += exp2f(s[2 * g][c] - lse[c >> 1]) + exp2f(s[2 * g + 1][c] - lse[c >> 1]);
        part[g] += add;
    }
}

/* Where a key block ends with this tile, or several inside it: the warps' parts meet in shared
 * memory and join out. The queries are begin … end - 1, of which this turn has p0 … p_end - 1. */
__device__ __forceinline__ void finish_blocks(const mass_args &m, float (&part)[4],
                                              float (*parts)[4], int step, int begin, int end,
                                              int p0, int p_end, float *out)
{
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
#pragma unroll
    for (int g = 0; g < 4; g++) {
        float v = part[g];
        for (int o = 16; o > 0; o >>= 1)
            v += __shfl_xor_sync(0xffffffffu, v, o);
        if (lane == 0)
            parts[warp][g] = v;
        part[g] = 0;
    }
    __syncthreads();
    /* 16-key groups a block, blocks in this tile */
    int groups = m.block >= 64 ? 4 : m.block >> 4, blocks = 4 / groups;
    if ((int)threadIdx.x < blocks) {
        float v = 0;
        for (int w = 0; w < (int)blockDim.x / 32; w++)
            for (int g = 0; g < groups; g++)
                v += parts[w][threadIdx.x * groups + g];
        int j = m.block >= 64 ? step / max(1, m.block >> 6) : step * blocks + (int)threadIdx.x;
        if (j < m.b && j * m.block < p_end) {
            float before = p0 == begin ? 0.0f : out[j];
            out[j] = p_end == end ? (before + v) / (float)(end - begin) : before + v;
        }
    }
}

/* Shared memory: Q [rows][D], two K tiles [64][D] by turns. LSE pass: grid (query tiles, H). Mass
 * pass: grid (query blocks, H). */
template <int D, bool MASS>
__global__ void __launch_bounds__(128) mass_kernel(mass_args m)
{
    const attend_args &a = m.a;
    extern __shared__ __align__(128) unsigned char shared[];
    __shared__ float parts[4][4];
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, h = blockIdx.y, R = m.rows_per_turn;
    uint32_t q_tile = shared_address(shared), k_tiles = q_tile + (uint32_t)R * D * 2;
    int offset = a.n_k - a.n_q;
    int64_t q_row = (int64_t)a.H * a.d, kv_row = (int64_t)a.Hkv * a.d;
    const bf16 *q = a.q + (int64_t)h * a.d, *k = a.k + (int64_t)(h / a.G) * a.d;
    int turn = (int)gridDim.x - 1 - (int)blockIdx.x; /* long rows first */
    int span = MASS ? m.block : R;
    /* Positions of this CTA's queries; the mass pass starts at a block boundary, where the first
     * queries may be missing (decode). */
    int begin = MASS ? (m.first_block + turn) * m.block : offset + turn * R,
        end = min(begin + span, a.n_k);
    begin = max(begin, offset);
    float *out = MASS ? unit_row(m.out, h, turn) : nullptr;

    for (int p0 = begin; p0 < end; p0 += R) {
        int p_end = min(p0 + R, end), steps = ((p_end - 1) >> 6) + 1;
        __syncthreads(); /* the last turn has read Q */
        load_rows<D>(q_tile, q, q_row, a.d, p0 - offset, p_end - offset, R);
        load_rows<D>(k_tiles, k, kv_row, a.d, 0, a.n_k, 64);
        copy_commit();
        int row = warp * 16 + (lane >> 2);
        float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, lse[2] = {INFINITY, INFINITY};
        if (MASS)
            for (int r = 0; r < 2; r++)
                if (p0 + row + 8 * r < p_end)
                    lse[r] = m.lse[(int64_t)h * a.n_q + p0 + row + 8 * r - offset];
        float part[4] = {0, 0, 0, 0}; /* mass of the 16 keys of each pair of column tiles */
        for (int step = 0; step < steps; step++) {
            uint32_t k_tile = k_tiles + (uint32_t)((step & 1) * 64 * D * 2);
            if (step + 1 < steps)
                load_rows<D>(k_tiles + (uint32_t)(((step + 1) & 1) * 64 * D * 2), k, kv_row, a.d,
                             (step + 1) << 6, a.n_k, 64);
            copy_commit();
            copy_wait<1>();
            __syncthreads();
            float s[8][4];
            warp_scores<D>(s, q_tile, k_tile, warp * 16, lane);
            bool mask = (step << 6) + 63 > p0;
            scale_and_mask(s, p0 + row, step << 6, mask, a.scale_log2, lane);
            if (!MASS) {
                add_to_sums(s, top, sum);
            } else {
                add_to_parts(s, lse, part);
                int tiles_per_block = max(1, m.block >> 6);
                if ((step + 1) % tiles_per_block == 0 || step == steps - 1)
                    finish_blocks(m, part, parts, step, begin, end, p0, p_end, out);
            }
            __syncthreads(); /* this K tile is free, and so is parts */
        }
        if (!MASS) {
#pragma unroll
            for (int r = 0; r < 2; r++) {
                float total = quad_sum(sum[r]);
                int t = p0 + row + 8 * r;
                if ((lane & 3) == 0 && t < p_end)
                    m.lse[(int64_t)h * a.n_q + t - offset] = top[r] + log2f(total);
            }
        }
        copy_wait<0>();
    }
    if (MASS) /* the future */
        for (int j = (end - 1) / m.block + 1 + (int)threadIdx.x; j < m.b; j += blockDim.x)
            out[j] = 0.0f;
}

template <int D>
static enum sw_status launch(struct cuda_state *s, mass_args m)
{
    int R = m.rows_per_turn, bytes = (R + 128) * D * 2;
    if (bytes > s->smem_optin)
        return SW_FAIL(
            SW_EUNSUPPORTED,
            "block mass: head_dim %d needs %d bytes of shared memory a block, this GPU has %d",
            m.a.d, bytes, s->smem_optin);
    CUDA_TRY(s, cudaFuncSetAttribute(mass_kernel<D, false>,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    CUDA_TRY(s, cudaFuncSetAttribute(mass_kernel<D, true>,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    mass_kernel<D, false>
        <<<dim3((unsigned)div_up(m.a.n_q, R), (unsigned)m.a.H), R * 2, bytes, queue_on(s)>>>(m);
    LAUNCHED(s, "block_mass, sums");
    mass_kernel<D, true>
        <<<dim3((unsigned)(m.b - m.first_block), (unsigned)m.a.H), R * 2, bytes, queue_on(s)>>>(m);
    LAUNCHED(s, "block_mass");
    return SW_OK;
}

enum sw_status sw_cuda_block_mass(struct sw_backend *be, const struct sw_block_mass *b)
{
    struct cuda_state *s = state_of(be);
    struct sw_attend in = b->in;
    in.sel = NULL;
    REQUIRE(in.batch == 1, "block_mass");
    if (b->block < 16 || (b->block & (b->block - 1)) != 0)
        return SW_FAIL(SW_EUNSUPPORTED,
                       "block mass on cuda: block %d; expected a power of two of at least 16",
                       b->block);
    mass_args m = {};
    SW_TRY(sw_cuda_attend_args(s, &in, &m.a));
    m.b = sw_blocks(in.n_k, b->block);
    m.first_block = (in.n_k - in.n_q) / b->block;
    m.block = b->block;
    m.rows_per_turn = std::min(b->block, 64);
    m.out = b->out;
    REQUIRE(sw_unit_holds(&m.out, m.b - m.first_block, m.b) && m.out.units == in.n_heads,
            "block_mass");
    void *lse;
    SW_TRY(
        sw_cuda_scratch(s, SCRATCH_LSE, (size_t)in.n_heads * (size_t)in.n_q * sizeof(float), &lse));
    m.lse = static_cast<float *>(lse);
#define CALL(D) launch<(D)>(s, m)
    return FOR_HEAD_DIM(in.head_dim, CALL);
#undef CALL
}
