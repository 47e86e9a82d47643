/* dataset.h: prepared datasets, loaded: token ids of prompts or text windows, and what answers should contain (datasets/README.md). */
#ifndef SW_DATASET_H
#define SW_DATASET_H

#include <stdint.h>

#include "core/status.h"
#include "harness/config.h"

enum sw_dataset_score { SW_SCORE_PPL, SW_SCORE_ALL, SW_SCORE_PART };

struct sw_dataset {
    enum sw_dataset_score score;
    int n_samples, context, vocab, max_new_tokens, scored_tokens;
    int32_t *ids;
    int64_t *offsets;           /* [n_samples + 1]: sample s is ids[offsets[s]] … */
    struct sw_texts references; /* of sample s: reference_offsets[s] … */
    int64_t *reference_offsets; /* [n_samples + 1]; NULL for ppl */
    int32_t *stop_ids;
    int n_stop_ids;
};

/* Reads and checks everything: every sample and what it generates fill the context exactly, ids are in the vocabulary, each sample has a
 * reference. SW_EINPUT: "FILE: found, expected". */
SW_MUST_CHECK enum sw_status sw_dataset_read(const char *path, struct sw_dataset **out);
void sw_dataset_free(struct sw_dataset *dataset); /* NULL is fine */

#endif
