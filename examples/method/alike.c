/* alike: an example of a method, complete. It prefers the key blocks whose mean key points the same
 * way as the mean key of the row's own block. To try it: copy this file to core/methods/ and add
 * X(alike) to the list in core/methods/table.c. */
#include "core/method.h"
#include "core/scratch.h"

extern const struct sw_method sw_method_alike;

struct alike_state {
    struct sw_scratch sums, scores; /* backend memory, kept from layer to layer */
};

static const struct sw_param params[] = {SW_METHOD_COMMON_PARAMS, SW_PARAM_END};

/* Sums of the keys of each block, [1, b, d]. */
static enum sw_status sum_keys(struct sw_sequence *seq, const struct sw_layer_input *in, int b)
{
    struct alike_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int d = seq->shape.head_dim;
    SW_TRY(sw_scratch_reserve(be, &s->sums, sizeof(float) * (size_t)b * (size_t)d));
    return be->pool(be, &(struct sw_pool){.x = in->k,
                                          .heads = seq->shape.n_kv_heads,
                                          .head_dim = d,
                                          .units = 1,
                                          .block = sw_sequence_block(seq),
                                          .t0 = 0,
                                          .t1 = in->n,
                                          .ld = b,
                                          .sums = s->sums.data});
}

/* The score of key block j for row i is the product of the two sums, <k_i, k_j>. A prompt has a row
 * for each of its b blocks, a decode step has one: the last. */
static enum sw_status score(struct sw_sequence *seq, int rows, int b, struct sw_unit_matrix *out)
{
    struct alike_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    SW_TRY(sw_scratch_reserve(be, &s->scores, sizeof(float) * (size_t)rows * (size_t)b));
    *out = (struct sw_unit_matrix){s->scores.data, 1, rows, b};
    return be->block_scores(be, &(struct sw_block_scores){.q = s->sums.data,
                                                          .k = s->sums.data,
                                                          .units_q = 1,
                                                          .units_k = 1,
                                                          .rows = rows,
                                                          .row0 = b - rows,
                                                          .b = b,
                                                          .r = seq->shape.head_dim,
                                                          .q_ld = b,
                                                          .k_ld = b,
                                                          .scale = 1,
                                                          .exponent = 1,
                                                          .causal = true,
                                                          .out = *out});
}

static enum sw_status select(struct sw_sequence *seq, const struct sw_layer_input *in,
                             struct sw_selection *out)
{
    int b = sw_blocks(in->n, sw_sequence_block(seq)), rows = in->n_q < in->n ? 1 : b;
    struct sw_unit_matrix scores;
    if (!out)
        return SW_OK; /* attention of this prompt is dense, and there is nothing to remember */
    SW_TRY(sum_keys(seq, in, b));
    SW_TRY(score(seq, rows, b, &scores));
    return sw_sequence_select(seq, in, scores, SW_FORCED_COMMON, out);
}

static void end(struct sw_sequence *seq)
{
    struct alike_state *s = seq->state;
    sw_scratch_free(seq->backend, &s->sums);
    sw_scratch_free(seq->backend, &s->scores);
}

const struct sw_method sw_method_alike = {
    .name = "alike",
    .summary = "blocks whose mean key points the same way as the row's own",
    .source = "an example",
    .flags = SW_METHOD_PREFILL | SW_METHOD_DECODE,
    .params_size = sizeof(struct sw_method_params),
    .params = params,
    .state_size = sizeof(struct alike_state),
    .prefill = select,
    .decode = select,
    .end = end,
};
