/* Cells, one after the other, with what neighbours share kept between them. */
#include "harness/run/runner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "harness/inputs/bundle_check.h"
#include "harness/inputs/inputs.h"
#include "harness/run/interrupt.h"
#include "harness/run/latency.h"
#include "harness/run/recover.h"
#include "harness/run/task.h"

enum { RECOVERY_STEPS = 16 }; /* decode steps over which a task's recovery is measured */

static enum sw_status out_of_memory(void)
{
    return SW_FAIL(SW_ENOMEM, "runner: out of host memory");
}

/* --- what cells share ------------------------------------------------------------------------- */

struct sw_runner {
    struct sw_backend *be;
    char *folder;
    char *model_folder;
    struct sw_model *model;
    struct sw_vocab *vocab;
    char *checked_model; /* whose files were found good */
    char *dataset_file;
    struct sw_dataset *dataset;
    char capture_key[512]; /* what capture is of */
    struct sw_capture *capture;
};

enum sw_status sw_runner_new(struct sw_backend *be, const char *folder, struct sw_runner **out)
{
    *out = calloc(1, sizeof **out);
    if (*out)
        (*out)->folder = strdup(folder);
    if (!*out || !(*out)->folder) {
        free(*out);
        *out = NULL;
        return out_of_memory();
    }
    (*out)->be = be;
    return SW_OK;
}

static void drop_capture(struct sw_runner *r)
{
    sw_capture_free(r->capture);
    r->capture = NULL;
    r->capture_key[0] = '\0';
}

static void drop_model(struct sw_runner *r)
{
    sw_model_close(r->model);
    sw_vocab_close(r->vocab);
    free(r->model_folder);
    r->model = NULL;
    r->vocab = NULL;
    r->model_folder = NULL;
}

static void drop_dataset(struct sw_runner *r)
{
    sw_dataset_free(r->dataset);
    free(r->dataset_file);
    r->dataset = NULL;
    r->dataset_file = NULL;
}

void sw_runner_free(struct sw_runner *r)
{
    if (!r)
        return;
    drop_capture(r);
    drop_model(r);
    drop_dataset(r);
    free(r->checked_model);
    free(r->folder);
    free(r);
}

static enum sw_status need_model(struct sw_runner *r, const char *folder)
{
    if (r->model_folder && strcmp(r->model_folder, folder) == 0)
        return SW_OK;
    drop_capture(r);
    drop_model(r);
    SW_TRY(sw_model_open(folder, r->be, &r->model));
    SW_TRY(sw_vocab_open(folder, &r->vocab));
    if (sw_vocab_size(r->vocab) > sw_model_config(r->model)->vocab)
        return SW_FAIL(SW_EINPUT, "%s: the tokenizer has %d tokens, config.json's vocab_size is %d",
                       folder, sw_vocab_size(r->vocab), sw_model_config(r->model)->vocab);
    r->model_folder = strdup(folder);
    return r->model_folder ? SW_OK : out_of_memory();
}

static enum sw_status need_dataset(struct sw_runner *r, const char *file)
{
    if (r->dataset_file && strcmp(r->dataset_file, file) == 0)
        return SW_OK;
    drop_dataset(r);
    SW_TRY(sw_dataset_read(file, &r->dataset));
    r->dataset_file = strdup(file);
    return r->dataset_file ? SW_OK : out_of_memory();
}

/* The capture of `key`, made by the caller when this says false. */
static bool have_capture(struct sw_runner *r, const char *key)
{
    if (r->capture && strcmp(r->capture_key, key) == 0)
        return true;
    drop_capture(r);
    return false;
}

/* Once for all cells of a model that follow one another. */
static enum sw_status check_model(struct sw_runner *r, const char *folder)
{
    struct sw_vocab *vocab = NULL;
    if (r->checked_model && strcmp(r->checked_model, folder) == 0)
        return SW_OK;
    SW_TRY(sw_model_check(folder, NULL));
    SW_TRY(sw_vocab_open(folder, &vocab));
    sw_vocab_close(vocab);
    free(r->checked_model);
    r->checked_model = strdup(folder);
    return r->checked_model ? SW_OK : out_of_memory();
}

