/* A method inside a model: perplexity on text windows or accuracy of generated answers, and the
 * time of whole passes and decode steps. The same kernels give all of it in the same run. */
#include "harness/run/task.h"

#include <math.h>
#include <stdlib.h>

#include "harness/run/attention.h"
#include "harness/run/interrupt.h"
#include "harness/run/kept.h"
#include "harness/run/recorder.h"
#include "harness/run/scoring.h"
#include "harness/run/timing.h"

enum { TOGETHER_MAX = 64 }; /* samples under way at one time */

/* Mean of the times that are numbers. */
struct mean {
    double sum;
    int n;
};
static void mean_add(struct mean *m, double x)
{
    if (isnan(x))
        return;
    m->sum += x;
    m->n++;
}
static double mean_of(const struct mean *m) { return m->n ? m->sum / m->n : NAN; }

/* A sample under way: its tokens are sequence `slot` of the pass. */
struct ongoing {
    struct sw_sparse sp;
    int sample; /* -1: none */
    int done;   /* tokens generated, or scored */
    int32_t id; /* goes in next */
    struct mean step;
    struct sw_kept *kept; /* counts its lists; NULL: nobody does */
};

struct task {
    const struct sw_cell *cell;
    struct sw_backend *be;
    const struct sw_task_input *input;
    const struct sw_dataset *data;
    /* samples, and how many of them at most are under way at one time */
    int n_samples, together;
    struct sw_pass *pass;    /* of `together` sequences */
    struct ongoing *ongoing; /* [together] */
    struct sw_times prompts, steps;
    struct sw_recorder recorder; /* of decode steps */
    long steps_run;
    struct sw_kept kept; /* of the first sample, so that no order of samples is in a sum */
    float *nll;          /* of a text window [together, scored_tokens] */
    int32_t *made;       /* what was generated [n_samples, max_new_tokens] */
    int *n_made;         /* [n_samples] */
    double *ttft_ms;     /* [n_samples] */
    double *tpot_ms;     /* mean step of a sample [n_samples] */
    double *loss;        /* mean NLL of a window [n_samples] */
};

static enum sw_status attend(void *context, int layer, int n_q, int n_k, const void *q,
                             const void *k, const void *v, void *out)
{
    struct ongoing *o = context;
    SW_TRY(sw_interrupt_check());
    SW_TRY(sw_sparse_attend(&o->sp, layer, n_q, n_k, q, k, v, out));
    return o->kept ? sw_kept_count(o->kept, &o->sp, layer, n_q, n_k) : SW_OK;
}

/* What is wanted of a run's last layer: losses of targets, or best ids, of rows row0 …; see
 * sw_pass_predict. */
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

static enum sw_status out_of_memory(void) { return SW_FAIL(SW_ENOMEM, "task: out of host memory"); }

/* A pass over `n` ids of the sequence in a slot: a prompt, or one decode step. */
struct ids {
    struct task *task;
    int slot;
    const int32_t *ids;
    int n;
};

static enum sw_status queue_pass(void *context)
{
    const struct ids *p = context;
    struct task *t = p->task;
    return sw_pass_run(t->pass, p->slot, p->ids, p->n,
                       (struct sw_attention_hook){attend, &t->ongoing[p->slot]});
}

/* One pass and, where one row is asked for, its prediction: wall milliseconds of both together,
 * which is what a user waits for a token. Attention's time stamps would slow a recorded step a
 * little: one step in four has them, and *ms is NaN there. */
static enum sw_status timed_pass(struct ids p, struct sw_times *times, const struct ask *ask,
                                 double *ms)
{
    struct task *t = p.task;
    struct ongoing *o = &t->ongoing[p.slot];
    struct sw_sparse *sp = &o->sp;
    struct sw_work work = {queue_pass, &p};
    struct sw_recorder one_by_one = {.backend = t->be}; /* a prompt is never recorded */
    bool counted = o->kept && sw_kept_wants_step(o->kept);
    struct sw_recorder *recorder = p.n == 1 && !counted ? &t->recorder : &one_by_one;
    bool sparse_stamps = recorder->active && (times->n + times->n_parts) * 4 + 1 > t->steps_run,
         stamped = t->together == 1 && !sparse_stamps;
    sp->marks = stamped ? sw_times_marks(times) : SW_MARKS_NONE;
    t->steps_run += p.n == 1;
    SW_TRY(sw_recorder_prepare(recorder, work));
    double begin = sw_seconds();
    SW_TRY(sw_recorder_launch(recorder, work));
    if (ask->rows == 1)
        SW_TRY(predict(t, ask));
    SW_TRY(t->be->sync(t->be));
    *ms = recorder->active && stamped ? NAN : 1e3 * (sw_seconds() - begin);
    if (ask->rows > 1)
        SW_TRY(predict(t, ask));
    return stamped ? sw_times_read(times, sp) : SW_OK;
}

