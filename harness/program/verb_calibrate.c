/* swbench calibrate: for every method of a config that has a threshold of its own, the threshold at
 * which it keeps the densities of the axes, on prompts that the config does not use. Density grows
 * with the threshold, or falls, so that bisection finds it. And the layers that are to select, for
 * methods that ask for a search (harness/run/layer_search.h). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/inputs/inputs.h"
#include "harness/judge/label.h"
#include "harness/plan/calibration.h"
#include "harness/plan/plan.h"
#include "harness/program/cli.h"
#include "harness/run/interrupt.h"
#include "harness/run/layer_search.h"
#include "harness/run/runner.h"
#include "kernels/open.h"

enum { ROUNDS = 30, PROMPTS = 2 };
/* of the density asked for; within 0.02 is what a calibrated budget promises */
static const double CLOSE_ENOUGH = 0.005;
static const double PROMISED = 0.02;
static const double FINEST = 1e-6; /* of the threshold's range */

struct search {
    struct sw_cell *cell;
    const char *name;     /* what the cell is called beside the others of the plan */
    double low, high, at; /* where the threshold lies, and what is tried now: first the least */
    double range;
    double sum; /* of densities over the prompts of this round */
    double best, achieved;
    bool done;
};

static void set_threshold(const struct sw_cell *cell, double value)
{
    const struct sw_param *p = sw_param_find(cell->method->params, cell->method->threshold);
    *(double *)(void *)((char *)cell->params + p->offset) = value;
}

/* One round: the density that each open search's threshold gives, a prompt's searches one after the
 * other, so that its tensors are made once. */
static enum sw_status evaluate(struct sw_runner *runner, struct search *s, int n, int prompts)
{
    for (int i = 0; i < n; i++)
        s[i].sum = 0;
    for (int p = 0; p < prompts; p++)
        for (int i = 0; i < n; i++) {
            double density;
            if (s[i].done)
                continue;
            SW_TRY(sw_interrupt_check());
            set_threshold(s[i].cell, s[i].at);
            SW_TRY(sw_runner_density(runner, s[i].cell, p, &density));
            s[i].sum += density;
        }
    return SW_OK;
}

static void narrow(struct search *s, int prompts)
{
    double density = s->sum / prompts, wanted = s->cell->density;
    if (s->done)
        return;
    if (isnan(s->achieved) || fabs(density - wanted) < fabs(s->achieved - wanted)) {
        s->best = s->at;
        s->achieved = density;
    }
    if ((density < wanted) != s->cell->method->threshold_falls)
        s->low = s->at;
    else
        s->high = s->at;
    s->at = 0.5 * (s->low + s->high);
    /* Also done: what the least threshold keeps is too much already, or the range is a point. */
    s->done = fabs(s->achieved - wanted) <= CLOSE_ENOUGH * wanted ||
              s->high - s->low <= 2 * FINEST * s->range;
}

/* All searches over one input. */
static enum sw_status search_input(struct sw_runner *runner, struct search *s, int n, int prompts)
{
    for (int round = 0; round < ROUNDS; round++) {
        SW_TRY(evaluate(runner, s, n, prompts));
        bool open = false;
        for (int i = 0; i < n; i++) {
            narrow(&s[i], prompts);
            open = open || !s[i].done;
        }
        if (!open)
            break;
    }
    return SW_OK;
}

static void tell(const struct search *s, bool quiet)
{
    double off = fabs(s->achieved - s->cell->density) / s->cell->density;
    if (!quiet || off > PROMISED)
        fprintf(stderr, "%s%s: %s %.6g keeps %.4f\n",
                off > PROMISED ? "warning: no threshold comes within 2 %: " : "", s->name,
                s->cell->method->threshold, s->best, s->achieved);
}

