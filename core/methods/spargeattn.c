/* SpargeAttn (Zhang et al., arXiv 2502.18137): softmax of the products of block means, which stand
 * only for blocks whose tokens are alike. Blocks that are not (mean cosine similarity at most
 * simthreshd1) are always computed: such key blocks are in every row, such query blocks have dense
 * rows. Native: the longest run of best blocks whose share is at most cdfthreshd, or a fixed share
 * `topk` of all blocks. The paper's second stage, skipping products with V inside the kernel,
 * selects nothing and is not here. */
#include <math.h>
#include <stdlib.h>

#include "core/methods/shared/keep.h"
#include "core/scratch.h"

extern const struct sw_method sw_method_spargeattn;

struct sparge_params {
    struct sw_method_params common;
    double simthreshd1, cdfthreshd, topk;
    bool smooth_k, sink;
    int diagonal;
};
enum { DIAGONAL_FORCED, DIAGONAL_FREE };

struct sparge_state {
    struct block_means q, k;
    /* [Hkv, d] x 2: mean key, and its sum; similarities [H or Hkv, b] */
    struct sw_scratch shift, similar;
    struct sw_scratch given; /* column_scores [Hkv, b] */
    /* uint8 [H, b]: key blocks always kept; dense rows */
    struct sw_scratch columns, rows;
    struct sw_scratch scores, keep; /* [H, b, b] fp32, uint8 */
    double *limits;                 /* [H] */
};

#define FIELD(name) offsetof(struct sparge_params, name)
static const struct sw_param params[] = {
    SW_METHOD_NATIVE_BLOCK(NULL, "published: 128 queries by 64 keys"),
    {.name = "simthreshd1",
     .type = SW_PARAM_REAL,
     .offset = FIELD(simthreshd1),
     .initial = "-0.1",
     .published = "README of SpargeAttn, its top-k interface",
     .min = -1,
     .max = 1,
     .help =
         "blocks whose tokens have at most this mean cosine are always computed; below 0: none is"},
    {.name = "cdfthreshd",
     .type = SW_PARAM_REAL,
     .offset = FIELD(cdfthreshd),
     .initial = "0",
     .min = 0,
     .max = 1,
     .help =
         "native, calibrated: most of a row's probability that is kept; native 0: topk decides"},
    {.name = "smooth_k",
     .type = SW_PARAM_BOOL,
     .offset = FIELD(smooth_k),
     .initial = "true",
     .help = "similarity of keys less the mean key"},
    {.name = "topk",
     .type = SW_PARAM_REAL,
     .offset = FIELD(topk),
     .initial = "0.5",
     .published = "README of SpargeAttn, its top-k interface",
     .min = 0,
     .max = 1,
     .help = "native, where cdfthreshd is 0: this share of all blocks a row"},
    {.name = "sink",
     .type = SW_PARAM_BOOL,
     .offset = FIELD(sink),
     .initial = "false",
     .help = "native, calibrated: every row keeps block 0"},
    {.name = "diagonal",
     .type = SW_PARAM_CHOICE,
     .offset = FIELD(diagonal),
     .initial = "forced",
     .native = "free",
     .published = "spas_sage_attn/utils.py",
     .choices = "forced|free",
     .help = "native, calibrated: every row keeps its own block, or, as published, only where the "
             "rule does"},
    SW_PARAM_END,
};

static enum sw_status check(const void *params_, const struct sw_shape *shape,
                            enum sw_budget_mode mode)
{
    const struct sparge_params *p = params_;
    (void)shape;
    if (p->topk == 0 && p->cdfthreshd == 0 && mode == SW_BUDGET_NATIVE)
        return SW_FAIL(SW_EINPUT,
                       "topk and cdfthreshd are both 0; expected a share in one of them");
    return SW_OK;
}

static enum sw_status begin(struct sw_sequence *seq)
{
    const struct sparge_params *p = seq->params;
    struct sparge_state *s = seq->state;
    size_t heads = (size_t)seq->shape.n_heads;
    s->limits = malloc(heads * sizeof *s->limits);
    if (!s->limits)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", heads * sizeof *s->limits);
    for (size_t h = 0; h < heads; h++)
        s->limits[h] = p->cdfthreshd;
    return SW_OK;
}

/* --- similarity ------------------------------------------------------------------------------- */

