/* measure.h: inside the runner: what a cell's measurements share. */
#ifndef SW_MEASURE_H
#define SW_MEASURE_H

#include "core/model/vocab.h"
#include "core/sparse.h"
#include "harness/config/cell.h"
#include "harness/inputs/dataset.h"
#include "harness/run/capture.h"
#include "harness/store/result.h"
#include "harness/store/store.h"

/* Per-layer and per-head sums of one figure: NaN where nothing was added. */
struct sw_tally {
    int layers, heads;
    bool of_heads;                 /* a layer's figure is the mean of its heads' */
    double *sum, *count;           /* [layers] */
    double *head_sum, *head_count; /* [layers * heads] or NULL */
};
/* heads 0: per layer only */
SW_MUST_CHECK enum sw_status sw_tally_make(struct sw_tally *t, int layers, int heads);
void sw_tally_free(struct sw_tally *t);
void sw_tally_add(struct sw_tally *t, int layer, double sum, double count);
void sw_tally_add_head(struct sw_tally *t, int layer, int head, double sum, double count);
/* Standard deviation of the heads' means over layers and heads that have any; 0 for one. */
double sw_tally_spread(const struct sw_tally *t);
/* The metric's value is the mean over layers that have any; per-layer and per-head means go with
 * it. */
SW_MUST_CHECK enum sw_status sw_tally_report(const struct sw_tally *t, struct sw_result *result,
                                             const char *metric);

/* Times of passes or steps: samples, and sums per layer; ms. A prompt's pass gives the parts and
 * the total at once. Decode steps, which are short, take turns: a time stamp between selection and
 * attention keeps the one from beginning while the other ends, so the total is that of steps
 * without it. */
struct sw_times {
    bool decode;
    int layers, n, n_parts, room;
    /* [n] a pass, all layers: selection and attention; the GPU's MHz while it ran, 0: unknown */
    double *total, *clock;
    double *select; /* [n_parts] */
    /* [layers] summed over n passes, n_parts, n_parts */
    double *layer_total, *layer_select, *layer_attend;
};
SW_MUST_CHECK enum sw_status sw_times_make(struct sw_times *t, int layers, bool decode);
void sw_times_free(struct sw_times *t);
/* The stamps that the next pass should have. */
enum sw_marks sw_times_marks(const struct sw_times *t);
/* Reads the stamps of the pass that sp has just made. */
SW_MUST_CHECK enum sw_status sw_times_read(struct sw_times *t, struct sw_sparse *sp);
/* Whether another pass is wanted: too few, or the median's standard error above the target and time
 * left. */
SW_MUST_CHECK enum sw_status sw_times_more(const struct sw_times *t, const struct sw_timing *rule,
                                           double seconds, bool *more);
/* Metrics prefill_select_ms and prefill_attention_ms, or decode_select_us and decode_attention_us:
 * the median pass or step, all layers. */
SW_MUST_CHECK enum sw_status sw_times_report(const struct sw_times *t, struct sw_result *result);

/* A metric from samples: their median or mean with its interval, raw values kept. */
SW_MUST_CHECK enum sw_status sw_report_median(struct sw_result *result, const char *metric,
                                              const double *x, int n, double scale);
SW_MUST_CHECK enum sw_status sw_report_mean(struct sw_result *result, const char *metric,
                                            const double *x, int n, uint64_t seed);

double sw_seconds(void); /* steady clock */

/* The attention of a cell: method and phases set up; free with sw_attention_end. max_tokens: prompt
 * and decode. */
SW_MUST_CHECK enum sw_status sw_attention_begin(const struct sw_cell *cell, struct sw_backend *be,
                                                const struct sw_shape *shape, int max_tokens,
                                                struct sw_sparse *sp);
void sw_attention_end(struct sw_sparse *sp);
/* Whether the cell's attention of a prompt of `tokens` may be written over the queries
 * (sw_sparse_in_place). */
bool sw_attention_in_place(const struct sw_cell *cell, struct sw_backend *be,
                           const struct sw_shape *shape, int tokens);

/* What a probe measures, pooled over the captures that are added. */
struct sw_figures {
    struct sw_tally density, union_density, fetch, recall, recall_shared, rollout, mass, error;
};
SW_MUST_CHECK enum sw_status sw_figures_make(struct sw_figures *f, const struct sw_shape *shape);
void sw_figures_free(struct sw_figures *f);
SW_MUST_CHECK enum sw_status sw_figures_report(struct sw_figures *f, struct sw_result *result);

/* Adds recovery, output error and densities of the cell's method on a capture: its first n tokens
 * are the prompt, the next m are decoded. Lists and outputs that the config saves go to writer
 * (NULL: not this time); gates that do not hold become warnings of the result. */
SW_MUST_CHECK enum sw_status sw_probe(const struct sw_cell *cell, struct sw_backend *be,
                                      struct sw_capture *capture, int n, int m,
                                      struct sw_cell_writer *writer, struct sw_figures *figures,
                                      struct sw_result *result);
/* Time of the method's selection and attention on a capture: a tensors or synthetic workload's
 * latency. */
SW_MUST_CHECK enum sw_status sw_probe_time(const struct sw_cell *cell, struct sw_backend *be,
                                           struct sw_capture *capture, int n, int m,
                                           struct sw_result *result);

/* Perplexity or accuracy, and the time of whole passes and decode steps, of the cell's method in a
 * model. */
struct sw_task_input {
    struct sw_model *model;
    const struct sw_dataset *dataset;
    const struct sw_vocab *vocab; /* NULL: answers are not scored, only timed */
    int n_samples;                /* of the dataset's, at most */
};
SW_MUST_CHECK enum sw_status sw_task_run(const struct sw_cell *cell, struct sw_backend *be,
                                         const struct sw_task_input *input,
                                         struct sw_result *result);

#endif
