/* Decode attention: one query a sequence, split over the kept keys ("flash decoding"), all heads of
 * a KV group together.
 *
 * A CTA takes up to 16 heads of one KV group and one share of the list's slots; its four warps
 * take 16 keys by turns, each with its own ring of shared memory, so that they never wait for each
 * other. K and V are read once: 4 · d bytes a kept key and KV head, which is the limit (tensor
 * cores do 16 rows whether or not the group has 16 heads; that is free). The shares are fixed by
 * the list's length and the grid, and are added in a fixed order: the same bits every time, and no
 * second launch (3 µs). Where all CTAs run at once, each adds some of the heads when its own
 * share is done, and takes the others' as they come: a share is its own flag, NOT_YET until it is
 * written and again once it is taken. Elsewhere the CTA that finishes last adds all, at the cost
 * of a fence, a counter and one more round trip.
 * Per-head lists read a KV head's keys once a head.
 * Right behind a walk_step (walk_step.cu) the CTAs are in their places some 4 µs before the list is
 * written, and read its entries in a loop until they are there: what tells a launch that the one
 * before it is over would reach them 5 µs later and more, while others read. */
#include <algorithm>

#include "kernels/cuda/attention/attend.h"
#include "kernels/cuda/device/dependent_launch.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/reduce.cuh"

static const int WARPS = 4;
static const int MOST_SPLITS = 128;
/* keys of a share, at least: two turns of each warp (half and twice as many measured the same) */
static const int LEAST = 2 * WARPS * 16;

struct decode_plan {
    int splits, heads, head_tiles; /* shares at most; heads a CTA, CTAs a KV head and share */
    /* [batch, Hkv · head_tiles, splits, heads, D] and [… , 2], NOT_YET between calls; splits ==
     * 1: not used */
    float *o, *ml;
    /* [batch, Hkv · head_tiles]: splits that are done; zero between calls. NULL: all CTAs run at
     * once */
    unsigned *done;
    /* behind a walk_step: its flags, [batch]; NULL: the list is there when the launch before is
     * over */
    const unsigned *written;
    /* behind a walk_step: entries of a sequence's list; bytes of shared memory before those of
     * this share */
    int entries, entries_at;
};

/* Shares of `slots` keys: at most `most`, and each of LEAST keys or more. */
__host__ __device__ inline int shares_of(int slots, int most)
{
    int enough = (slots + LEAST - 1) / LEAST;
    return most < enough ? most : enough;
}

template <int D>
struct decode_ring {
    static constexpr int stages = D <= 128 ? 3 : 2;
};

/* A warp loads 16 keys, key0 … of which `count` are there. */
template <int D>
__device__ inline void load_keys(uint32_t k_tile, uint32_t v_tile, const attend_args &a,
                                 const bf16 *k_base, const bf16 *v_base, int key0, int count,
                                 int lane)
{
    constexpr int CH = D / 8;
    int64_t kv_row = (int64_t)a.Hkv * a.d;
#pragma unroll 4
    for (int i = lane; i < 16 * CH; i += 32) {
        int r = i / CH, c = i % CH;
        bool valid = r < count && c * 8 < a.d;
        int64_t at = valid ? (key0 + r) * kv_row + c * 8 : 0;
        copy_async(k_tile + tile_at<D>(r, c), k_base + at, valid);
        copy_async(v_tile + tile_at<D>(r, c), v_base + at, valid);
    }
}

/* What the shares of a CTA's warps came to, for each of their heads: maximum of the logits, sum
 * of exponentials, and the unnormalised output. */
struct warp_shares {
    /* [WARPS, room, 2] and [WARPS, room, pitch], heads of which `heads` are there */
    const float *ml, *o;
    int heads, room, pitch;
};

__device__ inline float4 &operator+=(float4 &sum, float4 v)
{
    sum.x += v.x;
    sum.y += v.y;
    sum.z += v.z;
    sum.w += v.w;
    return sum;
}
__device__ inline float4 operator*(float a, float4 v)
{
    return make_float4(a * v.x, a * v.y, a * v.z, a * v.w);
}

__device__ inline void store_out(bf16 *out, float4 v, float inv)
{
    *reinterpret_cast<uint2 *>(out) =
        make_uint2(pack_bf16(v.x * inv, v.y * inv), pack_bf16(v.z * inv, v.w * inv));
}
__device__ inline float inverse(float sum) { return sum > 0 ? 1.0f / sum : 0.0f; }

