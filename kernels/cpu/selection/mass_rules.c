/* mass_rules.c: the best entries up to a share of a row's or a unit's scores: how many they are,
 * and marking them. Whole rows or units a task; sums that meet a threshold are fp64. */
#include <string.h>

#include "kernels/cpu/device/cpu.h"
#include "kernels/cpu/selection/order.h"

/* --- counting up to a sum --------------------------------------------------------------------- */

struct count {
    const struct sw_count_mass *a;
    uint64_t *keys; /* [threads, 2, n] */
};

/* How many of the sorted keys have inclusive sums of their scores <= limit. */
static size_t run_within(const uint64_t *keys, size_t n, const float *scores, double limit)
{
    double sum = 0;
    for (size_t x = 0; x < n; x++) {
        sum += (double)scores[sw_key_index(keys[x])];
        if (!(sum <= limit))
            return x;
    }
    return n;
}

static void count_task(void *ctx, long row, int worker)
{
    const struct count *p = ctx;
    const struct sw_count_mass *a = p->a;
    const float *in = a->in + (size_t)row * (size_t)a->ld;
    uint64_t *keys = p->keys + (size_t)worker * 2 * (size_t)a->n;
    for (int x = 0; x < a->n; x++)
        keys[x] = sw_key_of(in[x], (uint32_t)x);
    sw_sort_scores(keys, keys + a->n, (size_t)a->n);
    a->counts[row] = (int)run_within(keys, (size_t)a->n, in, a->limit);
}

enum sw_status sw_cpu_count_mass(struct sw_backend *be, const struct sw_count_mass *a)
{
    CPU_NEED(a && a->in && a->counts && a->rows > 0 && a->n > 0 && a->ld >= a->n);
    void *scratch;
    SW_TRY(sw_cpu_scratch(be, (size_t)be->threads * 2 * (size_t)a->n * sizeof(uint64_t), &scratch));
    struct count p = {.a = a, .keys = scratch};
    sw_workers_run(cpu_of(be)->workers, a->rows, count_task, &p);
    sw_cpu_scratch_done(be);
    return SW_OK;
}

/* --- shares of the scores --------------------------------------------------------------------- */

struct keep_mass {
    const struct sw_keep_mass *a;
    int cols;       /* row0 + rows */
    uint64_t *keys; /* [threads, 2, entries]: the most that one task sorts */
    size_t entries;
};

/* Best of the others until the forced blocks and they reach the share. late: REACH_LATE, in which
 * block 0 is one of the others. */
static void reach(const float *scores, int i, bool late, double limit, uint64_t *keys,
                  uint8_t *keep)
{
    int n = 0, first = late ? 0 : 1;
    double total = 0, kept = (double)scores[i] + (late || i == 0 ? 0.0 : (double)scores[0]);
    for (int j = 0; j <= i; j++)
        total += (double)scores[j];
    for (int j = i - 1; j >= first; j--) /* later blocks first: the sort is stable */
        keys[n++] = sw_key_of(scores[j], (uint32_t)j);
    sw_sort_scores(keys, keys + n, (size_t)n);
    keep[0] = keep[i] = 1;
    bool more = late && 0 < limit * total;
    for (int e = 0; e < n && (late ? more : kept < limit * total); e++) {
        uint32_t j = sw_key_index(keys[e]);
        more = kept < limit * total; /* behind the last one that is needed comes one more */
        keep[j] = 1;
        kept += (double)scores[j];
    }
}

static void within(const float *scores, int i, double limit, uint64_t *keys, uint8_t *keep)
{
    int n = 0;
    for (int j = i; j >= 0; j--)
        keys[n++] = sw_key_of(scores[j], (uint32_t)j);
    sw_sort_scores(keys, keys + n, (size_t)n);
    size_t count = run_within(keys, (size_t)n, scores, limit);
    for (size_t e = 0; e < (count > 0 ? count : 1); e++)
        keep[sw_key_index(keys[e])] = 1;
}

