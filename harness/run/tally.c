/* Sums of one metric, per layer and per head, and the means that are reported of them. */
#include "harness/run/tally.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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
        return SW_FAIL(SW_ENOMEM, "tally of %d layers: out of host memory", layers);
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

bool sw_tally_any(const struct sw_tally *t)
{
    for (int l = 0; l < t->layers; l++)
        if (t->count[l] > 0)
            return true;
    return false;
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
