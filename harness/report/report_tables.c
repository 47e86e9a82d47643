/* The tables of a report: one for each model, phase and context; a line for each method, with
 * columns of each task's scores and of what is measured on all. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/judge/derived.h"
#include "harness/report/report_cells.h"
#include "harness/report/table.h"

/* --- figures as text -------------------------------------------------------------------------- */

static int decimals(double value)
{
    double size = fabs(value);
    return size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3;
}

static const char *number(struct sw_report *r, double value, int places)
{
    return isfinite(value) ? sw_report_text(r, "%.*f", places, value) : "";
}

/* "0.021 [0.004, 0.038]"; a difference has a sign; `suffix` follows the value. */
static const char *interval(struct sw_report *r, struct sw_interval x, bool with_sign, int places,
                            const char *suffix)
{
    if (!isfinite(x.value))
        return "";
    if (!isfinite(x.lo) || !isfinite(x.hi))
        return sw_report_text(r, with_sign ? "%+.*f%s" : "%.*f%s", places, x.value, suffix);
    return sw_report_text(r, with_sign ? "%+.*f%s [%+.*f, %+.*f]" : "%.*f%s [%.*f, %.*f]", places,
                          x.value, suffix, places, x.lo, places, x.hi);
}

static const char *percent(struct sw_report *r, double share)
{
    return isfinite(share) ? sw_report_text(r, "%.1f %%", 100 * share) : "";
}

/* --- a table ---------------------------------------------------------------------------------- */

struct group {
    const struct sw_report_cell *cells; /* of the table; those without a result among them */
    int n_cells;
    const char **tasks;
    int n_tasks;
    const struct sw_report_cell **lines; /* [n_lines * n_tasks]; NULL: not run */
    int n_lines;
    /* labels of the dense cells that speed-ups are over, by what the config names; [1]: and has */
    struct sw_texts baselines[SW_BASELINES][2];
};

static void free_group(struct group *g)
{
    free(g->tasks);
    free(g->lines);
    for (int i = 0; i < SW_BASELINES; i++)
        for (int kernel = 0; kernel < 2; kernel++)
            sw_texts_clear(&g->baselines[i][kernel]);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum sw_status list_tasks(struct group *g)
{
    int n = 0;
    g->tasks = calloc((size_t)g->n_cells + 1, sizeof *g->tasks);
    if (!g->tasks)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d cells)", g->n_cells);
    for (int i = 0; i < g->n_cells; i++)
        if (sw_report_is_ok(&g->cells[i]))
            g->tasks[n++] = g->cells[i].row->task;
    qsort(g->tasks, (size_t)n, sizeof *g->tasks, by_text);
    for (int i = 0; i < n; i++)
        if (g->n_tasks == 0 || strcmp(g->tasks[g->n_tasks - 1], g->tasks[i]) != 0)
            g->tasks[g->n_tasks++] = g->tasks[i];
    return SW_OK;
}

static int task_at(const struct group *g, const char *task)
{
    const char **found = bsearch(&task, g->tasks, (size_t)g->n_tasks, sizeof *g->tasks, by_text);
    return (int)(found - g->tasks);
}

/* Cells of one line follow one another, each of another task. */
static enum sw_status fill_lines(struct group *g)
{
    const struct sw_report_cell *last = NULL;
    g->lines = calloc((size_t)g->n_cells * (size_t)g->n_tasks + 1, sizeof *g->lines);
    if (!g->lines)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d cells)", g->n_cells);
    for (int i = 0; i < g->n_cells; i++) {
        const struct sw_report_cell *cell = &g->cells[i];
        if (!sw_report_is_ok(cell))
            continue;
        int task = task_at(g, cell->row->task);
        const struct sw_report_cell **line = g->lines + (g->n_lines - 1) * g->n_tasks;
        if (!last || !sw_report_same_line(last, cell) || line[task])
            line = g->lines + g->n_lines++ * g->n_tasks;
        line[task] = last = cell;
    }
    return SW_OK;
}

static const struct sw_report_cell *const *line_of(const struct group *g, int line)
{
    return g->lines + line * g->n_tasks;
}

