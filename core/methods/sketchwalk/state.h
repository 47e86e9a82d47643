/* state.h: what Sketch&Walk keeps of a sequence, and the steps that its forms share. */
#ifndef SW_SKETCHWALK_STATE_H
#define SW_SKETCHWALK_STATE_H

#include "core/methods/shared/sketch.h"
#include "core/methods/sketchwalk/params.h"
#include "core/scratch.h"

/* Parameters that `auto` leaves to the variant, its preset and the budget, decided. */
struct sketchwalk_rules {
    bool causal, padded_tail, sink_is_window, transform_per_layer;
    float clamp; /* of logits; 0: none */
};

/* What decode needs of a sparse layer; without decode steps to come, all layers share one. */
struct sketchwalk_layer {
    struct sw_scratch k_sums, k_sketch; /* [units_k, cap, d], [units_k, cap, r] */
    struct sw_scratch q_sums, q_sketch; /* the same of query blocks, where they are kept */
    struct sw_scratch a;                /* the block matrix, [units, cap, cap] */
    struct sw_scratch window;           /* icml: sketches of the last queries, a ring [H, W, r] */
    int window_fill, window_next;
    struct sw_srht srht; /* the layer's own transform, where layers have one each */
};

struct sketchwalk_state {
    struct sketchwalk_rules rules;
    bool walk; /* false: one-hop */
    int cap;   /* blocks that max_tokens can have: every ld */
    int units_q, units_k, units;
    int r;
    float logit_scale, sketch_scale;
    struct sw_srht srht; /* shared by all layers */
    struct sketchwalk_layer *layers;
    int n_layers;
    struct sw_scratch q_sums, q_sketch; /* of the layer at hand */
    struct sw_scratch x[2];             /* the walk's state and the next one, [units, cap, cap] */
    int at;                             /* which of x holds the state */
    struct sw_scratch row;              /* one row of scores a unit, [units, cap] */
    struct sw_scratch sharp;            /* arxiv: the sharpened matrix, [units, cap, cap] */
    struct sw_scratch mass;             /* sketch: tokens: true block mass [H, cap, cap] */
};

/* state.c */
enum sw_status sketchwalk_begin(struct sw_sequence *seq, bool walk);
void sketchwalk_end(struct sw_sequence *seq);
enum sw_status sketchwalk_prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                                  struct sw_selection *out);
enum sw_status sketchwalk_decode(struct sw_sequence *seq, const struct sw_layer_input *in,
                                 struct sw_selection *out);
/* Of variant arxiv: what it takes to a power. */
struct sw_unit_matrix sketchwalk_raw_scores(struct sw_sequence *seq,
                                            const struct sw_layer_input *in);
size_t sketchwalk_matrix_bytes(const struct sketchwalk_state *s, int units);
size_t sketchwalk_vector_bytes(int units, int rows, int width);
/* A prompt's layer, with room for its matrix. */
enum sw_status sketchwalk_reserve_matrix(struct sw_sequence *seq, const struct sw_layer_input *in,
                                         struct sketchwalk_layer **layer);
/* Room for the walk's two states. */
enum sw_status sketchwalk_reserve_walk(struct sw_sequence *seq);
/* Block matrices of all units from `first` on: a whole one, or row c of it and the rows below. */
struct sw_unit_matrix sketchwalk_rows_from(const struct sketchwalk_state *s, float *first);
/* One row a unit. */
struct sw_unit_matrix sketchwalk_single_rows(const struct sketchwalk_state *s, float *rows);
/* Whether this sequence's prompt of `in` is followed by decode steps. */
bool sketchwalk_decode_follows(const struct sw_sequence *seq, const struct sw_layer_input *in);

/* sketches.c: sketches of all queries and keys of a prompt, in one launch where the backend can;
 * those of the queries into q_sums and q_sketch [units_q, cap, r]. */
enum sw_status sketchwalk_sketch_prompt(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                        const struct sw_layer_input *in, struct sw_scratch *q_sums,
                                        struct sw_scratch *q_sketch);
/* The block of token n - 1 anew, that token's key included. */
enum sw_status sketchwalk_sketch_last_key(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                          const struct sw_layer_input *in);
/* Single queries, the first of them at place i0 of out [units_q, ld, r]. */
enum sw_status sketchwalk_sketch_single_queries(struct sw_sequence *seq, int layer, const void *q,
                                                int n_q, int i0, int ld, float *out);
/* Query block c anew, the step's query included, in the layer's q_sums and q_sketch. */
enum sw_status sketchwalk_sketch_last_query_block(struct sw_sequence *seq,
                                                  struct sketchwalk_layer *layer,
                                                  const struct sw_layer_input *in);

/* scores.c: rows row0 … row0+rows-1 of the block matrix from query sketches q [units_q, q_ld, r].
 */
struct sketchwalk_rows {
    const float *q;
    int q_ld, row0, rows, b;
    bool softmax, pool_rows;
    float exponent;
    struct sw_unit_matrix out;
};
enum sw_status sketchwalk_score_rows(struct sw_sequence *seq, const struct sketchwalk_layer *layer,
                                     const struct sketchwalk_rows *rows);
/* Ablation `sketch: tokens`: rows of the true block mass, the mean over a unit's heads, to the
 * power `exponent`. */
enum sw_status sketchwalk_mass_rows(struct sw_sequence *seq, const struct sw_layer_input *in,
                                    int rows, float exponent, struct sw_unit_matrix out);

/* The forms: softmax.c, printed.c (arxiv), icml.c. Their prefill has the layer's matrix `a`
 * reserved, their decode the last key's block sketched. */
struct sketchwalk_form {
    enum sw_status (*prefill)(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                              const struct sw_layer_input *in, struct sw_selection *out);
    enum sw_status (*decode)(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                             const struct sw_layer_input *in, struct sw_selection *out);
    /* The whole step as one operation of the backend, where it has one: *done says so. May be
     * NULL. */
    enum sw_status (*decode_fused)(struct sw_sequence *seq, struct sketchwalk_layer *layer,
                                   const struct sw_layer_input *in, struct sw_selection *out,
                                   bool *done);
};

/* icml.c, for who ranks blocks by one-hop scores of more layers than this one: the layer's own
 * scores, valid until the sequence's next call (of a prompt its rows, else the step's row), and the
 * choice from scores of that shape. */
enum sw_status sketchwalk_icml_scores(struct sw_sequence *seq, const struct sw_layer_input *in,
                                      struct sw_unit_matrix *scores);
enum sw_status sketchwalk_icml_choose(struct sw_sequence *seq, const struct sw_layer_input *in,
                                      struct sw_unit_matrix scores, struct sw_selection *out);

extern const struct sketchwalk_form sketchwalk_softmax, sketchwalk_printed, sketchwalk_icml;

#endif