static void fraction(const float *scores, int i, double limit, uint8_t *keep)
{
    float top = scores[i];
    for (int j = 0; j < i; j++)
        top = scores[j] > top ? scores[j] : top;
    for (int j = 0; j <= i; j++)
        if ((double)scores[j] >= limit * (double)top)
            keep[j] = 1;
}

static void row_task(void *ctx, long task, int worker)
{
    const struct keep_mass *p = ctx;
    const struct sw_keep_mass *a = p->a;
    size_t unit = (size_t)(task / a->rows),
           at =
               (unit * (size_t)a->scores.ld_rows + (size_t)(task % a->rows)) * (size_t)a->scores.ld;
    int i = a->row0 + (int)(task % a->rows);
    uint64_t *keys = p->keys + (size_t)worker * 2 * p->entries;
    if (a->clear)
        memset(a->keep + at, 0, (size_t)p->cols);
    if (a->limit[unit] < 0)
        return;
    if (a->rule == SW_MASS_REACH || a->rule == SW_MASS_REACH_LATE)
        reach(a->scores.data + at, i, a->rule == SW_MASS_REACH_LATE, a->limit[unit], keys,
              a->keep + at);
    else if (a->rule == SW_MASS_FRACTION)
        fraction(a->scores.data + at, i, a->limit[unit], a->keep + at);
    else
        within(a->scores.data + at, i, a->limit[unit], keys, a->keep + at);
}

/* Entries of all rows together; an index counts in rows of ld, so that it finds score and keep
 * alike. */
static void unit_task(void *ctx, long unit, int worker)
{
    const struct keep_mass *p = ctx;
    const struct sw_keep_mass *a = p->a;
    const float *scores = sw_unit_row(&a->scores, (size_t)unit, 0);
    uint8_t *keep = a->keep + (scores - a->scores.data);
    size_t n = 0;
    uint64_t *keys = p->keys + (size_t)worker * 2 * p->entries;
    for (int row = 0; a->clear && row < a->rows; row++)
        memset(keep + (size_t)row * (size_t)a->scores.ld, 0, (size_t)p->cols);
    if (a->limit[unit] < 0)
        return;
    for (int row = a->rows - 1; row >= 0; row--)
        for (int j = a->row0 + row; j >= 0; j--) {
            uint32_t index = (uint32_t)row * (uint32_t)a->scores.ld + (uint32_t)j;
            keys[n++] = sw_key_of(scores[index], index);
        }
    sw_sort_scores(keys, keys + n, n);
    size_t count = run_within(keys, n, scores, a->limit[unit] * a->rows);
    for (size_t e = 0; e < count; e++)
        keep[sw_key_index(keys[e])] = 1;
}

enum sw_status sw_cpu_keep_mass(struct sw_backend *be, const struct sw_keep_mass *a)
{
    CPU_NEED(a && a->keep && a->limit && a->rows > 0 && a->row0 >= 0 &&
             sw_unit_holds(&a->scores, a->rows, a->row0 + a->rows));
    CPU_NEED((int64_t)a->rows * a->scores.ld <= UINT32_MAX);
    CPU_NEED(a->rule >= SW_MASS_REACH && a->rule <= SW_MASS_FRACTION);
    struct keep_mass p = {.a = a, .cols = a->row0 + a->rows};
    p.entries = a->rule == SW_MASS_UNIT ? (size_t)sw_selection_full_capacity(1, a->row0, a->rows)
                                        : (size_t)p.cols;
    void *scratch;
    SW_TRY(sw_cpu_scratch(be, (size_t)be->threads * 2 * p.entries * sizeof(uint64_t), &scratch));
    p.keys = scratch;
    if (a->rule == SW_MASS_UNIT)
        sw_workers_run(cpu_of(be)->workers, a->scores.units, unit_task, &p);
    else
        sw_workers_run(cpu_of(be)->workers, (long)a->scores.units * a->rows, row_task, &p);
    sw_cpu_scratch_done(be);
    return SW_OK;
}
