/* MInference 1.0 (Jiang et al., arXiv 2407.02490). Each head has one of three patterns:
 *   vertical-slash  the keys (columns) and the distances (slashes) to which the last queries attend
 *   most;
 *   block-sparse    a row's blocks with the largest product of mean query and mean key;
 *   A-shape         the first and the most recent tokens.
 * Native budgets: so many columns, slashes or blocks, times `scale`. Which head has which pattern
 * is searched for offline and read from a file; without one all heads have `pattern`. Columns and
 * slashes are cut out of blocks only with token_mask; else every block they touch is kept. What is
 * cut out of a vertical-slash head is the lines themselves (form: lines), or what the released
 * kernel reads, slashes as merged tiles (form: kernel). */
#include <math.h>
#include <stdlib.h>

#include "core/methods/shared/head_config.h"
#include "core/methods/shared/keep.h"
#include "core/methods/shared/slash_tiles.h"
#include "core/methods/shared/vertical_slash.h"

extern const struct sw_method sw_method_minference;

enum form { FORM_LINES, FORM_KERNEL };
enum { FIRST_COLUMNS = 30, FIRST_SLASHES = 100 }; /* always kept by vertical-slash */

struct minference_params {
    struct sw_method_params common;
    int pattern; /* enum sw_head_pattern */
    int vertical_size, slash_size, last_queries, init_tokens, local_tokens, top_blocks;
    bool token_mask;
    int form; /* enum form */
    double scale;
    char *head_config;
};

struct minference_state {
    struct sw_head_rule *heads; /* [n_layers, H] */
    int *columns, *slashes;     /* [H]: of the layer at hand, what mark_top keeps */
    struct sw_vertical_slash_state vertical_slash;
    struct block_means q, k;
    struct sw_scratch scores, keep; /* [H, b, b] fp32, uint8 */
    struct sw_scratch keys;         /* form: kernel: [H, b, b, ceil(B / 64)] uint64 */
};

#define FIELD(name) offsetof(struct minference_params, name)
static const struct sw_param params[] = {
    SW_METHOD_COMMON_PARAMS,
    {.name = "pattern",
     .type = SW_PARAM_CHOICE,
     .offset = FIELD(pattern),
     .initial = "vertical_slash",
     .choices = "vertical_slash|block_sparse|a_shape",
     .help = "of all heads, without head_config"},
    {.name = "vertical_size",
     .type = SW_PARAM_INT,
     .offset = FIELD(vertical_size),
     .initial = "512",
     .published = "its file for Llama-3.1-8B-Instruct",
     .min = 0,
     .max = 1 << 24,
     .help = "native, calibrated: columns of a vertical_slash head"},
    {.name = "slash_size",
     .type = SW_PARAM_INT,
     .offset = FIELD(slash_size),
     .initial = "2048",
     .published = "its file for Llama-3.1-8B-Instruct",
     .min = 0,
     .max = 1 << 24,
     .help = "native, calibrated: slashes of a vertical_slash head"},
    {.name = "last_queries",
     .type = SW_PARAM_INT,
     .offset = FIELD(last_queries),
     .initial = "64",
     .published = "minference_forward.py",
     .min = 1,
     .max = 1024,
     .help = "vertical_slash: queries whose attention is looked at"},
    {.name = "init_tokens",
     .type = SW_PARAM_INT,
     .offset = FIELD(init_tokens),
     .initial = "128",
     .published = "ops/streaming_kernel.py",
     .min = 0,
     .max = 1 << 24,
     .help = "native, calibrated: first tokens of an a_shape head"},
    {.name = "local_tokens",
     .type = SW_PARAM_INT,
     .offset = FIELD(local_tokens),
     .initial = "3968",
     .published = "ops/streaming_kernel.py",
     .min = 0,
     .max = 1 << 24,
     .help = "native, calibrated: most recent tokens of an a_shape head"},
    {.name = "top_blocks",
     .type = SW_PARAM_INT,
     .offset = FIELD(top_blocks),
     .initial = "100",
     .published = "minference_forward.py",
     .min = 0,
     .max = 1 << 24,
     .help = "native, calibrated: blocks a row of a block_sparse head"},
    {.name = "token_mask",
     .type = SW_PARAM_BOOL,
     .offset = FIELD(token_mask),
     .initial = "false",
     .native = "true",
     .published = "its kernels",
     .help = "native, calibrated: keep exactly the tokens of columns and slashes, not the blocks "
             "that they touch"},
    {.name = "form",
     .type = SW_PARAM_CHOICE,
     .offset = FIELD(form),
     .initial = "lines",
     .native = "kernel",
     .published = "csrc/vertical_slash_index.cu",
     .choices = "lines|kernel",
     .help =
         "native, calibrated: a vertical_slash head keeps the lines, or what the released kernel "
         "reads: slashes as tiles of 64 keys, merged, and columns"},
    {.name = "scale",
     .type = SW_PARAM_REAL,
     .offset = FIELD(scale),
     .initial = "1",
     .min = 0,
     .max = 64,
     .min_open = true,
     .help = "native, calibrated: factor on all these sizes"},
    {.name = "head_config",
     .type = SW_PARAM_TEXT,
     .offset = FIELD(head_config),
     .initial = "",
     .file = true,
     .help = "a JSON file with each head's pattern and sizes, as MInference ships them"},
    SW_PARAM_END,
};

