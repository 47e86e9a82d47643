/* plan.h: the cells of a config, in the order in which they run. */
#ifndef SW_PLAN_H
#define SW_PLAN_H

#include "core/backend.h"
#include "harness/config/cell.h"
#include "harness/inputs/inputs.h"

struct sw_plan {
    struct sw_cell *cells;
    int count;
    /* the inputs of the cells, each described once */
    struct sw_input **inputs;
    int n_inputs;
};

/* Expands the config: workloads × tasks × contexts × methods × their parameter lists × densities ×
 * phases. A method that ignores an axis is there once. Order: workload, task, context, then
 * methods, so that a model and its dense truth are made once. Inputs are opened and hashed (missing
 * ones: SW_EINPUT with the config's line). Cells already in `output` are CACHED. */
SW_MUST_CHECK enum sw_status sw_plan_make(const struct sw_config *config,
                                          const struct sw_backend *backend, const char *output,
                                          struct sw_plan **out);
void sw_plan_free(struct sw_plan *plan);

#endif
