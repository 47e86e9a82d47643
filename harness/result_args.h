/* result_args.h: the command line of the verbs that read results: RESULTS [--format F] [--metric NAME …]. */
#ifndef SW_RESULT_ARGS_H
#define SW_RESULT_ARGS_H

#include <stdbool.h>

struct result_args {
    const char *results, *format;
    const char **metrics; /* malloc'd array; names are checked */
    int n_metrics;
};

/* formats: the valid ones, the first being the default; ends with NULL. A bad line is said on stderr in one line: false. */
bool sw_result_args(int argc, char **argv, const char *const *formats, bool with_metrics, struct result_args *out);

/* Ends output to stdout: exit code, SW_EXIT_USAGE with a message when it could not all be written. */
int sw_flush_output(void);

#endif
