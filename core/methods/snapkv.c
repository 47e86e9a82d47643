/* SnapKV (Li et al., arXiv 2404.14469) in block form: after a dense prompt, the last queries vote
 * for the keys before them; the votes, smoothed over neighbouring keys, averaged over a KV group's
 * heads and summed over a block, are that block's score for good. Decode only.
 * Matched budget: each step keeps what the decode budget allows, with the forced set of every
 * method; blocks that decoding has begun rank above all others, newest first. Native: `capacity`
 * tokens of prompt blocks, those of the last queries among them, chosen once; every later block
 * stays. */
#include <math.h>
#include <stdlib.h>

#include "core/method.h"
#include "core/scratch.h"

extern const struct sw_method sw_method_snapkv;

struct snapkv_params {
    struct sw_method_params common;
    int window, capacity, pool_kernel;
};

struct snapkv_layer {
    struct sw_scratch scores; /* [Hkv, cap], frozen; infinite where a block is not to compete */
};

struct snapkv_state {
    int cap;    /* blocks that max_tokens can have */
    int prompt; /* tokens of the prompt */
    struct snapkv_layer *layers;
    struct sw_scratch columns; /* [H, n] of the layer at hand */
    float *host;               /* [H, n] the same, then [Hkv, cap] */
    size_t host_floats;
};

static const struct sw_param params[] = {
    SW_METHOD_COMMON_PARAMS,
    {.name = "window",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct snapkv_params, window),
     .initial = "32",
     .published = "snapkv_utils.py",
     .min = 1,
     .max = 1 << 12,
     .help = "last queries of the prompt, which vote"},
    {.name = "capacity",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct snapkv_params, capacity),
     .initial = "2048",
     .published = "snapkv_utils.py",
     .min = 1,
     .max = 1 << 24,
     .help =
         "native budget: prompt tokens kept, rounded up to blocks, those of the window among them"},
    {.name = "pool_kernel",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct snapkv_params, pool_kernel),
     .initial = "5",
     .published = "snapkv_utils.py",
     .min = 1,
     .max = 1 << 12,
     .help = "keys that votes are averaged over, odd"},
    SW_PARAM_END,
};

static enum sw_status check(const void *params_of, const struct sw_shape *shape,
                            enum sw_budget_mode mode)
{
    const struct snapkv_params *p = params_of;
    (void)shape;
    if (p->pool_kernel % 2 == 0)
        return SW_FAIL(SW_EINPUT, "pool_kernel %d; expected an odd number", p->pool_kernel);
    if (mode != SW_BUDGET_MATCHED && p->capacity < p->window)
        return SW_FAIL(SW_EINPUT, "capacity %d; expected at least window, %d", p->capacity,
                       p->window);
    return SW_OK;
}

static enum sw_status begin(struct sw_sequence *seq)
{
    struct snapkv_state *s = seq->state;
    s->cap = sw_blocks(seq->max_tokens, sw_sequence_block(seq));
    s->layers = calloc((size_t)seq->shape.n_layers, sizeof *s->layers);
    if (!s->layers)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory",
                       (size_t)seq->shape.n_layers * sizeof *s->layers);
    return SW_OK;
}

static int window_of(const struct snapkv_params *p, int n) { return p->window < n ? p->window : n; }

/* votes [H, n] of the n - w first keys -> scores [Hkv, cap]. Sums in double: H·n of them, once a
 * prompt and layer. */
static void score_blocks(const struct sw_sequence *seq, const float *votes, int n, float *scores)
{
    const struct snapkv_params *p = seq->params;
    const struct snapkv_state *s = seq->state;
    int block = p->common.block_size, before = n - window_of(p, n), half = p->pool_kernel / 2,
        group = seq->shape.n_heads / seq->shape.n_kv_heads;
    int b = sw_blocks(n, block);
    for (int g = 0; g < seq->shape.n_kv_heads; g++) {
        float *row = scores + (size_t)g * (size_t)s->cap;
        for (int j = 0; j < s->cap; j++) {
            double sum = 0;
            if (j >= b) { /* to be generated */
                row[j] = INFINITY;
                continue;
            }
            /* A vote counts once for each key of the block that its average reaches. */
            int u0 = j * block, u1 = u0 + block < before ? u0 + block : before;
            for (int h = g * group; h < (g + 1) * group; h++)
                for (int x = u0 - half > 0 ? u0 - half : 0; x < u1 + half && x < before; x++) {
                    int from = x - half > u0 ? x - half : u0,
                        to = x + half + 1 < u1 ? x + half + 1 : u1;
                    sum += to > from
                               ? (double)votes[(size_t)h * (size_t)n + (size_t)x] * (to - from)
                               : 0;
                }
            row[j] = (float)(sum / p->pool_kernel / group);
            if (seq->mode != SW_BUDGET_MATCHED &&
                (j + 1) * block > before) /* holds queries of the window: always kept */
                row[j] = INFINITY;
        }
    }
}

