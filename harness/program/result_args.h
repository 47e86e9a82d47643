/* result_args.h: the command line of the verbs that read results: RESULTS [--format F] [--metric
 * NAME …]. */
#ifndef SW_RESULT_ARGS_H
#define SW_RESULT_ARGS_H

#include "core/status.h"
#include "harness/program/cli.h"

struct sw_result_args {
    const char *results, *format;
    const char *metrics[2 * SW_CLI_MAX]; /* names that exist */
    int n_metrics;
};

/* formats: the valid ones, the first being the default; ends with NULL. SW_EINPUT: one line, with
 * the nearest metric's name. */
SW_MUST_CHECK enum sw_status sw_result_args_parse(int argc, char **argv, const char *const *formats,
                                                  struct sw_result_args *out);

#endif
