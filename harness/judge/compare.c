/* Which cells belong together, and what is made of their figures. */
#include "harness/judge/compare.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/judge/label.h"
#include "harness/judge/same.h"
#include "harness/store/result.h"

const char *const sw_figure_class_names[] = {"accuracy", "selection", "speed", "memory", NULL};
const char *const sw_finding_names[] = {"failed", "missing", "not comparable", "only in NEW", NULL};

enum {
    TIMED_AT_LEAST = 5, /* samples, for a verdict on time */
    LAYER_ACROSS = 20,  /* times the tolerance across machines: of one layer */
};

/* --- what is compared ------------------------------------------------------------------------- */

enum rule { PAIRED, EXACT, TIMED, BYTES };

/* ppl, nll_delta, selection times (a part of attention's) and effective_* follow from these.
 * Tolerances: within a kind of machine only the compiler rounds differently. Across machines
 * rounding may turn a near tie of two blocks' scores: one turned in one layer of configs/ci.yaml
 * moves the mean over layers by about 0.0003 and that layer by 0.008. (None turned between SSE2 and
 * AVX2 and three cores of OpenBLAS there: lists were equal, losses within 5e-7.) */
static const struct watched {
    const char *metric;
    enum sw_figure_class class;
    enum rule rule;
    double tolerance, across; /* across machines: of the value over all layers */
} watched[] = {
    {"accuracy", SW_FIGURE_ACCURACY, PAIRED, 1e-9, 1e-9},
    {"nll", SW_FIGURE_ACCURACY, PAIRED, 1e-5, 1e-3},
    {"density", SW_FIGURE_SELECTION, EXACT, 1e-6, 1e-6},
    {"density_all_layers", SW_FIGURE_SELECTION, EXACT, 1e-6, 1e-6},
    {"kv_fetch_density", SW_FIGURE_SELECTION, EXACT, 1e-6, 1e-3},
    {"block_recall", SW_FIGURE_SELECTION, EXACT, 1e-6, 1e-3},
    {"block_recall_shared", SW_FIGURE_SELECTION, EXACT, 1e-6, 1e-3},
    {"block_recall_rollout", SW_FIGURE_SELECTION, EXACT, 1e-6, 1e-3},
    {"mass_recall", SW_FIGURE_SELECTION, EXACT, 1e-6, 1e-3},
    {"output_rel_error", SW_FIGURE_SELECTION, EXACT, 1e-6, 1e-3},
    {"prefill_attention_ms", SW_FIGURE_SPEED, TIMED, 0, 0},
    {"decode_attention_us", SW_FIGURE_SPEED, TIMED, 0, 0},
    {"ttft_ms", SW_FIGURE_SPEED, TIMED, 0, 0},
    {"tpot_ms", SW_FIGURE_SPEED, TIMED, 0, 0},
    {"peak_memory_bytes", SW_FIGURE_MEMORY, BYTES, 0, 0},
    {.metric = NULL},
};

/* --- the cells of a folder -------------------------------------------------------------------- */

struct cell {
    const struct sw_tidy_row *row; /* its first */
    int64_t from, to;              /* rows of the tidy table */
    char *experiment;              /* what its partner shares with it (same.h) */
    char *identity, *input;        /* input: hash of the inputs */
    char *kernels;                 /* instruction set and libraries: what rounding depends on */
    const char *label;
    int64_t threads;
    struct cell *partner; /* of the other side */
};

struct side {
    const char *results;
    struct sw_tidy *tidy;
    struct sw_same *same;
    struct cell *cells;
    int n;
    int *cell_of;                /* [tidy->count]: the cell of a row */
    struct cell **by_experiment; /* [n], sorted */
    struct sw_label *labels;     /* [n] */
};

/* A figure before all of them are known: what its verdict will need. */
struct pending {
    const struct watched *what;
    double error; /* bootstrap standard deviation of a timed log ratio; NaN: too few samples */
    double tolerance, allowance;
    int moved, better;
    bool relative;
    bool broken; /* NEW has no number where BASE has one */
};

struct work {
    const struct sw_compare_rules *rules;
    struct side base, now;
    struct pending *pending; /* [n_figures] */
    struct sw_comparison *out;
};

