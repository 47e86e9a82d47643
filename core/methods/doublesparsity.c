/* Double Sparsity (Yang et al., arXiv 2408.07092; andy-yang-1/DoubleSparse @ b0575e6): in decode,
 * single tokens by the product of query and key over few channels of a head, those in which
 * products are large, with 4 bits a key's channel. Prompts are dense; they fill the labels. The
 * channels are found as config/offline_calibration.py does for its qk_proj: the largest mean of
 * |q_t · k_t| over tokens, a token with itself. Published is one set a model, from 512-token pieces
 * of another text; here it is one a prompt, from its last tokens, and one a KV head, the mean over
 * its query heads, so that a label is kept once. The query stays exact, as in the paper (the
 * accuracy code, LongBench/modify_llama.py, also rounds it to 4 bits).
 * Native: the best tokens, the current one only if it is among them. Matched budget: blocks by
 * their best token, or by the mean of their tokens. */
#include <math.h>
#include <stdlib.h>

#include "core/methods/shared/token_top.h"

extern const struct sw_method sw_method_doublesparsity;

enum { AGG_MAX, AGG_MEAN };

struct doublesparsity_params {
    struct sw_method_params common;
    int agg, heavy_const, group_factor, calibration_tokens;
};

struct doublesparsity_layer {
    struct sw_scratch channels; /* [Hkv, count] */
    struct sw_scratch labels;
};

struct doublesparsity_state {
    struct doublesparsity_layer *layers;
    struct sw_token_top top;
};

static const struct sw_param params[] = {
    SW_METHOD_COMMON_PARAMS,
    {.name = "agg",
     .type = SW_PARAM_CHOICE,
     .offset = offsetof(struct doublesparsity_params, agg),
     .initial = "max",
     .choices = "max|mean",
     .help = "matched budget: a block's score is that of its best token, or the mean over its "
             "tokens"},
    {.name = "heavy_const",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct doublesparsity_params, heavy_const),
     .initial = "256",
     .published = "LongBench/modify_llama.py",
     .min = 1,
     .max = 1 << 24,
     .help = "native budget: tokens kept"},
    {.name = "group_factor",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct doublesparsity_params, group_factor),
     .initial = "8",
     .published = "LongBench/modify_llama.py",
     .min = 1,
     .max = 1 << 10,
     .help = "one channel of so many is looked at"},
    {.name = "calibration_tokens",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct doublesparsity_params, calibration_tokens),
     .initial = "512",
     .published = "config/offline_calibration.py",
     .min = 1,
     .max = 1 << 16,
     .help = "last tokens of the prompt that the channels are found on"},
    SW_PARAM_END,
};

static int channel_count(const struct sw_sequence *seq)
{
    const struct doublesparsity_params *p = seq->params;
    int count = seq->shape.head_dim / p->group_factor;
    return count > 1 ? count : 1;
}

static enum sw_status begin(struct sw_sequence *seq)
{
    struct doublesparsity_state *s = seq->state;
    size_t layers = (size_t)seq->shape.n_layers;
    s->layers = calloc(layers, sizeof *s->layers);
    if (!s->layers)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", layers * sizeof *s->layers);
    return sw_token_top_begin(seq, &s->top);
}

/* --- channels --------------------------------------------------------------------------------- */

/* Sums of |q·k|, [Hkv, d], of tokens whose queries [tokens, H, d] and keys [tokens, Hkv, d] are in
 * host memory. */
static void add_products(const struct sw_shape *shape, const float *q, const float *k, int tokens,
                         double *sums)
{
    int d = shape->head_dim, heads = shape->n_heads, group = heads / shape->n_kv_heads;
    for (int t = 0; t < tokens; t++)
        for (int h = 0; h < heads; h++) {
            const float *key = k + (size_t)(t * shape->n_kv_heads + h / group) * (size_t)d,
                        *query = q + (size_t)(t * heads + h) * (size_t)d;
            for (int c = 0; c < d; c++)
                sums[h / group * d + c] += fabs((double)query[c] * (double)key[c]);
        }
}

/* The `count` largest of d sums, largest first; taken ones become negative. Ties: the later. */
static void take_largest(double *sums, int d, int count, int32_t *channels)
{
    for (int i = 0; i < count; i++) {
        int best = 0;
        for (int c = 1; c < d; c++)
            best = sums[c] >= sums[best] ? c : best;
        channels[i] = best;
        sums[best] = -1;
    }
}