/* The mean key of each head from the block sums: their mean over blocks, times blocks / tokens. */
static enum sw_status mean_key(struct sw_sequence *seq, int n, int b, const float **out)
{
    struct sparge_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int heads = seq->shape.n_kv_heads, d = seq->shape.head_dim;
    size_t count = (size_t)heads * (size_t)d;
    SW_TRY(sw_scratch_reserve(be, &s->shift, 2 * count * sizeof(float)));
    float *mean = s->shift.data, *over_blocks = mean + count;
    SW_TRY(be->mean_units(be, &(struct sw_mean_units){.in = {s->k.sums.data, heads * b, 1, d},
                                                      .rows = 1,
                                                      .cols = d,
                                                      .out = {over_blocks, heads, 1, d}}));
    *out = mean;
    return be->pool_vertical_slash(be,
                                   &(struct sw_pool_vertical_slash){.in = over_blocks,
                                                                    .rows = heads,
                                                                    .n = d,
                                                                    .ld = d,
                                                                    .block = 1,
                                                                    .scale = (float)((double)b / n),
                                                                    .out = mean,
                                                                    .ld_out = d});
}

/* Similarities of x's blocks, one float a block on the host. malloc'ed. */
static enum sw_status similarities(struct sw_sequence *seq, const void *x, int heads, int n,
                                   const float *shift, float **out)
{
    struct sparge_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int block = sw_sequence_block(seq), b = sw_blocks(n, block);
    size_t bytes = sizeof(float) * (size_t)heads * (size_t)b;
    SW_TRY(sw_scratch_reserve(be, &s->similar, bytes));
    SW_TRY(be->similarity(be, &(struct sw_similarity){.x = x,
                                                      .heads = heads,
                                                      .head_dim = seq->shape.head_dim,
                                                      .n = n,
                                                      .block = block,
                                                      .shift = shift,
                                                      .out = s->similar.data,
                                                      .ld = b}));
    *out = malloc(bytes);
    if (!*out)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", bytes);
    enum sw_status st = be->download(be, *out, s->similar.data, bytes);
    if (st != SW_OK) {
        free(*out);
        *out = NULL;
    }
    return st;
}

static bool alike(const struct sparge_params *p, float similarity)
{
    return (double)similarity > p->simthreshd1; /* NaN is not */
}

static enum sw_status put(struct sw_backend *be, struct sw_scratch *to, const void *from,
                          size_t bytes)
{
    SW_TRY(sw_scratch_reserve(be, to, bytes));
    return be->upload(be, to->data, from, bytes);
}

/* From the keys' similarities: what the blocks that are not alike score, and which columns are
 * always kept. Matched budgets: such blocks come before all others (probabilities are at most 1),
 * the least alike first. Native: they take no part. */
static enum sw_status put_columns(struct sw_sequence *seq, const float *similar, int b)
{
    const struct sparge_params *p = seq->params;
    struct sparge_state *s = seq->state;
    int heads = seq->shape.n_heads, kv_heads = seq->shape.n_kv_heads;
    size_t count = (size_t)kv_heads * (size_t)b;
    float *given = malloc(count * sizeof *given);
    uint8_t *columns = calloc((size_t)heads * (size_t)b, 1);
    enum sw_status st = SW_OK;
    if (!given || !columns)
        st = SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory",
                     count * sizeof *given + (size_t)heads * (size_t)b);
    for (size_t i = 0; st == SW_OK && i < count; i++) {
        float first = 3.0f - (isnan(similar[i]) ? 0.0f : similar[i]);
        given[i] = alike(p, similar[i]) ? NAN : seq->mode == SW_BUDGET_MATCHED ? first : 0.0f;
    }
    for (int h = 0; st == SW_OK && h < heads; h++)
        for (int j = 0; j < b; j++)
            columns[(size_t)h * (size_t)b + (size_t)j] =
                !isnan(given[(size_t)(h / (heads / kv_heads)) * (size_t)b + (size_t)j]) ||
                (p->sink && j == 0);
    if (st == SW_OK)
        st = put(seq->backend, &s->given, given, count * sizeof *given);
    if (st == SW_OK)
        st = put(seq->backend, &s->columns, columns, (size_t)heads * (size_t)b);
    free(given);
    free(columns);
    return st;
}

static enum sw_status put_rows(struct sw_sequence *seq, const float *similar, int b)
{
    struct sparge_state *s = seq->state;
    size_t count = (size_t)seq->shape.n_heads * (size_t)b;
    uint8_t *rows = malloc(count);
    if (!rows)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", count);
    for (size_t i = 0; i < count; i++)
        rows[i] = !alike(seq->params, similar[i]);
    enum sw_status st = put(seq->backend, &s->rows, rows, count);
    free(rows);
    return st;
}

/* --- selection -------------------------------------------------------------------------------- */