static enum sw_status check(const void *params_, const struct sw_shape *shape,
                            enum sw_budget_mode mode)
{
    const struct minference_params *p = params_;
    (void)mode;
    return p->head_config ? sw_head_rules_read(p->head_config, shape, NULL) : SW_OK;
}

static enum sw_status begin(struct sw_sequence *seq)
{
    const struct minference_params *p = seq->params;
    struct minference_state *s = seq->state;
    size_t heads = (size_t)seq->shape.n_heads, count = (size_t)seq->shape.n_layers * heads;
    s->heads = malloc(count * sizeof *s->heads);
    s->columns = malloc(heads * sizeof *s->columns);
    s->slashes = malloc(heads * sizeof *s->slashes);
    if (!s->heads || !s->columns || !s->slashes)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", count * sizeof *s->heads);
    if (p->head_config)
        return sw_head_rules_read(p->head_config, &seq->shape, s->heads);
    bool a_shape = p->pattern == SW_HEAD_A_SHAPE;
    for (size_t i = 0; i < count; i++)
        s->heads[i] = (struct sw_head_rule){.pattern = (enum sw_head_pattern)p->pattern,
                                            .columns = a_shape ? p->init_tokens : p->vertical_size,
                                            .slashes = a_shape ? p->local_tokens : p->slash_size};
    return SW_OK;
}

/* --- runs of heads with one rule -------------------------------------------------------------- */

/* One past the last head that has head h's pattern, and for A-shape its sizes. */
static int run_end(const struct sw_head_rule *heads, int h, int n_heads)
{
    int end = h + 1;
    while (end < n_heads && heads[end].pattern == heads[h].pattern &&
           (heads[h].pattern != SW_HEAD_A_SHAPE ||
            (heads[end].columns == heads[h].columns && heads[end].slashes == heads[h].slashes)))
        end++;
    return end;
}

static bool any(const struct sw_head_rule *heads, int n_heads, enum sw_head_pattern pattern)
{
    for (int h = 0; h < n_heads; h++)
        if (heads[h].pattern == pattern)
            return true;
    return false;
}

static bool all_vertical_slash(const struct sw_head_rule *heads, int n_heads)
{
    return !any(heads, n_heads, SW_HEAD_A_SHAPE) && !any(heads, n_heads, SW_HEAD_BLOCK_SPARSE);
}

static int least(int a, int b) { return a < b ? a : b; }

/* Products of the block means, unscaled: they only rank. For all heads, whichever use them: they
 * cost little. */
static enum sw_status mean_scores(struct sw_sequence *seq, const struct sw_layer_input *in, int b)
{
    struct minference_state *s = seq->state;
    int block = sw_sequence_block(seq);
    SW_TRY(sw_prompt_means(seq, in->q, seq->shape.n_heads, in->n, block, &s->q));
    SW_TRY(sw_prompt_means(seq, in->k, seq->shape.n_kv_heads, in->n, block, &s->k));
    return sw_means_scores(seq, &s->q, &s->k, b, 1.0f, false, NULL, s->scores.data);
}

/* --- matched budget: scores ------------------------------------------------------------------- */

/* An A-shape head scores a block by its place, as a column that grows: the most recent are best. */
static enum sw_status recent_columns(struct sw_sequence *seq, int h0, int h1, int b)
{
    struct minference_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    float *ramp = malloc((size_t)b * sizeof *ramp);
    if (!ramp)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", (size_t)b * sizeof *ramp);
    for (int j = 0; j < b; j++)
        ramp[j] = (float)j;
    enum sw_status st = SW_OK;
    for (int h = h0; st == SW_OK && h < h1; h++)
        st = be->upload(be, (float *)s->vertical_slash.column_blocks.data + (size_t)h * (size_t)b,
                        ramp, (size_t)b * sizeof *ramp);
    free(ramp);
    SW_TRY(st);
    return be->zero(be, (float *)s->vertical_slash.slash_blocks.data + (size_t)h0 * (size_t)b,
                    (size_t)(h1 - h0) * (size_t)b * sizeof(float));
}

