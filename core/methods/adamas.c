/* Adamas (Yan et al., arXiv 2510.18413; FibonaccciYan/Adamas @ efb2a24): in decode, single tokens
 * by the distance of 2-bit codes. A head's query and keys go through a Walsh–Hadamard transform,
 * which spreads outliers over all coordinates, and each coordinate becomes one of four buckets: up
 * to -10, 0, 10, above. The closest keys are kept. Prompts are dense and only fill the codes.
 * Native: as the kernels do it: the budget's tokens, the current one among them. (The evaluation
 * code lets the current token compete, and adds 1e-6 to each difference, which breaks ties.)
 * Matched budget: blocks by their closest token, or by the mean of their tokens. */
#include <stdlib.h>

#include "core/methods/shared/token_top.h"

extern const struct sw_method sw_method_adamas;

enum { AGG_MAX, AGG_MEAN };

struct adamas_params {
    struct sw_method_params common;
    int agg, token_budget;
};

struct adamas_state {
    struct sw_scratch *codes; /* a layer's, of all its keys */
    struct sw_token_top top;
};

static const struct sw_param params[] = {
    SW_METHOD_COMMON_PARAMS,
    {.name = "agg",
     .type = SW_PARAM_CHOICE,
     .offset = offsetof(struct adamas_params, agg),
     .initial = "max",
     .choices = "max|mean",
     .help = "matched budget: a block's score is that of its closest token, or the mean over its "
             "tokens"},
    {.name = "token_budget",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct adamas_params, token_budget),
     .initial = "1024",
     .published = "evaluation/pg19/ppl_eval.py",
     .min = 1,
     .max = 1 << 24,
     .help = "native budget: tokens kept, the current one among them"},
    SW_PARAM_END,
};

static enum sw_status begin(struct sw_sequence *seq)
{
    struct adamas_state *s = seq->state;
    size_t layers = (size_t)seq->shape.n_layers;
    s->codes = calloc(layers, sizeof *s->codes);
    if (!s->codes)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", layers * sizeof *s->codes);
    return sw_token_top_begin(seq, &s->top);
}

static struct sw_token_codes codes_of(const struct sw_sequence *seq, int layer)
{
    const struct adamas_state *s = seq->state;
    return (struct sw_token_codes){.kind = SW_CODES_HADAMARD,
                                   .heads = seq->shape.n_kv_heads,
                                   .head_dim = seq->shape.head_dim,
                                   .n_channels = seq->shape.head_dim,
                                   .ld = seq->max_tokens,
                                   .words = s->codes[layer].data};
}

static enum sw_status add_keys(struct sw_sequence *seq, const struct sw_layer_input *in, int t0)
{
    return seq->backend->code_tokens(seq->backend,
                                     &(struct sw_code_tokens){.to = codes_of(seq, in->layer),
                                                              .x = sw_sequence_key(seq, in, t0),
                                                              .t0 = t0,
                                                              .t1 = in->n});
}

static enum sw_status prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                              struct sw_selection *out)
{
    struct adamas_state *s = seq->state;
    struct sw_token_codes codes = codes_of(seq, in->layer);
    if (out)
        return SW_FAIL(SW_EINTERNAL, "adamas selects in decode only");
    SW_TRY(sw_scratch_reserve(seq->backend, &s->codes[in->layer],
                              sizeof *codes.words * (size_t)sw_code_words(&codes) *
                                  (size_t)codes.heads * (size_t)codes.ld));
    return add_keys(seq, in, 0);
}

static enum sw_status decode(struct sw_sequence *seq, const struct sw_layer_input *in,
                             struct sw_selection *out)
{
    const struct adamas_params *p = seq->params;
    struct adamas_state *s = seq->state;
    bool matched = seq->mode == SW_BUDGET_MATCHED;
    if (!s->codes[in->layer].data)
        return SW_FAIL(SW_EINTERNAL, "decode of layer %d before its prompt", in->layer);
    SW_TRY(add_keys(seq, in, in->n - 1));
    if (!out)
        return SW_OK;
    SW_TRY(seq->backend->code_scores(
        seq->backend, &(struct sw_code_scores){.from = codes_of(seq, in->layer),
                                               .q = in->q,
                                               .n_heads = seq->shape.n_heads,
                                               .n = in->n,
                                               .last_is_best = !matched,
                                               .out = sw_token_top_scores(seq, &s->top)}));
    if (matched)
        return sw_token_top_blocks(seq, in, &s->top, p->agg == AGG_MAX, out);
    return sw_token_top_tokens(seq, in, &s->top, p->token_budget, out);
}

static void end(struct sw_sequence *seq)
{
    struct adamas_state *s = seq->state;
    for (int l = 0; s->codes && l < seq->shape.n_layers; l++)
        sw_scratch_free(seq->backend, &s->codes[l]);
    free(s->codes);
    sw_token_top_end(seq, &s->top);
}

const struct sw_method sw_method_adamas = {
    .name = "adamas",
    .summary = "in decode, tokens by the distance of 2-bit codes of their keys",
    .source = "Yan et al., arXiv 2510.18413; FibonaccciYan/Adamas @ efb2a24, kernel path",
    .flags = SW_METHOD_DECODE | SW_METHOD_NATIVE,
    .params_size = sizeof(struct adamas_params),
    .params = params,
    .state_size = sizeof(struct adamas_state),
    .uses_density = sw_density_if_matched,
    .begin = begin,
    .prefill = prefill,
    .decode = decode,
    .end = end,
};
