/* attend_hopper.cu: see attend_hopper.h.
 *
 * A pair of warpgroups works on a tile of 2 × 64 query rows that share one list of key blocks: two heads of a KV group at the same rows, or
 * (head groups of odd size, blocks of 128) two neighbouring row tiles of one head. Both are consumers, each with its own 64 rows. Each pair has a
 * producer: one warp that fetches K and V by block index with TMA into rings of tiles of one step. The list is walked from its
 * end, so that the diagonal comes first and the loop needs no mask. Tiles are ordered with the KV head outermost (its K and V stay in L2) and long
 * rows first; CTAs are persistent, one a multiprocessor, and a pair takes its next tile from a counter. NOTES-hopper.md has the measurements.
 *
 * head_dim 128: steps of 128 keys (the first has 64 where the list has an odd number of 64-key blocks), one pair a CTA.
 *
 *     S = Q·Kᵀ of step j+1 is queued, then O += P·V of step j; softmax of step j+1 runs while the latter is in flight.
 *
 * So it goes on from tile to tile: the first scores of one are queued with the last values of the other.
 *
 * head_dim 64: exponentials take as long as the products, and what matters is that some warps always have one to do while others have the other. So
 * steps of 64 keys, which need so few registers that two pairs have room, four warps a scheduler; each does one thing after the other. */
#include "kernels/cuda/attend_hopper.h"

#include <atomic>

#include "kernels/cuda/attend_hopper_ptx.cuh"
#include "kernels/cuda/mma.cuh" /* tile_at<64> is the swizzle that TMA writes */

