#include "harness/plan/plan.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "harness/inputs/inputs.h"
#include "harness/plan/calibration.h"
#include "harness/store/store.h"
#include "sw_version.h"

enum { CELLS_MAX = 100000 };

/* What is being expanded: the loops of this file, from outside in, each set one more of these. */
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

const char *sw_cell_workload(const struct sw_cell *cell)
{
    return sw_workload_kind_names[cell->workload->kind];
}

const char *sw_cell_model(const struct sw_cell *cell)
{
    const struct sw_workload *w = cell->workload;
    switch (w->kind) {
    case SW_WORKLOAD_TASK:
        return sw_input_base_name(w->model);
    case SW_WORKLOAD_TENSORS:
        return sw_input_base_name(w->path);
    case SW_WORKLOAD_SYNTHETIC:
        return w->shape->name;
    }
    return "";
}

const char *sw_cell_task(const struct sw_cell *cell)
{
    if (cell->workload->kind == SW_WORKLOAD_SYNTHETIC)
        return sw_generator_names[cell->workload->generator];
    return cell->task ? cell->task : "";
}

/* --- what is hashed: JSON --------------------------------------------------------------------- */

/* Compact JSON with members in the order written. Numbers and texts are written as sw_param_text
 * does, so that equal settings give equal bytes on every machine. */
struct json {
    FILE *out;
    char *text;
    size_t size;
    const char *separator; /* before the next member */
};

static enum sw_status json_begin(struct json *j)
{
    *j = (struct json){.separator = ""};
    j->out = open_memstream(&j->text, &j->size);
    return j->out ? SW_OK : no_memory();
}

static enum sw_status json_end(struct json *j, char **text)
{
    bool failed = ferror(j->out) != 0;
    *text = NULL;
    /* the C library may close well and have no text */
    if (fclose(j->out) != 0 || failed || !j->text) {
        free(j->text);
        return no_memory();
    }
    *text = j->text;
    return SW_OK;
}

static void json_key(struct json *j, const char *key)
{
    fprintf(j->out, "%s\"%s\": ", j->separator, key);
    j->separator = ", ";
}

static void json_open(struct json *j, const char *key, char bracket)
{
    if (key)
        json_key(j, key);
    fputc(bracket, j->out);
    j->separator = "";
}

static void json_close(struct json *j, char bracket)
{
    fputc(bracket, j->out);
    j->separator = ", ";
}

/* A quoted text; bytes that are no UTF-8 pass as they are. */
static void json_quote(struct json *j, const char *text)
{
    fputc('"', j->out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(j->out, "\\%c", *text);
        else if ((unsigned char)*text < 32)
            fprintf(j->out, "\\u%04x", *text);
        else
            fputc(*text, j->out);
    }
    fputc('"', j->out);
}

static void json_text(struct json *j, const char *key, const char *text)
{
    json_key(j, key);
    if (text)
        json_quote(j, text);
    else
        fputs("null", j->out);
}

static void json_int(struct json *j, const char *key, int64_t value)
{
    json_key(j, key);
    fprintf(j->out, "%" PRId64, value);
}

static void json_real(struct json *j, const char *key, double value)
{
    char text[40];
    const struct sw_param real = {.type = SW_PARAM_REAL};
    json_key(j, key);
    fputs(isfinite(value) ? sw_param_text(&real, &value, text, sizeof text) : "null", j->out);
}

static void json_names(struct json *j, const char *key, const char *const *names, unsigned set)
{
    json_open(j, key, '[');
    for (int i = 0; names[i]; i++)
        if (set & 1u << i) {
            fputs(j->separator, j->out);
            json_quote(j, names[i]);
            j->separator = ", ";
        }
    json_close(j, ']');
}

static enum sw_status params_json(const struct sw_method *method, const void *params, char **out)
{
    struct json j;
    SW_TRY(json_begin(&j));
    json_open(&j, NULL, '{');
    for (const struct sw_param *p = method->params; p->name; p++) {
        char text[1200];
        sw_param_text(p, params, text, sizeof text);
        if (p->type == SW_PARAM_CHOICE || p->type == SW_PARAM_TEXT) {
            json_text(&j, p->name, p->type == SW_PARAM_TEXT && !*text ? NULL : text);
        } else {
            json_key(&j, p->name);
            fputs(text, j.out);
        }
    }
    json_close(&j, '}');
    return json_end(&j, out);
}