enum sw_status sw_runner_check(struct sw_runner *r, const struct sw_cell *cell)
{
    switch (cell->workload->kind) {
    case SW_WORKLOAD_TASK:
        SW_TRY(need_dataset(r, cell->input->file));
        return check_model(r, cell->input->model_folder);
    case SW_WORKLOAD_TENSORS:
        return sw_bundle_check(cell->input->file, NULL, &(struct sw_bundle_info){0});
    case SW_WORKLOAD_SYNTHETIC:
        break;
    }
    return SW_OK;
}

static void name_capture(struct sw_runner *r, const char *key)
{
    snprintf(r->capture_key, sizeof r->capture_key, "%s", key);
}

/* --- cells ------------------------------------------------------------------------------------ */

/* tensors and synthetic: n prompt tokens of the capture, then m decode tokens. */
static enum sw_status run_capture(struct sw_runner *r, const struct sw_cell *cell, int n, int m,
                                  struct sw_cell_writer *writer, struct sw_result *result)
{
    struct sw_figures figures;
    enum sw_status st = sw_figures_make(&figures, sw_capture_shape(r->capture));
    if (st == SW_OK)
        st = sw_recover(cell, r->be, &(struct sw_recovered){.capture = r->capture, .n = n, .m = m},
                        writer, &figures, result);
    if (st == SW_OK)
        st = sw_figures_report(&figures, result);
    if (st == SW_OK && (cell->config->measure & SW_MEASURE_LATENCY))
        st = sw_latency(cell, r->be, r->capture, n, m, &figures, result);
    sw_figures_free(&figures);
    return st;
}

/* Make r->capture the one that the cell is about. */
static enum sw_status hold_bundle(struct sw_runner *r, const struct sw_input *input)
{
    char key[sizeof r->capture_key];
    snprintf(key, sizeof key, "tensors %s", input->hash);
    if (have_capture(r, key))
        return SW_OK;
    struct sw_bundle *bundle;
    SW_TRY(sw_bundle_open(input->file, &bundle));
    SW_TRY(sw_capture_bundle(r->be, bundle, &r->capture));
    name_capture(r, key);
    return SW_OK;
}

static enum sw_status hold_synthetic(struct sw_runner *r, const struct sw_cell *cell, uint64_t seed)
{
    const struct sw_input *input = cell->input;
    char key[sizeof r->capture_key];
    int tokens = cell->context + input->decode_tokens;
    snprintf(key, sizeof key, "synthetic %s %d %llu", input->hash, tokens,
             (unsigned long long)seed);
    if (have_capture(r, key))
        return SW_OK;
    SW_TRY(sw_capture_synthetic(r->be, &input->shape,
                                cell->workload->generator == SW_GENERATOR_PLANTED, seed, tokens,
                                &r->capture));
    name_capture(r, key);
    return SW_OK;
}

/* synthetic with whole_model: random ids through a random-weight model of the shape, for time and
 * memory. The prompts count as many as the timing rule wants runs. In phase prefill the first token
 * is all: it needs no place in the cache, and nothing is kept for steps after it. */