/* Empties a slot for a sample of at most max_tokens. */
static enum sw_status empty_slot(struct task *t, int slot, int max_tokens)
{
    struct sw_sparse *sp = &t->ongoing[slot].sp;
    sw_pass_reset(t->pass, slot);
    sw_attention_close(sp);
    return sw_attention_open(t->cell, t->be, &sw_model_config(t->input->model)->shape, max_tokens,
                             sp);
}

/* --- a text window ---------------------------------------------------------------------------- */

/* Natural-log losses of the last scored_tokens of a slot's window. */
static float *losses(const struct task *t, int slot)
{
    return t->nll + (size_t)slot * (size_t)t->data->scored_tokens;
}

static const int32_t *scored_ids(const struct task *t, const struct ongoing *o)
{
    const struct sw_dataset *d = t->data;
    return d->ids + d->offsets[o->sample] + d->context - d->scored_tokens;
}

static enum sw_status finish_window(struct task *t, int slot)
{
    struct ongoing *o = &t->ongoing[slot];
    int scored = t->data->scored_tokens;
    double sum = 0;
    for (int i = 0; i < scored; i++) {
        double loss = (double)losses(t, slot)[i];
        if (!isfinite(loss))
            return SW_FAIL(SW_EINTERNAL, "window %d, token %d: loss is %f", o->sample,
                           t->data->context - scored + i, loss);
        sum += loss;
    }
    t->loss[o->sample] = sum / scored;
    o->sample = -1;
    return SW_OK;
}

/* One more loss is there. */
static enum sw_status next_target(struct task *t, int slot)
{
    struct ongoing *o = &t->ongoing[slot];
    if (++o->done == t->data->scored_tokens)
        return finish_window(t, slot);
    o->id = scored_ids(t, o)[o->done - 1];
    return SW_OK;
}

/* Prefill: one pass over the window. Decode, both: the prompt up to the scored part, then one
 * teacher-forced step a token. */
static enum sw_status start_window(struct task *t, int slot)
{
    const struct sw_dataset *d = t->data;
    struct ongoing *o = &t->ongoing[slot];
    bool all = t->cell->phase == SW_PHASE_PREFILL;
    int first = d->context - d->scored_tokens, rows = all ? d->scored_tokens : 1;
    const struct ask ask = {first - 1, rows, scored_ids(t, o), losses(t, slot), NULL};
    struct ids prompt = {t, slot, d->ids + d->offsets[o->sample], all ? d->context : first};
    SW_TRY(timed_pass(prompt, &t->prompts, &ask, &t->ttft_ms[o->sample]));
    return all ? finish_window(t, slot) : next_target(t, slot);
}

/* --- an answer -------------------------------------------------------------------------------- */

static bool is_stop(const struct task *t, int32_t id)
{
    for (int i = 0; i < t->data->n_stop_ids; i++)
        if (t->data->stop_ids[i] == id)
            return true;
    return false;
}

/* Greedy: the best id goes in next, until it is a stop id or there are max_new_tokens. */
static enum sw_status next_token(struct task *t, int slot, int32_t best)
{
    struct ongoing *o = &t->ongoing[slot];
    int sample = o->sample, most = t->data->max_new_tokens;
    if (is_stop(t, best)) {
        o->sample = -1;
    } else if (best < 0) {
        return SW_FAIL(SW_EINTERNAL, "sample %d: the logits after %d new tokens are not numbers",
                       sample, o->done);
    } else {
        t->made[(size_t)sample * (size_t)most + (size_t)o->done++] = o->id = best;
        if (o->done == most)
            o->sample = -1;
    }
    t->n_made[sample] = o->done;
    return SW_OK;
}

static enum sw_status start_answer(struct task *t, int slot)
{
    const struct sw_dataset *d = t->data;
    int sample = t->ongoing[slot].sample, n = (int)(d->offsets[sample + 1] - d->offsets[sample]);
    int32_t best;
    const struct ask ask = {n - 1, 1, NULL, NULL, &best};
    SW_TRY(timed_pass((struct ids){t, slot, d->ids + d->offsets[sample], n}, &t->prompts, &ask,
                      &t->ttft_ms[sample]));
    return next_token(t, slot, best);
}

/* --- all samples ------------------------------------------------------------------------------ */

static bool is_window(const struct task *t) { return t->data->scored_tokens > 0; }

static enum sw_status start_sample(struct task *t, int slot, int sample)
{
    SW_TRY(empty_slot(t, slot, t->data->context));
    struct ongoing *o = &t->ongoing[slot];
    o->sample = sample;
    o->done = 0;
    o->step = (struct mean){0};
    o->kept = sample == 0 ? &t->kept : NULL;
    return is_window(t) ? start_window(t, slot) : start_answer(t, slot);
}