static void workload_json(struct json *j, const struct sw_cell *cell)
{
    const struct sw_workload *w = cell->workload;
    json_open(j, "workload", '{');
    json_text(j, "kind", sw_workload_kind_names[w->kind]);
    /* names, not paths: content counts, by the input's hash */
    json_text(j, "model", sw_cell_model(cell));
    if (w->kind == SW_WORKLOAD_TASK) {
        json_text(j, "task", cell->task);
        json_int(j, "samples", w->samples);
        json_int(j, "recovery_samples", w->recovery_samples);
    }
    if (w->kind == SW_WORKLOAD_SYNTHETIC) {
        json_text(j, "generator", sw_generator_names[w->generator]);
        json_int(j, "layers", cell->shape.n_layers);
        json_int(j, "decode_tokens", w->decode_tokens);
        json_int(j, "whole_model", w->whole_model);
    }
    json_close(j, '}');
}

/* The content of the files that parameters name. */
static enum sw_status param_files_json(struct json *j, const struct sw_cell *cell)
{
    bool opened = false;
    for (const struct sw_param *p = cell->method->params; p->name; p++) {
        const char *path =
            p->file ? *(char *const *)(const void *)((const char *)cell->params + p->offset) : NULL;
        char hash[33];
        if (!path)
            continue;
        SW_TRY(sw_input_hash_file(path, hash));
        if (!opened)
            json_open(j, "param_files", '{');
        opened = true;
        json_text(j, p->name, hash);
    }
    if (opened)
        json_close(j, '}');
    return SW_OK;
}

/* The canonical text of all that decides a cell's outcome, and its hash. The number of threads
 * decides no metric but time, so it is there only when time is measured, and as configured: a sweep
 * that shares cores out among processes keeps its keys. */
static enum sw_status identify(const struct maker *m, struct sw_cell *cell)
{
    const struct sw_config *c = m->config;
    struct json j;
    SW_TRY(json_begin(&j));
    json_open(&j, NULL, '{');
    json_int(&j, "version", 1);
    json_text(&j, "code", SW_CODE_HASH);
    json_text(&j, "backend", m->backend->name);
    json_text(&j, "device", m->backend->device);
    workload_json(&j, cell);
    json_text(&j, "input", m->input->hash);
    json_text(&j, "method", cell->method->name);
    json_key(&j, "params");
    fputs(cell->params_json, j.out);
    enum sw_status st = param_files_json(&j, cell);
    if (st != SW_OK) {
        fclose(j.out);
        free(j.text);
        return st;
    }
    json_int(&j, "context", cell->context);
    json_real(&j, "density", cell->density);
    json_text(&j, "phase", sw_phase_names[cell->phase]);
    json_text(&j, "budget", sw_budget_mode_names[cell->budget]);
    json_int(&j, "dense_layers", cell->dense_layers);
    json_int(&j, "seed", (int64_t)cell->seed);
    json_names(&j, "measure", sw_measure_names, c->measure);
    json_names(&j, "save", sw_save_names, c->save);
    if (c->measure & SW_MEASURE_LATENCY) {
        json_int(&j, "threads", c->threads);
        json_open(&j, "timing", '{');
        json_real(&j, "warmup_ms", c->timing.warmup_ms);
        json_int(&j, "min_runs", c->timing.min_runs);
        json_real(&j, "max_seconds", c->timing.max_seconds);
        json_real(&j, "target_error", c->timing.target_error);
        json_close(&j, '}');
    }
    json_close(&j, '}');
    SW_TRY(json_end(&j, &cell->identity));
    XXH128_canonical_t hash;
    XXH128_canonicalFromHash(&hash, XXH3_128bits(cell->identity, strlen(cell->identity)));
    for (size_t i = 0; i < sizeof hash.digest; i++)
        snprintf(cell->key + 2 * i, 3, "%02x", hash.digest[i]);
    return SW_OK;
}

/* --- estimates -------------------------------------------------------------------------------- */

