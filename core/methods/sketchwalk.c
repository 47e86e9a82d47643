/* Sketch&Walk (Le et al., "Scout Before You Attend", arXiv 2602.07397; ICML 2026).
 *
 * Queries and keys are sketched: block means, then an SRHT. The sketches' products give, for each
 * layer, a block matrix A[i,j], an estimate of how much query block i attends to key block j. A
 * walk through these matrices, layer after layer, accumulates influence over several hops; each
 * query block attends to the key blocks with the best walk scores.
 *
 * Two published forms, by `variant`:
 *   arxiv  q and k averaged over heads; A = softmax of scaled products to the power s; R <- R·A,
 *   rows rescaled by their maximum.
 *   icml   softmax a head, averaged; X <- (1-b)·A + b·X·A, `degree` times a layer; X carries over
 *   to the next layer.
 * Decode works on one row: arxiv multiplies it through the cached matrices; icml restarts at each
 * layer from the pooled last queries. */
#include "core/methods/sketchwalk.h"

#include <math.h>
#include <stdlib.h>

extern const struct sw_method sw_method_sketchwalk;

static const struct sw_param params[] = {
    SKETCHWALK_SCORE_PARAMS("arxiv"),
    {.name = "walk",
     .type = SW_PARAM_CHOICE,
     .offset = SKETCHWALK_FIELD(walk),
     .initial = "on",
     .choices = "on|none",
     .help = "none: the sketch alone, which is the method onehop"},
    {.name = "degree",
     .type = SW_PARAM_INT,
     .offset = SKETCHWALK_FIELD(degree),
     .initial = "3",
     .min = 1,
     .max = 64,
     .help = "icml: walk steps a layer"},
    {.name = "damping",
     .type = SW_PARAM_REAL,
     .offset = SKETCHWALK_FIELD(damping),
     .initial = "0.25",
     .min = 0,
     .max = 1,
     .help = "icml: share of the step that follows the walk (beta); 0 is one-hop"},
    SW_PARAM_END,
};

/* --- sizes and checks ------------------------------------------------------------------------- */

enum sw_status sketchwalk_check(const void *params_, const struct sw_shape *shape,
                                enum sw_budget_mode mode)
{
    const struct sketchwalk_params *p = params_;
    (void)mode;
    if (p->per_head && p->per_group)
        return SW_FAIL(SW_EINPUT, "per_head and per_group are both true; expected at most one");
    if (p->logit_scale == 1 && p->sketch != SKETCH_HADAMARD)
        return SW_FAIL(SW_EINPUT, "logit_scale: r needs sketch: hadamard, found another sketch");
    if (shape->n_heads % shape->n_kv_heads != 0)
        return SW_FAIL(SW_EINPUT, "%d heads are no multiple of %d KV heads", shape->n_heads,
                       shape->n_kv_heads);
    return SW_OK;
}

bool sketchwalk_uses_density(const void *params_, enum sw_budget_mode mode)
{
    const struct sketchwalk_params *p = params_;
    /* icml's native rule is quantile + sink + window */
    return mode != SW_BUDGET_NATIVE || p->variant == SKETCHWALK_ARXIV;
}

enum sw_status sketchwalk_begin(struct sw_sequence *seq, bool walk)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    const struct sw_shape *shape = &seq->shape;
    s->walk = walk;
    /* rows of 16 bytes, for wide loads */
    s->cap = (sw_blocks(seq->max_tokens, p->common.block_size) + 3) / 4 * 4;
    s->units = p->per_head ? shape->n_heads : p->per_group ? shape->n_kv_heads : 1;
    if (p->variant == SKETCHWALK_ARXIV) {
        s->units_q = s->units;
        s->units_k = s->units == 1 ? 1 : shape->n_kv_heads;
    } else {
        s->units_q = shape->n_heads;
        s->units_k = shape->n_kv_heads;
    }
    int d = shape->head_dim, d_pow2 = sw_next_power_of_two(d);
    int r = p->sketch_dim ? p->sketch_dim : p->variant == SKETCHWALK_ARXIV ? 64 : 128;
    s->r = r < d_pow2 ? r : d_pow2;
    if (p->sketch == SKETCH_HADAMARD) {
        SW_TRY(sw_srht_make(seq->backend, d, s->r, seq->seed, &s->srht));
        s->transform = &s->srht;
    } else {
        s->r = d;
    }
    double root_r = sqrt((double)s->r), root_d = sqrt((double)d), root_pow2 = sqrt((double)d_pow2);
    if (p->variant == SKETCHWALK_ARXIV) {
        s->srht.scale = (float)(1.0 / root_r); /* sqrt(d'/r) · H/sqrt(d'): unbiased products */
        s->logit_scale = (float)(1.0 / (p->logit_scale == 1 ? root_r : root_d));
    } else {
        /* H is not normalised and the result is divided by sqrt(d'/r); logits are
         * <q,k>/sqrt(r)/temperature. At r = d' this is exactly sqrt(d')/temperature times the
         * product of the means, which the other sketches therefore use. */
        s->srht.scale = (float)(root_r / root_pow2);
        s->logit_scale =
            (float)((p->sketch == SKETCH_HADAMARD ? 1.0 / root_r : root_pow2) / p->temperature);
    }
    s->n_layers = shape->n_layers;
    s->layers = calloc((size_t)s->n_layers, sizeof *s->layers);
    if (!s->layers)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory",
                       (size_t)s->n_layers * sizeof *s->layers);
    return SW_OK;
}

