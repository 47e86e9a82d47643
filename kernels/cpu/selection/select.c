/* select.c: from scores to block lists, one row a task, by selection instead of sorting: O(i) a
 * row. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/device/cpu.h"
#include "kernels/cpu/selection/order.h"

static void describe(struct sw_selection *out, int block, int n, int n_q, int row0, int window,
                     int sink)
{
    out->block = block;
    out->n = n;
    out->n_q = n_q;
    out->row0 = row0;
    out->window = window;
    out->sink = sink;
}

/* --- top -------------------------------------------------------------------------------------- */

struct top {
    const struct sw_select_top *a;
    struct sw_selection *out;
    uint64_t *keys; /* [threads, row0 + rows] */
};

static void top_task(void *ctx, long task, int worker)
{
    const struct top *p = ctx;
    const struct sw_select_top *a = p->a;
    int unit = (int)(task / a->rows), row = (int)(task % a->rows), i = a->row0 + row;
    int32_t *to = p->out->indices + p->out->indptr[task];
    int left = a->budget[row] - sw_forced_count(a->forced, i);
    uint64_t *keys = p->keys + (size_t)worker * (size_t)(a->row0 + a->rows), threshold = UINT64_MAX;
    const float *scores =
        a->scores.data ? sw_unit_row(&a->scores, (size_t)unit, (size_t)row) : NULL;
    if (left > 0) {
        int n = 0;
        for (int j = 0; j < i; j++)
            if (!sw_forced_has(a->forced, i, j))
                keys[n++] = scores ? sw_key_of(scores[j], j) : (uint64_t)j;
        threshold = sw_kth_largest(keys, n, left - 1);
    }
    for (int j = 0; j < i; j++)
        if (sw_forced_has(a->forced, i, j) ||
            (scores ? sw_key_of(scores[j], j) : (uint64_t)j) >= threshold)
            *to++ = j;
    *to = i;
}

enum sw_status sw_cpu_select_top(struct sw_backend *be, const struct sw_select_top *a,
                                 struct sw_selection *out)
{
    CPU_NEED(a && out && a->budget && a->scores.units > 0 && a->rows > 0 && a->row0 >= 0 &&
             a->block > 0 && a->forced.sink >= 0 && a->forced.local >= 1);
    CPU_NEED(!a->scores.data || sw_unit_holds(&a->scores, a->rows, a->row0 + a->rows));
    int64_t per_unit = 0;
    for (int r = 0; r < a->rows; r++) {
        int i = a->row0 + r, m = a->budget[r];
        if (m < sw_forced_count(a->forced, i) || m > i)
            return SW_FAIL(SW_EINTERNAL, "select_top: row %d has a budget of %d blocks, forced %d",
                           i, m, sw_forced_count(a->forced, i));
        per_unit += m + 1;
    }
    if (per_unit * a->scores.units > INT32_MAX)
        return SW_FAIL(SW_EUNSUPPORTED, "select_top: %lld list entries; 32-bit offsets end at 2^31",
                       (long long)per_unit * a->scores.units);
    SW_TRY(
        sw_selection_reserve(out, be, a->scores.units, a->rows, per_unit * a->scores.units, false));
    describe(out, a->block, a->n, a->n_q, a->row0, 0, 0);
    int32_t at = 0;
    for (int u = 0; u < a->scores.units; u++)
        for (int r = 0; r < a->rows; r++) {
            out->indptr[(int64_t)u * a->rows + r] = at;
            at += a->budget[r] + 1;
        }
    out->indptr[(int64_t)a->scores.units * a->rows] = at;
    void *scratch;
    SW_TRY(sw_cpu_scratch(be, (size_t)be->threads * (size_t)(a->row0 + a->rows) * sizeof(uint64_t),
                          &scratch));
    struct top p = {.a = a, .out = out, .keys = scratch};
    sw_workers_run(cpu_of(be)->workers, (long)a->scores.units * a->rows, top_task, &p);
    sw_cpu_scratch_done(be);
    return SW_OK;
}

/* --- quantile --------------------------------------------------------------------------------- */

struct quantile {
    const struct sw_select_quantile *a;
    struct sw_selection *out;
    double *threshold; /* [units, rows] */
    int32_t *count;    /* [units, rows] */
    uint64_t *keys;    /* [threads, row0 + rows] */
};

