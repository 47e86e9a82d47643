/* H2O (Zhang et al., arXiv 2306.14048) in block form: blocks are ranked by the attention mass that
 * they have had so far, averaged over a KV group's heads. Decode only. The prompt's mass is that of
 * the dense softmax (a second pass over it, as the oracle's), each step adds its own row after it
 * has chosen. This needs dense probabilities at every step and some arithmetic on the host, over
 * [Hkv, b]: H2O is here to be compared in what it recovers, its time says nothing.
 * Matched budget: every block goes on collecting, each step keeps what the decode budget allows,
 * with the forced set of every method. Native: of the n0 prompt tokens, the latest recent_ratio·n0
 * are kept and heavy_ratio·n0 of those before by mass; what is not kept is gone for good. A
 * generated block stays while it is recent and then competes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/method.h"
#include "core/scratch.h"

extern const struct sw_method sw_method_h2o;

struct h2o_params {
    struct sw_method_params common;
    double heavy_ratio, recent_ratio;
};

struct h2o_state {
    int cap;                  /* blocks that max_tokens can have */
    int prompt;               /* tokens of the prompt */
    double *mass;             /* [L, Hkv, cap] so far; negative: evicted */
    float *scores, *row;      /* [Hkv, cap] of the step at hand: to rank by, its own mass */
    bool *prompted;           /* [L] */
    struct sw_scratch matrix; /* [H, rows, b or cap] true block mass */
    /* [H, 1, b] tokens of the rows, and their sums over the prompt */
    struct sw_scratch weights, columns;
    struct sw_scratch of_group; /* [Hkv, 1, b or cap], then the scores */
};

static const struct sw_param params[] = {
    SW_METHOD_COMMON_PARAMS,
    {.name = "heavy_ratio",
     .type = SW_PARAM_REAL,
     .offset = offsetof(struct h2o_params, heavy_ratio),
     .initial = "0.1",
     .min = 0,
     .max = 1,
     .help = "native budget: share of the prompt kept by mass, rounded up to blocks"},
    {.name = "recent_ratio",
     .type = SW_PARAM_REAL,
     .offset = offsetof(struct h2o_params, recent_ratio),
     .initial = "0.1",
     .min = 0,
     .max = 1,
     .help = "native budget: share of the prompt kept as the latest blocks, rounded up, the "
             "current one included"},
    SW_PARAM_END,
};

static double *mass_of(const struct sw_sequence *seq, int layer, int unit)
{
    const struct h2o_state *s = seq->state;
    return s->mass +
           ((size_t)layer * (size_t)seq->shape.n_kv_heads + (size_t)unit) * (size_t)s->cap;
}

static enum sw_status begin(struct sw_sequence *seq)
{
    struct h2o_state *s = seq->state;
    size_t layers = (size_t)seq->shape.n_layers;
    s->cap = sw_blocks(seq->max_tokens, sw_sequence_block(seq));
    size_t vector = (size_t)seq->shape.n_kv_heads * (size_t)s->cap;
    s->mass = calloc(layers * vector, sizeof *s->mass);
    s->scores = malloc(vector * sizeof *s->scores);
    s->row = malloc(vector * sizeof *s->row);
    s->prompted = calloc(layers, sizeof *s->prompted);
    if (!s->mass || !s->scores || !s->row || !s->prompted)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory",
                       vector * (layers * sizeof *s->mass + sizeof *s->scores + sizeof *s->row));
    /* a decode step's */
    SW_TRY(sw_scratch_reserve(seq->backend, &s->matrix,
                              sizeof(float) * (size_t)seq->shape.n_heads * (size_t)s->cap));
    return sw_scratch_reserve(seq->backend, &s->of_group, sizeof(float) * vector);
}