/* The shares of a CTA's warps, in shared memory, added in their order: a warp takes a head, a
 * lane four columns. Into `out`, normalised, or where that is NULL into o [heads, D] and ml [heads,
 * 2]. */
template <int D>
__device__ inline void add_warps(const struct warp_shares from, float scale_log2, bf16 *out, int d,
                                 float *o, float *ml)
{
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    for (int row = warp; row < from.heads; row += WARPS) {
        float2 of[WARPS];
        float top = -INFINITY, sum = 0, weight[WARPS];
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            of[w] = *reinterpret_cast<const float2 *>(from.ml + (w * from.room + row) * 2);
            top = fmaxf(top, of[w].x);
        }
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            weight[w] = exp2f((of[w].x - (top == -INFINITY ? 0.0f : top)) * scale_log2);
            sum += weight[w] * of[w].y;
        }
#pragma unroll
        for (int c = 4 * lane; c < D; c += 128) {
            float4 value = make_float4(0, 0, 0, 0);
#pragma unroll
            for (int w = 0; w < WARPS; w++)
                value += weight[w] * *reinterpret_cast<const float4 *>(
                                         from.o + (w * from.room + row) * from.pitch + c);
            if (!out)
                *reinterpret_cast<float4 *>(o + row * D + c) = value;
            else if (c < d)
                store_out(out + row * d + c, value, inverse(sum));
        }
        if (!out && lane == 0)
            *reinterpret_cast<float2 *>(ml + row * 2) = make_float2(top, sum);
    }
}

/* A head's share of keys, or several added up; a lane has four columns of every 128. */
template <int D>
struct head_part {
    static constexpr int TURNS = (D + 127) / 128;
    float top = -INFINITY, sum = 0;
    float4 value[TURNS] = {};
};

/* Shares first, first + step, … < count of one head, by a warp: eight vectors a lane are asked for
 * at once, and those that are not there yet again. Leaves NOT_YET in their places, which nobody
 * writes before the next call. o and ml: the head's place in share 0; room: heads from share to
 * share. */
template <int D>
__device__ inline head_part<D> take_shares(float *o, float *ml, int room, int first, int step,
                                           int count, float scale_log2)
{
    constexpr int TURNS = head_part<D>::TURNS, BATCH = 8 / TURNS;
    const float not_yet = __uint_as_float(NOT_YET);
    int lane = threadIdx.x & 31;
    head_part<D> all;
#pragma unroll 1
    for (int s0 = first; s0 < count; s0 += step * BATCH) {
        float4 value[BATCH][TURNS];
        float2 of[BATCH];
#pragma unroll
        /* what is not asked for counts as there, and for nothing */
        for (int u = 0; u < BATCH; u++) {
            bool asked = s0 + u * step < count;
            of[u] = asked ? make_float2(not_yet, not_yet) : make_float2(-INFINITY, 0);
#pragma unroll
            for (int k = 0; k < TURNS; k++)
                value[u][k] = asked && k * 128 + 4 * lane < D
                                  ? make_float4(not_yet, not_yet, not_yet, not_yet)
                                  : make_float4(0, 0, 0, 0);
        }
        bool missing;
        do {
            missing = false;
#pragma unroll
            for (int u = 0; u < BATCH; u++) {
                int s = (s0 + u * step) * room;
                if (!is_there(of[u]))
                    of[u] = load_now(reinterpret_cast<const float2 *>(ml + s * 2));
#pragma unroll
                for (int k = 0; k < TURNS; k++)
                    if (!is_there(value[u][k]))
                        value[u][k] = load_now(
                            reinterpret_cast<const float4 *>(o + s * D + k * 128 + 4 * lane));
            }
#pragma unroll
            for (int u = 0; u < BATCH; u++) {
                missing |= !is_there(of[u]);
#pragma unroll
                for (int k = 0; k < TURNS; k++)
                    missing |= !is_there(value[u][k]);
            }
        } while (missing);
        float top = all.top;
#pragma unroll
        for (int u = 0; u < BATCH; u++)
            top = fmaxf(top, of[u].x);
        float base = top == -INFINITY ? 0.0f : top, shrink = exp2f((all.top - base) * scale_log2);
        all.top = top;
        all.sum *= shrink;
#pragma unroll
        for (int k = 0; k < TURNS; k++)
            all.value[k] = shrink * all.value[k];
        __syncwarp(); /* every lane has read ml */
#pragma unroll
        for (int u = 0; u < BATCH; u++) {
            int s = (s0 + u * step) * room;
            bool asked = s0 + u * step < count;
            float weight = exp2f((of[u].x - base) * scale_log2);
            all.sum += weight * of[u].y;
            if (asked && lane == 0)
                *reinterpret_cast<float2 *>(ml + s * 2) = make_float2(not_yet, not_yet);
#pragma unroll
            for (int k = 0; k < TURNS; k++) {
                all.value[k] += weight * value[u][k];
                if (asked && k * 128 + 4 * lane < D)
                    *reinterpret_cast<float4 *>(o + s * D + k * 128 + 4 * lane) =
                        make_float4(not_yet, not_yet, not_yet, not_yet);
            }
        }
    }
    return all;
}

