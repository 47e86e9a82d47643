/* token_top.h: for decode methods that score single tokens: their choice of blocks under a matched
 * budget, and of tokens under their own. A list a query head. */
#ifndef SW_TOKEN_TOP_H
#define SW_TOKEN_TOP_H

#include "core/method.h"
#include "core/scratch.h"

struct sw_token_top {
    struct sw_scratch scores; /* [H, max_tokens] */
    struct sw_scratch blocks; /* [H, cap] */
    struct sw_scratch flags;  /* [H, max_tokens] */
    struct sw_scratch keep;   /* [H, cap] */
    int *counts;              /* [H] host */
};

/* Allocates for a whole sequence, so that no step does. */
SW_MUST_CHECK enum sw_status sw_token_top_begin(struct sw_sequence *seq, struct sw_token_top *t);
void sw_token_top_end(struct sw_sequence *seq, struct sw_token_top *t);

/* Where a step's token scores go: one row a head. */
struct sw_unit_matrix sw_token_top_scores(const struct sw_sequence *seq,
                                          const struct sw_token_top *t);

/* The matched choice of blocks by their tokens' largest or mean score. */
SW_MUST_CHECK enum sw_status sw_token_top_blocks(struct sw_sequence *seq,
                                                 const struct sw_layer_input *in,
                                                 struct sw_token_top *t, bool largest,
                                                 struct sw_selection *out);

/* The lists of a decode step's flagged tokens: flags [units, ld] a token, keep room for the blocks
 * that they lie in. */
SW_MUST_CHECK enum sw_status sw_token_lists(struct sw_sequence *seq,
                                            const struct sw_layer_input *in, const uint8_t *flags,
                                            int ld, struct sw_keep_matrix keep,
                                            struct sw_selection *out);

/* Each head's `count` best tokens, no others. */
SW_MUST_CHECK enum sw_status sw_token_top_tokens(struct sw_sequence *seq,
                                                 const struct sw_layer_input *in,
                                                 struct sw_token_top *t, int count,
                                                 struct sw_selection *out);

#endif
