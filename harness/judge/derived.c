#include "harness/judge/derived.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/interval.h"
#include "harness/store/result.h"

static bool is_whole(const struct sw_tidy_row *row, const char *metric)
{
    return row->layer < 0 && strcmp(row->metric, metric) == 0 && strcmp(row->status, "ok") == 0;
}

/* The same metric of `method` on the same inputs, beside as many dense layers. */
static bool is_counterpart(const struct sw_tidy_row *d, const struct sw_tidy_row *row,
                           const char *method)
{
    return is_whole(d, row->metric) && strcmp(d->method, method) == 0 &&
           d->context == row->context && d->seed == row->seed &&
           d->dense_layers == row->dense_layers && strcmp(d->workload, row->workload) == 0 &&
           strcmp(d->model, row->model) == 0 && strcmp(d->task, row->task) == 0 &&
           strcmp(d->phase, row->phase) == 0 && strcmp(d->backend, row->backend) == 0 &&
           strcmp(d->device, row->device) == 0;
}

const struct sw_tidy_row *sw_tidy_dense(const struct sw_tidy *tidy, const struct sw_tidy_row *row)
{
    for (int64_t i = 0; i < tidy->count; i++)
        if (is_counterpart(&tidy->rows[i], row, "dense"))
            return &tidy->rows[i];
    return NULL;
}

const struct sw_tidy_row *sw_tidy_one_hop(const struct sw_tidy *tidy, const struct sw_tidy_row *row)
{
    for (int64_t i = 0; i < tidy->count; i++)
        if (is_counterpart(&tidy->rows[i], row, "onehop") &&
            tidy->rows[i].density == row->density && strcmp(tidy->rows[i].budget, row->budget) == 0)
            return &tidy->rows[i];
    return NULL;
}

static enum sw_status read_samples(const char *results, const struct sw_tidy_row *row,
                                   double **values, int *n)
{
    struct sw_cell_reader *reader;
    SW_TRY(sw_cell_reader_open(results, row->cell, &reader));
    enum sw_status st = sw_cell_reader_samples(reader, row->metric, values, n);
    sw_cell_reader_close(reader);
    return st;
}

struct two_samples {
    double *a, *b;
    int n_a, n_b;
};

static enum sw_status read_two(const char *results, const struct sw_tidy_row *a,
                               const struct sw_tidy_row *b, struct two_samples *s)
{
    *s = (struct two_samples){0};
    SW_TRY(read_samples(results, a, &s->a, &s->n_a));
    return read_samples(results, b, &s->b, &s->n_b);
}

static void free_two(struct two_samples *s)
{
    free(s->a);
    free(s->b);
}

enum sw_status sw_tidy_difference(const char *results, const struct sw_tidy_row *row,
                                  const struct sw_tidy_row *dense, struct sw_interval *out)
{
    struct two_samples s;
    *out = (struct sw_interval){row->value - dense->value, NAN, NAN};
    enum sw_status st = read_two(results, row, dense, &s);
    if (st == SW_OK && s.n_a == s.n_b && s.n_a > 0)
        st = sw_interval_paired(s.a, s.b, s.n_a, (uint64_t)row->seed, out);
    free_two(&s);
    return st;
}

enum sw_status sw_tidy_ratio(const char *results, const struct sw_tidy_row *a,
                             const struct sw_tidy_row *b, struct sw_interval *out)
{
    struct two_samples s;
    *out = (struct sw_interval){NAN, NAN, NAN};
    enum sw_status st = read_two(results, a, b, &s);
    if (st == SW_OK)
        st = sw_interval_median_ratio(s.a, s.n_a, s.b, s.n_b, (uint64_t)b->seed, out);
    free_two(&s);
    return st;
}

enum sw_status sw_tidy_derive(const char *results, struct sw_tidy *tidy)
{
    int64_t losses = 0, added = 0;
    for (int64_t i = 0; i < tidy->count; i++)
        losses += is_whole(&tidy->rows[i], "nll");
    struct sw_tidy_row *rows =
        realloc(tidy->rows, (size_t)(tidy->count + losses + 1) * sizeof *rows);
    if (!rows)
        return SW_FAIL(SW_ENOMEM, "out of memory (tidy table)");
    tidy->rows = rows;
    const struct sw_metric_info *info = sw_metric_find("nll_delta");
    for (int64_t i = 0; i < tidy->count; i++) {
        if (!is_whole(&tidy->rows[i], "nll"))
            continue;
        const struct sw_tidy_row *dense = sw_tidy_dense(tidy, &tidy->rows[i]);
        if (!dense)
            continue;
        struct sw_interval difference;
        SW_TRY(sw_tidy_difference(results, &tidy->rows[i], dense, &difference));
        struct sw_tidy_row *row = &rows[tidy->count + added++];
        *row = tidy->rows[i];
        row->metric = info->name;
        row->unit = info->unit;
        row->value = difference.value;
        row->lo = difference.lo;
        row->hi = difference.hi;
    }
    tidy->count += added;
    return SW_OK;
}
