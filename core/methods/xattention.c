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
    int first_chunk;
};
enum { FIRST_CHUNK_INTENDED, FIRST_CHUNK_RELEASED };

struct xattention_state {
    struct sw_scratch scores, keep; /* [H, b, b] fp32, uint8 */
    double *limits;                 /* a share a layer and head */
};

static const struct sw_param params[] = {
    SW_METHOD_NATIVE_BLOCK("128", "xattn/src/Xattention.py"),
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
     .published = "xattn/src/Xattention.py, its estimator",
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
    {.name = "first_chunk",
     .type = SW_PARAM_CHOICE,
     .offset = offsetof(struct xattention_params, first_chunk),
     .initial = "intended",
     .native = "released",
     .published = "xattn/src/utils.py, find_blocks_chunked",
     .choices = "intended|released",
     .help = "native, calibrated: rows of the first chunk of queries force the first block, as all "
             "others do; released: they do not, and keep one block more"},
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

/* Query tokens that the released code takes at once: more would be too large a score matrix. */
static int chunk_tokens(int n)
{
    int64_t longest = 1;
    while (longest < n)
        longest *= 2;
    int64_t chunk = ((int64_t)1 << 28) / longest;
    if (chunk > longest)
        chunk = longest;
    return (int)(chunk > 2048 ? chunk : 2048);
}

/* Marks what rows `from` … `to` - 1 keep. */
static enum sw_status keep_rows(struct sw_sequence *seq, const struct sw_layer_input *in,
                                struct sw_unit_matrix scores, enum sw_mass_rule rule, int from,
                                int to)
{
    struct xattention_state *s = seq->state;
    if (from >= to)
        return SW_OK;
    size_t at = (size_t)from * (size_t)scores.ld;
    scores.data += at;
    struct sw_keep_mass rows = {.scores = scores,
                                .row0 = from,
                                .rows = to - from,
                                .rule = rule,
                                .limit = s->limits + (size_t)in->layer * (size_t)seq->shape.n_heads,
                                .keep = (uint8_t *)s->keep.data + at};
    return seq->backend->keep_mass(seq->backend, &rows);
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
    struct sw_attend attend = sw_sequence_attend(seq, in);
    SW_TRY(sw_scratch_reserve(be, &s->scores, entries * sizeof(float)));
    struct sw_unit_matrix scores = {s->scores.data, heads, b, b};
    SW_TRY(be->antidiagonal(
        be, &(struct sw_antidiagonal){
                .in = &attend, .stride = p->stride, .block = block, .out = scores}));
    if (seq->mode == SW_BUDGET_MATCHED)
        return sw_sequence_select(seq, in, scores, SW_FORCED_COMMON, out);
    SW_TRY(sw_scratch_reserve(be, &s->keep, entries));
    SW_TRY(be->zero(be, s->keep.data, entries));
    int late = p->first_chunk == FIRST_CHUNK_RELEASED ? sw_blocks(chunk_tokens(in->n), block) : 0;
    late = late < b ? late : b;
    SW_TRY(keep_rows(seq, in, scores, SW_MASS_REACH_LATE, 0, late));
    SW_TRY(keep_rows(seq, in, scores, SW_MASS_REACH, late, b));
    return sw_keep_select(seq, in, s->keep.data, false, out);
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
