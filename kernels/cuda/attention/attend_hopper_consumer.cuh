/* attend_hopper_consumer.cuh: the consumer: a warpgroup's 64 rows of a tile, step by step, from
 * queries to output. Which product is in flight beside which exponentials is said in
 * attend_hopper.cu. */
#ifndef SW_ATTEND_HOPPER_CONSUMER_CUH
#define SW_ATTEND_HOPPER_CONSUMER_CUH

#include "kernels/cuda/attention/attend_hopper_tiles.cuh"
#include "kernels/cuda/device/hide_origin.cuh"
#include "kernels/cuda/device/mma.cuh" /* tile_at<64> is the swizzle that TMA writes */

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
namespace
{

/* The running softmax of two rows a thread (r and r + 8 of its warp's 16). */
struct running {
    /* max over the row, times scale·log2(e); sum of this thread's columns only */
    float max[2], sum[2];
};

/* s: logits in, exp2(scale·s - max) out, against the maxima that run has, whatever those of s are;
 * and their sums. */
template <int N>
__device__ __forceinline__ void exponentials(float (&s)[N], float (&sum)[2], const running &run,
                                             float scale_log2)
{
    float part[2][2]; /* even and odd columns */
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int i = 2 * r; i < N; i += 4) /* two columns of one row, two of the other */
#pragma unroll
            for (int c = 0; c < 2; c++) {
                s[i + c] = exp2_fast(fmaf(s[i + c], scale_log2, -run.max[r]));
                part[r][c] = i < 4 ? s[i + c] : part[r][c] + s[i + c];
            }
    sum[0] = part[0][0] + part[0][1];
    sum[1] = part[1][0] + part[1][1];
}

/* A row's first step. s: logits in, exp2(scale·s - max) out. */
template <int N>
__device__ __forceinline__ void softmax_first(float (&s)[N], running &run, float scale_log2)
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
    exponentials(s, run.sum, run, scale_log2);
}

/* Accumulators of m64 × n become A operands of m64 × k16 pieces: the register layouts match. */
template <int N, int P>
__device__ __forceinline__ void to_operand(uint32_t (&p)[P], const float (&s)[N])
{
    static_assert(N / 2 <= P, "operand");
#pragma unroll
    for (int i = 0; i < N / 2; i++)
        p[i] = pack_bf16(s[2 * i], s[2 * i + 1]);
}

/* A warpgroup's 64 queries, in registers: their place is soon free for the next tile's. */
template <int D>
struct queries {
    uint32_t reg[D / 16][4];
};

/* S = Q·Kᵀ for KEYS keys. */
template <int D, int KEYS>
__device__ __forceinline__ void queue_scores(float (&s)[KEYS / 2], const queries<D> &q, uint32_t k)
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
template <int D, int KEYS, int P>
__device__ __forceinline__ void queue_values(float (&o)[D / 2], const uint32_t (&p)[P], uint32_t v)
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

template <int N>
__device__ __forceinline__ void clear(float (&x)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        x[i] = 0.f;
}

