/* A method inside a model: perplexity on text windows or accuracy of generated answers, and the time of whole passes and decode steps. The same
 * kernels give all of it in the same run. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/score.h"
#include "core/utf8.h"
#include "core/vocab.h"
#include "harness/interval.h"
#include "harness/interrupt.h"
#include "harness/measure.h"

struct task {
    const struct sw_cell *cell;
    struct sw_backend *be;
    const struct sw_task_input *input;
    const struct sw_dataset *data;
    struct sw_pass *pass;
    struct sw_sparse sp;
    struct sw_times prompts, steps;
    bool record;                   /* decode steps are recorded and run as one launch */
    long steps_run;
    double *ttft_ms;               /* [n_samples] */
    double *tpot_ms;               /* mean step of a sample [n_samples] */
    double *value;                 /* mean NLL of a window, or score of a prompt [n_samples] */
};

/* Mean of the times that are numbers. */
struct mean { double sum; int n; };
static void mean_add(struct mean *m, double x)
{
    if (isnan(x))
        return;
    m->sum += x;
    m->n++;
}
static double mean_of(const struct mean *m) { return m->n ? m->sum / m->n : NAN; }

static enum sw_status attend(void *context, int layer, int n_q, int n_k, const void *q, const void *k, const void *v, void *out)
{
    SW_TRY(sw_interrupt_check());
    return sw_sparse_attend(context, layer, n_q, n_k, q, k, v, out);
}

/* What is wanted of a run's last layer: losses of targets, or best ids, of rows row0 …; see sw_pass_predict. */
struct ask {
    int row0, rows;
    const int32_t *targets;
    float *nll;
    int32_t *argmax;
};

static enum sw_status predict(struct task *t, const struct ask *ask)
{
    return sw_pass_predict(t->pass, ask->row0, ask->rows, ask->targets, ask->nll, ask->argmax);
}

/* A decode step as one launch; its time is the launch's. */
static enum sw_status record_step(struct task *t, const int32_t *id)
{
    SW_TRY(t->be->record_begin(t->be));
    enum sw_status st = sw_pass_run(t->pass, id, 1, (struct sw_attention_hook){attend, &t->sp});
    if (st == SW_OK)
        st = t->be->record_end(t->be);
    if (st != SW_OK)
        t->be->record_drop(t->be);
    return st;
}

/* One run of the pass and, where one row is asked for, its prediction: wall milliseconds of both together, which is what a user waits for a token.
 * Attention's time stamps would slow a recorded step a little: one step in four has them, and *ms is NaN there. */
static enum sw_status run(struct task *t, const int32_t *ids, int n, struct sw_times *times, const struct ask *ask, double *ms)
{
    bool step = n == 1, record = step && t->record;
    bool stamped = !record || (times->n + times->n_parts) * 4 + 1 <= t->steps_run;
    t->sp.marks = stamped ? sw_times_marks(times) : SW_MARKS_NONE;
    t->steps_run += step;
    if (record)
        SW_TRY(record_step(t, ids));
    double begin = sw_seconds();
    SW_TRY(record ? t->be->record_run(t->be) : sw_pass_run(t->pass, ids, n, (struct sw_attention_hook){attend, &t->sp}));
    if (ask->rows == 1)
        SW_TRY(predict(t, ask));
    SW_TRY(t->be->sync(t->be));
    *ms = record && stamped ? NAN : 1e3 * (sw_seconds() - begin);
    if (ask->rows > 1)
        SW_TRY(predict(t, ask));
    return stamped ? sw_times_read(times, &t->sp) : SW_OK;
}

static enum sw_status begin_sample(struct task *t)
{
    sw_pass_reset(t->pass);
    sw_attention_end(&t->sp);
    SW_TRY(sw_attention_begin(t->cell, t->be, &sw_model_config(t->input->model)->shape, t->data->context, &t->sp));
    return SW_OK;
}

/* --- perplexity --------------------------------------------------------------------------------------------------------------- */

/* Natural-log loss of the last scored_tokens of a window. Prefill: one pass over the window. Decode, both: the prompt up to the scored part, then
 * one teacher-forced step a token. */