static enum sw_status begin(struct sw_sequence *seq)
{
    return sketchwalk_begin(seq, ((const struct sketchwalk_params *)seq->params)->walk == 0);
}

void sketchwalk_end(struct sw_sequence *seq)
{
    struct sketchwalk_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    for (int l = 0; s->layers && l < s->n_layers; l++) {
        struct sketchwalk_layer *layer = &s->layers[l];
        struct sw_scratch *all[] = {&layer->k_sums, &layer->k_sketch, &layer->a, &layer->q_sketch,
                                    &layer->window};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            sw_scratch_free(be, all[i]);
    }
    free(s->layers);
    struct sw_scratch *all[] = {&s->q_sums, &s->q_sketch, &s->x[0], &s->x[1], &s->row, &s->mass};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sw_scratch_free(be, all[i]);
    sw_srht_free(be, &s->srht);
}

static size_t matrix_bytes(const struct sketchwalk_state *s, int units)
{
    return sizeof(float) * (size_t)units * (size_t)s->cap * (size_t)s->cap;
}

static size_t vector_bytes(int units, int rows, int width)
{
    return sizeof(float) * (size_t)units * (size_t)rows * (size_t)width;
}

/* --- sketches --------------------------------------------------------------------------------- */

/* What makes the sketches of some tokens: their block sums, then the transform of the blocks'
 * means. */
struct sketching {
    struct sw_pool pool;
    struct sw_sketch sketch;
};

/* Key sketches of tokens t0 … n-1, into the layer's cache: sums in token order, so that a prompt of
 * n + m tokens and a prompt of n followed by m decode steps have the same bits. */
static enum sw_status plan_keys(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                const struct sw_layer_input *in, int t0, struct sketching *out)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    const struct sw_shape *shape = &seq->shape;
    int block = p->common.block_size;
    size_t token =
        sw_dtype_size(seq->backend->act) * (size_t)shape->n_kv_heads * (size_t)shape->head_dim;
    SW_TRY(sw_scratch_reserve(seq->backend, &layer->k_sums,
                              vector_bytes(s->units_k, s->cap, shape->head_dim)));
    SW_TRY(
        sw_scratch_reserve(seq->backend, &layer->k_sketch, vector_bytes(s->units_k, s->cap, s->r)));
    out->pool = (struct sw_pool){.x = (const char *)in->k + (size_t)t0 * token,
                                 .heads = shape->n_kv_heads,
                                 .head_dim = shape->head_dim,
                                 .units = s->units_k,
                                 .block = block,
                                 .t0 = t0,
                                 .t1 = in->n,
                                 .ld = s->cap,
                                 .sums = layer->k_sums.data};
    out->sketch = (struct sw_sketch){.sums = layer->k_sums.data,
                                     .units = s->units_k,
                                     .ld = s->cap,
                                     .d = shape->head_dim,
                                     .block = block,
                                     .n = in->n,
                                     .i0 = t0 / block,
                                     .i1 = sw_blocks(in->n, block),
                                     .padded_tail = p->tail_mean == 1,
                                     .transform = s->transform,
                                     .out = layer->k_sketch.data};
    return SW_OK;
}

/* Sketches of groups of `block` queries, the first of them at place i0 of out [units_q, ld, r].
 * block 1: of single queries. */
