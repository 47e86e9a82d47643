/* attend_hopper_tiles.cuh: what a call, a tile and a CTA's shared memory are, and the producer: the
 * warp that finds a pair's tiles and fetches for it. */
#ifndef SW_ATTEND_HOPPER_TILES_CUH
#define SW_ATTEND_HOPPER_TILES_CUH

#include "kernels/cuda/attention/attend_hopper_ptx.cuh"

namespace
{

enum {
    PAIR = 256, /* threads of the two consumers that share a tile's keys and values */
    MAX_STAGES = 4,
    CHUNK = 64 * 128, /* bytes of 64 rows × 64 columns */
};

enum unit_kind { UNIT_SHARED, UNIT_KV_HEAD, UNIT_HEAD };

struct params {
    CUtensorMap q;          /* boxes of 64 tokens × d */
    CUtensorMap k, v;       /* boxes of 64 tokens × 64 columns */
    CUtensorMap k128, v128; /* boxes of 128 tokens × d: two neighbouring blocks at once */
    __nv_bfloat16 *out;
    const int32_t *indptr, *indices; /* NULL: dense */
    /* [0] next tile less the number of pairs, [1] pairs that are done; both zero between calls */
    unsigned *work;
    float scale_log2;              /* softmax scale · log2(e) */
    int n_q, n_heads, group;       /* group = H / Hkv */
    int rows;                      /* of the selection, a unit */
    int units;                     /* enum unit_kind */
    int block128;                  /* lists of 128-token blocks */
    int offset64;                  /* 64-blocks before the first query */
    int tiles, row_tiles, parts;   /* tiles = Hkv × row_tiles × parts */
    int heads_a_tile, rows_a_tile; /* (2, 1), (1, 2) or (1, 1) */
};

template <int D>
struct layout { /* shared memory in bytes, offsets within a pair's */
    enum {
        HALVES = D / 64,
        STEP = D == 128 ? 128 : 64, /* keys */
        STAGES = D == 128 ? 3 : 4,  /* steps in the K ring, and in the V ring */
        /* steps that a tile has left when the next one is taken: sooner, and some pairs are left
         * with long ones at the end */
        NEXT_AT = D == 128 ? 1 : 3,
        /* of consumers, each with its own producer, tiles and shared memory */
        PAIRS = D == 128 ? 1 : 2,
        CONSUMERS = PAIRS * PAIR,
        THREADS = CONSUMERS + 128, /* only whole warpgroups can give registers away */
        /* a thread; all together may not pass what a CTA starts with, 384 × 168 or 640 × 96 */
        PRODUCER_REGISTERS = D == 128 ? 40 : 32,
        CONSUMER_REGISTERS = D == 128 ? 232 : 112,
        Q_BYTES = HALVES * CHUNK,     /* of one warpgroup */
        KV_CHUNK = STEP / 64 * CHUNK, /* 64 columns of one step's K or V */
        KV_BYTES = HALVES * KV_CHUNK,
        Q = 0,
        K = 2 * Q_BYTES,
        V = K + STAGES * KV_BYTES,
        BARRIERS = V + STAGES * KV_BYTES,
        PAIR_BYTES = BARRIERS + 1024,      /* multiples of 1024 all */
        BYTES = PAIRS * PAIR_BYTES + 1024, /* + alignment to 1024 */
    };
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
/* What a consumer must know of its part of a tile, left in shared memory by the producer, for each
 * of the two. */
/* the first step has 64 keys; there is such a part; its diagonal is one block before the tile's */
enum { ODD = 1, THERE = 2, EARLIER = 4 };
struct tile_info {
    int row_tile, head, steps, flags;
};

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
        const int32_t *at =
            p.indptr + (int64_t)unit * p.rows + (p.block128 ? r.row_tile >> 1 : r.row_tile);
        /* not __ldg: what the lists are made by may run beside this kernel's first lines */
        r.begin = at[0];
        r.count = at[1] - r.begin;
        if (p.block128)
            r.count = 2 * r.count - 1 + (diagonal & 1);
    }
    return r;
}

/* Of an odd number of 64-key blocks, the first step of 128 keys has one. */
template <int D>
__device__ __forceinline__ int steps_of(const tile &t)
{
    return layout<D>::STEP == 128 ? (t.count + 1) >> 1 : t.count;
}

/* Lists are read 32 entries at a time, one a lane. An entry is a block of 64 or of 128 tokens, and
 * so is a step: either may be two of the other. */
template <int D>
__device__ __forceinline__ int list_position(const params &p, int step)
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

template <int D>
struct ring {
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
__device__ __forceinline__ void fetch_blocks(ring<D> &r, const CUtensorMap *one,
                                             const CUtensorMap *two, int b0, int b1, int kv_head,
                                             int lane)
{
    constexpr int HALVES = layout<D>::HALVES, BYTES = layout<D>::KV_BYTES,
                  COLUMNS = layout<D>::KV_CHUNK;
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
                    tma_fetch(dst + half * COLUMNS + CHUNK, one, b1 * 64, half, kv_head, bar,
                              L2_EVICT_NORMAL);
        }
    }
    __syncwarp();
    r.advance();
}

template <int D>
__device__ __forceinline__ void produce(const params &p, ring<D> kr, ring<D> vr, uint32_t q_tiles,
                                        uint32_t q_full, uint32_t q_empty, tile_info *info,
                                        int pair, int lane)
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
            int b0 = __shfl_sync(~0u, entries, at & 31),
                b1 = __shfl_sync(~0u, entries, (at + 1) & 31);
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
                    bool two_rows = p.rows_a_tile == 2,
                         two_heads =
                             p.heads_a_tile == 2 && now.head + 1 < (now.kv_head + 1) * p.group;
                    /* A second head or row tile past the end is fetched from the first's place, or
                     * is zeros; it is not computed or not stored. */
                    int head[2] = {now.head, two_heads ? now.head + 1 : now.head},
                        row[2] = {now.row_tile, two_rows ? now.row_tile + 1 : now.row_tile};
#pragma unroll
                    for (int w = 0; w < 2; w++) {
                        bool there = w == 0 || two_rows || two_heads;
                        info[w] = {row[w], head[w], steps,
                                   (now.count & 1 ? ODD : 0) | (there ? THERE : 0) |
                                       (two_rows && w == 0 ? EARLIER : 0)};
                    }
                    barrier_arrive_expect(q_full, 2 * layout<D>::Q_BYTES);
#pragma unroll
                    for (int w = 0; w < 2; w++)
                        tma_fetch(q_tiles + w * layout<D>::Q_BYTES, &p.q, row[w] * 64, 0, head[w],
                                  q_full, L2_EVICT_FIRST);
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
                    entries_next =
                        list_chunk(p, next, list_position<D>(p, steps_of<D>(next) - 1) >> 5, lane);
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
        /* The last pair out leaves the counters at zero for the next call. */
        __threadfence();
        if (atomicAdd(p.work + 1, 1u) == pairs - 1u) {
            p.work[0] = 0;
            p.work[1] = 0;
        }
    }
}
#endif /* sm_90a */

} /* namespace */
#endif