static enum sw_status find_channels(struct sw_sequence *seq, const struct sw_layer_input *in)
{
    const struct doublesparsity_params *p = seq->params;
    struct doublesparsity_state *s = seq->state;
    const struct sw_shape *shape = &seq->shape;
    struct sw_backend *be = seq->backend;
    int tokens = p->calibration_tokens < in->n ? p->calibration_tokens : in->n, t0 = in->n - tokens,
        count = channel_count(seq), d = shape->head_dim, kv_heads = shape->n_kv_heads;
    size_t q_token = (size_t)(shape->n_heads * d), k_token = (size_t)(kv_heads * d),
           floats = (size_t)tokens * (q_token + k_token);
    const char *queries = (const char *)in->q + (size_t)t0 * q_token * sw_dtype_size(be->act);
    float *q = malloc(floats * sizeof *q), *k = q + (size_t)tokens * q_token;
    double *sums = calloc(k_token, sizeof *sums);
    int32_t *channels = calloc(k_token, sizeof *channels);
    enum sw_status st = SW_OK;
    if (!q || !sums || !channels)
        st = SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", floats * sizeof *q);
    if (st == SW_OK)
        st = be->download_act(be, q, queries, (size_t)tokens * q_token);
    if (st == SW_OK)
        st = be->download_act(be, k, sw_sequence_key(seq, in, t0), (size_t)tokens * k_token);
    if (st == SW_OK) {
        add_products(shape, q, k, tokens, sums);
        for (int h = 0; h < kv_heads; h++)
            take_largest(sums + h * d, d, count, channels + h * count);
        st = be->upload(be, s->layers[in->layer].channels.data, channels,
                        sizeof *channels * (size_t)(kv_heads * count));
    }
    free(q);
    free(sums);
    free(channels);
    return st;
}

/* --- labels and lists ------------------------------------------------------------------------- */

static struct sw_token_codes labels_of(const struct sw_sequence *seq, int layer)
{
    const struct doublesparsity_state *s = seq->state;
    return (struct sw_token_codes){.kind = SW_CODES_MINMAX4,
                                   .heads = seq->shape.n_kv_heads,
                                   .head_dim = seq->shape.head_dim,
                                   .n_channels = channel_count(seq),
                                   .ld = seq->max_tokens,
                                   .channels = s->layers[layer].channels.data,
                                   .words = s->layers[layer].labels.data};
}

static enum sw_status add_keys(struct sw_sequence *seq, const struct sw_layer_input *in, int t0)
{
    return seq->backend->code_tokens(seq->backend,
                                     &(struct sw_code_tokens){.to = labels_of(seq, in->layer),
                                                              .x = sw_sequence_key(seq, in, t0),
                                                              .t0 = t0,
                                                              .t1 = in->n});
}

static enum sw_status prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                              struct sw_selection *out)
{
    struct doublesparsity_state *s = seq->state;
    struct doublesparsity_layer *layer = &s->layers[in->layer];
    struct sw_token_codes labels = labels_of(seq, in->layer);
    size_t heads = (size_t)labels.heads;
    if (out)
        return SW_FAIL(SW_EINTERNAL, "doublesparsity selects in decode only");
    SW_TRY(sw_scratch_reserve(seq->backend, &layer->channels,
                              sizeof(int32_t) * heads * (size_t)labels.n_channels));
    SW_TRY(sw_scratch_reserve(seq->backend, &layer->labels,
                              sizeof *labels.words * (size_t)sw_code_words(&labels) * heads *
                                  (size_t)labels.ld));
    SW_TRY(find_channels(seq, in));
    return add_keys(seq, in, 0);
}

static enum sw_status decode(struct sw_sequence *seq, const struct sw_layer_input *in,
                             struct sw_selection *out)
{
    const struct doublesparsity_params *p = seq->params;
    struct doublesparsity_state *s = seq->state;
    if (!s->layers[in->layer].labels.data)
        return SW_FAIL(SW_EINTERNAL, "decode of layer %d before its prompt", in->layer);
    SW_TRY(add_keys(seq, in, in->n - 1));
    if (!out)
        return SW_OK;
    SW_TRY(seq->backend->code_scores(
        seq->backend, &(struct sw_code_scores){.from = labels_of(seq, in->layer),
                                               .q = in->q,
                                               .n_heads = seq->shape.n_heads,
                                               .n = in->n,
                                               .scale = seq->scale,
                                               .out = sw_token_top_scores(seq, &s->top)}));
    if (seq->mode == SW_BUDGET_MATCHED)
        return sw_token_top_blocks(seq, in, &s->top, p->agg == AGG_MAX, out);
    return sw_token_top_tokens(seq, in, &s->top, p->heavy_const, out);
}

static void end(struct sw_sequence *seq)
{
    struct doublesparsity_state *s = seq->state;
    for (int l = 0; s->layers && l < seq->shape.n_layers; l++) {
        sw_scratch_free(seq->backend, &s->layers[l].channels);
        sw_scratch_free(seq->backend, &s->layers[l].labels);
    }
    free(s->layers);
    sw_token_top_end(seq, &s->top);
}

const struct sw_method sw_method_doublesparsity = {
    .name = "doublesparsity",
    .summary = "in decode, tokens by 4-bit labels of their keys' few largest channels",
    .source = "Yang et al., arXiv 2408.07092; andy-yang-1/DoubleSparse @ b0575e6, channels of the "
              "prompt",
    .flags = SW_METHOD_DECODE | SW_METHOD_NATIVE,
    .params_size = sizeof(struct doublesparsity_params),
    .params = params,
    .state_size = sizeof(struct doublesparsity_state),
    .uses_density = sw_density_if_matched,
    .begin = begin,
    .prefill = prefill,
    .decode = decode,
    .end = end,
};
