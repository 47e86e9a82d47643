/* Decode attention: one query a sequence, split over the kept keys ("flash decoding"), all heads of a KV group together.
 *
 * A block takes up to 16 heads of one KV group and one share of the list's slots; its four warps take 16 keys by turns, each with its own
 * ring of shared memory, so that they never wait for each other. K and V are read once: 4 · d bytes a kept key and KV head, which is the
 * limit (tensor cores do 16 rows whether or not the group has 16 heads; that is free). The shares are fixed by the list's length and
 * the grid, and the block that finishes last adds them in their order: the same bits every time, and no second launch (3 µs). Per-head lists
 * read a KV head's keys once a head. */
#include <algorithm>

#include "kernels/cuda/attend.h"
#include "kernels/cuda/early.cuh"
#include "kernels/cuda/mma.cuh"

static const int WARPS = 4;
static const int LEAST = 2 * WARPS * 16; /* keys of a share, at least: two turns of each warp. Smaller shares cost more to add than they save */

struct decode_plan {
    int splits, heads, head_tiles; /* heads a block, blocks of heads a KV head */
    float *o, *ml;                 /* [splits, batch · H, D] and [splits, batch · H, 2]; splits == 1: not used */
    unsigned *done;                /* [batch, Hkv · head_tiles]: splits that are done; zero between calls */
};

template <int D> struct decode_ring { static constexpr int stages = D <= 128 ? 3 : 2; };

/* A warp loads 16 keys. */
template <int D>
__device__ inline void load_keys(uint32_t k_tile, uint32_t v_tile, const attend_args &a, const bf16 *k_base, const bf16 *v_base,
                                 const key_list &list, int slot0, int slot_end, int lane)
{
    constexpr int CH = D / 8;
    int64_t kv_row = (int64_t)a.Hkv * a.d;
#pragma unroll 4
    for (int i = lane; i < 16 * CH; i += 32) {
        int r = i / CH, c = i % CH;
        int key = slot0 + r < slot_end ? key_of(list, slot0 + r) : -1;
        bool valid = key >= 0 && c * 8 < a.d;
        int64_t at = valid ? key * kv_row + c * 8 : 0;
        copy_async(k_tile + tile_at<D>(r, c), k_base + at, valid);
        copy_async(v_tile + tile_at<D>(r, c), v_base + at, valid);
    }
}

/* Adds the shares of `heads` heads from head0 on, in their order. Two round trips to L2: the first AHEAD shares of a thread's four columns are on their way
 * while the weights are found. `weights`: shared memory, [heads][splits + 1]: each share's weight, then 1 / sum. */
template <int D>
__device__ void add_shares(const attend_args &a, const decode_plan &p, int splits, int64_t head0, int heads, float *weights)
{
    constexpr int AHEAD = 16, COLUMNS = D / 4;
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    int64_t all_heads = (int64_t)a.batch * a.H;
    float4 ahead[AHEAD];
    auto fetch = [&](int item, int s0) {
#pragma unroll
        for (int u = 0; u < AHEAD; u++)
            if (s0 + u < splits)
                ahead[u] = __ldcg(reinterpret_cast<const float4 *>(p.o + ((s0 + u) * all_heads + head0 + item / COLUMNS) * D + item % COLUMNS * 4));
    };
    if ((int)threadIdx.x < heads * COLUMNS)
        fetch(threadIdx.x, 0);
    for (int row = warp; row < heads; row += WARPS) {
        float top = -INFINITY, sum = 0;
        for (int s = lane; s < splits; s += 32)
            top = fmaxf(top, __ldcg(p.ml + (s * all_heads + head0 + row) * 2));
        for (int w = 16; w > 0; w >>= 1)
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, w));
        float base = top == -INFINITY ? 0.0f : top * a.scale_log2;
        for (int s = lane; s < splits; s += 32) {
            float2 ml = __ldcg(reinterpret_cast<const float2 *>(p.ml + (s * all_heads + head0 + row) * 2));
            float weight = exp2f(ml.x * a.scale_log2 - base);
            weights[row * (splits + 1) + s] = weight;
            sum += weight * ml.y;
        }
        for (int w = 16; w > 0; w >>= 1)
            sum += __shfl_xor_sync(0xffffffffu, sum, w);
        if (lane == 0)
            weights[row * (splits + 1) + splits] = sum > 0 ? 1.0f / sum : 0.0f;
    }
    __syncthreads();
    for (int item = threadIdx.x; item < heads * COLUMNS; item += blockDim.x) {
        int row = item / COLUMNS, c = item % COLUMNS * 4;
        const float *of_row = weights + row * (splits + 1);
        float4 value = make_float4(0, 0, 0, 0);
        for (int s0 = 0; s0 < splits; s0 += AHEAD) {
            if (s0 > 0 || item != (int)threadIdx.x)
                fetch(item, s0);
#pragma unroll
            for (int u = 0; u < AHEAD; u++)
                if (s0 + u < splits) {
                    float weight = of_row[s0 + u];
                    value.x += weight * ahead[u].x;
                    value.y += weight * ahead[u].y;
                    value.z += weight * ahead[u].z;
                    value.w += weight * ahead[u].w;
                }
        }
        float inv = of_row[splits];
        if (c < a.d) {
            uint2 packed = make_uint2(pack_bf16(value.x * inv, value.y * inv), pack_bf16(value.z * inv, value.w * inv));
            *reinterpret_cast<uint2 *>(a.out + (head0 + row) * a.d + c) = packed;
        }
    }
}

