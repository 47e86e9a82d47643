/* runner.h: runs one cell and writes its file. What is expensive and shared by neighbouring cells
 * (model, dataset, captures with their dense truth) is kept between them. */
#ifndef SW_RUNNER_H
#define SW_RUNNER_H

#include "harness/config/cell.h"
#include "harness/store/result.h"

struct sw_runner;
/* folder: of the results; "" where nothing is written (sw_runner_density). */
SW_MUST_CHECK enum sw_status sw_runner_new(struct sw_backend *be, const char *folder,
                                           struct sw_runner **out);
void sw_runner_free(struct sw_runner *runner); /* NULL is fine */

/* Reads what the cell would read (weights' names and shapes, token table, dataset, every value of a
 * bundle) and keeps nothing but the dataset: bad input is found before anything is run or written.
 * SW_EINPUT. */
SW_MUST_CHECK enum sw_status sw_runner_check(struct sw_runner *runner, const struct sw_cell *cell);

/* Runs the cell and commits its file. Recovery beside accuracy or time that fails for want of
 * memory or of a kernel is a warning of the result. A failure that is the cell's own (memory, a gap
 * in a kernel) is recorded in its file and returned through result->status; SW_OK then. Other
 * failures (bad input, lost device, full disk, interrupt) leave no file and are returned. */
SW_MUST_CHECK enum sw_status sw_runner_cell(struct sw_runner *runner, const struct sw_cell *cell,
                                            struct sw_result *result);

/* The density that the cell's method keeps of one prompt: number `prompt` of the dataset, the
 * bundle, or the tensors of seed + prompt. The mean over sparse layers and heads; nothing is
 * written. SW_EINPUT when the dataset has no such prompt. */
SW_MUST_CHECK enum sw_status sw_runner_density(struct sw_runner *runner, const struct sw_cell *cell,
                                               int prompt, double *density);

/* The true block mass of one such prompt's layer, in host memory until the next call: [H, b, b]. */
SW_MUST_CHECK enum sw_status sw_runner_mass(struct sw_runner *runner, const struct sw_cell *cell,
                                            int prompt, int layer, const float **mass, int *n);

/* The model's mean loss (nats a token) over the first `prompts` windows under the cell's method.
 * SW_EINPUT where the cell is no task that scores text. */
SW_MUST_CHECK enum sw_status sw_runner_loss(struct sw_runner *runner, const struct sw_cell *cell,
                                            int prompts, double *loss);

#endif
