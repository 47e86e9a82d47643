#include "harness/run/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/interval.h"

double sw_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* --- tallies ---------------------------------------------------------------------------------- */

enum sw_status sw_tally_make(struct sw_tally *t, int layers, int heads)
{
    *t = (struct sw_tally){.layers = layers, .heads = heads};
    t->sum = calloc((size_t)layers, sizeof *t->sum);
    t->count = calloc((size_t)layers, sizeof *t->count);
    if (heads > 0) {
        t->head_sum = calloc((size_t)layers * (size_t)heads, sizeof *t->head_sum);
        t->head_count = calloc((size_t)layers * (size_t)heads, sizeof *t->head_count);
    }
    if (!t->sum || !t->count || (heads > 0 && (!t->head_sum || !t->head_count))) {
        sw_tally_free(t);
        return SW_FAIL(SW_ENOMEM, "figures of %d layers: out of host memory", layers);
    }
    return SW_OK;
}

void sw_tally_free(struct sw_tally *t)
{
    free(t->sum);
    free(t->count);
    free(t->head_sum);
    free(t->head_count);
    memset(t, 0, sizeof *t);
}

void sw_tally_add(struct sw_tally *t, int layer, double sum, double count)
{
    t->sum[layer] += sum;
    t->count[layer] += count;
}

void sw_tally_add_head(struct sw_tally *t, int layer, int head, double sum, double count)
{
    t->head_sum[layer * t->heads + head] += sum;
    t->head_count[layer * t->heads + head] += count;
}

double sw_tally_spread(const struct sw_tally *t)
{
    double sum = 0, square = 0;
    int n = 0;
    for (int i = 0; i < t->layers * t->heads; i++)
        if (t->head_count[i] > 0) {
            double x = t->head_sum[i] / t->head_count[i];
            sum += x;
            n++;
        }
    for (int i = 0; i < t->layers * t->heads; i++)
        if (t->head_count[i] > 0) {
            double off = t->head_sum[i] / t->head_count[i] - sum / n;
            square += off * off;
        }
    return n > 1 ? sqrt(square / (n - 1)) : 0;
}

static double *means(const double *sum, const double *count, int n)
{
    double *x = malloc((size_t)n * sizeof *x);
    for (int i = 0; x && i < n; i++)
        x[i] = count[i] > 0 ? sum[i] / count[i] : NAN;
    return x;
}

/* [layers]: the mean of the heads that have any. */
static double *means_of_heads(const struct sw_tally *t)
{
    double *x = malloc((size_t)t->layers * sizeof *x);
    for (int l = 0; x && l < t->layers; l++) {
        double sum = 0;
        int n = 0;
        for (int h = l * t->heads; h < (l + 1) * t->heads; h++)
            if (t->head_count[h] > 0) {
                sum += t->head_sum[h] / t->head_count[h];
                n++;
            }
        x[l] = n ? sum / n : NAN;
    }
    return x;
}

enum sw_status sw_tally_report(const struct sw_tally *t, struct sw_result *result, const char *name)
{
    double *layers = t->of_heads ? means_of_heads(t) : means(t->sum, t->count, t->layers),
           total = 0;
    double *heads = t->heads > 0 ? means(t->head_sum, t->head_count, t->layers * t->heads) : NULL;
    struct sw_metric *metric = sw_result_metric(result, name);
    enum sw_status st = SW_OK;
    if (!layers || !metric || (t->heads > 0 && !heads))
        SW_TRY_GOTO(st, done, SW_FAIL(SW_ENOMEM, "%s: out of host memory", name));
    int with = 0;
    for (int l = 0; l < t->layers; l++)
        if (t->count[l] > 0) {
            if (!isfinite(layers[l]))
                SW_TRY_GOTO(st, done,
                            SW_FAIL(SW_EINTERNAL,
                                    "%s of layer %d is not a number: do the inputs overflow?", name,
                                    l));
            total += layers[l];
            with++;
        }
    metric->value = with ? total / with : NAN;
    metric->n = with;
    SW_TRY_GOTO(st, done, sw_metric_set_layers(metric, layers, t->layers));
    if (heads)
        st = sw_metric_set_layer_heads(metric, heads, t->layers, t->heads);
done:
    free(layers);
    free(heads);
    return st;
}

