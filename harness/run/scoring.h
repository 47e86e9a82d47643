/* scoring.h: what a task's samples come to: perplexity of windows, or the score of answers. */
#ifndef SW_SCORING_H
#define SW_SCORING_H

#include "core/model/vocab.h"
#include "harness/inputs/dataset.h"
#include "harness/store/result.h"

/* Perplexity of n windows from their mean losses; `seed` is of the interval's bootstrap. */
SW_MUST_CHECK enum sw_status sw_score_windows(const double *loss, int n, uint64_t seed,
                                              struct sw_result *result);

/* Accuracy of the answers to the dataset's first n prompts: ids[s * max_new_tokens …], n_ids[s] of
 * them. Each answer is kept in the result as text, with its score. */
SW_MUST_CHECK enum sw_status sw_score_answers(const struct sw_dataset *dataset,
                                              const struct sw_vocab *vocab, const int32_t *ids,
                                              const int *n_ids, int n, uint64_t seed,
                                              struct sw_result *result);

#endif
