/* config.h: a config file (YAML) read into a struct, through the option tables of options.c.
 *
 * One table a section drives the file reader, --set, `help` and validation. A bad file gives one
 * line per problem: file, line, key, what was found, what was expected, and the nearest valid name;
 * nothing else happens. */
#ifndef SW_CONFIG_H
#define SW_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/method.h"
#include "core/model/shape.h"
#include "core/param.h"
#include "core/texts.h"

enum sw_workload_kind { SW_WORKLOAD_TASK, SW_WORKLOAD_TENSORS, SW_WORKLOAD_SYNTHETIC };
enum sw_phase { SW_PHASE_PREFILL, SW_PHASE_DECODE, SW_PHASE_BOTH };
enum sw_generator { SW_GENERATOR_PLANTED, SW_GENERATOR_GAUSSIAN };
enum sw_measure {
    SW_MEASURE_ACCURACY = 1,
    SW_MEASURE_RECOVERY = 2,
    SW_MEASURE_OUTPUT_ERROR = 4,
    SW_MEASURE_LATENCY = 8
};
enum sw_save { SW_SAVE_SELECTION = 1, SW_SAVE_OUTPUT = 2 };

/* Which dense cell speed-ups are over: the fastest of the same conditions, or that of one kernel
 * (dense's parameter `kernel`). How results are read: it decides no figure of a cell. */
enum sw_baseline {
    SW_BASELINE_FASTEST,
    SW_BASELINE_BEST,
    SW_BASELINE_LIBRARY,
    SW_BASELINE_OWN,
    SW_BASELINES
};

/* Names in the order of the enums above; NULL-terminated. */
extern const char *const sw_workload_kind_names[],
    *const sw_phase_names[], *const sw_generator_names[], *const sw_measure_names[],
                                                              *const sw_save_names[],
                                                                  *const sw_budget_mode_names[],
                                                                      *const sw_baseline_names[];

struct sw_workload {
    enum sw_workload_kind kind;
    int line;      /* in the config file, for messages */
    int *contexts; /* instead of axes.context; NULL: as the axes say */
    int n_contexts;
    double *densities; /* instead of axes.density */
    int n_densities;
    enum sw_phase *phases; /* instead of axes.phase */
    int n_phases;
    int dense_layers; /* instead of the config's; -1: as that says */
    /* task */
    char *model; /* name under datasets/models, or a folder */
    struct sw_texts tasks;
    int samples; /* prompts or text windows a cell (default 8) */
    /* of these, how many are probed for recovery and output error (default 1) */
    int recovery_samples;
    char *data; /* folder of prepared datasets; NULL: datasets/prepared */
    /* tensors */
    char *path;
    /* synthetic */
    const struct sw_named_shape *shape;
    int generator;     /* enum sw_generator */
    int layers;        /* generated layers; 0: min(4, the shape's) */
    int decode_tokens; /* generated after the context for decode phases (default 16) */
    /* a random-weight model of this shape instead of its attention alone: time and memory, not
     * quality */
    bool whole_model;
};

/* model folder's name | bundle's file name | shape */
const char *sw_workload_model(const struct sw_workload *workload);

/* A method of the config: every parameter with the list of values it takes (one, unless the config
 * gives a list). */
struct sw_method_config {
    const struct sw_method *method;
    int line;
    /* one per row of method->params; count >= 1; texts that sw_param_set accepted */
    struct sw_texts *values;
};

struct sw_timing {
    double warmup_ms;    /* default 25 */
    int min_runs;        /* default 3 */
    double max_seconds;  /* default 15, per timed figure */
    double target_error; /* relative standard error of the median at which to stop: 0.005 */
};

struct sw_config {
    char *file; /* as given on the command line */
    char *text; /* the file's text, then one "# --set key=value" line per override: stored as
                   provenance */
    int version;
    char *name;
    uint64_t seed;
    char *backend; /* auto | cpu | cuda */
    int threads;   /* 0: all cores */
    char *output;  /* result folder; NULL: results/<name> */
    struct sw_workload *workloads;
    int n_workloads;
    int *contexts; /* axes.context; may be empty when only tensors are used */
    int n_contexts;
    double *densities; /* axes.density */
    int n_densities;
    enum sw_phase *phases;
    int n_phases;
    struct sw_method_config *methods;
    int n_methods;
    enum sw_budget_mode budget;
    char *calibration; /* file of thresholds for calibrated budgets; NULL: none */
    bool calibrating;  /* not a key: thresholds are being looked for */
    int dense_layers;
    unsigned measure; /* of enum sw_measure; default all */
    unsigned save;    /* of enum sw_save; default none */
    bool strict;      /* sanity checks that fail make the run fail */
    struct sw_timing timing;
    enum sw_baseline baseline;
};

/* Reads FILE with overrides ("axes.density=[0.2]", "methods.2.params.block_size=32", "seed=3").
 * SW_EINPUT: every problem found was written to `messages`, one line each. */
SW_MUST_CHECK enum sw_status sw_config_read(const char *file, const char *const *sets, int n_sets,
                                            FILE *messages, struct sw_config **out);
void sw_config_free(struct sw_config *config);

#endif
