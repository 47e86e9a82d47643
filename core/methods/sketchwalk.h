/* sketchwalk.h: what sketchwalk and onehop share: onehop is Sketch&Walk with the walk left out, and
 * nothing else changed. */
#ifndef SW_SKETCHWALK_H
#define SW_SKETCHWALK_H

#include "core/method.h"
#include "core/methods/shared/sketch.h"
#include "core/scratch.h"

enum { SKETCHWALK_ARXIV, SKETCHWALK_ICML };
enum { SKETCH_HADAMARD, SKETCH_EXACT, SKETCH_TOKENS };

struct sketchwalk_params {
    struct sw_method_params common;
    int variant;
    int sketch_dim; /* r; 0: the variant's default */
    int sketch;
    int walk; /* 0 on, 1 none */
    bool causal_blocks, per_head, per_group;
    int tail_mean; /* 0 true count, 1 padded */
    /* arxiv */
    double exponent;
    int logit_scale; /* 0: 1/sqrt(d), 1: 1/sqrt(r) */
    int normalize;   /* 0 softmax, 1 none */
    /* icml */
    int degree;
    double damping, temperature;
    int decode_query_window, dense_tail_blocks;
    double sink_share, window_share, top_share;
    bool sink_uses_window;
};

/* What decode needs of a sparse layer; without decode steps to come, all layers share one. */
struct sketchwalk_layer {
    struct sw_scratch k_sums, k_sketch; /* [units_k, cap, d], [units_k, cap, r] */
    struct sw_scratch a;                /* the block matrix W or A, [units, cap, cap] */
    struct sw_scratch q_sketch;         /* arxiv without causal_blocks: [units_q, cap, r] */
    struct sw_scratch window;           /* icml: sketches of the last queries, a ring [H, W, r] */
    int window_fill, window_next;
};

struct sketchwalk_state {
    bool walk; /* false: one-hop */
    int cap;   /* blocks that max_tokens can have: every ld */
    int units_q, units_k, units;
    int r;
    float logit_scale;
    struct sw_srht srht;
    const struct sw_srht *transform; /* &srht, or NULL for plain block means */
    struct sketchwalk_layer *layers;
    int n_layers;
    struct sw_scratch q_sums, q_sketch; /* of the layer at hand */
    struct sw_scratch x[2];             /* the walk's state and the next one, [units, cap, cap] */
    int at;                             /* which of x holds the state */
    struct sw_scratch row;              /* icml decode: this layer's own row, [units, cap] */
    struct sw_scratch mass;             /* sketch: tokens: true block mass [H, cap, cap] */
};

enum sw_status sketchwalk_check(const void *params, const struct sw_shape *shape,
                                enum sw_budget_mode mode);
bool sketchwalk_uses_density(const void *params, enum sw_budget_mode mode);
enum sw_status sketchwalk_begin(struct sw_sequence *seq, bool walk);
enum sw_status sketchwalk_prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                                  struct sw_selection *out);
enum sw_status sketchwalk_decode(struct sw_sequence *seq, const struct sw_layer_input *in,
                                 struct sw_selection *out);
void sketchwalk_end(struct sw_sequence *seq);