static const struct sw_report_cell *first_of(const struct group *g, int line)
{
    const struct sw_report_cell *const *cells = line_of(g, line);
    while (!*cells)
        cells++;
    return *cells;
}

/* --- what a line shows ------------------------------------------------------------------------ */

/* Mean over the tasks of a line. */
static double mean_metric(const struct sw_report *r, const struct group *g, int line,
                          const char *name)
{
    double sum = 0;
    int n = 0;
    for (int t = 0; t < g->n_tasks; t++) {
        const struct sw_report_cell *cell = line_of(g, line)[t];
        const struct sw_tidy_row *row = cell ? sw_report_metric(r, cell, name) : NULL;
        if (row && isfinite(row->value)) {
            sum += row->value;
            n++;
        }
    }
    return n ? sum / n : NAN;
}

/* Difference with a counterpart on the same windows or prompts. */
static const char *difference(struct sw_report *r, const struct sw_report_cell *cell,
                              const char *name,
                              const struct sw_tidy_row *(*counterpart)(const struct sw_same *,
                                                                       const struct sw_tidy_row *),
                              int places)
{
    const struct sw_tidy_row *row = sw_report_metric(r, cell, name),
                             *other = row ? counterpart(r->same, row) : NULL;
    struct sw_interval x;
    if (!other || other == row || r->status != SW_OK)
        return "";
    r->status = sw_derived_difference(r->results, row, other, &x);
    return r->status == SW_OK ? interval(r, x, true, places, "") : "";
}

static void note_baseline(struct sw_report *r, struct group *g, const char *asked, bool kernel,
                          const struct sw_tidy_row *dense)
{
    const char *name = sw_report_label(r, dense)->name;
    int word = 0; /* one that this version does not know counts as none */
    for (int i = 0; i < SW_BASELINES; i++)
        word = strcmp(sw_baseline_names[i], asked) == 0 ? i : word;
    struct sw_texts *names = &g->baselines[word][kernel];
    if (r->status == SW_OK && !sw_texts_have(names, name))
        r->status = sw_texts_add(names, name);
}

/* Dense time / time, over the baseline among each task's conditions. With one task, from the raw
 * samples and with an interval. */
static const char *speed_up(struct sw_report *r, struct group *g, int line, const char *name)
{
    double ours = 0, theirs = 0;
    struct sw_interval x = {NAN, NAN, NAN};
    for (int t = 0; t < g->n_tasks; t++) {
        bool kernel;
        const struct sw_report_cell *cell = line_of(g, line)[t];
        const struct sw_tidy_row *row = cell ? sw_report_metric(r, cell, name) : NULL,
                                 *dense = row ? sw_same_baseline(r->same, row, &kernel) : NULL;
        if (!dense || dense == row || !isfinite(row->value))
            continue;
        ours += row->value;
        theirs += dense->value;
        note_baseline(r, g, row->baseline, kernel, dense);
        if (g->n_tasks == 1 && r->status == SW_OK)
            r->status = sw_derived_ratio(r->results, dense, row, &x);
    }
    if (!isfinite(x.value))
        x.value = theirs / ours;
    return interval(r, x, false, 2, "×");
}

/* The columns after the tasks' own. Times of the other phase are empty, and empty columns are not
 * printed. */
enum figure_kind { FIGURE, SPEED_UP, SHARE };
static const struct {
    const char *title, *metric;
    enum figure_kind kind;
} figures[] = {
    {"block recall", "block_recall", FIGURE},
    {"rollout recall", "block_recall_rollout", FIGURE},
    {"mass recall", "mass_recall", FIGURE},
    {"output error", "output_rel_error", FIGURE},
    {"attention ms", "prefill_attention_ms", FIGURE},
    {"of it selection", "prefill_select_ms", FIGURE},
    {"share", "prefill_attention_ms", SHARE},
    {"speed-up", "prefill_attention_ms", SPEED_UP},
    {"first token ms", "ttft_ms", FIGURE},
    {"first token speed-up", "ttft_ms", SPEED_UP},
    {"decode attention us", "decode_attention_us", FIGURE},
    {"of it selection", "decode_select_us", FIGURE},
    {"share", "decode_attention_us", SHARE},
    {"decode speed-up", "decode_attention_us", SPEED_UP},
    {"per token ms", "tpot_ms", FIGURE},
    {"negative scores", "negative_scores", FIGURE},
};
enum { FIGURES = sizeof figures / sizeof figures[0], FIXED = 4, PER_TASK = 6 };

