/* reuse: block scores of a layer, from the source that was asked for, merged over the heads of a
 * list. */
#include <stdlib.h>

#include "core/methods/reuse/state.h"

extern const struct sw_method sw_method_onehop;

/* --- source: sketch --------------------------------------------------------------------------- */

/* One-hop under the same budget. Where heads are merged by their mean, it is one-hop that does it;
 * else it gives each head's. */
static enum sw_status begin_onehop(struct sw_sequence *seq)
{
    const struct reuse_params *p = seq->params;
    struct reuse_state *s = seq->state;
    const struct sw_param *table = sw_method_onehop.params;
    SW_TRY(sw_param_defaults(table, &s->onehop_params));
    if (seq->mode == SW_BUDGET_NATIVE)
        SW_TRY(sw_param_native(table, &s->onehop_params));
    bool mean = s->rules.aggregate == AGGREGATE_MEAN;
    s->onehop_params.common.block_size = p->common.block_size;
    s->onehop_params.per_head = !mean || s->rules.share == SHARE_HEAD;
    s->onehop_params.per_group = mean && s->rules.share == SHARE_GROUP;
    return sw_sequence_begin(&s->onehop, &sw_method_onehop, &s->onehop_params, seq->backend,
                             &seq->shape, seq->max_tokens, seq->density, seq->mode, seq->seed,
                             seq->dense_layers);
}

/* --- source: quest ---------------------------------------------------------------------------- */

static enum sw_status add_pages(struct sw_sequence *seq, const struct sw_layer_input *in)
{
    struct reuse_state *s = seq->state;
    struct reuse_pages *pages = &s->layers[in->layer].pages;
    int t0 = in->n_q == in->n ? 0 : in->n - 1;
    size_t bytes = sizeof(float) * (size_t)seq->shape.n_kv_heads * (size_t)s->cap *
                   (size_t)seq->shape.head_dim;
    if (t0 > 0 && !pages->low.data)
        return SW_FAIL(SW_EINTERNAL, "decode of layer %d before its prompt", in->layer);
    SW_TRY(sw_scratch_reserve(seq->backend, &pages->low, bytes));
    SW_TRY(sw_scratch_reserve(seq->backend, &pages->high, bytes));
    return seq->backend->extremes(seq->backend,
                                  &(struct sw_extremes){.x = sw_sequence_key(seq, in, t0),
                                                        .heads = seq->shape.n_kv_heads,
                                                        .head_dim = seq->shape.head_dim,
                                                        .block = sw_sequence_block(seq),
                                                        .t0 = t0,
                                                        .t1 = in->n,
                                                        .ld = s->cap,
                                                        .low = pages->low.data,
                                                        .high = pages->high.data});
}

static enum sw_status bound_scores(struct sw_sequence *seq, const struct sw_layer_input *in,
                                   struct sw_unit_matrix out)
{
    struct reuse_state *s = seq->state;
    const struct reuse_pages *pages = &s->layers[in->layer].pages;
    if (in->n_q == in->n)
        return SW_FAIL(SW_EUNSUPPORTED, "source: quest ranks pages for one query: decode only");
    return seq->backend->bound_scores(
        seq->backend, &(struct sw_bound_scores){.q = in->q,
                                                .n_heads = seq->shape.n_heads,
                                                .n_kv_heads = seq->shape.n_kv_heads,
                                                .head_dim = seq->shape.head_dim,
                                                .b = sw_blocks(in->n, sw_sequence_block(seq)),
                                                .ld_in = s->cap,
                                                .low = pages->low.data,
                                                .high = pages->high.data,
                                                .out = out});
}

/* --- source: exact ---------------------------------------------------------------------------- */

static enum sw_status block_mass(struct sw_sequence *seq, const struct sw_layer_input *in,
                                 struct sw_unit_matrix out)
{
    return seq->backend->block_mass(seq->backend,
                                    &(struct sw_block_mass){.in = sw_sequence_attend(seq, in),
                                                            .block = sw_sequence_block(seq),
                                                            .out = out});
}

/* --- over heads, over layers ------------------------------------------------------------------ */