template <int D>
__device__ __forceinline__ void multiply_rows(float (&o)[D / 2], const float (&factor)[2])
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
template <int D>
struct consumer {
    /* of descriptors */
    static constexpr int STEP = layout<D>::STEP, SLOT = layout<D>::KV_BYTES >> 4;
    ring<D> kr, vr;
    uint32_t k, v; /* descriptors of the rings' first tiles */
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
    __device__ __forceinline__ void wait_values()
    {
        barrier_wait(vr.full + 8 * vr.stage, vr.phase);
    }
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
template <int D>
__device__ __forceinline__ void pass_steps(consumer<D> &c, int steps)
{
    for (int j = 0; j < steps; j++) {
        c.wait_keys();
        c.free_keys();
        c.wait_values();
        c.free_values();
    }
}

/* A step once more, from its scores on, for a warp's own 16 rows: maxima raised to those of this
 * step, O and the sums times the difference, then the exponentials in s and their `sum`. Without
 * wgmma, which is only for all four warps. */
template <int D>
__device__ __forceinline__ void step_anew(consumer<D> &c, float (&s)[layout<D>::STEP / 2],
                                          float (&sum)[2])
{
    uint32_t k_tile = c.kr.tiles + c.kr.stage * layout<D>::KV_BYTES;
    float row[2] = {-INFINITY, -INFINITY}, factor[2];
#pragma unroll
    for (int key = 0; key < layout<D>::STEP; key += 16) {
        float of[2][4] = {}; /* of eight keys each */
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
            uint32_t b[4];
            load_matrix(b, k_address<64>(k_tile, 0, i % 4 * 2, c.lane) +
                               i / 4 * layout<D>::KV_CHUNK + key * 128);
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
    exponentials(s, sum, c.run, c.scale_log2);
}

/* A step's scores become exponentials. Any point of reference gives the same quotient, so the
 * maxima of the steps before serve, and as many comparisons as exponentials are saved. Only where a
 * sum comes out large is the step made anew; not where it is 2⁹ or less, which costs no precision
 * in bf16 or fp32.
 *
 * ptxas hoists a wait as far up as its basic block goes, above the exponentials, and then nothing
 * overlaps. So at head_dim 128, where values are in flight, the wait for them gets a block of its
 * own: the branch before it needs all the exponentials. */
template <int D>
__device__ __forceinline__ void softmax_next(consumer<D> &c, float (&s)[layout<D>::STEP / 2])
{
    float sum[2];
    exponentials(s, sum, c.run, c.scale_log2);
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

/* The loop's step at head_dim 128: scores of this step, values of the one before, which had KEYS
 * keys. */
template <int KEYS>
__device__ __forceinline__ void next_step_128(consumer<128> &c, float (&s)[64])
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

/* The same at head_dim 64, where other warps fill the time that this one waits. What is not
 * arithmetic (barriers, the ring) stands between a product and the wait for it, and keys are free a
 * step later: nobody waits for it there. */
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
template <int N>
__device__ __forceinline__ void mask_diagonal(float (&s)[N], int row, int column, int shift)
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

/* Each quad of lanes holds 8 columns of a row, two a lane, in each of four words; afterwards each
 * lane holds all 8 of one. */
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
struct place {
    int token, head;
};

template <int D>
__device__ __forceinline__ void store_rows(const params &p, const float (&o)[D / 2],
                                           const running &run, place at, int lane)
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
                w[i] = pack_bf16(o[(4 * g + i) * 4 + 2 * r] * inverse,
                                 o[(4 * g + i) * 4 + 2 * r + 1] * inverse);
            transpose_quad(w, lane);
            if (token < p.n_q)
                __stcs((uint4 *)(row + (4 * g + (lane & 3)) * 8),
                       make_uint4(w[0], w[1], w[2], w[3]));
            /* Without it the compiler assumes that lanes diverge from here on, and keeps a
             * descriptor a lane: 15 instructions a step more at head_dim 64. */
            __syncwarp();
        }
    }
}

/* A tile's first step, of KEYS keys, and, PENDING, the last values and the output of the tile
 * before, at `before`. Column x of the step is masked for row r of the tile where x > r + shift. */
template <int D, int KEYS, bool PENDING>
__device__ __forceinline__ void first_step(const params &p, consumer<D> &c, int row, int shift,
                                           place before)
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
    /* in the shadow of the scores: the fence in it waits for the output of the tile before */
    c.free_queries();
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
        /* Never true. The branch is what is wanted, as in softmax_next: it keeps the compiler from
         * moving what follows before the exponentials. */
        if (__any_sync(~0u, fresh.sum[0] + fresh.sum[1] < 0.f)) {
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
template <int D, int KEYS>
__device__ __forceinline__ void finish_tile(const params &p, consumer<D> &c, place at)
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
__device__ __forceinline__ void consume(const params &p, ring<D> kr, ring<D> vr, uint32_t q_tiles,
                                        uint32_t q_full, uint32_t q_empty, const tile_info *info)
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
    /* the last values of the tile before are not yet added, nor its rows stored */
    bool pending = false;
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
        uint32_t q_at =
            hide_origin(q_tile); /* or the addresses stay in registers from tile to tile */
#pragma unroll
        for (int i = 0; i < D / 16; i++)
            load_matrix(c.q.reg[i],
                        a_address<64>(q_at + (i / 4) * CHUNK, warp_row, i % 4 * 2, c.lane));
        /* Of two row tiles, the first one's diagonal is in the tile's first step where that has 128
         * keys, else a step later. */
        if (STEP == 64 && earlier) {
            pass_steps(c, 1);
            steps--;
        }

        /* The two widths of scores have registers of their own: shared ones would make ptxas
         * serialise wgmma. */
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

} /* namespace */
#endif /* sm_90a */
#endif
