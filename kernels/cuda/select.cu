/* Which blocks each row keeps: the best under a budget, and the native quantile rule of the released code.
 *
 * No row is sorted. A radix pass over the scores' 32-bit keys, eight bits at a time, finds the threshold (four histograms in shared
 * memory, integer atomics: the same counts in any order); then each thread takes a run of consecutive blocks, one scan tells it where
 * its kept blocks go, and the list comes out ascending. One row a block; its scores are read six times, the first from device memory: 4 bytes
 * an entry, 8.4 MB at b = 2048. */
#include <algorithm>
#include <cmath>

#include "kernels/cuda/device.h"
#include "kernels/cuda/radix.cuh"

/* -------------------------------------------------------------------------------------------------- under a budget */

struct top_args {
    const float *scores;
    const int32_t *starts; /* [rows + 1] entries before each row of a unit; NULL: one row, of `kept` entries */
    int kept, row0, rows, ld, ld_rows, sink, local;
    int32_t *indptr, *indices;
};

__global__ void __launch_bounds__(THREADS) select_top_rows(top_args a)
{
    __shared__ struct radix_shared sh;
    __shared__ int lanes[2][THREADS / 32];
    int r = (int)gridDim.x - 1 - (int)blockIdx.x, u = blockIdx.y, i = a.row0 + r; /* long rows first */
    int start = a.starts ? a.starts[r] : 0, kept = a.starts ? a.starts[r + 1] - start : a.kept;
    int base = u * (a.starts ? a.starts[a.rows] : a.kept) + start, m = kept - 1;
    const float *scores = a.scores ? a.scores + ((int64_t)u * a.ld_rows + r) * a.ld : nullptr;
    /* Candidates are [lo, hi); the rest is forced. */
    int lo = min(a.sink, i), hi = max(lo, i - a.local + 1);
    int need = min(m - (i - (hi - lo)), hi - lo);
    uint32_t threshold = 0;
    int equal_needed = need;
    bool all = need >= hi - lo;
    if (scores && need > 0 && !all)
        threshold = radix_select(scores, lo, hi, need, &equal_needed, &sh);

    /* A run of blocks a thread: forced or better ones, and equal ones. */
    int run = (i + THREADS) / THREADS, j0 = min((int)threadIdx.x * run, i + 1), j1 = min(j0 + run, i + 1);
    struct pair_sum mine = {0, 0}, total;
    for (int j = j0; j < j1; j++) {
        bool candidate = j >= lo && j < hi;
        uint32_t key = candidate && scores ? key_of_score(scores[j]) : 0;
        if (!candidate || all || (need > 0 && key > threshold))
            mine.a++;
        else if (need > 0 && key == threshold)
            mine.b++;
    }
    struct pair_sum before = scan_pairs(mine, &total, lanes);
    /* Of the equal ones the last (largest j) equal_needed are kept. */
    int skip = total.b - (need > 0 && !all ? equal_needed : 0), equal = before.b;
    int32_t *out = a.indices + base + before.a + max(0, before.b - skip);
    for (int j = j0; j < j1; j++) {
        bool candidate = j >= lo && j < hi;
        uint32_t key = candidate && scores ? key_of_score(scores[j]) : 0;
        if (!candidate || all || (need > 0 && key > threshold))
            *out++ = j;
        else if (need > 0 && key == threshold && equal++ >= skip)
            *out++ = j;
    }
    if (threadIdx.x == 0) {
        a.indptr[(int64_t)u * a.rows + r] = base;
        if (u == (int)gridDim.y - 1 && r == a.rows - 1)
            a.indptr[((int64_t)u + 1) * a.rows] = base + m + 1;
    }
}

static enum sw_status select_top(struct sw_backend *be, const struct sw_select_top *a, struct sw_selection *out)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(a->units >= 1 && a->rows >= 1 && a->row0 >= 0 && (!a->scores || a->rows <= a->ld_rows), "select_top");
    REQUIRE(a->forced.local >= 1 && a->forced.sink >= 0, "select_top");
    std::vector<int32_t> starts((size_t)a->rows + 1);
    int64_t total = 0;
    for (int r = 0; r < a->rows; r++) {
        int i = a->row0 + r, forced = std::min(i, a->forced.sink + a->forced.local - 1);
        if (a->budget[r] < forced || a->budget[r] > i)
            return SW_FAIL(SW_EINTERNAL, "select_top: row %d keeps %d blocks; expected %d to %d", i, a->budget[r], forced, i);
        starts[(size_t)r] = (int32_t)total;
        total += a->budget[r] + 1;
    }
    if (total * a->units > INT32_MAX)
        return SW_FAIL(SW_EUNSUPPORTED, "selection: %lld blocks are more than a list can hold", (long long)(total * a->units));
    starts[(size_t)a->rows] = (int32_t)total;
    SW_TRY(sw_cuda_selection_reserve(out, be, a->units, a->rows, total * a->units, false));
    out->block = a->block;
    out->n = a->n;
    out->n_q = a->n_q;
    out->row0 = a->row0;
    out->rows = a->rows;
    out->units = a->units;
    void *device_starts = NULL;
    if (a->rows > 1) { /* the same budget serves all layers: it is sent once */
        SW_TRY(sw_cuda_scratch(s, SCRATCH_BUDGET, starts.size() * sizeof(int32_t), &device_starts));
        if (starts != s->budget) {
            s->budget.clear();
            SW_TRY(sw_cuda_upload(s, device_starts, starts.data(), starts.size() * sizeof(int32_t)));
            s->budget.swap(starts);
        }
    }
    top_args k = {a->scores, static_cast<const int32_t *>(device_starts), (int)total, a->row0, a->rows, a->ld, a->ld_rows, a->forced.sink,
                  a->forced.local, out->indptr, out->indices};
    select_top_rows<<<dim3((unsigned)a->rows, (unsigned)a->units), THREADS, 0, s->stream>>>(k);
    LAUNCHED(s, "select_top");
    return SW_OK;
}

