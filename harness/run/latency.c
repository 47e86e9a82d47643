/* Time of a method's selection and attention on a capture: warm up, take samples until there are
 * enough, report. A sample is one pass over the prompt, or one decode step. */
#include "harness/run/latency.h"

#include <math.h>

#include "harness/run/attention.h"
#include "harness/run/interrupt.h"
#include "harness/run/recorder.h"
#include "harness/run/timing.h"

struct latency {
    const struct sw_cell *cell;
    struct sw_backend *be;
    struct sw_capture *capture;
    struct sw_shape shape;
    int n, m; /* tokens of the prompt; decode steps after it */
    const struct sw_figures *counted;
    struct sw_sparse sp;
    void *out; /* attention output of one call, backend memory */
    bool decode;
    struct sw_recorder recorder;
    struct sw_times times;
};

/* --- what is timed ---------------------------------------------------------------------------- */

static size_t token_values(const struct latency *l)
{
    return (size_t)l->shape.n_heads * (size_t)l->shape.head_dim;
}

static enum sw_status prompt_pass(struct latency *l)
{
    for (int layer = 0; layer < l->shape.n_layers; layer++) {
        struct sw_capture_layer x;
        SW_TRY(sw_interrupt_check());
        SW_TRY(sw_capture_get(l->capture, layer, &x));
        SW_TRY(sw_sparse_attend(&l->sp, layer, l->n, l->n, x.q, x.k, x.v, l->out));
    }
    return SW_OK;
}

struct step {
    struct latency *latency;
    int index;
};

/* Attention of all layers for one token. */
static enum sw_status queue_step(void *context)
{
    const struct step *step = context;
    struct latency *l = step->latency;
    int n_k = l->n + step->index + 1;
    size_t query = (size_t)(n_k - 1) * token_values(l) * sw_dtype_size(l->be->act);
    for (int layer = 0; layer < l->shape.n_layers; layer++) {
        struct sw_capture_layer x;
        SW_TRY(sw_capture_get(l->capture, layer, &x));
        /* decode reads each byte once: a warm cache would flatter it */
        SW_TRY(l->be->flush_cache(l->be));
        SW_TRY(
            sw_sparse_attend(&l->sp, layer, 1, n_k, (const char *)x.q + query, x.k, x.v, l->out));
    }
    return SW_OK;
}

/* A pass over the prompt; where decode is timed it is not, but brings the method's state to where
 * the steps begin. */
static enum sw_status run_round(struct latency *l, bool timed)
{
    l->sp.marks = timed && !l->decode ? sw_times_marks(&l->times) : SW_MARKS_NONE;
    SW_TRY(prompt_pass(l));
    if (!l->decode)
        return timed ? sw_times_read(&l->times, &l->sp) : SW_OK;
    for (int s = 0; s < l->m; s++) {
        struct step step = {l, s};
        struct sw_work work = {queue_step, &step};
        SW_TRY(sw_interrupt_check());
        l->sp.marks = timed ? sw_times_marks(&l->times) : SW_MARKS_NONE;
        SW_TRY(sw_recorder_prepare(&l->recorder, work));
        SW_TRY(sw_recorder_launch(&l->recorder, work));
        if (timed)
            SW_TRY(sw_times_read(&l->times, &l->sp));
    }
    return SW_OK;
}

/* --- warm-up, samples, report ----------------------------------------------------------------- */

/* First touch of memory, clocks, caches; and whether the steps can be recorded, which all of them
 * must be able to. */
static enum sw_status warm_up(struct latency *l, struct sw_result *result)
{
    l->recorder = (struct sw_recorder){.backend = l->be};
    double begin = sw_seconds();
    do {
        SW_TRY(run_round(l, false));
        SW_TRY(l->be->sync(l->be));
    } while (1e3 * (sw_seconds() - begin) < l->cell->config->timing.warmup_ms);
    if (!l->decode || !l->be->record_begin)
        return SW_OK;
    l->sp.marks = SW_MARKS_NONE;
    SW_TRY(prompt_pass(l));
    for (int s = 0; s < l->m && (s == 0 || l->recorder.active); s++) {
        struct step step = {l, s};
        SW_TRY(sw_recorder_try(&l->recorder, (struct sw_work){queue_step, &step}, result));
    }
    return SW_OK;
}

