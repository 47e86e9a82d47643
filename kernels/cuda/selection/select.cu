/* Which blocks each row keeps: the best under a budget, and the native quantile rule of the
 * released code.
 *
 * No row is sorted. Under a budget a row is taken by a team of warps that searches for the
 * threshold (row_top.cuh): its scores are read once, 4 bytes an entry, 8.4 MB at b = 2048. The
 * quantile comes from radix passes over the scores' 32-bit keys, eight bits at a time (four
 * histograms in shared memory, integer atomics: the same counts in any order). */
#include <algorithm>
#include <cmath>

#include "kernels/cuda/device/dependent_launch.cuh"
#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/selection/list_starts.cuh"
#include "kernels/cuda/selection/radix_select.cuh"
#include "kernels/cuda/selection/row_top.cuh"

/* --- under a budget --------------------------------------------------------------------------- */

struct top_args {
    struct sw_unit_matrix scores;
    /* [rows + 1] entries before each row of a unit; NULL: one row, of `kept` entries */
    const int32_t *starts;
    int kept, row0, rows, sink, local;
    int32_t *indptr, *indices;
};

/* Where row r of unit u has its list, and how many blocks besides the diagonal are in it. */
struct place {
    int base, m;
};
__device__ inline struct place place_of(const top_args &a, int u, int r)
{
    int start = a.starts ? a.starts[r] : 0, kept = a.starts ? a.starts[r + 1] - start : a.kept;
    return {u * (a.starts ? a.starts[a.rows] : a.kept) + start, kept - 1};
}

/* Row r of unit u, whose scores are at `scores` (NULL: the score of j is j). */
template <bool PADDED>
__device__ inline void select_row(const top_args &a, struct row_team &team, int u, int r,
                                  struct place at, const float *scores)
{
    /* Candidates are [lo, hi); the rest is forced. */
    int i = a.row0 + r, lo = min(a.sink, i), hi = max(lo, i - a.local + 1);
    list_best<PADDED>(team, scores, i, lo, hi, min(at.m - (i - (hi - lo)), hi - lo),
                      a.indices + at.base);
    if (team.thread() == 0) {
        a.indptr[(int64_t)u * a.rows + r] = at.base;
        if (u == (int)gridDim.y - 1 && r == a.rows - 1)
            a.indptr[((int64_t)u + 1) * a.rows] = at.base + at.m + 1;
    }
}

/* This warp's team and, in *r, the team's row, long rows first; the team is as many of `each` warps
 * as have columns. */
__device__ inline struct row_team team_of(const top_args &a, int each, uint32_t *places, int *r)
{
    int warp = threadIdx.x >> 5;
    *r = a.rows - 1 - ((int)blockIdx.x * (TEAM_WARPS / each) + warp / each);
    return row_team(warp / each * each, min(each, (a.row0 + *r) / (32 * TEAM_EACH) + 1), places);
}
__device__ inline bool has_work(const struct row_team &team, int r)
{
    return r >= 0 && team.warp < team.warps;
}

__global__ void __launch_bounds__(32 * TEAM_WARPS, 4) select_top_rows(top_args a, int each)
{
    __shared__ uint32_t places[2 * TEAM_WARPS];
    int r, u = blockIdx.y;
    allow_dependents();
    struct row_team team = team_of(a, each, places, &r);
    wait_for_previous();
    if (has_work(team, r))
        select_row<false>(a, team, u, r, place_of(a, u, r),
                          a.scores.data ? unit_row(a.scores, u, r) : nullptr);
}

struct scale_args {
    const float *from; /* of the scores' shape, as out */
    float alpha, *out;
    int b;
    bool causal, fill; /* fill: nobody has written what is above the diagonal yet */
};
static inline __host__ __device__ int padded_row(int b)
{
    return (b + TEAM_EACH - 1) / TEAM_EACH * TEAM_EACH;
}

/* out = alpha · from, each row divided by its largest |entry|, and the row's selection from that; a
 * row a team, held in shared memory. 8 bytes an entry. */