template <int D>
__global__ void __launch_bounds__(WARPS * 32) decode_kernel(attend_args a, decode_plan p)
{
    constexpr int CH = D / 8, STAGES = decode_ring<D>::stages, STAGE_BYTES = 2 * 16 * D * 2;
    extern __shared__ __align__(128) unsigned char shared[];
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    int split = blockIdx.x, seq = blockIdx.z;
    int kv_head = blockIdx.y / p.head_tiles;
    int h0 = kv_head * a.G + (blockIdx.y % p.head_tiles) * p.heads;
    int heads = min(p.heads, (kv_head + 1) * a.G - h0);
    /* Q as the A operand: row = head. It was there before the selection began. */
    uint32_t qa[CH / 2][4];
    const bf16 *q = a.q + ((int64_t)seq * a.H + h0) * a.d;
#pragma unroll
    for (int k = 0; k < CH / 2; k++)
#pragma unroll
        for (int r = 0; r < 4; r++) {
            int row = (lane >> 2) + (r & 1) * 8, col = k * 16 + (lane & 3) * 2 + (r >> 1) * 8;
            qa[k][r] = row < heads && col < a.d ? *reinterpret_cast<const uint32_t *>(q + row * a.d + col) : 0u;
        }
    wait_for_previous(); /* for the selection's list */
    int t = a.n_k - 1;
    key_list list = list_of(a, seq, h0, t >> a.block_log2, t);
    int slots = ((list.count - 1) << a.block_log2) + (t & ((1 << a.block_log2) - 1)) + 1; /* the diagonal block is always there, and last */
    int splits = min(p.splits, (slots + LEAST - 1) / LEAST), tiles = (slots + 15) / 16;
    if (split >= splits)
        return;
    int begin = tiles * split / splits * 16, end = min(tiles * (split + 1) / splits * 16, slots);
    const bf16 *k_base = a.k + ((int64_t)seq * a.kv_stride * a.Hkv + kv_head) * a.d;
    const bf16 *v_base = a.v + ((int64_t)seq * a.kv_stride * a.Hkv + kv_head) * a.d;
    uint32_t ring = shared_address(shared) + (uint32_t)(warp * STAGES * STAGE_BYTES);

    float o[CH][4] = {};
    float row_max[2] = {-INFINITY, -INFINITY}, row_sum[2] = {0, 0};
    int first = begin + warp * 16, stride = WARPS * 16;
#pragma unroll
    for (int st = 0; st < STAGES - 1; st++) {
        int slot0 = first + st * stride;
        if (slot0 < end)
            load_keys<D>(ring + st * STAGE_BYTES, ring + st * STAGE_BYTES + 16 * D * 2, a, k_base, v_base, list, slot0, end, lane);
        copy_commit();
    }
    int stage = 0;
    for (int slot0 = first; slot0 < end; slot0 += stride) {
        int ahead = slot0 + (STAGES - 1) * stride, free_stage = (stage + STAGES - 1) % STAGES;
        if (ahead < end)
            load_keys<D>(ring + free_stage * STAGE_BYTES, ring + free_stage * STAGE_BYTES + 16 * D * 2, a, k_base, v_base, list, ahead, end,
                         lane);
        copy_commit();
        copy_wait<STAGES - 1>();
        __syncwarp();
        uint32_t k_tile = ring + stage * STAGE_BYTES, v_tile = k_tile + 16 * D * 2;
        float s[2][4] = {};
#pragma unroll
        for (int k = 0; k < CH / 2; k++) {
            uint32_t kb[4];
            load_matrix(kb, k_address<D>(k_tile, 0, k * 2, lane));
            mma16816(s[0], qa[k], kb[0], kb[1]);
            mma16816(s[1], qa[k], kb[2], kb[3]);
        }
        if (slot0 + 16 > end || tile_needs_mask<16>(list, slot0, t)) {
#pragma unroll
            for (int nt = 0; nt < 2; nt++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    int slot = slot0 + nt * 8 + (lane & 3) * 2 + c;
                    if (slot >= end || !pair_kept(list, t, key_of(list, slot), slot, slot_partial(list, slot)))
                        s[nt][c] = s[nt][2 + c] = -INFINITY;
                }
        }
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float top = fmaxf(fmaxf(s[0][2 * r], s[0][2 * r + 1]), fmaxf(s[1][2 * r], s[1][2 * r + 1]));
            top = fmaxf(row_max[r], quad_max(top));
            float base = top == -INFINITY ? 0.0f : top * a.scale_log2;
            float shrink = exp2f(row_max[r] * a.scale_log2 - base);
            row_max[r] = top;
            float sum = 0;
#pragma unroll
            for (int nt = 0; nt < 2; nt++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    float e = exp2f(s[nt][2 * r + c] * a.scale_log2 - base);
                    s[nt][2 * r + c] = e;
                    sum += e;
                }
            row_sum[r] = row_sum[r] * shrink + sum;
#pragma unroll
            for (int nt = 0; nt < CH; nt++) {
                o[nt][2 * r] *= shrink;
                o[nt][2 * r + 1] *= shrink;
            }
        }
        uint32_t pa[4] = {pack_bf16(s[0][0], s[0][1]), pack_bf16(s[0][2], s[0][3]), pack_bf16(s[1][0], s[1][1]), pack_bf16(s[1][2], s[1][3])};
#pragma unroll
        for (int nc = 0; nc < CH; nc += 2) {
            uint32_t vb[4];
            load_matrix_transposed(vb, v_address<D>(v_tile, 0, nc, lane));
            mma16816(o[nc], pa, vb[0], vb[1]);
            mma16816(o[nc + 1], pa, vb[2], vb[3]);
        }
        __syncwarp(); /* the stage is free */
        stage = (stage + 1) % STAGES;
    }
    copy_wait<0>();
    __syncthreads();

    /* The four warps' shares, added in their order. */
    float *sh_ml = reinterpret_cast<float *>(shared);           /* [WARPS][16][2] */
    float *sh_o = sh_ml + WARPS * 16 * 2;                       /* [WARPS][16][D] */
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = (lane >> 2) + 8 * r;
        float total = quad_sum(row_sum[r]);
        if ((lane & 3) == 0) {
            sh_ml[(warp * 16 + row) * 2] = row_max[r];
            sh_ml[(warp * 16 + row) * 2 + 1] = total;
        }
