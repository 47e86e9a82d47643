/* calibration.h: thresholds that bring a method's own rule to a density, and layers that are to
 * select (budget: calibrated), found by `swbench calibrate` on held-out prompts and kept in a small
 * JSON file that a config names. */
#ifndef SW_CALIBRATION_H
#define SW_CALIBRATION_H

#include "harness/config/cell.h"

struct sw_calibration;

/* Reads FILE. SW_EINPUT: "FILE: what was found, what was expected". */
SW_MUST_CHECK enum sw_status sw_calibration_read(const char *path, struct sw_calibration **out);
void sw_calibration_free(struct sw_calibration *calibration); /* NULL is fine */

/* The parameter's value for this cell's model, task, context, dense layers, method, other
 * parameters and density, as text, the caller's to free. NULL when there is none. */
char *sw_calibration_find(const struct sw_calibration *calibration, const struct sw_cell *cell,
                          const char *parameter);

/* A parameter's value that was found for a cell: a number, or a text where that is not NULL. */
struct sw_calibrated {
    const struct sw_cell *cell;
    const char *parameter;
    double value;
    const char *text;
    /* what it gave, as the mean over prompts: of a threshold the density, itself a mean over layers
     * and heads; of layers what they were searched by, the share of mass kept or the loss */
    double achieved;
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
