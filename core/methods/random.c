/* Random blocks beside the forced ones: what any scoring must beat. The score of (unit, row, block)
 * is a hash of seed, layer and place, so that a larger budget keeps a superset and no order of
 * evaluation matters. */
#include "core/method.h"
#include "core/scratch.h"

extern const struct sw_method sw_method_random;

struct random_params {
    struct sw_method_params common;
    int agg;
};

struct random_state {
    struct sw_scratch scores; /* [units, rows, b] fp32 */
};

static const struct sw_param params[] = {
    SW_METHOD_COMMON_PARAMS,
    {.name = "agg",
     .type = SW_PARAM_CHOICE,
     .offset = offsetof(struct random_params, agg),
     .initial = "head",
     .choices = "head|layer",
     .help = "one draw a head, or one for all heads of a layer"},
    SW_PARAM_END,
};

static enum sw_status select(struct sw_sequence *seq, const struct sw_layer_input *in,
                             struct sw_selection *out)
{
    const struct random_params *p = seq->params;
    struct random_state *state = seq->state;
    struct sw_backend *be = seq->backend;
    if (!out)
        return SW_OK;
    int b = sw_blocks(in->n, p->common.block_size), units = p->agg == 0 ? seq->shape.n_heads : 1;
    int row0 = in->n_q < in->n ? b - 1 : 0, rows = b - row0;
    SW_TRY(sw_scratch_reserve(be, &state->scores,
                              sizeof(float) * (size_t)units * (size_t)rows * (size_t)b));
    struct sw_unit_matrix scores = {state->scores.data, units, rows, b};
    SW_TRY(be->hash_scores(be, &(struct sw_hash_scores){.seed = seq->seed,
                                                        .layer = in->layer,
                                                        .row0 = row0,
                                                        .rows = rows,
                                                        .cols = b,
                                                        .out = scores}));
    return sw_sequence_select(seq, in, scores, SW_FORCED_COMMON, out);
}

static void end(struct sw_sequence *seq)
{
    struct random_state *state = seq->state;
    sw_scratch_free(seq->backend, &state->scores);
}

const struct sw_method sw_method_random = {
    .name = "random",
    .summary = "random blocks beside the forced ones",
    .source = "the floor: any score must beat it",
    .flags = SW_METHOD_PREFILL | SW_METHOD_DECODE | SW_METHOD_USES_SEED,
    .params_size = sizeof(struct random_params),
    .params = params,
    .state_size = sizeof(struct random_state),
    .prefill = select,
    .decode = select,
    .end = end,
};