static enum sw_status plan_queries(struct sw_sequence *seq, const void *q, int n_q, int block,
                                   int i0, int ld, float *to, struct sketching *out)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    const struct sw_shape *shape = &seq->shape;
    SW_TRY(sw_scratch_reserve(seq->backend, &s->q_sums,
                              vector_bytes(s->units_q, ld, shape->head_dim)));
    out->pool = (struct sw_pool){.x = q,
                                 .heads = shape->n_heads,
                                 .head_dim = shape->head_dim,
                                 .units = s->units_q,
                                 .block = block,
                                 .t0 = i0 * block,
                                 .t1 = i0 * block + n_q,
                                 .ld = ld,
                                 .sums = s->q_sums.data};
    out->sketch = (struct sw_sketch){.sums = s->q_sums.data,
                                     .units = s->units_q,
                                     .ld = ld,
                                     .d = shape->head_dim,
                                     .block = block,
                                     .n = i0 * block + n_q,
                                     .i0 = i0,
                                     .i1 = i0 + sw_blocks(n_q, block),
                                     .padded_tail = p->tail_mean == 1,
                                     .transform = s->transform,
                                     .out = to};
    return SW_OK;
}

static enum sw_status make_sketch(struct sw_backend *be, const struct sketching *a)
{
    SW_TRY(be->pool(be, &a->pool));
    return be->sketch(be, &a->sketch);
}

static enum sw_status sketch_keys(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                  const struct sw_layer_input *in, int t0)
{
    struct sketching keys;
    SW_TRY(plan_keys(seq, layer, in, t0, &keys));
    return make_sketch(seq->backend, &keys);
}

static enum sw_status sketch_queries(struct sw_sequence *seq, const void *q, int n_q, int block,
                                     int i0, int ld, float *out)
{
    struct sketching queries;
    SW_TRY(plan_queries(seq, q, n_q, block, i0, ld, out, &queries));
    return make_sketch(seq->backend, &queries);
}

/* Sketches of all queries and keys of a prompt, in one launch where the backend can. */
static enum sw_status sketch_prompt(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                    const struct sw_layer_input *in)
{
    struct sw_backend *be = seq->backend;
    struct sketchwalk_state *s = seq->state;
    struct sketching queries, keys;
    SW_TRY(sw_scratch_reserve(be, &s->q_sketch, vector_bytes(s->units_q, s->cap, s->r)));
    SW_TRY(plan_queries(seq, in->q, in->n, sw_sequence_block(seq), 0, s->cap, s->q_sketch.data,
                        &queries));
    SW_TRY(plan_keys(seq, layer, in, 0, &keys));
    if (be->pool_sketch) /* the longer one first */
        return be->pool_sketch(be, (struct sw_pool[]){queries.pool, keys.pool},
                               (struct sw_sketch[]){queries.sketch, keys.sketch}, 2);
    SW_TRY(make_sketch(be, &queries));
    return make_sketch(be, &keys);
}

/* --- block matrices --------------------------------------------------------------------------- */

/* Block matrices of all units from `first` on: a whole one, or row c of it and the rows below. */
static struct sw_unit_matrix rows_from(const struct sketchwalk_state *s, float *first)
{
    return (struct sw_unit_matrix){first, s->units, s->cap, s->cap};
}

/* One row a unit. */
static struct sw_unit_matrix single_rows(const struct sketchwalk_state *s, float *rows)
{
    return (struct sw_unit_matrix){rows, s->units, 1, s->cap};
}

/* Rows row0 … row0+rows-1 of the block matrix from query sketches q [units_q, q_ld, r]. */
static enum sw_status score_rows(struct sw_sequence *seq, const struct sketchwalk_layer *layer,
                                 const float *q, int q_ld, int row0, int rows, int b,
                                 bool pool_rows, struct sw_unit_matrix out)
{
    const struct sketchwalk_params *p = seq->params;
    const struct sketchwalk_state *s = seq->state;
    /* Sharpening is for the walk. Without one it changes no order, but powers of small shares
     * underflow to ties. */
    bool arxiv = p->variant == SKETCHWALK_ARXIV, sharpen = arxiv && (s->walk || p->normalize == 1);
    return seq->backend->block_scores(
        seq->backend, &(struct sw_block_scores){.q = q,
                                                .k = layer->k_sketch.data,
                                                .units_q = s->units_q,
                                                .units_k = s->units_k,
                                                .rows = rows,
                                                .row0 = row0,
                                                .b = b,
                                                .r = s->r,
                                                .q_ld = q_ld,
                                                .k_ld = s->cap,
                                                .scale = s->logit_scale,
                                                .exponent = sharpen ? (float)p->exponent : 1.0f,
                                                .softmax = !arxiv || p->normalize == 0,
                                                .causal = p->causal_blocks,
                                                .pool_rows = pool_rows,
                                                .out = out});
}