/* The cells that have a threshold to find, as searches over its whole range. */
static enum sw_status collect(struct sw_plan *plan, const struct sw_label *labels,
                              struct search **out, int *n)
{
    struct search *s = calloc((size_t)plan->count + 1, sizeof *s);
    *n = 0;
    if (!s)
        return SW_FAIL(SW_ENOMEM, "calibration: out of host memory");
    for (int i = 0; i < plan->count; i++) {
        struct sw_cell *cell = &plan->cells[i];
        if (cell->state == SW_CELL_SKIPPED || cell->budget != SW_BUDGET_CALIBRATED ||
            cell->method->flags & SW_METHOD_DENSE)
            continue;
        const struct sw_param *p = sw_param_find(cell->method->params, cell->method->threshold);
        double range = p->max - p->min, finest = FINEST * range;
        s[(*n)++] =
            (struct search){.cell = cell,
                            .name = labels[i].full,
                            .low = p->min,
                            .high = p->max,
                            .at = cell->method->threshold_falls ? p->max - finest : p->min + finest,
                            .range = range,
                            .achieved = NAN};
    }
    *out = s;
    return SW_OK;
}

/* A bundle has one prompt, and none but those that the config uses. */
static bool is_bundle(const struct sw_cell *cell)
{
    return cell->workload->kind == SW_WORKLOAD_TENSORS;
}

/* All searches, those over one input together. */
static enum sw_status search_all(struct sw_runner *runner, struct search *s, int n, int prompts,
                                 bool quiet)
{
    for (int i = 0, end; i < n; i = end) {
        end = i + 1;
        while (end < n && s[end].cell->input == s[i].cell->input)
            end++;
        SW_TRY(search_input(runner, s + i, end - i, is_bundle(s[i].cell) ? 1 : prompts));
        for (int k = i; k < end; k++)
            tell(&s[k], quiet);
    }
    return SW_OK;
}

/* --- layers ----------------------------------------------------------------------------------- */

struct layers {
    struct sw_cell *cell;
    const char *name; /* as of a search */
    struct sw_layer_search search;
    struct sw_layers_found found;
};

/* The cells of which layers are to be found. */
static enum sw_status collect_layers(struct sw_plan *plan, const struct sw_label *labels,
                                     struct layers **out, int *n)
{
    struct layers *s = calloc((size_t)plan->count + 1, sizeof *s);
    *n = 0;
    if (!s)
        return SW_FAIL(SW_ENOMEM, "calibration: out of host memory");
    for (int i = 0; i < plan->count; i++) {
        struct sw_cell *cell = &plan->cells[i];
        if (cell->state == SW_CELL_SKIPPED || !cell->method->layer_search)
            continue;
        struct sw_layer_search search = cell->method->layer_search(cell->params, &cell->shape);
        if (search.kind != SW_SEARCH_NONE)
            s[(*n)++] = (struct layers){.cell = cell, .name = labels[i].full, .search = search};
    }
    *out = s;
    return SW_OK;
}

static enum sw_status search_layers(struct sw_runner *runner, struct layers *s, int n, int prompts,
                                    bool quiet)
{
    for (int i = 0; i < n; i++) {
        SW_TRY(sw_layer_search(runner, s[i].cell, &s[i].search, is_bundle(s[i].cell) ? 1 : prompts,
                               &s[i].found));
        if (!quiet)
            fprintf(stderr, "%s: %s %s, %s %.4f\n", s[i].name, s[i].search.layers,
                    s[i].found.layers,
                    s[i].search.kind == SW_SEARCH_LOSS ? "loss" : "share of mass kept",
                    s[i].found.score);
    }
    return SW_OK;
}

static void free_layers(struct layers *s, int n)
{
    for (int i = 0; s && i < n; i++)
        sw_layers_found_clear(&s[i].found);
    free(s);
}

/* --- the file --------------------------------------------------------------------------------- */

static enum sw_status write_found(const char *path, const struct search *s, int n,
                                  const struct layers *layers, int n_layers, int prompts)
{
    bool held_out = true;
    int count = 0;
    struct sw_calibrated *found = calloc((size_t)n + 2 * (size_t)n_layers, sizeof *found);
    if (!found)
        return SW_FAIL(SW_ENOMEM, "calibration: out of host memory");
    for (int i = 0; i < n; i++)
        found[count++] = (struct sw_calibrated){.cell = s[i].cell,
                                                .parameter = s[i].cell->method->threshold,
                                                .value = s[i].best,
                                                .achieved = s[i].achieved};
    for (int i = 0; i < n_layers; i++) {
        const struct layers *l = &layers[i];
        struct sw_calibrated one = {.cell = l->cell,
                                    .parameter = l->search.layers,
                                    .text = l->found.layers,
                                    .achieved = l->found.score};
        found[count++] = one;
        one.parameter = l->search.sources;
        one.text = l->found.sources;
        if (one.text)
            found[count++] = one;
    }
    for (int i = 0; i < count; i++) {
        found[i].prompts = is_bundle(found[i].cell) ? 1 : prompts;
        held_out = held_out && !is_bundle(found[i].cell);
    }
    enum sw_status st = sw_calibration_write(path, found, count, held_out);
    free(found);
    return st;
}

