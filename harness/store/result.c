/* The metrics that exist, and the result of a cell while it is measured. */
#include "harness/store/result.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const sw_result_status_names[] = {"ok", "failed", "skipped", NULL};

const struct sw_metric_info sw_metric_table[] = {
    {"density", "1", "kept / causal token pairs of the sparse layers, counted", 0,
     SW_POOLED_BY_HEAD},
    {"density_spread", "1", "standard deviation of the kept density over sparse layers and heads",
     0, SW_NOT_POOLED},
    {"density_all_layers", "1", "kept / causal token pairs of all layers, dense ones included", 0,
     SW_NOT_POOLED},
    {"block_union_density", "1",
     "causal token pairs of the listed blocks / causal token pairs, where density counts single "
     "pairs (token masks)",
     0, SW_POOLED_BY_LAYER},
    {"kv_fetch_density", "1", "distinct key blocks read by a KV group / causal blocks", 0,
     SW_POOLED_BY_LAYER},
    {"block_recall", "1", "share of each head's k best blocks that were kept (forced blocks aside)",
     +1, SW_POOLED_HEADS_ALIKE},
    {"block_recall_shared", "1",
     "share of the k blocks best for the mean of all heads that were kept (forced blocks aside)",
     +1, SW_POOLED_BY_LAYER},
    {"block_recall_rollout", "1",
     "share of the k best blocks by attention rolled out over layers that were kept", +1,
     SW_POOLED_HEADS_ALIKE},
    {"mass_recall", "1", "dense attention mass inside the kept blocks", +1, SW_POOLED_HEADS_ALIKE},
    {"output_rel_error", "1",
     "relative error of the attention output on the dense run's inputs (Frobenius norm)", -1,
     SW_POOLED_BY_HEAD},
    {"accuracy", "%", "task score, mean over prompts", +1, SW_NOT_POOLED},
    {"ppl", "1", "perplexity of the scored part of the windows", -1, SW_NOT_POOLED},
    {"nll", "nat/token", "mean negative log-likelihood of the scored tokens", -1, SW_NOT_POOLED},
    {"nll_delta", "nat/token", "negative log-likelihood minus dense's on the same windows", -1,
     SW_NOT_POOLED},
    {"prefill_attention_ms", "ms", "prefill attention of all layers, selection included", -1,
     SW_NOT_POOLED},
    {"prefill_select_ms", "ms", "prefill selection of all layers (a part of the attention time)",
     -1, SW_NOT_POOLED},
    {"decode_attention_us", "us",
     "attention of all layers for one decoded token, selection included", -1, SW_NOT_POOLED},
    {"decode_select_us", "us",
     "selection of all layers for one decoded token (a part of the attention time)", -1,
     SW_NOT_POOLED},
    {"ttft_ms", "ms", "time to first token: the whole prefill pass", -1, SW_NOT_POOLED},
    {"tpot_ms", "ms", "time per output token: a whole decode step", -1, SW_NOT_POOLED},
    {"sm_clock_mhz", "MHz", "clock of the GPU's multiprocessors at the timed passes", 0,
     SW_NOT_POOLED},
    {"peak_memory_bytes", "byte", "peak memory of the backend", -1, SW_NOT_POOLED},
    {"effective_tflops", "TFLOP/s",
     "operations of the kept token pairs / time of the attention kernel", +1, SW_NOT_POOLED},
    {"effective_gbps", "GB/s",
     "bytes of the keys and values that a decode step reads / time of the attention kernel", +1,
     SW_NOT_POOLED},
    {"hop_recall", "1",
     "share of the blocks with the statements that an answer follows from which the last row of a "
     "prompt, or a decode step, keeps",
     +1, SW_POOLED_HEADS_ALIKE},
    {"negative_scores", "1",
     "share of a layer's raw scores of causal pairs of blocks that are below zero, where the "
     "method "
     "takes them to a power",
     0, SW_POOLED_BY_LAYER},
    {.name = NULL},
};
enum { METRICS = sizeof sw_metric_table / sizeof sw_metric_table[0] - 1 };

const struct sw_metric_info *sw_metric_find(const char *name)
{
    for (const struct sw_metric_info *info = sw_metric_table; info->name; info++)
        if (strcmp(info->name, name) == 0)
            return info;
    return NULL;
}

struct sw_metric *sw_result_metric(struct sw_result *result, const char *name)
{
    const struct sw_metric_info *info = sw_metric_find(name);
    if (!info)
        return NULL;
    for (int i = 0; i < result->n_metrics; i++)
        if (result->metrics[i].info == info)
            return &result->metrics[i];
    if (!result->metrics) /* room for all there are, so that pointers handed out stay good */
        result->metrics = calloc(METRICS, sizeof *result->metrics);
    if (!result->metrics)
        return NULL;
    struct sw_metric *metric = &result->metrics[result->n_metrics++];
    *metric =
        (struct sw_metric){.info = info, .value = NAN, .lo = NAN, .hi = NAN, .p5 = NAN, .p95 = NAN};
    return metric;
}

