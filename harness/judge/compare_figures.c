/* The figures of a pair of cells: which metrics are watched, by which rule, and what the two values
 * of each say. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/interval.h"
#include "harness/judge/compare_parts.h"
#include "harness/store/result.h"

enum {
    TIMED_AT_LEAST = 5, /* samples, for a verdict on time */
    LAYER_ACROSS = 20,  /* times the tolerance across machines: of one layer */
};

/* --- what is compared ------------------------------------------------------------------------- */

/* ppl, nll_delta, selection times (a part of attention's) and effective_* follow from these.
 * Tolerances: within a kind of machine only the compiler rounds differently. Across machines
 * rounding may turn a near tie of two blocks' scores: one turned in one layer of configs/ci.yaml
 * moves the mean over layers by about 0.0003 and that layer by 0.008. (None turned between SSE2 and
 * AVX2 and three cores of OpenBLAS there: lists were equal, losses within 5e-7.) */
static const struct sw_watched watched[] = {
    {"accuracy", SW_FIGURE_ACCURACY, SW_COMPARE_PAIRED, 1e-9, 1e-9},
    {"nll", SW_FIGURE_ACCURACY, SW_COMPARE_PAIRED, 1e-5, 1e-3},
    {"density", SW_FIGURE_SELECTION, SW_COMPARE_EXACT, 1e-6, 1e-6},
    {"density_all_layers", SW_FIGURE_SELECTION, SW_COMPARE_EXACT, 1e-6, 1e-6},
    {"kv_fetch_density", SW_FIGURE_SELECTION, SW_COMPARE_EXACT, 1e-6, 1e-3},
    {"block_recall", SW_FIGURE_SELECTION, SW_COMPARE_EXACT, 1e-6, 1e-3},
    {"block_recall_shared", SW_FIGURE_SELECTION, SW_COMPARE_EXACT, 1e-6, 1e-3},
    {"block_recall_rollout", SW_FIGURE_SELECTION, SW_COMPARE_EXACT, 1e-6, 1e-3},
    {"mass_recall", SW_FIGURE_SELECTION, SW_COMPARE_EXACT, 1e-6, 1e-3},
    {"output_rel_error", SW_FIGURE_SELECTION, SW_COMPARE_EXACT, 1e-6, 1e-3},
    {"prefill_attention_ms", SW_FIGURE_SPEED, SW_COMPARE_TIMED, 0, 0},
    {"decode_attention_us", SW_FIGURE_SPEED, SW_COMPARE_TIMED, 0, 0},
    {"ttft_ms", SW_FIGURE_SPEED, SW_COMPARE_TIMED, 0, 0},
    {"tpot_ms", SW_FIGURE_SPEED, SW_COMPARE_TIMED, 0, 0},
    {"peak_memory_bytes", SW_FIGURE_MEMORY, SW_COMPARE_BYTES, 0, 0},
    {.metric = NULL},
};

/* --- new figures ------------------------------------------------------------------------------ */

const char *sw_compare_text(struct sw_compare_work *w, const char *fmt, ...)
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

/* A new figure of the pair, with what its verdict will need. NULL: out of memory. The pointers hold
 * until the next one. */
static struct sw_figure *add_figure(struct sw_compare_work *w, const struct sw_compared_cell *cell,
                                    const struct sw_watched *what,
                                    struct sw_compare_pending **pending)
{
    struct sw_comparison *c = w->out;
    if ((c->n_figures & (c->n_figures - 1)) == 0) { /* room for 1, 2, 4, … */
        size_t room = c->n_figures ? 2 * (size_t)c->n_figures : 1;
        struct sw_figure *figures = realloc(c->figures, room * sizeof *figures);
        if (figures)
            c->figures = figures;
        struct sw_compare_pending *more = realloc(w->pending, room * sizeof *more);
        if (more)
            w->pending = more;
        if (!figures || !more)
            return NULL;
    }
    const struct sw_metric_info *info = sw_metric_find(what->metric);
    *pending = &w->pending[c->n_figures];
    **pending = (struct sw_compare_pending){.what = what, .error = NAN, .better = info->better};
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

struct values {
    double *base, *now;
    int n_base, n_now;
};

static void free_values(struct values *v)
{
    free(v->base);
    free(v->now);
}

static enum sw_status read_values(const struct sw_compare_pair *pair, const char *group,
                                  const char *metric, struct values *v)
{
    *v = (struct values){0};
    SW_TRY(sw_cell_reader_values(pair->base_reader, group, metric, &v->base, &v->n_base));
    return sw_cell_reader_values(pair->now_reader, group, metric, &v->now, &v->n_now);
}

static enum sw_status incomparable(struct sw_compare_work *w, struct sw_figure *f, const char *what,
                                   int base, int now)
{
    f->verdict = SW_VERDICT_INCOMPARABLE;
    f->note = sw_compare_text(w, "%d %s in BASE, %d in NEW", base, what, now);
    return SW_OK;
}

/* NaN or infinite in NEW where BASE has a number. */
static bool has_lost(const double *base, const double *now, int n)
{
    bool lost = false;
    for (int i = 0; i < n; i++)
        lost |= isfinite(base[i]) && !isfinite(now[i]);
    return lost;
}

static enum sw_status compare_paired(struct sw_compare_work *w, const struct sw_compare_pair *pair,
                                     struct sw_figure *f, struct sw_compare_pending *pending)
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
        for (int i = 0; i < n; i++)
            v.now[i] -= v.base[i];
        SW_TRY_GOTO(st, out, sw_sign_flip(v.now, n, (uint64_t)pair->base->row->seed, &f->p));
        f->note = sw_compare_text(w, "%d of %d samples moved", moved, n);
    }
