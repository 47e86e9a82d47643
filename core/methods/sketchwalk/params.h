/* params.h: the parameters that sketchwalk and onehop share: onehop is Sketch&Walk with the walk
 * left out, and nothing else changed. */
#ifndef SW_SKETCHWALK_PARAMS_H
#define SW_SKETCHWALK_PARAMS_H

#include "core/method.h"

/* Each enum in the order of its parameter's choices. */
enum sketchwalk_variant { SKETCHWALK_ARXIV, SKETCHWALK_SOFTMAX, SKETCHWALK_ICML };
enum sketchwalk_sketch { SKETCH_HADAMARD, SKETCH_EXACT, SKETCH_TOKENS };
enum sketchwalk_walk { WALK_ON, WALK_NONE };
enum sketchwalk_preset { PRESET_AUTO, PRESET_RELEASED, PRESET_SOUND };
enum sketchwalk_switch { SWITCH_AUTO, SWITCH_TRUE, SWITCH_FALSE };
enum sketchwalk_tail { TAIL_AUTO, TAIL_TRUE, TAIL_PADDED };
enum sketchwalk_transform { TRANSFORM_AUTO, TRANSFORM_LAYER, TRANSFORM_SHARED };
enum sketchwalk_scale { SCALE_D, SCALE_R };

struct sketchwalk_params {
    struct sw_method_params common;
    int variant, sketch_dim, sketch, walk;
    int causal_blocks, tail_mean, transform;
    bool per_head, per_group;
    /* arxiv, softmax */
    double exponent;
    bool keep_sign;  /* the parameter `signed` */
    int logit_scale; /* softmax */
    /* icml */
    int preset, degree;
    double damping, temperature;
    int decode_query_window, dense_tail_blocks;
    double sink_share, window_share, top_share;
    int sink_uses_window;
};

#define SKETCHWALK_FIELD(f) offsetof(struct sketchwalk_params, f)

/* Rows of a parameter table, without their last field, which is the help. */
#define SKETCHWALK_INT(param, text, low, high)                                                \
    .name = #param, .type = SW_PARAM_INT, .offset = SKETCHWALK_FIELD(param), .initial = text, \
    .min = low, .max = high
#define SKETCHWALK_REAL(param, text, low, high)                                                \
    .name = #param, .type = SW_PARAM_REAL, .offset = SKETCHWALK_FIELD(param), .initial = text, \
    .min = low, .max = high
#define SKETCHWALK_BOOL(label, param, text) \
    .name = label, .type = SW_PARAM_BOOL, .offset = SKETCHWALK_FIELD(param), .initial = text
#define SKETCHWALK_CHOICE(param, text, words)                                                    \
    .name = #param, .type = SW_PARAM_CHOICE, .offset = SKETCHWALK_FIELD(param), .initial = text, \
    .choices = words

#define SKETCHWALK_RELEASED "modeling_llama.py"

/* What both tables begin with. */
#define SKETCHWALK_SCORE_PARAMS(default_variant)                                                   \
    SW_METHOD_COMMON_PARAMS,                                                                       \
        {SKETCHWALK_CHOICE(variant, default_variant, "arxiv|softmax|icml"),                        \
         .help = "arxiv: the paper's algorithm as printed; softmax: that with a causal softmax "   \
                 "before the power (called arxiv until 0.1); icml: the code released with the "    \
                 "ICML 2026 version"},                                                             \
        {SKETCHWALK_INT(sketch_dim, "0", 0, 4096),                                                 \
         .help = "r, Hadamard coordinates kept, at most the padded head_dim; 0: 64, and 128 for "  \
                 "icml"},                                                                          \
        {SKETCHWALK_CHOICE(sketch, "hadamard", "hadamard|exact|tokens"),                           \
         .help = "block means through the SRHT, block means as they are, or the true block mass "  \
                 "(ablations)"},                                                                   \
        {SKETCHWALK_CHOICE(transform, "auto", "auto|layer|shared"),                                \
         .help = "signs and coordinates of the SRHT: drawn for each layer, or once; auto: as the " \
                 "preset of icml has it, else shared"},                                            \
        {SKETCHWALK_CHOICE(causal_blocks, "auto", "auto|true|false"),                              \
         .help = "softmax and icml: the softmax is over j <= i, or over all blocks, future ones "  \
                 "included; auto: as the preset of icml has it, else true"},                       \
        {SKETCHWALK_BOOL("per_head", per_head, "false"), .help = "one list a query head"},         \
        {SKETCHWALK_BOOL("per_group", per_group, "false"), .help = "one list a KV group"},         \
        {SKETCHWALK_CHOICE(tail_mean, "auto", "auto|true|padded"),                                 \
         .help = "the tail block's mean: over its own tokens, or zero padded and divided by B; "   \
                 "auto: as the preset of icml has it, else true"},                                 \
        {SKETCHWALK_REAL(exponent, "8", 0.125, 64), .published = "arXiv 2602.07397",               \
         .help = "arxiv and softmax: s, elementwise power that sharpens the block matrix"},        \
        {SKETCHWALK_BOOL("signed", keep_sign, "false"),                                            \
         .help = "arxiv: the power keeps the sign of a score (an ablation: the paper's even "      \
                 "power does not)"},                                                               \
        {SKETCHWALK_CHOICE(logit_scale, "d", "d|r"),                                               \
         .help = "softmax: logits times 1/sqrt(d), or 1/sqrt(r)"},                                 \
        {SKETCHWALK_CHOICE(preset, "auto", "auto|released|sound"),                                 \
         .help = "icml: all that is auto as in the released code (softmax over later blocks too, " \
                 "padded tail mean, a sink as long as the window, a transform a layer), or its "   \
                 "sound form; auto: released under a native budget, else sound"},                  \
        {SKETCHWALK_REAL(temperature, "100", 1e-6, 1e6), .published = SKETCHWALK_RELEASED,         \
         .help = "icml: divides the unnormalised Hadamard logits"},                                \
        {SKETCHWALK_INT(decode_query_window, "32", 1, 4096), .published = SKETCHWALK_RELEASED,     \
         .help = "icml: recent queries pooled in decode"},                                         \
        {SKETCHWALK_INT(dense_tail_blocks, "4", 0, 1 << 20), .published = SKETCHWALK_RELEASED,     \
         .help = "icml, native budget: last query blocks of a prompt kept dense"},                 \
        {SKETCHWALK_REAL(sink_share, "0.025", 0, 1), .published = SKETCHWALK_RELEASED,             \
         .help = "icml, native budget: leading share of the context always kept"},                 \
        {SKETCHWALK_REAL(window_share, "0.05", 0, 1), .published = SKETCHWALK_RELEASED,            \
         .help = "icml, native budget: trailing share of the context always kept"},                \
        {SKETCHWALK_REAL(top_share, "0.125", 0, 1), .published = SKETCHWALK_RELEASED,              \
         .help = "icml, native budget: share of the candidate blocks kept by score"},              \
        {SKETCHWALK_CHOICE(sink_uses_window, "auto", "auto|true|false"),                           \
         .help = "icml, native budget: the sink is as long as the window; auto: as the preset "    \
                 "has it"}

enum sw_status sketchwalk_check(const void *params, const struct sw_shape *shape,
                                enum sw_budget_mode mode);
bool sketchwalk_uses_density(const void *params, enum sw_budget_mode mode);

#endif
