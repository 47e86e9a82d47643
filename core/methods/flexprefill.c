/* FlexPrefill (Lai et al., arXiv 2502.20766). Each head of each layer is one of two kinds, by how
 * far the block distribution that the means of the last queries and of the keys predict is from the
 * true one of the last queries (Jensen-Shannon distance below tau: query-aware):
 *   query-aware     the best entries of softmax(mean query · mean key), all rows together, while
 *   their sum is <= gamma of the total;
 *   vertical-slash  as many columns and slashes as hold gamma of the last queries' attention, in
 *   whole blocks.
 * Decode is dense. */
#include <math.h>
#include <stdlib.h>

#include "core/methods/shared/keep.h"
#include "core/methods/shared/vertical_slash.h"

extern const struct sw_method sw_method_flexprefill;

struct flexprefill_params {
    struct sw_method_params common;
    double gamma, tau;
    int min_budget, max_budget;
    bool straddle;
    int slash_blocks;
};
enum { SLASH_BLOCKS_DIAGONAL, SLASH_BLOCKS_END };

struct flexprefill_state {
    struct sw_vertical_slash_state vertical_slash;
    /* last: the mean of the last block_size queries, [H, 1, d] */
    struct block_means q, k, last;
    struct sw_scratch estimate, scores, keep; /* [H, b]; [H, b, b] fp32, uint8 */
    bool *query_aware;                        /* [H]: of the layer at hand */
    int *columns, *slashes;                   /* [H]: blocks kept */
    double *limits;                           /* [H] */
};

#define FIELD(name) offsetof(struct flexprefill_params, name)
#define FLEX_CODE   "flex_prefill/ops/flex_prefill_attention.py"
static const struct sw_param params[] = {
    SW_METHOD_NATIVE_BLOCK("128", FLEX_CODE),
    {.name = "gamma",
     .type = SW_PARAM_REAL,
     .offset = FIELD(gamma),
     .initial = "0.9",
     .published = "README of FlexPrefill",
     .min = 0,
     .max = 1,
     .help = "native, calibrated: the share of attention that is kept"},
    {.name = "tau",
     .type = SW_PARAM_REAL,
     .offset = FIELD(tau),
     .initial = "0.1",
     .published = "README of FlexPrefill",
     .min = 0,
     .max = 1,
     .help = "heads whose predicted distribution is nearer than this are query-aware"},
    {.name = "min_budget",
     .type = SW_PARAM_INT,
     .offset = FIELD(min_budget),
     .initial = "512",
     .published = "README of FlexPrefill",
     .min = 0,
     .max = 1 << 24,
     .help = "native, calibrated: least tokens in columns, and in slashes"},
    {.name = "max_budget",
     .type = SW_PARAM_INT,
     .offset = FIELD(max_budget),
     .initial = "0",
     .min = 0,
     .max = 1 << 24,
     .help = "native, calibrated: most of them; 0: no limit"},
    {.name = "straddle",
     .type = SW_PARAM_BOOL,
     .offset = FIELD(straddle),
     .initial = "false",
     .help = "a kept block of slashes keeps the next block distance too, into which most of its "
             "slashes reach"},
    {.name = "slash_blocks",
     .type = SW_PARAM_CHOICE,
     .offset = FIELD(slash_blocks),
     .initial = "diagonal",
     .native = "end",
     .published = FLEX_CODE,
     .choices = "diagonal|end",
     .help =
         "native, calibrated: blocks of slashes are counted from the diagonal, or, as released, "
         "from the farthest one back, so that they are off by what the last block lacks"},
    SW_PARAM_END,
};

static enum sw_status check(const void *params_, const struct sw_shape *shape,
                            enum sw_budget_mode mode)
{
    const struct flexprefill_params *p = params_;
    (void)shape;
    (void)mode;
    if (p->max_budget > 0 && p->max_budget < p->min_budget)
        return SW_FAIL(SW_EINPUT, "max_budget: found %d, expected 0 or at least min_budget %d",
                       p->max_budget, p->min_budget);
    return SW_OK;
}

