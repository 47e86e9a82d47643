/* estimate.h: what a cell will need, roughly and before it runs: for `swbench plan`, progress and
 * the sharing of cells among ranks. */
#ifndef SW_ESTIMATE_H
#define SW_ESTIMATE_H

#include "core/backend.h"
#include "harness/config/cell.h"

/* Sets memory_bytes and seconds. */
void sw_estimate(struct sw_cell *cell, const struct sw_backend *backend);

#endif