/* Ablation `sketch: tokens`: the true block mass instead of the sketched estimate. Sharpened on the
 * host: it is not a contender in time. */
static enum sw_status mass_rows(struct sw_sequence *seq, const struct sw_layer_input *in, int rows,
                                struct sw_unit_matrix out)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int heads = seq->shape.n_heads, b = sw_blocks(in->n, p->common.block_size);
    SW_TRY(sw_scratch_reserve(be, &s->mass, matrix_bytes(s, heads)));
    struct sw_unit_matrix mass = {s->mass.data, heads, s->cap, s->cap};
    SW_TRY(be->block_mass(be, &(struct sw_block_mass){.in = {.batch = 1,
                                                             .n_q = in->n_q,
                                                             .n_k = in->n,
                                                             .n_heads = heads,
                                                             .n_kv_heads = seq->shape.n_kv_heads,
                                                             .head_dim = seq->shape.head_dim,
                                                             .kv_stride = in->n,
                                                             .q = in->q,
                                                             .k = in->k,
                                                             .scale = seq->scale},
                                                      .block = p->common.block_size,
                                                      .out = mass}));
    SW_TRY(be->mean_units(
        be, &(struct sw_mean_units){.in = mass, .rows = rows, .cols = b, .out = out}));
    if (p->variant != SKETCHWALK_ARXIV || p->exponent == 1.0)
        return SW_OK;
    size_t row_bytes = sizeof(float) * (size_t)b;
    float *host = malloc(row_bytes);
    if (!host)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", row_bytes);
    enum sw_status st = SW_OK;
    for (int u = 0; u < s->units && st == SW_OK; u++)
        for (int i = 0; i < rows && st == SW_OK; i++) {
            float *row = sw_unit_row(&out, (size_t)u, (size_t)i);
            SW_TRY_GOTO(st, done, be->download(be, host, row, row_bytes));
            for (int j = 0; j < b; j++)
                host[j] = powf(host[j], (float)p->exponent);
            SW_TRY_GOTO(st, done, be->upload(be, row, host, row_bytes));
        }
done:
    free(host);
    return st;
}

/* --- selection -------------------------------------------------------------------------------- */

static int share_of(double share, int n)
{
    return (int)ceil(share * n - 1e-9);
} /* tokens u with u < share·n */

static int at_least_one(int x) { return x > 1 ? x : 1; }

static enum sw_status choose(struct sw_sequence *seq, const struct sw_layer_input *in,
                             struct sw_unit_matrix scores, struct sw_selection *out)
{
    const struct sketchwalk_params *p = seq->params;
    const struct sketchwalk_state *s = seq->state;
    if (seq->mode != SW_BUDGET_NATIVE)
        return sw_sequence_select(seq, in, scores, SW_FORCED_COMMON, out);
    if (p->variant == SKETCHWALK_ARXIV)
        return sw_sequence_select(seq, in, scores, SW_FORCED_DIAGONAL, out);
    int block = p->common.block_size, b = sw_blocks(in->n, block);
    bool decode = in->n_q < in->n;
    int row0 = decode ? b - 1 : 0, rows = b - row0;
    int window = at_least_one(share_of(p->window_share, in->n));
    int sink = p->sink_uses_window ? window : at_least_one(share_of(p->sink_share, in->n));
    SW_TRY(sw_selection_reserve(out, seq->backend, s->units, rows,
                                sw_selection_full_capacity(s->units, row0, rows), true));
    return seq->backend->select_quantile(
        seq->backend,
        &(struct sw_select_quantile){
            .scores = scores,
            .row0 = row0,
            .rows = rows,
            .sink_blocks = at_least_one(sw_blocks(share_of(p->sink_share, in->n), block)),
            .window_blocks = sw_blocks(window, block),
            .window = window,
            .sink = sink,
            .dense_from = decode ? b : b - p->dense_tail_blocks,
            .quantile = 1.0 - p->top_share,
            .block = block,
            .n = in->n,
            .n_q = in->n_q},
        out);
}