static enum sw_status begin(struct sw_sequence *seq)
{
    struct flexprefill_state *s = seq->state;
    size_t heads = (size_t)seq->shape.n_heads;
    s->query_aware = malloc(heads * sizeof *s->query_aware);
    s->columns = malloc(heads * sizeof *s->columns);
    s->slashes = malloc(heads * sizeof *s->slashes);
    s->limits = malloc(heads * sizeof *s->limits);
    if (!s->query_aware || !s->columns || !s->slashes || !s->limits)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", heads * sizeof *s->limits);
    return SW_OK;
}

static int least(int a, int b) { return a < b ? a : b; }

/* --- which kind each head is ------------------------------------------------------------------ */

/* Square root of the Jensen-Shannon divergence, natural logarithm: 0 … 0.833. 0·log 0 is 0. */
static double distance(const float *p, const float *q, int b)
{
    double sum = 0;
    for (int j = 0; j < b; j++) {
        double x = (double)p[j], y = (double)q[j], middle = (x + y) / 2;
        sum += (x > 0 ? x * log(x / middle) : 0) + (y > 0 ? y * log(y / middle) : 0);
    }
    return sqrt(sum > 0 ? sum / 2 : 0);
}

/* Downloads two vectors of b shares a head. */
static enum sw_status decide(struct sw_sequence *seq, int b)
{
    const struct flexprefill_params *p = seq->params;
    struct flexprefill_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    size_t count = (size_t)seq->shape.n_heads * (size_t)b;
    float *shares = malloc(2 * count * sizeof *shares);
    if (!shares)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", 2 * count * sizeof *shares);
    enum sw_status st = be->download(be, shares, s->estimate.data, count * sizeof *shares);
    if (st == SW_OK)
        st = be->download(be, shares + count, s->vertical_slash.column_blocks.data,
                          count * sizeof *shares);
    for (int h = 0; st == SW_OK && h < seq->shape.n_heads; h++)
        s->query_aware[h] = distance(shares + (size_t)h * (size_t)b,
                                     shares + count + (size_t)h * (size_t)b, b) < p->tau;
    free(shares);
    return st;
}

/* Block means, the last queries' columns and slashes over blocks, and the kinds. `last` queries are
 * looked at. */
static enum sw_status measure(struct sw_sequence *seq, const struct sw_layer_input *in, int last,
                              int b)
{
    struct flexprefill_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    const struct sw_shape *shape = &seq->shape;
    int block = sw_sequence_block(seq), d = shape->head_dim;
    const char *q_last = (const char *)in->q + sw_dtype_size(be->act) * (size_t)(in->n - last) *
                                                   (size_t)shape->n_heads * (size_t)d;
    SW_TRY(sw_vertical_slash_measure(seq, in, last, &s->vertical_slash));
    SW_TRY(sw_vertical_slash_pool_columns(seq, in->n, last, &s->vertical_slash));
    SW_TRY(sw_prompt_means(seq, in->k, shape->n_kv_heads, in->n, block, &s->k));
    SW_TRY(sw_prompt_means(seq, q_last, shape->n_heads, last, block, &s->last));
    SW_TRY(
        sw_scratch_reserve(be, &s->estimate, sizeof(float) * (size_t)shape->n_heads * (size_t)b));
    SW_TRY(be->block_scores(
        be, &(struct sw_block_scores){.q = s->last.means.data,
                                      .k = s->k.means.data,
                                      .units_q = shape->n_heads,
                                      .units_k = shape->n_kv_heads,
                                      .rows = 1,
                                      .row0 = b - 1,
                                      .b = b,
                                      .r = d,
                                      .q_ld = 1,
                                      .k_ld = b,
                                      .scale = seq->scale,
                                      .exponent = 1.0f,
                                      .softmax = true,
                                      .causal = true,
                                      .out = {s->estimate.data, shape->n_heads, 1, b}}));
    return decide(seq, b);
}