#pragma unroll
        for (int nt = 0; nt < CH; nt++)
            *reinterpret_cast<float2 *>(sh_o + (warp * 16 + row) * D + nt * 8 + (lane & 3) * 2) = make_float2(o[nt][2 * r], o[nt][2 * r + 1]);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < heads * D; i += blockDim.x) {
        int row = i / D, c = i % D;
        float top = -INFINITY;
        for (int w = 0; w < WARPS; w++)
            top = fmaxf(top, sh_ml[(w * 16 + row) * 2]);
        float base = top == -INFINITY ? 0.0f : top * a.scale_log2, sum = 0, value = 0;
        for (int w = 0; w < WARPS; w++) {
            float weight = exp2f(sh_ml[(w * 16 + row) * 2] * a.scale_log2 - base);
            sum += weight * sh_ml[(w * 16 + row) * 2 + 1];
            value += weight * sh_o[(w * 16 + row) * D + c];
        }
        int64_t head = (int64_t)seq * a.H + h0 + row;
        if (splits == 1) {
            if (c < a.d)
                a.out[head * a.d + c] = __float2bfloat16_rn(sum > 0 ? value / sum : 0.0f);
        } else {
            int64_t at = (int64_t)split * a.batch * a.H + head;
            p.o[at * D + c] = value;
            if (c == 0)
                *reinterpret_cast<float2 *>(p.ml + at * 2) = make_float2(top, sum);
        }
    }
    if (splits == 1)
        return;

    /* The last block of this group of heads adds all shares: splits · (D + 2) · 4 bytes a head, from L2. */
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned *done = p.done + (int64_t)seq * gridDim.y + blockIdx.y;
        last = atomicAdd(done, 1u) == (unsigned)splits - 1;
        if (last)
            *done = 0;
    }
    __syncthreads();
    if (!last)
        return;
    __threadfence();
    add_shares<D>(a, p, splits, (int64_t)seq * a.H + h0, heads, reinterpret_cast<float *>(shared));
}