static enum sw_status matched(struct sw_sequence *seq, const struct sw_layer_input *in,
                              const struct sw_head_rule *heads, struct sw_selection *out)
{
    const struct minference_params *p = seq->params;
    struct minference_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int n_heads = seq->shape.n_heads, b = sw_blocks(in->n, p->common.block_size),
        last = least(p->last_queries, in->n);
    size_t row = sizeof(float) * (size_t)n_heads * (size_t)b;
    SW_TRY(sw_scratch_reserve(be, &s->scores, row * (size_t)b));
    if (any(heads, n_heads, SW_HEAD_BLOCK_SPARSE))
        SW_TRY(mean_scores(seq, in, b));
    if (any(heads, n_heads, SW_HEAD_VERTICAL_SLASH)) {
        SW_TRY(sw_vertical_slash_measure(seq, in, last, &s->vertical_slash));
        SW_TRY(sw_vertical_slash_pool_columns(seq, in->n, last, &s->vertical_slash));
        SW_TRY(
            sw_vertical_slash_pool_slashes(seq, in->n, last, SW_SLASHES_SPLIT, &s->vertical_slash));
    }
    SW_TRY(sw_scratch_reserve(be, &s->vertical_slash.column_blocks, row));
    SW_TRY(sw_scratch_reserve(be, &s->vertical_slash.slash_blocks, row));
    for (int h = 0, end; h < n_heads; h = end) {
        end = run_end(heads, h, n_heads);
        if (heads[h].pattern == SW_HEAD_A_SHAPE)
            SW_TRY(recent_columns(seq, h, end, b));
        if (heads[h].pattern != SW_HEAD_BLOCK_SPARSE)
            SW_TRY(
                sw_vertical_slash_block_scores(seq, &s->vertical_slash, h, end, b, s->scores.data));
    }
    return sw_sequence_select(seq, in, (struct sw_unit_matrix){s->scores.data, n_heads, b, b},
                              SW_FORCED_COMMON, out);
}

/* --- native budget: columns, slashes and blocks ----------------------------------------------- */

/* size · scale, rounded to nearest (halves up), at least `least_size` and at most n. */
static int scaled(int size, double scale, int least_size, int n)
{
    double x = floor(size * scale + 0.5);
    x = x > least_size ? x : least_size;
    return x < n ? (int)x : n;
}

/* Flags of heads h0 … h1-1, which have one pattern: columns and slashes are kept where they are
 * best, A-shape's from the first on, block-sparse heads have none. */
static enum sw_status mark_run(struct sw_sequence *seq, const struct sw_head_rule *heads, int h0,
                               int h1, int n)
{
    const struct minference_params *p = seq->params;
    struct minference_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    size_t at = (size_t)h0 * (size_t)n, count = (size_t)(h1 - h0) * (size_t)n;
    uint8_t *columns = (uint8_t *)s->vertical_slash.column_flags.data + at,
            *slashes = (uint8_t *)s->vertical_slash.slash_flags.data + at;
    if (heads[h0].pattern == SW_HEAD_BLOCK_SPARSE) {
        SW_TRY(be->zero(be, columns, count));
        return be->zero(be, slashes, count);
    }
    bool best = heads[h0].pattern == SW_HEAD_VERTICAL_SLASH;
    for (int h = h0; h < h1; h++) {
        s->columns[h] = scaled(heads[h].columns, p->scale, best ? FIRST_COLUMNS : 0, n);
        s->slashes[h] = scaled(heads[h].slashes, p->scale, best ? FIRST_SLASHES : 0, n);
    }
    SW_TRY(be->mark_top(
        be, &(struct sw_mark_top){.in = (const float *)s->vertical_slash.columns.data + at,
                                  .rows = h1 - h0,
                                  .n = n,
                                  .ld = n,
                                  .always = best ? least(FIRST_COLUMNS, n) : s->columns[h0],
                                  .k = s->columns + h0,
                                  .flags = columns}));
    return be->mark_top(
        be, &(struct sw_mark_top){.in = (const float *)s->vertical_slash.slashes.data + at,
                                  .rows = h1 - h0,
                                  .n = n,
                                  .ld = n,
                                  .always = best ? least(FIRST_SLASHES, n) : s->slashes[h0],
                                  .k = s->slashes + h0,
                                  .small_first = true,
                                  .flags = slashes});
}

