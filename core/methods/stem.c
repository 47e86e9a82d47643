/* Stem (arXiv 2603.06274): blocks by strided logits and by their values' sizes,
 *   mean over the blocks' groups of `stride` tokens of Σ_x q[a·s + s-1-x] · k[c·s + x] / (√d · s)
 *   + bonus · max(0, z), z how far a group's log ‖v‖ is above the head's mean, in deviations.
 * Native: a row keeps its best blocks, of which later rows get fewer (early tokens feed everything
 * after them), beside them the first blocks and the latest. Decode is dense, and so are layers 0
 * and 1, as dense_layers has it.
 *
 * schedule released: how many follows from the prompt's blocks alone, whatever keep_ratio says: all
 * below 56, 20 % and 30 below 160, else 10 % and 30. The released code keeps its scores in bf16 and
 * its first kernel makes all pairs of groups; means of products are products of means, so that
 * here no such matrix is made. */
#include <math.h>
#include <stdlib.h>

#include "core/methods/shared/forced_lines.h"
#include "core/methods/shared/keep.h"

extern const struct sw_method sw_method_stem;

enum { SCHEDULE_RATIO, SCHEDULE_RELEASED };

struct stem_params {
    struct sw_method_params common;
    int stride, schedule, initial_blocks, window_blocks;
    double bonus, keep_ratio, decay;
};

struct stem_state {
    struct sw_scratch scores, keep; /* [H, b, b] fp32, uint8 */
    struct forced_lines forced;
};

#define FIELD(name) offsetof(struct stem_params, name)
#define STEM_CODE   "angelslim/compressor/sparsity/algorithms/stem/backends/torch_impl.py"
#define STEM_CONFIG "configs/sparse/stem/qwen3-8b_stem_torch.yaml"
static const struct sw_param params[] = {
    SW_METHOD_NATIVE_BLOCK("128", STEM_CONFIG),
    {.name = "stride",
     .type = SW_PARAM_INT,
     .offset = FIELD(stride),
     .initial = "8",
     .published = STEM_CONFIG,
     .min = 1,
     .max = 256,
     .help = "tokens a group; divides block_size"},
    {.name = "bonus",
     .type = SW_PARAM_REAL,
     .offset = FIELD(bonus),
     .initial = "0.2",
     .published = STEM_CODE,
     .min = 0,
     .max = 1e6,
     .help = "weight of the values' sizes beside the logits; 0: none"},
    {.name = "schedule",
     .type = SW_PARAM_CHOICE,
     .offset = FIELD(schedule),
     .initial = "ratio",
     .native = "released",
     .published = STEM_CODE,
     .choices = "ratio|released",
     .help = "native, calibrated: an early row's blocks by keep_ratio, or as released by the "
             "prompt's length alone"},
    {.name = "keep_ratio",
     .type = SW_PARAM_REAL,
     .offset = FIELD(keep_ratio),
     .initial = "0.2",
     .published = STEM_CODE,
     .min = 0,
     .max = 1,
     .help = "native, calibrated: the share of the prompt's blocks that an early row keeps"},
    {.name = "decay",
     .type = SW_PARAM_REAL,
     .offset = FIELD(decay),
     .initial = "0.7",
     .published = STEM_CONFIG ", stem_alpha",
     .min = 0,
     .max = 1,
     .help = "native, calibrated: what the last row keeps of an early row's blocks; between them "
             "it falls evenly"},
    {.name = "initial_blocks",
     .type = SW_PARAM_INT,
     .offset = FIELD(initial_blocks),
     .initial = "4",
     .published = STEM_CONFIG,
     .min = 0,
     .max = 1 << 20,
     .help = "native, calibrated: leading blocks always kept"},
    {.name = "window_blocks",
     .type = SW_PARAM_INT,
     .offset = FIELD(window_blocks),
     .initial = "4",
     .published = STEM_CONFIG,
     .min = 1,
     .max = 1 << 20,
     .help = "native, calibrated: latest blocks always kept, a row's own included"},
    SW_PARAM_END,
};

static enum sw_status check(const void *params_, const struct sw_shape *shape,
                            enum sw_budget_mode mode)
{
    const struct stem_params *p = params_;
    (void)shape;
    if (p->common.block_size % p->stride != 0)
        return SW_FAIL(SW_EINPUT, "stride: found %d, expected a divisor of block_size %d",
                       p->stride, p->common.block_size);
    if (mode == SW_BUDGET_CALIBRATED && p->schedule == SCHEDULE_RELEASED)
        return SW_FAIL(SW_EINPUT, "schedule: found released, expected ratio in calibrated budgets, "
                                  "which set keep_ratio");
    return SW_OK;
}

