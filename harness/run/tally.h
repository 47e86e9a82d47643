/* tally.h: per-layer and per-head sums of one metric, pooled over prompts and decode steps. */
#ifndef SW_TALLY_H
#define SW_TALLY_H

#include <stdbool.h>

#include "harness/store/result.h"

/* Means are NaN where nothing was added. */
struct sw_tally {
    int layers, heads;
    bool of_heads;                 /* a layer's mean is that of its heads' means */
    double *sum, *count;           /* [layers] */
    double *head_sum, *head_count; /* [layers * heads] or NULL */
};
/* heads 0: per layer only */
SW_MUST_CHECK enum sw_status sw_tally_make(struct sw_tally *t, int layers, int heads);
void sw_tally_free(struct sw_tally *t);
void sw_tally_add(struct sw_tally *t, int layer, double sum, double count);
void sw_tally_add_head(struct sw_tally *t, int layer, int head, double sum, double count);
bool sw_tally_any(const struct sw_tally *t); /* something was added to a layer */
/* Standard deviation of the heads' means over layers and heads that have any; 0 for one. */
double sw_tally_spread(const struct sw_tally *t);
/* The metric's value is the mean over layers that have any; per-layer and per-head means go with
 * it. */
SW_MUST_CHECK enum sw_status sw_tally_report(const struct sw_tally *t, struct sw_result *result,
                                             const char *metric);

#endif