static enum sw_status score_window(struct task *t, int sample, float *nll)
{
    const struct sw_dataset *d = t->data;
    const int32_t *ids = d->ids + d->offsets[sample];
    int context = d->context, scored = d->scored_tokens, first = context - scored;
    double ms;
    if (t->cell->phase == SW_PHASE_PREFILL) {
        SW_TRY(run(t, ids, context, &t->prompts, &(struct ask){first - 1, scored, ids + first, nll, NULL}, &t->ttft_ms[sample]));
    } else {
        SW_TRY(run(t, ids, first, &t->prompts, &(struct ask){first - 1, 1, ids + first, nll, NULL}, &t->ttft_ms[sample]));
        struct mean step = {0};
        for (int s = 0; s < scored - 1; s++) {
            SW_TRY(run(t, ids + first + s, 1, &t->steps, &(struct ask){0, 1, ids + first + s + 1, nll + s + 1, NULL}, &ms));
            mean_add(&step, ms);
        }
        t->tpot_ms[sample] = mean_of(&step);
    }
    double sum = 0;
    for (int i = 0; i < scored; i++) {
        if (!isfinite(nll[i]))
            return SW_FAIL(SW_EINTERNAL, "window %d, token %d: loss is %f", sample, first + i, (double)nll[i]);
        sum += (double)nll[i];
    }
    t->value[sample] = sum / scored;
    return SW_OK;
}

static enum sw_status perplexity(struct task *t, int n_samples, struct sw_result *result)
{
    float *nll = malloc((size_t)t->data->scored_tokens * sizeof *nll);
    if (!nll)
        return SW_FAIL(SW_ENOMEM, "perplexity: out of host memory");
    enum sw_status st = SW_OK;
    for (int s = 0; s < n_samples && st == SW_OK; s++) {
        st = begin_sample(t);
        if (st == SW_OK)
            st = score_window(t, s, nll);
    }
    free(nll);
    SW_TRY(st);
    SW_TRY(sw_report_mean(result, "nll", t->value, n_samples, t->cell->seed));
    /* Windows are equally long, so the pooled loss is the mean of their means. */
    struct sw_metric *loss = sw_result_metric(result, "nll"), *ppl = sw_result_metric(result, "ppl");
    if (!ppl)
        return SW_FAIL(SW_ENOMEM, "perplexity: out of host memory");
    ppl->value = exp(loss->value);
    ppl->lo = exp(loss->lo);
    ppl->hi = exp(loss->hi);
    ppl->n = n_samples;
    return SW_OK;
}

/* --- generation --------------------------------------------------------------------------------------------------------------- */

static bool is_stop(const struct task *t, int32_t id)
{
    for (int i = 0; i < t->data->n_stop_ids; i++)
        if (t->data->stop_ids[i] == id)
            return true;
    return false;
}

/* Greedy: the prompt, then one step a token until a stop id or max_new_tokens. */
static enum sw_status generate(struct task *t, int sample, int32_t *made, int *n_made)
{
    const struct sw_dataset *d = t->data;
    int prompt = (int)(d->offsets[sample + 1] - d->offsets[sample]);
    double ms;
    struct mean step = {0};
    int32_t next;
    SW_TRY(run(t, d->ids + d->offsets[sample], prompt, &t->prompts, &(struct ask){prompt - 1, 1, NULL, NULL, &next}, &t->ttft_ms[sample]));
    for (*n_made = 0; *n_made < d->max_new_tokens && !is_stop(t, next);) {
        if (next < 0)
            return SW_FAIL(SW_EINTERNAL, "sample %d: the logits after %d new tokens are not numbers", sample, *n_made);
        made[(*n_made)++] = next;
        if (*n_made == d->max_new_tokens)
            break;
        int32_t id = next;
        SW_TRY(run(t, &id, 1, &t->steps, &(struct ask){0, 1, NULL, NULL, &next}, &ms));
        mean_add(&step, ms);
    }
    t->tpot_ms[sample] = mean_of(&step);
    return SW_OK;
}

/* Keeps what was generated for a sample, as text, and its score. */
static enum sw_status judge(struct task *t, int sample, const int32_t *made, int n_made, struct sw_result *result)
{
    const struct sw_dataset *d = t->data;
    const char *const *references = (const char *const *)d->references.items + d->reference_offsets[sample];
    struct sw_expected expected = {.references = references, .n = (int)(d->reference_offsets[sample + 1] - d->reference_offsets[sample]),
                                   .classes = (const char *const *)d->classes.items, .n_classes = d->classes.count};
    char *bytes = NULL, *text = NULL, *answer = NULL;
    enum sw_status st;
    SW_TRY_GOTO(st, out, sw_vocab_text(t->input->vocab, made, n_made, &bytes));
    SW_TRY_GOTO(st, out, sw_utf8_valid(bytes, &text));
    if (d->scorer->clean)
        sw_score_clean(text);
    answer = strdup(text);
    if (!answer)
        SW_TRY_GOTO(st, out, SW_FAIL(SW_ENOMEM, "out of memory (an answer)"));
    if (d->first_line)
        sw_score_first_line(answer);
    SW_TRY_GOTO(st, out, sw_score(d->scorer, answer, &expected, &t->value[sample]));
    st = sw_result_predict(result, &(struct sw_answer){.prediction = text, .references = references, .n_references = expected.n,
                                                       .score = t->value[sample], .depth = d->depth ? d->depth[sample] : NAN});
out:
    free(bytes);
    free(text);
    free(answer);
    return st;
}

