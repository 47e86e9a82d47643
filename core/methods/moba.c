/* MoBA (Lu et al., arXiv 2502.13189) without its training: gates are queries times block means,
 * ranked before any softmax, so that no scale matters. form block: one list a query block and head,
 * by the mean of its queries, which is the mean of its tokens' gates. form token: each token has
 * its own blocks, kept as token masks; the current block is kept as far as it is causal, and
 * counts. Decode has one token: the forms differ in what the matched budget forces only.
 * Matched budget: form block has the forced set of every method, form token the current block alone
 * (forcing more is not its rule), and as many past blocks a token as the budget gives its row.
 * Native: top-k blocks, the current one among them. */
#include <stdlib.h>

#include "core/methods/shared/block_means.h"

extern const struct sw_method sw_method_moba;

enum { FORM_BLOCK, FORM_TOKEN };

struct moba_params {
    struct sw_method_params common;
    int form, topk;
};

struct moba_state {
    int cap; /* blocks that max_tokens can have */
    /* one a layer; without decode steps to come, all layers share the first */
    struct block_means *keys;
    struct block_means queries;     /* of the layer at hand: [H, b, d], or [H, 1, d] in decode */
    struct sw_scratch scores;       /* [H, rows, b or cap] */
    struct sw_scratch keep, tokens; /* form token: [H, b, b], and with their query bits */
};

static const struct sw_param params[] = {
    SW_METHOD_NATIVE_BLOCK(NULL, "published: 4096, more than the kernels here take"),
    {.name = "form",
     .type = SW_PARAM_CHOICE,
     .offset = offsetof(struct moba_params, form),
     .initial = "block",
     .choices = "block|token",
     .help =
         "one list a query block, by its mean query, or each token's own blocks as token masks"},
    {.name = "topk",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct moba_params, topk),
     .initial = "12",
     .published = "examples/llama.py",
     .min = 1,
     .max = 1 << 20,
     .help = "native budget: blocks a query keeps, the current one included"},
    SW_PARAM_END,
};

static struct sw_forced forced_of(const struct sw_sequence *seq)
{
    const struct moba_params *p = seq->params;
    return seq->mode == SW_BUDGET_MATCHED && p->form == FORM_BLOCK ? SW_FORCED_COMMON
                                                                   : SW_FORCED_DIAGONAL;
}

static enum sw_status begin(struct sw_sequence *seq)
{
    struct moba_state *s = seq->state;
    size_t heads = (size_t)seq->shape.n_heads;
    s->cap = sw_blocks(seq->max_tokens, sw_sequence_block(seq));
    s->keys = calloc((size_t)seq->shape.n_layers, sizeof *s->keys);
    if (!s->keys)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory",
                       (size_t)seq->shape.n_layers * sizeof *s->keys);
    /* A decode step's. */
    SW_TRY(sw_scratch_reserve(seq->backend, &s->queries.sums,
                              sizeof(float) * heads * (size_t)seq->shape.head_dim));
    SW_TRY(sw_scratch_reserve(seq->backend, &s->queries.means,
                              sizeof(float) * heads * (size_t)seq->shape.head_dim));
    return sw_scratch_reserve(seq->backend, &s->scores, sizeof(float) * heads * (size_t)s->cap);
}

/* Block form: the mean queries are rows, `block` tokens each (1: the token of a decode step is its
 * own mean). */
static enum sw_status choose_blocks(struct sw_sequence *seq, const struct sw_layer_input *in,
                                    const struct block_means *keys, int block, int row0, int rows,
                                    int ld, struct sw_selection *out)
{
    const struct moba_params *p = seq->params;
    struct moba_state *s = seq->state;
    int heads = seq->shape.n_heads;
    SW_TRY(block_means_add(seq, in->q, heads, block, 0, in->n_q, rows, &s->queries));
    SW_TRY(sw_scratch_reserve(seq->backend, &s->scores,
                              sizeof(float) * (size_t)heads * (size_t)rows * (size_t)ld));
    struct sw_unit_matrix scores = {s->scores.data, heads, rows, ld};
    SW_TRY(seq->backend->block_scores(seq->backend,
                                      &(struct sw_block_scores){.q = s->queries.means.data,
                                                                .k = keys->means.data,
                                                                .units_q = heads,
                                                                .units_k = seq->shape.n_kv_heads,
                                                                .rows = rows,
                                                                .row0 = row0,
                                                                .b = row0 + rows,
                                                                .r = seq->shape.head_dim,
                                                                .q_ld = rows,
                                                                .k_ld = s->cap,
                                                                .scale = 1.0f,
                                                                .exponent = 1.0f,
                                                                .causal = true,
                                                                .out = scores}));
    if (seq->mode == SW_BUDGET_MATCHED)
        return sw_sequence_select(seq, in, scores, forced_of(seq), out);
    return sw_sequence_select_count(seq, in, scores, p->topk, forced_of(seq), out);
}

