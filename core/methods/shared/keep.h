/* keep.h: what methods whose own rule marks blocks share: scores of block means, the best of each
 * row, and the way from a keep matrix to a selection. One list a head; prompts only (n_q == n). */
#ifndef SW_METHODS_KEEP_H
#define SW_METHODS_KEEP_H

#include "core/method.h"
#include "core/methods/shared/block_means.h"

/* Means over the blocks of x [n, heads, d], a prompt's queries or keys: [heads, ceil(n / block),
 * d]. */
SW_MUST_CHECK enum sw_status sw_prompt_means(struct sw_sequence *seq, const void *x, int heads,
                                             int n, int block, struct block_means *m);

/* out[h,i,j] = scale·<q̄_i, k̄_j> for j <= i, softmax over them if asked: [H, b, b]. column_scores
 * [Hkv, b] or NULL, as in sw_block_scores. */
SW_MUST_CHECK enum sw_status sw_means_scores(struct sw_sequence *seq, const struct block_means *q,
                                             const struct block_means *k, int b, float scale,
                                             bool softmax, const float *column_scores, float *out);

/* Keeps the k best of each row among j <= i: heads h0 … h1-1 of scores and keep [H, b, b], whose
 * entries j > i it leaves alone. */
SW_MUST_CHECK enum sw_status sw_keep_top(struct sw_sequence *seq, const float *scores, int h0,
                                         int h1, int b, int k, uint8_t *keep);

/* The lists of a keep matrix [H, b, b], one a head; the diagonal always, or free as in
 * sw_select_keep. */
SW_MUST_CHECK enum sw_status sw_keep_select(struct sw_sequence *seq,
                                            const struct sw_layer_input *in, uint8_t *keep,
                                            bool free_diagonal, struct sw_selection *out);

#endif
