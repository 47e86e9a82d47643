/* walk_finish.cuh: the finisher of a walk_step (walk_step.cu): one CTA a sequence that makes the
 * walk's row of the workers' logits and parts, and the list of it.
 *
 * It works alone while every other multiprocessor waits for the list, and what it does is one thing
 * after another: no bytes and hardly any arithmetic, but latencies of shared memory, shuffles and
 * barriers, measured to be the same with warm caches and code. So a thread keeps its columns in
 * registers; a team has no more warps than there are columns for; what two reductions can share is
 * one exchange; and where a division by one number for all is correctly rounded by three
 * multiply-adds, it is made so. */
#ifndef SW_CUDA_WALK_FINISH_CUH
#define SW_CUDA_WALK_FINISH_CUH

#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/hide_origin.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/warp_team.cuh"
#include "kernels/cuda/selection/radix_select.cuh" /* the order of scores */
#include "kernels/cuda/selection/walk_step.h"

static const int BAND = 1024; /* rows of a that are added up in one part */
/* columns of a thread, 16 bytes, and warps at most; eight of each were 0.8 to 1.7 µs slower */
static const int EACH = 4, TEAM = 16;
static const int TURN = EACH * TEAM * 32; /* columns at once: 128K tokens in blocks of 64 */
/* columns that fit in shared memory; longer rows stay in L2 */
static const int MOST_SHARED = 2 * TURN;

/* What warps tell each other. */
struct team_shared {
    int bins[4 * TEAM * 32];
    uint2 places[2 * TEAM]; /* of the team's exchanges */
    int found[2];           /* of the search: a bin, and candidates from it on */
};
/* ONE: one turn has all of the row. */
template <bool ONE>
struct finish_shared {
    struct team_shared team;
};
template <>
struct finish_shared<false> {
    struct team_shared team;
    __align__(16) float weights[MOST_SHARED], walked[MOST_SHARED];
};

/* Columns of a thread, to and from memory. */
__device__ inline void load_columns(const float *p, float (&v)[EACH])
{
    float4 x = *reinterpret_cast<const float4 *>(p);
    v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
}
__device__ inline void load_columns_now(const float *p, float (&v)[EACH])
{
    float4 x = load_now(reinterpret_cast<const float4 *>(p));
    v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
}
__device__ inline void store_columns(float *p, const float (&v)[EACH])
{
    *reinterpret_cast<float4 *>(p) = make_float4(v[0], v[1], v[2], v[3]);
}
__device__ inline void set_not_yet(float *p)
{
    float not_yet = __uint_as_float(NOT_YET);
    *reinterpret_cast<float4 *>(p) = make_float4(not_yet, not_yet, not_yet, not_yet);
}

/* The warps of the finisher that have columns. At b = 128 that is one warp, which needs no
 * barrier. */
struct team : warp_team<uint2, TEAM> {
    struct team_shared *sh;

    __device__ team(int warps, struct team_shared *sh) : warp_team(0, warps, sh->places), sh(sh) {}
    /* Maxima of both over the team. */
    __device__ uint2 max(uint32_t x, uint32_t y)
    {
        uint2 all =
            make_uint2(__reduce_max_sync(0xffffffffu, x), __reduce_max_sync(0xffffffffu, y));
        if (warps == 1)
            return all;
        all = exchange(all, make_uint2(0, 0));
        return make_uint2(__reduce_max_sync(0xffffffffu, all.x),
                          __reduce_max_sync(0xffffffffu, all.y));
    }
    /* Sums of both over the team. */
    __device__ int2 sum(int x, int y)
    {
        x = __reduce_add_sync(0xffffffffu, x);
        y = __reduce_add_sync(0xffffffffu, y);
        if (warps == 1)
            return make_int2(x, y);
        uint2 all = exchange(make_uint2((uint32_t)x, (uint32_t)y), make_uint2(0, 0));
        return make_int2((int)__reduce_add_sync(0xffffffffu, all.x),
                         (int)__reduce_add_sync(0xffffffffu, all.y));
    }
    /* The softmax over the team is exp(logit − most) · inverse. `top`: a warp's largest logit;
     * `sum`: a thread's of exp(logit − top). */
    struct softmax {
        float most, inverse;
    };
    __device__ softmax softmax_of(float top, float sum)
    {
        sum = warp_sum(sum);
        if (warps == 1)
            return {top, 1.0f / sum};
        uint2 of = exchange(make_uint2(__float_as_uint(top), __float_as_uint(sum)),
                            make_uint2(__float_as_uint(-INFINITY), 0));
        float of_top = __uint_as_float(of.x),
              most = score_of_key(__reduce_max_sync(0xffffffffu, key_of_score(of_top)));
        return {most, 1.0f / warp_sum(__uint_as_float(of.y) * expf(of_top - most))};
    }
};

