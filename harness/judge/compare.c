/* A comparison: findings, the figures of all pairs, and their verdicts. */
#include "harness/judge/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/judge/compare_parts.h"
#include "harness/store/result.h"

const char *const sw_figure_class_names[] = {"accuracy", "selection", "speed", "memory", NULL};
const char *const sw_finding_names[] = {"failed", "missing", "not comparable", "only in NEW", NULL};

static enum sw_status add_finding(struct sw_compare_work *w, enum sw_finding_kind kind,
                                  const struct sw_compared_cell *cell, const char *why)
{
    struct sw_comparison *c = w->out;
    struct sw_finding *grown = realloc(c->findings, ((size_t)c->n_findings + 1) * sizeof *grown);
    if (!grown)
        return SW_FAIL(SW_ENOMEM, "out of memory (findings)");
    c->findings = grown;
    /* copies: the cells, and what they say, do not outlive the work */
    grown[c->n_findings++] = (struct sw_finding){kind, sw_compare_text(w, "%s", cell->label),
                                                 sw_compare_text(w, "%s", why)};
    return SW_OK;
}

/* --- pairs ------------------------------------------------------------------------------------ */

static bool has_status(const struct sw_compared_cell *cell, enum sw_result_status status)
{
    return strcmp(cell->row->status, sw_result_status_names[status]) == 0;
}

/* A pair of which not both have results. */
static enum sw_status report_missing(struct sw_compare_work *w, const struct sw_compared_cell *base,
                                     const struct sw_compared_cell *now)
{
    if (has_status(base, SW_RESULT_OK))
        return add_finding(
            w, has_status(now, SW_RESULT_FAILED) ? SW_FINDING_FAILED : SW_FINDING_MISSING, base,
            sw_compare_text(w, "%s in NEW: %s", now->row->status, now->row->reason));
    if (has_status(now, SW_RESULT_OK))
        return add_finding(w, SW_FINDING_EXTRA, base,
                           sw_compare_text(w, "%s in BASE, ok in NEW", base->row->status));
    if (has_status(base, SW_RESULT_SKIPPED) && has_status(now, SW_RESULT_SKIPPED))
        return SW_OK; /* neither machine can run it */
    return add_finding(
        w, SW_FINDING_INCOMPARABLE, base,
        sw_compare_text(w, "%s in BASE, %s in NEW", base->row->status, now->row->status));
}

static enum sw_status check_pair(struct sw_compare_work *w, const struct sw_compared_cell *base,
                                 const struct sw_compared_cell *now)
{
    struct sw_compare_pair pair = {
        .base = base, .now = now, .same_kernels = strcmp(base->kernels, now->kernels) == 0};
    pair.same_machine = pair.same_kernels && strcmp(base->row->device, now->row->device) == 0 &&
                        base->threads == now->threads;
    if (!has_status(base, SW_RESULT_OK) || !has_status(now, SW_RESULT_OK))
        return report_missing(w, base, now);
    if (strcmp(base->input, now->input) != 0)
        return add_finding(
            w, SW_FINDING_INCOMPARABLE, base,
            sw_compare_text(w, "the inputs differ (model or dataset): %s in BASE, %s in NEW",
                            base->input, now->input));
    if (!pair.same_machine && !w->rules->across_machines)
        return add_finding(
            w, SW_FINDING_INCOMPARABLE, base,
            sw_compare_text(w,
                            "the machines differ: %s (%s, %lld threads) in BASE, %s (%s, %lld "
                            "threads) in NEW; --across-machines compares what can be",
                            base->row->device, base->kernels, (long long)base->threads,
                            now->row->device, now->kernels, (long long)now->threads));
    return sw_compare_figures(w, &pair);
}

static enum sw_status compare_cells(struct sw_compare_work *w)
{
    sw_compare_pair_cells(&w->base, &w->now);
    for (int i = 0; i < w->base.n; i++) {
        const struct sw_compared_cell *base = &w->base.cells[i];
        if (base->partner)
            SW_TRY(check_pair(w, base, base->partner));
        else if (!has_status(base, SW_RESULT_SKIPPED))
            SW_TRY(add_finding(w, SW_FINDING_MISSING, base, "not in NEW"));
    }
    for (int i = 0; i < w->now.n; i++) {
        const struct sw_compared_cell *now = &w->now.cells[i];
        if (!now->partner)
            SW_TRY(add_finding(w, SW_FINDING_EXTRA, now,
                               has_status(now, SW_RESULT_OK) ? "" : now->row->status));
    }
    return SW_OK;
}

/* --- verdicts --------------------------------------------------------------------------------- */