static enum sw_status run_random_model(struct sw_runner *r, const struct sw_cell *cell,
                                       struct sw_result *result)
{
    const struct sw_input *input = cell->input;
    struct sw_named_shape shape = *cell->workload->shape;
    shape.shape = input->shape;
    char name[128];
    snprintf(name, sizeof name, "random %s %d layers seed %llu", shape.name, shape.shape.n_layers,
             (unsigned long long)cell->seed);
    if (!r->model_folder || strcmp(r->model_folder, name) != 0) {
        drop_capture(r);
        drop_model(r);
        SW_TRY(sw_model_random(&shape, cell->seed, r->be, &r->model));
        r->model_folder = strdup(name);
    }
    int runs = cell->config->timing.min_runs,
        steps = cell->phase == SW_PHASE_PREFILL ? 0 : input->decode_tokens;
    struct sw_dataset prompts = {.n_samples = runs,
                                 .context = cell->context + steps,
                                 .vocab = shape.vocab,
                                 .max_new_tokens = steps ? steps : 1};
    prompts.ids = malloc((size_t)runs * (size_t)cell->context * sizeof *prompts.ids);
    prompts.offsets = malloc((size_t)(runs + 1) * sizeof *prompts.offsets);
    enum sw_status st =
        prompts.ids && prompts.offsets ? SW_OK : SW_FAIL(SW_ENOMEM, "prompts: out of host memory");
    for (int64_t s = 0; st == SW_OK && s <= runs; s++)
        prompts.offsets[s] = s * cell->context;
    for (int64_t i = 0; st == SW_OK && i < (int64_t)runs * cell->context; i++)
        prompts.ids[i] =
            (int32_t)(sw_rng_u64(cell->seed, SW_RNG_TOKENS, (uint64_t)i) % (uint64_t)shape.vocab);
    if (st == SW_OK)
        st = sw_task_run(
            cell, r->be,
            &(struct sw_task_input){.model = r->model, .dataset = &prompts, .n_samples = runs},
            result);
    free(prompts.ids);
    free(prompts.offsets);
    return st;
}

/* The tensors of a dense run over one sample of the dataset. */
static enum sw_status hold_sample(struct sw_runner *r, const struct sw_cell *cell, int sample,
                                  int *tokens)
{
    const struct sw_dataset *d = r->dataset;
    char key[sizeof r->capture_key];
    *tokens = (int)(d->offsets[sample + 1] - d->offsets[sample]);
    snprintf(key, sizeof key, "task %s %d", cell->input->hash, sample);
    if (have_capture(r, key))
        return SW_OK;
    SW_TRY(sw_capture_model(r->be, r->model, d->ids + d->offsets[sample], *tokens, &r->capture));
    name_capture(r, key);
    return SW_OK;
}

/* Recovery on one sample of the dataset: on the tensors of a dense run over it. */
static enum sw_status recover_sample(struct sw_runner *r, const struct sw_cell *cell, int sample,
                                     struct sw_cell_writer *writer, struct sw_figures *figures,
                                     struct sw_result *result)
{
    const struct sw_dataset *d = r->dataset;
    int tokens, m;
    SW_TRY(hold_sample(r, cell, sample, &tokens));
    m = RECOVERY_STEPS < tokens - 1 ? RECOVERY_STEPS : tokens - 1;
    if (cell->phase == SW_PHASE_PREFILL)
        m = 0;
    struct sw_recovered of = {.capture = r->capture, .n = tokens - m, .m = m};
    if (d->hops) {
        of.hops = d->hops + 2 * d->hop_offsets[sample];
        of.n_hops = (int)(d->hop_offsets[sample + 1] - d->hop_offsets[sample]);
    }
    return sw_recover(cell, r->be, &of, writer, figures, result);
}

static enum sw_status recover_samples(struct sw_runner *r, const struct sw_cell *cell, int n,
                                      struct sw_cell_writer *writer, struct sw_result *result)
{
    struct sw_figures figures;
    enum sw_status st = sw_figures_make(&figures, &sw_model_config(r->model)->shape);
    for (int s = 0; s < n && st == SW_OK; s++)
        st = recover_sample(r, cell, s, s == 0 ? writer : NULL, &figures, result);
    if (st == SW_OK)
        st = sw_figures_report(&figures, result);
    sw_figures_free(&figures);
    return st;
}

/* Puts an empty file in the place of what has been written of a cell. */
static enum sw_status start_over(struct sw_runner *r, const struct sw_cell *cell,
                                 struct sw_cell_writer **writer)
{
    sw_cell_writer_abort(*writer);
    *writer = NULL;
    return sw_cell_writer_open(r->folder, cell, r->be, writer);
}

/* The cell keeps what the model did; nothing of recovery is in the result or the file. */
static enum sw_status do_without_recovery(struct sw_runner *r, const struct sw_cell *cell,
                                          struct sw_cell_writer **writer, struct sw_result *result)
{
    enum sw_status st = sw_result_warn(
        result, "recovery was not measured: %s; run with --fresh to try again", sw_error_message());
    sw_error_clear();
    drop_capture(r); /* memory may be what was short */
    SW_TRY(st);
    return cell->config->save ? start_over(r, cell, writer) : SW_OK;
}