/* visit(j, w, r) for EACH columns from j on at a time, their weights and values of the walk: in
 * registers where one turn has all columns (ONE), else out of memory, a turn after the other. A
 * thread keeps to its own columns. */
template <bool ONE, class F>
__device__ inline void each_turn(int b, float (&w)[EACH], float (&r)[EACH], float *weights,
                                 float *walked, F visit)
{
    int j0 = EACH * threadIdx.x;
    if constexpr (ONE) {
        visit(j0, w, r);
    } else {
#pragma unroll 1
        for (int j = j0; j < b; j += TURN) {
            load_columns(weights + j, w);
            load_columns(walked + j, r);
            visit(j, w, r);
            store_columns(weights + j, w);
            store_columns(walked + j, r);
        }
    }
}

/* Any other exponent than a whole one from 1 to 64; apart, because it is long. */
__device__ __noinline__ float any_power(float v, float exponent) { return powf(v, exponent); }

__device__ inline void power(float (&v)[EACH], float exponent, int whole)
{
    if (whole == 0) {
#pragma unroll
        for (int e = 0; e < EACH; e++)
            v[e] = any_power(v[e], exponent);
        return;
    }
    auto square = [&] {
#pragma unroll
        for (int e = 0; e < EACH; e++)
            v[e] *= v[e];
    };
#pragma unroll 1
    for (; !(whole & 1); whole >>= 1)
        square();
    float odd[EACH];
#pragma unroll
    for (int e = 0; e < EACH; e++)
        odd[e] = v[e];
#pragma unroll 1
    while (whole >>= 1) {
        square();
        if (whole & 1)
#pragma unroll
            for (int e = 0; e < EACH; e++)
                odd[e] *= v[e];
    }
#pragma unroll
    for (int e = 0; e < EACH; e++)
        v[e] = odd[e];
}

__device__ __noinline__ float any_quotient(float v, float by) { return v / by; }

/* v / by, correctly rounded: by a reciprocal that all share and one step of the remainder
 * (Markstein 1990), 64 octaves up, where no remainder is subnormal; by a division
 * where a quotient would be, or where something is out of the ordinary. |v| <= by. */
struct divisor {
    float by, inverse;
    bool ordinary;
    __device__ divisor(float value)
        : by(value), inverse(1.0f / value), ordinary(value >= 0x1p-60f && value <= 0x1p60f)
    {
    }

    template <int N>
    __device__ void divide(float (&v)[N]) const
    {
        float quotient[N];
        uint32_t least = 0xffffffff, signs = 0;
#pragma unroll
        for (int e = 0; e < N; e++) {
            float up = v[e] * 0x1p64f, about = up * inverse;
            quotient[e] = fmaf(fmaf(-about, by, up), inverse, about);
            least = min(least, __float_as_uint(quotient[e]) - 1); /* zero is no obstacle */
            signs |= __float_as_uint(v[e]);
            quotient[e] *= 0x1p-64f;
        }
        if (!ordinary || least < __float_as_uint(0x1p-62f) - 1 || signs >> 31)
#pragma unroll
            for (int e = 0; e < N; e++)
                quotient[e] = any_quotient(v[e], by);
#pragma unroll
        for (int e = 0; e < N; e++)
            v[e] = quotient[e];
    }
};

