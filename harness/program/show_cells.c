/* Finds the cells that `show` is asked for and puts them side by side. */
#include "harness/program/show_cells.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/nearest.h"
#include "harness/judge/label.h"

/* --- filters ---------------------------------------------------------------------------------- */

static bool is_dense(const struct sw_tidy_row *row) { return strcmp(row->method, "dense") == 0; }

enum { VALUE = 128 };
_Static_assert((int)VALUE >= (int)SW_DENSITY_TEXT, "a density fits");

static void task_of(const struct sw_tidy_row *row, char out[VALUE])
{
    snprintf(out, VALUE, "%s", row->task);
}
static void context_of(const struct sw_tidy_row *row, char out[VALUE])
{
    snprintf(out, VALUE, "%lld", (long long)row->context);
}
static void phase_of(const struct sw_tidy_row *row, char out[VALUE])
{
    snprintf(out, VALUE, "%s", row->phase);
}
static void method_of(const struct sw_tidy_row *row, char out[VALUE])
{
    snprintf(out, VALUE, "%s", row->method);
}
static void density_of(const struct sw_tidy_row *row, char out[VALUE])
{
    sw_density_text(row->density, out);
}

static const struct filter {
    const char *flag;
    void (*value_of)(const struct sw_tidy_row *row, char out[VALUE]);
    bool dense_stays, number;
} filters[] = {
    {"--task", task_of, false, false},     {"--context", context_of, false, true},
    {"--phase", phase_of, false, false},   {"--density", density_of, true, true},
    {"--method", method_of, false, false},
};

static bool same_value(const struct filter *filter, const char *have, const char *wanted)
{
    char *end;
    double number = strtod(wanted, &end), own = strtod(have, NULL);
    if (filter->number && *wanted && !*end && strcmp(have, "native") != 0)
        return fabs(number - own) <= 1e-9 * fabs(own);
    return strcmp(have, wanted) == 0;
}

static bool passes(const struct filter *filter, const struct sw_tidy_row *row,
                   const char *const *wanted, int n)
{
    char have[VALUE];
    filter->value_of(row, have);
    bool found = filter->dense_stays && is_dense(row);
    for (int i = 0; i < n && !found; i++)
        found = same_value(filter, have, wanted[i]);
    return found;
}

/* "a, b, c": the different values that the cells have. */
static const char *values_there(const struct filter *filter, const struct sw_show_cells *cells,
                                char *text, size_t size)
{
    text[0] = '\0';
    for (int i = 0; i < cells->count; i++) {
        char value[VALUE], other[VALUE];
        bool seen = filter->dense_stays && is_dense(cells->items[i].row);
        filter->value_of(cells->items[i].row, value);
        for (int j = 0; j < i && !seen; j++) {
            filter->value_of(cells->items[j].row, other);
            seen = strcmp(value, other) == 0;
        }
        if (!seen)
            snprintf(text + strlen(text), size - strlen(text), "%s%s", *text ? ", " : "", value);
    }
    return text;
}

static enum sw_status apply(const struct filter *filter, const struct sw_cli *cli,
                            struct sw_show_cells *cells)
{
    const char *wanted[SW_CLI_MAX];
    char there[400], shown[80];
    int n = sw_cli_values(cli, filter->flag, wanted), kept = 0;
    if (n == 0)
        return SW_OK;
    for (int w = 0; w < n; w++) { /* each that is asked for is there */
        int found = 0;
        for (int i = 0; i < cells->count; i++)
            found += passes(filter, cells->items[i].row, wanted + w, 1) &&
                     !(filter->dense_stays && is_dense(cells->items[i].row));
        if (found == 0)
            return SW_FAIL(SW_EINPUT, "show: %s: found %s, expected of what is there: %s",
                           filter->flag, sw_quote(wanted[w], shown, sizeof shown),
                           values_there(filter, cells, there, sizeof there));
    }
    for (int i = 0; i < cells->count; i++)
        if (passes(filter, cells->items[i].row, wanted, n))
            cells->items[kept++] = cells->items[i];
    cells->count = kept;
    return SW_OK;
}

/* --- labels ----------------------------------------------------------------------------------- */

/* "sketchwalk icml at 0.25": the label among these cells, and the density. */
static char *label_text(const struct sw_tidy_row *row, const struct sw_label *label)
{
    char density[SW_DENSITY_TEXT], *text = NULL;
    bool at = !is_dense(row) && !isnan(row->density);
    sw_density_text(row->density, density);
    int used = asprintf(&text, "%s%s%s", label->name,
                        at              ? " at "
                        : is_dense(row) ? ""
                                        : ", ",
                        is_dense(row) ? "" : density);
    return used < 0 ? NULL : text;
}