static enum sw_status calibrate(const struct sw_config *config, int prompts, bool quiet)
{
    /* The same experiment on other prompts, of which nothing but density is measured. */
    struct sw_config held_out = *config;
    held_out.seed = config->seed + 1;
    held_out.calibrating = true;
    held_out.measure = held_out.save = 0;
    static enum sw_phase prefill = SW_PHASE_PREFILL; /* decode has no thresholds to find */
    held_out.phases = &prefill;
    held_out.n_phases = 1;

    struct sw_backend *backend = NULL;
    struct sw_plan *plan = NULL;
    struct sw_label *labels = NULL;
    struct sw_runner *runner = NULL;
    struct search *searches = NULL;
    struct layers *layers = NULL;
    int n = 0, n_layers = 0;
    enum sw_status st;
    SW_TRY_GOTO(st, done, sw_backend_open(config->backend, config->threads, &backend));
    st = sw_plan_make(&held_out, backend, NULL, &plan);
    if (st != SW_OK)
        SW_TRY_GOTO(st, done,
                    sw_context(st, "held-out prompts (seed %llu; `prepare.py --held-out`)",
                               (unsigned long long)held_out.seed));
    SW_TRY_GOTO(st, done, sw_label_plan(plan, &labels));
    SW_TRY_GOTO(st, done, collect(plan, labels, &searches, &n));
    SW_TRY_GOTO(st, done, collect_layers(plan, labels, &layers, &n_layers));
    if (n + n_layers == 0)
        SW_TRY_GOTO(st, done,
                    SW_FAIL(SW_EINPUT,
                            "%s: found no method with a threshold, expected one of those that "
                            "'swbench help calibrate' names",
                            config->file));
    SW_TRY_GOTO(st, done, sw_calibration_writable(config->calibration));
    SW_TRY_GOTO(st, done, sw_runner_new(backend, "", &runner));
    SW_TRY_GOTO(st, done, search_all(runner, searches, n, prompts, quiet));
    SW_TRY_GOTO(st, done, search_layers(runner, layers, n_layers, prompts, quiet));
    st = write_found(config->calibration, searches, n, layers, n_layers, prompts);
done:
    free_layers(layers, n_layers);
    free(searches);
    sw_runner_free(runner);
    sw_labels_free(labels, plan ? plan->count : 0);
    sw_plan_free(plan);
    sw_backend_close(backend);
    return st;
}

int sw_verb_calibrate(int argc, char **argv)
{
    struct sw_cli cli;
    struct sw_config *config = NULL;
    int prompts = PROMPTS;
    enum sw_status st = sw_cli_parse(argc, argv, 1, 1, &cli);
    if (st == SW_OK)
        st = sw_cli_int(&cli, "--prompts", 1, 100000, PROMPTS, &prompts);
    if (st == SW_OK)
        st = sw_cli_config_set(&cli, "budget=calibrated", &config); /* decides defaults too */
    if (st == SW_OK && !config->calibration)
        st = SW_FAIL(SW_EINPUT,
                     "%s: calibration: missing, expected the file to write (a key of the config, "
                     "or --set calibration=FILE)",
                     config->file);
    if (st == SW_OK) {
        sw_interrupt_install();
        st = calibrate(config, prompts, sw_cli_has(&cli, "-q"));
        if (st == SW_OK && !sw_cli_has(&cli, "-q"))
            fprintf(stderr, "%s: what was found is written to %s\n", config->name,
                    config->calibration);
    }
    int code = sw_cli_exit(st);
    sw_config_free(config);
    sw_inputs_forget();
    return code;
}