static bool any(const struct sw_sequence *seq, bool query_aware)
{
    const struct flexprefill_state *s = seq->state;
    for (int h = 0; h < seq->shape.n_heads; h++)
        if (s->query_aware[h] == query_aware)
            return true;
    return false;
}

/* Softmax over j <= i of the means' logits, for all heads. */
static enum sw_status query_aware_scores(struct sw_sequence *seq, const struct sw_layer_input *in,
                                         int b)
{
    struct flexprefill_state *s = seq->state;
    SW_TRY(sw_prompt_means(seq, in->q, seq->shape.n_heads, in->n, sw_sequence_block(seq), &s->q));
    return sw_means_scores(seq, &s->q, &s->k, b, seq->scale, true, NULL, s->scores.data);
}

/* --- matched budget --------------------------------------------------------------------------- */

static enum sw_status matched(struct sw_sequence *seq, const struct sw_layer_input *in, int last,
                              int b, struct sw_selection *out)
{
    struct flexprefill_state *s = seq->state;
    int heads = seq->shape.n_heads;
    if (any(seq, true))
        SW_TRY(query_aware_scores(seq, in, b));
    if (any(seq, false))
        SW_TRY(
            sw_vertical_slash_pool_slashes(seq, in->n, last, SW_SLASHES_SPLIT, &s->vertical_slash));
    for (int h = 0, end; h < heads; h = end) {
        for (end = h + 1; end < heads && s->query_aware[end] == s->query_aware[h];)
            end++;
        if (!s->query_aware[h])
            SW_TRY(
                sw_vertical_slash_block_scores(seq, &s->vertical_slash, h, end, b, s->scores.data));
    }
    return sw_sequence_select(seq, in, (struct sw_unit_matrix){s->scores.data, heads, b, b},
                              SW_FORCED_COMMON, out);
}

/* --- native budget ---------------------------------------------------------------------------- */

/* Blocks of columns, or of slashes, a head: as many as the tokens that hold gamma would fill,
 * within the limits; query-aware heads the minimum. */
static enum sw_status count_blocks(struct sw_sequence *seq, const struct sw_scratch *sums, int n,
                                   int last, int *counts)
{
    const struct flexprefill_params *p = seq->params;
    const struct flexprefill_state *s = seq->state;
    int block = p->common.block_size, b = sw_blocks(n, block);
    int low = least(sw_blocks(p->min_budget, block), b),
        high = p->max_budget > 0 ? least(sw_blocks(p->max_budget, block), b) : b;
    SW_TRY(
        seq->backend->count_mass(seq->backend, &(struct sw_count_mass){.in = sums->data,
                                                                       .rows = seq->shape.n_heads,
                                                                       .n = n,
                                                                       .ld = n,
                                                                       .limit = p->gamma * last,
                                                                       .counts = counts}));
    for (int h = 0; h < seq->shape.n_heads; h++) {
        /* the token that crosses gamma counts too */
        int wanted = s->query_aware[h] ? 0 : (counts[h] + 1) / block + 1;
        counts[h] = wanted < low ? low : least(wanted, high);
    }
    return SW_OK;
}

static enum sw_status mark_blocks(struct sw_sequence *seq, const struct sw_scratch *blocks, int b,
                                  const int *counts, bool small_first, struct sw_scratch *flags)
{
    struct sw_backend *be = seq->backend;
    SW_TRY(sw_scratch_reserve(be, flags, (size_t)seq->shape.n_heads * (size_t)b));
    return be->mark_top(be, &(struct sw_mark_top){.in = blocks->data,
                                                  .rows = seq->shape.n_heads,
                                                  .n = b,
                                                  .ld = b,
                                                  .always = 1,
                                                  .k = counts,
                                                  .small_first = small_first,
                                                  .flags = flags->data});
}