/* The shares of a group's CTAs, from L2, for its heads first, first + step, …: a warp takes a
 * head; a single head's shares are dealt out to the warps, whose parts meet in shared memory, ml
 * [WARPS][2] and o [WARPS][D]. */
template <int D>
__device__ inline void add_shares(const decode_plan &p, int group, int count, int heads, int first,
                                  int step, float scale_log2, float *ml, float *o, bf16 *out, int d)
{
    constexpr int TURNS = head_part<D>::TURNS;
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    float *from_o = p.o + (int64_t)group * p.splits * p.heads * D,
          *from_ml = p.ml + (int64_t)group * p.splits * p.heads * 2;
    if (first + step < heads) {
        for (int row = first + warp * step; row < heads; row += WARPS * step) {
            head_part<D> all = take_shares<D>(from_o + row * D, from_ml + row * 2, p.heads, 0, 1,
                                              count, scale_log2);
#pragma unroll
            for (int k = 0; k < TURNS; k++)
                if (k * 128 + 4 * lane < d)
                    store_out(out + row * d + k * 128 + 4 * lane, all.value[k], inverse(all.sum));
        }
        return;
    }
    head_part<D> part = take_shares<D>(from_o + first * D, from_ml + first * 2, p.heads, warp,
                                       WARPS, count, scale_log2);
#pragma unroll
    for (int k = 0; k < TURNS; k++)
        if (k * 128 + 4 * lane < D)
            *reinterpret_cast<float4 *>(o + warp * D + k * 128 + 4 * lane) = part.value[k];
    if (lane == 0)
        *reinterpret_cast<float2 *>(ml + warp * 2) = make_float2(part.top, part.sum);
    __syncthreads();
    add_warps<D>({ml, o, 1, 1, D}, scale_log2, out + first * d, d, nullptr, nullptr);
}

/* The queries of a group's heads, one a row of 16. */
template <int D>
__device__ __forceinline__ void load_queries(uint32_t q_tile, const bf16 *q, int heads, int d)
{
    constexpr int CH = D / 8;
    for (int i = threadIdx.x; i < 16 * CH; i += WARPS * 32) {
        bool valid = i / CH < heads && i % CH * 8 < d;
        copy_async(q_tile + tile_at<D>(i / CH, i % CH), valid ? q + i / CH * d + i % CH * 8 : q,
                   valid);
    }
}

/* Behind a walk_step: entries of the list, read as soon as each is written, into shared memory. */
__device__ __forceinline__ void await_entries(const int32_t *list, int count, int *entries)
{
    for (int e = threadIdx.x; e < count; e += WARPS * 32) {
        int block;
        do
            block = load_now(list + e);
        while (block == (int)NOT_YET);
        entries[e] = block;
    }
    __syncthreads();
}

/* s += Q · Kᵀ of 16 keys. */
template <int D>
__device__ __forceinline__ void add_scores(float (&s)[2][4], const uint32_t (&qa)[D / 16][4],
                                           uint32_t k_tile, int lane)
{
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        uint32_t kb[4];
        load_matrix(kb, k_address<D>(k_tile, 0, k * 2, lane));
        mma16816(s[0], qa[k], kb[0], kb[1]);
        mma16816(s[1], qa[k], kb[2], kb[3]);
    }
}

/* Pairs of query t and the 16 slots from slot0 on, keys from key0 on, that are not kept:
 * -infinity. */
__device__ __forceinline__ void mask_scores(float (&s)[2][4], const key_list &list, int t,
                                            int slot0, int key0, int end, bool partial, int lane)
{
#pragma unroll
    for (int nt = 0; nt < 2; nt++)
#pragma unroll
        for (int c = 0; c < 2; c++) {
            int at = nt * 8 + (lane & 3) * 2 + c;
            if (slot0 + at >= end || !pair_kept(list, t, key0 + at, slot0 + at, partial))
                s[nt][c] = s[nt][2 + c] = -INFINITY;
        }
}