/* ---------------------------------------------------------------------------------------------- the quantile rule */

enum { KEEP_NOT, KEEP_PART, KEEP_WHOLE };

struct quantile_args {
    struct sw_select_quantile q;
    double *thresholds; /* [units, rows] */
    int32_t *counts;    /* [units, rows] */
    int32_t *indptr, *indices;
    uint8_t *whole;
};

/* What the window and the sink keep of block j for the queries of block i (positions first … last). */
__device__ inline int pairs_kept(const struct sw_select_quantile &q, int i, int j, int first, int last)
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

__device__ inline int quantile_keep(const struct sw_select_quantile &q, const float *scores, double threshold, int i, int j)
{
    if (i >= q.dense_from || (j >= q.sink_blocks && j <= i - q.window_blocks && (double)scores[j] > threshold))
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
    const float *scores = q.scores + ((int64_t)u * q.ld_rows + r) * q.ld;
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
        uint32_t key = radix_select(scores, lo, hi, count - below, &equal_needed, &sh); /* the `below`-th smallest, from 0 */
        if (threadIdx.x == 0)
            next = 0xffffffffu;
        __syncthreads();
        /* The next larger place holds the same key when another equal entry is left above, else the smallest larger key. */
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

/* indptr = exclusive sums of counts; one block. */
__global__ void __launch_bounds__(THREADS) sum_counts(const int32_t *counts, int64_t rows, int32_t *indptr)
{
    __shared__ int lanes[2][THREADS / 32];
    int carry = 0;
    for (int64_t base = 0; base < rows; base += THREADS) {
        int64_t r = base + threadIdx.x;
        struct pair_sum mine = {r < rows ? counts[r] : 0, 0}, total;
        struct pair_sum before = scan_pairs(mine, &total, lanes);
        if (r < rows)
            indptr[r] = carry + before.a;
        carry += total.a;
    }
    if (threadIdx.x == 0)
        indptr[rows] = carry;
}

__global__ void __launch_bounds__(THREADS) quantile_fill(quantile_args a)
{
    __shared__ int lanes[2][THREADS / 32];
    const struct sw_select_quantile &q = a.q;
    int r = blockIdx.x, u = blockIdx.y, i = q.row0 + r;
    const float *scores = q.scores + ((int64_t)u * q.ld_rows + r) * q.ld;
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

static enum sw_status select_quantile(struct sw_backend *be, const struct sw_select_quantile *a, struct sw_selection *out)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(a->units >= 1 && a->rows >= 1 && a->rows <= a->ld_rows && a->window_blocks >= 0 && a->sink_blocks >= 0, "select_quantile");
    int64_t rows = (int64_t)a->units * a->rows, full = (int64_t)a->rows * (2 * (int64_t)a->row0 + a->rows + 1) / 2 * a->units;
    if (full > INT32_MAX)
        return SW_FAIL(SW_EUNSUPPORTED, "selection: %lld blocks are more than a list can hold", (long long)full);
    SW_TRY(sw_cuda_selection_reserve(out, be, a->units, a->rows, full, true));
    out->block = a->block;
    out->n = a->n;
    out->n_q = a->n_q;
    out->row0 = a->row0;
    out->rows = a->rows;
    out->units = a->units;
    out->window = a->window;
    out->sink = a->sink;
    void *room;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_ROWS, (size_t)rows * (sizeof(double) + sizeof(int32_t)), &room));
    quantile_args k = {*a, static_cast<double *>(room), reinterpret_cast<int32_t *>(static_cast<double *>(room) + rows), out->indptr,
                       out->indices, out->whole};
    dim3 grid((unsigned)a->rows, (unsigned)a->units);
    quantile_count<<<grid, THREADS, 0, s->stream>>>(k);
    LAUNCHED(s, "select_quantile, count");
    sum_counts<<<1, THREADS, 0, s->stream>>>(k.counts, rows, out->indptr);
    LAUNCHED(s, "select_quantile, sum");
    quantile_fill<<<grid, THREADS, 0, s->stream>>>(k);
    LAUNCHED(s, "select_quantile, fill");
    return SW_OK;
}

void sw_cuda_bind_select(struct sw_backend *be)
{
    be->select_top = select_top;
    be->select_quantile = select_quantile;
}
