/* The cells of the two folders of a comparison, and which belong together. */
#include <stdlib.h>
#include <string.h>

#include "harness/judge/compare_parts.h"

/* --- the cells of a folder -------------------------------------------------------------------- */

void sw_compare_clear_side(struct sw_compare_side *s)
{
    sw_labels_free(s->labels, s->n);
    for (int i = 0; i < s->n; i++) {
        free(s->cells[i].experiment);
        free(s->cells[i].identity);
        free(s->cells[i].input);
        free(s->cells[i].kernels);
    }
    free(s->cells);
    free(s->cell_of);
    free(s->by_experiment);
    sw_same_free(s->same);
    sw_tidy_free(s->tidy);
}

/* "isa=avx2 threads=2 blas=…" without its threads. */
static void drop_threads(char *details)
{
    char *at = strstr(details, "threads=");
    if (!at || (at > details && at[-1] != ' '))
        return;
    char *end = at + strcspn(at, " ");
    end += *end == ' ';
    memmove(at, end, strlen(end) + 1);
}

static enum sw_status describe_cell(const struct sw_compare_side *side,
                                    struct sw_compared_cell *cell)
{
    struct sw_cell_reader *reader = NULL;
    enum sw_status st;
    SW_TRY(sw_cell_reader_open(side->results, cell->row->cell, &reader));
    SW_TRY_GOTO(st, out, sw_cell_reader_provenance(reader, "identity", &cell->identity));
    SW_TRY_GOTO(st, out, sw_cell_reader_provenance(reader, "backend", &cell->kernels));
    SW_TRY_GOTO(st, out, sw_cell_reader_threads(reader, &cell->threads));
    drop_threads(cell->kernels);
    SW_TRY_GOTO(st, out, sw_same_across_code(cell->identity, &cell->experiment, &cell->input));
out:
    sw_cell_reader_close(reader);
    return st == SW_OK ? st : sw_context(st, "%s, cell %s", side->results, cell->row->cell);
}

static enum sw_status label_cells(struct sw_compare_side *side)
{
    const char **identities = calloc((size_t)side->n + 1, sizeof *identities);
    if (!identities)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d cells)", side->n);
    for (int i = 0; i < side->n; i++)
        identities[i] = side->cells[i].identity;
    enum sw_status st = sw_labels_make(identities, side->n, &side->labels);
    for (int i = 0; i < side->n && st == SW_OK; i++)
        side->cells[i].label = side->labels[i].full;
    free(identities);
    return st;
}

static int by_experiment(const void *left, const void *right)
{
    const struct sw_compared_cell *a = *(struct sw_compared_cell *const *)left,
                                  *b = *(struct sw_compared_cell *const *)right;
    int c = strcmp(a->experiment, b->experiment);
    return c ? c : (a > b) - (a < b);
}

static enum sw_status collect_cells(struct sw_compare_side *side)
{
    const struct sw_tidy *tidy = side->tidy;
    side->cells = calloc((size_t)tidy->count + 1, sizeof *side->cells);
    side->cell_of = calloc((size_t)tidy->count + 1, sizeof *side->cell_of);
    side->by_experiment = calloc((size_t)tidy->count + 1, sizeof(struct sw_compared_cell *));
    if (!side->cells || !side->cell_of || !side->by_experiment)
        return SW_FAIL(SW_ENOMEM, "out of memory (%lld rows)", (long long)tidy->count);
    for (int64_t i = 0; i < tidy->count; i++) {
        if (i == 0 || strcmp(tidy->rows[i].cell, tidy->rows[i - 1].cell) != 0) {
            side->by_experiment[side->n] = &side->cells[side->n];
            side->cells[side->n++] = (struct sw_compared_cell){.row = &tidy->rows[i], .from = i};
        }
        side->cells[side->n - 1].to = i + 1;
        side->cell_of[i] = side->n - 1;
    }
    return side->n
               ? SW_OK
               : SW_FAIL(SW_EINPUT, "%s: found no cells, expected results of a run", side->results);
}

enum sw_status sw_compare_read_side(const char *results, struct sw_compare_side *side)
{
    side->results = results;
    SW_TRY(sw_tidy_read(results, &side->tidy));
    SW_TRY(sw_same_make(side->tidy, &side->same));
    SW_TRY(collect_cells(side));
    for (int i = 0; i < side->n; i++)
        SW_TRY(describe_cell(side, &side->cells[i]));
    qsort(side->by_experiment, (size_t)side->n, sizeof(struct sw_compared_cell *), by_experiment);
    return label_cells(side);
}

const struct sw_tidy_row *sw_compare_row(const struct sw_compare_side *side,
                                         const struct sw_compared_cell *cell, const char *metric)
{
    for (int64_t i = cell->from; i < cell->to; i++)
        if (side->tidy->rows[i].layer < 0 && strcmp(side->tidy->rows[i].metric, metric) == 0)
            return &side->tidy->rows[i];
    return NULL;
}

/* --- partners --------------------------------------------------------------------------------- */

static int likeness(const struct sw_compared_cell *a, const struct sw_compared_cell *b)
{
    return 8 * (strcmp(a->input, b->input) == 0) +
           4 * (strcmp(a->row->device, b->row->device) == 0) +
           2 * (strcmp(a->kernels, b->kernels) == 0) + (a->threads == b->threads);
}

/* The first cell of NEW that is not before `experiment` in its order. */
static int first_of(const struct sw_compare_side *side, const char *experiment)
{
    int low = 0, high = side->n;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (strcmp(side->by_experiment[middle]->experiment, experiment) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Of several cells of the experiment (a folder that was merged from machines) the one made most
 * alike. */
static struct sw_compared_cell *find_partner(const struct sw_compare_side *side,
                                             const struct sw_compared_cell *cell)
{
    struct sw_compared_cell *best = NULL;
    for (int i = first_of(side, cell->experiment);
         i < side->n && strcmp(side->by_experiment[i]->experiment, cell->experiment) == 0; i++) {
        struct sw_compared_cell *other = side->by_experiment[i];
        if (!other->partner && (!best || likeness(cell, other) > likeness(cell, best)))
            best = other;
    }
    return best;
}

void sw_compare_pair_cells(struct sw_compare_side *base_side, struct sw_compare_side *now)
{
    for (int i = 0; i < base_side->n; i++) {
        struct sw_compared_cell *base = &base_side->cells[i];
        base->partner = find_partner(now, base);
        if (base->partner)
            base->partner->partner = base;
    }
}