static void clear_side(struct side *s)
{
    sw_labels_free(s->labels, s->n);
    for (int i = 0; i < s->n; ++i) {
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

static enum sw_status describe_cell(const struct side *side, struct cell *cell)
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

static enum sw_status label_cells(struct side *side)
{
    const char **identities = calloc((size_t)side->n + 1, sizeof *identities);
    if (!identities)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d cells)", side->n);
    for (int i = 0; i < side->n; ++i)
        identities[i] = side->cells[i].identity;
    enum sw_status st = sw_labels_make(identities, side->n, &side->labels);
    for (int i = 0; i < side->n && st == SW_OK; ++i)
        side->cells[i].label = side->labels[i].full;
    free(identities);
    return st;
}

static int by_experiment(const void *left, const void *right)
{
    const struct cell *a = *(struct cell *const *)left, *b = *(struct cell *const *)right;
    int c = strcmp(a->experiment, b->experiment);
    return c ? c : (a > b) - (a < b);
}

static enum sw_status collect_cells(struct side *side)
{
    const struct sw_tidy *tidy = side->tidy;
    side->cells = calloc((size_t)tidy->count + 1, sizeof *side->cells);
    side->cell_of = calloc((size_t)tidy->count + 1, sizeof *side->cell_of);
    side->by_experiment = calloc((size_t)tidy->count + 1, sizeof(struct cell *));
    if (!side->cells || !side->cell_of || !side->by_experiment)
        return SW_FAIL(SW_ENOMEM, "out of memory (%lld rows)", (long long)tidy->count);
    for (int64_t i = 0; i < tidy->count; ++i) {
        if (i == 0 || strcmp(tidy->rows[i].cell, tidy->rows[i - 1].cell) != 0) {
            side->by_experiment[side->n] = &side->cells[side->n];
            side->cells[side->n++] = (struct cell){.row = &tidy->rows[i], .from = i};
        }
        side->cells[side->n - 1].to = i + 1;
        side->cell_of[i] = side->n - 1;
    }
    return side->n
               ? SW_OK
               : SW_FAIL(SW_EINPUT, "%s: found no cells, expected results of a run", side->results);
}

static enum sw_status read_side(const char *results, struct side *side)
{
    side->results = results;
    SW_TRY(sw_tidy_read(results, &side->tidy));
    SW_TRY(sw_same_make(side->tidy, &side->same));
    SW_TRY(collect_cells(side));
    for (int i = 0; i < side->n; ++i)
        SW_TRY(describe_cell(side, &side->cells[i]));
    qsort(side->by_experiment, (size_t)side->n, sizeof(struct cell *), by_experiment);
    return label_cells(side);
}

/* --- findings and figures --------------------------------------------------------------------- */

/* A text that lives as long as the comparison; "" when out of memory, which the next allocation
 * reports. */
static const char *text(struct work *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static const char *text(struct work *w, const char *fmt, ...)
{
    char *made = NULL;
    va_list ap;
    va_start(ap, fmt);
    int length = vasprintf(&made, fmt, ap);
    va_end(ap);
    struct sw_texts *texts = &w->out->texts;
    bool ok = length >= 0 && sw_texts_add(texts, made) == SW_OK;
    if (length >= 0)
        free(made);
    if (ok)
        return texts->items[texts->count - 1];
    sw_error_clear();
    return "";
}

static enum sw_status add_finding(struct work *w, enum sw_finding_kind kind,
                                  const struct cell *cell, const char *why)
{
    struct sw_comparison *c = w->out;
    struct sw_finding *grown = realloc(c->findings, ((size_t)c->n_findings + 1) * sizeof *grown);
    if (!grown)
        return SW_FAIL(SW_ENOMEM, "out of memory (findings)");
    c->findings = grown;
    grown[c->n_findings++] = (struct sw_finding){kind, text(w, "%s", cell->label), why};
    return SW_OK;
}

/* A new figure of the pair, with what its verdict will need. NULL: out of memory. The pointers hold
 * until the next one. */
static struct sw_figure *add_figure(struct work *w, const struct cell *cell,
                                    const struct watched *what, struct pending **pending)
{
    struct sw_comparison *c = w->out;
    if ((c->n_figures & (c->n_figures - 1)) == 0) { /* room for 1, 2, 4, … */
        size_t room = c->n_figures ? 2 * (size_t)c->n_figures : 1;
        struct sw_figure *figures = realloc(c->figures, room * sizeof *figures);
        if (figures)
            c->figures = figures;
        struct pending *more = realloc(w->pending, room * sizeof *more);
        if (more)
            w->pending = more;
        if (!figures || !more)
            return NULL;
    }
    const struct sw_metric_info *info = sw_metric_find(what->metric);
    *pending = &w->pending[c->n_figures];
    **pending = (struct pending){.what = what, .error = NAN, .better = info->better};
    struct sw_figure *f = &c->figures[c->n_figures++];
    *f = (struct sw_figure){.cell = cell->label,
                            .metric = what->metric,
                            .unit = info->unit,
                            .class = what->class,
                            .base = NAN,
                            .now = NAN,
                            .change = NAN,
                            .lo = NAN,
                            .hi = NAN,
                            .p = NAN,
                            .judged = true,
                            .verdict = SW_VERDICT_SAME,
                            .note = ""};
    return f;
}

static enum sw_status no_memory(void) { return SW_FAIL(SW_ENOMEM, "out of memory (figures)"); }

/* --- a pair of cells -------------------------------------------------------------------------- */

struct pair {
    const struct cell *base, *now;
    struct sw_cell_reader *base_reader, *now_reader;
    bool same_machine; /* times and memory can be compared */
    bool same_kernels; /* the same bits can be expected */
};

static const struct sw_tidy_row *find_row(const struct side *side, const struct cell *cell,
                                          const char *metric)
{
    for (int64_t i = cell->from; i < cell->to; ++i)
        if (side->tidy->rows[i].layer < 0 && strcmp(side->tidy->rows[i].metric, metric) == 0)
            return &side->tidy->rows[i];
    return NULL;
}

struct values {
    double *base, *now;
    int n_base, n_now;
};

static void free_values(struct values *v)
{
    free(v->base);
    free(v->now);
}

static enum sw_status read_values(const struct pair *pair, const char *group, const char *metric,
                                  struct values *v)
{
    *v = (struct values){0};
    SW_TRY(sw_cell_reader_values(pair->base_reader, group, metric, &v->base, &v->n_base));
    return sw_cell_reader_values(pair->now_reader, group, metric, &v->now, &v->n_now);
}

static enum sw_status incomparable(struct work *w, struct sw_figure *f, const char *what, int base,
                                   int now)
{
    f->verdict = SW_VERDICT_INCOMPARABLE;
    f->note = text(w, "%d %s in BASE, %d in NEW", base, what, now);
    return SW_OK;
}

/* NaN or infinite in NEW where BASE has a number. */
static bool has_lost(const double *base, const double *now, int n)
{
    bool lost = false;
    for (int i = 0; i < n; ++i)
        lost |= isfinite(base[i]) && !isfinite(now[i]);
    return lost;
}

static enum sw_status compare_paired(struct work *w, const struct pair *pair, struct sw_figure *f,
                                     struct pending *pending)
{
    struct values v;
    enum sw_status st = read_values(pair, "samples", f->metric, &v);
    if (st != SW_OK || v.n_base != v.n_now) {
        st = st != SW_OK ? st : incomparable(w, f, "samples", v.n_base, v.n_now);
        goto out;
    }
    int n = v.n_base, moved = sw_differing(v.base, v.now, n, pending->tolerance);
    bool is_loss = strcmp(f->metric, "nll") == 0;
    pending->moved = moved + sw_differing(&f->base, &f->now, 1, pending->tolerance);
    pending->broken |= has_lost(v.base, v.now, n);
    pending->allowance = is_loss ? log1p(w->rules->accuracy_drop / 100) : w->rules->accuracy_drop;
    if (!is_loss && !pair->same_kernels && n && 100.0 / n > pending->allowance)
        pending->allowance = 100.0 / n; /* one prompt's answer may hang on a near tie */
    f->change = f->now - f->base;
    if (pending->moved && n > 0) {
        struct sw_interval x;
        SW_TRY_GOTO(st, out,
                    sw_interval_paired(v.now, v.base, n, (uint64_t)pair->base->row->seed, &x));
        f->lo = x.lo;
        f->hi = x.hi;
        for (int i = 0; i < n; ++i)
            v.now[i] -= v.base[i];
        SW_TRY_GOTO(st, out, sw_sign_flip(v.now, n, (uint64_t)pair->base->row->seed, &f->p));
        f->note = text(w, "%d of %d samples moved", moved, n);
    }
out:
    free_values(&v);
    return st;
}

/* Overall value, layers, heads. Across machines a head's few blocks say more about ties than about
 * the rule: layers count, heads do not. */
static enum sw_status compare_exact(struct work *w, const struct pair *pair, struct sw_figure *f,
                                    struct pending *pending)
{
    static const char *const groups[] = {"per_layer", "per_layer_head"},
                             *const names[] = {"layers", "values of layers and heads"};
    double tolerance = pair->same_kernels ? pending->tolerance : LAYER_ACROSS * pending->tolerance;
    pending->moved = sw_differing(&f->base, &f->now, 1, pending->tolerance);
    f->change = f->now - f->base;
    for (int g = 0; g < (pair->same_kernels ? 2 : 1); ++g) {
        struct values v;
        enum sw_status st = read_values(pair, groups[g], f->metric, &v);
        if (st == SW_OK && v.n_base != v.n_now)
            st = incomparable(w, f, names[g], v.n_base, v.n_now);
        bool both = st == SW_OK && v.n_base == v.n_now;
        int differing = both ? sw_differing(v.base, v.now, v.n_base, tolerance) : 0;
        pending->broken |= both && has_lost(v.base, v.now, v.n_base);
        if (differing)
            f->note = text(w, "%d of %d %s differ", differing, v.n_base, names[g]);
        pending->moved += differing;
        free_values(&v);
        SW_TRY(st);
    }
    return SW_OK;
}

/* The dense cell that a pair's times are relative to, on both sides: of those that have their
 * partner among the conditions of NEW the fastest, by the product of both sides' times, so that
 * neither side chooses. NULLs where there is none. */
struct baseline {
    const struct sw_tidy_row *base, *now;
};

static struct baseline baseline_of(const struct work *w, const struct sw_tidy_row *base_row,
                                   const struct sw_tidy_row *now_row)
{
    struct baseline found = {0};
    int n;
    const struct sw_tidy_row *const *rows = sw_same_all_dense(w->base.same, base_row, &n);
    if (strcmp(base_row->method, "dense") == 0)
        return found;
    for (int i = 0; i < n; ++i) {
        const struct cell *dense = &w->base.cells[w->base.cell_of[rows[i] - w->base.tidy->rows]],
                          *partner = dense->partner;
        const struct sw_tidy_row *now =
            partner ? find_row(&w->now, partner, base_row->metric) : NULL;
        if (!now || strcmp(now->conditions, now_row->conditions) != 0)
            continue;
        if (!found.base || rows[i]->value * now->value < found.base->value * found.now->value)
            found = (struct baseline){rows[i], now};
    }
    return found;
}

static enum sw_status read_samples(const struct side *side, const struct sw_tidy_row *row,
                                   double **values, int *n)
{
    struct sw_cell_reader *reader;
    if (!row)
        return SW_OK;
    SW_TRY(sw_cell_reader_open(side->results, row->cell, &reader));
    enum sw_status st = sw_cell_reader_samples(reader, row->metric, values, n);
    sw_cell_reader_close(reader);
    return st;
}

/* The log ratio of two or, with dense, four medians. */
static enum sw_status time_ratio(struct sw_figure *f, struct pending *pending,
                                 const struct sw_sample_set *sets, int n_sets, uint64_t seed)
{
    struct sw_interval x;
    bool enough = true;
    for (int i = 0; i < n_sets; ++i)
        enough &= sets[i].n >= TIMED_AT_LEAST;
    SW_TRY(sw_interval_log_medians(sets, n_sets, seed, &x, &pending->error));
    if (!enough) {
        pending->error = NAN;
        f->judged = false;
        f->note = "too few samples to judge";
    }
    f->change = exp(x.value);
    f->lo = exp(x.lo);
    f->hi = exp(x.hi);
    return SW_OK;
}

static enum sw_status compare_times(struct work *w, const struct pair *pair,
                                    const struct watched *what)
{
    const struct sw_tidy_row *base_row = find_row(&w->base, pair->base, what->metric),
                             *now_row = find_row(&w->now, pair->now, what->metric);
    struct baseline baseline = baseline_of(w, base_row, now_row);
    struct values v, dense = {0};
    struct pending *pending;
    uint64_t seed = (uint64_t)base_row->seed;
    enum sw_status st;
    SW_TRY_GOTO(st, out, read_values(pair, "samples", what->metric, &v));
    SW_TRY_GOTO(st, out, read_samples(&w->base, baseline.base, &dense.base, &dense.n_base));
    SW_TRY_GOTO(st, out, read_samples(&w->now, baseline.now, &dense.now, &dense.n_now));
    if (v.n_base == 0 || v.n_now == 0)
        goto out;
    const struct sw_sample_set sets[] = {{v.now, v.n_now, +1},
                                         {v.base, v.n_base, -1},
                                         {dense.now, dense.n_now, -1},
                                         {dense.base, dense.n_base, +1}};
    if (dense.n_base && dense.n_now) {
        struct sw_figure *f = add_figure(w, pair->base, what, &pending);
        if (!f)
            SW_TRY_GOTO(st, out, no_memory());
        f->base = base_row->value / baseline.base->value;
        f->now = now_row->value / baseline.now->value;
        f->unit = "of dense";
        pending->relative = true;
        SW_TRY_GOTO(st, out, time_ratio(f, pending, sets, 4, seed));
    }
    struct sw_figure *f = add_figure(w, pair->base, what, &pending);
    if (!f)
        SW_TRY_GOTO(st, out, no_memory());
    f->base = base_row->value;
    f->now = now_row->value;
    f->judged = w->rules->absolute_time && pair->same_machine;
    st = time_ratio(f, pending, sets, 2, seed);
out:
    free_values(&v);
    free_values(&dense);
    return st;
}

static enum sw_status compare_metric(struct work *w, const struct pair *pair,
                                     const struct watched *what)
{
    const struct sw_tidy_row *base = find_row(&w->base, pair->base, what->metric),
                             *now = find_row(&w->now, pair->now, what->metric);
    struct pending *pending;
    if (!base || (what->rule == BYTES && !pair->same_machine))
        return SW_OK;
    if (now && what->rule == TIMED)
        return compare_times(w, pair, what);
    struct sw_figure *f = add_figure(w, pair->base, what, &pending);
    if (!f)
        return no_memory();
    pending->tolerance = pair->same_kernels ? what->tolerance : what->across;
    f->base = base->value;
    if (!now) {
        f->verdict = SW_VERDICT_INCOMPARABLE;
        f->note = "not measured in NEW";
        return SW_OK;
    }
    f->now = now->value;
    pending->broken = has_lost(&f->base, &f->now, 1);
    if (what->rule == PAIRED)
        return compare_paired(w, pair, f, pending);
    if (what->rule == EXACT)
        return compare_exact(w, pair, f, pending);
    f->change = f->now / f->base;
    return SW_OK;
}

static enum sw_status compare_pair(struct work *w, struct pair *pair)
{
    SW_TRY(sw_cell_reader_open(w->base.results, pair->base->row->cell, &pair->base_reader));
    enum sw_status st =
        sw_cell_reader_open(w->now.results, pair->now->row->cell, &pair->now_reader);
    for (const struct watched *what = watched; what->metric && st == SW_OK; ++what)
        st = compare_metric(w, pair, what);
    sw_cell_reader_close(pair->base_reader);
    sw_cell_reader_close(pair->now_reader);
    w->out->pairs++;
    return st;
}

/* --- which cells belong together -------------------------------------------------------------- */

static bool has_status(const struct cell *cell, enum sw_result_status status)
{
    return strcmp(cell->row->status, sw_result_status_names[status]) == 0;
}

static int likeness(const struct cell *a, const struct cell *b)
{
    return 8 * (strcmp(a->input, b->input) == 0) +
           4 * (strcmp(a->row->device, b->row->device) == 0) +
           2 * (strcmp(a->kernels, b->kernels) == 0) + (a->threads == b->threads);
}

/* The first cell of NEW that is not before `experiment` in its order. */
static int first_of(const struct side *side, const char *experiment)
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
static struct cell *find_partner(const struct side *side, const struct cell *cell)
{
    struct cell *best = NULL;
    for (int i = first_of(side, cell->experiment);
         i < side->n && strcmp(side->by_experiment[i]->experiment, cell->experiment) == 0; ++i) {
        struct cell *other = side->by_experiment[i];
        if (!other->partner && (!best || likeness(cell, other) > likeness(cell, best)))
            best = other;
    }
    return best;
}

static void pair_cells(struct work *w)
{
    for (int i = 0; i < w->base.n; ++i) {
        struct cell *base = &w->base.cells[i];
        base->partner = find_partner(&w->now, base);
        if (base->partner)
            base->partner->partner = base;
    }
}

/* A pair of which not both have results. */
static enum sw_status report_missing(struct work *w, const struct cell *base,
                                     const struct cell *now)
{
    if (has_status(base, SW_RESULT_OK))
        return add_finding(
            w, has_status(now, SW_RESULT_FAILED) ? SW_FINDING_FAILED : SW_FINDING_MISSING, base,
            text(w, "%s in NEW: %s", now->row->status, now->row->reason));
    if (has_status(now, SW_RESULT_OK))
        return add_finding(w, SW_FINDING_EXTRA, base,
                           text(w, "%s in BASE, ok in NEW", base->row->status));
    if (has_status(base, SW_RESULT_SKIPPED) && has_status(now, SW_RESULT_SKIPPED))
        return SW_OK; /* neither machine can run it */
    return add_finding(w, SW_FINDING_INCOMPARABLE, base,
                       text(w, "%s in BASE, %s in NEW", base->row->status, now->row->status));
}

static enum sw_status check_pair(struct work *w, const struct cell *base, const struct cell *now)
{
    struct pair pair = {
        .base = base, .now = now, .same_kernels = strcmp(base->kernels, now->kernels) == 0};
    pair.same_machine = pair.same_kernels && strcmp(base->row->device, now->row->device) == 0 &&
                        base->threads == now->threads;
    if (!has_status(base, SW_RESULT_OK) || !has_status(now, SW_RESULT_OK))
        return report_missing(w, base, now);
    if (strcmp(base->input, now->input) != 0)
        return add_finding(w, SW_FINDING_INCOMPARABLE, base,
                           text(w, "the inputs differ (model or dataset): %s in BASE, %s in NEW",
                                base->input, now->input));
    if (!pair.same_machine && !w->rules->across_machines)
        return add_finding(w, SW_FINDING_INCOMPARABLE, base,
                           text(w,
                                "the machines differ: %s (%s, %lld threads) in BASE, %s (%s, %lld "
                                "threads) in NEW; --across-machines compares what can be",
                                base->row->device, base->kernels, (long long)base->threads,
                                now->row->device, now->kernels, (long long)now->threads));
    return compare_pair(w, &pair);
}

static enum sw_status compare_cells(struct work *w)
{
    pair_cells(w);
    for (int i = 0; i < w->base.n; ++i) {
        const struct cell *base = &w->base.cells[i];
        if (base->partner)
            SW_TRY(check_pair(w, base, base->partner));
        else if (!has_status(base, SW_RESULT_SKIPPED))
            SW_TRY(add_finding(w, SW_FINDING_MISSING, base, "not in NEW"));
    }
    for (int i = 0; i < w->now.n; ++i) {
        const struct cell *now = &w->now.cells[i];
        if (!now->partner)
            SW_TRY(add_finding(w, SW_FINDING_EXTRA, now,
                               has_status(now, SW_RESULT_OK) ? "" : now->row->status));
    }
    return SW_OK;
}

/* --- verdicts --------------------------------------------------------------------------------- */

static bool is_timed(const struct pending *p) { return p->what->rule == TIMED; }

static enum sw_status correct_p(struct work *w, double *noise)
{
    struct sw_comparison *c = w->out;
    double *x = malloc(((size_t)c->n_figures + 1) * sizeof *x);
    if (!x)
        return no_memory();
    int times = 0;
    for (int i = 0; i < c->n_figures; ++i) {
        bool tells =
            is_timed(&w->pending[i]) && w->pending[i].relative && !isnan(w->pending[i].error);
        x[i] = tells ? log(c->figures[i].change) : NAN;
        times += tells;
    }
    enum sw_status st = sw_timing_noise(x, c->n_figures, noise);
    c->noise = times ? *noise : NAN;
    for (int i = 0; i < c->n_figures; ++i) {
        struct sw_figure *f = &c->figures[i];
        if (is_timed(&w->pending[i])) /* NaN with too few samples */
            f->p = erfc(fabs(log(f->change)) / hypot(w->pending[i].error, *noise) / sqrt(2));
        x[i] = f->judged ? f->p : NAN;
    }
    if (st == SW_OK)
        st = sw_holm(x, c->n_figures);
    for (int i = 0; i < c->n_figures; ++i)
        c->figures[i].p = x[i];
    free(x);
    return st;
}

static enum sw_verdict verdict_of(const struct sw_figure *f, const struct pending *p,
                                  const struct sw_compare_rules *rules, double noise)
{
    switch (p->what->rule) {
    case PAIRED:
        return sw_verdict_paired(f->change, p->moved > 0, p->better, p->allowance, f->p);
    case EXACT:
        return sw_verdict_exact(f->change, p->moved, p->better, p->tolerance);
    case TIMED:
        return sw_verdict_timed(log(f->change), rules->slowdown, noise, f->p);
    case BYTES:
        break;
    }
    return sw_verdict_memory(f->base, f->now);
}

static enum sw_status give_verdicts(struct work *w)
{
    struct sw_comparison *c = w->out;
    double noise = NAN;
    SW_TRY(correct_p(w, &noise));
    c->too_noisy = !isnan(c->noise) && !sw_timing_tells(noise, w->rules->slowdown);
    for (int i = 0; i < c->n_figures; ++i) {
        struct sw_figure *f = &c->figures[i];
        if (f->verdict != SW_VERDICT_INCOMPARABLE)
            f->verdict = w->pending[i].broken ? SW_VERDICT_WORSE
                                              : verdict_of(f, &w->pending[i], w->rules, noise);
        if (w->pending[i].broken)
            f->note = "no number in NEW";
        if (f->judged)
            c->counts[f->class][f->verdict]++;
        f->cell = text(w, "%s", f->cell); /* outlives the sides */
        c->unjudged += w->pending[i].relative && !f->judged;
    }
    return SW_OK;
}

enum sw_status sw_compare(const char *base, const char *now, const struct sw_compare_rules *rules,
                          struct sw_comparison *out)
{
    *out = (struct sw_comparison){.noise = NAN};
    struct work w = {.rules = rules, .out = out};
    enum sw_status st = read_side(base, &w.base);
    if (st == SW_OK)
        st = read_side(now, &w.now);
    if (st == SW_OK)
        st = compare_cells(&w);
    if (st == SW_OK)
        st = give_verdicts(&w);
    clear_side(&w.base);
    clear_side(&w.now);
    free(w.pending);
    if (st != SW_OK)
        sw_comparison_clear(out);
    return st;
}

void sw_comparison_clear(struct sw_comparison *c)
{
    free(c->figures);
    free(c->findings);
    sw_texts_clear(&c->texts);
    *c = (struct sw_comparison){0};
}

enum sw_verdict sw_comparison_verdict(const struct sw_comparison *c)
{
    int found[SW_VERDICTS] = {0};
    for (int i = 0; i < SW_FIGURE_CLASSES; ++i)
        for (int v = 0; v < SW_VERDICTS; ++v)
            found[v] += c->counts[i][v];
    for (int i = 0; i < c->n_findings; ++i) {
        found[SW_VERDICT_WORSE] += c->findings[i].kind == SW_FINDING_FAILED;
        found[SW_VERDICT_INCOMPARABLE] += c->findings[i].kind == SW_FINDING_MISSING ||
                                          c->findings[i].kind == SW_FINDING_INCOMPARABLE;
    }
    found[SW_VERDICT_INCOMPARABLE] += c->pairs == 0;
    static const enum sw_verdict order[] = {SW_VERDICT_WORSE, SW_VERDICT_INCOMPARABLE,
                                            SW_VERDICT_AMBIGUOUS, SW_VERDICT_BETTER};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; ++i)
        if (found[order[i]])
            return order[i];
    return SW_VERDICT_SAME;
}
