/* token_top.c: from a decode step's token scores to lists. */
#include "core/methods/shared/token_top.h"

#include <stdlib.h>

static int cap_of(const struct sw_sequence *seq)
{
    return sw_blocks(seq->max_tokens, sw_sequence_block(seq));
}

enum sw_status sw_token_top_begin(struct sw_sequence *seq, struct sw_token_top *t)
{
    struct sw_backend *be = seq->backend;
    size_t heads = (size_t)seq->shape.n_heads, tokens = heads * (size_t)seq->max_tokens,
           blocks = heads * (size_t)cap_of(seq);
    t->counts = calloc(heads, sizeof *t->counts);
    if (!t->counts)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", heads * sizeof *t->counts);
    SW_TRY(sw_scratch_reserve(be, &t->scores, tokens * sizeof(float)));
    if (seq->mode == SW_BUDGET_MATCHED)
        return sw_scratch_reserve(be, &t->blocks, blocks * sizeof(float));
    SW_TRY(sw_scratch_reserve(be, &t->flags, tokens));
    return sw_scratch_reserve(be, &t->keep, blocks);
}

void sw_token_top_end(struct sw_sequence *seq, struct sw_token_top *t)
{
    sw_scratch_free(seq->backend, &t->scores);
    sw_scratch_free(seq->backend, &t->blocks);
    sw_scratch_free(seq->backend, &t->flags);
    sw_scratch_free(seq->backend, &t->keep);
    free(t->counts);
}

struct sw_unit_matrix sw_token_top_scores(const struct sw_sequence *seq,
                                          const struct sw_token_top *t)
{
    return (struct sw_unit_matrix){t->scores.data, seq->shape.n_heads, 1, seq->max_tokens};
}

enum sw_status sw_token_top_blocks(struct sw_sequence *seq, const struct sw_layer_input *in,
                                   struct sw_token_top *t, bool largest, struct sw_selection *out)
{
    int block = sw_sequence_block(seq), heads = seq->shape.n_heads;
    struct sw_unit_matrix blocks = {t->blocks.data, heads, 1, cap_of(seq)};
    /* The last block may be short: it is kept whatever its score. */
    SW_TRY(seq->backend->pool_vertical_slash(
        seq->backend, &(struct sw_pool_vertical_slash){.in = t->scores.data,
                                                       .rows = heads,
                                                       .n = in->n,
                                                       .ld = seq->max_tokens,
                                                       .block = block,
                                                       .largest = largest,
                                                       .scale = largest ? 1 : 1 / (float)block,
                                                       .out = blocks.data,
                                                       .ld_out = blocks.ld}));
    return sw_sequence_select(seq, in, blocks, SW_FORCED_COMMON, out);
}

enum sw_status sw_token_lists(struct sw_sequence *seq, const struct sw_layer_input *in,
                              const uint8_t *flags, int ld, struct sw_keep_matrix keep,
                              struct sw_selection *out)
{
    struct sw_backend *be = seq->backend;
    int block = sw_sequence_block(seq), b = sw_blocks(in->n, block);
    SW_TRY(be->keep_vertical_slash(be, &(struct sw_keep_vertical_slash){.columns = flags,
                                                                        .row0 = b - 1,
                                                                        .rows = 1,
                                                                        .n = in->n,
                                                                        .block = block,
                                                                        .grain = 1,
                                                                        .ld_in = ld,
                                                                        .clear = true,
                                                                        .keep = keep}));
    return be->select_keep(be,
                           &(struct sw_select_keep){.keep = keep,
                                                    .row0 = b - 1,
                                                    .rows = 1,
                                                    .columns = flags,
                                                    .mask_ld = ld,
                                                    .block = block,
                                                    .n = in->n,
                                                    .n_q = in->n_q},
                           out);
}

enum sw_status sw_token_top_tokens(struct sw_sequence *seq, const struct sw_layer_input *in,
                                   struct sw_token_top *t, int count, struct sw_selection *out)
{
    struct sw_backend *be = seq->backend;
    int heads = seq->shape.n_heads;
    struct sw_keep_matrix keep = {t->keep.data, heads, 1, cap_of(seq)};
    for (int h = 0; h < heads; h++)
        t->counts[h] = count;
    SW_TRY(be->mark_top(be, &(struct sw_mark_top){.in = t->scores.data,
                                                  .rows = heads,
                                                  .n = in->n,
                                                  .ld = seq->max_tokens,
                                                  .k = t->counts,
                                                  .flags = t->flags.data}));
    return sw_token_lists(seq, in, t->flags.data, seq->max_tokens, keep, out);
}
