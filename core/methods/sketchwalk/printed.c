/* Sketch&Walk, variant arxiv: Algorithms 1 and 2 as the paper prints them. Â = <q~, k~>/sqrt(r) of
 * head-averaged block means, for all pairs of blocks: there is no causal mask and no softmax.
 * W = Â to the power s, elementwise; R <- R·W as full products; each query block takes the best of
 * the blocks that it may attend to. s is even, so that a strongly negative score counts like a
 * strongly positive one; `signed` keeps the sign.
 *
 * Numbers: W is divided by the power s of its largest |Â|, and each row of R by its largest entry.
 * Neither changes the order of a row. */
#include <math.h>

#include "core/methods/sketchwalk/state.h"

static struct sw_forced forced_of(const struct sw_sequence *seq)
{
    return seq->mode == SW_BUDGET_NATIVE ? SW_FORCED_FIRST_AND_LAST : SW_FORCED_COMMON;
}

/* W from Â, or what orders its rows alike: the walk needs the powers, a choice from one matrix does
 * not, and powers of small scores underflow to ties. */
static enum sw_status sharpen(struct sw_sequence *seq, struct sw_unit_matrix in, int rows, int b,
                              struct sw_unit_matrix out)
{
    const struct sketchwalk_params *p = seq->params;
    const struct sketchwalk_state *s = seq->state;
    bool even = fmod(p->exponent, 2) == 0 && !p->keep_sign;
    struct sw_sharpen a = {.in = in,
                           .rows = rows,
                           .cols = b,
                           .exponent = s->walk ? (float)p->exponent
                                       : even  ? 2.0f
                                               : 1.0f,
                           .keep_sign = p->keep_sign,
                           .out = out};
    return seq->backend->sharpen(seq->backend, &a);
}

/* The paper's budget is a share of the blocks: tau = round(density · b) of them a row, the first
 * and the last among them. */
static enum sw_status choose(struct sw_sequence *seq, const struct sw_layer_input *in,
                             struct sw_unit_matrix scores, struct sw_selection *out)
{
    if (seq->mode != SW_BUDGET_NATIVE)
        return sw_sequence_select(seq, in, scores, forced_of(seq), out);
    int tau = (int)lround(seq->density * sw_blocks(in->n, sw_sequence_block(seq)));
    return sw_sequence_select_count(seq, in, scores, tau, forced_of(seq), out);
}

/* Rows row0 … of R in x[at], from those in the other x; and the choice from them. */
static enum sw_status walk(struct sw_sequence *seq, const struct sw_layer_input *in,
                           struct sw_unit_matrix w, int row0, int rows, struct sw_selection *out)
{
    struct sketchwalk_state *s = seq->state;
    bool first = in->layer == seq->dense_layers; /* R is this layer's W */
    size_t from = (size_t)row0 * (size_t)s->cap;
    SW_TRY(sketchwalk_reserve_walk(seq));
    struct sw_walk step = {.rows = rows,
                           .row0 = row0,
                           .b = sw_blocks(in->n, sw_sequence_block(seq)),
                           .x = first ? w.data + from : (float *)s->x[s->at].data + from,
                           .a = w,
                           .anchor = w.data + from,
                           .alpha = first ? 1.0f : 0.0f,
                           .beta = first ? 0.0f : 1.0f,
                           .scale_rows = true,
                           .out = sketchwalk_rows_from(s, (float *)s->x[1 - s->at].data + from)};
    SW_TRY(seq->backend->walk(seq->backend, &step));
    s->at = 1 - s->at;
    return choose(seq, in, step.out, out);
}