/* Blocks that an early row keeps, of b. */
static int early_blocks(const struct stem_params *p, int b)
{
    int blocks = (int)(p->keep_ratio * b);
    if (p->schedule == SCHEDULE_RELEASED && blocks != b)
        blocks = b < 56 ? b : b < 160 ? (int)(b * 0.2 + 30) : (int)(b * 0.1) + 30;
    return blocks > 1 ? blocks : 1;
}

/* Best blocks that row i keeps: `early` ones up to row early, from there on evenly fewer. Counted
 * from both ends, as torch.linspace does, so that both ends are exact. */
static int row_blocks(int early, double decay, int i, int b)
{
    int steps = b - early, at = i - early;
    if (at < 0 || steps < 2)
        return early < i + 1 ? early : i + 1;
    double last = early * decay, step = (last - early) / (steps - 1);
    double exact = at < steps / 2 ? early + step * at : last - step * (steps - 1 - at);
    int blocks = (int)floor(exact);
    blocks = blocks > 1 ? blocks : 1;
    return blocks < i + 1 ? blocks : i + 1;
}

/* Scores after the diagonal are -infinity: all rows of all heads are marked together. */
static enum sw_status keep_best(struct sw_sequence *seq, struct sw_unit_matrix scores,
                                uint8_t *keep)
{
    const struct stem_params *p = seq->params;
    int b = scores.ld, rows = scores.units * b, early = early_blocks(p, b);
    int *counts = malloc((size_t)rows * sizeof *counts);
    if (!counts)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", (size_t)rows * sizeof *counts);
    for (int r = 0; r < rows; r++)
        counts[r] = row_blocks(early, p->decay, r % b, b);
    enum sw_status st = seq->backend->mark_top(
        seq->backend,
        &(struct sw_mark_top){
            .in = scores.data, .rows = rows, .n = b, .ld = b, .k = counts, .flags = keep});
    free(counts);
    return st;
}

static enum sw_status prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                              struct sw_selection *out)
{
    const struct stem_params *p = seq->params;
    struct stem_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    if (!out)
        return SW_OK;
    if (!in->v)
        return SW_FAIL(SW_EINPUT, "stem: layer %d has no values, by whose sizes it ranks",
                       in->layer);
    int heads = seq->shape.n_heads, block = p->common.block_size, b = sw_blocks(in->n, block);
    size_t entries = (size_t)heads * (size_t)b * (size_t)b;
    struct sw_attend attend = sw_sequence_attend(seq, in);
    SW_TRY(sw_scratch_reserve(be, &s->scores, entries * sizeof(float)));
    struct sw_unit_matrix scores = {s->scores.data, heads, b, b};
    SW_TRY(be->stride_scores(be, &(struct sw_stride_scores){.in = &attend,
                                                            .stride = p->stride,
                                                            .block = block,
                                                            .bonus = (float)p->bonus,
                                                            .out = scores}));
    if (seq->mode == SW_BUDGET_MATCHED)
        return sw_sequence_select(seq, in, scores, SW_FORCED_COMMON, out);
    SW_TRY(sw_scratch_reserve(be, &s->keep, entries));
    SW_TRY(keep_best(seq, scores, s->keep.data));
    struct forced_rule rule = {.sink = p->initial_blocks, .window = p->window_blocks};
    SW_TRY(forced_lines_keep(seq, in, rule, &s->forced,
                             (struct sw_keep_matrix){s->keep.data, heads, b, b}));
    return sw_keep_select(seq, in, s->keep.data, false, out);
}

static void end(struct sw_sequence *seq)
{
    struct stem_state *s = seq->state;
    sw_scratch_free(seq->backend, &s->scores);
    sw_scratch_free(seq->backend, &s->keep);
    forced_lines_free(seq->backend, &s->forced);
}

const struct sw_method sw_method_stem = {
    .name = "stem",
    .summary = "blocks by strided logits and the sizes of values; native: later rows keep fewer",
    .source = "arXiv 2603.06274; Tencent/AngelSlim @ 67394ce",
    .flags = SW_METHOD_PREFILL | SW_METHOD_NATIVE,
    .params_size = sizeof(struct stem_params),
    .params = params,
    .state_size = sizeof(struct stem_state),
    .threshold = "keep_ratio",
    .check = check,
    .uses_density = sw_density_unless_native,
    .prefill = prefill,
    .end = end,
};
