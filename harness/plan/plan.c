/* Expands a config into cells: the product of its workloads, axes and parameter lists. */
#include "harness/plan/plan.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/config/identity.h"
#include "harness/config/param_json.h"
#include "harness/inputs/inputs.h"
#include "harness/plan/calibration.h"
#include "harness/plan/estimate.h"
#include "harness/store/store.h"

enum { CELLS_MAX = 100000 };

/* Where the expansion stands. Its loops are nested functions, from workloads inwards; each sets the
 * members that its own loop decides and calls the next. */
struct maker {
    const struct sw_config *config;
    const struct sw_backend *backend;
    const char *output;
    struct sw_plan *plan;
    int capacity;
    const struct sw_workload *workload;
    const char *task;
    const struct sw_input *input;             /* of the workload, task and context */
    const struct sw_calibration *calibration; /* of calibrated budgets; NULL: none */
    const struct sw_method_config *method;
    const int *choice; /* per parameter, which of its values */
};

static enum sw_status no_memory(void) { return SW_FAIL(SW_ENOMEM, "no memory for the plan"); }

/* --- one cell --------------------------------------------------------------------------------- */

static enum sw_status skip(struct sw_cell *cell, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static enum sw_status skip(struct sw_cell *cell, const char *format, ...)
{
    if (cell->reason)
        return SW_OK; /* the first reason will do */
    va_list ap;
    va_start(ap, format);
    int used = vasprintf(&cell->reason, format, ap);
    va_end(ap);
    if (used < 0) {
        cell->reason = NULL;
        return no_memory();
    }
    cell->state = SW_CELL_SKIPPED;
    return SW_OK;
}

/* The parameters of this combination. */
static enum sw_status set_params(const struct maker *m, struct sw_cell *cell)
{
    const struct sw_method *method = cell->method;
    cell->params = calloc(1, method->params_size);
    if (!cell->params)
        return no_memory();
    for (int i = 0; method->params[i].name; i++)
        SW_TRY(sw_param_set(&method->params[i], cell->params,
                            m->method->values[i].items[m->choice[i]]));
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the cell owns its params */
    return sw_param_json(method->params, cell->params, &cell->params_json);
}

/* How this combination of method and parameters comes to its density. */
struct budget {
    enum sw_budget_mode mode;
    const double *densities; /* NaN: the method's own rule decides */
    int n_densities;
};

/* A calibrated budget needs a threshold: methods without one get the density itself, as matched.
 * Where the density decides nothing there is one cell. A native budget without a density axis means
 * the 20 % that the papers speak of. */
static enum sw_status decide_budget(const struct maker *m, struct budget *out)
{
    static const double all[] = {1}, own[] = {NAN}, published[] = {0.2};
    const struct sw_method *method = m->method->method;
    enum sw_budget_mode mode = m->config->budget;
    if (mode == SW_BUDGET_CALIBRATED && !method->threshold)
        mode = SW_BUDGET_MATCHED;
    *out = (struct budget){.mode = mode, .densities = all, .n_densities = 1};
    if (method->flags & SW_METHOD_DENSE)
        return SW_OK;
    bool counts = mode != SW_BUDGET_NATIVE || !(method->flags & SW_METHOD_NATIVE);
    if (method->uses_density) {
        struct sw_cell asked = {.method = method};
        enum sw_status st = set_params(m, &asked);
        counts = st == SW_OK && method->uses_density(asked.params, mode);
        sw_cell_clear(&asked);
        SW_TRY(st);
    }
    if (!counts) {
        out->densities = own;
    } else if (m->workload->n_densities > 0) {
        out->densities = m->workload->densities;
        out->n_densities = m->workload->n_densities;
    } else if (m->config->n_densities > 0) {
        out->densities = m->config->densities;
        out->n_densities = m->config->n_densities;
    } else {
        out->densities = published;
    }
    return SW_OK;
}

static enum sw_status set_found(const struct maker *m, struct sw_cell *cell, const char *parameter,
                                const char *text)
{
    enum sw_status st =
        sw_param_set(sw_param_find(cell->method->params, parameter), cell->params, text);
    return st == SW_OK ? st
                       : sw_context(st, "%s: %s of %s", m->config->calibration, parameter,
                                    cell->method->name);
}

/* What 'swbench calibrate' has found for the cell, as its parameters: the threshold that keeps its
 * density, or the layers that select. */
static enum sw_status calibrate(const struct maker *m, struct sw_cell *cell)
{
    struct sw_layer_search search = {0};
    const struct sw_method *method = cell->method;
    if (method->layer_search)
        search = method->layer_search(cell->params, &cell->shape);
    const char *wanted[] = {
        cell->budget == SW_BUDGET_CALIBRATED ? method->threshold : search.layers, search.sources};
    enum { WANTED = sizeof wanted / sizeof *wanted };
    char *found[WANTED] = {0};
    if (!wanted[0] || m->config->calibrating || method->flags & SW_METHOD_DENSE)
        return SW_OK;
    if (!m->calibration)
        return skip(cell,
                    "a calibrated %s needs the file that 'swbench calibrate' writes (key "
                    "calibration, with budget: calibrated)",
                    wanted[0]);
    enum sw_status st = SW_OK;
    const char *missing = NULL;
    for (int i = 0; i < WANTED; i++)
        if (wanted[i] && !(found[i] = sw_calibration_find(m->calibration, cell, wanted[i])))
            missing = wanted[i];
    for (int i = 0; i < WANTED; i++) {
        if (st == SW_OK && !missing && found[i])
            st = set_found(m, cell, wanted[i], found[i]);
        free(found[i]);
    }
    SW_TRY(st);
    if (missing)
        return skip(cell, "%s has no %s for this input and density; run 'swbench calibrate' again",
                    m->config->calibration, missing);
    free(cell->params_json);
    cell->params_json = NULL;
    return sw_param_json(method->params, cell->params, &cell->params_json);
}

/* The content of files that parameters name. */
static enum sw_status hash_param_files(struct sw_cell *cell)
{
    for (const struct sw_param *p = cell->method->params; p->name; p++) {
        char hash[SW_HASH_SIZE];
        const char *path =
            p->file ? *(char *const *)(const void *)((const char *)cell->params + p->offset) : NULL;
        if (!path)
            continue;
        SW_TRY(sw_input_hash_file(path, hash));
        SW_TRY(sw_texts_add(&cell->param_files, p->name));
        SW_TRY(sw_texts_add(&cell->param_files, hash));
    }
    return SW_OK;
}

/* Skips a cell that cannot run here, with the reason. */
static enum sw_status check_runs(const struct maker *m, struct sw_cell *cell)
{
    const struct sw_method *method = cell->method;
    enum sw_budget_mode budget = cell->budget;
    bool dense = method->flags & SW_METHOD_DENSE;
    if (method->check) {
        enum sw_status st = method->check(cell->params, &cell->shape, budget);
        if (st == SW_EUNSUPPORTED) {
            st = skip(cell, "%s", sw_error_message());
            sw_error_clear();
        }
        if (st != SW_OK)
            return sw_context(st, "%s:%d: %s", m->config->file, m->method->line, method->name);
    }
    if (budget == SW_BUDGET_NATIVE && !dense && !(method->flags & SW_METHOD_NATIVE))
        SW_TRY(skip(cell, "%s has no native budget", method->name));
    if (cell->phase != SW_PHASE_DECODE && !(method->flags & SW_METHOD_PREFILL))
        SW_TRY(skip(cell, "%s selects in decode only", method->name));
    if (cell->phase != SW_PHASE_PREFILL && !(method->flags & SW_METHOD_DECODE))
        SW_TRY(skip(cell, "%s selects in prefill only", method->name));
    if (cell->phase != SW_PHASE_PREFILL && cell->workload->kind == SW_WORKLOAD_TENSORS &&
        m->input->decode_tokens == 0)
        SW_TRY(skip(cell, "the bundle has no /decode"));
    return SW_OK;
}

static enum sw_status fill_cell(const struct maker *m, const struct budget *budget, double density,
                                enum sw_phase phase, struct sw_cell *cell)
{
    *cell =
        (struct sw_cell){.config = m->config,
                         .workload = m->workload,
                         .task = m->task,
                         .input = m->input,
                         .method = m->method->method,
                         .context = m->input->n,
                         .density = density,
                         .phase = phase,
                         .seed = m->config->seed,
                         .shape = m->input->shape,
                         .budget = budget->mode,
                         .dense_layers = m->workload->dense_layers >= 0 ? m->workload->dense_layers
                                                                        : m->config->dense_layers};
    memcpy(cell->input_hash, m->input->hash, sizeof cell->input_hash);
    SW_TRY(set_params(m, cell));
    SW_TRY(calibrate(m, cell));
    SW_TRY(check_runs(m, cell));
    SW_TRY(hash_param_files(cell));
    sw_estimate(cell, m->backend);
    SW_TRY(sw_identify(cell, m->backend));
    bool failed = false;
    if (cell->state == SW_CELL_TODO && m->output &&
        sw_store_has_cell(m->output, cell->key, &failed) && !failed)
        cell->state = SW_CELL_CACHED;
    return SW_OK;
}

static enum sw_status add_cell(struct maker *m, const struct budget *budget, double density,
                               enum sw_phase phase)
{
    struct sw_plan *plan = m->plan;
    if (plan->count == CELLS_MAX)
        return SW_FAIL(SW_EINPUT, "%s: found more than %d cells, expected fewer values on the axes",
                       m->config->file, CELLS_MAX);
    if (plan->count == m->capacity) {
        int capacity = m->capacity ? 2 * m->capacity : 64;
        struct sw_cell *cells = realloc(plan->cells, (size_t)capacity * sizeof *cells);
        if (!cells)
            return no_memory();
        plan->cells = cells;
        m->capacity = capacity;
    }
    return fill_cell(m, budget, density, phase, &plan->cells[plan->count++]);
}

/* --- the expansion ---------------------------------------------------------------------------- */

static enum sw_status expand_densities(struct maker *m)
{
    struct budget budget;
    SW_TRY(decide_budget(m, &budget));
    bool own = m->workload->n_phases > 0;
    const enum sw_phase *phases = own ? m->workload->phases : m->config->phases;
    int n_phases = own ? m->workload->n_phases : m->config->n_phases;
    for (int i = 0; i < budget.n_densities; i++)
        for (int p = 0; p < n_phases; p++)
            SW_TRY(add_cell(m, &budget, budget.densities[i], phases[p]));
    return SW_OK;
}

/* Every combination of the parameters' values, the last parameter running fastest. */
static enum sw_status expand_params(struct maker *m)
{
    const struct sw_param *params = m->method->method->params;
    int count = 0;
    while (params[count].name)
        count++;
    int *choice = calloc((size_t)count + 1, sizeof *choice);
    if (!choice)
        return no_memory();
    m->choice = choice;
    enum sw_status st = SW_OK;
    for (int i = 0; st == SW_OK && i >= 0;) {
        st = expand_densities(m);
        for (i = count - 1; i >= 0 && ++choice[i] == m->method->values[i].count; i--)
            choice[i] = 0;
    }
    free(choice);
    m->choice = NULL;
    return st;
}

/* Describes an input and keeps it in the plan, for the cells that point to it. */
static enum sw_status add_input(struct maker *m, int context)
{
    struct sw_plan *plan = m->plan;
    struct sw_input **inputs =
        realloc(plan->inputs, ((size_t)plan->n_inputs + 1) * sizeof *plan->inputs);
    if (!inputs)
        return no_memory();
    plan->inputs = inputs;
    struct sw_input *input = calloc(1, sizeof *input);
    if (!input)
        return no_memory();
    plan->inputs[plan->n_inputs++] = input;
    m->input = input;
    return sw_input_describe(m->config, m->workload, m->task, context, input);
}

/* All cells of one prepared input. */
static enum sw_status expand_input(struct maker *m, int context)
{
    const struct sw_config *c = m->config;
    enum sw_status st = add_input(m, context);
    if (st != SW_OK)
        return sw_context(st, "%s:%d", c->file, m->workload->line);
    for (int i = 0; st == SW_OK && i < c->n_methods; i++) {
        m->method = &c->methods[i];
        st = expand_params(m);
    }
    return st;
}

static enum sw_status expand_contexts(struct maker *m)
{
    if (m->workload->kind == SW_WORKLOAD_TENSORS)
        return expand_input(m, 0);
    bool own = m->workload->n_contexts > 0;
    const int *contexts = own ? m->workload->contexts : m->config->contexts;
    for (int i = 0; i < (own ? m->workload->n_contexts : m->config->n_contexts); i++)
        SW_TRY(expand_input(m, contexts[i]));
    return SW_OK;
}

static enum sw_status expand_workloads(struct maker *m)
{
    for (int i = 0; i < m->config->n_workloads; i++) {
        m->workload = &m->config->workloads[i];
        m->task = NULL;
        if (m->workload->kind != SW_WORKLOAD_TASK)
            SW_TRY(expand_contexts(m));
        for (int t = 0; t < m->workload->tasks.count; t++) {
            m->task = m->workload->tasks.items[t];
            SW_TRY(expand_contexts(m));
        }
    }
    return SW_OK;
}

static int by_key(const void *a, const void *b)
{
    const struct sw_cell *const *x = a, *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

/* Two cells of one key would write one file. */
static enum sw_status check_unique(const struct sw_plan *plan)
{
    const struct sw_cell **sorted = malloc(((size_t)plan->count + 1) * sizeof *sorted);
    if (!sorted)
        return no_memory();
    for (int i = 0; i < plan->count; i++)
        sorted[i] = &plan->cells[i];
    qsort(sorted, (size_t)plan->count, sizeof *sorted, by_key);
    enum sw_status st = SW_OK;
    for (int i = 1; i < plan->count && st == SW_OK; i++)
        if (strcmp(sorted[i]->key, sorted[i - 1]->key) == 0) {
            int a = sorted[i]->workload->line, b = sorted[i - 1]->workload->line;
            st = SW_FAIL(SW_EINPUT,
                         "%s:%d: workloads: found the cells of line %d again (%s, %s), expected "
                         "another workload",
                         sorted[i]->config->file, a > b ? a : b, a > b ? b : a,
                         sw_cell_model(sorted[i]), sw_cell_task(sorted[i]));
        }
    free(sorted);
    return st;
}

enum sw_status sw_plan_make(const struct sw_config *config, const struct sw_backend *backend,
                            const char *output, struct sw_plan **out)
{
    *out = NULL;
    struct maker m = {
        .config = config, .backend = backend, .output = output, .plan = calloc(1, sizeof *m.plan)};
    if (!m.plan)
        return no_memory();
    struct sw_calibration *calibration = NULL;
    enum sw_status st = SW_OK;
    if (config->budget == SW_BUDGET_CALIBRATED && config->calibration && !config->calibrating)
        st = sw_calibration_read(config->calibration, &calibration);
    m.calibration = calibration;
    if (st == SW_OK)
        st = expand_workloads(&m);
    sw_calibration_free(calibration);
    if (st == SW_OK)
        st = check_unique(m.plan);
    if (st != SW_OK) {
        sw_plan_free(m.plan);
        return st;
    }
    *out = m.plan;
    return SW_OK;
}

void sw_plan_free(struct sw_plan *plan)
{
    if (!plan)
        return;
    for (int i = 0; i < plan->count; i++)
        sw_cell_clear(&plan->cells[i]);
    for (int i = 0; i < plan->n_inputs; i++) {
        sw_input_clear(plan->inputs[i]);
        free(plan->inputs[i]);
    }
    free(plan->inputs);
    free(plan->cells);
    free(plan);
}
