/* Figures made of two cells. */
#include "harness/judge/derived.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/judge/same.h"
#include "harness/store/result.h"

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

enum sw_status sw_derived_difference(const char *results, const struct sw_tidy_row *row,
                                     const struct sw_tidy_row *other, struct sw_interval *out)
{
    struct two_samples s;
    *out = (struct sw_interval){row->value - other->value, NAN, NAN};
    enum sw_status st = read_two(results, row, other, &s);
    if (st == SW_OK && s.n_a == s.n_b && s.n_a > 0)
        st = sw_interval_paired(s.a, s.b, s.n_a, (uint64_t)row->seed, out);
    free_two(&s);
    return st;
}

enum sw_status sw_derived_ratio(const char *results, const struct sw_tidy_row *a,
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

/* The row of the loss's difference with dense, in *out; *made: there is a dense counterpart. */
static enum sw_status derive_row(const char *results, const struct sw_same *same,
                                 const struct sw_tidy_row *loss, struct sw_tidy_row *out,
                                 bool *made)
{
    const struct sw_metric_info *info = sw_metric_find("nll_delta");
    const struct sw_tidy_row *dense = sw_same_dense(same, loss);
    struct sw_interval x;
    *made = dense != NULL;
    if (!dense)
        return SW_OK;
    SW_TRY(sw_derived_difference(results, loss, dense, &x));
    *out = *loss;
    out->metric = info->name;
    out->unit = info->unit;
    out->value = x.value;
    out->lo = x.lo;
    out->hi = x.hi;
    return SW_OK;
}

static bool is_loss(const struct sw_tidy_row *row)
{
    return row->layer < 0 && strcmp(row->metric, "nll") == 0 &&
           strcmp(row->status, sw_result_status_names[SW_RESULT_OK]) == 0;
}

static enum sw_status derive(const char *results, struct sw_tidy *tidy)
{
    int64_t losses = 0, n = 0;
    for (int64_t i = 0; i < tidy->count; i++)
        losses += is_loss(&tidy->rows[i]);
    struct sw_tidy_row *rows =
        realloc(tidy->rows, (size_t)(tidy->count + losses + 1) * sizeof *rows);
    if (!rows)
        return SW_FAIL(SW_ENOMEM, "out of memory (tidy table)");
    tidy->rows = rows;
    struct sw_same *same;
    SW_TRY(sw_same_make(tidy, &same));
    enum sw_status st = SW_OK;
    for (int64_t i = 0; i < tidy->count && st == SW_OK; i++) {
        bool made = false;
        if (is_loss(&rows[i]))
            st = derive_row(results, same, &rows[i], &rows[tidy->count + n], &made);
        n += made;
    }
    sw_same_free(same);
    if (st == SW_OK)
        tidy->count += n;
    return st;
}

enum sw_status sw_derived_read(const char *results, struct sw_tidy **out, struct sw_texts *damaged)
{
    SW_TRY(sw_tidy_read_intact(results, out, damaged));
    enum sw_status st = derive(results, *out);
    if (st == SW_OK) {
        sw_tidy_sort(*out);
    } else {
        sw_tidy_free(*out);
        *out = NULL;
    }
    return st;
}