/* True block mass of the input's rows, into s->matrix [H, rows, ld]. */
static enum sw_status block_mass(struct sw_sequence *seq, const struct sw_layer_input *in, int rows,
                                 int ld)
{
    struct h2o_state *s = seq->state;
    const struct sw_shape *shape = &seq->shape;
    SW_TRY(sw_scratch_reserve(seq->backend, &s->matrix,
                              sizeof(float) * (size_t)shape->n_heads * (size_t)rows * (size_t)ld));
    return seq->backend->block_mass(
        seq->backend, &(struct sw_block_mass){.in = sw_sequence_attend(seq, in),
                                              .block = sw_sequence_block(seq),
                                              .out = {s->matrix.data, shape->n_heads, rows, ld}});
}

/* Row vector of block sizes times the block mass: each block's mass summed over all queries, [H, 1,
 * b]. */
static enum sw_status sum_rows(struct sw_sequence *seq, int n, int b)
{
    struct h2o_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int heads = seq->shape.n_heads, block = sw_sequence_block(seq);
    size_t bytes = sizeof(float) * (size_t)heads * (size_t)b;
    SW_TRY(sw_scratch_reserve(be, &s->weights, bytes));
    SW_TRY(sw_scratch_reserve(be, &s->columns, bytes));
    float *weights = malloc(bytes);
    if (!weights)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", bytes);
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < b; i++)
            weights[(size_t)h * (size_t)b + (size_t)i] =
                (float)(n - i * block < block ? n - i * block : block);
    enum sw_status st = be->upload(be, s->weights.data, weights, bytes);
    free(weights);
    SW_TRY(st);
    return be->walk(be, &(struct sw_walk){.rows = 1,
                                          .row0 = b - 1,
                                          .b = b,
                                          .x = s->weights.data,
                                          .a = {s->matrix.data, heads, b, b},
                                          .beta = 1.0f,
                                          .causal = true,
                                          .out = {s->columns.data, heads, 1, b}});
}

/* Means over the groups' heads of in [H, 1, ld], on the host: s->row [Hkv, ld]. */
static enum sw_status fetch_groups(struct sw_sequence *seq, float *in, int b, int ld)
{
    struct h2o_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    SW_TRY(be->mean_units(
        be, &(struct sw_mean_units){.in = {in, seq->shape.n_heads, 1, ld},
                                    .rows = 1,
                                    .cols = b,
                                    .out = {s->of_group.data, seq->shape.n_kv_heads, 1, ld}}));
    return be->download(be, s->row, s->of_group.data,
                        sizeof(float) * (size_t)seq->shape.n_kv_heads * (size_t)ld);
}

static enum sw_status prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                              struct sw_selection *out)
{
    struct h2o_state *s = seq->state;
    int b = sw_blocks(in->n, sw_sequence_block(seq));
    if (out)
        return SW_FAIL(SW_EINTERNAL, "h2o selects in decode only");
    s->prompt = in->n;
    SW_TRY(block_mass(seq, in, b, b));
    SW_TRY(sum_rows(seq, in->n, b));
    SW_TRY(fetch_groups(seq, s->columns.data, b, b));
    for (int g = 0; g < seq->shape.n_kv_heads; g++) {
        double *mass = mass_of(seq, in->layer, g);
        for (int j = 0; j < s->cap; j++)
            mass[j] = j < b ? (double)s->row[(size_t)g * (size_t)b + (size_t)j] : 0;
    }
    s->prompted[in->layer] = true;
    return SW_OK;
}

/* Blocks of a share of the prompt. */
static int blocks_of(const struct sw_sequence *seq, double ratio)
{
    const struct h2o_state *s = seq->state;
    return (int)ceil(ratio * s->prompt / sw_sequence_block(seq));
}

/* Evicts of the blocks before the recent ones all but the `heavy` of most mass (ties: the later
 * stays). What is kept ranks equal, what is not below. */
