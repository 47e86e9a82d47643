/* The table of config keys: what parses, --set, help and the manual read. */
#include "harness/config/options.h"

#include <limits.h>
#include <string.h>

const char *const sw_workload_kind_names[] = {"task", "tensors", "synthetic", NULL};
const char *const sw_phase_names[] = {"prefill", "decode", "both", NULL};
const char *const sw_generator_names[] = {"planted", "gaussian", NULL};
const char *const sw_measure_names[] = {"accuracy", "recovery", "output_error", "latency", NULL};
const char *const sw_save_names[] = {"selection", "output", NULL};
const char *const sw_budget_mode_names[] = {"matched", "calibrated", "native", NULL};
const char *const sw_baseline_names[] = {"fastest", "best", "library", "own", NULL};

/* --- the tables ------------------------------------------------------------------------------- */

#define AT(field) .offset = offsetof(struct sw_config, field)
#define WL(field) .offset = offsetof(struct sw_workload, field)

static const struct sw_option axes_options[] = {
    {.param = {.name = "context",
               .type = SW_PARAM_INT,
               AT(contexts),
               .min = 1,
               .max = 1 << 24,
               .help = "tokens of the prompt or window; tensors workloads have their own"},
     .form = SW_OPTION_AXIS,
     .count_offset = offsetof(struct sw_config, n_contexts)},
    {.param = {.name = "density",
               .type = SW_PARAM_REAL,
               AT(densities),
               .min = 0,
               .min_open = true,
               .max = 1,
               .help = "share of the causal query-key pairs that a method may keep"},
     .form = SW_OPTION_AXIS,
     .count_offset = offsetof(struct sw_config, n_densities)},
    {.param = {.name = "phase",
               .type = SW_PARAM_CHOICE,
               AT(phases),
               .choices = "prefill|decode|both",
               .initial = "prefill",
               .help =
                   "where attention is sparse: over the prompt, in the tokens after it, or both"},
     .form = SW_OPTION_AXIS,
     .count_offset = offsetof(struct sw_config, n_phases)},
    {.param = SW_PARAM_END},
};
const struct sw_section sw_axes_section = {
    "axes", "every list is an axis; the plan is their product", axes_options};

static const struct sw_option timing_options[] = {
    {.param = {.name = "warmup_ms",
               .type = SW_PARAM_REAL,
               AT(timing.warmup_ms),
               .initial = "25",
               .min = 0,
               .max = 60000,
               .help = "warm-up before a figure is timed"}},
    {.param = {.name = "min_runs",
               .type = SW_PARAM_INT,
               AT(timing.min_runs),
               .initial = "3",
               .min = 1,
               .max = 100000,
               .help = "timed repetitions, at least"}},
    {.param = {.name = "max_seconds",
               .type = SW_PARAM_REAL,
               AT(timing.max_seconds),
               .initial = "15",
               .min = 0,
               .min_open = true,
               .max = 86400,
               .help = "time for one figure, at most (after min_runs)"}},
    {.param = {.name = "target_error",
               .type = SW_PARAM_REAL,
               AT(timing.target_error),
               .initial = "0.005",
               .min = 0,
               .max = 1,
               .help = "relative standard error of the median at which to stop"}},
    {.param = SW_PARAM_END},
};
const struct sw_section sw_timing_section = {"timing", "when a timing is good enough",
                                             timing_options};

enum {
    TASK = 1 << SW_WORKLOAD_TASK,
    TENSORS = 1 << SW_WORKLOAD_TENSORS,
    SYNTHETIC = 1 << SW_WORKLOAD_SYNTHETIC
};

