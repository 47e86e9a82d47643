/* row_top.cuh: the best blocks of one row, by a team of warps that waits for nobody else. No row is
 * sorted: the threshold is searched for among the scores' keys. */
#ifndef SW_CUDA_ROW_TOP_CUH
#define SW_CUDA_ROW_TOP_CUH

#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/warp_team.cuh"
#include "kernels/cuda/selection/radix_select.cuh" /* the order of scores */

/* A CTA of TEAM_WARPS warps takes as many rows as it has teams; a team has a warp for 256
 * columns, at most all of them. A warp alone needs no barrier. */
static const int TEAM_WARPS = 8, TEAM_EACH = 8; /* columns a thread and turn */

struct row_team : warp_team<uint32_t, TEAM_WARPS> {
    using warp_team::warp_team;
    __device__ uint32_t max(uint32_t v)
    {
        v = __reduce_max_sync(0xffffffffu, v);
        return warps == 1 ? v : __reduce_max_sync(0xffffffffu, exchange(v, 0));
    }
    __device__ uint32_t sum(uint32_t v)
    {
        v = __reduce_add_sync(0xffffffffu, v);
        return warps == 1 ? v : __reduce_add_sync(0xffffffffu, exchange(v, 0));
    }
    /* The sum over the team's threads before this one; the whole sum to everyone. */
    __device__ uint32_t sum_before(uint32_t v, uint32_t *total)
    {
        uint32_t upto = v;
#pragma unroll
        for (int o = 1; o < 32; o *= 2) {
            uint32_t other = __shfl_up_sync(0xffffffffu, upto, o);
            if (lane >= o)
                upto += other;
        }
        uint32_t before = upto - v;
        *total = __shfl_sync(0xffffffffu, upto, 31);
        if (warps > 1) {
            uint32_t of_warp = exchange(*total, 0);
            before += __reduce_add_sync(0xffffffffu, lane < warp ? of_warp : 0);
            *total = __reduce_add_sync(0xffffffffu, of_warp);
        }
        return before;
    }
};

/* The ascending list of the blocks that row i keeps: what is outside the candidates [lo, hi), and
 * the best `need` candidates; of equal ones the last. Score j is at scores[j], or is j where scores
 * is NULL; PADDED: they lie in shared memory, where 16 bytes at once may be read up to a multiple
 * of eight. The whole team calls it. The threshold lies between the candidates' least and largest
 * key. A step counts the candidates above a key in between, guessed from the counts on both sides
 * and halved by turns, and the search ends as soon as just the wanted number lies above: 6 to 10
 * steps on average, of two instructions a column and one reduction (radix passes of eight bits have
 * their first two full of atomics on the same few exponents). The first turn's columns, 2048 where
 * the team is a whole CTA, stay in registers. */
template <bool PADDED>
__device__ inline void list_best(struct row_team &team, const float *scores, int i, int lo, int hi,
                                 int need, int32_t *list)
{
    const int turn = TEAM_EACH * team.threads(), j0 = TEAM_EACH * team.thread();
    auto candidate = [&](int j) { return j >= lo && j < hi; };
    auto read =
        [&](int j,
            uint32_t(&key)[TEAM_EACH]) { /* 0: no candidate, or not a number */
                                         float v[TEAM_EACH];
                                         if (PADDED) {
#pragma unroll
                                             for (int e = 0; e < TEAM_EACH; e += 4)
                                                 *reinterpret_cast<float4 *>(v + e) =
                                                     j <= i ? *reinterpret_cast<const float4 *>(
                                                                  scores + j + e)
                                                            : make_float4(0, 0, 0, 0);
                                         } else {
#pragma unroll
                                             for (int e = 0; e < TEAM_EACH; e++)
                                                 v[e] = scores && candidate(j + e) ? scores[j + e]
                                                                                   : (float)(j + e);
                                         }
#pragma unroll
                                         for (int e = 0; e < TEAM_EACH; e++)
                                             key[e] = candidate(j + e) ? key_of_score(v[e]) : 0;
        };
    /* of the first turn; least: of the inverted keys the largest */
    uint32_t key[TEAM_EACH], least = 0, most = 0;
    read(j0, key);
#pragma unroll
    for (int e = 0; e < TEAM_EACH; e++) {
        least = max(least, candidate(j0 + e) ? ~key[e] : 0);
        most = max(most, key[e]);
    }
#pragma unroll 1
    for (int j = j0 + turn; j < hi; j += turn) {
        uint32_t other[TEAM_EACH];
        read(j, other);
#pragma unroll
        for (int e = 0; e < TEAM_EACH; e++) {
            least = max(least, candidate(j + e) ? ~other[e] : 0);
            most = max(most, other[e]);
        }
    }
    uint32_t threshold = ~team.max(least), top = team.max(most) + 1;
    int above = hi - lo, beyond = 0; /* candidates from the threshold on, and from top on */
#pragma unroll 1
    for (bool guess = true; need > 0 && above > need && top - threshold > 1; guess = !guess) {
        uint32_t span = top - threshold,
                 step = guess ? (uint32_t)((float)span *
                                           ((float)(above - need) / (float)(above - beyond)))
                              : span / 2;
        uint32_t higher = threshold + min(max(step, 1u), span - 1), n = 0;
#pragma unroll
        for (int e = 0; e < TEAM_EACH; e++)
            n += key[e] >= higher;
#pragma unroll 1
        for (int j = j0 + turn; j < hi; j += turn) {
            uint32_t other[TEAM_EACH];
            read(j, other);
#pragma unroll
            for (int e = 0; e < TEAM_EACH; e++)
                n += other[e] >= higher;
        }
        int count = (int)team.sum(n);
        if (count >= need) {
            threshold = higher;
            above = count;
        } else {
            top = higher;
            beyond = count;
        }
    }
    /* Of those that equal the threshold, the first `skip` are too many; where none is wanted, all
     * are. */
    int skip = above - need, kept = 0, equal = 0;
    bool none = need <= 0;
#pragma unroll 1
    for (int chunk = 0; chunk <= i; chunk += turn) {
        int j = chunk + j0;
        if (chunk > 0)
            read(j, key);
        uint32_t takes = 0, ties = 0, total; /* bit e: column j + e */
#pragma unroll
        for (int e = 0; e < TEAM_EACH; e++) {
            takes |= (uint32_t)(candidate(j + e) ? !none && key[e] > threshold : j + e <= i) << e;
            ties |= (uint32_t)(candidate(j + e) && !none && key[e] == threshold) << e;
        }
        /* a turn has 2048 columns at most */
        uint32_t before =
            team.sum_before((uint32_t)__popc(takes) | (uint32_t)__popc(ties) << 16, &total);
        int taken = kept + (int)(before & 0xffff), tied = equal + (int)(before >> 16);
#pragma unroll
        for (int e = 0; e < TEAM_EACH; e++) {
            bool take = takes >> e & 1, tie = ties >> e & 1;
            if (take || (tie && tied >= skip))
                list[taken + max(0, tied - skip)] = j + e;
            taken += take;
            tied += tie;
        }
        kept += (int)(total & 0xffff);
        equal += (int)(total >> 16);
    }
}

#endif
