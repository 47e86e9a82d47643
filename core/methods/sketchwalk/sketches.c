/* Sketch&Walk: block means of queries and keys, and their sketches. Sums are in token order, so
 * that a prompt of n + m tokens and a prompt of n followed by m decode steps have the same bits. */
#include "core/methods/sketchwalk/state.h"

/* What makes the sketches of some tokens: their block sums, then the transform of the blocks'
 * means. */
struct sketching {
    struct sw_pool pool;
    struct sw_sketch sketch;
};

/* Tokens of x and where they go: token t0's row is the first of x, and it belongs to block
 * t0 / block of sums [units, ld, d] and out [units, ld, r]. */
struct tokens {
    const void *x;
    int heads, units, block, t0, t1, ld;
    float *sums, *out;
};

/* The layer's own transform, the shared one, or none. */
static const struct sw_srht *transform_of(const struct sw_sequence *seq, int layer)
{
    const struct sketchwalk_params *p = seq->params;
    const struct sketchwalk_state *s = seq->state;
    if (p->sketch != SKETCH_HADAMARD)
        return NULL;
    return s->rules.transform_per_layer ? &s->layers[layer].srht : &s->srht;
}

static struct sketching plan(const struct sw_sequence *seq, int layer, const struct tokens *t)
{
    const struct sketchwalk_state *s = seq->state;
    return (struct sketching){
        .pool = {.x = t->x,
                 .heads = t->heads,
                 .head_dim = seq->shape.head_dim,
                 .units = t->units,
                 .block = t->block,
                 .t0 = t->t0,
                 .t1 = t->t1,
                 .ld = t->ld,
                 .sums = t->sums},
        .sketch = {.sums = t->sums,
                   .units = t->units,
                   .ld = t->ld,
                   .d = seq->shape.head_dim,
                   .block = t->block,
                   .n = t->t1,
                   .i0 = t->t0 / t->block,
                   .i1 = sw_blocks(t->t1, t->block),
                   .padded_tail = s->rules.padded_tail,
                   .transform = transform_of(seq, layer),
                   .out = t->out},
    };
}

static enum sw_status make(struct sw_backend *be, const struct sketching *a)
{
    SW_TRY(be->pool(be, &a->pool));
    return be->sketch(be, &a->sketch);
}

static enum sw_status plan_keys(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                const struct sw_layer_input *in, int t0, struct sketching *out)
{
    struct sketchwalk_state *s = seq->state;
    size_t sums = sketchwalk_vector_bytes(s->units_k, s->cap, seq->shape.head_dim),
           sketches = sketchwalk_vector_bytes(s->units_k, s->cap, s->r);
    SW_TRY(sw_scratch_reserve(seq->backend, &layer->k_sums, sums));
    SW_TRY(sw_scratch_reserve(seq->backend, &layer->k_sketch, sketches));
    *out = plan(seq, in->layer,
                &(struct tokens){.x = sw_sequence_key(seq, in, t0),
                                 .heads = seq->shape.n_kv_heads,
                                 .units = s->units_k,
                                 .block = sw_sequence_block(seq),
                                 .t0 = t0,
                                 .t1 = in->n,
                                 .ld = s->cap,
                                 .sums = layer->k_sums.data,
                                 .out = layer->k_sketch.data});
    return SW_OK;
}

/* Query blocks of tokens t0 … n-1. */
static struct sketching plan_query_blocks(struct sw_sequence *seq, const struct sw_layer_input *in,
                                          int t0, float *sums, float *out)
{
    struct sketchwalk_state *s = seq->state;
    return plan(seq, in->layer,
                &(struct tokens){.x = in->q,
                                 .heads = seq->shape.n_heads,
                                 .units = s->units_q,
                                 .block = sw_sequence_block(seq),
                                 .t0 = t0,
                                 .t1 = in->n,
                                 .ld = s->cap,
                                 .sums = sums,
                                 .out = out});
}

enum sw_status sketchwalk_sketch_prompt(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                        const struct sw_layer_input *in, struct sw_scratch *q_sums,
                                        struct sw_scratch *q_sketch)
{
    struct sw_backend *be = seq->backend;
    struct sketchwalk_state *s = seq->state;
    struct sketching queries, keys;
    SW_TRY(sw_scratch_reserve(be, q_sums,
                              sketchwalk_vector_bytes(s->units_q, s->cap, seq->shape.head_dim)));
    SW_TRY(sw_scratch_reserve(be, q_sketch, sketchwalk_vector_bytes(s->units_q, s->cap, s->r)));
    queries = plan_query_blocks(seq, in, 0, q_sums->data, q_sketch->data);
    SW_TRY(plan_keys(seq, layer, in, 0, &keys));
    if (be->pool_sketch) /* the longer one first */
        return be->pool_sketch(be, (struct sw_pool[]){queries.pool, keys.pool},
                               (struct sw_sketch[]){queries.sketch, keys.sketch}, 2);
    SW_TRY(make(be, &queries));
    return make(be, &keys);
}

enum sw_status sketchwalk_sketch_last_key(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                          const struct sw_layer_input *in)
{
    struct sketching keys;
    SW_TRY(plan_keys(seq, layer, in, in->n - 1, &keys));
    return make(seq->backend, &keys);
}

enum sw_status sketchwalk_sketch_single_queries(struct sw_sequence *seq, int layer, const void *q,
                                                int n_q, int i0, int ld, float *out)
{
    struct sketchwalk_state *s = seq->state;
    SW_TRY(sw_scratch_reserve(seq->backend, &s->q_sums,
                              sketchwalk_vector_bytes(s->units_q, ld, seq->shape.head_dim)));
    struct sketching queries = plan(seq, layer,
                                    &(struct tokens){.x = q,
                                                     .heads = seq->shape.n_heads,
                                                     .units = s->units_q,
                                                     .block = 1,
                                                     .t0 = i0,
                                                     .t1 = i0 + n_q,
                                                     .ld = ld,
                                                     .sums = s->q_sums.data,
                                                     .out = out});
    return make(seq->backend, &queries);
}

enum sw_status sketchwalk_sketch_last_query_block(struct sw_sequence *seq,
                                                  struct sketchwalk_layer *layer,
                                                  const struct sw_layer_input *in)
{
    struct sketching queries =
        plan_query_blocks(seq, in, in->n - 1, layer->q_sums.data, layer->q_sketch.data);
    return make(seq->backend, &queries);
}
