/* Sketch&Walk, variant icml: the code released with the ICML 2026 version (Escanord/SketchWalk @
 * 35048bb, modeling_llama.py). A is a softmax a head, averaged over heads; a layer takes `degree`
 * steps X <- (1-b)·A + b·X·A from the state of the layer below. Decode starts anew at each layer,
 * from a row pooled over the last queries.
 *
 * Its native rule keeps whole each block whose score is above the quantile, the sink's and the
 * window's blocks included, and the tokens of a sink and a window; in decode these are whole blocks
 * too. Token shares of the context are rounded down. */
#include "core/methods/sketchwalk/state.h"

/* --- selection -------------------------------------------------------------------------------- */

static int tokens_of(double share, int n)
{
    int tokens = (int)(share * n);
    return tokens > 1 ? tokens : 1;
}

enum sw_status sketchwalk_icml_choose(struct sw_sequence *seq, const struct sw_layer_input *in,
                                      struct sw_unit_matrix scores, struct sw_selection *out)
{
    const struct sketchwalk_params *p = seq->params;
    const struct sketchwalk_state *s = seq->state;
    if (seq->mode != SW_BUDGET_NATIVE)
        return sw_sequence_select(seq, in, scores, SW_FORCED_COMMON, out);
    int block = sw_sequence_block(seq), b = sw_blocks(in->n, block);
    bool decode = in->n_q < in->n;
    int row0 = decode ? b - 1 : 0, rows = b - row0;
    int window = tokens_of(p->window_share, in->n), sink = tokens_of(p->sink_share, in->n);
    struct sw_select_quantile rule = {.scores = scores,
                                      .row0 = row0,
                                      .rows = rows,
                                      .sink_blocks = sw_blocks(sink, block),
                                      .window_blocks = sw_blocks(window, block),
                                      .whole_ends = decode,
                                      .window = decode ? 0 : window,
                                      .sink = s->rules.sink_is_window ? window : sink,
                                      .dense_from = decode ? b : b - p->dense_tail_blocks,
                                      .quantile = 1.0 - p->top_share,
                                      .block = block,
                                      .n = in->n,
                                      .n_q = in->n_q};
    SW_TRY(sw_selection_reserve(out, seq->backend, s->units, rows,
                                sw_selection_full_capacity(s->units, row0, rows), true));
    return seq->backend->select_quantile(seq->backend, &rule, out);
}

/* --- prefill ---------------------------------------------------------------------------------- */

/* Decode pools the last queries, of the prompt at first. */
static enum sw_status remember_queries(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                       const struct sw_layer_input *in)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    int window = p->decode_query_window, kept = in->n < window ? in->n : window;
    size_t token =
        sw_dtype_size(seq->backend->act) * (size_t)seq->shape.n_heads * (size_t)seq->shape.head_dim;
    const char *first = (const char *)in->q + (size_t)(in->n - kept) * token;
    SW_TRY(sw_scratch_reserve(seq->backend, &layer->window,
                              sketchwalk_vector_bytes(s->units_q, window, s->r)));
    layer->window_fill = kept;
    layer->window_next = kept % window;
    return sketchwalk_sketch_single_queries(seq, in->layer, first, kept, 0, window,
                                            layer->window.data);
}

static enum sw_status walk_prompt(struct sw_sequence *seq, const struct sw_layer_input *in,
                                  struct sw_unit_matrix a, struct sw_selection *out)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    int b = sw_blocks(in->n, sw_sequence_block(seq));
    SW_TRY(sketchwalk_reserve_walk(seq));
    struct sw_walk step = {.rows = b,
                           .b = b,
                           .a = a,
                           .anchor = a.data,
                           .alpha = (float)(1.0 - p->damping),
                           .beta = (float)p->damping,
                           .causal = s->rules.causal};
    for (int i = 0; i < p->degree; i++) {
        bool start = in->layer == seq->dense_layers && i == 0; /* from this layer's own matrix */
        step.x = start ? a.data : s->x[s->at].data;
        step.out = sketchwalk_rows_from(s, s->x[1 - s->at].data);
        SW_TRY(seq->backend->walk(seq->backend, &step));
        s->at = 1 - s->at;
    }
    return sketchwalk_icml_choose(seq, in, sketchwalk_rows_from(s, s->x[s->at].data), out);
}

/* The layer's own matrix. */
static enum sw_status prompt_scores(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                    const struct sw_layer_input *in, struct sw_unit_matrix a)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    int b = sw_blocks(in->n, sw_sequence_block(seq));
    if (p->sketch == SKETCH_TOKENS)
        return sketchwalk_mass_rows(seq, in, b, 1.0f, a);
    SW_TRY(sketchwalk_sketch_prompt(seq, layer, in, &s->q_sums, &s->q_sketch));
    struct sketchwalk_rows rows = {.q = s->q_sketch.data,
                                   .q_ld = s->cap,
                                   .rows = b,
                                   .b = b,
                                   .softmax = true,
                                   .exponent = 1.0f,
                                   .out = a};
    SW_TRY(sketchwalk_score_rows(seq, layer, &rows));
    return sketchwalk_decode_follows(seq, in) ? remember_queries(seq, layer, in) : SW_OK;
}

