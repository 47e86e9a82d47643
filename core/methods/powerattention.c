/* PowerAttention (arXiv 2503.03588) as a static pattern: a row sees the blocks 1, 2, 4, 8, … back,
 * so that 2^L blocks reach a row through L layers, without any look at queries and keys. It is the
 * static control of methods that claim to find hops: as many hops, none of them chosen.
 *
 * There is no published code to follow: the defaults of sink_blocks and window_blocks are ours.
 * Matched budget: powers of two first, the nearest first, then the other blocks, the latest
 * first. */
#include <stdlib.h>

#include "core/method.h"
#include "core/scratch.h"

extern const struct sw_method sw_method_powerattention;

struct powerattention_params {
    struct sw_method_params common;
    int sink_blocks, window_blocks;
};

struct powerattention_state {
    int cap; /* blocks that max_tokens can have */
    /* Made once, [cap]: scores of columns (zeros) and of distances, fp32; whether they are kept. */
    struct sw_scratch column_scores, distance_scores, columns, distances;
    struct sw_scratch scores, keep; /* [rows, b] fp32, uint8 */
};

static const struct sw_param params[] = {
    SW_METHOD_COMMON_PARAMS,
    {.name = "sink_blocks",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct powerattention_params, sink_blocks),
     .initial = "1",
     .min = 0,
     .max = 1 << 20,
     .help = "native budget: leading blocks kept"},
    {.name = "window_blocks",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct powerattention_params, window_blocks),
     .initial = "2",
     .min = 1,
     .max = 1 << 20,
     .help = "native budget: latest blocks kept, the current one included"},
    SW_PARAM_END,
};

static bool is_power_of_two(int x) { return x > 0 && (x & (x - 1)) == 0; }

static enum sw_status put(struct sw_backend *be, struct sw_scratch *to, const void *from,
                          size_t bytes)
{
    SW_TRY(sw_scratch_reserve(be, to, bytes));
    return be->upload(be, to->data, from, bytes);
}

static enum sw_status begin(struct sw_sequence *seq)
{
    const struct powerattention_params *p = seq->params;
    struct powerattention_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    size_t cap = (size_t)sw_blocks(seq->max_tokens, p->common.block_size);
    s->cap = (int)cap;
    float *scores = calloc(2 * cap, sizeof *scores); /* of columns, of distances */
    uint8_t *kept = calloc(2 * cap, 1);
    enum sw_status st = scores && kept ? SW_OK
                                       : SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory",
                                                 2 * cap * (sizeof *scores + 1));
    for (int x = 0; st == SW_OK && x < s->cap; x++) {
        bool power = is_power_of_two(x);
        scores[s->cap + x] = (power ? 1.0f : 0.0f) + 1.0f / (float)(x + 1);
        kept[x] = x < p->sink_blocks;
        kept[s->cap + x] = x < p->window_blocks || power;
    }
    if (st == SW_OK)
        st = put(be, &s->column_scores, scores, cap * sizeof *scores);
    if (st == SW_OK)
        st = put(be, &s->distance_scores, scores + cap, cap * sizeof *scores);
    if (st == SW_OK)
        st = put(be, &s->columns, kept, cap);
    if (st == SW_OK)
        st = put(be, &s->distances, kept + cap, cap);
    free(scores);
    free(kept);
    return st;
}

static enum sw_status matched(struct sw_sequence *seq, const struct sw_layer_input *in, int b,
                              int rows, struct sw_selection *out)
{
    struct powerattention_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    SW_TRY(sw_scratch_reserve(be, &s->scores, sizeof(float) * (size_t)rows * (size_t)b));
    struct sw_unit_matrix scores = {s->scores.data, 1, rows, b};
    SW_TRY(be->vertical_slash_scores(
        be, &(struct sw_vertical_slash_scores){.columns = s->column_scores.data,
                                               .slashes = s->distance_scores.data,
                                               .row0 = b - rows,
                                               .rows = rows,
                                               .b = b,
                                               .ld_in = s->cap,
                                               .out = scores}));
    return sw_sequence_select(seq, in, scores, SW_FORCED_COMMON, out);
}

static enum sw_status native(struct sw_sequence *seq, const struct sw_layer_input *in, int b,
                             int rows, struct sw_selection *out)
{
    struct powerattention_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int block = sw_sequence_block(seq);
    SW_TRY(sw_scratch_reserve(be, &s->keep, (size_t)rows * (size_t)b));
    struct sw_keep_matrix keep = {s->keep.data, 1, rows, b};
    SW_TRY(
        be->keep_vertical_slash(be, &(struct sw_keep_vertical_slash){.columns = s->columns.data,
                                                                     .slashes = s->distances.data,
                                                                     .row0 = b - rows,
                                                                     .rows = rows,
                                                                     .n = in->n,
                                                                     .block = block,
                                                                     .grain = block,
                                                                     .ld_in = s->cap,
                                                                     .clear = true,
                                                                     .keep = keep}));
    return be->select_keep(be,
                           &(struct sw_select_keep){.keep = keep,
                                                    .row0 = b - rows,
                                                    .rows = rows,
                                                    .block = block,
                                                    .n = in->n,
                                                    .n_q = in->n_q},
                           out);
}

static enum sw_status choose(struct sw_sequence *seq, const struct sw_layer_input *in,
                             struct sw_selection *out)
{
    if (!out)
        return SW_OK;
    int b = sw_blocks(in->n, sw_sequence_block(seq)), rows = in->n_q < in->n ? 1 : b;
    return seq->mode == SW_BUDGET_NATIVE ? native(seq, in, b, rows, out)
                                         : matched(seq, in, b, rows, out);
}

static void end(struct sw_sequence *seq)
{
    struct powerattention_state *s = seq->state;
    struct sw_scratch *all[] = {&s->column_scores, &s->distance_scores, &s->columns,
                                &s->distances,     &s->scores,          &s->keep};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sw_scratch_free(seq->backend, all[i]);
}

const struct sw_method sw_method_powerattention = {
    .name = "powerattention",
    .summary = "blocks 1, 2, 4, 8, … back: hops without a look",
    .source = "arXiv 2503.03588, the pattern alone; no code is published",
    .flags = SW_METHOD_PREFILL | SW_METHOD_DECODE | SW_METHOD_NATIVE,
    .params_size = sizeof(struct powerattention_params),
    .params = params,
    .state_size = sizeof(struct powerattention_state),
    .uses_density = sw_density_unless_native,
    .begin = begin,
    .prefill = choose,
    .decode = choose,
    .end = end,
};