namespace {

enum {
    PAIR = 256,            /* threads of the two consumers that share a tile's keys and values */
    WORK_SLOTS = 64,       /* calls in flight */
    MAX_STAGES = 4,
    CHUNK = 64 * 128,      /* bytes of 64 rows × 64 columns */
};

enum unit_kind { UNIT_SHARED, UNIT_KV_HEAD, UNIT_HEAD };

struct params {
    CUtensorMap q;          /* boxes of 64 tokens × d */
    CUtensorMap k, v;       /* boxes of 64 tokens × 64 columns */
    CUtensorMap k128, v128; /* boxes of 128 tokens × d: two neighbouring blocks at once */
    __nv_bfloat16 *out;
    const int32_t *indptr, *indices; /* NULL: dense */
    unsigned *work;                  /* [0] next tile less the number of pairs, [1] pairs that are done; both zero between calls */
    float scale_log2;                /* softmax scale · log2(e) */
    int n_q, n_heads, group;         /* group = H / Hkv */
    int rows;                        /* of the selection, a unit */
    int units;                       /* enum unit_kind */
    int block128;                    /* lists of 128-token blocks */
    int offset64;                    /* 64-blocks before the first query */
    int tiles, row_tiles, parts;     /* tiles = Hkv × row_tiles × parts */
    int heads_a_tile, rows_a_tile;   /* (2, 1), (1, 2) or (1, 1) */
};

template <int D> struct layout { /* shared memory in bytes, offsets within a pair's */
    enum {
        HALVES = D / 64,
        STEP = D == 128 ? 128 : 64,    /* keys */
        STAGES = D == 128 ? 3 : 4,     /* steps in the K ring, and in the V ring */
        NEXT_AT = D == 128 ? 1 : 3,    /* steps that a tile has left when the next one is taken: sooner, and some pairs are left with long ones at the end */
        PAIRS = D == 128 ? 1 : 2,      /* of consumers, each with its own producer, tiles and shared memory */
        CONSUMERS = PAIRS * PAIR,
        THREADS = CONSUMERS + 128,     /* only whole warpgroups can give registers away */
        PRODUCER_REGISTERS = D == 128 ? 40 : 32,   /* a thread; all together may not pass what a CTA starts with, 384 × 168 or 640 × 96 */
        CONSUMER_REGISTERS = D == 128 ? 232 : 112,
        Q_BYTES = HALVES * CHUNK,      /* of one warpgroup */
        KV_CHUNK = STEP / 64 * CHUNK,  /* 64 columns of one step's K or V */
        KV_BYTES = HALVES * KV_CHUNK,
        Q = 0,
        K = 2 * Q_BYTES,
        V = K + STAGES * KV_BYTES,
        BARRIERS = V + STAGES * KV_BYTES,
        PAIR_BYTES = BARRIERS + 1024,  /* multiples of 1024 all */
        BYTES = PAIRS * PAIR_BYTES + 1024, /* + alignment to 1024 */
    };
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
/* What a consumer must know of its part of a tile, left in shared memory by the producer, for each of the two. */
enum { ODD = 1, THERE = 2, EARLIER = 4 }; /* the first step has 64 keys; there is such a part; its diagonal is one block before the tile's */
struct tile_info { int row_tile, head, steps, flags; };

struct tile {
    int row_tile, head, kv_head; /* first of each */
    int begin, count;            /* first entry in indices; 64-key blocks in the list */
};

__device__ __forceinline__ tile tile_at(const params &p, int t)
{
    tile r;
    int per_kv = p.row_tiles * p.parts;
    r.kv_head = t / per_kv;
    int rest = t - r.kv_head * per_kv, up = rest / p.parts;
    r.row_tile = (p.row_tiles - 1 - up) * p.rows_a_tile;
    r.head = r.kv_head * p.group + (rest - up * p.parts) * p.heads_a_tile;
    int diagonal = p.offset64 + r.row_tile + p.rows_a_tile - 1;
    r.begin = 0;
    r.count = diagonal + 1;
    if (p.indptr) {
        int unit = p.units == UNIT_SHARED ? 0 : p.units == UNIT_KV_HEAD ? r.kv_head : r.head;
        const int32_t *at = p.indptr + (int64_t)unit * p.rows + (p.block128 ? r.row_tile >> 1 : r.row_tile);
        r.begin = at[0]; /* not __ldg: what the lists are made by may run beside this kernel's first lines */
        r.count = at[1] - r.begin;
        if (p.block128)
            r.count = 2 * r.count - 1 + (diagonal & 1);
    }
    return r;
}

/* Of an odd number of 64-key blocks, the first step of 128 keys has one. */
template <int D> __device__ __forceinline__ int steps_of(const tile &t) { return layout<D>::STEP == 128 ? (t.count + 1) >> 1 : t.count; }

/* Lists are read 32 entries at a time, one a lane. An entry is a block of 64 or of 128 tokens, and so is a step: either may be two of the other. */
template <int D> __device__ __forceinline__ int list_position(const params &p, int step)
{
    if (layout<D>::STEP == 128)
        return p.block128 ? step : 2 * step;
    return p.block128 ? step >> 1 : step;
}

__device__ __forceinline__ int list_chunk(const params &p, const tile &t, int chunk, int lane)
{
    int at = chunk * 32 + lane, entries = p.block128 ? (t.count + 1) >> 1 : t.count;
    return p.indptr && chunk >= 0 && at < entries ? p.indices[t.begin + at] : 0;
}

template <int D> struct ring {
    uint32_t full, empty; /* first barrier of each */
    uint32_t tiles;
    int stage;
    uint32_t phase;
    __device__ __forceinline__ void advance()
    {
        if (++stage == layout<D>::STAGES) {
            stage = 0;
            phase ^= 1;
        }
    }
};

/* The 64-token blocks b0 and b1 (b1 < 0: only b0) of one head to the ring's next tile. */
template <int D>
__device__ __forceinline__ void fetch_blocks(ring<D> &r, const CUtensorMap *one, const CUtensorMap *two, int b0, int b1, int kv_head, int lane)
{
    constexpr int HALVES = layout<D>::HALVES, BYTES = layout<D>::KV_BYTES, COLUMNS = layout<D>::KV_CHUNK;
    barrier_wait(r.empty + 8 * r.stage, r.phase ^ 1);
    if (lane == 0) {
        uint32_t bar = r.full + 8 * r.stage, dst = r.tiles + r.stage * BYTES;
        if (layout<D>::STEP == 128 && b1 == b0 + 1) {
            barrier_arrive_expect(bar, BYTES);
            tma_fetch(dst, two, b0 * 64, 0, kv_head, bar, L2_EVICT_NORMAL);
        } else {
            barrier_arrive_expect(bar, (b1 < 0 ? 1 : 2) * HALVES * CHUNK);
#pragma unroll
            for (int half = 0; half < HALVES; half++)
                tma_fetch(dst + half * COLUMNS, one, b0 * 64, half, kv_head, bar, L2_EVICT_NORMAL);
            if (b1 >= 0)
#pragma unroll
                for (int half = 0; half < HALVES; half++)
                    tma_fetch(dst + half * COLUMNS + CHUNK, one, b1 * 64, half, kv_head, bar, L2_EVICT_NORMAL);
        }
    }
    __syncwarp();
    r.advance();
}

template <int D>
__device__ __forceinline__ void produce(const params &p, ring<D> kr, ring<D> vr, uint32_t q_tiles, uint32_t q_full, uint32_t q_empty,
                                        tile_info *info, int pair, int lane)
{
    uint32_t q_phase = 0;
    int pairs = gridDim.x * layout<D>::PAIRS, t = pair * gridDim.x + blockIdx.x;
    tile now = tile_at(p, t < p.tiles ? t : 0);
    int steps = steps_of<D>(now);
    int chunk = list_position<D>(p, steps - 1) >> 5;
    int entries = list_chunk(p, now, chunk, lane);
    while (t < p.tiles) {
        int before = list_chunk(p, now, chunk - 1, lane);
        int t_next = 0, entries_next = 0;
        tile next = now;
        int v0 = 0, v1 = 0;
        for (int s = steps - 1; s >= 0; s--) {
            int at = list_position<D>(p, s);
            if (at >> 5 != chunk) {
                chunk = at >> 5;
                entries = before;
                before = list_chunk(p, now, chunk - 1, lane);
            }
            int b0 = __shfl_sync(~0u, entries, at & 31), b1 = __shfl_sync(~0u, entries, (at + 1) & 31);
            bool first = s == steps - 1;
            if (layout<D>::STEP == 128) {
                if (!p.indptr)
                    b0 = 2 * s, b1 = b0 + 1;
                else if (p.block128)
                    b0 *= 2, b1 = b0 + 1;
                if (first && (now.count & 1))
                    b1 = -1;
            } else {
                if (!p.indptr)
                    b0 = s;
                else if (p.block128)
                    b0 = 2 * b0 + (s & 1);
                b1 = -1;
            }
            fetch_blocks<D>(kr, &p.k, &p.k128, b0, b1, now.kv_head, lane);
            if (first) {
                barrier_wait(q_empty, q_phase ^ 1);
                if (lane == 0) {
                    bool two_rows = p.rows_a_tile == 2, two_heads = p.heads_a_tile == 2 && now.head + 1 < (now.kv_head + 1) * p.group;
                    barrier_expect(q_full, 2 * layout<D>::Q_BYTES);
#pragma unroll
                    for (int w = 0; w < 2; w++) {
                        /* A second head or row tile past the end is fetched from the first's place, or is zeros; it is not computed or not stored. */
                        int head = two_heads ? now.head + w : now.head, row = two_rows ? now.row_tile + w : now.row_tile;
                        bool there = w == 0 || two_rows || two_heads;
                        info[w] = {row, head, steps, (now.count & 1 ? ODD : 0) | (there ? THERE : 0) | (two_rows && w == 0 ? EARLIER : 0)};
                        tma_fetch(q_tiles + w * layout<D>::Q_BYTES, &p.q, row * 64, 0, head, q_full, L2_EVICT_FIRST);
                    }
                    barrier_arrive(q_full);
                }
                q_phase ^= 1;
            } else {
                fetch_blocks<D>(vr, &p.v, &p.v128, v0, v1, now.kv_head, lane);
            }
            v0 = b0, v1 = b1;
            if (s == min(steps - 1, layout<D>::NEXT_AT)) {
                if (lane == 0)
                    t_next = pairs + atomicAdd(p.work, 1u);
                t_next = __shfl_sync(~0u, t_next, 0);
                if (t_next < p.tiles) {
                    next = tile_at(p, t_next);
                    entries_next = list_chunk(p, next, list_position<D>(p, steps_of<D>(next) - 1) >> 5, lane);
                }
            }
        }
        fetch_blocks<D>(vr, &p.v, &p.v128, v0, v1, now.kv_head, lane);
        now = next;
        t = t_next;
        steps = steps_of<D>(now);
        chunk = list_position<D>(p, steps - 1) >> 5;
        entries = entries_next;
    }
    barrier_wait(q_empty, q_phase ^ 1);
    if (lane == 0) {
        info[0] = info[1] = {0, 0, 0, 0};
        barrier_arrive(q_full);
        /* The last CTA out leaves the counters at zero for the next call. */
        __threadfence();
        if (atomicAdd(p.work + 1, 1u) == pairs - 1u) {
            p.work[0] = 0;
            p.work[1] = 0;
        }
    }
}

/* The running softmax of two rows a thread (r and r + 8 of its warp's 16). */
struct running {
    float max[2], sum[2]; /* max over the row, times scale·log2(e); sum of this thread's columns only */
};

/* e = exp2(scale·s - max), and `sum` their sums: against the maxima of the steps before, whatever those of this step are. e may be s. */
template <int N>
__device__ __forceinline__ void exponentials(float (&e)[N], float (&sum)[2], const float (&s)[N], const running &run, float scale_log2)
{
    float part[2][2]; /* even and odd columns */
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int i = 2 * r; i < N; i += 4) /* two columns of one row, two of the other */
#pragma unroll
            for (int c = 0; c < 2; c++) {
                e[i + c] = exp2_fast(fmaf(s[i + c], scale_log2, -run.max[r]));
                part[r][c] = i < 4 ? e[i + c] : part[r][c] + e[i + c];
            }
    sum[0] = part[0][0] + part[0][1];
    sum[1] = part[1][0] + part[1][1];
}

/* A row's first step. s: logits in, exp2(scale·s - max) out. */
template <int N> __device__ __forceinline__ void softmax_first(float (&s)[N], running &run, float scale_log2)
{
    float best[2][2] = {{s[0], s[2]}, {s[1], s[3]}};
#pragma unroll
    for (int i = 4; i < N; i += 4) {
        best[0][0] = fmaxf(best[0][0], s[i]);
        best[1][0] = fmaxf(best[1][0], s[i + 1]);
        best[0][1] = fmaxf(best[0][1], s[i + 2]);
        best[1][1] = fmaxf(best[1][1], s[i + 3]);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) /* the row is in four lanes */
        run.max[r] = quad_max(fmaxf(best[0][r], best[1][r])) * scale_log2;
    exponentials(s, run.sum, s, run, scale_log2);
}

/* Accumulators of m64 × n become A operands of m64 × k16 pieces: the register layouts match. */
template <int N, int P> __device__ __forceinline__ void to_operand(uint32_t (&p)[P], const float (&s)[N])
{
    static_assert(N / 2 <= P, "operand");
#pragma unroll
    for (int i = 0; i < N / 2; i++)
        p[i] = pack_bf16(s[2 * i], s[2 * i + 1]);
}

/* A warpgroup's 64 queries, in registers: their place is soon free for the next tile's. */
template <int D> struct queries { uint32_t reg[D / 16][4]; };

/* S = Q·Kᵀ for KEYS keys. */
template <int D, int KEYS> __device__ __forceinline__ void queue_scores(float (&s)[KEYS / 2], const queries<D> &q, uint32_t k)
{
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
        uint32_t kd = k + (((i / 4) * layout<D>::KV_CHUNK + (i % 4) * 32) >> 4);
        if constexpr (KEYS == 128)
            i == 0 ? wgmma_rs_n128<0>(s, q.reg[i], kd) : wgmma_rs_n128<1>(s, q.reg[i], kd);
        else
            i == 0 ? wgmma_rs_n64<0>(s, q.reg[i], kd) : wgmma_rs_n64<1>(s, q.reg[i], kd);
    }
    wgmma_commit();
}