static float score_of(uint64_t key)
{
    uint32_t u = (uint32_t)(key >> 32);
    u = (u & 0x80000000u) ? u & 0x7fffffffu : ~u;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Linear interpolation between order statistics, as numpy.nanquantile. +inf (nothing is above) when
 * there is no candidate. */
static double quantile_of(uint64_t *keys, int n, double q)
{
    if (n == 0)
        return INFINITY;
    double at = q * (n - 1);
    int below = (int)floor(at);
    if (below > n - 1)
        below = n - 1;
    double low = (double)score_of(sw_kth_largest(keys, n, n - 1 - below)), part = at - below;
    if (part <= 0 || below + 1 >= n)
        return low;
    double high = (double)score_of(sw_kth_largest(keys, n, n - 2 - below));
    return low + part * (high - low);
}

enum keep { NONE, PART, WHOLE };

/* What the window and the sink keep of block j for the queries first … last of block i. */
static enum keep pairs_kept(const struct sw_select_quantile *a, int i, int j, int first, int last)
{
    int u0 = j * a->block, u1 = (j + 1) * a->block - 1;
    if (i == j) {
        if (a->window < 1) /* a query always sees itself */
            return WHOLE;
        u1 = last;
    }
    if (last - u0 < a->window || u1 < a->sink)
        return WHOLE;
    int nearest = i == j ? 0 : first - u1;
    return nearest < a->window || u0 < a->sink ? PART : NONE;
}

/* First pass counts and keeps the threshold, second (p->count == NULL) writes. */
static void quantile_task(void *ctx, long task, int worker)
{
    const struct quantile *p = ctx;
    const struct sw_select_quantile *a = p->a;
    int unit = (int)(task / a->rows), row = (int)(task % a->rows), i = a->row0 + row;
    int first = i * a->block > a->n - a->n_q ? i * a->block : a->n - a->n_q,
        last = (i + 1) * a->block < a->n ? (i + 1) * a->block - 1 : a->n - 1;
    const float *scores = sw_unit_row(&a->scores, (size_t)unit, (size_t)row);
    bool dense = i >= a->dense_from;
    if (p->count) {
        uint64_t *keys = p->keys + (size_t)worker * (size_t)(a->row0 + a->rows);
        int n = 0;
        for (int j = a->sink_blocks; j <= i - a->window_blocks; j++)
            if (scores[j] == scores[j])
                keys[n++] = sw_key_of(scores[j], j);
        p->threshold[task] = quantile_of(keys, n, a->quantile);
    }
    int32_t kept = 0, *indices = p->count ? NULL : p->out->indices + p->out->indptr[task];
    uint8_t *whole = p->count ? NULL : p->out->whole + p->out->indptr[task];
    for (int j = 0; j <= i; j++) {
        bool end = j < a->sink_blocks || j > i - a->window_blocks;
        enum keep keep = dense || (double)scores[j] > p->threshold[task] || (end && a->whole_ends)
                             ? WHOLE
                             : pairs_kept(a, i, j, first, last);
        if (keep == NONE)
            continue;
        if (indices) {
            indices[kept] = j;
            whole[kept] = keep == WHOLE;
        }
        kept++;
    }
    if (p->count)
        p->count[task] = kept;
}

enum sw_status sw_cpu_select_quantile(struct sw_backend *be, const struct sw_select_quantile *a,
                                      struct sw_selection *out)
{
    CPU_NEED(a && out && a->rows > 0 && a->row0 >= 0 && a->block > 0);
    CPU_NEED(sw_unit_holds(&a->scores, a->rows, a->row0 + a->rows) &&
             a->n > (a->row0 + a->rows - 1) * (int64_t)a->block);
    CPU_NEED(a->sink_blocks >= 0 && a->window_blocks >= 0 && a->n_q > 0 && a->n_q <= a->n &&
             a->quantile >= 0 && a->quantile <= 1);
    size_t rows = (size_t)a->scores.units * (size_t)a->rows;
    void *scratch;
    SW_TRY(sw_cpu_scratch(be,
                          (size_t)be->threads * (size_t)(a->row0 + a->rows) * sizeof(uint64_t) +
                              rows * (sizeof(double) + sizeof(int32_t)),
                          &scratch));
    struct quantile p = {.a = a, .out = out, .keys = scratch};
    p.threshold = (double *)(void *)(p.keys + (size_t)be->threads * (size_t)(a->row0 + a->rows));
    int32_t *count = p.count = (int32_t *)(void *)(p.threshold + rows);
    sw_workers_run(cpu_of(be)->workers, (long)rows, quantile_task, &p);
    int64_t total = 0;
    for (size_t r = 0; r < rows; r++)
        total += count[r];
    enum sw_status st = SW_OK;
    if (total > INT32_MAX)
        st = SW_FAIL(SW_EUNSUPPORTED,
                     "select_quantile: %lld list entries; 32-bit offsets end at 2^31",
                     (long long)total);
    else
        st = sw_selection_reserve(out, be, a->scores.units, a->rows, total, true);
    if (st == SW_OK) {
        describe(out, a->block, a->n, a->n_q, a->row0, a->window, a->sink);
        int32_t at = 0;
        for (size_t r = 0; r < rows; r++) {
            out->indptr[r] = at;
            at += count[r];
        }
        out->indptr[rows] = at;
        p.count = NULL;
        sw_workers_run(cpu_of(be)->workers, (long)rows, quantile_task, &p);
    }
    sw_cpu_scratch_done(be);
    return st;
}
