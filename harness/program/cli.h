/* cli.h: the command line of a verb, by its table of flags (verbs.c). */
#ifndef SW_CLI_H
#define SW_CLI_H

#include <stdbool.h>

#include "core/status.h"
#include "harness/config/config.h"
#include "harness/program/verbs.h"

enum { SW_CLI_MAX = 256 }; /* arguments of one call */

struct sw_cli {
    const char *positional[SW_CLI_MAX];
    int n_positional;
    /* in their order */
    struct {
        const struct sw_flag *flag;
        const char *value;
    } given[SW_CLI_MAX];
    int n_given;
};

/* The row of sw_verbs, or NULL. */
const struct sw_verb *sw_verb_find(const char *name);

/* Takes argv (argv[0] the verb) apart: "--flag VALUE", "--flag=VALUE", switches, positionals
 * between `least` and `most`; "--" ends the flags. SW_EINPUT: one line, with the nearest flag.
 * "--help" is left to main. */
SW_MUST_CHECK enum sw_status sw_cli_parse(int argc, char **argv, int least, int most,
                                          struct sw_cli *out);

bool sw_cli_has(const struct sw_cli *cli, const char *flag);
/* the last one given; NULL when absent */
const char *sw_cli_value(const struct sw_cli *cli, const char *flag);
/* all of them; returns how many */
int sw_cli_values(const struct sw_cli *cli, const char *flag, const char *values[SW_CLI_MAX]);
/* An integer value in low…high; `otherwise` when absent. SW_EINPUT. */
SW_MUST_CHECK enum sw_status sw_cli_int(const struct sw_cli *cli, const char *flag, int low,
                                        int high, int otherwise, int *out);

/* Reads the config that the first positional names, with --set, then --backend and --output;
 * config->output is never NULL afterwards. The problems of the file are on stderr when SW_EINPUT
 * comes back, and the message is cleared. */
SW_MUST_CHECK enum sw_status sw_cli_config(const struct sw_cli *cli, struct sw_config **out);

/* The same with one more --set at the end, a verb's own. */
SW_MUST_CHECK enum sw_status sw_cli_config_set(const struct sw_cli *cli, const char *set,
                                               struct sw_config **out);

/* Ends a verb: prints the message of a failure, if there is one, as "swbench: …" on stderr, and
 * gives the exit code. SW_OK: 0. */
int sw_cli_exit(enum sw_status status);

/* Flushes stdout; a failed write (full disk, closed pipe) is one line on stderr and exit code 2.
 * Otherwise `code`. */
int sw_cli_flush(int code);

#endif