/* One decode step of the `n` slots that have a sample, and what follows from it. Time is taken of
 * one that is alone. */
static enum sw_status step(struct task *t, const int *slots, int n)
{
    struct sw_step steps[TOGETHER_MAX];
    int32_t targets[TOGETHER_MAX], best[TOGETHER_MAX];
    float nll[TOGETHER_MAX];
    bool window = is_window(t);
    double ms = NAN;
    for (int r = 0; r < n; r++) {
        struct ongoing *o = &t->ongoing[slots[r]];
        steps[r] = (struct sw_step){slots[r], o->id, {attend, o}};
        targets[r] = window ? scored_ids(t, o)[o->done] : 0;
    }
    const struct ask ask = {0, n, window ? targets : NULL, window ? nll : NULL,
                            window ? NULL : best};
    if (t->together == 1) {
        int sample = t->ongoing[0].sample;
        SW_TRY(timed_pass((struct ids){t, 0, &steps[0].id, 1}, &t->steps, &ask, &ms));
        mean_add(&t->ongoing[0].step, ms);
        t->tpot_ms[sample] = mean_of(&t->ongoing[0].step);
    } else {
        SW_TRY(sw_pass_step(t->pass, steps, n));
        SW_TRY(predict(t, &ask));
    }
    for (int r = 0; r < n; r++) {
        if (window)
            losses(t, slots[r])[t->ongoing[slots[r]].done] = nll[r];
        SW_TRY(window ? next_target(t, slots[r]) : next_token(t, slots[r], best[r]));
    }
    return SW_OK;
}

/* A sample's prompt whenever there is room for one, then a step of all that are under way: together
 * they read the weights once. */
static enum sw_status run_samples(struct task *t)
{
    int next = 0, slots[TOGETHER_MAX], n;
    for (int i = 0; i < t->together; i++)
        t->ongoing[i].sample = -1;
    do {
        n = 0;
        for (int i = 0; i < t->together; i++) {
            while (t->ongoing[i].sample < 0 && next < t->n_samples)
                SW_TRY(start_sample(t, i, next++));
            if (t->ongoing[i].sample >= 0)
                slots[n++] = i;
        }
        if (n > 0)
            SW_TRY(step(t, slots, n));
    } while (n > 0);
    return SW_OK;
}

/* --- warm-up, samples, report ----------------------------------------------------------------- */

/* The first token of an answer comes out of the prompt's pass: one that may be no longer takes no
 * step. */
static bool takes_steps(const struct task *t)
{
    return is_window(t) ? t->cell->phase != SW_PHASE_PREFILL : t->data->max_new_tokens > 1;
}

/* First pass over a prompt, and a decode step where there will be any: touches the memory, so that
 * the first sample's time is like the others', and finds out whether steps of this method can be
 * recorded. */
static enum sw_status warm_up(struct task *t, struct sw_result *result)
{
    const struct sw_dataset *d = t->data;
    int prompt = (int)(d->offsets[1] - d->offsets[0]), some = prompt < 512 ? prompt : 512;
    if (some > d->context - 2)
        some = d->context - 2;
    if (some < 1)
        return SW_OK;
    /* without steps no method keeps what they would need: it is in no sample's peak either */
    SW_TRY(empty_slot(t, 0, takes_steps(t) ? d->context : some));
    struct ids first = {t, 0, d->ids, some}, step = {t, 0, d->ids, 1};
    SW_TRY(queue_pass(&first));
    if (takes_steps(t))
        SW_TRY(queue_pass(&step));
    SW_TRY(t->be->sync(t->be));
    return takes_steps(t)
               ? sw_recorder_try(&t->recorder, (struct sw_work){queue_pass, &step}, result)
               : SW_OK;
}

/* Samples to have under way at one time: one where time is measured, and where there are no steps
 * to share. Otherwise as many as the backend gives the same bits, if their caches take no more than
 * half of what memory is left; what a method keeps beside them shows when it is allocated. */
static int how_many(const struct task *t)
{
    const struct sw_shape *s = &sw_model_config(t->input->model)->shape;
    if (t->cell->config->measure & SW_MEASURE_LATENCY || !takes_steps(t))
        return 1;
    double cache = 2.0 * s->n_layers * s->n_kv_heads * s->head_dim * t->data->context *
                   (double)sw_dtype_size(t->be->act);
    double fit = (double)t->be->free_bytes(t->be) / 2 / cache;
    int alike = t->be->rows_alike < TOGETHER_MAX ? t->be->rows_alike : TOGETHER_MAX,
        most = alike < t->n_samples ? alike : t->n_samples;
    return fit < 1 ? 1 : fit < most ? (int)fit : most;
}