enum sw_status reuse_merge(struct sw_sequence *seq, struct sw_unit_matrix in, int row0, int rows,
                           int cols, bool causal, struct sw_unit_matrix out)
{
    const struct reuse_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    if (s->rules.aggregate == AGGREGATE_MEAN)
        return be->mean_units(
            be, &(struct sw_mean_units){.in = in, .rows = rows, .cols = cols, .out = out});
    return be->best_units(
        be, &(struct sw_best_units){.in = in,
                                    .rows = rows,
                                    .row0 = row0,
                                    .cols = cols,
                                    .by_rank = s->rules.aggregate == AGGREGATE_RANK_UNION,
                                    .causal = causal,
                                    .out = out});
}

/* mean <- mean + (scores - mean) / layers, in the order of the layers. */
static enum sw_status run_mean(struct sw_sequence *seq, const struct sw_layer_input *in, int rows,
                               int cols, struct sw_unit_matrix *scores)
{
    struct reuse_state *s = seq->state;
    size_t count = (size_t)scores->units * (size_t)scores->ld_rows * (size_t)scores->ld;
    if (in->layer == seq->dense_layers)
        s->meant = 0;
    SW_TRY(sw_scratch_reserve(seq->backend, &s->mean, count * sizeof(float)));
    float share = 1.0f / (float)++s->meant;
    struct sw_blend step = {.x = scores->data,
                            .y = s->mean.data,
                            .alpha = share,
                            .beta = 1.0f - share,
                            .rows = rows,
                            .cols = cols,
                            .out = *scores};
    step.out.data = s->mean.data;
    *scores = step.out;
    return seq->backend->blend(seq->backend, &step);
}

enum sw_status reuse_begin_scores(struct sw_sequence *seq)
{
    struct reuse_state *s = seq->state;
    size_t row = sizeof(float) * (size_t)s->cap; /* a decode step's, so that none allocates */
    SW_TRY(sw_scratch_reserve(seq->backend, &s->heads, row * (size_t)seq->shape.n_heads));
    SW_TRY(sw_scratch_reserve(seq->backend, &s->merged, row * (size_t)s->units));
    return s->rules.source == SOURCE_SKETCH ? begin_onehop(seq) : SW_OK;
}

enum sw_status reuse_scores(struct sw_sequence *seq, const struct sw_layer_input *in,
                            struct sw_unit_matrix *out)
{
    struct reuse_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int heads = seq->shape.n_heads, b = sw_blocks(in->n, sw_sequence_block(seq));
    bool prompt = in->n_q == in->n;
    int rows = prompt ? b : 1, row0 = b - rows;
    struct sw_unit_matrix scores = {.units = heads, .ld_rows = rows, .ld = prompt ? b : s->cap};
    if (s->rules.source == SOURCE_SKETCH) {
        SW_TRY(sketchwalk_icml_scores(s->onehop, in, &scores));
    } else {
        if (s->rules.source == SOURCE_QUEST)
            SW_TRY(add_pages(seq, in));
        if (!out)
            return SW_OK;
        SW_TRY(sw_scratch_reserve(
            be, &s->heads, sizeof(float) * (size_t)heads * (size_t)rows * (size_t)scores.ld));
        scores.data = s->heads.data;
        SW_TRY(s->rules.source == SOURCE_QUEST ? bound_scores(seq, in, scores)
                                               : block_mass(seq, in, scores));
    }
    if (!out)
        return SW_OK;
    if (scores.units != s->units) {
        struct sw_unit_matrix merged = {.units = s->units, .ld_rows = rows, .ld = scores.ld};
        SW_TRY(sw_scratch_reserve(
            be, &s->merged, sizeof(float) * (size_t)s->units * (size_t)rows * (size_t)scores.ld));
        merged.data = s->merged.data;
        SW_TRY(reuse_merge(seq, scores, row0, rows, b, true, merged));
        scores = merged;
    }
    if (s->rules.running)
        SW_TRY(run_mean(seq, in, rows, b, &scores));
    *out = scores;
    return SW_OK;
}
