/* Sink + window: the first tokens and the most recent ones (StreamingLLM, Xiao et al., arXiv
 * 2309.17453), as a mask: keys keep their true positions, nothing is evicted or re-rotated.
 * Matched budget: block 0, then the most recent blocks up to the row's budget. Native: the first
 * `start` and the last `recent` tokens, rounded up to whole blocks. */
#include "core/method.h"

extern const struct sw_method sw_method_sink_window;

struct sink_window_params {
    struct sw_method_params common;
    int start, recent;
};

static const struct sw_param params[] = {
    SW_METHOD_COMMON_PARAMS,
    {.name = "start",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct sink_window_params, start),
     .initial = "4",
     .published = "kv_cache.py",
     .min = 0,
     .max = 1 << 24,
     .help = "native budget: leading tokens kept"},
    {.name = "recent",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct sink_window_params, recent),
     .initial = "512",
     .published = "kv_cache.py",
     .min = 1,
     .max = 1 << 24,
     .help = "native budget: trailing tokens kept"},
    SW_PARAM_END,
};

static enum sw_status select(struct sw_sequence *seq, const struct sw_layer_input *in,
                             struct sw_selection *out)
{
    const struct sink_window_params *p = seq->params;
    if (!out)
        return SW_OK;
    if (seq->mode != SW_BUDGET_NATIVE)
        return sw_sequence_select(seq, in, (struct sw_unit_matrix){.units = 1}, SW_FORCED_COMMON,
                                  out);
    /* The window reaches back from the row's first query, t0: block i's first token, or in decode
     * the last token. */
    int block = p->common.block_size, row = sw_blocks(in->n, block) - 1;
    int t0 = in->n_q < in->n ? in->n - 1 : row * block;
    int back = t0 - p->recent + 1;
    int local = back > 0 ? row - back / block + 1 : (p->recent + block - 2) / block + 1;
    return sw_sequence_select_forced(
        seq, in, 1, (struct sw_forced){.sink = sw_blocks(p->start, block), .local = local}, out);
}

const struct sw_method sw_method_sink_window = {
    .name = "sink_window",
    .summary = "first tokens and most recent tokens (StreamingLLM as a mask)",
    .source = "Xiao et al., arXiv 2309.17453; mit-han-lab/streaming-llm @ 2e50426",
    .flags = SW_METHOD_PREFILL | SW_METHOD_DECODE | SW_METHOD_NATIVE,
    .params_size = sizeof(struct sink_window_params),
    .params = params,
    .uses_density = sw_density_unless_native,
    .prefill = select,
    .decode = select,
};