/* The parameters that both methods take. */
#define SKETCHWALK_FIELD(f) offsetof(struct sketchwalk_params, f)
#define SKETCHWALK_SCORE_PARAMS(default_variant)                                                  \
    SW_METHOD_COMMON_PARAMS,                                                                      \
        {.name = "variant",                                                                       \
         .type = SW_PARAM_CHOICE,                                                                 \
         .offset = SKETCHWALK_FIELD(variant),                                                     \
         .initial = default_variant,                                                              \
         .choices = "arxiv|icml",                                                                 \
         .help = "published form: arXiv v1, or the code released with ICML 2026"},                \
        {.name = "sketch_dim",                                                                    \
         .type = SW_PARAM_INT,                                                                    \
         .offset = SKETCHWALK_FIELD(sketch_dim),                                                  \
         .initial = "0",                                                                          \
         .min = 0,                                                                                \
         .max = 4096,                                                                             \
         .help = "r, Hadamard coordinates kept, at most the padded head_dim; 0: 64 for arxiv, "   \
                 "128 for icml"},                                                                 \
        {.name = "sketch",                                                                        \
         .type = SW_PARAM_CHOICE,                                                                 \
         .offset = SKETCHWALK_FIELD(sketch),                                                      \
         .initial = "hadamard",                                                                   \
         .choices = "hadamard|exact|tokens",                                                      \
         .help = "block means through the SRHT, block means as they are, or the true block mass " \
                 "(ablations)"},                                                                  \
        {.name = "causal_blocks",                                                                 \
         .type = SW_PARAM_BOOL,                                                                   \
         .offset = SKETCHWALK_FIELD(causal_blocks),                                               \
         .initial = "true",                                                                       \
         .help = "softmax over j <= i; false: over all blocks, future ones included, as the "     \
                 "released code does"},                                                           \
        {.name = "per_head",                                                                      \
         .type = SW_PARAM_BOOL,                                                                   \
         .offset = SKETCHWALK_FIELD(per_head),                                                    \
         .initial = "false",                                                                      \
         .help = "one list a query head"},                                                        \
        {.name = "per_group",                                                                     \
         .type = SW_PARAM_BOOL,                                                                   \
         .offset = SKETCHWALK_FIELD(per_group),                                                   \
         .initial = "false",                                                                      \
         .help = "one list a KV group"},                                                          \
        {.name = "tail_mean",                                                                     \
         .type = SW_PARAM_CHOICE,                                                                 \
         .offset = SKETCHWALK_FIELD(tail_mean),                                                   \
         .initial = "true",                                                                       \
         .choices = "true|padded",                                                                \
         .help = "the tail block's mean over its own tokens, or zero padded and divided by B "    \
                 "(released)"},                                                                   \
        {.name = "exponent",                                                                      \
         .type = SW_PARAM_REAL,                                                                   \
         .offset = SKETCHWALK_FIELD(exponent),                                                    \
         .initial = "8",                                                                          \
         .min = 0.125,                                                                            \
         .max = 64,                                                                               \
         .help = "arxiv: s, elementwise power that sharpens the block matrix"},                   \
        {.name = "logit_scale",                                                                   \
         .type = SW_PARAM_CHOICE,                                                                 \
         .offset = SKETCHWALK_FIELD(logit_scale),                                                 \
         .initial = "d",                                                                          \
         .choices = "d|r",                                                                        \
         .help = "arxiv: logits times 1/sqrt(d), or 1/sqrt(r) as printed in v1"},                 \
        {.name = "normalize",                                                                     \
         .type = SW_PARAM_CHOICE,                                                                 \
         .offset = SKETCHWALK_FIELD(normalize),                                                   \
         .initial = "softmax",                                                                    \
         .choices = "softmax|none",                                                               \
         .help = "arxiv: sharpen the softmax, or the raw sketched scores"},                       \
        {.name = "temperature",                                                                   \
         .type = SW_PARAM_REAL,                                                                   \
         .offset = SKETCHWALK_FIELD(temperature),                                                 \
         .initial = "100",                                                                        \
         .min = 1e-6,                                                                             \
         .max = 1e6,                                                                              \
         .help = "icml: divides the unnormalised Hadamard logits"},                               \
        {.name = "decode_query_window",                                                           \
         .type = SW_PARAM_INT,                                                                    \
         .offset = SKETCHWALK_FIELD(decode_query_window),                                         \
         .initial = "32",                                                                         \
         .min = 1,                                                                                \
         .max = 4096,                                                                             \
         .help = "icml: recent queries pooled in decode"},                                        \
        {.name = "dense_tail_blocks",                                                             \
         .type = SW_PARAM_INT,                                                                    \
         .offset = SKETCHWALK_FIELD(dense_tail_blocks),                                           \
         .initial = "4",                                                                          \
         .min = 0,                                                                                \
         .max = 1 << 20,                                                                          \
         .help = "icml, native budget: last query blocks of a prompt kept dense"},                \
        {.name = "sink_share",                                                                    \
         .type = SW_PARAM_REAL,                                                                   \
         .offset = SKETCHWALK_FIELD(sink_share),                                                  \
         .initial = "0.025",                                                                      \
         .min = 0,                                                                                \
         .max = 1,                                                                                \
         .help = "icml, native budget: leading share of the context always kept"},                \
        {.name = "window_share",                                                                  \
         .type = SW_PARAM_REAL,                                                                   \
         .offset = SKETCHWALK_FIELD(window_share),                                                \
         .initial = "0.05",                                                                       \
         .min = 0,                                                                                \
         .max = 1,                                                                                \
         .help = "icml, native budget: trailing share of the context always kept"},               \
        {.name = "top_share",                                                                     \
         .type = SW_PARAM_REAL,                                                                   \
         .offset = SKETCHWALK_FIELD(top_share),                                                   \
         .initial = "0.125",                                                                      \
         .min = 0,                                                                                \
         .max = 1,                                                                                \
         .help = "icml, native budget: share of the candidate blocks kept by score"},             \
        {.name = "sink_uses_window",                                                              \
         .type = SW_PARAM_BOOL,                                                                   \
         .offset = SKETCHWALK_FIELD(sink_uses_window),                                            \
         .initial = "false",                                                                      \
         .help =                                                                                  \
             "icml, native budget: the sink is as long as the window, as in the released code"}

#endif
