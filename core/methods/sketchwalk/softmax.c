/* Sketch&Walk, variant softmax: the printed algorithm with a causal softmax in it. q and k are
 * averaged over heads; A is the softmax of the scaled products, to the power s; R <- R·A, rows
 * rescaled by their maximum. Decode takes one row through the cached matrices. */
#include "core/methods/sketchwalk/state.h"

/* The paper keeps the first and the last key block of every query block. */
static struct sw_forced forced_of(const struct sw_sequence *seq)
{
    return seq->mode == SW_BUDGET_NATIVE ? SW_FORCED_FIRST_AND_LAST : SW_FORCED_COMMON;
}

/* Sharpening is for the walk. Without one it changes no order, but powers of small shares underflow
 * to ties. */
static float exponent_of(const struct sw_sequence *seq)
{
    const struct sketchwalk_params *p = seq->params;
    const struct sketchwalk_state *s = seq->state;
    return s->walk ? (float)p->exponent : 1.0f;
}

/* Of the ablation `sketch: tokens`, which sharpens with and without a walk. */
static float mass_exponent_of(const struct sw_sequence *seq)
{
    return (float)((const struct sketchwalk_params *)seq->params)->exponent;
}

static enum sw_status prefill(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                              const struct sw_layer_input *in, struct sw_selection *out)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    int b = sw_blocks(in->n, sw_sequence_block(seq));
    struct sw_unit_matrix a = sketchwalk_rows_from(s, layer->a.data);
    if (p->sketch == SKETCH_TOKENS) {
        SW_TRY(sketchwalk_mass_rows(seq, in, b, mass_exponent_of(seq), a));
    } else {
        struct sw_scratch *sketches = &s->q_sketch;
        if (!s->rules.causal && sketchwalk_decode_follows(seq, in))
            sketches = &layer->q_sketch; /* later keys change every row's softmax */
        SW_TRY(sketchwalk_sketch_prompt(seq, layer, in, &s->q_sums, sketches));
        struct sketchwalk_rows rows = {.q = sketches->data,
                                       .q_ld = s->cap,
                                       .rows = b,
                                       .b = b,
                                       .softmax = true,
                                       .exponent = exponent_of(seq),
                                       .out = a};
        SW_TRY(sketchwalk_score_rows(seq, layer, &rows));
    }
    if (!out)
        return SW_OK; /* a dense prompt before sparse decode steps: no walk to take */
    if (!s->walk)
        return sw_sequence_select(seq, in, a, forced_of(seq), out);
    bool first = in->layer == seq->dense_layers; /* the walk starts: R is this layer's matrix */
    SW_TRY(sketchwalk_reserve_walk(seq));
    struct sw_walk step = {.rows = b,
                           .b = b,
                           .x = first ? a.data : s->x[s->at].data,
                           .a = a,
                           .anchor = a.data,
                           .alpha = first ? 1.0f : 0.0f,
                           .beta = first ? 0.0f : 1.0f,
                           .causal = s->rules.causal,
                           .scale_rows = true,
                           .out = sketchwalk_rows_from(s, s->x[1 - s->at].data)};
    SW_TRY(sw_sequence_walk_select(seq, in, &step, forced_of(seq), out));
    s->at = 1 - s->at;
    return SW_OK;
}

/* The step's own row of the layer's matrix; without causal_blocks all of it, from the cached query
 * sketches, as every row's softmax sees the new key. */
static enum sw_status decode_scores(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                    const struct sw_layer_input *in, float *row_c)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    int b = sw_blocks(in->n, sw_sequence_block(seq)), c = b - 1;
    if (p->sketch == SKETCH_TOKENS)
        return sketchwalk_mass_rows(seq, in, 1, mass_exponent_of(seq),
                                    sketchwalk_rows_from(s, row_c));
    struct sketchwalk_rows rows = {.b = b, .softmax = true, .exponent = exponent_of(seq)};
    if (s->rules.causal) {
        SW_TRY(sw_scratch_reserve(seq->backend, &s->q_sketch,
                                  sketchwalk_vector_bytes(s->units_q, s->cap, s->r)));
        SW_TRY(sketchwalk_sketch_single_queries(seq, in->layer, in->q, 1, 0, 1, s->q_sketch.data));
        rows.q = s->q_sketch.data;
        rows.q_ld = rows.rows = 1;
        rows.row0 = c;
        rows.out = sketchwalk_rows_from(s, row_c);
    } else {
        SW_TRY(sketchwalk_sketch_single_queries(seq, in->layer, in->q, 1, c, s->cap,
                                                layer->q_sketch.data));
        rows.q = layer->q_sketch.data;
        rows.q_ld = s->cap;
        rows.rows = b;
        rows.out = sketchwalk_rows_from(s, layer->a.data);
    }
    return sketchwalk_score_rows(seq, layer, &rows);
}