/* Rough, for planning only: sustained floating-point operations a second, and bytes read a
 * second. */
static double speed(const struct sw_backend *backend)
{
    return strcmp(backend->name, "cuda") == 0
               ? 2e14
               : 1.2e11 * (backend->threads > 0 ? backend->threads : 1);
}
static double bandwidth(const struct sw_backend *backend)
{
    return strcmp(backend->name, "cuda") == 0 ? 2e12 : 3e10;
}

/* Memory: weights, KV cache, one layer's Q, K, V and output, the widest activations, and two b × b
 * matrices a head for the methods' scores. Time: a pass costs 2 operations a weight and token and
 * 4·H·d a causal pair, all of them in dense layers and the kept share in others; a decode step
 * reads weights and KV cache once. Accuracy takes a pass and its decode steps a sample; recovery
 * two dense passes (the run, the truth) and a sparse one a probe; each of two timed figures its
 * warm-up and the runs that fit into a second, but no fewer than min_runs. */
static void estimate(const struct maker *m, struct sw_cell *cell)
{
    const struct sw_config *c = m->config;
    const struct sw_shape *s = &cell->shape;
    const struct sw_workload *w = cell->workload;
    bool task = w->kind == SW_WORKLOAD_TASK;
    double n = cell->context, total = n + m->input->decode_tokens, L = s->n_layers, H = s->n_heads,
           d = s->head_dim;
    double kept = isnan(cell->density) ? 0.3 : cell->density;
    double sparse_layers = cell->method->flags & SW_METHOD_DENSE ||
                                   cell->phase == SW_PHASE_DECODE || L < cell->dense_layers
                               ? 0
                               : L - cell->dense_layers;
    double rate = speed(m->backend), act = (double)sw_dtype_size(m->backend->act);
    double dense_pass = (2 * m->input->parameters * n + 2 * L * H * d * n * n) / rate;
    double pass = dense_pass - 2 * sparse_layers * H * d * n * n * (1 - kept) / rate;
    double step =
        (m->input->parameters + 2 * L * total * s->n_kv_heads * d) * act / bandwidth(m->backend);
    double steps =
        m->input->decode_tokens + (cell->phase == SW_PHASE_PREFILL ? 0 : m->input->scored_tokens);
    int block = ((const struct sw_method_params *)cell->params)->block_size;
    double b = ceil(n / block), layers_held = task ? L : 1;

    cell->memory_bytes =
        m->input->parameters * act + layers_held * 2 * total * s->n_kv_heads * d * act +
        2 * total * (2 * H + 2 * s->n_kv_heads) * d * act + 2 * H * b * b * sizeof(float) +
        (task ? 0 : total * (H + 2 * s->n_kv_heads) * d * sizeof(float));
    cell->seconds = 0;
    if (task && c->measure & SW_MEASURE_ACCURACY)
        cell->seconds += w->samples * (pass + steps * step);
    if (c->measure & (SW_MEASURE_RECOVERY | SW_MEASURE_OUTPUT_ERROR))
        cell->seconds += (task ? w->recovery_samples : 1) * (2 * dense_pass + pass);
    if (c->measure & SW_MEASURE_LATENCY) {
        double runs = c->timing.min_runs * (cell->phase == SW_PHASE_DECODE ? step : pass);
        cell->seconds +=
            2 * (c->timing.warmup_ms / 1e3 + fmax(runs, fmin(1, c->timing.max_seconds)));
    }
}

/* --- one cell --------------------------------------------------------------------------------- */

static void cell_clear(struct sw_cell *cell)
{
    if (cell->params)
        sw_param_free(cell->method->params, cell->params);
    free(cell->params);
    free(cell->params_json);
    free(cell->identity);
    free(cell->reason);
}

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
    return params_json(method, cell->params, &cell->params_json);
}