static enum sw_status score(struct sw_sequence *seq, const struct sw_layer_input *in, int b)
{
    const struct sparge_params *p = seq->params;
    struct sparge_state *s = seq->state;
    int block = p->common.block_size;
    const float *shift = NULL;
    float *similar = NULL;
    SW_TRY(sw_prompt_means(seq, in->q, seq->shape.n_heads, in->n, block, &s->q));
    SW_TRY(sw_prompt_means(seq, in->k, seq->shape.n_kv_heads, in->n, block, &s->k));
    if (p->smooth_k)
        SW_TRY(mean_key(seq, in->n, b, &shift));
    SW_TRY(similarities(seq, in->k, seq->shape.n_kv_heads, in->n, shift, &similar));
    enum sw_status st = put_columns(seq, similar, b);
    free(similar);
    SW_TRY(st);
    SW_TRY(sw_scratch_reserve(seq->backend, &s->scores,
                              sizeof(float) * (size_t)seq->shape.n_heads * (size_t)b * (size_t)b));
    return sw_means_scores(seq, &s->q, &s->k, b, seq->scale, true, s->given.data, s->scores.data);
}

static enum sw_status native(struct sw_sequence *seq, const struct sw_layer_input *in, int b,
                             struct sw_selection *out)
{
    const struct sparge_params *p = seq->params;
    struct sparge_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int heads = seq->shape.n_heads;
    size_t entries = (size_t)heads * (size_t)b * (size_t)b;
    float *similar = NULL;
    SW_TRY(similarities(seq, in->q, heads, in->n, NULL, &similar));
    enum sw_status st = put_rows(seq, similar, b);
    free(similar);
    SW_TRY(st);
    SW_TRY(sw_scratch_reserve(be, &s->keep, entries));
    if (p->cdfthreshd == 0 && seq->mode != SW_BUDGET_CALIBRATED) {
        int count = (int)(p->topk * b);
        SW_TRY(be->zero(be, s->keep.data, entries));
        SW_TRY(sw_keep_top(seq, s->scores.data, 0, heads, b, count > 1 ? count : 1, s->keep.data));
    } else {
        SW_TRY(be->keep_mass(be, &(struct sw_keep_mass){.scores = {s->scores.data, heads, b, b},
                                                        .rows = b,
                                                        .rule = SW_MASS_WITHIN,
                                                        .limit = s->limits,
                                                        .clear = true,
                                                        .keep = s->keep.data}));
    }
    SW_TRY(be->keep_vertical_slash(
        be, &(struct sw_keep_vertical_slash){.columns = s->columns.data,
                                             .whole_rows = s->rows.data,
                                             .rows = b,
                                             .n = in->n,
                                             .block = p->common.block_size,
                                             .grain = p->common.block_size,
                                             .ld_in = b,
                                             .keep = {s->keep.data, heads, b, b}}));
    return sw_keep_select(seq, in, s->keep.data, p->diagonal == DIAGONAL_FREE, out);
}

static enum sw_status prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                              struct sw_selection *out)
{
    struct sparge_state *s = seq->state;
    int b = sw_blocks(in->n, sw_sequence_block(seq));
    if (!out)
        return SW_OK;
    SW_TRY(score(seq, in, b));
    if (seq->mode == SW_BUDGET_MATCHED)
        return sw_sequence_select(seq, in,
                                  (struct sw_unit_matrix){s->scores.data, seq->shape.n_heads, b, b},
                                  SW_FORCED_COMMON, out);
    return native(seq, in, b, out);
}

static void end(struct sw_sequence *seq)
{
    struct sparge_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    block_means_free(be, &s->q);
    block_means_free(be, &s->k);
    struct sw_scratch *all[] = {&s->shift, &s->similar, &s->given, &s->columns,
                                &s->rows,  &s->scores,  &s->keep};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sw_scratch_free(be, all[i]);
    free(s->limits);
}

const struct sw_method sw_method_spargeattn = {
    .name = "spargeattn",
    .summary = "softmax of mean products where a block's tokens are alike, all else kept",
    .source = "Zhang et al., arXiv 2502.18137; thu-ml/SpargeAttn @ bfd980b",
    .flags = SW_METHOD_PREFILL | SW_METHOD_NATIVE,
    .params_size = sizeof(struct sparge_params),
    .params = params,
    .state_size = sizeof(struct sparge_state),
    .threshold = "cdfthreshd",
    .check = check,
    .uses_density = sw_density_unless_native,
    .begin = begin,
    .prefill = prefill,
    .end = end,
};