/* Past blocks that each token of a row may keep: the matched budget's, or top-k less the current
 * block. Host memory of the caller. */
static enum sw_status token_budget(struct sw_sequence *seq, const struct sw_layer_input *in, int b,
                                   int *top)
{
    const struct moba_params *p = seq->params;
    const int *budget = NULL;
    if (seq->mode == SW_BUDGET_MATCHED)
        SW_TRY(sw_sequence_budget(seq, in, forced_of(seq), &budget));
    for (int i = 0; i < b; i++)
        top[i] = budget ? budget[i] : p->topk - 1;
    return SW_OK;
}

static enum sw_status choose_tokens(struct sw_sequence *seq, const struct sw_layer_input *in,
                                    const struct block_means *keys, const int *top,
                                    struct sw_selection *out)
{
    struct moba_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int block = sw_sequence_block(seq), b = sw_blocks(in->n, block), heads = seq->shape.n_heads;
    size_t cells = (size_t)heads * (size_t)b * (size_t)b;
    SW_TRY(sw_scratch_reserve(be, &s->keep, cells));
    SW_TRY(sw_scratch_reserve(be, &s->tokens,
                              cells * (size_t)sw_query_words(block) * sizeof(uint64_t)));
    SW_TRY(be->gate_top(be, &(struct sw_gate_top){.in = {.q = in->q,
                                                         .n = in->n,
                                                         .n_q = in->n_q,
                                                         .n_heads = heads,
                                                         .n_kv_heads = seq->shape.n_kv_heads,
                                                         .head_dim = seq->shape.head_dim,
                                                         .block = block,
                                                         .k_ld = s->cap,
                                                         .k = keys->means.data,
                                                         .scale = 1.0f},
                                                  .top = top,
                                                  .keep = {s->keep.data, heads, b, b},
                                                  .queries = s->tokens.data}));
    return be->select_keep(be,
                           &(struct sw_select_keep){.keep = {s->keep.data, heads, b, b},
                                                    .rows = b,
                                                    .queries = s->tokens.data,
                                                    .block = block,
                                                    .n = in->n,
                                                    .n_q = in->n_q},
                           out);
}

static enum sw_status prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                              struct sw_selection *out)
{
    const struct moba_params *p = seq->params;
    struct moba_state *s = seq->state;
    int block = p->common.block_size, b = sw_blocks(in->n, block);
    struct block_means *keys = &s->keys[seq->max_tokens > in->n ? in->layer : 0];
    SW_TRY(block_means_add(seq, in->k, seq->shape.n_kv_heads, block, 0, in->n, s->cap, keys));
    if (!out)
        return SW_OK;
    if (p->form == FORM_BLOCK)
        return choose_blocks(seq, in, keys, block, 0, b, b, out);
    int *top = malloc((size_t)b * sizeof *top);
    if (!top)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", (size_t)b * sizeof *top);
    enum sw_status st = token_budget(seq, in, b, top);
    if (st == SW_OK)
        st = choose_tokens(seq, in, keys, top, out);
    free(top);
    return st;
}

static enum sw_status decode(struct sw_sequence *seq, const struct sw_layer_input *in,
                             struct sw_selection *out)
{
    struct moba_state *s = seq->state;
    struct block_means *keys = &s->keys[in->layer];
    int block = sw_sequence_block(seq);
    if (!keys->means.data)
        return SW_FAIL(SW_EINTERNAL, "decode of layer %d before its prompt", in->layer);
    SW_TRY(block_means_add(seq, sw_sequence_key(seq, in, in->n - 1), seq->shape.n_kv_heads, block,
                           in->n - 1, in->n, s->cap, keys));
    return out ? choose_blocks(seq, in, keys, 1, sw_blocks(in->n, block) - 1, 1, s->cap, out)
               : SW_OK;
}

static void end(struct sw_sequence *seq)
{
    struct moba_state *s = seq->state;
    for (int l = 0; s->keys && l < seq->shape.n_layers; l++)
        block_means_free(seq->backend, &s->keys[l]);
    free(s->keys);
    block_means_free(seq->backend, &s->queries);
    sw_scratch_free(seq->backend, &s->scores);
    sw_scratch_free(seq->backend, &s->keep);
    sw_scratch_free(seq->backend, &s->tokens);
}

const struct sw_method sw_method_moba = {
    .name = "moba",
    .summary =
        "blocks by query times mean key, a block or a token at a time (MoBA without training)",
    .source = "Lu et al., arXiv 2502.13189; MoonshotAI/MoBA @ 61e456b",
    .flags = SW_METHOD_PREFILL | SW_METHOD_DECODE | SW_METHOD_NATIVE,
    .params_size = sizeof(struct moba_params),
    .params = params,
    .state_size = sizeof(struct moba_state),
    .uses_density = sw_density_if_matched,
    .begin = begin,
    .prefill = prefill,
    .decode = decode,
    .end = end,
};