static enum sw_status prefill(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                              const struct sw_layer_input *in, struct sw_selection *out)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    int b = sw_blocks(in->n, sw_sequence_block(seq));
    struct sw_unit_matrix a = sketchwalk_rows_from(s, layer->a.data);
    if (p->sketch == SKETCH_TOKENS) {
        SW_TRY(sketchwalk_mass_rows(seq, in, b, 1.0f, a));
    } else {
        bool follows = sketchwalk_decode_follows(seq, in); /* it goes on with the block's mean */
        struct sw_scratch *sums = follows ? &layer->q_sums : &s->q_sums,
                          *sketches = follows ? &layer->q_sketch : &s->q_sketch;
        SW_TRY(sketchwalk_sketch_prompt(seq, layer, in, sums, sketches));
        struct sketchwalk_rows rows = {
            .q = sketches->data, .q_ld = s->cap, .rows = b, .b = b, .exponent = 1.0f, .out = a};
        SW_TRY(sketchwalk_score_rows(seq, layer, &rows));
    }
    if (!out)
        return SW_OK;
    SW_TRY(sw_scratch_reserve(seq->backend, &s->sharp, sketchwalk_matrix_bytes(s, s->units)));
    struct sw_unit_matrix w = sketchwalk_rows_from(s, s->sharp.data);
    SW_TRY(sharpen(seq, a, b, b, w));
    return s->walk ? walk(seq, in, w, 0, b, out) : choose(seq, in, w, out);
}

/* Algorithm 2: row c of Â becomes this query's scores; then column c becomes the scores of the
 * cached query blocks with the block that the new key changed. Entry (c, c) is the column's, of the
 * mean of the block's queries so far. */
static enum sw_status update_matrix(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                    const struct sw_layer_input *in)
{
    struct sketchwalk_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int b = sw_blocks(in->n, sw_sequence_block(seq)), c = b - 1;
    float *a = layer->a.data;
    SW_TRY(sw_scratch_reserve(be, &s->q_sketch, sketchwalk_vector_bytes(s->units_q, 1, s->r)));
    SW_TRY(sketchwalk_sketch_single_queries(seq, in->layer, in->q, 1, 0, 1, s->q_sketch.data));
    struct sketchwalk_rows row = {.q = s->q_sketch.data,
                                  .q_ld = 1,
                                  .row0 = c,
                                  .rows = 1,
                                  .b = b,
                                  .exponent = 1.0f,
                                  .out = sketchwalk_rows_from(s, a + (size_t)c * (size_t)s->cap)};
    SW_TRY(sketchwalk_score_rows(seq, layer, &row));
    SW_TRY(sketchwalk_sketch_last_query_block(seq, layer, in));
    struct sw_block_scores column = {.q = layer->q_sketch.data,
                                     .k = (const float *)layer->k_sketch.data +
                                          (size_t)c * (size_t)s->r,
                                     .units_q = s->units_q,
                                     .units_k = s->units_k,
                                     .rows = b,
                                     .b = 1,
                                     .r = s->r,
                                     .q_ld = s->cap,
                                     .k_ld = s->cap,
                                     .scale = s->logit_scale,
                                     .exponent = 1.0f,
                                     .out = sketchwalk_rows_from(s, a + c)};
    return be->block_scores(be, &column);
}

/* Only row c of R is needed: the row of the layer below, times this layer's full matrix. */
static enum sw_status decode(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                             const struct sw_layer_input *in, struct sw_selection *out)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int b = sw_blocks(in->n, sw_sequence_block(seq)), c = b - 1;
    float *row_c = (float *)layer->a.data + (size_t)c * (size_t)s->cap;
    if (p->sketch == SKETCH_TOKENS)
        SW_TRY(sketchwalk_mass_rows(seq, in, 1, 1.0f, sketchwalk_rows_from(s, row_c)));
    else
        SW_TRY(update_matrix(seq, layer, in));
    if (!out)
        return SW_OK;
    if (!s->walk) {
        SW_TRY(sw_scratch_reserve(be, &s->row, sketchwalk_vector_bytes(s->units, 1, s->cap)));
        struct sw_unit_matrix row = sketchwalk_single_rows(s, s->row.data);
        SW_TRY(sharpen(seq, sketchwalk_rows_from(s, row_c), 1, b, row));
        return choose(seq, in, row, out);
    }
    SW_TRY(sw_scratch_reserve(be, &s->sharp, sketchwalk_matrix_bytes(s, s->units)));
    struct sw_unit_matrix w = sketchwalk_rows_from(s, s->sharp.data);
    SW_TRY(sharpen(seq, sketchwalk_rows_from(s, layer->a.data), b, b, w));
    return walk(seq, in, w, c, 1, out);
}

const struct sketchwalk_form sketchwalk_printed = {prefill, decode, NULL};
