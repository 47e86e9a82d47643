#include "core/methods/means.h"

#include <stdlib.h>

enum sw_status sw_means_make(struct sw_sequence *seq, const void *x, int heads, int n, int block, struct sw_means *m)
{
    struct sw_backend *be = seq->backend;
    int d = seq->shape.head_dim, b = sw_blocks(n, block);
    size_t bytes = sizeof(float) * (size_t)heads * (size_t)b * (size_t)d;
    SW_TRY(sw_scratch_reserve(be, &m->sums, bytes));
    SW_TRY(sw_scratch_reserve(be, &m->means, bytes));
    SW_TRY(be->pool(be, &(struct sw_pool){.x = x, .heads = heads, .head_dim = d, .units = heads, .block = block, .t1 = n, .ld = b,
                                          .sums = m->sums.data}));
    return be->sketch(be, &(struct sw_sketch){.sums = m->sums.data, .units = heads, .ld = b, .d = d, .block = block, .n = n, .i1 = b,
                                              .out = m->means.data});
}

void sw_means_free(struct sw_backend *be, struct sw_means *m)
{
    sw_scratch_free(be, &m->sums);
    sw_scratch_free(be, &m->means);
}

enum sw_status sw_means_scores(struct sw_sequence *seq, const struct sw_means *q, const struct sw_means *k, int b, float scale, bool softmax,
                               const float *column_scores, float *out)
{
    int heads = seq->shape.n_heads;
    return seq->backend->block_scores(seq->backend, &(struct sw_block_scores){.q = q->means.data, .k = k->means.data, .units_q = heads,
                                                                              .units_k = seq->shape.n_kv_heads, .units_out = heads, .rows = b,
                                                                              .b = b, .r = seq->shape.head_dim, .q_ld = b, .k_ld = b,
                                                                              .scale = scale, .exponent = 1.0f, .softmax = softmax,
                                                                              .causal = true, .column_scores = column_scores, .out = out,
                                                                              .ld = b, .out_ld_rows = b});
}

/* Row i of all heads is one call: a row of mark_top is a head's row i, b·b entries after the last head's. */
enum sw_status sw_keep_top(struct sw_sequence *seq, const float *scores, int h0, int h1, int b, int k, uint8_t *keep)
{
    int *counts = malloc((size_t)(h1 - h0) * sizeof *counts);
    if (!counts)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", (size_t)(h1 - h0) * sizeof *counts);
    for (int h = h0; h < h1; h++)
        counts[h - h0] = k;
    enum sw_status st = SW_OK;
    for (int i = 0; st == SW_OK && i < b; i++) {
        size_t at = ((size_t)h0 * (size_t)b + (size_t)i) * (size_t)b;
        st = seq->backend->mark_top(seq->backend, &(struct sw_mark_top){.in = scores + at, .rows = h1 - h0, .n = i + 1, .ld = b * b, .k = counts,
                                                                        .flags = keep + at});
    }
    free(counts);
    return st;
}

enum sw_status sw_keep_select(struct sw_sequence *seq, const struct sw_layer_input *in, const uint8_t *keep, struct sw_selection *out)
{
    int block = sw_sequence_block(seq), b = sw_blocks(in->n, block);
    return seq->backend->select_keep(seq->backend, &(struct sw_select_keep){.keep = keep, .units = seq->shape.n_heads, .rows = b, .ld = b,
                                                                            .ld_rows = b, .block = block, .n = in->n, .n_q = in->n_q}, out);
}