/* O += P·V for KEYS keys. */
template <int D, int KEYS, int P> __device__ __forceinline__ void queue_values(float (&o)[D / 2], const uint32_t (&p)[P], uint32_t v)
{
    static_assert(KEYS / 4 <= P, "operand");
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < KEYS / 16; i++) {
        uint32_t vd = v + ((i * 16 * 128) >> 4);
        if constexpr (D == 128)
            wgmma_rs_n128_t<1>(o, p + 4 * i, vd);
        else
            wgmma_rs_n64_t<1>(o, p + 4 * i, vd);
    }
    wgmma_commit();
}

template <int N> __device__ __forceinline__ void clear(float (&x)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        x[i] = 0.f;
}

template <int D> __device__ __forceinline__ void multiply_rows(float (&o)[D / 2], const float (&factor)[2])
{
    pin(o);
#pragma unroll
    for (int i = 0; i < D / 2; i += 4) {
        o[i] *= factor[0];
        o[i + 1] *= factor[0];
        o[i + 2] *= factor[1];
        o[i + 3] *= factor[1];
    }
}

/* What a consumer warpgroup works with. */
template <int D> struct consumer {
    static constexpr int STEP = layout<D>::STEP, SLOT = layout<D>::KV_BYTES >> 4; /* of descriptors */
    ring<D> kr, vr;
    uint32_t k, v;  /* descriptors of the rings' first tiles */
    uint32_t q_empty;
    float scale_log2;
    int lane;
    queries<D> q;
    float o[D / 2];
    uint32_t p[STEP / 4]; /* exponentials whose values have not been added yet */
    running run;

    __device__ __forceinline__ uint32_t keys() const { return k + kr.stage * SLOT; }
    __device__ __forceinline__ uint32_t values() const { return v + vr.stage * SLOT; }
    __device__ __forceinline__ void wait_keys() { barrier_wait(kr.full + 8 * kr.stage, kr.phase); }
    __device__ __forceinline__ void wait_values() { barrier_wait(vr.full + 8 * vr.stage, vr.phase); }
    __device__ __forceinline__ void free_queries()
    {
        reads_before_tma();
        __syncwarp();
        if (lane == 0)
            barrier_arrive(q_empty);
    }
    __device__ __forceinline__ void free_keys()
    {
        if (lane == 0)
            barrier_arrive(kr.empty + 8 * kr.stage);
        kr.advance();
    }
    __device__ __forceinline__ void free_values()
    {
        if (lane == 0)
            barrier_arrive(vr.empty + 8 * vr.stage);
        vr.advance();
    }
};

