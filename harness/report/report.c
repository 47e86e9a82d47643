/* swbench report: readable tables of a result folder, what to distrust in them, and where they come
 * from. */
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/interval.h"
#include "core/method.h"
#include "harness/config/param_json.h"
#include "harness/judge/derived.h"
#include "harness/program/result_args.h"
#include "harness/program/verbs.h"
#include "harness/report/table.h"
#include "harness/store/h5_data.h"
#include "harness/store/store.h"

/* A cell: rows from … to-1 of the tidy table, the first of which stands for what they share. */
struct cell {
    const struct sw_tidy_row *row;
    int64_t from, to;
    const char *label; /* method and the parameters that tell it from others */
};

struct report {
    const char *results;
    bool latex;
    struct sw_tidy *tidy;
    struct cell *cells;
    int n_cells;
    struct sw_texts texts; /* every text made on the way; freed at the end */
    bool several_seeds, several_devices, several_budgets, several_dense_layers;
    enum sw_status status;
};

/* A text that lives as long as the report; NULL (and the status) when out of memory. */
static const char *text(struct report *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static const char *text(struct report *r, const char *fmt, ...)
{
    char buffer[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buffer, sizeof buffer, fmt, ap);
    va_end(ap);
    if (r->status == SW_OK)
        r->status = sw_texts_add(&r->texts, buffer);
    return r->status == SW_OK ? r->texts.items[r->texts.count - 1] : NULL;
}

/* --- cells ------------------------------------------------------------------------------------ */

/* Same experiment but for what `ignore` names: method (with parameters, density) or task. */
enum { ANY_METHOD = 1, ANY_TASK = 2 };
static bool same_density(double x, double y)
{
    return x == y || (isnan(x) && isnan(y));
} /* NaN: the method's own */

static bool same(const struct cell *a, const struct cell *b, int ignore)
{
    const struct sw_tidy_row *x = a->row, *y = b->row;
    return strcmp(x->workload, y->workload) == 0 && strcmp(x->model, y->model) == 0 &&
           strcmp(x->phase, y->phase) == 0 && x->context == y->context &&
           x->dense_layers == y->dense_layers &&
           (ignore & ANY_TASK || strcmp(x->task, y->task) == 0) &&
           (ignore & ANY_METHOD ||
            (strcmp(x->method, y->method) == 0 && strcmp(x->params, y->params) == 0 &&
             strcmp(x->budget, y->budget) == 0 && same_density(x->density, y->density) &&
             x->seed == y->seed && strcmp(x->device, y->device) == 0 &&
             strcmp(x->backend, y->backend) == 0));
}

static const struct sw_tidy_row *find_metric(const struct report *r, const struct cell *cell,
                                             const char *name)
{
    for (int64_t i = cell->from; i < cell->to; ++i)
        if (r->tidy->rows[i].layer < 0 && strcmp(r->tidy->rows[i].metric, name) == 0)
            return &r->tidy->rows[i];
    return NULL;
}

static double metric(const struct report *r, const struct cell *cell, const char *name)
{
    const struct sw_tidy_row *row = find_metric(r, cell, name);
    return row ? row->value : NAN;
}

static bool is_dense(const struct cell *cell) { return strcmp(cell->row->method, "dense") == 0; }

static int compare_densities(double x, double y)
{
    return isnan(x) || isnan(y) ? isnan(x) - isnan(y) : (x > y) - (x < y);
}

/* Tables in a reader's order (prefill before decode, short before long), rows with dense first. */
static int reading_order(const void *a, const void *b)
{
    const struct cell *x = a, *y = b;
    int c = strcmp(x->row->workload, y->row->workload);
    c = c ? c : strcmp(x->row->model, y->row->model);
    c = c ? c : strcmp(y->row->phase, x->row->phase); /* prefill, decode, both */
    c = c ? c : (x->row->context > y->row->context) - (x->row->context < y->row->context);
    c = c ? c
          : (x->row->dense_layers > y->row->dense_layers) -
                (x->row->dense_layers < y->row->dense_layers);
    c = c ? c : is_dense(y) - is_dense(x);
    /* at equal density methods compare */
    c = c ? c : compare_densities(x->row->density, y->row->density);
    return c ? c : (x->from > y->from) - (x->from < y->from); /* the tidy table's own order */
}

/* Parameters of a method that differ among its cells here, or from their defaults: "variant=icml
 * sketch_dim=64". */
static void describe_params(struct report *r, const struct cell *cell, char *out, size_t size)
{
    const struct sw_method *method = sw_method_find(cell->row->method);
    json_t *params = json_loads(cell->row->params, 0, NULL), *value;
    const char *name;
    out[0] = '\0';
    json_object_foreach(params, name, value)
    {
        char *shown = sw_param_json_text(value);
        if (!shown)
            continue;
        const struct sw_param *param = method ? sw_param_find(method->params, name) : NULL;
        bool tells = param && !sw_param_json_is_default(param, value);
        for (int i = 0; i < r->n_cells && !tells; ++i) {
            const struct cell *other = &r->cells[i];
            if (strcmp(other->row->method, cell->row->method) != 0 ||
                strcmp(other->row->params, cell->row->params) == 0)
                continue;
            json_t *theirs = json_loads(other->row->params, 0, NULL);
            tells = !json_equal(json_object_get(theirs, name), value);
            json_decref(theirs);
        }
        if (tells)
            snprintf(out + strlen(out), size - strlen(out), " %s=%s", name, shown);
        free(shown);
    }
    json_decref(params);
}

static void label_cells(struct report *r)
{
    for (int i = 0; i < r->n_cells; ++i) {
        struct cell *cell = &r->cells[i];
        for (int j = 0; j < i && !cell->label; ++j)
            if (strcmp(r->cells[j].row->method, cell->row->method) == 0 &&
                strcmp(r->cells[j].row->params, cell->row->params) == 0 &&
                strcmp(r->cells[j].row->budget, cell->row->budget) == 0 &&
                r->cells[j].row->seed == cell->row->seed &&
                strcmp(r->cells[j].row->device, cell->row->device) == 0)
                cell->label = r->cells[j].label;
        if (cell->label)
            continue;
        char params[512], budget[32] = "", seed[32] = "", device[192] = "";
        describe_params(r, cell, params, sizeof params);
        if (r->several_budgets && !is_dense(cell))
            snprintf(budget, sizeof budget, " budget=%s", cell->row->budget);
        if (r->several_seeds)
            snprintf(seed, sizeof seed, " seed=%lld", (long long)cell->row->seed);
        if (r->several_devices)
            snprintf(device, sizeof device, " (%s)", cell->row->device);
        cell->label = text(r, "%s%s%s%s%s", cell->row->method, params, budget, seed, device);
    }
}

static enum sw_status collect_cells(struct report *r)
{
    const struct sw_tidy *tidy = r->tidy;
    r->cells = calloc((size_t)tidy->count + 1, sizeof *r->cells);
    if (!r->cells)
        return SW_FAIL(SW_ENOMEM, "out of memory (%lld rows)", (long long)tidy->count);
    for (int64_t i = 0; i < tidy->count; ++i) {
        const struct sw_tidy_row *row = &tidy->rows[i];
        if (i == 0 || strcmp(row->cell, row[-1].cell) != 0)
            r->cells[r->n_cells++] = (struct cell){.row = row, .from = i};
        r->cells[r->n_cells - 1].to = i + 1;
        r->several_seeds |= row->seed != tidy->rows[0].seed;
        r->several_budgets |= strcmp(row->budget, tidy->rows[0].budget) != 0;
        r->several_dense_layers |= row->dense_layers != tidy->rows[0].dense_layers;
        r->several_devices |= strcmp(row->device, tidy->rows[0].device) != 0 && row->device[0] &&
                              tidy->rows[0].device[0];
    }
    qsort(r->cells, (size_t)r->n_cells, sizeof *r->cells, reading_order);
    label_cells(r);
    return r->status;
}

/* --- figures ---------------------------------------------------------------------------------- */

static int decimals(double value)
{
    double size = fabs(value);
    return size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3;
}

static const char *number(struct report *r, double value, const char *sign, int places)
{
    if (!isfinite(value))
        return NULL;
    return *sign ? text(r, "%+.*f", places, value) : text(r, "%.*f", places, value);
}

/* "0.021 [0.004, 0.038]"; signed differences get their sign; `suffix` follows the value. */
static const char *interval(struct report *r, struct sw_interval x, bool with_sign, int places,
                            const char *suffix)
{
    const char *value = number(r, x.value, with_sign ? "+" : "", places);
    if (!value)
        return NULL;
    if (!isfinite(x.lo) || !isfinite(x.hi))
        return text(r, "%s%s", value, suffix);
    return with_sign ? text(r, "%s%s [%+.*f, %+.*f]", value, suffix, places, x.lo, places, x.hi)
                     : text(r, "%s%s [%.*f, %.*f]", value, suffix, places, x.lo, places, x.hi);
}

static const char *percent(struct report *r, double share)
{
    return isfinite(share) ? text(r, "%.1f %%", 100 * share) : NULL;
}

static const char *density_text(struct report *r, const struct cell *cell)
{
    return isnan(cell->row->density) ? "native" : text(r, "%.4g", cell->row->density);
}

/* Difference with dense, or with one-hop at the same density, on the same windows or prompts. */
enum counterpart { DENSE, ONE_HOP };
static const char *difference(struct report *r, const struct cell *cell, const char *name,
                              enum counterpart whose, int places)
{
    const struct sw_tidy_row *row = find_metric(r, cell, name), *other = NULL;
    if (row)
        other = whose == DENSE ? sw_tidy_dense(r->tidy, row) : sw_tidy_one_hop(r->tidy, row);
    if (!other || other == row)
        return NULL;
    struct sw_interval x = {NAN, NAN, NAN};
    if (r->status == SW_OK)
        r->status = sw_tidy_difference(r->results, row, other, &x);
    return interval(r, x, true, places, "");
}

/* --- a table of one model, phase and context -------------------------------------------------- */

/* A row of a table: one cell per task (NULL: none). */
struct line {
    const struct cell **cells;
};

struct group {
    const char **tasks;
    int n_tasks;
    struct line *lines;
    int n_lines;
};

static void free_group(struct group *g)
{
    for (int i = 0; i < g->n_lines; ++i)
        free(g->lines[i].cells);
    free(g->lines);
    free(g->tasks);
}

/* Gathers the ok cells that share workload, model, phase and context with `first`. */
static enum sw_status gather(const struct report *r, const struct cell *first, struct group *g)
{
    *g = (struct group){.tasks = calloc((size_t)r->n_cells, sizeof *g->tasks),
                        .lines = calloc((size_t)r->n_cells, sizeof *g->lines)};
    if (!g->tasks || !g->lines)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d cells)", r->n_cells);
    for (int i = 0; i < r->n_cells; ++i) {
        const struct cell *cell = &r->cells[i];
        if (!same(cell, first, ANY_METHOD | ANY_TASK) || strcmp(cell->row->status, "ok") != 0)
            continue;
        int task = 0, line = 0;
        while (task < g->n_tasks && strcmp(g->tasks[task], cell->row->task) != 0)
            ++task;
        if (task == g->n_tasks)
            g->tasks[g->n_tasks++] = cell->row->task;
        for (; line < g->n_lines; ++line) {
            const struct cell *known = NULL;
            for (int t = 0; !known; ++t)
                known = g->lines[line].cells[t];
            if (same(known, cell, ANY_TASK))
                break;
        }
        if (line == g->n_lines) {
            g->lines[line].cells = calloc((size_t)r->n_cells + 1, sizeof *g->lines[line].cells);
            if (!g->lines[line].cells)
                return SW_FAIL(SW_ENOMEM, "out of memory (%d cells)", r->n_cells);
            ++g->n_lines;
        }
        g->lines[line].cells[task] = cell;
    }
    return SW_OK;
}