__global__ void __launch_bounds__(32 * TEAM_WARPS, 4)
    scale_select_rows(top_args a, scale_args c, int each)
{
    extern __shared__ __align__(16) float held[]; /* [TEAM_WARPS / each][padded_row(b)] */
    __shared__ uint32_t places[2 * TEAM_WARPS];
    int r, u = blockIdx.y;
    allow_dependents();
    struct row_team team = team_of(a, each, places, &r);
    bool mine = has_work(team, r);
    struct place place = {0, 0};
    if (mine)
        place = place_of(a, u, r); /* sent before the first kernel of the chain began */
    wait_for_previous();
    if (!mine)
        return;
    int used = c.causal ? min(c.b, a.row0 + r + 1) : c.b, stride = team.threads();
    float *row = held + team.first / each * padded_row(c.b), top = 0;
    int64_t at = ((int64_t)u * a.scores.ld_rows + r) * a.scores.ld;
#pragma unroll 1
    /* all reads of a turn are asked for at once */
    for (int base = team.thread(); base < used; base += TEAM_EACH * stride) {
        float v[TEAM_EACH];
#pragma unroll
        for (int e = 0; e < TEAM_EACH; e++)
            v[e] = base + e * stride < used ? c.from[at + base + e * stride] : 0.0f;
#pragma unroll
        for (int e = 0; e < TEAM_EACH; e++)
            if (base + e * stride < used) {
                v[e] = c.alpha * v[e];
                row[base + e * stride] = v[e];
                top = fmaxf(top, fabsf(v[e]));
            }
    }
    top = score_of_key(team.max(key_of_score(top)));
#pragma unroll 4
    for (int j = team.thread(); j < used; j += stride) { /* the same ones as before */
        float v = top > 0 ? row[j] / top : row[j];
        row[j] = v;
        c.out[at + j] = v;
    }
    if (c.fill)
        for (int j = used + team.thread(); j < c.b; j += stride)
            c.out[at + j] = 0.0f;
    team.sync();
    select_row<true>(a, team, u, r, place, row);
}

/* Warps for a row of i + 1 <= columns blocks; a power of two. */
static int team_warps(int columns)
{
    int each = 1;
    while (each < TEAM_WARPS && each * 32 * TEAM_EACH < columns)
        each *= 2;
    return each;
}

/* Checks, room for the lists, and what the kernels need to know. */
static enum sw_status prepare_top(struct cuda_state *s, const struct sw_select_top *a,
                                  struct sw_selection *out, top_args *args)
{
    struct sw_backend *be = &s->be;
    REQUIRE(a->scores.units >= 1 && a->rows >= 1 && a->row0 >= 0 &&
                (!a->scores.data || sw_unit_holds(&a->scores, a->rows, a->row0 + a->rows)),
            "select_top");
    REQUIRE(a->forced.local >= 1 && a->forced.sink >= 0, "select_top");
    std::vector<int32_t> starts((size_t)a->rows + 1);
    int64_t total = 0;
    for (int r = 0; r < a->rows; r++) {
        int i = a->row0 + r, forced = std::min(i, a->forced.sink + a->forced.local - 1);
        if (a->budget[r] < forced || a->budget[r] > i)
            return SW_FAIL(SW_EINTERNAL, "select_top: row %d keeps %d blocks; expected %d to %d", i,
                           a->budget[r], forced, i);
        starts[(size_t)r] = (int32_t)total;
        total += a->budget[r] + 1;
    }
    if (total * a->scores.units > INT32_MAX)
        return SW_FAIL(SW_EUNSUPPORTED, "selection: %lld blocks are more than a list can hold",
                       (long long)(total * a->scores.units));
    starts[(size_t)a->rows] = (int32_t)total;
    SW_TRY(sw_cuda_selection_reserve(out, be, a->scores.units, a->rows, total * a->scores.units,
                                     false));
    out->block = a->block;
    out->n = a->n;
    out->n_q = a->n_q;
    out->row0 = a->row0;
    out->rows = a->rows;
    out->units = a->scores.units;
    void *device_starts = NULL;
    if (a->rows > 1) { /* the same budget serves all layers: it is sent once */
        SW_TRY(sw_cuda_scratch(s, SCRATCH_BUDGET, starts.size() * sizeof(int32_t), &device_starts));
        if (starts != s->budget) {
            s->budget.clear();
            SW_TRY(sw_cuda_memory_upload(s, device_starts, starts.data(),
                                         starts.size() * sizeof(int32_t)));
            s->budget.swap(starts);
        }
    }
    *args = {a->scores,       static_cast<const int32_t *>(device_starts),
             (int)total,      a->row0,
             a->rows,         a->forced.sink,
             a->forced.local, out->indptr,
             out->indices};
    return SW_OK;
}

enum sw_status sw_cuda_select_top(struct sw_backend *be, const struct sw_select_top *a,
                                  struct sw_selection *out)
{
    struct cuda_state *s = state_of(be);
    top_args args;
    SW_TRY(prepare_top(s, a, out, &args));
    int each = team_warps(a->row0 + a->rows);
    dim3 grid((unsigned)div_up(a->rows, TEAM_WARPS / each), (unsigned)a->scores.units);
    CUDA_TRY(s, dependent_launch(s, true, select_top_rows, grid, 32 * TEAM_WARPS, 0, args, each));
    LAUNCHED(s, "select_top");
    return SW_OK;
}

