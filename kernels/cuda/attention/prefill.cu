/* Prefill attention with tensor cores (mma.sync, sm_80 and newer), dense and block-sparse, in the
 * manner of FlashAttention-2.
 *
 * One CTA of four warps takes 64 query rows of up to four heads that share a key list (heads of a
 * KV group), and walks the list 64 keys at a time: S = Q·Kᵀ, online softmax, O += P·V. Arithmetic:
 * 4·d operations a kept pair and head. Bytes: a tile of K and one of V (256·d bytes together) are
 * read once for 64 rows of `heads_per_block` heads: 64 · heads operations a byte, of which L2
 * serves all but the first read. Shared memory: Q [rows][d], one K and one V tile; the next K is on
 * its way while P·V runs, V while Q·Kᵀ runs. */
#include <algorithm>

#include "kernels/cuda/attention/attend.h"
#include "kernels/cuda/device/mma.cuh"

struct prefill_plan {
    int rows;            /* query rows of one head in a CTA: min(B, 64); 16, 32 or 64 */
    int head_slots;      /* heads side by side over the warps */
    int heads_per_block; /* head_slots × MT */
    int tiles;           /* query tiles */
};

template <int D>
__device__ inline void load_tile(uint32_t tile, const bf16 *base, int64_t row_stride, int d,
                                 const key_list &list, int slot0)
{
    constexpr int CH = D / 8;
    for (int i = threadIdx.x; i < 64 * CH; i += blockDim.x) {
        int r = i / CH, c = i % CH;
        int key = key_of(list, slot0 + r);
        bool valid = key >= 0 && c * 8 < d;
        copy_async(tile + tile_at<D>(r, c), base + (valid ? key * row_stride + c * 8 : 0), valid);
    }
}

/* Q: row (head slot g, row r) of the CTA is local row g · rows + r. */
template <int D>
__device__ __forceinline__ void load_queries(uint32_t q_tile, const attend_args &a,
                                             const prefill_plan &p, const bf16 *q, int h0, int t0,
                                             int t_end)
{
    constexpr int CH = D / 8;
    for (int i = threadIdx.x; i < p.rows * p.heads_per_block * CH; i += blockDim.x) {
        int r = i / CH, c = i % CH;
        int h = h0 + r / p.rows, t = t0 + r % p.rows;
        bool valid = t < t_end && c * 8 < a.d;
        copy_async(q_tile + tile_at<D>(r, c),
                   q + (valid ? ((int64_t)t * a.H + h) * a.d + c * 8 : 0), valid);
    }
}

/* s += Q · Kᵀ: this warp's MT tiles of 16 rows, from local_row on, by the 64 keys of the tile. */
template <int D, int MT>
__device__ __forceinline__ void add_scores(float (&s)[MT][8][4], uint32_t q_tile, uint32_t k_tile,
                                           const int (&local_row)[MT], int lane)
{
#pragma unroll
    for (int kc = 0; kc < D / 8; kc += 2) {
        uint32_t qa[MT][4];
#pragma unroll
        for (int m = 0; m < MT; m++)
            load_matrix(qa[m], a_address<D>(q_tile, local_row[m], kc, lane));
#pragma unroll
        for (int pair = 0; pair < 4; pair++) {
            uint32_t kb[4];
            load_matrix(kb, k_address<D>(k_tile, pair * 16, kc, lane));
#pragma unroll
            for (int m = 0; m < MT; m++) {
                mma16816(s[m][pair * 2], qa[m], kb[0], kb[1]);
                mma16816(s[m][pair * 2 + 1], qa[m], kb[2], kb[3]);
            }
        }
    }
}

/* Pairs of the 64 slots from s0 on that are not kept: -infinity. position: this lane's first query
 * of each tile of rows; the other is eight later. */
template <int MT>
__device__ __forceinline__ void mask_scores(float (&s)[MT][8][4], const attend_args &a,
                                            const key_list &list, int s0, const int (&position)[MT],
                                            int lane)
{
#pragma unroll
    for (int nt = 0; nt < 8; nt++)
#pragma unroll
        for (int c = 0; c < 2; c++) {
            int slot = s0 + nt * 8 + (lane & 3) * 2 + c;
            int key = key_of(list, slot);
            bool partial = MT == 1 ? key_partial(a, list, slot) : slot_partial(list, slot);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                if (!pair_kept(list, position[m], key, slot, partial))
                    s[m][nt][c] = -INFINITY;
                if (!pair_kept(list, position[m] + 8, key, slot, partial))
                    s[m][nt][2 + c] = -INFINITY;
            }
        }
}

/* The online softmax: scores become weights relative to the new maxima, and what was summed so far
 * shrinks to these. */