out:
    free_values(&v);
    return st;
}

/* Overall value, layers, heads. Across machines a head's few blocks say more about ties than about
 * the rule: layers count, heads do not. */
static enum sw_status compare_exact(struct sw_compare_work *w, const struct sw_compare_pair *pair,
                                    struct sw_figure *f, struct sw_compare_pending *pending)
{
    static const char *const groups[] = {"per_layer", "per_layer_head"},
                             *const names[] = {"layers", "values of layers and heads"};
    double tolerance = pair->same_kernels ? pending->tolerance : LAYER_ACROSS * pending->tolerance;
    pending->moved = sw_differing(&f->base, &f->now, 1, pending->tolerance);
    f->change = f->now - f->base;
    for (int g = 0; g < (pair->same_kernels ? 2 : 1); g++) {
        struct values v;
        enum sw_status st = read_values(pair, groups[g], f->metric, &v);
        if (st == SW_OK && v.n_base != v.n_now)
            st = incomparable(w, f, names[g], v.n_base, v.n_now);
        bool both = st == SW_OK && v.n_base == v.n_now;
        int differing = both ? sw_differing(v.base, v.now, v.n_base, tolerance) : 0;
        pending->broken |= both && has_lost(v.base, v.now, v.n_base);
        if (differing)
            f->note = sw_compare_text(w, "%d of %d %s differ", differing, v.n_base, names[g]);
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

static struct baseline baseline_of(const struct sw_compare_work *w,
                                   const struct sw_tidy_row *base_row,
                                   const struct sw_tidy_row *now_row)
{
    struct baseline found = {0};
    int n;
    const struct sw_tidy_row *const *rows = sw_same_all_dense(w->base.same, base_row, &n);
    if (strcmp(base_row->method, "dense") == 0)
        return found;
    for (int i = 0; i < n; i++) {
        const struct sw_compared_cell
            *dense = &w->base.cells[w->base.cell_of[rows[i] - w->base.tidy->rows]],
            *partner = dense->partner;
        const struct sw_tidy_row *now =
            partner ? sw_compare_row(&w->now, partner, base_row->metric) : NULL;
        if (!now || strcmp(now->conditions, now_row->conditions) != 0)
            continue;
        if (!found.base || rows[i]->value * now->value < found.base->value * found.now->value)
            found = (struct baseline){rows[i], now};
    }
    return found;
}

static enum sw_status read_samples(const struct sw_compare_side *side,
                                   const struct sw_tidy_row *row, double **values, int *n)
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
static enum sw_status time_ratio(struct sw_figure *f, struct sw_compare_pending *pending,
                                 const struct sw_sample_set *sets, int n_sets, uint64_t seed)
{
    struct sw_interval x;
    bool enough = true;
    for (int i = 0; i < n_sets; i++)
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

static enum sw_status compare_times(struct sw_compare_work *w, const struct sw_compare_pair *pair,
                                    const struct sw_watched *what)
{
    const struct sw_tidy_row *base_row = sw_compare_row(&w->base, pair->base, what->metric),
                             *now_row = sw_compare_row(&w->now, pair->now, what->metric);
    struct baseline baseline = baseline_of(w, base_row, now_row);
    struct values v, dense = {0};
    struct sw_compare_pending *pending;
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

static enum sw_status compare_metric(struct sw_compare_work *w, const struct sw_compare_pair *pair,
                                     const struct sw_watched *what)
{
    const struct sw_tidy_row *base = sw_compare_row(&w->base, pair->base, what->metric),
                             *now = sw_compare_row(&w->now, pair->now, what->metric);
    struct sw_compare_pending *pending;
    if (!base || (what->rule == SW_COMPARE_BYTES && !pair->same_machine))
        return SW_OK;
    if (now && what->rule == SW_COMPARE_TIMED)
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
    if (what->rule == SW_COMPARE_PAIRED)
        return compare_paired(w, pair, f, pending);
    if (what->rule == SW_COMPARE_EXACT)
        return compare_exact(w, pair, f, pending);
    f->change = f->now / f->base;
    return SW_OK;
}

enum sw_status sw_compare_figures(struct sw_compare_work *w, struct sw_compare_pair *pair)
{
    SW_TRY(sw_cell_reader_open(w->base.results, pair->base->row->cell, &pair->base_reader));
    enum sw_status st =
        sw_cell_reader_open(w->now.results, pair->now->row->cell, &pair->now_reader);
    for (const struct sw_watched *what = watched; what->metric && st == SW_OK; what++)
        st = compare_metric(w, pair, what);
    sw_cell_reader_close(pair->base_reader);
    sw_cell_reader_close(pair->now_reader);
    w->out->pairs++;
    return st;
}