/* The product, then one kernel for the rest; without a product (beta = 0) that kernel alone; a
 * short prompt's rows in one kernel altogether. */
enum sw_status sw_cuda_walk_top(struct sw_backend *be, const struct sw_walk *w,
                                const struct sw_select_top *t, struct sw_selection *out)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(w->scale_rows && t->scores.data == w->out.data && t->scores.units == w->out.units &&
                t->scores.ld_rows == w->out.ld_rows && t->scores.ld == w->out.ld,
            "walk_top");
    REQUIRE(t->rows == w->rows && t->row0 == w->row0 && t->row0 + t->rows <= w->b &&
                (w->beta != 0.0f || w->anchor),
            "walk_top");
    int each = team_warps(w->b);
    size_t bytes = (size_t)(TEAM_WARPS / each) * (size_t)padded_row(w->b) * sizeof(float);
    /* rows in the shared memory that every kernel may have */
    if (w->rows <= 8 || bytes > (size_t)40 << 10) {
        SW_TRY(be->walk(be, w));
        return sw_cuda_select_top(be, t, out);
    }
    top_args args;
    SW_TRY(prepare_top(s, t, out, &args)); /* what it sends must not come between the kernels */
    scale_args scale = {w->out.data, 1.0f, w->out.data, w->b, w->causal, false};
    if (w->beta != 0.0f) {
        SW_TRY(sw_cuda_walk_product(s, w));
    } else {
        REQUIRE(sw_unit_holds(&w->out, w->rows, w->b) && w->out.data != w->x &&
                    w->out.data != w->a.data,
                "walk_top");
        scale.from = w->anchor;
        scale.alpha = w->alpha;
        scale.fill = true;
    }
    dim3 grid((unsigned)div_up(t->rows, TEAM_WARPS / each), (unsigned)t->scores.units);
    CUDA_TRY(s, dependent_launch(s, true, scale_select_rows, grid, 32 * TEAM_WARPS, (int)bytes,
                                 args, scale, each));
    LAUNCHED(s, "walk_top");
    return SW_OK;
}

/* --- the quantile rule ------------------------------------------------------------------------ */

enum { KEEP_NOT, KEEP_PART, KEEP_WHOLE };

struct quantile_args {
    struct sw_select_quantile q;
    double *thresholds; /* [units, rows] */
    int32_t *counts;    /* [units, rows] */
    int32_t *indptr, *indices;
    uint8_t *whole;
};

/* What the window and the sink keep of block j for the queries of block i (positions first …
 * last). */
__device__ inline int pairs_kept(const struct sw_select_quantile &q, int i, int j, int first,
                                 int last)
{
    int u0 = j * q.block, u1 = (j + 1) * q.block - 1;
    if (i == j) {
        if (q.window < 1) /* a query always sees itself */
            return KEEP_WHOLE;
        u1 = last;
    }
    if (last - u0 < q.window || u1 < q.sink)
        return KEEP_WHOLE;
    int nearest = i == j ? 0 : first - u1;
    return nearest < q.window || u0 < q.sink ? KEEP_PART : KEEP_NOT;
}

__device__ inline int quantile_keep(const struct sw_select_quantile &q, const float *scores,
                                    double threshold, int i, int j)
{
    bool end = j < q.sink_blocks || j > i - q.window_blocks;
    if (i >= q.dense_from || (double)scores[j] > threshold || (end && q.whole_ends))
        return KEEP_WHOLE;
    return pairs_kept(q, i, j, max(i * q.block, q.n - q.n_q), min((i + 1) * q.block, q.n) - 1);
}

