/* show_cells.h: which cells of a result `show` is asked for, put side by side. */
#ifndef SW_SHOW_CELLS_H
#define SW_SHOW_CELLS_H

#include "harness/program/cli.h"
#include "harness/store/store.h"

struct sw_show_cell {
    const struct sw_tidy_row *row; /* of its accuracy or nll, over all layers */
    /* method, the parameters that tell it from others here, density */
    char *label;
};

/* Cells of the same model, task, context, phase and seed lie together, dense first. */
struct sw_show_cells {
    struct sw_tidy *tidy;
    struct sw_show_cell *items;
    int count;
};

/* Those of `results` that --task, --context, --phase, --density and --method leave (dense whatever
 * the density); with --method in that order. SW_EINPUT, one line: nothing is left, and what there
 * would be. sw_show_cells_free also after a failure. */
SW_MUST_CHECK enum sw_status sw_show_cells_read(const char *results, const struct sw_cli *cli,
                                                struct sw_show_cells *out);
void sw_show_cells_free(struct sw_show_cells *cells);

/* How many cells from `from` on are of one place. */
int sw_show_same_place(const struct sw_show_cells *cells, int from);

#endif