static const struct sw_option workload_options[] = {
    {.param = {.name = "kind",
               .type = SW_PARAM_CHOICE,
               WL(kind),
               .choices = "task|tensors|synthetic",
               .help = "a model does a task; captured Q, K, V; generated Q, K, V"},
     .required = true},
    {.param = {.name = "context",
               .type = SW_PARAM_INT,
               WL(contexts),
               .min = 1,
               .max = 1 << 24,
               .help = "this workload's own, instead of axes.context"},
     .form = SW_OPTION_AXIS,
     .count_offset = offsetof(struct sw_workload, n_contexts),
     .kinds = TASK | SYNTHETIC},
    {.param = {.name = "density",
               .type = SW_PARAM_REAL,
               WL(densities),
               .min = 0,
               .min_open = true,
               .max = 1,
               .help = "this workload's own, instead of axes.density"},
     .form = SW_OPTION_AXIS,
     .count_offset = offsetof(struct sw_workload, n_densities)},
    {.param = {.name = "phase",
               .type = SW_PARAM_CHOICE,
               WL(phases),
               .choices = "prefill|decode|both",
               .help = "this workload's own, instead of axes.phase"},
     .form = SW_OPTION_AXIS,
     .count_offset = offsetof(struct sw_workload, n_phases)},
    {.param = {.name = "dense_layers",
               .type = SW_PARAM_INT,
               WL(dense_layers),
               .initial = "-1",
               .min = -1,
               .max = 1000,
               .help = "this workload's own; -1: as the config says"}},
    {.param = {.name = "model",
               .type = SW_PARAM_TEXT,
               WL(model),
               .help = "folder under datasets/models, or a path to one"},
     .kinds = TASK,
     .required = true},
    {.param = {.name = "tasks",
               .type = SW_PARAM_TEXT,
               WL(tasks),
               .help = "what the model does (`swbench ls tasks`)"},
     .form = SW_OPTION_NAMES,
     .kinds = TASK,
     .required = true},
    {.param = {.name = "samples",
               .type = SW_PARAM_INT,
               WL(samples),
               .initial = "8",
               .min = 1,
               .max = 100000,
               .help = "prompts or text windows a cell"},
     .kinds = TASK},
    {.param = {.name = "recovery_samples",
               .type = SW_PARAM_INT,
               WL(recovery_samples),
               .initial = "1",
               .min = 0,
               .max = 100000,
               .help = "of these, how many are probed for recovery and output error"},
     .kinds = TASK},
    {.param = {.name = "data",
               .type = SW_PARAM_TEXT,
               WL(data),
               .initial = "",
               .help = "folder of prepared datasets (default datasets/prepared)"},
     .kinds = TASK},
    {.param = {.name = "path",
               .type = SW_PARAM_TEXT,
               WL(path),
               .help = "a tensor bundle (HDF5); always used whole"},
     .kinds = TENSORS,
     .required = true},
    {.param = {.name = "shape",
               .type = SW_PARAM_TEXT,
               WL(shape),
               .help = "a known model's shape (`swbench ls shapes`)"},
     .form = SW_OPTION_SHAPE,
     .kinds = SYNTHETIC,
     .required = true},
    {.param = {.name = "generator",
               .type = SW_PARAM_CHOICE,
               WL(generator),
               .choices = "planted|gaussian",
               .initial = "planted",
               .help = "what Q, K and V look like"},
     .kinds = SYNTHETIC},
    {.param = {.name = "layers",
               .type = SW_PARAM_INT,
               WL(layers),
               .initial = "0",
               .min = 0,
               .max = 1000,
               .help = "layers to generate; 0: four, or the shape's if fewer"},
     .kinds = SYNTHETIC},
    {.param = {.name = "decode_tokens",
               .type = SW_PARAM_INT,
               WL(decode_tokens),
               .initial = "16",
               .min = 1,
               .max = 65536,
               .help = "tokens generated after the context, for decode phases"},
     .kinds = SYNTHETIC},
    {.param = {.name = "whole_model",
               .type = SW_PARAM_BOOL,
               WL(whole_model),
               .initial = "false",
               .help = "a whole model of this shape with random weights: time to first token, time "
                       "per token, memory"},
     .kinds = SYNTHETIC},
    {.param = SW_PARAM_END},
};
const struct sw_section sw_workload_section = {"workloads", "what is attended to: a list of these",
                                               workload_options};

/* `name` and `params` fill no field by themselves: see bind_method.c. */
static const struct sw_option method_options[] = {
    {.param = {.name = "name", .help = "a method (`swbench ls methods`)"},
     .form = SW_OPTION_METHOD,
     .required = true},
    {.param = {.name = "params",
               .help = "its parameters (`swbench help METHOD`); a list of values is an axis"},
     .form = SW_OPTION_PARAMS},
    {.param = SW_PARAM_END},
};
const struct sw_section sw_method_section = {
    "methods", "what selects the key blocks: a list of these, or of plain names", method_options};