/* --- prefill ---------------------------------------------------------------------------------- */

/* One step of either walk over all rows; leaves the new state in x[at]. And the blocks that it
 * selects. */
static enum sw_status walk_prompt(struct sw_sequence *seq, const struct sketchwalk_layer *layer,
                                  const struct sw_layer_input *in, struct sw_selection *out)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    bool arxiv = p->variant == SKETCHWALK_ARXIV, first = in->layer == seq->dense_layers;
    int b = sw_blocks(in->n, p->common.block_size);
    struct sw_walk step = {.rows = b,
                           .row0 = 0,
                           .b = b,
                           .a = rows_from(s, layer->a.data),
                           .anchor = layer->a.data,
                           .causal = p->causal_blocks,
                           .scale_rows = arxiv,
                           .out = rows_from(s, NULL)};
    int steps = arxiv ? 1 : p->degree;
    SW_TRY(sw_scratch_reserve(be, &s->x[0], matrix_bytes(s, s->units)));
    SW_TRY(sw_scratch_reserve(be, &s->x[1], matrix_bytes(s, s->units)));
    for (int i = 0; i < steps; i++) {
        bool start = first && i == 0; /* the walk starts from this layer's own matrix */
        step.x = start ? layer->a.data : s->x[s->at].data;
        step.out.data = s->x[1 - s->at].data;
        /* arxiv: R = W at the first layer, then R·W */
        step.alpha = arxiv ? (start ? 1.0f : 0.0f) : (float)(1.0 - p->damping);
        step.beta = arxiv ? (start ? 0.0f : 1.0f) : (float)p->damping;
        if (arxiv)
            SW_TRY(sw_sequence_walk_select(
                seq, in, &step,
                seq->mode == SW_BUDGET_NATIVE ? SW_FORCED_DIAGONAL : SW_FORCED_COMMON, out));
        else
            SW_TRY(be->walk(be, &step));
        s->at = 1 - s->at;
    }
    return arxiv ? SW_OK : choose(seq, in, rows_from(s, s->x[s->at].data), out);
}

/* Remembers what decode needs of the prompt's queries: the last ones (icml), or all block sketches
 * (arxiv, non-causal). */
static enum sw_status remember_queries(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                       const struct sw_layer_input *in)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    if (p->sketch == SKETCH_TOKENS)
        return SW_OK;
    if (p->variant == SKETCHWALK_ICML) {
        int window = p->decode_query_window, kept = in->n < window ? in->n : window;
        size_t token =
            sw_dtype_size(be->act) * (size_t)seq->shape.n_heads * (size_t)seq->shape.head_dim;
        SW_TRY(sw_scratch_reserve(be, &layer->window, vector_bytes(s->units_q, window, s->r)));
        layer->window_fill = kept;
        layer->window_next = kept % window;
        return sketch_queries(seq, (const char *)in->q + (size_t)(in->n - kept) * token, kept, 1, 0,
                              window, layer->window.data);
    }
    if (!p->causal_blocks) {
        size_t bytes = vector_bytes(s->units_q, s->cap, s->r);
        SW_TRY(sw_scratch_reserve(be, &layer->q_sketch, bytes));
        return be->copy(be, layer->q_sketch.data, s->q_sketch.data, bytes);
    }
    return SW_OK;
}

enum sw_status sketchwalk_prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                                  struct sw_selection *out)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int block = p->common.block_size, b = sw_blocks(in->n, block);
    bool decode_follows = in->n < seq->max_tokens;
    struct sketchwalk_layer *layer = &s->layers[decode_follows ? in->layer : 0];

    SW_TRY(sw_scratch_reserve(be, &layer->a, matrix_bytes(s, s->units)));
    if (decode_follows)
        /* rows and columns of blocks to come */
        SW_TRY(be->zero(be, layer->a.data, matrix_bytes(s, s->units)));
    if (p->sketch == SKETCH_TOKENS) {
        SW_TRY(mass_rows(seq, in, b, rows_from(s, layer->a.data)));
    } else {
        SW_TRY(sketch_prompt(seq, layer, in));
        SW_TRY(score_rows(seq, layer, s->q_sketch.data, s->cap, 0, b, b, false,
                          rows_from(s, layer->a.data)));
    }
    if (decode_follows)
        SW_TRY(remember_queries(seq, layer, in));
    if (!out)
        return SW_OK; /* a dense prompt before sparse decode steps: no walk to take */
    if (!s->walk)
        return choose(seq, in, rows_from(s, layer->a.data), out);
    return walk_prompt(seq, layer, in, out);
}