/* Shares a group: the fewest that come within 5 % of the shortest schedule, whole waves of blocks over the length of a share. At least 64 keys
 * a share; the list's true length is known on the device only. */
static int choose_splits(int groups, int at_once, int most)
{
    int best = 1;
    double best_cost = 1e30;
    for (int splits = 1; splits <= std::min(most, 128); splits++) {
        double waves = ((int64_t)groups * splits + at_once - 1) / at_once, cost = waves / splits;
        if (cost < 0.95 * best_cost) {
            best_cost = cost;
            best = splits;
        }
    }
    return best;
}

template <int D>
static enum sw_status launch(struct cuda_state *s, const attend_args &a, decode_plan p)
{
    int ring = WARPS * decode_ring<D>::stages * 2 * 16 * D * 2, merge = WARPS * 16 * (D + 2) * 4, bytes = std::max(ring, merge);
    if (bytes > s->smem_optin)
        return SW_FAIL(SW_EUNSUPPORTED, "attention: head_dim %d needs %d bytes of shared memory a block, this GPU has %d", a.d, bytes,
                       s->smem_optin);
    int groups = a.batch * a.Hkv * p.head_tiles, at_once = s->multiprocessors * std::max(1, std::min(s->smem_per_mp / (bytes + 1024), 2));
    p.splits = choose_splits(groups, at_once, div_up(a.n_k, 64));
    if (p.splits > 1) {
        size_t partial = (size_t)p.splits * (size_t)a.batch * (size_t)a.H;
        void *room;
        SW_TRY(sw_cuda_scratch(s, SCRATCH_SPLIT, partial * (D + 2) * sizeof(float), &room));
        p.o = static_cast<float *>(room);
        p.ml = p.o + partial * D;
        size_t counters = (size_t)a.batch * (size_t)(a.Hkv * p.head_tiles) * sizeof(unsigned), had = s->scratch[SCRATCH_DONE].bytes;
        SW_TRY(sw_cuda_scratch(s, SCRATCH_DONE, counters, &room));
        if (s->scratch[SCRATCH_DONE].bytes != had) /* new: zero it once; every call leaves zeros */
            CUDA_TRY(s, cudaMemsetAsync(room, 0, s->scratch[SCRATCH_DONE].bytes, s->stream));
        p.done = static_cast<unsigned *>(room);
    }
    CUDA_TRY(s, cudaFuncSetAttribute(decode_kernel<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    dim3 grid((unsigned)p.splits, (unsigned)(a.Hkv * p.head_tiles), (unsigned)a.batch);
    /* Early only behind a selection, which does not write q: a dense call may follow the kernel that does. */
    CUDA_TRY(s, early_launch(s, a.indices != NULL, decode_kernel<D>, grid, WARPS * 32, bytes, a, p));
    LAUNCHED(s, "attention decode");
    return SW_OK;
}

enum sw_status sw_cuda_decode(struct cuda_state *s, const attend_args &a)
{
    struct decode_plan p = {};
    bool per_head = a.indices && a.units_per_seq == a.H && a.G > 1;
    p.heads = per_head ? 1 : std::min(a.G, 16);
    p.head_tiles = div_up(a.G, p.heads);
#define CALL(D) launch<(D)>(s, a, p)
    return FOR_HEAD_DIM(a.d, CALL);
#undef CALL
}
