/* Quest (Tang et al., ICML 2024, arXiv 2406.10774): in decode, pages of keys are ranked by the
 * largest logit that their elementwise minimum and maximum allow. A page is a block. Prompts are
 * dense and only fill the extremes, which each decoded token then extends.
 * Matched budget: the ranking alone, with the forced set of every method. Native: the token
 * budget's pages, the current one among them. */
#include <stdlib.h>

#include "core/method.h"
#include "core/scratch.h"

extern const struct sw_method sw_method_quest;

enum { AGG_HEAD, AGG_GROUP_SUM };

struct quest_params {
    struct sw_method_params common;
    int agg, token_budget;
};

struct quest_layer {
    struct sw_scratch low, high; /* [Hkv, cap, d] */
};

struct quest_state {
    int cap; /* blocks that max_tokens can have */
    struct quest_layer *layers;
    struct sw_scratch scores; /* [units, cap] */
};

static const struct sw_param params[] = {
    SW_METHOD_NATIVE_BLOCK("16", "evaluation/quest_attention.py"),
    {.name = "agg",
     .type = SW_PARAM_CHOICE,
     .offset = offsetof(struct quest_params, agg),
     .initial = "head",
     .choices = "head|group_sum",
     .help = "one list a query head, or one a KV group by the sum of its heads' bounds"},
    {.name = "token_budget",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct quest_params, token_budget),
     .initial = "1024",
     .min = 1,
     .max = 1 << 24,
     .help = "native budget: tokens kept, rounded down to pages (at least one), the current page's "
             "among them"},
    SW_PARAM_END,
};

static enum sw_status begin(struct sw_sequence *seq)
{
    struct quest_state *s = seq->state;
    s->cap = sw_blocks(seq->max_tokens, sw_sequence_block(seq));
    s->layers = calloc((size_t)seq->shape.n_layers, sizeof *s->layers);
    if (!s->layers)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory",
                       (size_t)seq->shape.n_layers * sizeof *s->layers);
    return sw_scratch_reserve(seq->backend, &s->scores,
                              sizeof(float) * (size_t)seq->shape.n_heads * (size_t)s->cap);
}

/* Takes in the keys of tokens t0 … n-1. */
static enum sw_status add_keys(struct sw_sequence *seq, const struct sw_layer_input *in, int t0)
{
    struct quest_state *s = seq->state;
    const struct sw_shape *shape = &seq->shape;
    struct quest_layer *layer = &s->layers[in->layer];
    return seq->backend->extremes(seq->backend,
                                  &(struct sw_extremes){.x = sw_sequence_key(seq, in, t0),
                                                        .heads = shape->n_kv_heads,
                                                        .head_dim = shape->head_dim,
                                                        .block = sw_sequence_block(seq),
                                                        .t0 = t0,
                                                        .t1 = in->n,
                                                        .ld = s->cap,
                                                        .low = layer->low.data,
                                                        .high = layer->high.data});
}

static enum sw_status prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                              struct sw_selection *out)
{
    struct quest_state *s = seq->state;
    struct quest_layer *layer = &s->layers[in->layer];
    size_t bytes = sizeof(float) * (size_t)seq->shape.n_kv_heads * (size_t)s->cap *
                   (size_t)seq->shape.head_dim;
    if (out)
        return SW_FAIL(SW_EINTERNAL, "quest selects in decode only");
    SW_TRY(sw_scratch_reserve(seq->backend, &layer->low, bytes));
    SW_TRY(sw_scratch_reserve(seq->backend, &layer->high, bytes));
    return add_keys(seq, in, 0);
}

static enum sw_status decode(struct sw_sequence *seq, const struct sw_layer_input *in,
                             struct sw_selection *out)
{
    const struct quest_params *p = seq->params;
    struct quest_state *s = seq->state;
    const struct quest_layer *layer = &s->layers[in->layer];
    int block = p->common.block_size,
        units = p->agg == AGG_HEAD ? seq->shape.n_heads : seq->shape.n_kv_heads;
    if (!layer->low.data)
        return SW_FAIL(SW_EINTERNAL, "decode of layer %d before its prompt", in->layer);
    SW_TRY(add_keys(seq, in, in->n - 1));
    if (!out)
        return SW_OK;
    struct sw_unit_matrix scores = {s->scores.data, units, 1, s->cap};
    SW_TRY(seq->backend->bound_scores(seq->backend,
                                      &(struct sw_bound_scores){.q = in->q,
                                                                .n_heads = seq->shape.n_heads,
                                                                .n_kv_heads = seq->shape.n_kv_heads,
                                                                .head_dim = seq->shape.head_dim,
                                                                .b = sw_blocks(in->n, block),
                                                                .ld_in = s->cap,
                                                                .low = layer->low.data,
                                                                .high = layer->high.data,
                                                                .out = scores}));
    if (seq->mode == SW_BUDGET_MATCHED)
        return sw_sequence_select(seq, in, scores, SW_FORCED_COMMON, out);
    int pages = p->token_budget / block > 1 ? p->token_budget / block : 1;
    return sw_sequence_select_count(seq, in, scores, pages, SW_FORCED_DIAGONAL, out);
}

static void end(struct sw_sequence *seq)
{
    struct quest_state *s = seq->state;
    for (int l = 0; s->layers && l < seq->shape.n_layers; l++) {
        sw_scratch_free(seq->backend, &s->layers[l].low);
        sw_scratch_free(seq->backend, &s->layers[l].high);
    }
    free(s->layers);
    sw_scratch_free(seq->backend, &s->scores);
}

const struct sw_method sw_method_quest = {
    .name = "quest",
    .summary = "in decode, pages by an upper bound of their logits",
    .source = "Tang et al., arXiv 2406.10774; mit-han-lab/Quest @ 01c1623, kernel path",
    .flags = SW_METHOD_DECODE | SW_METHOD_NATIVE,
    .params_size = sizeof(struct quest_params),
    .params = params,
    .state_size = sizeof(struct quest_state),
    .uses_density = sw_density_if_matched,
    .begin = begin,
    .prefill = prefill,
    .decode = decode,
    .end = end,
};