/* The threshold that keeps the cell's density, as its parameter. */
static enum sw_status calibrate(const struct maker *m, struct sw_cell *cell)
{
    const char *threshold = cell->method->threshold;
    double value;
    if (cell->budget != SW_BUDGET_CALIBRATED || m->config->calibrating ||
        cell->method->flags & SW_METHOD_DENSE)
        return SW_OK;
    if (!m->calibration)
        return skip(
            cell,
            "a calibrated %s needs the file that 'swbench calibrate' writes (key calibration)",
            threshold);
    if (!sw_calibration_find(m->calibration, cell, &value))
        return skip(cell, "%s has no %s for this input and density; run 'swbench calibrate' again",
                    m->config->calibration, threshold);
    char text[64];
    snprintf(text, sizeof text, "%.17g", value);
    enum sw_status st =
        sw_param_set(sw_param_find(cell->method->params, threshold), cell->params, text);
    if (st != SW_OK)
        return sw_context(st, "%s: %s of %s", m->config->calibration, threshold,
                          cell->method->name);
    free(cell->params_json);
    cell->params_json = NULL;
    return params_json(cell->method, cell->params, &cell->params_json);
}

/* Why the cell cannot run here, if so. */
static enum sw_status judge(const struct maker *m, struct sw_cell *cell)
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

static enum sw_status fill_cell(const struct maker *m, double density, enum sw_phase phase,
                                struct sw_cell *cell)
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
                         .budget = m->config->budget,
                         .dense_layers = m->workload->dense_layers >= 0 ? m->workload->dense_layers
                                                                        : m->config->dense_layers};
    SW_TRY(set_params(m, cell));
    if (cell->budget == SW_BUDGET_CALIBRATED && !cell->method->threshold)
        cell->budget = SW_BUDGET_MATCHED;
    SW_TRY(calibrate(m, cell));
    SW_TRY(judge(m, cell));
    estimate(m, cell);
    SW_TRY(identify(m, cell));
    bool failed = false;
    if (cell->state == SW_CELL_TODO && m->output &&
        sw_store_has_cell(m->output, cell->key, &failed) && !failed)
        cell->state = SW_CELL_CACHED;
    return SW_OK;
}

static enum sw_status add_cell(struct maker *m, double density, enum sw_phase phase)
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
    return fill_cell(m, density, phase, &plan->cells[plan->count++]);
}

/* --- the expansion ---------------------------------------------------------------------------- */

/* The densities that this combination of parameters runs at: those of the axis; or, where a native
 * rule decides density, none (NaN: it is what comes out). A native budget without a density axis
 * means the 20 % that the papers speak of. */
static enum sw_status densities_of(const struct maker *m, const double **values, int *n)
{
    static const double all[] = {1}, own[] = {NAN}, published[] = {0.2};
    const struct sw_method *method = m->method->method;
    bool uses = !(method->flags & SW_METHOD_DENSE);
    if (uses && method->uses_density) {
        struct sw_cell asked = {.method = method};
        SW_TRY(set_params(m, &asked));
        uses = method->uses_density(asked.params, m->config->budget);
        cell_clear(&asked);
    } else if (uses) {
        uses = m->config->budget != SW_BUDGET_NATIVE || !(method->flags & SW_METHOD_NATIVE);
    }
    *n = 1;
    if (method->flags & SW_METHOD_DENSE)
        *values = all;
    else if (!uses)
        *values = own;
    else if (m->workload->n_densities > 0) {
        *values = m->workload->densities;
        *n = m->workload->n_densities;
    } else if (m->config->n_densities > 0) {
        *values = m->config->densities;
        *n = m->config->n_densities;
    } else
        *values = published;
    return SW_OK;
}

static enum sw_status expand_densities(struct maker *m)
{
    const double *densities;
    int n;
    SW_TRY(densities_of(m, &densities, &n));
    bool own = m->workload->n_phases > 0;
    const enum sw_phase *phases = own ? m->workload->phases : m->config->phases;
    int n_phases = own ? m->workload->n_phases : m->config->n_phases;
    for (int i = 0; i < n; i++)
        for (int p = 0; p < n_phases; p++)
            SW_TRY(add_cell(m, densities[i], phases[p]));
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
        cell_clear(&plan->cells[i]);
    for (int i = 0; i < plan->n_inputs; i++) {
        sw_input_clear(plan->inputs[i]);
        free(plan->inputs[i]);
    }
    free(plan->inputs);
    free(plan->cells);
    free(plan);
}
