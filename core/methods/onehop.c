/* One-hop: the sketched block scores alone, without a walk. The baseline that Sketch&Walk must beat
 * at equal budget: same forced set, same budget, same scores, only the walk is missing. Its default
 * is icml's form: per-head softmax of block-mean logits, averaged over heads. */
#include "core/methods/sketchwalk/state.h"

extern const struct sw_method sw_method_onehop;

static const struct sw_param params[] = {SKETCHWALK_SCORE_PARAMS("icml"), SW_PARAM_END};

static enum sw_status begin(struct sw_sequence *seq) { return sketchwalk_begin(seq, false); }

const struct sw_method sw_method_onehop = {
    .name = "onehop",
    .summary = "sketched block scores without the walk",
    .source = "arXiv 2602.07397, ablation without the walk; Escanord/SketchWalk @ 35048bb with "
              "walk_damping 0",
    .flags = SW_METHOD_PREFILL | SW_METHOD_DECODE | SW_METHOD_NATIVE,
    .params_size = sizeof(struct sketchwalk_params),
    .params = params,
    .state_size = sizeof(struct sketchwalk_state),
    .check = sketchwalk_check,
    .uses_density = sketchwalk_uses_density,
    .begin = begin,
    .prefill = sketchwalk_prefill,
    .decode = sketchwalk_decode,
    .raw_scores = sketchwalk_raw_scores,
    .end = sketchwalk_end,
};