static enum sw_status add_texts(struct sw_table *table, const char *const *texts, int n)
{
    for (int i = 0; i < n; i++)
        SW_TRY(sw_table_add(table, "%s", texts[i]));
    return SW_OK;
}

static enum sw_status add_task(struct sw_report *r, const struct sw_report_cell *cell,
                               struct sw_table *table)
{
    const char *texts[PER_TASK] = {"", "", "", "", "", ""};
    const struct sw_tidy_row *score = cell ? sw_report_metric(r, cell, "accuracy") : NULL,
                             *ppl = cell ? sw_report_metric(r, cell, "ppl") : NULL;
    if (score) {
        struct sw_interval x = {score->value, score->lo, score->hi};
        texts[0] = interval(r, x, false, 1, "");
        texts[1] = difference(r, cell, "accuracy", sw_same_dense, 1);
        texts[2] = difference(r, cell, "accuracy", sw_same_one_hop, 1);
    }
    if (ppl) {
        const struct sw_tidy_row *delta = sw_report_metric(r, cell, "nll_delta");
        struct sw_interval x = {ppl->value, ppl->lo, ppl->hi};
        texts[3] = interval(r, x, false, decimals(ppl->value), "");
        if (delta && !sw_report_is_dense(cell))
            texts[4] =
                interval(r, (struct sw_interval){delta->value, delta->lo, delta->hi}, true, 4, "");
        texts[5] = difference(r, cell, "nll", sw_same_one_hop, 4);
    }
    return add_texts(table, texts, PER_TASK);
}

static enum sw_status add_figures(struct sw_report *r, struct group *g, int line,
                                  struct sw_table *table)
{
    for (int f = 0; f < FIGURES; f++) {
        double value = mean_metric(r, g, line, figures[f].metric);
        const char *text = "";
        if (figures[f].kind == SPEED_UP)
            text = speed_up(r, g, line, figures[f].metric);
        else if (figures[f].kind == FIGURE)
            text = number(r, value, decimals(value));
        else if (!sw_report_is_dense(first_of(g, line)))
            text = percent(r, mean_metric(r, g, line, figures[f - 1].metric) / value);
        SW_TRY(sw_table_add(table, "%s", text));
    }
    return SW_OK;
}

static enum sw_status add_line(struct sw_report *r, struct group *g, int line,
                               struct sw_table *table)
{
    const struct sw_report_cell *cell = first_of(g, line);
    double spread = mean_metric(r, g, line, "density_spread");
    char density[SW_DENSITY_TEXT];
    const char *const fixed[FIXED] = {
        cell->label->name,
        sw_report_is_dense(cell) ? "" : sw_density_text(cell->row->density, density),
        number(r, mean_metric(r, g, line, "density"), 3),
        spread > 5e-4 ? number(r, spread, 3) : "" /* equal budgets have none */
    };
    SW_TRY(add_texts(table, fixed, FIXED));
    for (int t = 0; t < g->n_tasks; t++)
        SW_TRY(add_task(r, line_of(g, line)[t], table));
    SW_TRY(add_figures(r, g, line, table));
    return r->status;
}

/* --- printing --------------------------------------------------------------------------------- */

static void set_titles(struct sw_report *r, const struct group *g, const char **titles)
{
    static const char *const fixed[FIXED] = {"method", "density", "kept", "± over heads"};
    memcpy(titles, fixed, sizeof fixed);
    titles += FIXED;
    for (int t = 0; t < g->n_tasks; t++, titles += PER_TASK) {
        titles[0] = sw_report_text(r, "%s %%", g->tasks[t]);
        titles[1] = "Δ to dense";
        titles[2] = "Δ to one-hop";
        titles[3] = sw_report_text(r, "%s ppl", g->tasks[t]);
        titles[4] = "ΔNLL to dense";
        titles[5] = "ΔNLL to one-hop";
    }
    for (int f = 0; f < FIGURES; f++)
        titles[f] = figures[f].title;
}