/* Whether the first `count` of v are there; without branches, as NOT_YET is the largest of all
 * bits. */
__device__ inline bool are_there(const float (&v)[EACH], int count = EACH)
{
    uint32_t most = 0;
#pragma unroll
    for (int e = 0; e < EACH; e++)
        most = max(most, e < count ? __float_as_uint(v[e]) : 0);
    return most != NOT_YET;
}

/* sum = Σ over the bands of the parts of the columns from j on, once all are there; their places
 * say NOT_YET again afterwards. */
__device__ inline void take_parts(const step_args &a, int j, float (&sum)[EACH])
{
#pragma unroll
    for (int e = 0; e < EACH; e++)
        sum[e] = 0;
#pragma unroll 1
    for (int band = j / BAND; band < a.bands; band += 2) { /* two are asked for at once */
        bool two = band + 1 < a.bands;
        float *from = a.part + (int64_t)band * a.in.ld + j, part[2][EACH] = {};
        do {
            load_columns_now(from, part[0]);
            if (two)
                load_columns_now(from + a.in.ld, part[1]);
        } while (!are_there(part[0]) | !are_there(part[1]));
#pragma unroll
        for (int e = 0; e < EACH; e++)
            sum[e] = (sum[e] + part[0][e]) + part[1][e];
        set_not_yet(from);
        if (two)
            set_not_yet(from + a.in.ld);
    }
}

/* What columns are: candidates, [lo, hi); other blocks before the query's own, which are forced; or
 * neither. */
template <bool ONE>
struct columns {
    int lo, hi, before; /* before: the query's own block */
    /* of the only turn, made before anybody waits, and kept (hide_origin): all bits or none */
    uint32_t candidate[EACH], forced[EACH];

    __device__ columns(const step_args &a)
        : lo(min(a.in.forced.sink, a.c)), hi(max(lo, a.c - a.in.forced.local + 1)), before(a.c)
    {
        if constexpr (ONE)
#pragma unroll
            for (int e = 0; e < EACH; e++) {
                int j = EACH * threadIdx.x + e;
                candidate[e] = hide_origin(has(j) ? ~0u : 0u);
                forced[e] = hide_origin(j < before && !has(j) ? ~0u : 0u);
            }
    }
    __device__ bool has(int j) const { return j >= lo && j < hi; }
    /* key where column j + e is a candidate, else 0; all bits where it is forced, else 0. */
    __device__ uint32_t of_candidate(int j, int e, uint32_t key) const
    {
        return ONE ? key & candidate[e] : has(j + e) ? key : 0;
    }
    __device__ uint32_t of_forced(int j, int e) const
    {
        return ONE ? forced[e] : j + e < before && !has(j + e) ? ~0u : 0u;
    }
};

/* The walk's row, out[0 … b), from logits and parts as they come: logits do first (3.2 µs at b =
 * 2048 beside 4.4), so the row of a is made of them while parts are under way. Their places say
 * NOT_YET again afterwards. Leaves the row in r and `walked` (each_turn); returns the least of the
 * candidates' keys. */
