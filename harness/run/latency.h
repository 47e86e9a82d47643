/* latency.h: the time of a cell's attention on a capture. */
#ifndef SW_LATENCY_H
#define SW_LATENCY_H

#include "harness/config/cell.h"
#include "harness/run/capture.h"
#include "harness/run/figures.h"

/* Times selection and attention of all layers over a prompt of n tokens and over m decode steps, as
 * the phase says, and reports them with the rates that the kept work makes of them (`counted`: what
 * sw_recover counted on the same tokens). */
SW_MUST_CHECK enum sw_status sw_latency(const struct sw_cell *cell, struct sw_backend *be,
                                        struct sw_capture *capture, int n, int m,
                                        const struct sw_figures *counted, struct sw_result *result);

#endif