void sw_result_keep_metrics(struct sw_result *result, int n)
{
    for (; result->n_metrics > n; result->n_metrics--) {
        struct sw_metric *last = &result->metrics[result->n_metrics - 1];
        free(last->per_layer);
        free(last->per_layer_head);
        free(last->samples);
    }
}

/* Frees *to and puts a copy of the values there. */
static enum sw_status set_values(double **to, const double *values, size_t count)
{
    double *copy = malloc((count ? count : 1) * sizeof *copy);
    if (!copy)
        return SW_FAIL(SW_ENOMEM, "%zu values of a metric: out of host memory", count);
    memcpy(copy, values, count * sizeof *copy);
    free(*to);
    *to = copy;
    return SW_OK;
}

enum sw_status sw_metric_set_layers(struct sw_metric *metric, const double *values, int n_layers)
{
    if (metric->per_layer_head && metric->n_layers != n_layers)
        return SW_FAIL(SW_EINTERNAL, "metric %s: %d layers, but %d with heads", metric->info->name,
                       n_layers, metric->n_layers);
    SW_TRY(set_values(&metric->per_layer, values, (size_t)n_layers));
    metric->n_layers = n_layers;
    return SW_OK;
}

enum sw_status sw_metric_set_layer_heads(struct sw_metric *metric, const double *values,
                                         int n_layers, int n_heads)
{
    if (metric->per_layer && metric->n_layers != n_layers)
        return SW_FAIL(SW_EINTERNAL, "metric %s: %d layers with heads, but %d without",
                       metric->info->name, n_layers, metric->n_layers);
    SW_TRY(set_values(&metric->per_layer_head, values, (size_t)n_layers * (size_t)n_heads));
    metric->n_layers = n_layers;
    metric->n_heads = n_heads;
    return SW_OK;
}

enum sw_status sw_metric_set_samples(struct sw_metric *metric, const double *values, int n)
{
    SW_TRY(set_values(&metric->samples, values, (size_t)n));
    metric->n_samples = n;
    return SW_OK;
}

enum sw_status sw_result_warn(struct sw_result *result, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = NULL;
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    char **grown =
        text ? realloc(result->warnings, ((size_t)result->n_warnings + 1) * sizeof *grown) : NULL;
    if (!grown) {
        free(text);
        return SW_FAIL(SW_ENOMEM, "a warning: out of host memory");
    }
    result->warnings = grown;
    result->warnings[result->n_warnings++] = text;
    return SW_OK;
}

static void free_answer(struct sw_answer *answer)
{
    for (int i = 0; answer->references && i < answer->n_references; i++)
        free((char *)answer->references[i]);
    free((char **)answer->references);
    free((char *)answer->prediction);
}

enum sw_status sw_result_predict(struct sw_result *result, const struct sw_answer *answer)
{
    struct sw_answer row = *answer,
                     *grown =
                         realloc(result->answers, ((size_t)result->n_answers + 1) * sizeof *grown);
    if (grown)
        result->answers = grown;
    char **references = calloc((size_t)row.n_references + 1, sizeof *references);
    bool copied = references != NULL;
    for (int i = 0; copied && i < row.n_references; i++)
        copied = (references[i] = strdup(answer->references[i])) != NULL;
    row.references = (const char *const *)references;
    row.prediction = strdup(answer->prediction);
    if (!grown || !copied || !row.prediction) {
        free_answer(&row);
        return SW_FAIL(SW_ENOMEM, "a prediction: out of host memory");
    }
    result->answers[result->n_answers++] = row;
    return SW_OK;
}

static void clear_source(struct sw_answers_source *source)
{
    free(source->dataset);
    free(source->dataset_hash);
    free(source->model_folder);
    *source = (struct sw_answers_source){0};
}

enum sw_status sw_result_set_source(struct sw_result *result, const char *dataset,
                                    const char *dataset_hash, const char *model_folder)
{
    clear_source(&result->source);
    result->source =
        (struct sw_answers_source){strdup(dataset), strdup(dataset_hash), strdup(model_folder)};
    if (!result->source.dataset || !result->source.dataset_hash || !result->source.model_folder)
        return SW_FAIL(SW_ENOMEM, "names of files: out of host memory");
    return SW_OK;
}

void sw_result_clear(struct sw_result *result)
{
    sw_result_keep_metrics(result, 0);
    for (int i = 0; i < result->n_answers; i++)
        free_answer(&result->answers[i]);
    clear_source(&result->source);
    for (int i = 0; i < result->n_warnings; i++)
        free(result->warnings[i]);
    free(result->metrics);
    free(result->answers);
    free(result->warnings);
    free(result->reason);
    *result = (struct sw_result){0};
}