/* --- times ------------------------------------------------------------------------------------ */

enum sw_status sw_times_make(struct sw_times *t, int layers, bool decode)
{
    *t = (struct sw_times){.layers = layers, .decode = decode};
    t->layer_total = calloc((size_t)layers, sizeof *t->layer_total);
    t->layer_select = calloc((size_t)layers, sizeof *t->layer_select);
    t->layer_attend = calloc((size_t)layers, sizeof *t->layer_attend);
    if (!t->layer_total || !t->layer_select || !t->layer_attend) {
        sw_times_free(t);
        return SW_FAIL(SW_ENOMEM, "times of %d layers: out of host memory", layers);
    }
    return SW_OK;
}

void sw_times_free(struct sw_times *t)
{
    free(t->select);
    free(t->total);
    free(t->clock);
    free(t->layer_total);
    free(t->layer_select);
    free(t->layer_attend);
    memset(t, 0, sizeof *t);
}

enum sw_marks sw_times_marks(const struct sw_times *t)
{
    return t->decode && t->n <= t->n_parts ? SW_MARKS_WHOLE : SW_MARKS_PARTS;
}

static enum sw_status grow(struct sw_times *t)
{
    int room = t->room ? 2 * t->room : 64;
    double **all[] = {&t->select, &t->total, &t->clock};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        double *larger = realloc(*all[i], (size_t)room * sizeof *larger);
        if (!larger)
            return SW_FAIL(SW_ENOMEM, "times: out of host memory");
        *all[i] = larger;
    }
    t->room = room;
    return SW_OK;
}

enum sw_status sw_times_read(struct sw_times *t, struct sw_sparse *sp)
{
    bool parts = sp->marks == SW_MARKS_PARTS, whole = !t->decode || !parts;
    if (t->n == t->room || t->n_parts == t->room)
        SW_TRY(grow(t));
    /* before waiting: the work is still under way */
    double clock = sp->backend->clock_mhz ? sp->backend->clock_mhz(sp->backend) : 0;
    double all = 0, selection = 0;
    for (int l = 0; l < t->layers; l++) {
        double select, total;
        SW_TRY(sw_sparse_times(sp, l, &select, &total));
        all += total;
        if (whole)
            t->layer_total[l] += total;
        if (parts) {
            selection += select;
            t->layer_select[l] += select;
            t->layer_attend[l] += total - select;
        }
    }
    if (whole) {
        t->clock[t->n] = clock;
        t->total[t->n++] = all;
    }
    if (parts)
        t->select[t->n_parts++] = selection;
    return SW_OK;
}

enum sw_status sw_times_more(const struct sw_times *t, const struct sw_timing *rule, double seconds,
                             bool *more)
{
    *more = true;
    if (t->n < rule->min_runs || t->n_parts == 0)
        return SW_OK;
    *more = false;
    if (seconds >= rule->max_seconds)
        return SW_OK;
    double median, error;
    SW_TRY(sw_median_error(t->total, t->n, &median, &error));
    *more = isnan(error) || error > rule->target_error * median;
    return SW_OK;
}

enum sw_status sw_report_median(struct sw_result *result, const char *name, const double *x, int n,
                                double scale)
{
    struct sw_metric *metric = sw_result_metric(result, name);
    double *scaled = malloc((size_t)(n > 0 ? n : 1) * sizeof *scaled), error;
    if (!metric || !scaled) {
        free(scaled);
        return SW_FAIL(SW_ENOMEM, "%s: out of host memory", name);
    }
    for (int i = 0; i < n; i++)
        scaled[i] = x[i] * scale;
    enum sw_status st = sw_median_error(scaled, n, &metric->value, &error);
    metric->lo = metric->value - 1.96 * error;
    if (metric->lo < 0) /* a time */
        metric->lo = 0;
    metric->hi = metric->value + 1.96 * error;
    metric->n = n;
    if (st == SW_OK)
        st = sw_percentile(scaled, n, 5, &metric->p5);
    if (st == SW_OK)
        st = sw_percentile(scaled, n, 95, &metric->p95);
    if (st == SW_OK)
        st = sw_metric_set_samples(metric, scaled, n);
    free(scaled);
    return st;
}