/* The online softmax: scores become weights relative to the new maxima, and what was summed so far
 * shrinks to these. */
template <int D>
__device__ __forceinline__ void softmax_step(float (&s)[2][4], float (&o)[D / 8][4],
                                             float (&row_max)[2], float (&row_sum)[2],
                                             float scale_log2)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float top = fmaxf(fmaxf(s[0][2 * r], s[0][2 * r + 1]), fmaxf(s[1][2 * r], s[1][2 * r + 1]));
        top = fmaxf(row_max[r], quad_max(top));
        float base = top == -INFINITY ? 0.0f : top * scale_log2;
        float shrink = exp2f(row_max[r] * scale_log2 - base);
        row_max[r] = top;
        float sum = 0;
#pragma unroll
        for (int nt = 0; nt < 2; nt++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                float e = exp2f(s[nt][2 * r + c] * scale_log2 - base);
                s[nt][2 * r + c] = e;
                sum += e;
            }
        row_sum[r] = row_sum[r] * shrink + sum;
#pragma unroll
        for (int nt = 0; nt < D / 8; nt++) {
            o[nt][2 * r] *= shrink;
            o[nt][2 * r + 1] *= shrink;
        }
    }
}

/* o += weights · V of 16 keys. */
template <int D>
__device__ __forceinline__ void add_values(float (&o)[D / 8][4], const float (&s)[2][4],
                                           uint32_t v_tile, int lane)
{
    uint32_t pa[4] = {pack_bf16(s[0][0], s[0][1]), pack_bf16(s[0][2], s[0][3]),
                      pack_bf16(s[1][0], s[1][1]), pack_bf16(s[1][2], s[1][3])};
#pragma unroll
    for (int nc = 0; nc < D / 8; nc += 2) {
        uint32_t vb[4];
        load_matrix_transposed(vb, v_address<D>(v_tile, 0, nc, lane));
        mma16816(o[nc], pa, vb[0], vb[1]);
        mma16816(o[nc + 1], pa, vb[2], vb[3]);
    }
}

/* A warp's share of each head: maximum and sum to ml [WARPS][heads][2], values to sh_o
 * [WARPS][heads][PITCH]. */
template <int D, int PITCH>
__device__ __forceinline__ void store_share(float *ml, float *sh_o, const float (&o)[D / 8][4],
                                            const float (&row_max)[2], const float (&row_sum)[2],
                                            int heads)
{
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = (lane >> 2) + 8 * r;
        float total = quad_sum(row_sum[r]);
        if (row >= heads)
            continue;
        if ((lane & 3) == 0)
            *reinterpret_cast<float2 *>(ml + (warp * heads + row) * 2) =
                make_float2(row_max[r], total);
#pragma unroll
        for (int nt = 0; nt < D / 8; nt++)
            *reinterpret_cast<float2 *>(sh_o + (warp * heads + row) * PITCH + nt * 8 +
                                        (lane & 3) * 2) =
                make_float2(o[nt][2 * r], o[nt][2 * r + 1]);
    }
}

/* All shares of a group of heads, where there are several: splits · (D + 2) · 4 bytes a head, from
 * L2. */