/* r <- r·W from the first sparse layer's row up. Walk rows live in row c of x. */
static enum sw_status decode(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                             const struct sw_layer_input *in, struct sw_selection *out)
{
    struct sketchwalk_state *s = seq->state;
    int b = sw_blocks(in->n, sw_sequence_block(seq)), c = b - 1;
    size_t at_c = (size_t)c * (size_t)s->cap;
    float *a = layer->a.data, *row_c = a + at_c;
    SW_TRY(decode_scores(seq, layer, in, row_c));
    if (!out)
        return SW_OK;
    if (!s->walk)
        return sw_sequence_select(seq, in, sketchwalk_rows_from(s, row_c), forced_of(seq), out);
    SW_TRY(sketchwalk_reserve_walk(seq));
    bool first = in->layer == seq->dense_layers;
    struct sw_unit_matrix next = sketchwalk_rows_from(s, (float *)s->x[1 - s->at].data + at_c);
    struct sw_walk step = {.rows = 1,
                           .row0 = c,
                           .b = b,
                           .x = first ? row_c : (float *)s->x[s->at].data + at_c,
                           .a = sketchwalk_rows_from(s, a),
                           .anchor = row_c,
                           .alpha = first ? 1.0f : 0.0f,
                           .beta = first ? 0.0f : 1.0f,
                           .causal = s->rules.causal,
                           .scale_rows = true,
                           .out = next};
    SW_TRY(seq->backend->walk(seq->backend, &step));
    s->at = 1 - s->at;
    return sw_sequence_select(seq, in, next, forced_of(seq), out);
}

static enum sw_status decode_fused(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                   const struct sw_layer_input *in, struct sw_selection *out,
                                   bool *done)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    if (!out || !be->walk_step || s->units != 1 || !s->rules.causal ||
        p->sketch != SKETCH_HADAMARD || s->rules.transform_per_layer)
        return SW_OK;
    const int *budget;
    SW_TRY(sw_sequence_budget(seq, in, forced_of(seq), &budget));
    SW_TRY(sketchwalk_reserve_walk(seq));
    int block = sw_sequence_block(seq);
    size_t at_c = (size_t)(sw_blocks(in->n, block) - 1) * (size_t)s->cap;
    bool first = !s->walk || in->layer == seq->dense_layers;
    struct sw_walk_step step = {.batch = 1,
                                .q = in->q,
                                .k = sw_sequence_key(seq, in, in->n - 1),
                                .n_heads = seq->shape.n_heads,
                                .n_kv_heads = seq->shape.n_kv_heads,
                                .head_dim = seq->shape.head_dim,
                                .block = block,
                                .n = in->n,
                                .ld = s->cap,
                                .transform = &s->srht,
                                .padded_tail = s->rules.padded_tail,
                                .scale = s->logit_scale,
                                .exponent = exponent_of(seq),
                                .k_sums = layer->k_sums.data,
                                .k_sketch = layer->k_sketch.data,
                                .a = layer->a.data,
                                .x = first ? NULL : (const float *)s->x[s->at].data + at_c,
                                .out = (float *)s->x[1 - s->at].data + at_c,
                                .kept = budget[0],
                                .forced = forced_of(seq)};
    enum sw_status st = be->walk_step(be, &step, out);
    if (st == SW_EUNSUPPORTED) {
        sw_error_clear();
        return SW_OK;
    }
    *done = st == SW_OK;
    s->at = 1 - s->at;
    return st;
}

const struct sketchwalk_form sketchwalk_softmax = {prefill, decode, decode_fused};
