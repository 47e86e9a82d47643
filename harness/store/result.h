/* result.h: what a cell measured, in memory, before cell_writer.c writes it. */
#ifndef SW_RESULT_H
#define SW_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

enum sw_result_status { SW_RESULT_OK, SW_RESULT_FAILED, SW_RESULT_SKIPPED };
extern const char *const sw_result_status_names[]; /* ok, failed, skipped */

/* How harness/run/figures.h pools a metric over prompts and decode steps. */
enum sw_pooling {
    SW_NOT_POOLED,
    SW_POOLED_BY_LAYER, /* per layer only */
    SW_POOLED_BY_HEAD,  /* per head too */
    /* per head, and a layer's is the mean of its heads', however many values each has */
    SW_POOLED_HEADS_ALIKE,
};

/* The metrics that exist: name, unit, long name, direction. One table; export, report, help and
 * store read it. */
struct sw_metric_info {
    const char *name, *unit, *long_name;
    int better; /* +1: higher is better, -1: lower is better, 0: neither */
    enum sw_pooling pooled;
};
extern const struct sw_metric_info sw_metric_table[]; /* ends with name == NULL */
const struct sw_metric_info *sw_metric_find(const char *name);

struct sw_metric {
    const struct sw_metric_info *info;
    double value;           /* over all; NaN when there is none */
    double lo, hi;          /* 95 % interval, NaN when there is none */
    double p5, p95;         /* percentiles of the samples of a time, NaN when there are none */
    int64_t n;              /* values behind it */
    double *per_layer;      /* [n_layers] or NULL; NaN where not defined (dense layers) */
    double *per_layer_head; /* [n_layers * n_heads] or NULL */
    int n_layers, n_heads;
    /* raw values [n_samples] or NULL: timings, per-window losses, per-prompt scores */
    double *samples;
    int n_samples;
};

/* What was generated for a sample (after RULER's cleaning, where that is the score's; before all
 * but its first line goes, where that counts). */
struct sw_answer {
    const char *prediction;
    const char *const *references;
    int n_references;
    double score; /* 0 … 100 */
    double depth; /* share of the haystack before the needle; NaN: none */
};

struct sw_result {
    enum sw_result_status status;
    char *reason; /* why failed or skipped */
    struct sw_metric *metrics;
    int n_metrics;
    struct sw_answer *answers; /* with texts of their own */
    int n_answers;
    /* where the prompts can be read; NULLs when not said */
    struct sw_answers_source {
        char *dataset, *dataset_hash, *model_folder;
    } source;
    char **warnings; /* sanity checks that failed; also stored */
    int n_warnings;
    /* samples were run together: peak memory is no figure of the method's */
    bool together;
};

/* Adds a metric (or returns the one already there, for filling in). NULL when out of memory or
 * unknown name. */
struct sw_metric *sw_result_metric(struct sw_result *result, const char *name);
/* Drops all metrics but the first n: those of a measurement that failed half-way. */
void sw_result_keep_metrics(struct sw_result *result, int n);
SW_MUST_CHECK enum sw_status sw_metric_set_layers(struct sw_metric *metric, const double *values,
                                                  int n_layers);
SW_MUST_CHECK enum sw_status sw_metric_set_layer_heads(struct sw_metric *metric,
                                                       const double *values, int n_layers,
                                                       int n_heads);
SW_MUST_CHECK enum sw_status sw_metric_set_samples(struct sw_metric *metric, const double *values,
                                                   int n);
SW_MUST_CHECK enum sw_status sw_result_warn(struct sw_result *result, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* texts are copied */
SW_MUST_CHECK enum sw_status sw_result_predict(struct sw_result *result,
                                               const struct sw_answer *answer);
SW_MUST_CHECK enum sw_status sw_result_set_source(struct sw_result *result, const char *dataset,
                                                  const char *dataset_hash,
                                                  const char *model_folder);
void sw_result_clear(struct sw_result *result);

#endif