/* Threshold and number of kept blocks of each row. */
__global__ void __launch_bounds__(THREADS) quantile_count(quantile_args a)
{
    __shared__ struct radix_shared sh;
    __shared__ int lanes[2][THREADS / 32];
    __shared__ uint32_t next;
    const struct sw_select_quantile &q = a.q;
    int r = blockIdx.x, u = blockIdx.y, i = q.row0 + r;
    const float *scores = unit_row(q.scores, u, r);
    int lo = q.sink_blocks, hi = i - q.window_blocks + 1;
    double threshold = INFINITY;
    struct pair_sum mine = {0, 0}, total;
    for (int j = lo + (int)threadIdx.x; j < hi; j += THREADS)
        mine.a += scores[j] == scores[j]; /* NaN is no candidate */
    (void)scan_pairs(mine, &total, lanes);
    int count = total.a;
    if (count > 0 && i < q.dense_from) {
        double place = q.quantile * (double)(count - 1);
        int below = min(max((int)floor(place), 0), count - 1);
        double part = place - below;
        int equal_needed;
        /* the `below`-th smallest, from 0 */
        uint32_t key = radix_select(scores, lo, hi, count - below, &equal_needed, &sh);
        if (threadIdx.x == 0)
            next = 0xffffffffu;
        __syncthreads();
        /* The next larger place holds the same key when another equal entry is left above, else the
         * smallest larger key. */
        bool same = equal_needed > 1;
        if (!same)
            for (int j = lo + (int)threadIdx.x; j < hi; j += THREADS) {
                uint32_t other = key_of_score(scores[j]);
                if (other > key)
                    atomicMin(&next, other);
            }
        __syncthreads();
        double v = (double)score_of_key(key);
        threshold = v;
        if (!same && next != 0xffffffffu && part > 0)
            threshold = v + ((double)score_of_key(next) - v) * part;
    }
    mine.a = 0;
    for (int j = threadIdx.x; j <= i; j += THREADS)
        mine.a += quantile_keep(q, scores, threshold, i, j) != KEEP_NOT;
    (void)scan_pairs(mine, &total, lanes);
    if (threadIdx.x == 0) {
        a.thresholds[(int64_t)u * q.rows + r] = threshold;
        a.counts[(int64_t)u * q.rows + r] = total.a;
    }
}

__global__ void __launch_bounds__(THREADS) quantile_fill(quantile_args a)
{
    __shared__ int lanes[2][THREADS / 32];
    const struct sw_select_quantile &q = a.q;
    int r = blockIdx.x, u = blockIdx.y, i = q.row0 + r;
    const float *scores = unit_row(q.scores, u, r);
    double threshold = a.thresholds[(int64_t)u * q.rows + r];
    int at = a.indptr[(int64_t)u * q.rows + r];
    for (int base = 0; base <= i; base += THREADS) {
        int j = base + (int)threadIdx.x;
        int keep = j <= i ? quantile_keep(q, scores, threshold, i, j) : KEEP_NOT;
        struct pair_sum mine = {keep != KEEP_NOT, 0}, total;
        struct pair_sum before = scan_pairs(mine, &total, lanes);
        if (keep != KEEP_NOT) {
            a.indices[at + before.a] = j;
            a.whole[at + before.a] = keep == KEEP_WHOLE;
        }
        at += total.a;
    }
}

enum sw_status sw_cuda_select_quantile(struct sw_backend *be, const struct sw_select_quantile *a,
                                       struct sw_selection *out)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(sw_unit_holds(&a->scores, a->rows, a->row0 + a->rows) && a->rows >= 1 && a->row0 >= 0 &&
                a->window_blocks >= 0 && a->sink_blocks >= 0,
            "select_quantile");
    int64_t rows = (int64_t)a->scores.units * a->rows,
            full = (int64_t)a->rows * (2 * (int64_t)a->row0 + a->rows + 1) / 2 * a->scores.units;
    if (full > INT32_MAX)
        return SW_FAIL(SW_EUNSUPPORTED, "selection: %lld blocks are more than a list can hold",
                       (long long)full);
    SW_TRY(sw_cuda_selection_reserve(out, be, a->scores.units, a->rows, full, true));
    out->block = a->block;
    out->n = a->n;
    out->n_q = a->n_q;
    out->row0 = a->row0;
    out->rows = a->rows;
    out->units = a->scores.units;
    out->window = a->window;
    out->sink = a->sink;
    void *room;
    SW_TRY(
        sw_cuda_scratch(s, SCRATCH_ROWS, (size_t)rows * (sizeof(double) + sizeof(int32_t)), &room));
    quantile_args k = {*a,
                       static_cast<double *>(room),
                       reinterpret_cast<int32_t *>(static_cast<double *>(room) + rows),
                       out->indptr,
                       out->indices,
                       out->whole};
    dim3 grid((unsigned)a->rows, (unsigned)a->scores.units);
    quantile_count<<<grid, THREADS, 0, queue_on(s)>>>(k);
    LAUNCHED(s, "select_quantile, count");
    list_starts<<<1, THREADS, 0, queue_on(s)>>>(k.counts, rows, out->indptr);
    LAUNCHED(s, "select_quantile, sum");
    quantile_fill<<<grid, THREADS, 0, queue_on(s)>>>(k);
    LAUNCHED(s, "select_quantile, fill");
    return SW_OK;
}