/* Steps that are not for this warpgroup. */
template <int D> __device__ __forceinline__ void pass_steps(consumer<D> &c, int steps)
{
    for (int j = 0; j < steps; j++) {
        c.wait_keys();
        c.free_keys();
        c.wait_values();
        c.free_values();
    }
}

/* A step once more, from its scores on, for a warp's own 16 rows: maxima raised to those of this step, O and the sums times the difference, then the exponentials in s and their
 * `sum`. Without wgmma, which is only for all four warps. */
template <int D> __device__ __forceinline__ void step_anew(consumer<D> &c, float (&s)[layout<D>::STEP / 2], float (&sum)[2])
{
    uint32_t k_tile = c.kr.tiles + c.kr.stage * layout<D>::KV_BYTES;
    float row[2] = {-INFINITY, -INFINITY}, factor[2];
#pragma unroll
    for (int key = 0; key < layout<D>::STEP; key += 16) {
        float of[2][4] = {}; /* of eight keys each */
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
            uint32_t b[4];
            load_matrix(b, k_address<64>(k_tile, 0, i % 4 * 2, c.lane) + i / 4 * layout<D>::KV_CHUNK + key * 128);
            mma16816(of[0], c.q.reg[i], b[0], b[1]);
            mma16816(of[1], c.q.reg[i], b[2], b[3]);
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            s[key / 2 + i] = of[i / 4][i % 4];
            row[i / 2 % 2] = fmaxf(row[i / 2 % 2], of[i / 4][i % 4]);
        }
    }
    reads_before_tma();
    __syncwarp();
#pragma unroll
    for (int r = 0; r < 2; r++) { /* the row is in four lanes */
        float max = fmaxf(c.run.max[r], quad_max(row[r]) * c.scale_log2);
        factor[r] = exp2_fast(c.run.max[r] - max);
        c.run.max[r] = max;
        c.run.sum[r] *= factor[r];
    }
    multiply_rows<D>(c.o, factor);
    exponentials(s, sum, s, c.run, c.scale_log2);
}

/* A step's scores become exponentials. Any point of reference gives the same quotient, so the maxima of the steps before serve, and as many comparisons as exponentials are
 * saved. Only where a sum comes out large is the step made anew; not where it is 2⁹ or less, which costs no precision in bf16 or fp32.
 *
 * ptxas hoists a wait as far up as its basic block goes, above the exponentials, and then nothing overlaps. So at head_dim 128, where values are in flight, the wait for them gets
 * a block of its own: the branch before it needs all the exponentials. */