template <int D, int MT>
__device__ __forceinline__ void softmax_step(float (&s)[MT][8][4], float (&o)[MT][D / 8][4],
                                             float (&row_max)[MT][2], float (&row_sum)[MT][2],
                                             float scale_log2)
{
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float top = row_max[m][r];
#pragma unroll
            for (int nt = 0; nt < 8; nt++)
                top = fmaxf(top, fmaxf(s[m][nt][2 * r], s[m][nt][2 * r + 1]));
            top = quad_max(top);
            float base = top == -INFINITY ? 0.0f : top * scale_log2;
            float shrink = exp2f(row_max[m][r] * scale_log2 - base);
            row_max[m][r] = top;
            float sum = 0;
#pragma unroll
            for (int nt = 0; nt < 8; nt++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    float e = exp2f(s[m][nt][2 * r + c] * scale_log2 - base);
                    s[m][nt][2 * r + c] = e;
                    sum += e;
                }
            row_sum[m][r] = row_sum[m][r] * shrink + sum;
#pragma unroll
            for (int nt = 0; nt < D / 8; nt++) {
                o[m][nt][2 * r] *= shrink;
                o[m][nt][2 * r + 1] *= shrink;
            }
        }
}

/* o += weights · V of the 64 keys of the tile. */
template <int D, int MT>
__device__ __forceinline__ void add_values(float (&o)[MT][D / 8][4], const float (&s)[MT][8][4],
                                           uint32_t v_tile, int lane)
{
#pragma unroll
    for (int kk = 0; kk < 4; kk++) {
        uint32_t pa[MT][4];
#pragma unroll
        for (int m = 0; m < MT; m++) {
            pa[m][0] = pack_bf16(s[m][2 * kk][0], s[m][2 * kk][1]);
            pa[m][1] = pack_bf16(s[m][2 * kk][2], s[m][2 * kk][3]);
            pa[m][2] = pack_bf16(s[m][2 * kk + 1][0], s[m][2 * kk + 1][1]);
            pa[m][3] = pack_bf16(s[m][2 * kk + 1][2], s[m][2 * kk + 1][3]);
        }
#pragma unroll
        for (int nc = 0; nc < D / 8; nc += 2) {
            uint32_t vb[4];
            load_matrix_transposed(vb, v_address<D>(v_tile, kk * 16, nc, lane));
#pragma unroll
            for (int m = 0; m < MT; m++) {
                mma16816(o[m][nc], pa[m], vb[0], vb[1]);
                mma16816(o[m][nc + 1], pa[m], vb[2], vb[3]);
            }
        }
    }
}

/* This warp's rows, divided by their sums, into the tile that held Q. */
template <int D, int MT>
__device__ __forceinline__ void finish_rows(unsigned char *tile, const float (&o)[MT][D / 8][4],
                                            const float (&row_sum)[MT][2],
                                            const int (&local_row)[MT], int lane)
{
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float total = quad_sum(row_sum[m][r]);
            float inv = total > 0 ? 1.0f / total : 0.0f;
            int row = local_row[m] + (lane >> 2) + 8 * r;
#pragma unroll
            for (int nt = 0; nt < D / 8; nt++)
                *reinterpret_cast<uint32_t *>(tile + tile_at<D>(row, nt) + (lane & 3) * 4) =
                    pack_bf16(o[m][nt][2 * r] * inv, o[m][nt][2 * r + 1] * inv);
        }
}