/* --- decode ----------------------------------------------------------------------------------- */

/* arxiv: this query's row of W, then r <- r·W, from the first sparse layer's row up. Walk rows live
 * in row c of x. */
static enum sw_status decode_arxiv(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                   const struct sw_layer_input *in, struct sw_selection *out)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int b = sw_blocks(in->n, p->common.block_size), c = b - 1;
    size_t row_c = (size_t)c * (size_t)s->cap;
    float *a = layer->a.data;
    if (p->sketch == SKETCH_TOKENS) {
        SW_TRY(mass_rows(seq, in, 1, rows_from(s, a + row_c)));
    } else if (p->causal_blocks) {
        SW_TRY(sw_scratch_reserve(be, &s->q_sketch, vector_bytes(s->units_q, s->cap, s->r)));
        SW_TRY(sketch_queries(seq, in->q, 1, 1, 0, 1, s->q_sketch.data));
        SW_TRY(
            score_rows(seq, layer, s->q_sketch.data, 1, c, 1, b, false, rows_from(s, a + row_c)));
    } else {
        /* Every row's softmax sees the new key: the whole matrix again, from the cached query
         * sketches. */
        SW_TRY(sketch_queries(seq, in->q, 1, 1, c, s->cap, layer->q_sketch.data));
        SW_TRY(
            score_rows(seq, layer, layer->q_sketch.data, s->cap, 0, b, b, false, rows_from(s, a)));
    }
    if (!out)
        return SW_OK;
    if (!s->walk)
        return choose(seq, in, rows_from(s, a + row_c), out);
    SW_TRY(sw_scratch_reserve(be, &s->x[0], matrix_bytes(s, s->units)));
    SW_TRY(sw_scratch_reserve(be, &s->x[1], matrix_bytes(s, s->units)));
    bool first = in->layer == seq->dense_layers;
    SW_TRY(be->walk(be,
                    &(struct sw_walk){.rows = 1,
                                      .row0 = c,
                                      .b = b,
                                      .x = first ? a + row_c : (float *)s->x[s->at].data + row_c,
                                      .a = rows_from(s, a),
                                      .anchor = a + row_c,
                                      .alpha = first ? 1.0f : 0.0f,
                                      .beta = first ? 0.0f : 1.0f,
                                      .causal = p->causal_blocks,
                                      .scale_rows = true,
                                      .out = rows_from(s, (float *)s->x[1 - s->at].data + row_c)}));
    s->at = 1 - s->at;
    return choose(seq, in, rows_from(s, (float *)s->x[s->at].data + row_c), out);
}

/* icml: the last queries' scores, pooled, are this layer's own row; the cached matrix takes them
 * into its running averages; the walk starts from the row and carries nothing from the layer
 * below. */
static enum sw_status decode_icml(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                  const struct sw_layer_input *in, struct sw_selection *out)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int block = p->common.block_size, b = sw_blocks(in->n, block), c = b - 1;
    SW_TRY(sw_scratch_reserve(be, &s->row, vector_bytes(s->units, 1, s->cap)));
    if (p->sketch == SKETCH_TOKENS) {
        SW_TRY(mass_rows(seq, in, 1, single_rows(s, s->row.data)));
    } else {
        int window = p->decode_query_window;
        SW_TRY(sketch_queries(seq, in->q, 1, 1, layer->window_next, window, layer->window.data));
        layer->window_next = (layer->window_next + 1) % window;
        if (layer->window_fill < window)
            layer->window_fill++;
        SW_TRY(score_rows(seq, layer, layer->window.data, window, c, layer->window_fill, b, true,
                          single_rows(s, s->row.data)));
    }
    SW_TRY(be->running(be, &(struct sw_running){.c = c,
                                                .b = b,
                                                .weight = 1.0f / (float)(in->n - c * block),
                                                .causal = p->causal_blocks,
                                                .row = s->row.data,
                                                .row_ld = s->cap,
                                                .a = rows_from(s, layer->a.data)}));
    if (!out)
        return SW_OK;
    float *x = s->row.data;
    for (int i = 0; s->walk && i < p->degree; i++) {
        struct sw_scratch *next = &s->x[i % 2];
        SW_TRY(sw_scratch_reserve(be, next, vector_bytes(s->units, 1, s->cap)));
        SW_TRY(be->walk(be, &(struct sw_walk){.rows = 1,
                                              .row0 = c,
                                              .b = b,
                                              .x = x,
                                              .a = rows_from(s, layer->a.data),
                                              .anchor = s->row.data,
                                              .alpha = (float)(1.0 - p->damping),
                                              .beta = (float)p->damping,
                                              .causal = p->causal_blocks,
                                              .out = single_rows(s, next->data)}));
        x = next->data;
    }
    return choose(seq, in, single_rows(s, x), out);
}

