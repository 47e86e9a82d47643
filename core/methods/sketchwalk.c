/* Sketch&Walk (Le et al., "Scout Before You Attend", arXiv 2602.07397; ICML 2026).
 *
 * Queries and keys are sketched: block means, then an SRHT. The sketches' products give, for each
 * layer, a block matrix: an estimate of how much query block i attends to key block j. A walk
 * through these matrices, layer after layer, accumulates influence over several hops; each query
 * block attends to the key blocks with the best walk scores. Of its three forms, by `variant`,
 * sketchwalk/ has a file each: printed.c (arxiv), softmax.c, icml.c. */
#include <math.h>

#include "core/methods/sketchwalk/state.h"

static const struct sw_param params[] = {
    SKETCHWALK_SCORE_PARAMS("arxiv"),
    {SKETCHWALK_CHOICE(walk, "on", "on|none"),
     .help = "none: the sketch alone, which is the method onehop"},
    {SKETCHWALK_INT(degree, "3", 1, 64), .help = "icml: walk steps a layer"},
    {SKETCHWALK_REAL(damping, "0.25", 0, 1),
     .help = "icml: share of the step that follows the walk (beta); 0 is one-hop"},
    SW_PARAM_END,
};

enum sw_status sketchwalk_check(const void *params_, const struct sw_shape *shape,
                                enum sw_budget_mode mode)
{
    const struct sketchwalk_params *p = params_;
    bool printed = p->variant == SKETCHWALK_ARXIV;
    (void)mode;
    if (p->per_head && p->per_group)
        return SW_FAIL(SW_EINPUT, "per_head and per_group are both true; expected at most one");
    if (p->variant == SKETCHWALK_SOFTMAX && p->logit_scale == SCALE_R &&
        p->sketch != SKETCH_HADAMARD)
        return SW_FAIL(SW_EINPUT, "logit_scale: r needs sketch: hadamard, found another sketch");
    if (printed && p->causal_blocks == SWITCH_TRUE)
        return SW_FAIL(SW_EINPUT, "causal_blocks: true with variant: arxiv; the printed form has "
                                  "no causal mask, softmax is the form that has one");
    if (printed && !p->keep_sign && p->exponent != trunc(p->exponent))
        return SW_FAIL(SW_EINPUT,
                       "exponent %g with variant: arxiv, whose scores may be negative; "
                       "expected a whole number, or signed: true",
                       p->exponent);
    if (shape->n_heads % shape->n_kv_heads != 0)
        return SW_FAIL(SW_EINPUT, "%d heads are no multiple of %d KV heads", shape->n_heads,
                       shape->n_kv_heads);
    return SW_OK;
}

bool sketchwalk_uses_density(const void *params_, enum sw_budget_mode mode)
{
    const struct sketchwalk_params *p = params_;
    /* icml's native rule is quantile + sink + window */
    return mode != SW_BUDGET_NATIVE || p->variant != SKETCHWALK_ICML;
}

static enum sw_status begin(struct sw_sequence *seq)
{
    return sketchwalk_begin(seq, ((const struct sketchwalk_params *)seq->params)->walk == WALK_ON);
}

const struct sw_method sw_method_sketchwalk = {
    .name = "sketchwalk",
    .summary = "sketched block scores, accumulated by a walk over the layers",
    .source = "Le et al., arXiv 2602.07397 v1 (arxiv); Escanord/SketchWalk @ 35048bb (icml)",
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