/* What the released kernel reads for the vertical-slash heads, in the place of their lines: made on
 * the host, head by head. masks: into s->keys too, whose other heads have none. */
static enum sw_status read_by_kernel(struct sw_sequence *seq, const struct sw_head_rule *heads,
                                     int n, bool masks)
{
    struct minference_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int block = sw_sequence_block(seq), b = sw_blocks(n, block);
    size_t tokens = (size_t)n, blocks = (size_t)b * (size_t)b,
           words = masks ? blocks * (size_t)sw_query_words(block) : 0;
    uint8_t *flags = malloc(2 * tokens + blocks);
    uint64_t *keys = malloc((words ? words : 1) * sizeof *keys);
    enum sw_status st = flags && keys ? SW_OK
                                      : SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory",
                                                2 * tokens + blocks + words * sizeof *keys);
    uint8_t *columns = s->vertical_slash.column_flags.data,
            *slashes = s->vertical_slash.slash_flags.data;
    for (size_t h = 0; h < (size_t)seq->shape.n_heads && st == SW_OK; h++) {
        if (heads[h].pattern != SW_HEAD_VERTICAL_SLASH)
            continue;
        uint8_t *keep = flags + 2 * tokens;
        st = be->download(be, flags, columns + h * tokens, tokens);
        if (st == SW_OK)
            st = be->download(be, flags + tokens, slashes + h * tokens, tokens);
        if (st == SW_OK)
            st = sw_slash_tiles(flags, flags + tokens, n, block, keep, masks ? keys : NULL);
        if (st == SW_OK)
            st = be->upload(be, (uint8_t *)s->keep.data + h * blocks, keep, blocks);
        if (st == SW_OK && masks)
            st = be->upload(be, (uint64_t *)s->keys.data + h * words, keys, words * sizeof *keys);
        if (st == SW_OK)
            st = be->zero(be, columns + h * tokens, tokens);
        if (st == SW_OK)
            st = be->zero(be, slashes + h * tokens, tokens);
    }
    free(flags);
    free(keys);
    return st;
}

/* Every column, for heads whose blocks are kept whole beside others' token masks. */
static enum sw_status mark_all_columns(struct sw_sequence *seq, int h0, int h1, int n)
{
    struct minference_state *s = seq->state;
    size_t at = (size_t)h0 * (size_t)n;
    for (int h = h0; h < h1; h++)
        s->columns[h] = n;
    return seq->backend->mark_top(
        seq->backend,
        &(struct sw_mark_top){.in = (const float *)s->vertical_slash.columns.data + at,
                              .rows = h1 - h0,
                              .n = n,
                              .ld = n,
                              .always = n,
                              .k = s->columns + h0,
                              .flags = (uint8_t *)s->vertical_slash.column_flags.data + at});
}

/* A row's best blocks, of the heads that have these. masks: of all their keys. */
static enum sw_status keep_best_blocks(struct sw_sequence *seq, const struct sw_layer_input *in,
                                       const struct sw_head_rule *heads, bool masks)
{
    const struct minference_params *p = seq->params;
    struct minference_state *s = seq->state;
    int n_heads = seq->shape.n_heads, b = sw_blocks(in->n, p->common.block_size);
    SW_TRY(sw_scratch_reserve(seq->backend, &s->scores,
                              sizeof(float) * (size_t)n_heads * (size_t)b * (size_t)b));
    SW_TRY(mean_scores(seq, in, b));
    for (int h = 0, end; h < n_heads; h = end) {
        end = run_end(heads, h, n_heads);
        if (heads[h].pattern != SW_HEAD_BLOCK_SPARSE)
            continue;
        SW_TRY(sw_keep_top(seq, s->scores.data, h, end, b, scaled(p->top_blocks, p->scale, 0, b),
                           s->keep.data));
        if (masks)
            SW_TRY(mark_all_columns(seq, h, end, in->n));
    }
    return SW_OK;
}