template <bool ONE>
__device__ uint32_t finish_row(const step_args &a, struct team &team, const columns<ONE> &of,
                               float *weights, float *walked, float (&r)[EACH])
{
    const struct sw_walk_step &in = a.in;
    const bool in_place = weights == a.logits;
    float x_c = in.x ? in.x[a.c] : 1.0f, *row = hide_origin(in.a + (int64_t)a.c * in.ld),
          *out = hide_origin(in.out), w[EACH];
    auto each = [&](auto visit) { each_turn<ONE>(a.b, w, r, weights, walked, visit); };

    float top = -INFINITY;
    each([&](int j, float(&logit)[EACH], float(&)[EACH]) {
        int count = a.b - j;
        if (count > 0) {
            do
                load_columns_now(a.logits + j, logit);
            while (!are_there(logit, count));
            if (!in_place)
                set_not_yet(a.logits + j);
        }
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            logit[e] = e < count ? logit[e] : -INFINITY;
            top = fmaxf(top, logit[e]);
        }
    });
    /* one instruction a warp, where shuffles take five */
    top = score_of_key(__reduce_max_sync(0xffffffffu, key_of_score(top)));
    float sum = 0, base = top == -INFINITY ? 0.0f : top;
    each([&](int, float(&logit)[EACH], float(&)[EACH]) {
        sum += (expf(logit[0] - base) + expf(logit[1] - base)) +
               (expf(logit[2] - base) + expf(logit[3] - base));
    });
    /* One exchange for maximum and sum, and exponentials once more against the team's maximum:
     * against a warp's own, equal logits of two warps could come out an ulp apart. */
    auto softmax = team.softmax_of(top, sum);
    /* keys: the row's largest; of the candidates' the least, inverted */
    uint32_t most = 0, least = 0;
    each([&](int j, float(&w)[EACH], float(&r)[EACH]) {
        if (j >= a.b)
            return;
#pragma unroll
        for (int e = 0; e < EACH; e++)
            w[e] = expf(w[e] - softmax.most) * softmax.inverse;
        power(w, in.exponent, a.whole_exponent);
        store_columns(row + j, w);
        float part[EACH];
        take_parts(a, j, part);
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            r[e] = x_c * w[e] + part[e];
            uint32_t key = key_of_score(r[e]);
            most = max(most, key);
            least = max(least, of.of_candidate(j, e, ~key));
            if (in_place)
                w[e] = __uint_as_float(NOT_YET);
        }
    });
    uint2 ends = team.max(most, least);
    float best = score_of_key(ends.x);
    const divisor scaling(best > 0 ? best : 1.0f);
    each([&](int j, float(&)[EACH], float(&r)[EACH]) {
        scaling.divide(r);
        if (j < a.b)
            store_columns(out + j, r);
    });
    /* Division keeps the order. Infinity over infinity is not a number, whose key is the least. */
    float worst[1] = {score_of_key(~ends.y)};
    scaling.divide(worst);
    return ends.y == 0xffffffffu || scaling.by == INFINITY ? 0 : key_of_score(worst[0]);
}

/* The scores of a thread's columns as keys of their order: those of the only turn, or of one after
 * the other. */
template <bool ONE>
struct row_keys {
    /* instead of keys, which lie between: not a number has 1 here */
    static constexpr uint32_t FORCED = 0xffffffff, NONE = 0;
    const columns<ONE> &of;
    const float *walked;
    uint32_t key[EACH];

    __device__ void make(int j, const float (&v)[EACH])
    {
#pragma unroll
        for (int e = 0; e < EACH; e++)
            key[e] = of.of_candidate(j, e, v[e] == v[e] ? key_of_score(v[e]) : NONE + 1) |
                     of.of_forced(j, e);
    }
    /* Of the columns from j on. */
    __device__ void read(int j)
    {
        float v[EACH] = {};
        if (j < of.before)
            load_columns(walked + j, v);
        make(j, v);
    }
    template <class F>
    __device__ void each(F visit)
    {
        int j0 = EACH * threadIdx.x;
#pragma unroll 1
        for (int j = j0; j < (ONE ? j0 + 1 : of.before); j += TURN) {
            if (!ONE)
                read(j);
#pragma unroll
            for (int e = 0; e < EACH; e++)
                visit(key[e]);
        }
    }
};

/* What is kept are the forced blocks, the candidates above the threshold, and of those that equal
 * it all but the first `skip`. */
struct cut {
    uint32_t threshold;
    int skip;
};