/* The whole step as the backend's one operation, where it has it and this is the form that it
 * does. */
static enum sw_status decode_fused(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                   const struct sw_layer_input *in, struct sw_selection *out,
                                   bool *done)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    *done = false;
    if (!out || !be->walk_step || p->variant != SKETCHWALK_ARXIV || s->units != 1 ||
        !p->causal_blocks || !s->transform || p->normalize != 0)
        return SW_OK;
    struct sw_forced forced = seq->mode == SW_BUDGET_NATIVE ? SW_FORCED_DIAGONAL : SW_FORCED_COMMON;
    const int *budget;
    SW_TRY(sw_sequence_budget(seq, in, forced, &budget));
    SW_TRY(sw_scratch_reserve(be, &s->x[0], matrix_bytes(s, 1)));
    SW_TRY(sw_scratch_reserve(be, &s->x[1], matrix_bytes(s, 1)));
    int block = p->common.block_size;
    size_t row_c = (size_t)(sw_blocks(in->n, block) - 1) * (size_t)s->cap;
    bool first = !s->walk || in->layer == seq->dense_layers;
    enum sw_status st =
        be->walk_step(be,
                      &(struct sw_walk_step){
                          .batch = 1,
                          .q = in->q,
                          .k = sw_sequence_key(seq, in, in->n - 1),
                          .n_heads = seq->shape.n_heads,
                          .n_kv_heads = seq->shape.n_kv_heads,
                          .head_dim = seq->shape.head_dim,
                          .block = block,
                          .n = in->n,
                          .ld = s->cap,
                          .transform = s->transform,
                          .padded_tail = p->tail_mean == 1,
                          .scale = s->logit_scale,
                          .exponent = s->walk ? (float)p->exponent : 1.0f,
                          .k_sums = layer->k_sums.data,
                          .k_sketch = layer->k_sketch.data,
                          .a = layer->a.data,
                          .x = first ? NULL : (const float *)s->x[s->at].data + row_c,
                          .out = (float *)s->x[1 - s->at].data + row_c,
                          .kept = budget[0],
                          .forced = forced,
                      },
                      out);
    if (st == SW_EUNSUPPORTED) {
        sw_error_clear();
        return SW_OK;
    }
    *done = st == SW_OK;
    s->at = 1 - s->at;
    return st;
}

enum sw_status sketchwalk_decode(struct sw_sequence *seq, const struct sw_layer_input *in,
                                 struct sw_selection *out)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    struct sketchwalk_layer *layer = &s->layers[in->layer];
    if (!layer->a.data)
        return SW_FAIL(SW_EINTERNAL, "decode of layer %d before its prompt", in->layer);
    bool done;
    SW_TRY(decode_fused(seq, layer, in, out, &done));
    if (done)
        return SW_OK;
    if (p->sketch != SKETCH_TOKENS)
        SW_TRY(sketch_keys(seq, layer, in, in->n - 1));
    return p->variant == SKETCHWALK_ARXIV ? decode_arxiv(seq, layer, in, out)
                                          : decode_icml(seq, layer, in, out);
}

const struct sw_method sw_method_sketchwalk = {
    .name = "sketchwalk",
    .summary = "sketched block scores, accumulated by a walk over the layers",
    .source = "Le et al., arXiv 2602.07397 v1 (arxiv) and the code released with ICML 2026 (icml)",
    .flags = SW_METHOD_PREFILL | SW_METHOD_DECODE | SW_METHOD_NATIVE,
    .params_size = sizeof(struct sketchwalk_params),
    .params = params,
    .state_size = sizeof(struct sketchwalk_state),
    .check = sketchwalk_check,
    .uses_density = sketchwalk_uses_density,
    .begin = begin,
    .prefill = sketchwalk_prefill,
    .decode = sketchwalk_decode,
    .end = sketchwalk_end,
};
