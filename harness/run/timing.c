/* Samples of time: reading the stamps of a pass, when to stop, and what is reported. */
#include "harness/run/timing.h"

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
