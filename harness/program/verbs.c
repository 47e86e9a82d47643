/* The verbs and their flags: parsed by cli.c, printed by verb_help.c. */
#include "harness/program/verbs.h"

#include <stddef.h>

#define CONFIG_FLAGS                                                                             \
    {"--set", "KEY=VALUE",                                                                       \
     "override a key of the config, e.g. axes.density=[0.2] or methods.1.params.block_size=32; " \
     "repeatable"},                                                                              \
        {"--output", "DIR", "result folder"}, {"--backend", "cpu|cuda|auto", "where to run"}

static const struct sw_flag none[] = {{NULL, NULL, NULL}};

static const struct sw_flag run_flags[] = {
    CONFIG_FLAGS,
    {"--limit", "N", "stop after N cells"},
    {"--fresh", NULL, "run cells again that are done already"},
    {"--strict", NULL, "a sanity check that fails makes the run fail"},
    {"-q", NULL, "no progress"},
    {NULL, NULL, NULL},
};

static const struct sw_flag plan_flags[] = {CONFIG_FLAGS, {NULL, NULL, NULL}};

static const struct sw_flag calibrate_flags[] = {
    CONFIG_FLAGS,
    {"--prompts", "N", "held-out prompts or windows (default 2)"},
    {"-q", NULL, "no progress"},
    {NULL, NULL, NULL},
};

static const struct sw_flag export_flags[] = {
    {"--format", "csv|jsonl", "default csv"},
    {"--metric", "METRIC", "only this metric; repeatable"},
    {NULL, NULL, NULL},
};

static const struct sw_flag report_flags[] = {
    {"--format", "md|latex", "default md"},
    {NULL, NULL, NULL},
};

static const struct sw_flag show_flags[] = {
    {"--sample", "N",
     "one sample: its prompt's end, what was expected, and the answers of dense and one more "
     "method (or of --method)"},
    {"--task", "T", "only this task"},
    {"--context", "N", "only this context"},
    {"--phase", "prefill|decode|both", "only this phase"},
    {"--density", "D", "only this density, and dense"},
    {"--method", "NAME", "only this method; repeatable"},
    {NULL, NULL, NULL},
};

static const struct sw_flag compare_flags[] = {
    {"--accuracy-drop", "PP",
     "worse beyond: percentage points of accuracy, percent of perplexity (default 1)"},
    {"--slowdown", "RATIO", "worse beyond: time relative to dense of the same run (default 1.10)"},
    {"--on-ambiguous", "pass|fail", "what neither holds nor falls: exit 0 or 4 (default pass)"},
    {"--absolute-time", NULL,
     "judge times themselves too, of runs on one machine at about one time"},
    {"--across-machines", NULL,
     "BASE is of another machine: wider tolerances for quality, times relative to dense only, no "
     "memory"},
    {"--format", "text|json|junit|md", "default text"},
    {"--all", NULL, "every figure, not only what changed"},
    {NULL, NULL, NULL},
};

static const struct sw_flag help_flags[] = {
    {"--format", "text|man|bash|zsh",
     "default text; everything as a manual page, or as a shell's completion"},
    {NULL, NULL, NULL},
};

const struct sw_exit_info sw_exit_table[] = {
    {SW_EXIT_OK, "done"},
    {SW_EXIT_REGRESSION, "regression found"},
    {SW_EXIT_USAGE, "bad usage, config or input"},
    {SW_EXIT_FAILED_CELLS, "some cells failed"},
    {SW_EXIT_INCONCLUSIVE, "inconclusive"},
    {SW_EXIT_INTERRUPTED, "interrupted"},
    {0, NULL},
};

const struct sw_verb sw_verbs[] = {
    {"run", "CONFIG [flags]", "run every cell of a config that is not done yet", run_flags,
     sw_verb_run},
    {"plan", "CONFIG [flags]",
     "list the cells that run would run: cached, skipped and why, estimates", plan_flags,
     sw_verb_plan},
    {"calibrate", "CONFIG [flags]",
     "find thresholds of calibrated budgets, and layers that select, on held-out prompts, into the "
     "file that the config's key calibration names",
     calibrate_flags, sw_verb_calibrate},
    {"ls", "methods|models|tasks|shapes|backends", "what this build can do here", none, sw_verb_ls},
    {"validate", "FILE…", "check configs, tensor bundles, datasets, model folders or results", none,
     sw_verb_validate},
    {"export", "RESULTS [flags]", "the tidy table on standard output", export_flags,
     sw_verb_export},
    {"report", "RESULTS [flags]", "tables of methods, tasks and contexts, with intervals",
     report_flags, sw_verb_report},
    {"show", "RESULTS [flags]",
     "scores of each sample by method, or one sample's answers side by side", show_flags,
     sw_verb_show},
    {"compare", "BASE NEW [flags]",
     "regression gate: same, better, worse or ambiguous, figure by figure", compare_flags,
     sw_verb_compare},
    {"merge", "OUT DIR…",
     "join the results of several machines; exit 4 when they contradict each other", none,
     sw_verb_merge},
    {"help", "[TOPIC] [flags]", "verbs, config keys, methods and their parameters, metrics, scores",
     help_flags, sw_verb_help},
    {NULL, NULL, NULL, NULL, NULL},
};