template <int D>
__device__ __forceinline__ void join_shares(const attend_args &a, const decode_plan &p, int group,
                                            int split, int splits, int heads, float *parts,
                                            bf16 *out)
{
    if (splits > 1 && !p.done) {
        /* the last CTAs add: those that they wait for got their places before them, also where
         * another process holds some of the places */
        int first = splits - 1 - split;
        if (first < heads)
            add_shares<D>(p, group, splits, heads, first, splits, a.scale_log2, parts + WARPS * D,
                          parts, out, a.d);
    } else if (splits > 1 && last_of(p.done + group, (unsigned)splits)) {
        add_shares<D>(p, group, splits, heads, 0, 1, a.scale_log2, parts + WARPS * D, parts, out,
                      a.d);
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

    /* Q was there before the selection began. It goes to the end of the ring, which is needed
     * last. */
    const bf16 *q = a.q + ((int64_t)seq * a.H + h0) * a.d;
    uint32_t q_tile =
        shared_address(shared) + (uint32_t)(WARPS * STAGES * STAGE_BYTES - 16 * D * 2);
    load_queries<D>(q_tile, q, heads, a.d);
    copy_commit();
    int t = a.n_k - 1, block_log2 = a.block_log2;
    const bf16 *k_base = a.k + ((int64_t)seq * a.kv_stride * a.Hkv + kv_head) * a.d;
    const bf16 *v_base = a.v + ((int64_t)seq * a.kv_stride * a.Hkv + kv_head) * a.d;
    uint32_t ring = shared_address(shared) + (uint32_t)(warp * STAGES * STAGE_BYTES);
    key_list list = {};
    if (p.written) {
        list.block_log2 = block_log2;
        list.count = p.entries;
        list.n_k = a.n_k;
    } else {
        wait_for_previous(); /* for the selection's list */
        list = list_of(a, seq, h0, t >> block_log2, t);
    }
    /* the diagonal block is always there, and last */
    int slots = ((list.count - 1) << block_log2) + (t & ((1 << block_log2) - 1)) + 1;
    int splits = shares_of(slots, p.splits), tiles = (slots + 15) / 16;
    if (split >= splits)
        return;
    int begin = tiles * split / splits * 16, end = min(tiles * (split + 1) / splits * 16, slots);
    if (p.written) {
        int *entries = reinterpret_cast<int *>(shared + p.entries_at), from = begin >> block_log2,
            count = ((end - 1) >> block_log2) - from + 1;
        await_entries(a.indices + seq * p.entries + from, count, entries);
        list.index = entries - from;
    }
    /* 16 slots lie in one block (B >= 16), so a tile is 16 keys in a row. */
    auto first_key = [&](int slot0) {
        return (list_block(list, slot0 >> block_log2) << block_log2) |
               (slot0 & ((1 << block_log2) - 1));
    };

    float o[CH][4] = {};
    float row_max[2] = {-INFINITY, -INFINITY}, row_sum[2] = {0, 0};
    int first = begin + warp * 16, stride = WARPS * 16;
#pragma unroll
    for (int st = 0; st < STAGES - 1; st++) {
        int slot0 = first + st * stride;
        if (slot0 < end)
            load_keys<D>(ring + st * STAGE_BYTES, ring + st * STAGE_BYTES + 16 * D * 2, a, k_base,
                         v_base, first_key(slot0), end - slot0, lane);
        copy_commit();
    }
    uint32_t qa[CH / 2][4];  /* Q as the A operand: row = head */
    copy_wait<STAGES - 1>(); /* it is older than the ring's loads */
    __syncthreads();
#pragma unroll
    for (int k = 0; k < CH / 2; k++)
        load_matrix(qa[k], a_address<D>(q_tile, 0, k * 2, lane));
    __syncthreads(); /* its place may be loaded over */
    int stage = 0, ahead = first + (STAGES - 1) * stride,
        ahead_key = ahead < end ? first_key(ahead) : 0;
    for (int slot0 = first; slot0 < end; slot0 += stride) {
        int free_stage = (stage + STAGES - 1) % STAGES;
        if (ahead < end)
            load_keys<D>(ring + free_stage * STAGE_BYTES,
                         ring + free_stage * STAGE_BYTES + 16 * D * 2, a, k_base, v_base, ahead_key,
                         end - ahead, lane);
        copy_commit();
        ahead += stride;
        if (ahead < end) /* its place in the list, a turn before it is needed */
            ahead_key = first_key(ahead);
        copy_wait<STAGES - 1>();
        __syncwarp();
        uint32_t k_tile = ring + stage * STAGE_BYTES, v_tile = k_tile + 16 * D * 2;
        float s[2][4] = {};
        add_scores<D>(s, qa, k_tile, lane);
        bool partial = slot_partial(list, slot0);
        /* no key is later than the query: only the list's end and partial blocks need a mask */
        if (slot0 + 16 > end || partial)
            mask_scores(s, list, t, slot0, first_key(slot0), end, partial, lane);
        softmax_step<D>(s, o, row_max, row_sum, a.scale_log2);
        add_values<D>(o, s, v_tile, lane);
        __syncwarp(); /* the stage is free */
        stage = (stage + 1) % STAGES;
    }
    copy_wait<0>();
    __syncthreads();
    /* What comes after this launch may rely on all that walk_step left, and does not wait for that:
     * one thread asks here, and looks at the end, which is a fence itself. */
    const unsigned *written = p.written && threadIdx.x == 0 ? p.written + seq : nullptr;
    unsigned seen = written ? load_now(written) : 1;

    /* The four warps' shares, added in their order. */
    constexpr int PITCH = D + 8; /* eight rows that are written at once fall into different banks */
    float *sh_ml = reinterpret_cast<float *>(shared); /* [WARPS][heads][2] */
    float *sh_o = sh_ml + WARPS * 16 * 2;             /* [WARPS][heads][PITCH] */
    store_share<D, PITCH>(sh_ml, sh_o, o, row_max, row_sum, heads);
    __syncthreads();
    int group = seq * (int)gridDim.y + (int)blockIdx.y;
    int64_t share = (int64_t)group * p.splits + split;
    bf16 *out = a.out + ((int64_t)seq * a.H + h0) * a.d;
    add_warps<D>({sh_ml, sh_o, heads, heads, PITCH}, a.scale_log2, splits == 1 ? out : nullptr, a.d,
                 p.o + share * p.heads * D, p.ml + share * p.heads * 2);

    /* behind the warps' shares, which may still be read */
    join_shares<D>(a, p, group, split, splits, heads, sh_o + WARPS * 16 * PITCH, out);
    while (!seen)
        seen = load_now(written);
}

/* Shares a group: the fewest that come within 5 % of the shortest schedule, whole waves of CTAs
 * over the length of a share. Many are a multiple of 8, so that adding them ends with a full turn.
 * The list's true length is known on the device only. */
static int choose_splits(int groups, int at_once, int most)
{
    int best = 1;
    double best_cost = 1e30;
    for (int splits = 1; splits <= std::min(most, MOST_SPLITS); splits += splits < 16 ? 1 : 8) {
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
    int ring = WARPS * decode_ring<D>::stages * 2 * 16 * D * 2,
        merge = (WARPS * 16 * (D + 8 + 2) + WARPS * (D + 2)) * 4, bytes = std::max(ring, merge);
    if (bytes > s->smem_optin)
        return SW_FAIL(
            SW_EUNSUPPORTED,
            "attention: head_dim %d needs %d bytes of shared memory a block, this GPU has %d", a.d,
            bytes, s->smem_optin);
    int groups = a.batch * a.Hkv * p.head_tiles;
    /* the driver takes 1024 of a CTA's, and `last_of` some */
    auto at_once = [&] {
        return s->multiprocessors * std::max(1, std::min(s->smem_per_mp / (bytes + 2048), 2));
    };
    p.splits = choose_splits(groups, at_once(), div_up(a.n_k, 64));
    if (p.written) { /* the list's length is known */
        int slots = ((p.entries - 1) << a.block_log2) + (a.n_k - 1) % (1 << a.block_log2) + 1;
        p.splits = shares_of(slots, p.splits);
        p.entries_at = bytes;
        bytes +=
            ((div_up(div_up(slots, 16), p.splits) * 16 >> a.block_log2) + 2) * (int)sizeof(int);
    }
    if (p.splits > 1) {
        size_t partial = (size_t)groups * (size_t)(p.splits * p.heads);
        void *room;
        SW_TRY(sw_cuda_scratch_filled(s, SCRATCH_SPLIT, partial * (D + 2) * sizeof(float), 0xff,
                                      &room));
        p.o = static_cast<float *>(room);
        p.ml = p.o + partial * D;
        if (groups * p.splits > at_once()) {
            SW_TRY(sw_cuda_scratch_filled(s, SCRATCH_DONE, (size_t)groups * sizeof(unsigned), 0,
                                          &room));
            p.done = static_cast<unsigned *>(room);
        }
    }
    CUDA_TRY(s, cudaFuncSetAttribute(decode_kernel<D>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     bytes));
    dim3 grid((unsigned)p.splits, (unsigned)(a.Hkv * p.head_tiles), (unsigned)a.batch);
    /* It begins before the launch ahead of it ends only behind a selection, which does not write q:
     * a dense call may follow the kernel that does. */
    CUDA_TRY(
        s, dependent_launch(s, a.indices != NULL, decode_kernel<D>, grid, WARPS * 32, bytes, a, p));
    LAUNCHED(s, "attention decode");
    return SW_OK;
}

enum sw_status sw_cuda_decode(struct cuda_state *s, const attend_args &a, bool follows_step)
{
    struct decode_plan p = {};
    bool per_head = a.indices && a.units_per_seq == a.H && a.G > 1;
    p.heads = per_head ? 1 : std::min(a.G, 16);
    p.head_tiles = div_up(a.G, p.heads);
    if (follows_step && a.units_per_seq == 1) { /* which a selection of walk_step is, by sequence */
        p.written = s->step_written;
        p.entries = s->step_entries;
    }
#define CALL(D) launch<(D)>(s, a, p)
    return FOR_HEAD_DIM(a.d, CALL);
#undef CALL
}
