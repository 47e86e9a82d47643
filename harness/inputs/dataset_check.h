/* dataset_check.h: what a prepared dataset is (HDF5 of token ids, made by datasets/prepare.py),
 * without loading it, and everything that is wrong with one. docs/formats.md describes the
 * format. */
#ifndef SW_DATASET_CHECK_H
#define SW_DATASET_CHECK_H

#include <stdbool.h>
#include <stdio.h>

#include "core/answers/score.h"

struct sw_dataset_info {
    /* of the model; the last is empty where no template was used */
    char tokenizer_sha256[72], tokenizer_json_sha256[72], chat_template_sha256[72];
    char special_ids[256]; /* JSON: the model's bos_token_id and eos_token_id */
    int vocab, context, samples, max_new_tokens, scored_tokens;
    const struct sw_scorer *scorer; /* of its answers; NULL: perplexity */
    bool first_line;                /* of an answer is scored, not all of it */
    bool at_most;                   /* samples may be shorter than the context */
};

/* Reads the root attributes. SW_EINPUT: not a dataset, or an attribute that is missing or out of
 * range. */
SW_MUST_CHECK enum sw_status sw_dataset_describe(const char *path, struct sw_dataset_info *out);

/* The same, and all ids and offsets are checked. Every problem is a line in `messages`. SW_EINPUT
 * when there are any. */
SW_MUST_CHECK enum sw_status sw_dataset_check(const char *path, FILE *messages,
                                              struct sw_dataset_info *out);

#endif