/* task: the method in the model over all samples; then recovery on the dense run's tensors of the
 * first recovery_samples, which may fail for want of memory or of a kernel without taking accuracy
 * and time along. (A broken invariant there is one of the method's lists, which accuracy too rests
 * on.) */
static enum sw_status run_task(struct sw_runner *r, const struct sw_cell *cell,
                               struct sw_cell_writer **writer, struct sw_result *result)
{
    const struct sw_input *input = cell->input;
    bool in_model = cell->config->measure & (SW_MEASURE_ACCURACY | SW_MEASURE_LATENCY);
    SW_TRY(need_model(r, input->model_folder));
    SW_TRY(need_dataset(r, input->file));
    if (in_model)
        SW_TRY(sw_task_run(
            cell, r->be,
            &(struct sw_task_input){r->model, r->dataset, r->vocab, cell->workload->samples},
            result));
    SW_TRY(sw_result_set_source(result, input->file, input->file_hash, input->model_folder));
    int n = sw_cell_recovery_samples(cell);
    if (n > r->dataset->n_samples)
        n = r->dataset->n_samples;
    enum sw_status st = n > 0 ? recover_samples(r, cell, n, *writer, result) : SW_OK;
    if (in_model && (st == SW_ENOMEM || st == SW_EUNSUPPORTED))
        st = do_without_recovery(r, cell, writer, result);
    return st;
}

/* A failure that says something about this cell alone. */
static bool is_the_cells_own(enum sw_status st)
{
    return st == SW_ENOMEM || st == SW_EUNSUPPORTED || st == SW_EINTERNAL;
}

static enum sw_status measure(struct sw_runner *r, const struct sw_cell *cell,
                              struct sw_cell_writer **writer, struct sw_result *result)
{
    const struct sw_input *input = cell->input;
    switch (cell->workload->kind) {
    case SW_WORKLOAD_TASK:
        return run_task(r, cell, writer, result);
    case SW_WORKLOAD_TENSORS:
        SW_TRY(hold_bundle(r, input));
        return run_capture(r, cell, input->n, input->decode_tokens, *writer, result);
    case SW_WORKLOAD_SYNTHETIC:
        if (cell->workload->whole_model)
            return run_random_model(r, cell, result);
        SW_TRY(hold_synthetic(r, cell, cell->seed));
        return run_capture(r, cell, cell->context, input->decode_tokens, *writer, result);
    }
    return SW_FAIL(SW_EINTERNAL, "a workload of no kind");
}

/* A cell that failed is recorded with what is known of the cause, and without figures: half of them
 * are worth nothing. */
static enum sw_status record_failure(struct sw_runner *r, const struct sw_cell *cell,
                                     enum sw_status why, struct sw_cell_writer **writer,
                                     struct sw_result *result)
{
    char reason[1200];
    sw_result_clear(result);
    result->status = why == SW_EUNSUPPORTED ? SW_RESULT_SKIPPED : SW_RESULT_FAILED;
    snprintf(reason, sizeof reason, "%s (%s, %s)", sw_error_message(), sw_status_name(why),
             sw_error_place());
    sw_error_clear();
    result->reason = strdup(reason);
    drop_capture(r); /* memory may be what was short */
    return start_over(r, cell, writer);
}

enum sw_status sw_runner_cell(struct sw_runner *r, const struct sw_cell *cell,
                              struct sw_result *result)
{
    struct sw_cell_writer *writer;
    SW_TRY(sw_cell_writer_open(r->folder, cell, r->be, &writer));
    r->be->peak_bytes(r->be, true);
    enum sw_status st = measure(r, cell, &writer, result);
    if (is_the_cells_own(st)) {
        st = record_failure(r, cell, st, &writer, result);
    } else if (st == SW_OK && !result->together) {
        struct sw_metric *peak = sw_result_metric(result, "peak_memory_bytes");
        if (peak) {
            peak->value = (double)r->be->peak_bytes(r->be, false);
            peak->n = 1;
        }
    }
    if (st == SW_OK)
        return sw_cell_writer_commit(writer, result);
    sw_cell_writer_abort(writer);
    return st;
}

