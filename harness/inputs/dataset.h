/* dataset.h: prepared datasets, loaded: token ids of prompts or text windows, and what answers are
 * scored against (docs/formats.md). */
#ifndef SW_DATASET_H
#define SW_DATASET_H

#include <stdint.h>

#include "core/answers/score.h"
#include "harness/config/config.h"

struct sw_dataset {
    const struct sw_scorer *scorer; /* NULL: text windows of which the last scored_tokens count */
    bool first_line;                /* of an answer is scored */
    int n_samples, context, vocab, max_new_tokens, scored_tokens;
    int32_t *ids;
    int64_t *offsets;           /* [n_samples + 1]: sample s is ids[offsets[s]] … */
    struct sw_texts references; /* of sample s: reference_offsets[s] … */
    int64_t *reference_offsets; /* [n_samples + 1]; NULL without a scorer */
    struct sw_texts classes;    /* all labels of a classification, else none */
    /* [n_samples]: share of the haystack before the needle, NaN where there is none; NULL: of
     * none */
    double *depth;
    /* [hop_offsets[n_samples], 2]: tokens [first, last) within the sample of the statements that
     * its answer follows from, in that order; sample s has hop_offsets[s] …. NULL: of none */
    int64_t *hops, *hop_offsets;
    int32_t *stop_ids;
    int n_stop_ids;
};

/* Reads and checks everything: every sample and what it generates fill the context exactly (or at
 * most, where the file says so), ids are in the vocabulary, each sample has a reference. SW_EINPUT:
 * "FILE: found, expected". */
SW_MUST_CHECK enum sw_status sw_dataset_read(const char *path, struct sw_dataset **out);
void sw_dataset_free(struct sw_dataset *dataset); /* NULL is fine */

#endif