template <int D> __device__ __forceinline__ void softmax_next(consumer<D> &c, float (&s)[layout<D>::STEP / 2])
{
    float sum[2];
    exponentials(s, sum, s, c.run, c.scale_log2);
    if (D == 64)
        to_operand(c.p, s);
    if (__builtin_expect(__any_sync(~0u, sum[0] + sum[1] > 512.f), 0)) {
        if (D == 128) {
            wgmma_wait<0>();
            pin(c.o);
        }
        step_anew(c, s, sum);
        if (D == 64)
            to_operand(c.p, s);
    }
    c.run.sum[0] += sum[0];
    c.run.sum[1] += sum[1];
}

/* The loop's step at head_dim 128: scores of this step, values of the one before, which had KEYS keys. */
template <int KEYS> __device__ __forceinline__ void next_step_128(consumer<128> &c, float (&s)[64])
{
    c.wait_keys();
    pin(s);
    pin(c.o);
    pin(c.p);
    queue_scores<128, 128>(s, c.q, c.keys());
    c.wait_values();
    queue_values<128, KEYS>(c.o, c.p, c.values());
    wgmma_wait<1>();
    pin(s);
    softmax_next(c, s);
    wgmma_wait<0>();
    pin(c.o);
    c.free_keys();
    c.free_values();
    to_operand(c.p, s);
}

/* The same at head_dim 64, where other warps fill the time that this one waits. What is not arithmetic (barriers, the ring) stands between a product and the wait for it, and
 * keys are free a step later: nobody waits for it there. */
__device__ __forceinline__ void next_step_64(consumer<64> &c, float (&s)[32])
{
    pin(c.o);
    pin(c.p);
    queue_values<64, 64>(c.o, c.p, c.values());
    c.free_keys();
    c.wait_keys();
    wgmma_wait<0>();
    pin(c.o);
    pin(s);
    queue_scores<64, 64>(s, c.q, c.keys());
    c.free_values();
    c.wait_values();
    wgmma_wait<0>();
    pin(s);
    softmax_next(c, s);
}

/* Column c of the first step is masked for row r of the tile where c > r + shift. */
template <int N> __device__ __forceinline__ void mask_diagonal(float (&s)[N], int row, int column, int shift)
{
    int last = row + shift - column;
#pragma unroll
    for (int i = 0; i < N; i += 4) {
        int c = i * 2;
        if (c > last)
            s[i] = -INFINITY;
        if (c + 1 > last)
            s[i + 1] = -INFINITY;
        if (c > last + 8)
            s[i + 2] = -INFINITY;
        if (c + 1 > last + 8)
            s[i + 3] = -INFINITY;
    }
}

/* Each quad of lanes holds 8 columns of a row, two a lane, in each of four words; afterwards each lane holds all 8 of one. */
__device__ __forceinline__ void transpose_quad(uint32_t (&w)[4], int lane)
{
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        uint32_t got = __shfl_xor_sync(~0u, lane & 1 ? w[i] : w[i + 1], 1);
        if (lane & 1)
            w[i] = got;
        else
            w[i + 1] = got;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t got = __shfl_xor_sync(~0u, lane & 2 ? w[i] : w[i + 2], 2);
        if (lane & 2)
            w[i] = got;
        else
            w[i + 2] = got;
    }
}

/* Where a warpgroup's output goes: the thread's first row, and the head. */
struct place { int token, head; };

template <int D>
__device__ __forceinline__ void store_rows(const params &p, const float (&o)[D / 2], const running &run, place at, int lane)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float inverse = 1.f / quad_sum(run.sum[r]);
        int token = at.token + 8 * r;
        __nv_bfloat16 *row = p.out + ((int64_t)token * p.n_heads + at.head) * D;
#pragma unroll
        for (int g = 0; g < D / 32; g++) {
            uint32_t w[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                w[i] = pack_bf16(o[(4 * g + i) * 4 + 2 * r] * inverse, o[(4 * g + i) * 4 + 2 * r + 1] * inverse);
            transpose_quad(w, lane);
            if (token < p.n_q)
                __stcs((uint4 *)(row + (4 * g + (lane & 3)) * 8), make_uint4(w[0], w[1], w[2], w[3]));
            __syncwarp(); /* or the compiler takes lanes to be apart from here on, and keeps descriptors where each lane has one: 15 instructions a step more at head_dim 64 */
        }
    }
}

/* A tile's first step, of KEYS keys, and, PENDING, the last values and the output of the tile before, at `before`. Column x of the step is masked for row r of the tile where
 * x > r + shift. */
template <int D, int KEYS, bool PENDING>
__device__ __forceinline__ void first_step(const params &p, consumer<D> &c, int row, int shift, place before)
{
    float s[KEYS / 2];
    clear(s);
    c.wait_keys();
    pin(s);
    if constexpr (PENDING) {
        pin(c.o);
        pin(c.p);
    }
    queue_scores<D, KEYS>(s, c.q, c.keys());
    c.free_queries(); /* in the shadow of the scores: the fence in it waits for the output of the tile before */
    if constexpr (PENDING) {
        c.wait_values();
        queue_values<D, layout<D>::STEP>(c.o, c.p, c.values());
    }
    if constexpr (D == 64) /* see next_step_64 */
        c.wait_values();
    wgmma_wait<PENDING ? 1 : 0>();
    pin(s);
    if constexpr (D == 128)
        c.free_keys();
    mask_diagonal(s, row, 2 * (c.lane & 3), shift);
    running fresh;
    softmax_first(s, fresh, c.scale_log2);
    if constexpr (PENDING) {
        if (__any_sync(~0u, fresh.sum[0] + fresh.sum[1] < 0.f)) { /* never: for the branch's sake, as in softmax_next */
            wgmma_wait<0>();
            multiply_rows<D>(c.o, fresh.sum);
        }
        wgmma_wait<0>();
        pin(c.o);
        c.free_values();
        store_rows<D>(p, c.o, c.run, before, c.lane);
    }
    c.run = fresh;
    clear(c.o);
    to_operand(c.p, s);
}