static const char *title_of(struct sw_report *r, const struct group *g)
{
    const struct sw_tidy_row *row = g->cells[0].row;
    const char *phase = strcmp(row->phase, "both") == 0 ? "prefill and decode" : row->phase;
    return sw_report_text(r, "%s (%s), %s, %lld tokens", row->model, row->workload, phase,
                          (long long)row->context);
}

static const char *join(struct sw_report *r, const struct sw_texts *names)
{
    const char *list = "";
    for (int i = 0; i < names->count; i++)
        list = sw_report_text(r, "%s%s%s", list, i ? "; " : "", names->items[i]);
    return list;
}

/* How the baselines of a list were chosen. kernel: they have the one that `baseline` names. */
static const char *rule_of(struct sw_report *r, enum sw_baseline baseline, bool kernel)
{
    if (baseline == SW_BASELINE_FASTEST)
        return "the fastest dense of the same conditions";
    return sw_report_text(r,
                          kernel ? "the dense of kernel %s, as `baseline` says"
                                 : "the fastest dense of the same conditions: `baseline` says "
                                   "%s, but no dense of that kernel is there",
                          sw_baseline_names[baseline]);
}

/* "Speed-up: over dense B=64, the fastest dense of the same conditions." A sentence for each rule
 * under which lines of the table come; "" without speed-ups. */
static const char *baseline_of(struct sw_report *r, const struct group *g)
{
    const char *text = "";
    for (int i = 0; i < SW_BASELINES; i++)
        for (int kernel = 0; kernel < 2; kernel++) {
            const char *names = join(r, &g->baselines[i][kernel]);
            if (*names)
                text = sw_report_text(r, "%s%sSpeed-up: over %s, %s.", text, *text ? " " : "",
                                      names, rule_of(r, (enum sw_baseline)i, kernel));
        }
    return text;
}

static enum sw_status print_table(struct sw_report *r, const struct group *g,
                                  const struct sw_table *table)
{
    const char *title = title_of(r, g), *baseline = baseline_of(r, g);
    SW_TRY(r->status);
    if (r->latex) {
        const char *caption = *baseline ? sw_report_text(r, "%s. %s", title, baseline) : title;
        SW_TRY(sw_table_latex(table, caption, stdout));
    } else {
        printf("## %s\n\n", title);
        SW_TRY(sw_table_markdown(table, stdout));
        if (g->n_tasks > 1)
            printf("\nFrom recall on, figures are means over the %d tasks.\n", g->n_tasks);
        if (*baseline)
            printf("\n%s\n", baseline);
    }
    putchar('\n');
    return SW_OK;
}

static enum sw_status make_table(struct sw_report *r, struct group *g)
{
    int columns = FIXED + PER_TASK * g->n_tasks + FIGURES;
    const char **titles = calloc((size_t)columns, sizeof *titles);
    char *right = malloc((size_t)columns);
    struct sw_table table = {.columns = columns, .titles = titles, .right = right};
    enum sw_status st = SW_OK;
    if (!titles || !right)
        SW_TRY_GOTO(st, out, SW_FAIL(SW_ENOMEM, "out of memory (%d columns)", columns));
    memset(right, 'r', (size_t)columns);
    right[0] = 'l';
    set_titles(r, g, titles);
    for (int i = 0; i < g->n_lines; i++)
        SW_TRY_GOTO(st, out, add_line(r, g, i, &table));
    st = print_table(r, g, &table);
out:
    sw_table_free(&table);
    free(titles);
    free(right);
    return st;
}

void sw_report_tables(struct sw_report *r)
{
    for (int from = 0, to; from < r->n_cells && r->status == SW_OK; from = to) {
        for (to = from + 1; to < r->n_cells; to++)
            if (!sw_report_same_table(&r->cells[from], &r->cells[to]))
                break;
        struct group g = {.cells = r->cells + from, .n_cells = to - from};
        enum sw_status st = list_tasks(&g);
        if (st == SW_OK)
            st = fill_lines(&g);
        if (st == SW_OK && g.n_lines)
            st = make_table(r, &g);
        free_group(&g);
        r->status = st;
    }
}