static void close_samples(struct task *t)
{
    for (int i = 0; t->ongoing && i < t->together; i++)
        sw_attention_close(&t->ongoing[i].sp);
    sw_pass_close(t->pass);
    sw_kept_end(&t->kept);
    free(t->ongoing);
    free(t->nll);
    t->pass = NULL;
    t->ongoing = NULL;
    t->nll = NULL;
}

static enum sw_status open_samples(struct task *t, int together)
{
    const struct sw_dataset *d = t->data;
    t->together = together;
    t->recorder = (struct sw_recorder){.backend = t->be};
    t->ongoing = calloc((size_t)together, sizeof *t->ongoing);
    t->nll = calloc((size_t)together * (size_t)d->scored_tokens + 1, sizeof *t->nll);
    if (!t->ongoing || !t->nll)
        return out_of_memory();
    SW_TRY(sw_kept_begin(&t->kept, t->cell, &sw_model_config(t->input->model)->shape));
    /* nothing looks at a layer's queries after its attention */
    bool in_place =
        sw_attention_in_place(t->cell, t->be, &sw_model_config(t->input->model)->shape, d->context);
    return sw_pass_open(t->input->model, together, d->context, d->context, in_place, &t->pass);
}

/* All samples, `together` at a time. */
static enum sw_status take_samples(struct task *t, int together, struct sw_result *result)
{
    SW_TRY(open_samples(t, together));
    if (together == 1)
        SW_TRY(warm_up(t, result));
    return run_samples(t);
}

static enum sw_status report_time(struct task *t, struct sw_result *result)
{
    SW_TRY(sw_times_report(&t->prompts, result));
    SW_TRY(sw_times_report(&t->steps, result));
    SW_TRY(sw_report_median(result, "ttft_ms", t->ttft_ms, t->n_samples, 1));
    int n = 0; /* samples that took a step */
    for (int s = 0; s < t->n_samples; s++)
        if (!isnan(t->tpot_ms[s]) && t->tpot_ms[s] > 0)
            t->tpot_ms[n++] = t->tpot_ms[s];
    return n ? sw_report_median(result, "tpot_ms", t->tpot_ms, n, 1) : SW_OK;
}

static enum sw_status report(struct task *t, struct sw_result *result)
{
    uint64_t seed = t->cell->seed;
    if (is_window(t))
        SW_TRY(sw_score_windows(t->loss, t->n_samples, seed, result));
    else if (t->input->vocab)
        SW_TRY(sw_score_answers(t->data, t->input->vocab, t->made, t->n_made, t->n_samples, seed,
                                result));
    SW_TRY(sw_kept_report(&t->kept, result));
    return t->cell->config->measure & SW_MEASURE_LATENCY ? report_time(t, result) : SW_OK;
}

static enum sw_status make(struct task *t)
{
    size_t n = (size_t)t->n_samples,
           layers = (size_t)sw_model_config(t->input->model)->shape.n_layers;
    t->ttft_ms = calloc(n, sizeof *t->ttft_ms);
    t->tpot_ms = calloc(n, sizeof *t->tpot_ms);
    t->loss = calloc(n, sizeof *t->loss);
    t->made = calloc(n * (size_t)t->data->max_new_tokens + 1, sizeof *t->made);
    t->n_made = calloc(n, sizeof *t->n_made);
    if (!t->ttft_ms || !t->tpot_ms || !t->loss || !t->made || !t->n_made)
        return out_of_memory();
    SW_TRY(sw_times_make(&t->prompts, (int)layers, false));
    return sw_times_make(&t->steps, (int)layers, true);
}

static void clear(struct task *t)
{
    close_samples(t);
    sw_times_free(&t->prompts);
    sw_times_free(&t->steps);
    free(t->ttft_ms);
    free(t->tpot_ms);
    free(t->loss);
    free(t->made);
    free(t->n_made);
}

enum sw_status sw_task_run(const struct sw_cell *cell, struct sw_backend *be,
                           const struct sw_task_input *input, struct sw_result *result)
{
    const struct sw_dataset *d = input->dataset;
    int n = input->n_samples < d->n_samples ? input->n_samples : d->n_samples;
    struct task t = {.cell = cell, .be = be, .input = input, .data = d, .n_samples = n};
    enum sw_status st = make(&t);
    if (st == SW_OK)
        st = take_samples(&t, how_many(&t), result);
    if (st == SW_ENOMEM && t.together > 1) { /* nothing of it is in the result yet */
        sw_error_clear();
        close_samples(&t);
        st = take_samples(&t, 1, result);
    }
    result->together = t.together > 1;
    if (st == SW_OK)
        st = report(&t, result);
    clear(&t);
    return st;
}