/* Mean over the tasks of a row. */
static double mean_metric(const struct report *r, const struct group *g, const struct line *line,
                          const char *name)
{
    double sum = 0;
    int n = 0;
    for (int t = 0; t < g->n_tasks; ++t) {
        double value = line->cells[t] ? metric(r, line->cells[t], name) : NAN;
        if (isfinite(value)) {
            sum += value;
            ++n;
        }
    }
    return n ? sum / n : NAN;
}

/* Dense time / time. With one task, from the raw samples and with an interval. */
static const char *speed_up(struct report *r, const struct group *g, const struct line *line,
                            const char *name)
{
    double ours = 0, theirs = 0;
    struct sw_interval x = {NAN, NAN, NAN};
    for (int t = 0; t < g->n_tasks; ++t) {
        const struct sw_tidy_row *row =
            line->cells[t] ? find_metric(r, line->cells[t], name) : NULL;
        const struct sw_tidy_row *dense =
            row && isfinite(row->value) ? sw_tidy_dense(r->tidy, row) : NULL;
        if (!dense || dense == row)
            continue;
        ours += row->value;
        theirs += dense->value;
        if (g->n_tasks == 1 && r->status == SW_OK)
            r->status = sw_tidy_ratio(r->results, dense, row, &x);
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
};
enum { FIGURES = sizeof figures / sizeof figures[0], FIXED = 4, PER_TASK = 6 };

static void fill_task(struct report *r, const struct cell *cell, const char **out)
{
    const struct sw_tidy_row *score = find_metric(r, cell, "accuracy"),
                             *ppl = find_metric(r, cell, "ppl");
    if (score) {
        out[0] =
            interval(r, (struct sw_interval){score->value, score->lo, score->hi}, false, 1, "");
        out[1] = difference(r, cell, "accuracy", DENSE, 1);
        out[2] = difference(r, cell, "accuracy", ONE_HOP, 1);
    }
    if (ppl) {
        out[3] = interval(r, (struct sw_interval){ppl->value, ppl->lo, ppl->hi}, false,
                          decimals(ppl->value), "");
        out[4] = difference(r, cell, "nll", DENSE, 4);
        const struct sw_tidy_row *delta = out[4] ? NULL : find_metric(r, cell, "nll_delta");
        if (delta && !is_dense(cell))
            out[4] =
                interval(r, (struct sw_interval){delta->value, delta->lo, delta->hi}, true, 4, "");
        out[5] = difference(r, cell, "nll", ONE_HOP, 4);
    }
}

static void fill_line(struct report *r, const struct group *g, const struct line *line,
                      const char **out)
{
    const struct cell *cell = NULL;
    for (int t = 0; !cell; ++t)
        cell = line->cells[t];
    out[0] = cell->label;
    out[1] = is_dense(cell) ? NULL : density_text(r, cell);
    out[2] = number(r, mean_metric(r, g, line, "density"), "", 3);
    double spread = mean_metric(r, g, line, "density_spread");
    out[3] = spread > 5e-4 ? number(r, spread, "", 3) : NULL; /* equal budgets have none */
    for (int t = 0; t < g->n_tasks; ++t)
        if (line->cells[t])
            fill_task(r, line->cells[t], out + FIXED + PER_TASK * t);
    out += FIXED + PER_TASK * g->n_tasks;
    for (int f = 0; f < FIGURES; ++f) {
        double value = mean_metric(r, g, line, figures[f].metric);
        if (figures[f].kind == SPEED_UP)
            out[f] = speed_up(r, g, line, figures[f].metric);
        else if (figures[f].kind == SHARE) /* of selection in attention: the title before it */
            out[f] = is_dense(cell)
                         ? NULL
                         : percent(r, mean_metric(r, g, line, figures[f - 1].metric) / value);
        else
            out[f] = number(r, value, "", decimals(value));
    }
}

static void print_group(struct report *r, const struct cell *first, const struct group *g)
{
    int columns = FIXED + PER_TASK * g->n_tasks + FIGURES;
    struct sw_table table = {.columns = columns};
    const char **titles = calloc((size_t)columns, sizeof *titles),
               **texts = calloc((size_t)columns, sizeof *texts);
    char *right = malloc((size_t)columns);
    if (!titles || !texts || !right) {
        r->status = SW_FAIL(SW_ENOMEM, "out of memory (table of %d × %d)", g->n_lines, columns);
        goto out;
    }
    memset(right, 'r', (size_t)columns);
    right[0] = 'l';
    titles[0] = "method";
    titles[1] = "density";
    titles[2] = "kept";
    titles[3] = "± over heads";
    for (int t = 0; t < g->n_tasks; ++t) {
        const char **of_task = titles + FIXED + PER_TASK * t;
        of_task[0] = text(r, "%s %%", g->tasks[t]);
        of_task[1] = "Δ to dense";
        of_task[2] = "Δ to one-hop";
        of_task[3] = text(r, "%s ppl", g->tasks[t]);
        of_task[4] = "ΔNLL to dense";
        of_task[5] = "ΔNLL to one-hop";
    }
    for (int f = 0; f < FIGURES; ++f)
        titles[FIXED + PER_TASK * g->n_tasks + f] = figures[f].title;
    table.titles = titles;
    table.right = right;
    for (int i = 0; i < g->n_lines && r->status == SW_OK; ++i) {
        memset(texts, 0, (size_t)columns * sizeof *texts);
        fill_line(r, g, &g->lines[i], texts);
        for (int c = 0; c < columns && r->status == SW_OK; ++c)
            r->status = sw_table_add(&table, "%s", texts[c] ? texts[c] : "");
    }
    if (r->status != SW_OK)
        goto out;
    const char *what = first->row->workload, *both = strcmp(first->row->phase, "both") == 0
                                                         ? "prefill and decode"
                                                         : first->row->phase;
    char layers[48] = "";
    if (r->several_dense_layers)
        snprintf(layers, sizeof layers, ", %lld layer%s dense", (long long)first->row->dense_layers,
                 first->row->dense_layers == 1 ? "" : "s");
    const char *title = text(r, "%s (%s), %s, %lld tokens%s", first->row->model, what, both,
                             (long long)first->row->context, layers);
    if (!title)
        goto out;
    if (r->latex) {
        r->status = sw_table_latex(&table, title, stdout);
        putchar('\n');
    } else {
        printf("## %s\n\n", title);
        r->status = sw_table_markdown(&table, stdout);
        if (g->n_tasks > 1)
            printf("\nFrom recall on, figures are means over the %d tasks.\n", g->n_tasks);
        putchar('\n');
    }
out:
    sw_table_free(&table);
    free(titles);
    free(texts);
    free(right);
}

static void print_tables(struct report *r)
{
    for (int i = 0; i < r->n_cells && r->status == SW_OK; ++i) {
        bool seen = false;
        for (int j = 0; j < i && !seen; ++j)
            seen = same(&r->cells[i], &r->cells[j], ANY_METHOD | ANY_TASK);
        if (seen)
            continue;
        struct group g;
        r->status = gather(r, &r->cells[i], &g);
        if (r->status == SW_OK && g.n_lines)
            print_group(r, &r->cells[i], &g);
        free_group(&g);
    }
}

/* --- what else a reader must know ------------------------------------------------------------- */

static void print_line(const struct report *r, const char *start, const char *line)
{
    if (r->latex)
        fputs("% ", stdout); /* a comment: the tables' source stays with them without taking room */
    printf("%s%s\n", start, line);
}

static void print_missing(struct report *r)
{
    bool any = false;
    for (int i = 0; i < r->n_cells; ++i) {
        const struct sw_tidy_row *row = r->cells[i].row;
        if (strcmp(row->status, "ok") == 0)
            continue;
        if (!any)
            print_line(r, r->latex ? "" : "## ", "Cells without a result");
        if (!any && !r->latex)
            putchar('\n');
        any = true;
        const char *line =
            text(r, "%s, density %s, %s%s%s, %s, %lld tokens: %s: %s", r->cells[i].label,
                 density_text(r, &r->cells[i]), row->model, *row->task ? " " : "", row->task,
                 row->phase, (long long)row->context, row->status, row->reason);
        if (line)
            print_line(r, "- ", line);
    }
    if (any)
        putchar('\n');
}

static bool add_unique(struct report *r, struct sw_texts *list, const char *item)
{
    for (int i = 0; i < list->count; ++i)
        if (strcmp(list->items[i], item) == 0)
            return false;
    if (r->status == SW_OK)
        r->status = sw_texts_add(list, item);
    return true;
}

/* What the cells say about themselves: distinct values each. */
enum { VERSION, DEVICE, HOST, CONFIG, LIBRARIES, FACTS };
struct origins {
    struct sw_texts facts[FACTS], warnings;
    int *warned;        /* cells per warning */
    char *first, *last; /* earliest start, latest end */
};

static char *provenance(struct report *r, struct sw_cell_reader *reader, const char *name)
{
    char *value = NULL;
    if (r->status == SW_OK)
        r->status = sw_cell_reader_provenance(reader, name, &value);
    return value;
}

static void read_origins(struct report *r, const struct cell *cell, struct origins *o)
{
    struct sw_cell_reader *reader = NULL;
    struct sw_texts warnings = {0};
    r->status = sw_cell_reader_open(r->results, cell->row->cell, &reader);
    char *version = provenance(r, reader, "version"), *code = provenance(r, reader, "code"),
         *git = provenance(r, reader, "git");
    char *host = provenance(r, reader, "host"), *config = provenance(r, reader, "config_name");
    char *libraries = provenance(r, reader, "libraries"),
         *variant = provenance(r, reader, "variant"), *started = provenance(r, reader, "started"),
         *ended = provenance(r, reader, "ended");
    if (r->status == SW_OK)
        r->status = sw_cell_reader_warnings(reader, &warnings);
    if (r->status == SW_OK) {
        const char *full = text(r, "swbench %s, code %s, git %s", version, code, git);
        const char *device = text(r, "%s: %s%s%s", cell->row->backend, cell->row->device,
                                  *variant ? ", " : "", variant);
        if (full)
            add_unique(r, &o->facts[VERSION], full);
        if (device && cell->row->device[0])
            add_unique(r, &o->facts[DEVICE], device);
        add_unique(r, &o->facts[HOST], host);
        add_unique(r, &o->facts[CONFIG], config);
        add_unique(r, &o->facts[LIBRARIES], libraries);
        if (!o->first || strcmp(started, o->first) < 0) { /* ISO 8601 sorts as text */
            free(o->first);
            o->first = started;
            started = NULL;
        }
        if (!o->last || strcmp(ended, o->last) > 0) {
            free(o->last);
            o->last = ended;
            ended = NULL;
        }
    }
    for (int i = 0; i < warnings.count && r->status == SW_OK; ++i) {
        bool fresh = add_unique(r, &o->warnings, warnings.items[i]);
        int *grown =
            fresh ? realloc(o->warned, (size_t)o->warnings.count * sizeof *grown) : o->warned;
        if (!grown) {
            r->status = SW_FAIL(SW_ENOMEM, "out of memory (warnings)");
            break;
        }
        o->warned = grown;
        if (fresh)
            o->warned[o->warnings.count - 1] = 0;
        for (int k = 0; k < o->warnings.count; ++k)
            o->warned[k] += strcmp(o->warnings.items[k], warnings.items[i]) == 0;
    }
    sw_cell_reader_close(reader);
    sw_texts_clear(&warnings);
    free(version);
    free(code);
    free(git);
    free(host);
    free(config);
    free(libraries);
    free(variant);
    free(started);
    free(ended);
}

static void print_fact(struct report *r, const char *name, const struct sw_texts *values)
{
    for (int i = 0; i < values->count; ++i) {
        const char *line = text(r, "%s: %s", name, values->items[i]);
        if (line)
            print_line(r, "- ", line);
    }
}

static void print_origins(struct report *r)
{
    struct origins o = {0};
    int counts[3] = {0};
    for (int i = 0; i < r->n_cells && r->status == SW_OK; ++i) {
        read_origins(r, &r->cells[i], &o);
        for (int s = 0; s < 3; ++s)
            counts[s] += strcmp(r->cells[i].row->status, sw_result_status_names[s]) == 0;
    }
    if (r->status != SW_OK)
        goto out;
    if (o.warnings.count || o.facts[VERSION].count > 1 || o.facts[DEVICE].count > 1) {
        print_line(r, r->latex ? "" : "## ", "Warnings");
        if (!r->latex)
            putchar('\n');
        if (o.facts[VERSION].count > 1)
            print_line(r, "- ",
                       "results of different code versions are mixed here (see below); their "
                       "figures may not be comparable");
        if (o.facts[DEVICE].count > 1)
            print_line(r, "- ",
                       "results of different devices are mixed here (see below); their times are "
                       "not comparable");
        for (int i = 0; i < o.warnings.count; ++i) {
            const char *line = text(r, "%s (%d cell%s)", o.warnings.items[i], o.warned[i],
                                    o.warned[i] == 1 ? "" : "s");
            if (line)
                print_line(r, "- ", line);
        }
        putchar('\n');
    }
    print_line(r, r->latex ? "" : "## ", "Provenance");
    if (!r->latex)
        putchar('\n');
    print_fact(r, "code", &o.facts[VERSION]);
    print_fact(r, "device", &o.facts[DEVICE]);
    print_fact(r, "host", &o.facts[HOST]);
    print_fact(r, "config", &o.facts[CONFIG]);
    print_fact(r, "libraries", &o.facts[LIBRARIES]);
    const char *line = text(r, "seed %lld%s; %d cells ok, %d failed, %d skipped; run from %s to %s",
                            (long long)r->cells[0].row->seed, r->several_seeds ? " and others" : "",
                            counts[SW_RESULT_OK], counts[SW_RESULT_FAILED],
                            counts[SW_RESULT_SKIPPED], o.first, o.last);
    if (line)
        print_line(r, "- ", line);
out:
    for (int f = 0; f < FACTS; ++f)
        sw_texts_clear(&o.facts[f]);
    sw_texts_clear(&o.warnings);
    free(o.warned);
    free(o.first);
    free(o.last);
}

static void print_legend(struct report *r)
{
    print_line(r, "",
               "density: asked for; kept: counted share of causal token pairs; [low, high]: 95 % "
               "interval; Δ to dense: paired over the same");
    print_line(
        r, "",
        "prompts or windows; speed-up: dense attention time / attention time, selection included.");
    putchar('\n');
}

static enum sw_status print_report(int argc, char **argv)
{
    static const char *const formats[] = {"md", "latex", NULL};
    struct sw_result_args args;
    SW_TRY(sw_result_args_parse(argc, argv, formats, &args));
    struct report r = {.results = args.results, .latex = strcmp(args.format, "latex") == 0};
    r.status = sw_tidy_read(args.results, &r.tidy);
    if (r.status == SW_OK)
        r.status = collect_cells(&r);
    if (r.status == SW_OK && r.n_cells == 0)
        r.status =
            SW_FAIL(SW_EINPUT, "%s: found no cells, expected results of a run", args.results);
    if (r.status == SW_OK)
        print_tables(&r);
    if (r.status == SW_OK) {
        print_legend(&r);
        print_missing(&r);
        print_origins(&r);
    }
    sw_texts_clear(&r.texts);
    sw_tidy_free(r.tidy);
    free(r.cells);
    return r.status;
}

int sw_verb_report(int argc, char **argv)
{
    return sw_cli_flush(sw_cli_exit(print_report(argc, argv)));
}
