/* cell.h: a cell, the unit of a sweep: one method with its parameters on one input. */
#ifndef SW_CELL_H
#define SW_CELL_H

#include "harness/config/config.h"

struct sw_input; /* harness/inputs/inputs.h */

enum sw_cell_state {
    SW_CELL_TODO,
    SW_CELL_CACHED,  /* its file is in the result folder */
    SW_CELL_SKIPPED, /* cannot be run here, because … */
};

enum { SW_HASH_SIZE = 33 }; /* 32 hex digits and the final 0 */

struct sw_cell {
    const struct sw_config *config;
    const struct sw_workload *workload;
    const char *task;              /* of workload->tasks; NULL unless kind is task */
    const struct sw_input *input;  /* the plan's; one for all cells that share it */
    struct sw_shape shape;         /* of the input */
    char input_hash[SW_HASH_SIZE]; /* over the input's content */
    const struct sw_method *method;
    void *params;      /* method->params_size bytes, filled through its table */
    char *params_json; /* sw_param_json of them */
    /* parameters that name a file: name and hash of the content, in turn */
    struct sw_texts param_files;
    int context;    /* tokens; the bundle's n for tensors */
    double density; /* asked for; 1 for dense; NaN where the method's own rule decides it */
    enum sw_phase phase;
    uint64_t seed;
    enum sw_budget_mode budget; /* the config's, or what this method has instead */
    int dense_layers;           /* the first layers, dense for every method */

    /* identity.h says what these are */
    char *identity;
    char key[SW_HASH_SIZE], experiment[SW_HASH_SIZE], conditions[SW_HASH_SIZE];

    enum sw_cell_state state;
    char *reason;                 /* of SKIPPED */
    double memory_bytes, seconds; /* estimates */
};

/* Names for the tidy table. */
const char *sw_cell_workload(const struct sw_cell *cell); /* task | tensors | synthetic */
/* model folder's name | bundle's file name | shape */
const char *sw_cell_model(const struct sw_cell *cell);
const char *sw_cell_task(const struct sw_cell *cell); /* task | "" | generator */

/* Of a task's samples, those on whose dense run recovery is measured: none unless recovery or
 * output error is, or lists or outputs are saved, which are the first one's. */
int sw_cell_recovery_samples(const struct sw_cell *cell);

void sw_cell_clear(struct sw_cell *cell);

#endif
