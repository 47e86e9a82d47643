/* task.h: a cell's method in a model: perplexity or accuracy, and the time of whole passes and
 * decode steps. */
#ifndef SW_TASK_H
#define SW_TASK_H

#include "core/model/model.h"
#include "core/model/vocab.h"
#include "harness/config/cell.h"
#include "harness/inputs/dataset.h"
#include "harness/store/result.h"

struct sw_task_input {
    struct sw_model *model;
    const struct sw_dataset *dataset;
    const struct sw_vocab *vocab; /* NULL: answers are not scored, only timed */
    int n_samples;                /* of the dataset's, at most */
};
SW_MUST_CHECK enum sw_status sw_task_run(const struct sw_cell *cell, struct sw_backend *be,
                                         const struct sw_task_input *input,
                                         struct sw_result *result);

#endif
