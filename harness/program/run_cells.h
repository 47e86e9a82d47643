/* run_cells.h: what the files of `swbench run` share. verb_run.c plans and ends a run, run_cells.c
 * runs the cells in between, each by the process that claims it. */
#ifndef SW_RUN_CELLS_H
#define SW_RUN_CELLS_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#include "harness/judge/label.h"
#include "harness/plan/plan.h"
#include "harness/run/ranks.h"
#include "harness/run/runner.h"

/* A cell to run, and its file as the plan found it: none (inode 0), failed, damaged, or good where
 * everything is run again. */
struct sw_todo {
    const struct sw_cell *cell;
    int input;            /* which one */
    double input_seconds; /* the estimate of the dearest cell of its input */
    ino_t inode;
    struct timespec changed;
    bool over;
};

struct sw_run {
    struct sw_ranks ranks;
    const struct sw_config *config;
    struct sw_backend *backend;
    struct sw_plan *plan;
    struct sw_label *labels; /* of the plan's cells */
    struct sw_runner *runner;
    struct sw_todo *todo;
    int n_todo;
    char folder[PATH_MAX]; /* cells/ */
    bool quiet, strict, fresh;
    int limit; /* cells to run at most; -1: all */
    /* elsewhere: another process did it meanwhile */
    int done, failed, skipped, warnings, elsewhere;
    bool elsewhere_failed;
    double begin;          /* seconds */
    double planned, spent; /* estimated seconds of the cells to run, and of those that are over */
};

/* In front of what one of several ranks has to say; "" where there is only one, or for the first,
 * which speaks for all. */
const char *sw_run_speaker(const struct sw_run *r);

/* Lists the plan's cells that are to be run, with their files as they are. SW_EINPUT: something is
 * in the place of one that it could not replace. */
SW_MUST_CHECK enum sw_status sw_run_list(struct sw_run *r);

/* Gives the cells that are there the config's baseline, records planned skips, and runs what is
 * listed, with progress on stderr. */
SW_MUST_CHECK enum sw_status sw_run_cells(struct sw_run *r);

#endif