static enum sw_status native(struct sw_sequence *seq, const struct sw_layer_input *in,
                             const struct sw_head_rule *heads, struct sw_selection *out)
{
    const struct minference_params *p = seq->params;
    struct minference_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int n_heads = seq->shape.n_heads, n = in->n, b = sw_blocks(n, p->common.block_size);
    size_t tokens = (size_t)n_heads * (size_t)n, entries = (size_t)n_heads * (size_t)b * (size_t)b;
    struct sw_vertical_slash_state *vs = &s->vertical_slash;
    bool masks = p->token_mask && (any(heads, n_heads, SW_HEAD_VERTICAL_SLASH) ||
                                   any(heads, n_heads, SW_HEAD_A_SHAPE));
    bool by_kernel = p->form == FORM_KERNEL && any(heads, n_heads, SW_HEAD_VERTICAL_SLASH);
    if (any(heads, n_heads, SW_HEAD_VERTICAL_SLASH))
        SW_TRY(sw_vertical_slash_measure(seq, in, least(p->last_queries, n), vs));
    SW_TRY(sw_scratch_reserve(be, &vs->columns, tokens * sizeof(float)));
    SW_TRY(sw_scratch_reserve(be, &vs->slashes, tokens * sizeof(float)));
    SW_TRY(sw_scratch_reserve(be, &vs->column_flags, tokens));
    SW_TRY(sw_scratch_reserve(be, &vs->slash_flags, tokens));
    SW_TRY(sw_scratch_reserve(be, &s->keep, entries));
    for (int h = 0; h < n_heads; h = run_end(heads, h, n_heads))
        SW_TRY(mark_run(seq, heads, h, run_end(heads, h, n_heads), n));
    SW_TRY(be->keep_vertical_slash(
        be, &(struct sw_keep_vertical_slash){.columns = vs->column_flags.data,
                                             .slashes = vs->slash_flags.data,
                                             .rows = b,
                                             .n = n,
                                             .block = p->common.block_size,
                                             .grain = 1,
                                             .ld_in = n,
                                             .clear = true,
                                             .keep = {s->keep.data, n_heads, b, b}}));
    bool keys = masks && by_kernel;
    size_t key_bytes = keys ? entries * (size_t)sw_query_words(p->common.block_size) * 8 : 0;
    if (keys) {
        SW_TRY(sw_scratch_reserve(be, &s->keys, key_bytes));
        SW_TRY(be->zero(be, s->keys.data, key_bytes));
    }
    if (by_kernel)
        SW_TRY(read_by_kernel(seq, heads, n, masks));
    if (any(heads, n_heads, SW_HEAD_BLOCK_SPARSE))
        SW_TRY(keep_best_blocks(seq, in, heads, masks));
    bool lines = masks && !(by_kernel && all_vertical_slash(heads, n_heads));
    return be->select_keep(be,
                           &(struct sw_select_keep){.keep = {s->keep.data, n_heads, b, b},
                                                    .rows = b,
                                                    .columns = lines ? vs->column_flags.data : NULL,
                                                    .slashes = lines ? vs->slash_flags.data : NULL,
                                                    .mask_ld = n,
                                                    .keys = keys ? s->keys.data : NULL,
                                                    .block = p->common.block_size,
                                                    .n = n,
                                                    .n_q = n},
                           out);
}

static enum sw_status prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                              struct sw_selection *out)
{
    const struct minference_state *s = seq->state;
    const struct sw_head_rule *heads = s->heads + (size_t)in->layer * (size_t)seq->shape.n_heads;
    if (!out)
        return SW_OK;
    return seq->mode == SW_BUDGET_MATCHED ? matched(seq, in, heads, out)
                                          : native(seq, in, heads, out);
}

static void end(struct sw_sequence *seq)
{
    struct minference_state *s = seq->state;
    sw_vertical_slash_free(seq->backend, &s->vertical_slash);
    block_means_free(seq->backend, &s->q);
    block_means_free(seq->backend, &s->k);
    sw_scratch_free(seq->backend, &s->scores);
    sw_scratch_free(seq->backend, &s->keep);
    sw_scratch_free(seq->backend, &s->keys);
    free(s->heads);
    free(s->columns);
    free(s->slashes);
}

const struct sw_method sw_method_minference = {
    .name = "minference",
    .summary = "a pattern a head: columns and slashes of the last queries, or blocks by mean "
               "products, or first and recent tokens",
    .source = "Jiang et al., arXiv 2407.02490; microsoft/MInference @ fb56c91",
    .flags = SW_METHOD_PREFILL | SW_METHOD_NATIVE,
    .params_size = sizeof(struct minference_params),
    .params = params,
    .state_size = sizeof(struct minference_state),
    .threshold = "scale",
    .check = check,
    .uses_density = sw_density_unless_native,
    .begin = begin,
    .prefill = prefill,
    .end = end,
};
