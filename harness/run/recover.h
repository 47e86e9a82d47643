/* recover.h: what a method keeps of dense attention, on a capture. */
#ifndef SW_RECOVER_H
#define SW_RECOVER_H

#include "harness/config/cell.h"
#include "harness/run/capture.h"
#include "harness/run/figures.h"
#include "harness/store/store.h"

/* What is recovered: the first n tokens of the capture are the prompt, the next m are decoded.
 * hops [n_hops, 2]: tokens [first, last) of the statements that the prompt's answer follows from;
 * NULL where nobody says. */
struct sw_recovered {
    struct sw_capture *capture;
    int n, m;
    const int64_t *hops;
    int n_hops;
};

/* Adds to `figures` what the cell's method keeps: densities, and what the config measures of
 * recovery and output error. Lists and outputs that the config saves go to writer (NULL: not this
 * time). A sanity check that does not hold becomes a warning of the result. */
SW_MUST_CHECK enum sw_status sw_recover(const struct sw_cell *cell, struct sw_backend *be,
                                        const struct sw_recovered *of,
                                        struct sw_cell_writer *writer, struct sw_figures *figures,
                                        struct sw_result *result);

#endif