static enum sw_status label_cells(struct sw_show_cells *cells)
{
    const char **identities = calloc((size_t)cells->count + 1, sizeof *identities);
    struct sw_label *labels = NULL;
    enum sw_status st = identities ? SW_OK : SW_FAIL(SW_ENOMEM, "out of memory (labels)");
    for (int i = 0; i < cells->count && st == SW_OK; i++)
        identities[i] = cells->items[i].row->identity;
    if (st == SW_OK)
        st = sw_labels_make(identities, cells->count, &labels);
    for (int i = 0; i < cells->count && st == SW_OK; i++)
        if (!(cells->items[i].label = label_text(cells->items[i].row, &labels[i])))
            st = SW_FAIL(SW_ENOMEM, "out of memory (labels)");
    sw_labels_free(labels, cells->count);
    free(identities);
    return st;
}

/* --- order ------------------------------------------------------------------------------------ */

static int by_place(const struct sw_tidy_row *a, const struct sw_tidy_row *b)
{
    int c = strcmp(a->model, b->model);
    c = c ? c : strcmp(a->task, b->task);
    c = c ? c : (a->context > b->context) - (a->context < b->context);
    c = c ? c : strcmp(b->phase, a->phase); /* prefill, decode, both */
    c = c ? c : (a->dense_layers > b->dense_layers) - (a->dense_layers < b->dense_layers);
    return c ? c : (a->seed > b->seed) - (a->seed < b->seed);
}

static int by_place_dense_first(const void *left, const void *right)
{
    const struct sw_tidy_row *a = ((const struct sw_show_cell *)left)->row,
                             *b = ((const struct sw_show_cell *)right)->row;
    int c = by_place(a, b);
    c = c ? c : is_dense(b) - is_dense(a);
    return c ? c : (a > b) - (a < b); /* the table's own order: method, parameters, density */
}

int sw_show_same_place(const struct sw_show_cells *cells, int from)
{
    int n = 1;
    while (from + n < cells->count &&
           by_place(cells->items[from].row, cells->items[from + n].row) == 0)
        n++;
    return n;
}

/* Within each place, the methods as --method names them. */
static void order_as_asked(struct sw_show_cells *cells, const struct sw_cli *cli)
{
    const char *wanted[SW_CLI_MAX];
    int n = sw_cli_values(cli, "--method", wanted);
    struct sw_show_cell moved;
    for (int from = 0, size; n > 1 && from < cells->count; from += size) {
        size = sw_show_same_place(cells, from);
        for (int w = 0, to = from; w < n; w++)
            for (int i = to; i < from + size; i++)
                if (strcmp(cells->items[i].row->method, wanted[w]) == 0) {
                    moved = cells->items[i];
                    memmove(cells->items + to + 1, cells->items + to,
                            (size_t)(i - to) * sizeof moved);
                    cells->items[to++] = moved;
                }
    }
}

enum sw_status sw_show_cells_read(const char *results, const struct sw_cli *cli,
                                  struct sw_show_cells *out)
{
    *out = (struct sw_show_cells){0};
    SW_TRY(sw_tidy_read(results, &out->tidy));
    out->items = calloc((size_t)out->tidy->count + 1, sizeof *out->items);
    if (!out->items)
        return SW_FAIL(SW_ENOMEM, "out of memory (%lld rows)", (long long)out->tidy->count);
    for (int64_t i = 0; i < out->tidy->count; i++) {
        const struct sw_tidy_row *row = &out->tidy->rows[i];
        if (strcmp(row->workload, "task") == 0 && row->layer < 0 &&
            (strcmp(row->metric, "accuracy") == 0 || strcmp(row->metric, "nll") == 0))
            out->items[out->count++].row = row;
    }
    if (out->count == 0)
        return SW_FAIL(SW_EINPUT, "%s: no answers or losses of a task in it, nothing to show",
                       results);
    qsort(out->items, (size_t)out->count, sizeof *out->items, by_place_dense_first);
    for (size_t f = 0; f < sizeof filters / sizeof filters[0]; f++)
        SW_TRY(apply(&filters[f], cli, out));
    order_as_asked(out, cli);
    return label_cells(out);
}

void sw_show_cells_free(struct sw_show_cells *cells)
{
    for (int i = 0; i < cells->count; i++)
        free(cells->items[i].label);
    free(cells->items);
    sw_tidy_free(cells->tidy);
    *cells = (struct sw_show_cells){0};
}