enum sw_status sw_report_mean(struct sw_result *result, const char *name, const double *x, int n,
                              uint64_t seed)
{
    struct sw_metric *metric = sw_result_metric(result, name);
    if (!metric)
        return SW_FAIL(SW_ENOMEM, "%s: out of host memory", name);
    struct sw_interval interval;
    SW_TRY(sw_interval_mean(x, n, seed, &interval));
    metric->value = interval.value;
    metric->lo = interval.lo;
    metric->hi = interval.hi;
    metric->n = n;
    return sw_metric_set_samples(metric, x, n);
}

/* Per layer: the mean of n passes. */
static enum sw_status report_layers(struct sw_result *result, const char *name, const double *sum,
                                    int n, int layers, double scale)
{
    struct sw_metric *metric = sw_result_metric(result, name);
    double *mean = malloc((size_t)layers * sizeof *mean);
    if (!metric || !mean) {
        free(mean);
        return SW_FAIL(SW_ENOMEM, "%s: out of host memory", name);
    }
    for (int l = 0; l < layers; l++)
        mean[l] = sum[l] * scale / n;
    enum sw_status st = sw_metric_set_layers(metric, mean, layers);
    free(mean);
    return st;
}

enum sw_status sw_times_report(const struct sw_times *t, struct sw_result *result)
{
    const char *select = t->decode ? "decode_select_us" : "prefill_select_ms";
    const char *both = t->decode ? "decode_attention_us" : "prefill_attention_ms";
    double scale = t->decode ? 1e3 : 1.0;
    if (t->n_parts > 0) {
        SW_TRY(sw_report_median(result, select, t->select, t->n_parts, scale));
        SW_TRY(report_layers(result, select, t->layer_select, t->n_parts, t->layers, scale));
    }
    if (t->n == 0)
        return SW_OK;
    SW_TRY(sw_report_median(result, both, t->total, t->n, scale));
    SW_TRY(report_layers(result, both, t->layer_total, t->n, t->layers, scale));
    return t->clock[0] > 0 ? sw_report_median(result, "sm_clock_mhz", t->clock, t->n, 1) : SW_OK;
}

/* --- attention of a cell ---------------------------------------------------------------------- */

static struct sw_sparse attention_of(const struct sw_cell *cell, struct sw_backend *be,
                                     const struct sw_shape *shape)
{
    return (struct sw_sparse){
        .backend = be,
        .shape = *shape,
        .dense_layers = cell->dense_layers,
        .sparse_prefill = cell->phase != SW_PHASE_DECODE,
        .sparse_decode = cell->phase != SW_PHASE_PREFILL,
        .dense_kernel =
            cell->method->dense_kernel ? cell->method->dense_kernel(cell->params) : SW_ATTEND_BEST,
    };
}

bool sw_attention_in_place(const struct sw_cell *cell, struct sw_backend *be,
                           const struct sw_shape *shape, int tokens)
{
    struct sw_sparse sp = attention_of(cell, be, shape);
    return sw_sparse_in_place(&sp, tokens);
}

enum sw_status sw_attention_begin(const struct sw_cell *cell, struct sw_backend *be,
                                  const struct sw_shape *shape, int max_tokens,
                                  struct sw_sparse *sp)
{
    *sp = attention_of(cell, be, shape);
    if (cell->method->flags & SW_METHOD_DENSE)
        return SW_OK;
    return sw_sequence_begin(&sp->sequence, cell->method, cell->params, be, shape, max_tokens,
                             cell->density, cell->budget, cell->seed, cell->dense_layers);
}

void sw_attention_end(struct sw_sparse *sp)
{
    sw_sequence_end(sp->sequence);
    sp->sequence = NULL;
    sw_sparse_free(sp);
}