static enum sw_status accuracy(struct task *t, int n_samples, struct sw_result *result)
{
    const struct sw_dataset *d = t->data;
    int32_t *made = malloc((size_t)d->max_new_tokens * sizeof *made);
    if (!made)
        return SW_FAIL(SW_ENOMEM, "generation: out of host memory");
    enum sw_status st = SW_OK;
    for (int s = 0; s < n_samples && st == SW_OK; s++) {
        int n_made = 0;
        st = begin_sample(t);
        if (st == SW_OK)
            st = generate(t, s, made, &n_made);
        if (st == SW_OK && t->input->vocab)
            st = judge(t, s, made, n_made, result);
    }
    free(made);
    return st == SW_OK && t->input->vocab ? sw_report_mean(result, "accuracy", t->value, n_samples, t->cell->seed) : st;
}

/* --- the task ----------------------------------------------------------------------------------------------------------------- */

static enum sw_status report_time(struct task *t, int n_samples, struct sw_result *result)
{
    SW_TRY(sw_times_report(&t->prompts, result));
    SW_TRY(sw_times_report(&t->steps, result));
    SW_TRY(sw_report_median(result, "ttft_ms", t->ttft_ms, n_samples, 1));
    int n = 0; /* samples that took a step */
    for (int s = 0; s < n_samples; s++)
        if (!isnan(t->tpot_ms[s]) && t->tpot_ms[s] > 0)
            t->tpot_ms[n++] = t->tpot_ms[s];
    return n ? sw_report_median(result, "tpot_ms", t->tpot_ms, n, 1) : SW_OK;
}

/* First pass over a prompt, and a decode step where there will be any: touches the memory, so that the first sample's time is like the others', and
 * finds out whether steps of this method can be recorded. */
static enum sw_status warm_up(struct task *t, struct sw_result *result)
{
    const struct sw_dataset *d = t->data;
    int prompt = (int)(d->offsets[1] - d->offsets[0]), some = prompt < 512 ? prompt : 512;
    bool steps = d->scored_tokens == 0 || t->cell->phase != SW_PHASE_PREFILL;
    if (some > d->context - 2)
        some = d->context - 2;
    if (some < 1)
        return SW_OK;
    SW_TRY(begin_sample(t));
    struct sw_attention_hook hook = {attend, &t->sp};
    SW_TRY(sw_pass_run(t->pass, d->ids, some, hook));
    if (steps)
        SW_TRY(sw_pass_run(t->pass, d->ids, 1, hook));
    SW_TRY(t->be->sync(t->be));
    if (!steps || !t->be->record_begin)
        return SW_OK;
    enum sw_status st = record_step(t, d->ids);
    if (st == SW_EUNSUPPORTED) {
        SW_TRY(sw_result_warn(result, "decode steps were timed launch by launch: %s", sw_error_message()));
        sw_error_clear();
        return SW_OK;
    }
    t->be->record_drop(t->be);
    t->record = st == SW_OK;
    return st;
}

enum sw_status sw_task_run(const struct sw_cell *cell, struct sw_backend *be, const struct sw_task_input *input, struct sw_result *result)
{
    struct task t = {.cell = cell, .be = be, .input = input, .data = input->dataset};
    const struct sw_dataset *d = input->dataset;
    int layers = sw_model_config(input->model)->shape.n_layers, n_samples = input->n_samples < d->n_samples ? input->n_samples : d->n_samples;
    enum sw_status st = SW_OK;
    t.ttft_ms = calloc((size_t)n_samples, sizeof *t.ttft_ms);
    t.tpot_ms = calloc((size_t)n_samples, sizeof *t.tpot_ms);
    t.value = calloc((size_t)n_samples, sizeof *t.value);
    if (!t.ttft_ms || !t.tpot_ms || !t.value)
        SW_TRY_GOTO(st, done, SW_FAIL(SW_ENOMEM, "task: out of host memory"));
    SW_TRY_GOTO(st, done, sw_times_make(&t.prompts, layers, false));
    SW_TRY_GOTO(st, done, sw_times_make(&t.steps, layers, true));
    SW_TRY_GOTO(st, done, sw_pass_open(input->model, d->context, d->context, &t.pass));
    SW_TRY_GOTO(st, done, warm_up(&t, result));
    SW_TRY_GOTO(st, done, d->scored_tokens > 0 ? perplexity(&t, n_samples, result) : accuracy(&t, n_samples, result));
    if (cell->config->measure & SW_MEASURE_LATENCY)
        st = report_time(&t, n_samples, result);
done:
    sw_attention_end(&t.sp);
    sw_pass_close(t.pass);
    sw_times_free(&t.prompts);
    sw_times_free(&t.steps);
    free(t.ttft_ms);
    free(t.tpot_ms);
    free(t.value);
    return st;
}
