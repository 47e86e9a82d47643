/* plan.h: the cells of a config, in the order in which they run. */
#ifndef SW_PLAN_H
#define SW_PLAN_H

#include "core/backend.h"
#include "harness/config/config.h"
#include "harness/inputs/inputs.h"

enum sw_cell_state {
    SW_CELL_TODO,
    SW_CELL_CACHED,  /* its file is in the result folder */
    SW_CELL_SKIPPED, /* cannot be run here, because … */
};

/* One experiment: everything that decides its outcome. */
struct sw_cell {
    const struct sw_config *config;
    const struct sw_workload *workload;
    const char *task;             /* of workload->tasks; NULL unless kind is task */
    const struct sw_input *input; /* what the workload's files say; the plan's */
    struct sw_shape shape;        /* of the input */
    const struct sw_method *method;
    void *params;      /* method->params_size bytes, filled through its table */
    char *params_json; /* {"block_size": 64, …}: every parameter, in table order; numbers and
                          booleans as JSON has them */
    int context;       /* tokens; the bundle's n for tensors */
    double density;    /* asked for; 1 for dense; NaN where a native budget decides */
    enum sw_phase phase;
    uint64_t seed;
    /* the config's; matched where that is calibrated and the method has no threshold */
    enum sw_budget_mode budget;
    int dense_layers; /* the first layers, dense for every method */
    char key[33];     /* 32 hex digits: hash of all that decides the outcome */
    /* the canonical text (JSON) that was hashed, kept in the cell for audit */
    char *identity;
    enum sw_cell_state state;
    char *reason;                 /* of SKIPPED */
    double memory_bytes, seconds; /* estimates */
};

struct sw_plan {
    struct sw_cell *cells;
    int count;
    /* the inputs of the cells, each described once */
    struct sw_input **inputs;
    int n_inputs;
};

/* Names for the tidy table. */
const char *sw_cell_workload(const struct sw_cell *cell); /* task | tensors | synthetic */
/* model folder's name | bundle's file name | shape */
const char *sw_cell_model(const struct sw_cell *cell);
const char *sw_cell_task(const struct sw_cell *cell); /* task | "" | generator */

/* Expands the config: workloads × tasks × contexts × methods × their parameter lists × densities ×
 * phases. A method that ignores an axis is there once. Order: workload, task, context, then
 * methods, so that a model and its dense truth are made once. Inputs are opened and hashed (missing
 * ones: SW_EINPUT with the config's line). Cells already in `output` are CACHED. */
SW_MUST_CHECK enum sw_status sw_plan_make(const struct sw_config *config,
                                          const struct sw_backend *backend, const char *output,
                                          struct sw_plan **out);
void sw_plan_free(struct sw_plan *plan);

#endif
