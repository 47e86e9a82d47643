/* calibration.h: thresholds that bring a method's own rule to a density (budget: calibrated), found
 * by `swbench calibrate` on held-out prompts and kept in a small JSON file that a config names. */
#ifndef SW_CALIBRATION_H
#define SW_CALIBRATION_H

#include "harness/config/cell.h"

struct sw_calibration;

/* Reads FILE. SW_EINPUT: "FILE: what was found, what was expected". */
SW_MUST_CHECK enum sw_status sw_calibration_read(const char *path, struct sw_calibration **out);
void sw_calibration_free(struct sw_calibration *calibration); /* NULL is fine */

/* The threshold for this cell's model, task, context, dense layers, method, other parameters and
 * density. False when there is none. */
bool sw_calibration_find(const struct sw_calibration *calibration, const struct sw_cell *cell,
                         double *value);

/* What was found for a cell. */
struct sw_calibrated {
    const struct sw_cell *cell;
    /* the threshold, and the mean density over layers, heads and prompts that it gave */
    double value, achieved;
    int prompts;
};

/* SW_EINPUT when FILE could not be written, said before hours are spent on what goes into it.
 * Leaves what is there alone. */
SW_MUST_CHECK enum sw_status sw_calibration_writable(const char *path);

/* Writes FILE whole or not at all, in place of what was there. held_out: the prompts are not those
 * of the config. */
SW_MUST_CHECK enum sw_status sw_calibration_write(const char *path,
                                                  const struct sw_calibrated *found, int n,
                                                  bool held_out);

#endif
