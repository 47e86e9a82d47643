/* From scores of block means to the blocks that a row keeps. */
#include "core/methods/shared/keep.h"

#include <stdlib.h>

enum sw_status sw_prompt_means(struct sw_sequence *seq, const void *x, int heads, int n, int block,
                               struct block_means *m)
{
    return block_means_add(seq, x, heads, block, 0, n, sw_blocks(n, block), m);
}

enum sw_status sw_means_scores(struct sw_sequence *seq, const struct block_means *q,
                               const struct block_means *k, int b, float scale, bool softmax,
                               const float *column_scores, float *out)
{
    int heads = seq->shape.n_heads;
    return seq->backend->block_scores(seq->backend,
                                      &(struct sw_block_scores){.q = q->means.data,
                                                                .k = k->means.data,
                                                                .units_q = heads,
                                                                .units_k = seq->shape.n_kv_heads,
                                                                .rows = b,
                                                                .b = b,
                                                                .r = seq->shape.head_dim,
                                                                .q_ld = b,
                                                                .k_ld = b,
                                                                .scale = scale,
                                                                .exponent = 1.0f,
                                                                .softmax = softmax,
                                                                .causal = true,
                                                                .column_scores = column_scores,
                                                                .out = {out, heads, b, b}});
}

/* Row i of all heads is one call: a row of mark_top is a head's row i, b·b entries after the last
 * head's. */
enum sw_status sw_keep_top(struct sw_sequence *seq, const float *scores, int h0, int h1, int b,
                           int k, uint8_t *keep)
{
    int *counts = malloc((size_t)(h1 - h0) * sizeof *counts);
    if (!counts)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory",
                       (size_t)(h1 - h0) * sizeof *counts);
    for (int h = h0; h < h1; h++)
        counts[h - h0] = k;
    enum sw_status st = SW_OK;
    for (int i = 0; st == SW_OK && i < b; i++) {
        size_t at = ((size_t)h0 * (size_t)b + (size_t)i) * (size_t)b;
        st = seq->backend->mark_top(seq->backend, &(struct sw_mark_top){.in = scores + at,
                                                                        .rows = h1 - h0,
                                                                        .n = i + 1,
                                                                        .ld = b * b,
                                                                        .k = counts,
                                                                        .flags = keep + at});
    }
    free(counts);
    return st;
}

enum sw_status sw_keep_select(struct sw_sequence *seq, const struct sw_layer_input *in,
                              uint8_t *keep, bool free_diagonal, struct sw_selection *out)
{
    int block = sw_sequence_block(seq), b = sw_blocks(in->n, block);
    return seq->backend->select_keep(
        seq->backend,
        &(struct sw_select_keep){.keep = {keep, seq->shape.n_heads, b, b},
                                 .rows = b,
                                 .free_diagonal = free_diagonal,
                                 .block = block,
                                 .n = in->n,
                                 .n_q = in->n_q},
        out);
}
