/* NSA-like (Yuan et al., arXiv 2502.11089): a token's softmax over the blocks, with block means for
 * the learned compressor, summed over the tokens of a query block and the heads of a KV group,
 * which share a list. The softmax is over complete blocks, as in the public kernels; with
 * unfinished_block a query's own takes part, with the mean of all its tokens there are, in a prompt
 * later ones included.
 * Matched budget: the ranking alone, with the forced set of every method. Native: top_blocks a row,
 * the first and the latest among them. */
#include <stdlib.h>

#include "core/methods/shared/block_means.h"

extern const struct sw_method sw_method_nsa;

struct nsa_params {
    struct sw_method_params common;
    int top_blocks, init_blocks, local_blocks;
    bool unfinished_block;
};

struct nsa_state {
    int cap; /* blocks that max_tokens can have */
    /* one a layer; without decode steps to come, all layers share the first */
    struct block_means *keys;
    struct sw_scratch scores; /* [Hkv, rows, b or cap] */
};

static const struct sw_param params[] = {
    SW_METHOD_COMMON_PARAMS,
    {.name = "top_blocks",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct nsa_params, top_blocks),
     .initial = "16",
     .published = "arXiv 2502.11089",
     .min = 1,
     .max = 1 << 20,
     .help = "native budget: blocks a row in all"},
    {.name = "init_blocks",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct nsa_params, init_blocks),
     .initial = "1",
     .published = "arXiv 2502.11089",
     .min = 0,
     .max = 1 << 20,
     .help = "native budget: leading blocks always kept"},
    {.name = "local_blocks",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct nsa_params, local_blocks),
     .initial = "2",
     .published = "arXiv 2502.11089",
     .min = 1,
     .max = 1 << 20,
     .help = "native budget: latest blocks always kept, the current one included"},
    {.name = "unfinished_block",
     .type = SW_PARAM_BOOL,
     .offset = offsetof(struct nsa_params, unfinished_block),
     .initial = "false",
     .published = "public NSA kernels",
     .help = "a token's softmax is over its own block too, whose mean in a prompt sees later "
             "tokens; false: over the blocks that are complete"},
    SW_PARAM_END,
};

static enum sw_status check(const void *params_of, const struct sw_shape *shape,
                            enum sw_budget_mode mode)
{
    const struct nsa_params *p = params_of;
    (void)shape;
    if (mode != SW_BUDGET_MATCHED && p->top_blocks < p->init_blocks + p->local_blocks)
        return SW_FAIL(SW_EINPUT, "top_blocks %d; expected at least init_blocks + local_blocks, %d",
                       p->top_blocks, p->init_blocks + p->local_blocks);
    return SW_OK;
}

static enum sw_status begin(struct sw_sequence *seq)
{
    struct nsa_state *s = seq->state;
    s->cap = sw_blocks(seq->max_tokens, sw_sequence_block(seq));
    s->keys = calloc((size_t)seq->shape.n_layers, sizeof *s->keys);
    if (!s->keys)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory",
                       (size_t)seq->shape.n_layers * sizeof *s->keys);
    /* a decode step's */
    return sw_scratch_reserve(seq->backend, &s->scores,
                              sizeof(float) * (size_t)seq->shape.n_kv_heads * (size_t)s->cap);
}

static enum sw_status choose(struct sw_sequence *seq, const struct sw_layer_input *in,
                             const struct block_means *keys, int ld, int rows,
                             struct sw_selection *out)
{
    const struct nsa_params *p = seq->params;
    struct nsa_state *s = seq->state;
    int units = seq->shape.n_kv_heads;
    SW_TRY(sw_scratch_reserve(seq->backend, &s->scores,
                              sizeof(float) * (size_t)units * (size_t)rows * (size_t)ld));
    struct sw_unit_matrix scores = {s->scores.data, units, rows, ld};
    SW_TRY(seq->backend->gate_scores(
        seq->backend, &(struct sw_gate_scores){.in = {.q = in->q,
                                                      .n = in->n,
                                                      .n_q = in->n_q,
                                                      .n_heads = seq->shape.n_heads,
                                                      .n_kv_heads = units,
                                                      .head_dim = seq->shape.head_dim,
                                                      .block = p->common.block_size,
                                                      .k_ld = s->cap,
                                                      .k = keys->means.data,
                                                      .scale = seq->scale},
                                               .complete = !p->unfinished_block,
                                               .out = scores}));
    if (seq->mode == SW_BUDGET_MATCHED)
        return sw_sequence_select(seq, in, scores, SW_FORCED_COMMON, out);
    return sw_sequence_select_count(
        seq, in, scores, p->top_blocks,
        (struct sw_forced){.sink = p->init_blocks, .local = p->local_blocks}, out);
}

static enum sw_status prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                              struct sw_selection *out)
{
    struct nsa_state *s = seq->state;
    int block = sw_sequence_block(seq), b = sw_blocks(in->n, block);
    struct block_means *keys = &s->keys[seq->max_tokens > in->n ? in->layer : 0];
    SW_TRY(block_means_add(seq, in->k, seq->shape.n_kv_heads, block, 0, in->n, s->cap, keys));
    return out ? choose(seq, in, keys, b, b, out) : SW_OK;
}

static enum sw_status decode(struct sw_sequence *seq, const struct sw_layer_input *in,
                             struct sw_selection *out)
{
    struct nsa_state *s = seq->state;
    struct block_means *keys = &s->keys[in->layer];
    if (!keys->means.data)
        return SW_FAIL(SW_EINTERNAL, "decode of layer %d before its prompt", in->layer);
    SW_TRY(block_means_add(seq, sw_sequence_key(seq, in, in->n - 1), seq->shape.n_kv_heads,
                           sw_sequence_block(seq), in->n - 1, in->n, s->cap, keys));
    return out ? choose(seq, in, keys, s->cap, 1, out) : SW_OK;
}

static void end(struct sw_sequence *seq)
{
    struct nsa_state *s = seq->state;
    for (int l = 0; s->keys && l < seq->shape.n_layers; l++)
        block_means_free(seq->backend, &s->keys[l]);
    free(s->keys);
    sw_scratch_free(seq->backend, &s->scores);
}

const struct sw_method sw_method_nsa = {
    .name = "nsa",
    .summary = "blocks by the tokens' own softmax over block means, one list a KV group (NSA "
               "without training)",
    .source = "Yuan et al., arXiv 2502.11089, selection branch, means for the learned compressor",
    .flags = SW_METHOD_PREFILL | SW_METHOD_DECODE | SW_METHOD_NATIVE,
    .params_size = sizeof(struct nsa_params),
    .params = params,
    .state_size = sizeof(struct nsa_state),
    .check = check,
    .uses_density = sw_density_if_matched,
    .begin = begin,
    .prefill = prefill,
    .decode = decode,
    .end = end,
};