/* The last values of a tile, of KEYS keys, and its output. */
template <int D, int KEYS> __device__ __forceinline__ void finish_tile(const params &p, consumer<D> &c, place at)
{
    c.wait_values();
    pin(c.o);
    pin(c.p);
    queue_values<D, KEYS>(c.o, c.p, c.values());
    if constexpr (D == 64)
        c.free_keys();
    wgmma_wait<0>();
    pin(c.o);
    c.free_values();
    store_rows<D>(p, c.o, c.run, at, c.lane);
}

template <int D>
__device__ __forceinline__ void consume(const params &p, ring<D> kr, ring<D> vr, uint32_t q_tiles, uint32_t q_full, uint32_t q_empty,
                                        const tile_info *info)
{
    constexpr int STEP = layout<D>::STEP;
    int which = __shfl_sync(~0u, (int)threadIdx.x >> 7 & 1, 0); /* warpgroup of the pair */
    int warp_row = (threadIdx.x & 127) / 32 * 16;
    uint32_t q_tile = q_tiles + which * layout<D>::Q_BYTES;
    consumer<D> c;
    c.kr = kr;
    c.vr = vr;
    c.k = descriptor(kr.tiles, 0);
    c.v = descriptor(vr.tiles, layout<D>::KV_CHUNK);
    c.q_empty = q_empty;
    c.scale_log2 = p.scale_log2;
    c.lane = threadIdx.x & 31;
    uint32_t q_phase = 0;
    bool pending = false; /* the last values of the tile before are not yet added, nor its rows stored */
    place before = {0, 0};
    float s[STEP / 2];
    clear(s);

    while (true) {
        barrier_wait(q_full, q_phase);
        q_phase ^= 1;
        tile_info mine = {0, 0, 0, 0};
        if (c.lane == 0) /* the lane that will say that it has been read (free_queries) */
            mine = info[which];
        int steps = __shfl_sync(~0u, mine.steps, 0), flags = __shfl_sync(~0u, mine.flags, 0);
        int row_tile = __shfl_sync(~0u, mine.row_tile, 0), head = __shfl_sync(~0u, mine.head, 0);
        bool there = flags & THERE, earlier = flags & EARLIER, odd = flags & ODD;
        if (pending && !there) {
            finish_tile<D, STEP>(p, c, before);
            pending = false;
        }
        if (steps == 0)
            break;
        if (!there) {
            c.free_queries();
            pass_steps(c, steps);
            continue;
        }
        uint32_t q_at = made_anew(q_tile);
#pragma unroll
        for (int i = 0; i < D / 16; i++)
            load_matrix(c.q.reg[i], a_address<64>(q_at + (i / 4) * CHUNK, warp_row, i % 4 * 2, c.lane));
        /* Of two row tiles, the first one's diagonal is in the tile's first step where that has 128 keys, else a step later. */
        if (STEP == 64 && earlier) {
            pass_steps(c, 1);
            steps--;
        }

        /* The two widths of scores have registers of their own: shared ones would make ptxas serialise wgmma. */
        int row = warp_row + c.lane / 4;
        place at = {row_tile * 64 + row, head};
        if constexpr (STEP == 64) {
            first_step<D, 64, false>(p, c, row, 0, before);
            for (int j = 1; j < steps; j++)
                next_step_64(c, s);
            finish_tile<D, STEP>(p, c, at); /* the other pair's work hides it */
        } else {
            int shift = earlier ? 0 : 64, j = 1;
            if (odd && pending)
                first_step<D, 64, true>(p, c, row, 0, before);
            else if (odd)
                first_step<D, 64, false>(p, c, row, 0, before);
            else if (pending)
                first_step<D, 128, true>(p, c, row, shift, before);
            else
                first_step<D, 128, false>(p, c, row, shift, before);
            before = at;
            pending = steps > 1 || !odd;
            if (!pending)
                finish_tile<D, 64>(p, c, at);
            else if (odd) {
                next_step_128<64>(c, s);
                j++;
            }
            for (; j < steps; j++)
                next_step_128<128>(c, s);
        }
    }
}
#endif /* sm_90a */