/* A search among the scores' keys: one look by bins, four a thread between the least and the
 * largest key, then thirds of the bin that holds the threshold, until just the wanted number lies
 * above. `least`: of the candidates' keys; none is above that of 1, the rescaled row's maximum. */
template <bool ONE>
__device__ struct cut find_cut(struct team &team, struct row_keys<ONE> &keys, int kept,
                               uint32_t least)
{
    int candidates = keys.of.hi - keys.of.lo, forced = keys.of.before - candidates,
        need = min(kept - forced, candidates);
    if (need <= 0)
        return {keys.FORCED, 0};
    struct team_shared *sh = team.sh;
    uint32_t threshold = max(least, keys.NONE + 1), top = key_of_score(1.0f) + 1;
    int above = candidates;
    if (above > need) {
        /* at most 128 · warps bins */
        int shift = max(0, 32 - __clz(top - 1 - threshold) - (7 + 31 - __clz(team.warps)));
        keys.each([&](uint32_t k) {
            if (k != keys.NONE && k != keys.FORCED)
                atomicAdd(&sh->bins[(k - threshold) >> shift], 1);
        });
        team.sync();
        int4 bins = *reinterpret_cast<const int4 *>(sh->bins + 4 * threadIdx.x);
        /* from: candidates in bins from mine on */
        int mine = (bins.x + bins.y) + (bins.z + bins.w), from = mine;
#pragma unroll
        for (int o = 1; o < 32; o *= 2) {
            int v = __shfl_down_sync(0xffffffffu, from, o);
            from += team.lane + o < 32 ? v : 0;
        }
        if (team.warps > 1) {
            uint32_t of_warp =
                team.exchange(make_uint2((uint32_t)__shfl_sync(0xffffffffu, from, 0), 0),
                              make_uint2(0, 0))
                    .x;
            from += (int)__reduce_add_sync(0xffffffffu, team.lane > team.warp ? of_warp : 0);
        }
        if (from - mine < need && need <= from) { /* one thread */
            int past3 = from - mine + bins.w, past2 = past3 + bins.z, past1 = past2 + bins.y;
            int at = past3 >= need ? 3 : past2 >= need ? 2 : past1 >= need ? 1 : 0;
            sh->found[0] = 4 * threadIdx.x + at;
            sh->found[1] = at == 3 ? past3 : at == 2 ? past2 : at == 1 ? past1 : from;
        }
        team.sync();
        /* shift <= 25 and top < 0xc0000000: no overflow */
        threshold += (uint32_t)sh->found[0] << shift;
        top = min(threshold + (1u << shift), top);
        above = sh->found[1];
    }
#pragma unroll 1
    while (above > need && top - threshold > 1) {
        uint32_t third = max((top - threshold) / 3, 1u), lower = threshold + third,
                 higher = min(lower + third, top - 1);
        int from_lower = 0, from_higher = 0; /* the forced ones with them */
        keys.each([&](uint32_t k) {
            from_lower += k >= lower;
            from_higher += k >= higher;
        });
        int2 n = team.sum(from_lower, from_higher);
        if (n.x - forced < need) {
            top = lower;
        } else if (n.y - forced < need) {
            threshold = lower;
            above = n.x - forced;
            top = higher;
        } else {
            threshold = higher;
            above = n.y - forced;
        }
    }
    return {threshold, above - need};
}

/* Everything from `bar` on is taken; where some of those that equal the threshold are too many,
 * they lie below it. */
