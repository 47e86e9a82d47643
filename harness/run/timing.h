/* timing.h: samples of time, and the rule by which there are enough of them. */
#ifndef SW_TIMING_H
#define SW_TIMING_H

#include <stdbool.h>
#include <stdint.h>

#include "core/sparse.h"
#include "harness/config/config.h"
#include "harness/store/result.h"

double sw_seconds(void); /* steady clock */

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

#endif