template <int D> __global__ void __launch_bounds__(layout<D>::THREADS, 1) attend_kernel(const __grid_constant__ params p)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ unsigned char raw[];
    constexpr int STAGES = layout<D>::STAGES, CONSUMERS = layout<D>::CONSUMERS;
    /* Warps of consumers, pair by pair, then the producers, one a pair. */
    int pair = __shfl_sync(~0u, threadIdx.x < CONSUMERS ? (int)threadIdx.x / PAIR : (int)(threadIdx.x - CONSUMERS) / 32, 0);
    uint32_t base = ((shared_address(raw) + 1023) & ~1023u) + pair * layout<D>::PAIR_BYTES;
    static_assert(STAGES <= MAX_STAGES && 8 * (4 * MAX_STAGES + 2) + 2 * sizeof(tile_info) <= 256, "barriers");
    uint32_t bars = base + layout<D>::BARRIERS, q_full = bars + 32 * MAX_STAGES, q_empty = q_full + 8;
    tile_info *info = (tile_info *)(raw + (base - shared_address(raw)) + layout<D>::BARRIERS + 32 * MAX_STAGES + 16);
    ring<D> kr = {bars, bars + 8 * MAX_STAGES, base + layout<D>::K, 0, 0};
    ring<D> vr = {bars + 16 * MAX_STAGES, bars + 24 * MAX_STAGES, base + layout<D>::V, 0, 0};
    if (threadIdx.x < CONSUMERS && threadIdx.x % PAIR == 0) {
        for (int i = 0; i < STAGES; i++) {
            barrier_init(kr.full + 8 * i, 1);
            barrier_init(vr.full + 8 * i, 1);
            barrier_init(kr.empty + 8 * i, 8); /* consumer warps */
            barrier_init(vr.empty + 8 * i, 8);
        }
        barrier_init(q_full, 1);
        barrier_init(q_empty, 8);
        barrier_init_fence();
    }
    if (threadIdx.x == 32) { /* the launch's own arguments: there from the start; a TMA would fetch its map first, half a microsecond */
        tma_prefetch_map(&p.q);
        tma_prefetch_map(&p.k);
        tma_prefetch_map(&p.v);
        tma_prefetch_map(&p.k128);
        tma_prefetch_map(&p.v128);
    }
    /* The kernels before this one, which make the lists, may still be at work (see launch): nothing is read or written before they are over. */
    asm volatile("griddepcontrol.wait;" ::: "memory");
    __syncthreads();
    if (threadIdx.x >= CONSUMERS) {
        registers_shrink<layout<D>::PRODUCER_REGISTERS>();
        if (pair < layout<D>::PAIRS)
            produce<D>(p, kr, vr, base + layout<D>::Q, q_full, q_empty, info, pair, threadIdx.x & 31);
    } else {
        registers_grow<layout<D>::CONSUMER_REGISTERS>();
        consume<D>(p, kr, vr, base + layout<D>::Q, q_full, q_empty, info);
    }
#endif
}

__device__ unsigned work_counters[WORK_SLOTS][2];

/* ------------------------------------------------------------------------------------------------------------ host */
typedef CUresult (*encode_fn)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *,
                              const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
                              CUtensorMapFloatOOBfill);

enum sw_status cuda_failed(cudaError_t e, const char *what)
{
    return SW_FAIL(SW_EDEVICE, "%s: %s", what, cudaGetErrorString(e));
}

/* The driver's TMA encoder, without linking the driver library (it is not there on machines without a GPU). */
enum sw_status find_encoder(encode_fn *out)
{
    static std::atomic<void *> found{nullptr};
    void *fn = found.load();
    if (!fn) {
        cudaDriverEntryPointQueryResult result;
        cudaError_t e = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &fn, 12000, cudaEnableDefault, &result);
        if (e != cudaSuccess)
            return cuda_failed(e, "cuTensorMapEncodeTiled");
        if (result != cudaDriverEntryPointSuccess || !fn)
            return SW_FAIL(SW_EDEVICE, "the CUDA driver has no cuTensorMapEncodeTiled");
        found.store(fn);
    }
    *out = (encode_fn)fn;
    return SW_OK;
}

/* x [tokens, heads, d] as (64 columns, token, half, head); rows past `tokens` read as zeros. */
enum sw_status encode(encode_fn fn, CUtensorMap *map, const void *x, int tokens, int heads, int d, int box_tokens, int box_halves)
{
    cuuint64_t dims[4] = {64, (cuuint64_t)tokens, (cuuint64_t)d / 64, (cuuint64_t)heads};
    cuuint64_t strides[3] = {(cuuint64_t)heads * d * 2, 128, (cuuint64_t)d * 2};
    cuuint32_t box[4] = {64, (cuuint32_t)box_tokens, (cuuint32_t)box_halves, 1}, element[4] = {1, 1, 1, 1};
    CUresult r = fn(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, (void *)x, dims, strides, box, element, CU_TENSOR_MAP_INTERLEAVE_NONE,
                    CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (r != CUDA_SUCCESS)
        return SW_FAIL(SW_EDEVICE, "cuTensorMapEncodeTiled: error %d for [%d, %d, %d]", (int)r, tokens, heads, d);
    return SW_OK;
}

/* How 2 × 64 query rows are found that share a list. Returns false where the shape is out of this kernel's reach. */
bool tile_plan(const struct sw_attend *a, params *p)
{
    const struct sw_selection *sel = a->sel;
    p->group = a->n_heads / a->n_kv_heads;
    p->units = UNIT_SHARED;
    p->rows = 0;
    p->block128 = 0;
    if (sel) {
        int units = sel->units / a->batch;
        if (units * a->batch != sel->units || (units != 1 && units != a->n_kv_heads && units != a->n_heads))
            return false;
        if (units > 1)
            p->units = units == a->n_kv_heads ? UNIT_KV_HEAD : UNIT_HEAD;
        if ((sel->block != 64 && sel->block != 128) || sel->whole || sel->rows != sw_blocks(a->n_q, sel->block))
            return false;
        p->rows = sel->rows;
        p->block128 = sel->block == 128;
    }
    int before = a->n_k - a->n_q;
    if (before < 0 || before % (sel ? sel->block : 64) != 0)
        return false;
    p->offset64 = before / 64;
    p->heads_a_tile = p->rows_a_tile = 1;
    bool heads_share = p->units != UNIT_HEAD && p->group > 1;
    if (heads_share && (p->group % 2 == 0 || (sel && !p->block128)))
        p->heads_a_tile = 2; /* an odd group's last tile has one head */
    else if ((!sel || p->block128) && before % 128 == 0)
        p->rows_a_tile = 2;
    else if (heads_share)
        p->heads_a_tile = 2;
    p->parts = (p->group + p->heads_a_tile - 1) / p->heads_a_tile;
    p->row_tiles = (sw_blocks(a->n_q, 64) + p->rows_a_tile - 1) / p->rows_a_tile;
    p->tiles = a->n_kv_heads * p->row_tiles * p->parts;
    return true;
}

template <int D> enum sw_status launch(const params &p, int processors, cudaStream_t stream)
{
    cudaError_t e = cudaFuncSetAttribute(attend_kernel<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, layout<D>::BYTES);
    if (e != cudaSuccess)
        return cuda_failed(e, "shared memory of the attention kernel");
    int ctas = (p.tiles + layout<D>::PAIRS - 1) / layout<D>::PAIRS;
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)(ctas < processors ? ctas : processors));
    config.blockDim = dim3(layout<D>::THREADS);
    config.dynamicSmemBytes = layout<D>::BYTES;
    config.stream = stream;
    config.attrs = &early;
    config.numAttrs = 1;
    e = cudaLaunchKernelEx(&config, attend_kernel<D>, p);
    if (e == cudaSuccess)
        return SW_OK;
    (void)cudaGetLastError();
    return cuda_failed(e, "attention kernel");
}

} /* namespace */

