/* figures.h: the metrics that recover.c counts on a capture (densities, recovery, output error),
 * pooled over the captures that are added.
 *
 * To add one, two places: its row in sw_metric_table (harness/store/result.c), which says how it is
 * pooled; and in recover.c the line that adds to it by name. */
#ifndef SW_FIGURES_H
#define SW_FIGURES_H

#include "core/model/shape.h"
#include "core/selection.h"
#include "harness/run/tally.h"

struct sw_figures {
    int layers, heads, kv_heads;
    /* one a row of sw_metric_table; empty where the metric is not pooled, or nothing was added */
    struct sw_tally *tallies;
    /* keys that the KV groups of all layers read, summed over decode steps */
    double decode_keys;
    int64_t decode_steps;
};
SW_MUST_CHECK enum sw_status sw_figures_make(struct sw_figures *f, const struct sw_shape *shape);
void sw_figures_free(struct sw_figures *f); /* fine on a zeroed one */

/* Adds `count` values that sum up to `sum`: to a layer, or to a layer's head as well. SW_EINTERNAL:
 * the metric is not one that is pooled so. */
SW_MUST_CHECK enum sw_status sw_figures_add(struct sw_figures *f, const char *metric, int layer,
                                            double sum, double count);
SW_MUST_CHECK enum sw_status sw_figures_add_head(struct sw_figures *f, const char *metric,
                                                 int layer, int head, double sum, double count);

/* What a layer's list keeps: densities of pairs and of fetched blocks. s: on the host. */
SW_MUST_CHECK enum sw_status sw_figures_add_densities(struct sw_figures *f, int layer,
                                                      const struct sw_selection *s);

/* Every metric that something was added to, and those that follow from the density: of all layers,
 * and its spread over heads. Where no layer is sparse, all of them keep everything. On failure
 * none of them is in the result. */
SW_MUST_CHECK enum sw_status sw_figures_report(struct sw_figures *f, struct sw_result *result);

#endif