template <bool ONE>
__device__ void write_entries(struct team &team, struct row_keys<ONE> &keys, struct cut cut,
                              int32_t *list)
{
    int skip = cut.skip, kept = 0, equal = 0;
    uint32_t bar = cut.threshold + (skip > 0), below = (1u << team.lane) - 1;
    const uint32_t(&key)[EACH] = keys.key;
#pragma unroll 1
    for (int chunk = 0; chunk < (ONE ? 1 : keys.of.before); chunk += TURN) {
        int j = chunk + EACH * (int)threadIdx.x;
        if (!ONE)
            keys.read(j);
        int taken = 0, takes = 0, tied = 0, ties = 0; /* before this thread, and its own */
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            taken += __popc(__ballot_sync(0xffffffffu, key[e] >= bar) & below);
            takes += key[e] >= bar;
        }
        if (skip > 0)
#pragma unroll
            for (int e = 0; e < EACH; e++) {
                tied += __popc(__ballot_sync(0xffffffffu, key[e] == cut.threshold) & below);
                ties += key[e] == cut.threshold;
            }
        if (!ONE || team.warps > 1) {
            /* a turn has 2,048 columns */
            uint32_t sum = __reduce_add_sync(0xffffffffu, (uint32_t)(takes + (ties << 16)));
            uint32_t of_warp = team.exchange(make_uint2(sum, 0), make_uint2(0, 0)).x;
            uint32_t before = __reduce_add_sync(0xffffffffu, team.lane < team.warp ? of_warp : 0),
                     all = __reduce_add_sync(0xffffffffu, of_warp);
            taken += kept + (int)(before & 0xffff);
            tied += equal + (int)(before >> 16);
            kept += (int)(all & 0xffff);
            equal += (int)(all >> 16);
        }
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            bool take = key[e] >= bar, tie = (skip > 0) & (key[e] == cut.threshold);
            int32_t *at = list + (taken + max(0, tied - skip));
            if (take | (tie & (tied >= skip)))
                __stcg(at, j + e);
            taken += take;
            tied += tie;
        }
    }
}

/* As select_top: block 0 and the last ones are forced, the best of the rest follow. */
template <bool ONE>
__device__ void finish_list(const step_args &a, struct team &team, const columns<ONE> &of,
                            const float (&r)[EACH], const float *walked, uint32_t least)
{
    int32_t *list = hide_origin(a.indices);
    struct row_keys<ONE> keys = {
        of, walked, {}
    };
    if (ONE)
        keys.make(EACH * threadIdx.x, r);
    write_entries<ONE>(team, keys, find_cut<ONE>(team, keys, a.in.kept, least), list);
    if (threadIdx.x == 0) {
        /* the query's own block is the last, always: so a prompt of full turns needs no turn
         * more */
        __stcg(list + a.in.kept, a.c);
        /* The next sequence's row begins where this one ends, and both say so. */
        int row = (int)(blockIdx.x + a.in.batch - gridDim.x), entries = a.in.kept + 1;
        a.indptr[0] = row * entries;
        a.indptr[1] = (row + 1) * entries;
    }
}

/* What the finisher does, all its threads, once the list's entries say NOT_YET; the workers'
 * results may come at any time. */
template <bool ONE>
__device__ inline void finish(const step_args &a, struct finish_shared<ONE> *sh)
{
    struct team team(min(TEAM, (a.b + 32 * EACH - 1) / (32 * EACH)), &sh->team);
    if (team.warp >= team.warps)
        return;
    *reinterpret_cast<int4 *>(sh->team.bins + 4 * threadIdx.x) = make_int4(0, 0, 0, 0);
    __syncwarp(); /* a team of several warps counts in them behind several exchanges */
    const columns<ONE> of(a);
    float r[EACH] = {}, *weights = nullptr, *walked = nullptr;
    if constexpr (!ONE) {
        bool fits = a.b <= MOST_SHARED;
        weights = fits ? sh->weights : a.logits;
        walked = fits ? sh->walked : a.in.out;
    }
    uint32_t least = finish_row<ONE>(a, team, of, weights, walked, r);
    finish_list<ONE>(a, team, of, r, walked, least);
    team.sync();
    if (threadIdx.x ==
        0) /* one thread's release holds for the team, which the barrier orders before it */
        asm volatile("st.release.gpu.global.u32 [%0], 1;" ::"l"(a.written) : "memory");
}

#endif
