/* verbs.h: one function a verb; each returns the exit code of contract: 0 done, 1 regression, 2 bad
 * usage, config or input, 3 some cells failed, 4 inconclusive, 130 interrupted. */
#ifndef SW_VERBS_H
#define SW_VERBS_H

enum sw_exit {
    SW_EXIT_OK = 0,
    SW_EXIT_REGRESSION = 1,
    SW_EXIT_USAGE = 2,
    SW_EXIT_FAILED_CELLS = 3,
    SW_EXIT_INCONCLUSIVE = 4,
    SW_EXIT_INTERRUPTED = 130
};

struct sw_exit_info {
    int code;
    const char *meaning;
};
extern const struct sw_exit_info sw_exit_table[]; /* ends with meaning == NULL */

struct sw_verb {
    const char *name, *usage, *summary;
    const struct sw_flag *flags;       /* its command-line flags; ends with name NULL */
    int (*run)(int argc, char **argv); /* argv[0] is the verb */
};
struct sw_flag {
    const char *name, *value, *help;
}; /* value NULL: a switch */
extern const struct sw_verb sw_verbs[]; /* ends with name == NULL */

int sw_verb_run(int argc, char **argv);
int sw_verb_plan(int argc, char **argv);
int sw_verb_ls(int argc, char **argv);
int sw_verb_validate(int argc, char **argv);
int sw_verb_export(int argc, char **argv);
int sw_verb_report(int argc, char **argv);
int sw_verb_show(int argc, char **argv);
int sw_verb_calibrate(int argc, char **argv);
int sw_verb_compare(int argc, char **argv);
int sw_verb_merge(int argc, char **argv);
int sw_verb_help(int argc, char **argv);

#endif