template <int D, int MT>
__global__ void __launch_bounds__(128) prefill_kernel(attend_args a, prefill_plan p)
{
    constexpr int CH = D / 8;
    extern __shared__ __align__(128) unsigned char shared[];
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    int head_groups = a.G / p.heads_per_block;
    int tile = p.tiles - 1 - (int)(blockIdx.x / head_groups); /* long rows first */
    int kv_head = blockIdx.y, seq = blockIdx.z;
    int h0 = kv_head * a.G + (int)(blockIdx.x % head_groups) * p.heads_per_block;

    int offset = a.n_k - a.n_q; /* position of query 0 */
    int t0 = tile * p.rows;     /* first query of the tile */
    int t_end = min(t0 + p.rows, a.n_q);
    int qmin = offset + t0, qmax = offset + t_end - 1;
    key_list list = list_of(a, seq, h0, qmin >> a.block_log2, qmax);
    int slots = list_slots(list, qmax);
    int steps = (slots + 63) >> 6;

    int warps_per_head = p.rows >> 4;
    int rows_total = p.rows * p.heads_per_block;
    uint32_t q_tile = shared_address(shared), k_tile = q_tile + (uint32_t)rows_total * D * 2,
             v_tile = k_tile + 64 * D * 2;

    const bf16 *q = a.q + ((int64_t)seq * a.n_q * a.H) * a.d;
    load_queries<D>(q_tile, a, p, q, h0, t0, t_end);
    const bf16 *k_base = a.k + ((int64_t)seq * a.kv_stride * a.Hkv + kv_head) * a.d;
    const bf16 *v_base = a.v + ((int64_t)seq * a.kv_stride * a.Hkv + kv_head) * a.d;
    int64_t kv_row = (int64_t)a.Hkv * a.d;
    load_tile<D>(k_tile, k_base, kv_row, a.d, list, 0);
    copy_commit();

    /* This warp's rows: MT tiles of 16, one a head. */
    int slot_of_head = warp / warps_per_head, row_in_head = (warp % warps_per_head) * 16;
    int local_row[MT], position[MT];
#pragma unroll
    for (int m = 0; m < MT; m++) {
        local_row[m] = (slot_of_head * MT + m) * p.rows + row_in_head;
        position[m] = qmin + row_in_head + (lane >> 2);
    }
    float o[MT][D / 8][4] = {};
    float row_max[MT][2], row_sum[MT][2];
#pragma unroll
    for (int m = 0; m < MT; m++)
        for (int r = 0; r < 2; r++) {
            row_max[m][r] = -INFINITY;
            row_sum[m][r] = 0;
        }

    for (int step = 0; step < steps; step++) {
        int s0 = step << 6;
        load_tile<D>(v_tile, v_base, kv_row, a.d, list, s0);
        copy_commit();
        copy_wait<1>(); /* K is here (and Q) */
        __syncthreads();

        float s[MT][8][4] = {};
        add_scores<D>(s, q_tile, k_tile, local_row, lane);
        __syncthreads(); /* K is free */
        if (step + 1 < steps)
            load_tile<D>(k_tile, k_base, kv_row, a.d, list, s0 + 64);
        copy_commit();

        if (tile_needs_mask<64>(list, s0, qmin))
            mask_scores(s, a, list, s0, position, lane);
        softmax_step<D>(s, o, row_max, row_sum, a.scale_log2);

        copy_wait<1>(); /* V is here */
        __syncthreads();
        add_values<D>(o, s, v_tile, lane);
        __syncthreads(); /* V is free */
    }
    copy_wait<0>();
    __syncthreads(); /* Q's tile becomes the output's; with no steps Q may still be on its way */

    finish_rows<D>(shared, o, row_sum, local_row, lane);
    __syncthreads();
    bf16 *out = a.out + ((int64_t)seq * a.n_q * a.H) * a.d;
    for (int i = threadIdx.x; i < rows_total * CH; i += blockDim.x) {
        int r = i / CH, c = i % CH;
        int h = h0 + r / p.rows, t = t0 + r % p.rows;
        if (t < t_end && c * 8 < a.d)
            *reinterpret_cast<uint4 *>(out + ((int64_t)t * a.H + h) * a.d + c * 8) =
                *reinterpret_cast<const uint4 *>(shared + tile_at<D>(r, c));
    }
}

template <int D, int MT>
static enum sw_status launch(struct cuda_state *s, const attend_args &a, const prefill_plan &p)
{
    int bytes = (p.rows * p.heads_per_block + 128) * D * 2;
    if (bytes > s->smem_optin)
        return SW_FAIL(
            SW_EUNSUPPORTED,
            "attention: head_dim %d needs %d bytes of shared memory a block, this GPU has %d", a.d,
            bytes, s->smem_optin);
    CUDA_TRY(s, cudaFuncSetAttribute(prefill_kernel<D, MT>,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    int warps = (p.rows / 16) * p.head_slots;
    dim3 grid((unsigned)(p.tiles * (a.G / p.heads_per_block)), (unsigned)a.Hkv, (unsigned)a.batch);
    prefill_kernel<D, MT><<<grid, warps * 32, bytes, queue_on(s)>>>(a, p);
    LAUNCHED(s, "attention prefill");
    return SW_OK;
}

enum sw_status sw_cuda_prefill(struct cuda_state *s, const attend_args &a)
{
    int block = 1 << a.block_log2;
    struct prefill_plan p;
    p.rows = std::min(block, 64);
    bool shared_list = !a.indices || a.units_per_seq != a.H || a.G == 1;
    /* Two heads a warp halve the reads of K and V from shared memory; heads side by side fill the
     * warps that small blocks leave. Lists of single keys: one, which has the registers for it. */
    int mt = shared_list && a.G % 2 == 0 && a.d <= 128 && !a.keys ? 2 : 1;
    p.head_slots = 1;
    while (shared_list && p.rows * p.head_slots < 64 && a.G % (p.head_slots * 2 * mt) == 0)
        p.head_slots *= 2;
    p.heads_per_block = p.head_slots * mt;
    p.tiles = div_up(a.n_q, p.rows);
#define CALL(D) (mt == 2 ? launch < (D), (D) == 256 ? 1 : 2 > (s, a, p) : launch<(D), 1>(s, a, p))
    return FOR_HEAD_DIM(a.d, CALL);
#undef CALL
}
