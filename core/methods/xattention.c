/* XAttention (Xu et al., arXiv 2503.16428): scores along antidiagonals of stride × stride token
 * tiles, softmaxed over groups of `stride` keys and summed over blocks. Adaptive budgets: each row
 * keeps the first block, its own, and the best others until `threshold` of its score is reached. */
#include <stdlib.h>

#include "core/methods/shared/head_config.h"
#include "core/methods/shared/keep.h"
#include "core/scratch.h"

extern const struct sw_method sw_method_xattention;

struct xattention_params {
    struct sw_method_params common;
    int stride;
    double threshold;
    char *thresholds;
};

struct xattention_state {
    struct sw_scratch scores, keep; /* [H, b, b] fp32, uint8 */
    double *limits;                 /* a share a layer and head */
};

static const struct sw_param params[] = {
    SW_METHOD_COMMON_PARAMS,
    {.name = "stride",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct xattention_params, stride),
     .initial = "8",
     .min = 1,
     .max = 256,
     .help = "tokens a group; divides block_size"},
    {.name = "threshold",
     .type = SW_PARAM_REAL,
     .offset = offsetof(struct xattention_params, threshold),
     .initial = "0.9",
     .min = 0,
     .max = 1,
     .help = "native, calibrated: the share of a row's score that is kept"},
    {.name = "thresholds",
     .type = SW_PARAM_TEXT,
     .offset = offsetof(struct xattention_params, thresholds),
     .initial = "",
     .file = true,
     .help = "native: a JSON file, list of layers of lists of heads, with a share each in place of "
             "threshold"},
    SW_PARAM_END,
};

static enum sw_status check(const void *params_, const struct sw_shape *shape,
                            enum sw_budget_mode mode)
{
    const struct xattention_params *p = params_;
    if (p->common.block_size % p->stride != 0)
        return SW_FAIL(SW_EINPUT, "stride: found %d, expected a divisor of block_size %d",
                       p->stride, p->common.block_size);
    if (p->thresholds && mode == SW_BUDGET_CALIBRATED)
        return SW_FAIL(
            SW_EINPUT,
            "thresholds: found a table, expected none in calibrated budgets, which set threshold");
    return p->thresholds ? sw_head_shares_read(p->thresholds, shape, NULL) : SW_OK;
}

static enum sw_status begin(struct sw_sequence *seq)
{
    const struct xattention_params *p = seq->params;
    struct xattention_state *s = seq->state;
    size_t count = (size_t)seq->shape.n_layers * (size_t)seq->shape.n_heads;
    s->limits = malloc(count * sizeof *s->limits);
    if (!s->limits)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", count * sizeof *s->limits);
    for (size_t i = 0; i < count; i++)
        s->limits[i] = p->threshold;
    return p->thresholds ? sw_head_shares_read(p->thresholds, &seq->shape, s->limits) : SW_OK;
}

static enum sw_status prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                              struct sw_selection *out)
{
    const struct xattention_params *p = seq->params;
    struct xattention_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    if (!out)
        return SW_OK;
    int heads = seq->shape.n_heads, block = p->common.block_size, b = sw_blocks(in->n, block);
    size_t entries = (size_t)heads * (size_t)b * (size_t)b;
    struct sw_attend attend = {.batch = 1,
                               .n_q = in->n_q,
                               .n_k = in->n,
                               .n_heads = heads,
                               .n_kv_heads = seq->shape.n_kv_heads,
                               .head_dim = seq->shape.head_dim,
                               .kv_stride = in->n,
                               .q = in->q,
                               .k = in->k,
                               .scale = seq->scale};
    SW_TRY(sw_scratch_reserve(be, &s->scores, entries * sizeof(float)));
    struct sw_unit_matrix scores = {s->scores.data, heads, b, b};
    SW_TRY(be->antidiagonal(
        be, &(struct sw_antidiagonal){
                .in = &attend, .stride = p->stride, .block = block, .out = scores}));
    if (seq->mode == SW_BUDGET_MATCHED)
        return sw_sequence_select(seq, in, scores, SW_FORCED_COMMON, out);
    SW_TRY(sw_scratch_reserve(be, &s->keep, entries));
    SW_TRY(be->keep_mass(
        be, &(struct sw_keep_mass){.scores = scores,
                                   .rows = b,
                                   .rule = SW_MASS_REACH,
                                   .limit = s->limits + (size_t)in->layer * (size_t)heads,
                                   .clear = true,
                                   .keep = s->keep.data}));
    return sw_keep_select(seq, in, s->keep.data, out);
}

static void end(struct sw_sequence *seq)
{
    struct xattention_state *s = seq->state;
    sw_scratch_free(seq->backend, &s->scores);
    sw_scratch_free(seq->backend, &s->keep);
    free(s->limits);
}

const struct sw_method sw_method_xattention = {
    .name = "xattention",
    .summary = "scores along antidiagonals; native: blocks until a share of the score",
    .source = "Xu et al., arXiv 2503.16428; mit-han-lab/x-attention @ e379887",
    .flags = SW_METHOD_PREFILL | SW_METHOD_NATIVE,
    .params_size = sizeof(struct xattention_params),
    .params = params,
    .state_size = sizeof(struct xattention_state),
    .threshold = "threshold",
    .check = check,
    .uses_density = sw_density_unless_native,
    .begin = begin,
    .prefill = prefill,
    .end = end,
};