static enum sw_status prefill(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                              const struct sw_layer_input *in, struct sw_selection *out)
{
    struct sketchwalk_state *s = seq->state;
    struct sw_unit_matrix a = sketchwalk_rows_from(s, layer->a.data);
    SW_TRY(prompt_scores(seq, layer, in, a));
    if (!out)
        return SW_OK; /* a dense prompt before sparse decode steps: no walk to take */
    return s->walk ? walk_prompt(seq, in, a, out) : sketchwalk_icml_choose(seq, in, a, out);
}

/* --- decode ----------------------------------------------------------------------------------- */

/* This layer's own row: the scores of the last queries, pooled. */
static enum sw_status pooled_row(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                 const struct sw_layer_input *in)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    int b = sw_blocks(in->n, sw_sequence_block(seq)), window = p->decode_query_window;
    SW_TRY(sw_scratch_reserve(seq->backend, &s->row, sketchwalk_vector_bytes(s->units, 1, s->cap)));
    struct sw_unit_matrix row = sketchwalk_single_rows(s, s->row.data);
    if (p->sketch == SKETCH_TOKENS)
        return sketchwalk_mass_rows(seq, in, 1, 1.0f, row);
    SW_TRY(sketchwalk_sketch_single_queries(seq, in->layer, in->q, 1, layer->window_next, window,
                                            layer->window.data));
    layer->window_next = (layer->window_next + 1) % window;
    if (layer->window_fill < window)
        layer->window_fill++;
    struct sketchwalk_rows rows = {.q = layer->window.data,
                                   .q_ld = window,
                                   .row0 = b - 1,
                                   .rows = layer->window_fill,
                                   .b = b,
                                   .softmax = true,
                                   .pool_rows = true,
                                   .exponent = 1.0f,
                                   .out = row};
    return sketchwalk_score_rows(seq, layer, &rows);
}

/* The cached matrix takes the row into its running averages; the walk starts from the row and
 * carries nothing from the layer below. */
static enum sw_status decode(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                             const struct sw_layer_input *in, struct sw_selection *out)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int block = sw_sequence_block(seq), b = sw_blocks(in->n, block), c = b - 1;
    SW_TRY(pooled_row(seq, layer, in));
    struct sw_running update = {.c = c,
                                .b = b,
                                .weight = 1.0f / (float)(in->n - c * block),
                                .causal = s->rules.causal,
                                .row = s->row.data,
                                .row_ld = s->cap,
                                .a = sketchwalk_rows_from(s, layer->a.data)};
    SW_TRY(be->running(be, &update));
    if (!out)
        return SW_OK;
    float *x = s->row.data;
    for (int i = 0; s->walk && i < p->degree; i++) {
        struct sw_scratch *next = &s->x[i % 2];
        SW_TRY(sw_scratch_reserve(be, next, sketchwalk_vector_bytes(s->units, 1, s->cap)));
        struct sw_walk step = {.rows = 1,
                               .row0 = c,
                               .b = b,
                               .x = x,
                               .a = sketchwalk_rows_from(s, layer->a.data),
                               .anchor = s->row.data,
                               .alpha = (float)(1.0 - p->damping),
                               .beta = (float)p->damping,
                               .causal = s->rules.causal,
                               .out = sketchwalk_single_rows(s, next->data)};
        SW_TRY(be->walk(be, &step));
        x = next->data;
    }
    return sketchwalk_icml_choose(seq, in, sketchwalk_single_rows(s, x), out);
}

enum sw_status sketchwalk_icml_scores(struct sw_sequence *seq, const struct sw_layer_input *in,
                                      struct sw_unit_matrix *scores)
{
    struct sketchwalk_state *s = seq->state;
    struct sketchwalk_layer *layer;
    if (in->n_q == in->n) {
        SW_TRY(sketchwalk_reserve_matrix(seq, in, &layer));
        *scores = sketchwalk_rows_from(s, layer->a.data);
        return prompt_scores(seq, layer, in, *scores);
    }
    layer = &s->layers[in->layer];
    if (!layer->a.data)
        return SW_FAIL(SW_EINTERNAL, "decode of layer %d before its prompt", in->layer);
    SW_TRY(sketchwalk_sketch_last_key(seq, layer, in));
    SW_TRY(pooled_row(seq, layer, in));
    *scores = sketchwalk_single_rows(s, s->row.data);
    return SW_OK;
}

const struct sketchwalk_form sketchwalk_icml = {prefill, decode, NULL};
