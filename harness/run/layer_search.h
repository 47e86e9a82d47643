/* layer_search.h: which layers should select for those after them, found on held-out prompts: the
 * searches of Kascade (arXiv 2512.16391; microsoft/kascade @ 76aea84, src/runners/stats_runner.py)
 * and of IndexCache (arXiv 2603.12201). */
#ifndef SW_LAYER_SEARCH_RUN_H
#define SW_LAYER_SEARCH_RUN_H

#include "harness/run/runner.h"

struct sw_layers_found {
    char *layers, *sources; /* as parameters have them; sources NULL where they are not wanted */
    double score;           /* share of mass kept, mean over layers; or the loss */
};
void sw_layers_found_clear(struct sw_layers_found *found);

/* The cell's layers that select, for its density and its first `prompts` prompts. Its parameter for
 * them is unset before and after.
 *   SW_SEARCH_MASS: a dynamic program over segments, each of which begins with a layer that
 * selects. How well layer a serves layer l: of each query block's mass in l, what a's list keeps of
 * what l's own would keep, the least over query blocks, the best over a's lists, the mean over l's.
 *   (Kascade counts single tokens, and weighs a layer by how much its attention changes the
 *   residual stream; here these are blocks at the cell's density, all layers alike.)
 *   SW_SEARCH_LOSS: from all layers, again and again the one without which the loss is least. */
SW_MUST_CHECK enum sw_status sw_layer_search(struct sw_runner *runner, struct sw_cell *cell,
                                             const struct sw_layer_search *search, int prompts,
                                             struct sw_layers_found *found);

/* The dynamic program alone: serves [L, L], of which serves[a, l], first <= a <= l < L, are used;
 * `count` layers, `first` among them, into chosen, ascending. Returns the mean of what each layer
 * from `first` on is served. */
double sw_layer_search_segments(const double *serves, int L, int first, int count, int *chosen);

#endif
