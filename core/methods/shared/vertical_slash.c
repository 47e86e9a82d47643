/* How the last queries attend, by key and by distance, summed over blocks. */
#include "core/methods/shared/vertical_slash.h"

void sw_vertical_slash_free(struct sw_backend *be, struct sw_vertical_slash_state *s)
{
    struct sw_scratch *all[] = {&s->columns,      &s->slashes,      &s->column_blocks,
                                &s->slash_blocks, &s->column_flags, &s->slash_flags};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sw_scratch_free(be, all[i]);
}

enum sw_status sw_vertical_slash_measure(struct sw_sequence *seq, const struct sw_layer_input *in,
                                         int last, struct sw_vertical_slash_state *s)
{
    struct sw_backend *be = seq->backend;
    const struct sw_shape *shape = &seq->shape;
    size_t bytes = sizeof(float) * (size_t)shape->n_heads * (size_t)in->n;
    SW_TRY(sw_scratch_reserve(be, &s->columns, bytes));
    SW_TRY(sw_scratch_reserve(be, &s->slashes, bytes));
    struct sw_attend attend = sw_sequence_attend(seq, in);
    return be->vertical_slash(be, &(struct sw_vertical_slash){.in = &attend,
                                                              .last = last,
                                                              .ld = in->n,
                                                              .columns = s->columns.data,
                                                              .slashes = s->slashes.data});
}

static enum sw_status pool(struct sw_sequence *seq, int n, int last, enum sw_slash_pooling how,
                           const struct sw_scratch *in, struct sw_scratch *out)
{
    struct sw_backend *be = seq->backend;
    int block = sw_sequence_block(seq), b = sw_blocks(n, block), heads = seq->shape.n_heads;
    SW_TRY(sw_scratch_reserve(be, out, sizeof(float) * (size_t)heads * (size_t)b));
    return be->pool_vertical_slash(
        be, &(struct sw_pool_vertical_slash){.in = in->data,
                                             .rows = heads,
                                             .n = n,
                                             .ld = n,
                                             .block = block,
                                             .split = how == SW_SLASHES_SPLIT,
                                             .from_end = how == SW_SLASHES_FROM_END,
                                             .scale = 1.0f / (float)last,
                                             .out = out->data,
                                             .ld_out = b});
}

enum sw_status sw_vertical_slash_pool_columns(struct sw_sequence *seq, int n, int last,
                                              struct sw_vertical_slash_state *s)
{
    return pool(seq, n, last, SW_SLASHES_WHOLE, &s->columns, &s->column_blocks);
}

enum sw_status sw_vertical_slash_pool_slashes(struct sw_sequence *seq, int n, int last,
                                              enum sw_slash_pooling how,
                                              struct sw_vertical_slash_state *s)
{
    return pool(seq, n, last, how, &s->slashes, &s->slash_blocks);
}

enum sw_status sw_vertical_slash_block_scores(struct sw_sequence *seq,
                                              const struct sw_vertical_slash_state *s, int h0,
                                              int h1, int b, float *scores)
{
    size_t row = (size_t)h0 * (size_t)b;
    return seq->backend->vertical_slash_scores(
        seq->backend,
        &(struct sw_vertical_slash_scores){.columns = (const float *)s->column_blocks.data + row,
                                           .slashes = (const float *)s->slash_blocks.data + row,
                                           .rows = b,
                                           .b = b,
                                           .ld_in = b,
                                           .out = {scores + row * (size_t)b, h1 - h0, b, b}});
}
