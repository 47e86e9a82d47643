/* Oracle: the blocks with the most true attention mass, from the dense pass. M[h,i,j] is the mean
 * over the queries of block i of the softmax mass that falls into block j; unit group and layer
 * average it over their heads. For a given unit and budget no list recovers more mass. */
#include "core/method.h"
#include "core/scratch.h"

extern const struct sw_method sw_method_oracle;

enum { UNIT_HEAD, UNIT_GROUP, UNIT_LAYER };

struct oracle_params {
    struct sw_method_params common;
    int unit, forced;
};

struct oracle_state {
    struct sw_scratch mass, mean; /* [H, rows, b] fp32, and its mean over a unit's heads */
};

static const struct sw_param params[] = {
    SW_METHOD_COMMON_PARAMS,
    {.name = "unit",
     .type = SW_PARAM_CHOICE,
     .offset = offsetof(struct oracle_params, unit),
     .initial = "head",
     .choices = "head|group|layer",
     .help = "one list a head, a KV group or a layer"},
    {.name = "forced",
     .type = SW_PARAM_CHOICE,
     .offset = offsetof(struct oracle_params, forced),
     .initial = "common",
     .choices = "common|diagonal",
     .help = "forced blocks: {0, i-1, i} as for every method, or the diagonal alone"},
    SW_PARAM_END,
};

static enum sw_status select(struct sw_sequence *seq, const struct sw_layer_input *in,
                             struct sw_selection *out)
{
    const struct oracle_params *p = seq->params;
    struct oracle_state *state = seq->state;
    struct sw_backend *be = seq->backend;
    if (!out)
        return SW_OK;
    int heads = seq->shape.n_heads, units = p->unit == UNIT_HEAD    ? heads
                                            : p->unit == UNIT_GROUP ? seq->shape.n_kv_heads
                                                                    : 1;
    int b = sw_blocks(in->n, p->common.block_size), rows = in->n_q < in->n ? 1 : b;
    size_t matrix = sizeof(float) * (size_t)rows * (size_t)b;
    SW_TRY(sw_scratch_reserve(be, &state->mass, matrix * (size_t)heads));
    struct sw_unit_matrix scores = {state->mass.data, heads, rows, b};
    SW_TRY(be->block_mass(be, &(struct sw_block_mass){.in = sw_sequence_attend(seq, in),
                                                      .block = p->common.block_size,
                                                      .out = scores}));
    if (units != heads) {
        SW_TRY(sw_scratch_reserve(be, &state->mean, matrix * (size_t)units));
        struct sw_unit_matrix mean = {state->mean.data, units, rows, b};
        SW_TRY(be->mean_units(
            be, &(struct sw_mean_units){.in = scores, .rows = rows, .cols = b, .out = mean}));
        scores = mean;
    }
    return sw_sequence_select(seq, in, scores,
                              p->forced == 0 ? SW_FORCED_COMMON : SW_FORCED_DIAGONAL, out);
}

static void end(struct sw_sequence *seq)
{
    struct oracle_state *state = seq->state;
    sw_scratch_free(seq->backend, &state->mass);
    sw_scratch_free(seq->backend, &state->mean);
}

const struct sw_method sw_method_oracle = {
    .name = "oracle",
    .summary = "the blocks with the most true attention mass: the ceiling of recovery",
    .source = "dense softmax summed over blocks",
    .flags = SW_METHOD_PREFILL | SW_METHOD_DECODE,
    .params_size = sizeof(struct oracle_params),
    .params = params,
    .state_size = sizeof(struct oracle_state),
    .prefill = select,
    .decode = select,
    .end = end,
};
