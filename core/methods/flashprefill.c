/* FlashPrefill (Fan et al., arXiv 2603.06199): a row of blocks is one softmax over its queries and
 * the mean keys of the blocks,
 *   p[i,j] = Σ_{t in block i} exp(q_t · k̄_j / √d - m), then divided by the row's sum,
 * m the row's largest logit; a query sees the blocks that end at or before it, as released. Native:
 * a row keeps the blocks with p of at least alpha times its largest, without sorting; beside them
 * the first blocks, the latest ones, and everything in the last rows. Decode is dense.
 *
 * The released kernel counts zeros for the queries that a short last block lacks; here they are not
 * there. Its last rows are dense, so that no list differs unless dense_rows is 0. Version 2
 * (qhfan/FlashPrefillv2 @ 0f8e791) has dense_rows 8; its correction, for which pruned blocks still
 * attend by their mean keys and values, is another attention and is left out. */
#include <stdlib.h>

#include "core/methods/shared/forced_lines.h"
#include "core/methods/shared/keep.h"

extern const struct sw_method sw_method_flashprefill;

struct flashprefill_params {
    struct sw_method_params common;
    double alpha;
    int sink_blocks, window_blocks, dense_rows;
};

struct flashprefill_state {
    struct block_means keys;
    struct sw_scratch scores, keep; /* [H, b, b] fp32, uint8 */
    struct forced_lines forced;
    double *limits; /* [H] */
};

#define FIELD(name)  offsetof(struct flashprefill_params, name)
#define FLASH_CODE   "ops/flashprefill_native_forward.py"
#define FLASH_CONFIG "patches/patch_loader_vllm_0_12_0.py"
static const struct sw_param params[] = {
    SW_METHOD_NATIVE_BLOCK("128", FLASH_CODE),
    {.name = "alpha",
     .type = SW_PARAM_REAL,
     .offset = FIELD(alpha),
     .initial = "0.18",
     .published = FLASH_CONFIG " for Llama; 0.08 for Qwen2, 0.12 for Qwen3-MoE",
     .min = 0,
     .max = 1,
     .help = "native, calibrated: the share of a row's largest score that a block needs"},
    {.name = "sink_blocks",
     .type = SW_PARAM_INT,
     .offset = FIELD(sink_blocks),
     .initial = "2",
     .published = FLASH_CONFIG,
     .min = 0,
     .max = 1 << 20,
     .help = "native, calibrated: leading blocks always kept"},
    {.name = "window_blocks",
     .type = SW_PARAM_INT,
     .offset = FIELD(window_blocks),
     .initial = "4",
     .published = FLASH_CONFIG,
     .min = 1,
     .max = 1 << 20,
     .help = "native, calibrated: latest blocks always kept, a row's own included"},
    {.name = "dense_rows",
     .type = SW_PARAM_INT,
     .offset = FIELD(dense_rows),
     .initial = "2",
     .published = FLASH_CONFIG "; version 2: 8",
     .min = 0,
     .max = 1 << 20,
     .help = "native, calibrated: last rows of blocks that keep everything"},
    SW_PARAM_END,
};

static enum sw_status begin(struct sw_sequence *seq)
{
    const struct flashprefill_params *p = seq->params;
    struct flashprefill_state *s = seq->state;
    size_t heads = (size_t)seq->shape.n_heads;
    s->limits = malloc(heads * sizeof *s->limits);
    if (!s->limits)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", heads * sizeof *s->limits);
    for (size_t h = 0; h < heads; h++)
        s->limits[h] = p->alpha;
    return SW_OK;
}

/* The blocks near a row's largest score, and the forced ones. */
static enum sw_status threshold(struct sw_sequence *seq, const struct sw_layer_input *in,
                                struct sw_unit_matrix scores, struct sw_selection *out)
{
    const struct flashprefill_params *p = seq->params;
    struct flashprefill_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int heads = scores.units, b = scores.ld;
    SW_TRY(sw_scratch_reserve(be, &s->keep, (size_t)heads * (size_t)b * (size_t)b));
    SW_TRY(be->keep_mass(be, &(struct sw_keep_mass){.scores = scores,
                                                    .rows = b,
                                                    .rule = SW_MASS_FRACTION,
                                                    .limit = s->limits,
                                                    .clear = true,
                                                    .keep = s->keep.data}));
    struct forced_rule rule = {p->sink_blocks, p->window_blocks, p->dense_rows};
    SW_TRY(forced_lines_keep(seq, in, rule, &s->forced,
                             (struct sw_keep_matrix){s->keep.data, heads, b, b}));
    return sw_keep_select(seq, in, s->keep.data, false, out);
}

static enum sw_status prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                              struct sw_selection *out)
{
    struct flashprefill_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    if (!out)
        return SW_OK;
    int heads = seq->shape.n_heads, kv_heads = seq->shape.n_kv_heads,
        block = sw_sequence_block(seq), b = sw_blocks(in->n, block);
    SW_TRY(sw_prompt_means(seq, in->k, kv_heads, in->n, block, &s->keys));
    SW_TRY(
        sw_scratch_reserve(be, &s->scores, sizeof(float) * (size_t)heads * (size_t)b * (size_t)b));
    struct sw_unit_matrix scores = {s->scores.data, heads, b, b};
    struct sw_token_gates gates = {.q = in->q,
                                   .n = in->n,
                                   .n_q = in->n_q,
                                   .n_heads = heads,
                                   .n_kv_heads = kv_heads,
                                   .head_dim = seq->shape.head_dim,
                                   .block = block,
                                   .k_ld = b,
                                   .k = s->keys.means.data,
                                   .scale = seq->scale};
    SW_TRY(be->gate_scores(be,
                           &(struct sw_gate_scores){
                               .in = gates, .complete = true, .row_softmax = true, .out = scores}));
    return seq->mode == SW_BUDGET_MATCHED
               ? sw_sequence_select(seq, in, scores, SW_FORCED_COMMON, out)
               : threshold(seq, in, scores, out);
}

static void end(struct sw_sequence *seq)
{
    struct flashprefill_state *s = seq->state;
    block_means_free(seq->backend, &s->keys);
    sw_scratch_free(seq->backend, &s->scores);
    sw_scratch_free(seq->backend, &s->keep);
    forced_lines_free(seq->backend, &s->forced);
    free(s->limits);
}

const struct sw_method sw_method_flashprefill = {
    .name = "flashprefill",
    .summary = "blocks by their tokens' softmax over mean keys; native: those near a row's largest",
    .source = "Fan et al., arXiv 2603.06199; qhfan/FlashPrefill @ 74e42f3",
    .flags = SW_METHOD_PREFILL | SW_METHOD_NATIVE,
    .params_size = sizeof(struct flashprefill_params),
    .params = params,
    .state_size = sizeof(struct flashprefill_state),
    .threshold = "alpha",
    .threshold_falls = true,
    .uses_density = sw_density_unless_native,
    .begin = begin,
    .prefill = prefill,
    .end = end,
};