static const struct sw_option config_options[] = {
    {.param = {.name = "version",
               .type = SW_PARAM_INT,
               AT(version),
               .min = 1,
               .max = 1,
               .help = "of this format"},
     .required = true},
    {.param = {.name = "name",
               .type = SW_PARAM_TEXT,
               AT(name),
               .help = "of the experiment; a file name"},
     .required = true},
    {.param = {.name = "seed", AT(seed), .initial = "1", .help = "decides every random number"},
     .form = SW_OPTION_SEED},
    {.param = {.name = "backend",
               .type = SW_PARAM_TEXT,
               AT(backend),
               .choices = "auto|cpu|cuda",
               .initial = "auto",
               .help = "auto: cuda where there is a device, else cpu"}},
    {.param = {.name = "threads",
               .type = SW_PARAM_INT,
               AT(threads),
               .initial = "0",
               .min = 0,
               .max = 4096,
               .help = "CPU threads; 0: all cores"}},
    {.param = {.name = "output",
               .type = SW_PARAM_TEXT,
               AT(output),
               .initial = "",
               .help = "result folder (default results/NAME)"}},
    {.param = {.name = "workloads", .help = "what is attended to"},
     .form = SW_OPTION_WORKLOADS,
     .section = &sw_workload_section,
     .required = true},
    {.param = {.name = "axes", .help = "context, density, phase"},
     .form = SW_OPTION_SECTION,
     .section = &sw_axes_section},
    {.param = {.name = "methods", .help = "what selects"},
     .form = SW_OPTION_METHODS,
     .section = &sw_method_section,
     .required = true},
    {.param = {.name = "budget",
               .type = SW_PARAM_CHOICE,
               AT(budget),
               .choices = "matched|calibrated|native",
               .initial = "matched",
               .help =
                   "equal row budgets; own rule calibrated to the density; published defaults"}},
    {.param = {.name = "calibration",
               .type = SW_PARAM_TEXT,
               AT(calibration),
               .initial = "",
               .help = "file of thresholds, written by `swbench calibrate`, read where budget is "
                       "calibrated"}},
    {.param = {.name = "dense_layers",
               .type = SW_PARAM_INT,
               AT(dense_layers),
               .initial = "2",
               .min = 0,
               .max = 1000,
               .help = "the first layers stay dense, for every method alike"}},
    {.param = {.name = "measure",
               AT(measure),
               .choices = "accuracy|recovery|output_error|latency",
               .initial = "accuracy|recovery|output_error|latency",
               .help = "which groups of metrics"},
     .form = SW_OPTION_SET},
    {.param = {.name = "save",
               AT(save),
               .choices = "selection|output",
               .initial = "",
               .help = "also store the block lists, the attention outputs"},
     .form = SW_OPTION_SET},
    {.param = {.name = "strict",
               .type = SW_PARAM_BOOL,
               AT(strict),
               .initial = "false",
               .help = "a sanity check that fails makes the run fail"}},
    {.param = {.name = "timing", .help = "when a timing is good enough"},
     .form = SW_OPTION_SECTION,
     .section = &sw_timing_section},
    {.param = {.name = "baseline",
               .type = SW_PARAM_CHOICE,
               AT(baseline),
               .choices = "fastest|best|library|own",
               .initial = "fastest",
               .help = "which dense cell speed-ups are over: the fastest of the same conditions, "
                       "or the one with that kernel; cells are not run again for it"}},
    {.param = SW_PARAM_END},
};
const struct sw_section sw_config_section = {"config", "the top level of a config file",
                                             config_options};

const struct sw_section *const sw_sections[] = {&sw_config_section,   &sw_axes_section,
                                                &sw_workload_section, &sw_method_section,
                                                &sw_timing_section,   NULL};

/* --- look-ups --------------------------------------------------------------------------------- */

const struct sw_option *sw_option_find(const struct sw_section *section, const char *name)
{
    for (const struct sw_option *o = section->options; o->param.name; o++)
        if (strcmp(o->param.name, name) == 0)
            return o;
    return NULL;
}

const char *sw_option_expected(const struct sw_option *option, char *text, size_t size)
{
    char one[200];
    switch (option->form) {
    case SW_OPTION_VALUE:
        return sw_param_expected(&option->param, text, size);
    case SW_OPTION_SEED:
        snprintf(text, size, "an integer 0…%llu", (unsigned long long)INT64_MAX);
        break;
    case SW_OPTION_AXIS:
        snprintf(text, size, "%s, or a list of these",
                 sw_param_expected(&option->param, one, sizeof one));
        break;
    case SW_OPTION_NAMES:
        snprintf(text, size, "a name, or a list of names");
        break;
    case SW_OPTION_SET:
        snprintf(text, size, "a list of %s", option->param.choices);
        break;
    case SW_OPTION_SHAPE:
        snprintf(text, size, "the name of a shape");
        break;
    case SW_OPTION_SECTION:
        snprintf(text, size, "a mapping");
        break;
    case SW_OPTION_WORKLOADS:
        snprintf(text, size, "a list of workloads");
        break;
    case SW_OPTION_METHODS:
        snprintf(text, size, "a list of methods");
        break;
    case SW_OPTION_METHOD:
        snprintf(text, size, "the name of a method");
        break;
    case SW_OPTION_PARAMS:
        snprintf(text, size, "a mapping of parameters");
        break;
    }
    return text;
}

unsigned sw_option_all(const struct sw_option *option)
{
    unsigned all = 1;
    for (const char *p = option->param.choices; *p; p++)
        all = *p == '|' ? all << 1 | 1 : all;
    return all;
}

bool sw_is_file_name(const char *text)
{
    size_t n = strlen(text);
    if (n == 0 || n > 100 || text[0] == '.' || text[0] == '-')
        return false;
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127 || *p == '/')
            return false;
    return true;
}