extern "C" bool sw_hopper_attend_supports(const struct sw_attend *a)
{
    int device, major, minor;
    if (cudaGetDevice(&device) != cudaSuccess || cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess || major != 9 || minor != 0)
        return false;
    if (a->batch < 1 || a->n_q < 1 || a->n_k < a->n_q || a->kv_stride < a->n_k || a->n_kv_heads < 1 || a->n_heads % a->n_kv_heads != 0 ||
        (a->head_dim != 64 && a->head_dim != 128) || !(a->scale > 0.f))
        return false;
    if (((uintptr_t)a->q | (uintptr_t)a->k | (uintptr_t)a->v | (uintptr_t)a->out) % 16 != 0)
        return false;
    params p;
    return tile_plan(a, &p);
}

extern "C" enum sw_status sw_hopper_attend(const struct sw_attend *a, cudaStream_t stream)
{
    if (!sw_hopper_attend_supports(a))
        return SW_FAIL(SW_EUNSUPPORTED, "the Hopper attention kernel does not take this shape (head_dim %d, block %d, %d queries, %d keys)",
                       a->head_dim, a->sel ? a->sel->block : 0, a->n_q, a->n_k);
    encode_fn fn;
    SW_TRY(find_encoder(&fn));
    int device = 0, processors = 0;
    cudaGetDevice(&device);
    cudaError_t e = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (e != cudaSuccess)
        return cuda_failed(e, "number of multiprocessors");
    unsigned *work = nullptr;
    e = cudaGetSymbolAddress((void **)&work, work_counters);
    if (e != cudaSuccess)
        return cuda_failed(e, "work counters");

    params p;
    if (!tile_plan(a, &p))
        return SW_FAIL(SW_EINTERNAL, "tile plan");
    p.n_q = a->n_q;
    p.n_heads = a->n_heads;
    p.scale_log2 = a->scale * 1.4426950408889634f;
    int d = a->head_dim, halves = d / 64;
    for (int b = 0; b < a->batch; b++) {
        static std::atomic<unsigned> calls{0};
        p.work = work + 2 * (calls.fetch_add(1) % WORK_SLOTS);
        const __nv_bfloat16 *q = (const __nv_bfloat16 *)a->q + (int64_t)b * a->n_q * a->n_heads * d;
        int64_t kv = (int64_t)b * a->kv_stride * a->n_kv_heads * d;
        const __nv_bfloat16 *k = (const __nv_bfloat16 *)a->k + kv, *v = (const __nv_bfloat16 *)a->v + kv;
        p.out = (__nv_bfloat16 *)a->out + (int64_t)b * a->n_q * a->n_heads * d;
        p.indptr = a->sel ? a->sel->indptr + (int64_t)b * (a->sel->units / a->batch) * a->sel->rows : nullptr;
        p.indices = a->sel ? a->sel->indices : nullptr;
        SW_TRY(encode(fn, &p.q, q, a->n_q, a->n_heads, d, 64, halves));
        SW_TRY(encode(fn, &p.k, k, a->n_k, a->n_kv_heads, d, 64, 1));
        SW_TRY(encode(fn, &p.v, v, a->n_k, a->n_kv_heads, d, 64, 1));
        SW_TRY(encode(fn, &p.k128, k, a->n_k, a->n_kv_heads, d, 128, halves));
        SW_TRY(encode(fn, &p.v128, v, a->n_k, a->n_kv_heads, d, 128, halves));
        if (d == 128)
            SW_TRY(launch<128>(p, processors, stream));
        else
            SW_TRY(launch<64>(p, processors, stream));
    }
    return SW_OK;
}