/* --- held-out prompts ------------------------------------------------------------------------- */

static enum sw_status need_prompt(struct sw_runner *r, const struct sw_cell *cell, int prompt)
{
    const struct sw_input *input = cell->input;
    SW_TRY(need_model(r, input->model_folder));
    SW_TRY(need_dataset(r, input->file));
    if (prompt >= r->dataset->n_samples)
        return SW_FAIL(SW_EINPUT, "%s: found %d prompts, expected at least %d", input->file,
                       r->dataset->n_samples, prompt + 1);
    return SW_OK;
}

/* Makes r->capture the prompt's, n its tokens. */
static enum sw_status hold_prompt(struct sw_runner *r, const struct sw_cell *cell, int prompt,
                                  int *n)
{
    switch (cell->workload->kind) {
    case SW_WORKLOAD_TASK:
        SW_TRY(need_prompt(r, cell, prompt));
        return hold_sample(r, cell, prompt, n);
    case SW_WORKLOAD_TENSORS:
        *n = cell->input->n;
        return hold_bundle(r, cell->input);
    case SW_WORKLOAD_SYNTHETIC:
        *n = cell->context;
        return hold_synthetic(r, cell, cell->seed + (uint64_t)prompt);
    }
    return SW_FAIL(SW_EINTERNAL, "a workload of no kind");
}

static enum sw_status recover_prompt(struct sw_runner *r, const struct sw_cell *cell, int prompt,
                                     struct sw_figures *figures, struct sw_result *result)
{
    if (cell->workload->kind == SW_WORKLOAD_TASK) { /* decode steps are its own last tokens */
        SW_TRY(need_prompt(r, cell, prompt));
        return recover_sample(r, cell, prompt, NULL, figures, result);
    }
    int n = 0;
    SW_TRY(hold_prompt(r, cell, prompt, &n));
    return sw_recover(cell, r->be, &(struct sw_recovered){.capture = r->capture, .n = n}, NULL,
                      figures, result);
}

enum sw_status sw_runner_density(struct sw_runner *r, const struct sw_cell *cell, int prompt,
                                 double *density)
{
    struct sw_figures figures = {0};
    struct sw_result result = {0};
    enum sw_status st = sw_figures_make(&figures, &cell->shape);
    if (st == SW_OK)
        st = recover_prompt(r, cell, prompt, &figures, &result);
    if (st == SW_OK)
        st = sw_figures_report(&figures, &result);
    if (st == SW_OK)
        *density = sw_result_metric(&result, "density")->value;
    sw_figures_free(&figures);
    sw_result_clear(&result);
    return st;
}

enum sw_status sw_runner_mass(struct sw_runner *r, const struct sw_cell *cell, int prompt,
                              int layer, const float **mass, int *n)
{
    int block = ((const struct sw_method_params *)cell->params)->block_size;
    SW_TRY(hold_prompt(r, cell, prompt, n));
    return sw_capture_mass(r->capture, layer, *n, *n, block, mass);
}

enum sw_status sw_runner_loss(struct sw_runner *r, const struct sw_cell *cell, int prompts,
                              double *loss)
{
    struct sw_result result = {0};
    if (cell->workload->kind == SW_WORKLOAD_TASK)
        SW_TRY(need_prompt(r, cell, prompts - 1));
    if (cell->workload->kind != SW_WORKLOAD_TASK || r->dataset->scored_tokens == 0)
        return SW_FAIL(SW_EINPUT,
                       "%s %s has no loss, expected a task that scores text, like "
                       "ppl_book",
                       sw_cell_workload(cell), sw_cell_task(cell));
    enum sw_status st = sw_task_run(
        cell, r->be, &(struct sw_task_input){r->model, r->dataset, r->vocab, prompts}, &result);
    if (st == SW_OK)
        *loss = sw_result_metric(&result, "nll")->value;
    sw_result_clear(&result);
    return st;
}
