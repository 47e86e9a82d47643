/* What a report is about: the cells of a folder, labelled and put in order. */
#include "harness/report/report_cells.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/judge/derived.h"
#include "harness/store/result.h"

const char *sw_report_text(struct sw_report *r, const char *fmt, ...)
{
    char *made = NULL;
    va_list ap;
    va_start(ap, fmt);
    int length = vasprintf(&made, fmt, ap);
    va_end(ap);
    if (r->status == SW_OK)
        r->status = length < 0 ? SW_FAIL(SW_ENOMEM, "out of memory (a text of the report)")
                               : sw_texts_add(&r->texts, made);
    if (length >= 0)
        free(made);
    return r->status == SW_OK ? r->texts.items[r->texts.count - 1] : "";
}

bool sw_report_is_ok(const struct sw_report_cell *cell)
{
    return strcmp(cell->row->status, sw_result_status_names[SW_RESULT_OK]) == 0;
}

bool sw_report_is_dense(const struct sw_report_cell *cell)
{
    return strcmp(cell->row->method, "dense") == 0;
}

const struct sw_label *sw_report_label(const struct sw_report *r, const struct sw_tidy_row *row)
{
    return &r->labels[r->cell_of[row - r->tidy->rows]];
}

const struct sw_tidy_row *sw_report_metric(const struct sw_report *r,
                                           const struct sw_report_cell *cell, const char *name)
{
    for (int64_t i = cell->from; i < cell->to; i++)
        if (r->tidy->rows[i].layer < 0 && strcmp(r->tidy->rows[i].metric, name) == 0)
            return &r->tidy->rows[i];
    return NULL;
}

void sw_report_line(const struct sw_report *r, const char *start, const char *line)
{
    printf("%s%s%s\n", r->latex ? "% " : "", start, line);
}

void sw_report_heading(const struct sw_report *r, const char *title)
{
    sw_report_line(r, r->latex ? "" : "## ", title);
    if (!r->latex)
        putchar('\n');
}

/* --- order ------------------------------------------------------------------------------------ */

static int compare_int(int64_t a, int64_t b) { return (a > b) - (a < b); }

static int compare_density(double a, double b) /* native last */
{
    return isnan(a) || isnan(b) ? (isnan(a) != 0) - (isnan(b) != 0) : (a > b) - (a < b);
}

/* Prefill before decode, short before long. */
static int compare_tables(const struct sw_report_cell *a, const struct sw_report_cell *b)
{
    int c = strcmp(a->row->workload, b->row->workload);
    c = c ? c : strcmp(a->row->model, b->row->model);
    c = c ? c : strcmp(b->row->phase, a->row->phase); /* prefill, decode, both */
    return c ? c : compare_int(a->row->context, b->row->context);
}

/* What was run otherwise apart; in each part dense first, and at equal density methods compare. */
static int compare_lines(const struct sw_report_cell *a, const struct sw_report_cell *b)
{
    int c = strverscmp(a->label->options, b->label->options);
    c = c ? c : sw_report_is_dense(b) - sw_report_is_dense(a);
    c = c ? c : compare_density(a->row->density, b->row->density);
    return c ? c : strverscmp(a->label->name, b->label->name);
}

static int reading_order(const void *left, const void *right)
{
    const struct sw_report_cell *a = left, *b = right;
    int c = compare_tables(a, b);
    c = c ? c : compare_lines(a, b);
    return c ? c : compare_int(a->from, b->from); /* the tidy table's own order: by task */
}

bool sw_report_same_table(const struct sw_report_cell *a, const struct sw_report_cell *b)
{
    return compare_tables(a, b) == 0;
}

bool sw_report_same_line(const struct sw_report_cell *a, const struct sw_report_cell *b)
{
    return compare_lines(a, b) == 0;
}

/* --- open and close --------------------------------------------------------------------------- */

static enum sw_status no_memory(const struct sw_tidy *tidy)
{
    return SW_FAIL(SW_ENOMEM, "out of memory (%lld rows)", (long long)tidy->count);
}

static enum sw_status collect(struct sw_report *r)
{
    const struct sw_tidy *tidy = r->tidy;
    r->cells = calloc((size_t)tidy->count + 1, sizeof *r->cells);
    r->cell_of = calloc((size_t)tidy->count + 1, sizeof *r->cell_of);
    if (!r->cells || !r->cell_of)
        return no_memory(tidy);
    for (int64_t i = 0; i < tidy->count; i++) {
        const struct sw_tidy_row *row = &tidy->rows[i];
        if (i == 0 || strcmp(row->cell, row[-1].cell) != 0)
            r->cells[r->n_cells++] = (struct sw_report_cell){.row = row, .from = i};
        r->cells[r->n_cells - 1].to = i + 1;
        r->cell_of[i] = r->n_cells - 1;
    }
    return r->n_cells
               ? SW_OK
               : SW_FAIL(SW_EINPUT, "%s: found no cells, expected results of a run", r->results);
}

static enum sw_status label(struct sw_report *r)
{
    const char **identities = calloc((size_t)r->n_cells + 1, sizeof *identities);
    if (!identities)
        return no_memory(r->tidy);
    for (int i = 0; i < r->n_cells; i++)
        identities[i] = r->cells[i].row->identity;
    enum sw_status st = sw_labels_make(identities, r->n_cells, &r->labels);
    for (int i = 0; i < r->n_cells && st == SW_OK; i++)
        r->cells[i].label = &r->labels[i];
    free(identities);
    return st;
}

enum sw_status sw_report_open(const char *results, bool latex, struct sw_report *out)
{
    *out = (struct sw_report){.results = results, .latex = latex};
    SW_TRY(sw_derived_read(results, &out->tidy, NULL));
    SW_TRY(sw_same_make(out->tidy, &out->same));
    SW_TRY(collect(out));
    SW_TRY(label(out));
    qsort(out->cells, (size_t)out->n_cells, sizeof *out->cells, reading_order);
    return SW_OK;
}

void sw_report_close(struct sw_report *r)
{
    sw_labels_free(r->labels, r->n_cells);
    sw_same_free(r->same);
    sw_tidy_free(r->tidy);
    sw_texts_clear(&r->texts);
    free(r->cells);
    free(r->cell_of);
}