static enum sw_status reserve_host(struct snapkv_state *s, size_t floats)
{
    if (s->host_floats >= floats)
        return SW_OK;
    free(s->host);
    s->host = malloc(floats * sizeof *s->host);
    s->host_floats = s->host ? floats : 0;
    return s->host ? SW_OK
                   : SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", floats * sizeof *s->host);
}

static enum sw_status prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                              struct sw_selection *out)
{
    const struct snapkv_params *p = seq->params;
    struct snapkv_state *s = seq->state;
    struct snapkv_layer *layer = &s->layers[in->layer];
    struct sw_backend *be = seq->backend;
    size_t votes = (size_t)seq->shape.n_heads * (size_t)in->n,
           scores = (size_t)seq->shape.n_kv_heads * (size_t)s->cap;
    if (out)
        return SW_FAIL(SW_EINTERNAL, "snapkv selects in decode only");
    s->prompt = in->n;
    SW_TRY(reserve_host(s, votes + scores));
    SW_TRY(sw_scratch_reserve(be, &s->columns, sizeof(float) * votes));
    SW_TRY(sw_scratch_reserve(be, &layer->scores, sizeof(float) * scores));
    struct sw_attend attend = sw_sequence_attend(seq, in);
    SW_TRY(be->vertical_slash(be, &(struct sw_vertical_slash){.in = &attend,
                                                              .last = window_of(p, in->n),
                                                              .ld = in->n,
                                                              .columns = s->columns.data}));
    SW_TRY(be->download(be, s->host, s->columns.data, sizeof(float) * votes));
    score_blocks(seq, s->host, in->n, s->host + votes);
    return be->upload(be, layer->scores.data, s->host + votes, sizeof(float) * scores);
}

static enum sw_status decode(struct sw_sequence *seq, const struct sw_layer_input *in,
                             struct sw_selection *out)
{
    const struct snapkv_params *p = seq->params;
    struct snapkv_state *s = seq->state;
    int block = p->common.block_size, units = seq->shape.n_kv_heads;
    struct sw_unit_matrix scores = {s->layers[in->layer].scores.data, units, 1, s->cap};
    if (!scores.data)
        return SW_FAIL(SW_EINTERNAL, "decode of layer %d before its prompt", in->layer);
    if (!out)
        return SW_OK;
    if (seq->mode == SW_BUDGET_MATCHED)
        return sw_sequence_select(seq, in, scores, SW_FORCED_COMMON, out);
    /* The scores do not change: the best `kept` of the prompt's blocks are the same at every
     * step. */
    int prompt = sw_blocks(s->prompt, block),
        of_window = prompt - (s->prompt - window_of(p, s->prompt)) / block;
    int kept =
        sw_blocks(p->capacity, block) > of_window ? sw_blocks(p->capacity, block) : of_window;
    int generated = sw_blocks(in->n, block) - prompt;
    return sw_sequence_select_count(seq, in, scores, (kept < prompt ? kept : prompt) + generated,
                                    SW_FORCED_DIAGONAL, out);
}

static void end(struct sw_sequence *seq)
{
    struct snapkv_state *s = seq->state;
    for (int l = 0; s->layers && l < seq->shape.n_layers; l++)
        sw_scratch_free(seq->backend, &s->layers[l].scores);
    free(s->layers);
    free(s->host);
    sw_scratch_free(seq->backend, &s->columns);
}

const struct sw_method sw_method_snapkv = {
    .name = "snapkv",
    .summary = "in decode, the prompt's blocks that its last queries attended to",
    .source = "Li et al., arXiv 2404.14469; FasterDecoding/SnapKV @ e216ddc, a mean over the "
              "group's heads",
    .flags = SW_METHOD_DECODE | SW_METHOD_NATIVE,
    .params_size = sizeof(struct snapkv_params),
    .params = params,
    .state_size = sizeof(struct snapkv_state),
    .check = check,
    .uses_density = sw_density_if_matched,
    .begin = begin,
    .prefill = prefill,
    .decode = decode,
    .end = end,
};
