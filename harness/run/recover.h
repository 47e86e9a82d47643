/* recover.h: what a method keeps of dense attention, on a capture. */
#ifndef SW_RECOVER_H
#define SW_RECOVER_H

#include "harness/config/cell.h"
#include "harness/run/capture.h"
#include "harness/run/figures.h"
#include "harness/store/store.h"

/* Adds to `figures` what the cell's method keeps: densities, and what the config measures of
 * recovery and output error. The first n tokens of the capture are the prompt, the next m are
 * decoded. Lists and outputs that the config saves go to writer (NULL: not this time). A sanity
 * gate that does not hold becomes a warning of the result. */
SW_MUST_CHECK enum sw_status sw_recover(const struct sw_cell *cell, struct sw_backend *be,
                                        struct sw_capture *capture, int n, int m,
                                        struct sw_cell_writer *writer, struct sw_figures *figures,
                                        struct sw_result *result);

#endif