static enum sw_status native(struct sw_sequence *seq, const struct sw_layer_input *in, int last,
                             int b, struct sw_selection *out)
{
    const struct flexprefill_params *p = seq->params;
    struct flexprefill_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int heads = seq->shape.n_heads, n = in->n;
    struct sw_vertical_slash_state *vs = &s->vertical_slash;
    SW_TRY(sw_scratch_reserve(be, &s->keep, (size_t)heads * (size_t)b * (size_t)b));
    enum sw_slash_pooling how =
        p->slash_blocks == SLASH_BLOCKS_END ? SW_SLASHES_FROM_END : SW_SLASHES_WHOLE;
    SW_TRY(sw_vertical_slash_pool_slashes(seq, n, last, how, vs));
    SW_TRY(count_blocks(seq, &vs->columns, n, last, s->columns));
    SW_TRY(count_blocks(seq, &vs->slashes, n, last, s->slashes));
    SW_TRY(mark_blocks(seq, &vs->column_blocks, b, s->columns, false, &vs->column_flags));
    SW_TRY(mark_blocks(seq, &vs->slash_blocks, b, s->slashes, true, &vs->slash_flags));
    SW_TRY(be->keep_vertical_slash(
        be, &(struct sw_keep_vertical_slash){.columns = vs->column_flags.data,
                                             .slashes = vs->slash_flags.data,
                                             .rows = b,
                                             .n = n,
                                             .block = p->common.block_size,
                                             .grain = p->common.block_size,
                                             .ld_in = b,
                                             .straddle = p->straddle,
                                             .clear = true,
                                             .keep = {s->keep.data, heads, b, b}}));
    if (any(seq, true)) {
        SW_TRY(query_aware_scores(seq, in, b));
        for (int h = 0; h < heads; h++)
            s->limits[h] = s->query_aware[h] ? p->gamma : -1;
        SW_TRY(be->keep_mass(be, &(struct sw_keep_mass){.scores = {s->scores.data, heads, b, b},
                                                        .rows = b,
                                                        .rule = SW_MASS_UNIT,
                                                        .limit = s->limits,
                                                        .keep = s->keep.data}));
    }
    return sw_keep_select(seq, in, s->keep.data, false, out);
}

static enum sw_status prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                              struct sw_selection *out)
{
    const struct flexprefill_params *p = seq->params;
    struct flexprefill_state *s = seq->state;
    int block = p->common.block_size, b = sw_blocks(in->n, block), last = least(block, in->n);
    bool is_matched = seq->mode == SW_BUDGET_MATCHED;
    if (!out)
        return SW_OK;
    if (!is_matched && (in->n <= 2 * block || in->n <= p->min_budget))
        /* dense: the window is everything */
        return sw_sequence_select_forced(seq, in, seq->shape.n_heads,
                                         (struct sw_forced){.local = b}, out);
    SW_TRY(sw_scratch_reserve(seq->backend, &s->scores,
                              sizeof(float) * (size_t)seq->shape.n_heads * (size_t)b * (size_t)b));
    SW_TRY(measure(seq, in, last, b));
    return is_matched ? matched(seq, in, last, b, out) : native(seq, in, last, b, out);
}

static void end(struct sw_sequence *seq)
{
    struct flexprefill_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    sw_vertical_slash_free(be, &s->vertical_slash);
    block_means_free(be, &s->q);
    block_means_free(be, &s->k);
    block_means_free(be, &s->last);
    sw_scratch_free(be, &s->estimate);
    sw_scratch_free(be, &s->scores);
    sw_scratch_free(be, &s->keep);
    free(s->query_aware);
    free(s->columns);
    free(s->slashes);
    free(s->limits);
}

const struct sw_method sw_method_flexprefill = {
    .name = "flexprefill",
    .summary = "columns and slashes, or mean products, a head; native: as many as hold a share of "
               "attention",
    .source = "Lai et al., arXiv 2502.20766; ByteDance-Seed/FlexPrefill @ a24b27b",
    .flags = SW_METHOD_PREFILL | SW_METHOD_NATIVE,
    .params_size = sizeof(struct flexprefill_params),
    .params = params,
    .state_size = sizeof(struct flexprefill_state),
    .threshold = "gamma",
    .check = check,
    .uses_density = sw_density_unless_native,
    .begin = begin,
    .prefill = prefill,
    .end = end,
};