static bool is_timed(const struct sw_compare_pending *p)
{
    return p->what->rule == SW_COMPARE_TIMED;
}

static enum sw_status correct_p(struct sw_compare_work *w, double *noise)
{
    struct sw_comparison *c = w->out;
    double *x = malloc(((size_t)c->n_figures + 1) * sizeof *x);
    if (!x)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d figures)", c->n_figures);
    int times = 0;
    for (int i = 0; i < c->n_figures; i++) {
        bool tells =
            is_timed(&w->pending[i]) && w->pending[i].relative && !isnan(w->pending[i].error);
        x[i] = tells ? log(c->figures[i].change) : NAN;
        times += tells;
    }
    enum sw_status st = sw_timing_noise(x, c->n_figures, noise);
    c->noise = times ? *noise : NAN;
    for (int i = 0; i < c->n_figures; i++) {
        struct sw_figure *f = &c->figures[i];
        if (is_timed(&w->pending[i])) /* NaN with too few samples */
            f->p = erfc(fabs(log(f->change)) / hypot(w->pending[i].error, *noise) / sqrt(2));
        x[i] = f->judged ? f->p : NAN;
    }
    if (st == SW_OK)
        st = sw_holm(x, c->n_figures);
    for (int i = 0; i < c->n_figures; i++)
        c->figures[i].p = x[i];
    free(x);
    return st;
}

static enum sw_verdict verdict_of(const struct sw_figure *f, const struct sw_compare_pending *p,
                                  const struct sw_compare_rules *rules, double noise)
{
    switch (p->what->rule) {
    case SW_COMPARE_PAIRED:
        return sw_verdict_paired(f->change, p->moved > 0, p->better, p->allowance, f->p);
    case SW_COMPARE_EXACT:
        return sw_verdict_exact(f->change, p->moved, p->better, p->tolerance);
    case SW_COMPARE_TIMED:
        return sw_verdict_timed(log(f->change), rules->slowdown, noise, f->p);
    case SW_COMPARE_BYTES:
        break;
    }
    return sw_verdict_memory(f->base, f->now);
}

static enum sw_status give_verdicts(struct sw_compare_work *w)
{
    struct sw_comparison *c = w->out;
    double noise = NAN;
    SW_TRY(correct_p(w, &noise));
    c->too_noisy = !isnan(c->noise) && !sw_timing_tells(noise, w->rules->slowdown);
    for (int i = 0; i < c->n_figures; i++) {
        struct sw_figure *f = &c->figures[i];
        if (f->verdict != SW_VERDICT_INCOMPARABLE)
            f->verdict = w->pending[i].broken ? SW_VERDICT_WORSE
                                              : verdict_of(f, &w->pending[i], w->rules, noise);
        if (w->pending[i].broken)
            f->note = "no number in NEW";
        if (f->judged)
            c->counts[f->class][f->verdict]++;
        f->cell = sw_compare_text(w, "%s", f->cell); /* outlives the sides */
        c->unjudged += w->pending[i].relative && !f->judged;
    }
    return SW_OK;
}

enum sw_status sw_compare(const char *base, const char *now, const struct sw_compare_rules *rules,
                          struct sw_comparison *out)
{
    *out = (struct sw_comparison){.noise = NAN};
    struct sw_compare_work w = {.rules = rules, .out = out};
    enum sw_status st = sw_compare_read_side(base, &w.base);
    if (st == SW_OK)
        st = sw_compare_read_side(now, &w.now);
    if (st == SW_OK)
        st = compare_cells(&w);
    if (st == SW_OK)
        st = give_verdicts(&w);
    sw_compare_clear_side(&w.base);
    sw_compare_clear_side(&w.now);
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
    for (int i = 0; i < SW_FIGURE_CLASSES; i++)
        for (int v = 0; v < SW_VERDICTS; v++)
            found[v] += c->counts[i][v];
    for (int i = 0; i < c->n_findings; i++) {
        found[SW_VERDICT_WORSE] += c->findings[i].kind == SW_FINDING_FAILED;
        found[SW_VERDICT_INCOMPARABLE] += c->findings[i].kind == SW_FINDING_MISSING ||
                                          c->findings[i].kind == SW_FINDING_INCOMPARABLE;
    }
    found[SW_VERDICT_INCOMPARABLE] += c->pairs == 0;
    static const enum sw_verdict order[] = {SW_VERDICT_WORSE, SW_VERDICT_INCOMPARABLE,
                                            SW_VERDICT_AMBIGUOUS, SW_VERDICT_BETTER};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        if (found[order[i]])
            return order[i];
    return SW_VERDICT_SAME;
}