static void evict(double *mass, int b, int heavy, int recent, float *scores)
{
    for (int j = 0; j < b; j++) {
        bool here = mass[j] >= 0, competes = here && j < b - recent;
        int better = 0;
        for (int k = 0; competes && k < b - recent; k++)
            better += mass[k] > mass[j] || (mass[k] == mass[j] && k > j);
        scores[j] = here && (!competes || better < heavy) ? 1.0f : 0.0f;
    }
    for (int j = 0; j < b; j++)
        if (scores[j] == 0)
            mass[j] = -1;
}

/* Ranks by what there was before this step. */
static enum sw_status choose(struct sw_sequence *seq, const struct sw_layer_input *in, int b,
                             struct sw_selection *out)
{
    const struct h2o_params *p = seq->params;
    struct h2o_state *s = seq->state;
    int units = seq->shape.n_kv_heads;
    bool matched = seq->mode == SW_BUDGET_MATCHED;
    int heavy = blocks_of(seq, p->heavy_ratio), recent = blocks_of(seq, p->recent_ratio);
    if (recent < 1)
        recent = 1; /* the current one */
    for (int g = 0; g < units; g++) {
        double *mass = mass_of(seq, in->layer, g);
        float *scores = s->scores + (size_t)g * (size_t)s->cap;
        if (!matched)
            evict(mass, b, heavy, recent, scores);
        for (int j = 0; matched && j < b; j++)
            scores[j] = (float)mass[j];
        for (int j = b; j < s->cap; j++)
            scores[j] = 0;
    }
    SW_TRY(seq->backend->upload(seq->backend, s->of_group.data, s->scores,
                                sizeof(float) * (size_t)units * (size_t)s->cap));
    struct sw_unit_matrix of_group = {s->of_group.data, units, 1, s->cap};
    if (matched)
        return sw_sequence_select(seq, in, of_group, SW_FORCED_COMMON, out);
    return sw_sequence_select_count(seq, in, of_group, heavy + recent,
                                    (struct sw_forced){.sink = 0, .local = recent}, out);
}

/* Downloads the step's row and waits for it, at every step and layer: no part of this runs ahead of
 * the host. */
static enum sw_status decode(struct sw_sequence *seq, const struct sw_layer_input *in,
                             struct sw_selection *out)
{
    struct h2o_state *s = seq->state;
    int b = sw_blocks(in->n, sw_sequence_block(seq));
    if (!s->prompted[in->layer])
        return SW_FAIL(SW_EINTERNAL, "decode of layer %d before its prompt", in->layer);
    if (out)
        SW_TRY(choose(seq, in, b, out));
    SW_TRY(block_mass(seq, in, 1, s->cap));
    SW_TRY(fetch_groups(seq, s->matrix.data, b, s->cap));
    for (int g = 0; g < seq->shape.n_kv_heads; g++) {
        double *mass = mass_of(seq, in->layer, g);
        for (int j = 0; j < b; j++)
            if (mass[j] >= 0) /* evicted blocks get no more */
                mass[j] += (double)s->row[(size_t)g * (size_t)s->cap + (size_t)j];
    }
    return SW_OK;
}

static void end(struct sw_sequence *seq)
{
    struct h2o_state *s = seq->state;
    struct sw_scratch *all[] = {&s->matrix, &s->weights, &s->columns, &s->of_group};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sw_scratch_free(seq->backend, all[i]);
    free(s->mass);
    free(s->scores);
    free(s->row);
    free(s->prompted);
}

const struct sw_method sw_method_h2o = {
    .name = "h2o",
    .summary = "in decode, the blocks with the most attention mass so far",
    .source =
        "Zhang et al., arXiv 2306.14048; FMInference/H2O @ ac75c2a, a mean over the group's heads",
    .flags = SW_METHOD_DECODE | SW_METHOD_NATIVE,
    .params_size = sizeof(struct h2o_params),
    .params = params,
    .state_size = sizeof(struct h2o_state),
    .uses_density = sw_density_if_matched,
    .begin = begin,
    .prefill = prefill,
    .decode = decode,
    .end = end,
};