static enum sw_status take_samples(struct latency *l)
{
    double begin = sw_seconds();
    for (bool more = true; more;) {
        SW_TRY(run_round(l, true));
        SW_TRY(sw_times_more(&l->times, &l->cell->config->timing, sw_seconds() - begin, &more));
    }
    return SW_OK;
}

/* Of the attention kernel alone: selection is not its work. A prompt: 4·d operations for a kept
 * pair and head (QK^T and PV). Decode: the bytes of the keys and values that the KV groups read, a
 * block once however many heads of a group keep it. */
static enum sw_status report_rate(const struct latency *l, struct sw_result *result)
{
    const struct sw_times *t = &l->times;
    double seconds = 0, d = l->shape.head_dim, L = l->shape.n_layers;
    if (t->n_parts == 0 || (l->decode && l->counted->decode_steps == 0))
        return SW_OK;
    for (int layer = 0; layer < t->layers; layer++)
        seconds += 1e-3 * t->layer_attend[layer] / t->n_parts;
    struct sw_metric *kept = sw_result_metric(result, "density_all_layers"),
                     *rate = sw_result_metric(result,
                                              l->decode ? "effective_gbps" : "effective_tflops");
    if (!kept || !rate)
        return SW_FAIL(SW_ENOMEM, "latency: out of host memory");
    rate->n = t->n;
    if (l->decode) {
        double keys = l->counted->decode_keys / (double)l->counted->decode_steps;
        rate->value = 2 * keys * d * (double)sw_dtype_size(l->be->act) / seconds * 1e-9;
    } else {
        double pairs = 0.5 * l->n * (l->n + 1.0) * kept->value * L;
        rate->value = 4 * pairs * l->shape.n_heads * d / seconds * 1e-12;
    }
    return SW_OK;
}

static enum sw_status time_phase(struct latency *l, bool decode, struct sw_result *result)
{
    enum sw_status st;
    l->decode = decode;
    SW_TRY(sw_times_make(&l->times, l->shape.n_layers, decode));
    SW_TRY_GOTO(st, done, warm_up(l, result));
    SW_TRY_GOTO(st, done, take_samples(l));
    SW_TRY_GOTO(st, done, sw_times_report(&l->times, result));
    st = report_rate(l, result);
done:
    sw_times_free(&l->times);
    return st;
}

enum sw_status sw_latency(const struct sw_cell *cell, struct sw_backend *be,
                          struct sw_capture *capture, int n, int m,
                          const struct sw_figures *counted, struct sw_result *result)
{
    struct latency l = {.cell = cell,
                        .be = be,
                        .capture = capture,
                        .shape = *sw_capture_shape(capture),
                        .n = n,
                        .m = cell->phase == SW_PHASE_PREFILL ? 0 : m,
                        .counted = counted};
    enum sw_status st;
    if (l.m > 0)
        SW_TRY(sw_capture_need_resident(capture));
    SW_TRY_GOTO(st, done, sw_attention_open(cell, be, &l.shape, n + l.m, &l.sp));
    SW_TRY_GOTO(st, done,
                be->alloc(be, (size_t)n * token_values(&l) * sw_dtype_size(be->act), &l.out));
    if (cell->phase != SW_PHASE_DECODE)
        SW_TRY_GOTO(st, done, time_phase(&l, false, result));
    if (cell->phase != SW_PHASE_PREFILL)
        st = time_phase(&l, true, result);
done:
    sw_attention_close(&l.sp);
    be->free(be, l.out);
    return st;
}
