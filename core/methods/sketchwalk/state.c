/* Sketch&Walk: what a sequence keeps, made and freed; which form does the work of a layer. */
#include <math.h>
#include <stdlib.h>

#include "core/methods/sketchwalk/state.h"
#include "core/rng.h"

static const struct sketchwalk_form *form_of(const struct sketchwalk_params *p)
{
    static const struct sketchwalk_form *const forms[] = {
        [SKETCHWALK_ARXIV] = &sketchwalk_printed,
        [SKETCHWALK_SOFTMAX] = &sketchwalk_softmax,
        [SKETCHWALK_ICML] = &sketchwalk_icml,
    };
    return forms[p->variant];
}

static bool is_true(int value, bool when_auto)
{
    return value == SWITCH_AUTO ? when_auto : value == SWITCH_TRUE;
}

static struct sketchwalk_rules rules_of(const struct sketchwalk_params *p, enum sw_budget_mode mode)
{
    bool native = mode == SW_BUDGET_NATIVE;
    bool released = p->variant == SKETCHWALK_ICML &&
                    (p->preset == PRESET_RELEASED || (p->preset == PRESET_AUTO && native));
    return (struct sketchwalk_rules){
        .causal = p->variant != SKETCHWALK_ARXIV && is_true(p->causal_blocks, !released),
        .padded_tail = p->tail_mean == TAIL_AUTO ? released : p->tail_mean == TAIL_PADDED,
        .sink_is_window = is_true(p->sink_uses_window, released),
        .transform_per_layer =
            p->transform == TRANSFORM_AUTO ? released : p->transform == TRANSFORM_LAYER,
        /* the released code clamps the logits of its exact mode, and of no other */
        .clamp = released && p->sketch == SKETCH_EXACT ? 10.0f : 0.0f,
    };
}

/* Sketches of arxiv and softmax are unbiased: products of theirs have the products of the means as
 * their mean. icml's transform is not normalised, its result is divided by sqrt(d'/r), and logits
 * are <q,k>/sqrt(r)/temperature: at r = d' exactly sqrt(d')/temperature times the product of the
 * means, which the other sketches therefore use. */
static void set_scales(struct sketchwalk_state *s, const struct sketchwalk_params *p, int d)
{
    bool hadamard = p->sketch == SKETCH_HADAMARD;
    double root_r = sqrt((double)s->r), root_d = sqrt((double)d),
           root_pow2 = sqrt((double)sw_next_power_of_two(d));
    if (p->variant == SKETCHWALK_ICML) {
        s->sketch_scale = (float)(root_r / root_pow2);
        s->logit_scale = (float)((hadamard ? 1.0 / root_r : root_pow2) / p->temperature);
        return;
    }
    bool by_r = p->variant == SKETCHWALK_ARXIV || p->logit_scale == SCALE_R;
    s->sketch_scale = (float)(1.0 / root_r);
    s->logit_scale = (float)(1.0 / (by_r ? root_r : root_d));
}

enum sw_status sketchwalk_begin(struct sw_sequence *seq, bool walk)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    const struct sw_shape *shape = &seq->shape;
    bool icml = p->variant == SKETCHWALK_ICML;
    s->walk = walk;
    s->rules = rules_of(p, seq->mode);
    /* rows of 16 bytes, for wide loads */
    s->cap = (sw_blocks(seq->max_tokens, p->common.block_size) + 3) / 4 * 4;
    s->units = p->per_head ? shape->n_heads : p->per_group ? shape->n_kv_heads : 1;
    s->units_q = icml ? shape->n_heads : s->units;
    s->units_k = icml || s->units != 1 ? shape->n_kv_heads : 1;
    int d = shape->head_dim, d_pow2 = sw_next_power_of_two(d);
    int r = p->sketch_dim ? p->sketch_dim : icml ? 128 : 64;
    s->r = p->sketch != SKETCH_HADAMARD ? d : r < d_pow2 ? r : d_pow2;
    set_scales(s, p, d);
    s->n_layers = shape->n_layers;
    s->layers = calloc((size_t)s->n_layers, sizeof *s->layers);
    if (!s->layers)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory",
                       (size_t)s->n_layers * sizeof *s->layers);
    if (p->sketch != SKETCH_HADAMARD)
        return SW_OK;
    if (!s->rules.transform_per_layer) {
        SW_TRY(sw_srht_make(seq->backend, d, s->r, seq->seed, &s->srht));
        s->srht.scale = s->sketch_scale;
    }
    for (int l = 0; s->rules.transform_per_layer && l < s->n_layers; l++) {
        uint64_t seed = sw_rng_u64(seq->seed, SW_RNG_LAYER, (uint64_t)l);
        SW_TRY(sw_srht_make(seq->backend, d, s->r, seed, &s->layers[l].srht));
        s->layers[l].srht.scale = s->sketch_scale;
    }
    return SW_OK;
}

void sketchwalk_end(struct sw_sequence *seq)
{
    struct sketchwalk_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    for (int l = 0; s->layers && l < s->n_layers; l++) {
        struct sketchwalk_layer *layer = &s->layers[l];
        struct sw_scratch *all[] = {&layer->k_sums,   &layer->k_sketch, &layer->q_sums,
                                    &layer->q_sketch, &layer->a,        &layer->window};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            sw_scratch_free(be, all[i]);
        sw_srht_free(be, &layer->srht);
    }
    free(s->layers);
    struct sw_scratch *all[] = {&s->q_sums, &s->q_sketch, &s->x[0], &s->x[1],
                                &s->row,    &s->sharp,    &s->mass};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sw_scratch_free(be, all[i]);
    sw_srht_free(be, &s->srht);
}

size_t sketchwalk_matrix_bytes(const struct sketchwalk_state *s, int units)
{
    return sizeof(float) * (size_t)units * (size_t)s->cap * (size_t)s->cap;
}

size_t sketchwalk_vector_bytes(int units, int rows, int width)
{
    return sizeof(float) * (size_t)units * (size_t)rows * (size_t)width;
}

enum sw_status sketchwalk_reserve_walk(struct sw_sequence *seq)
{
    struct sketchwalk_state *s = seq->state;
    for (int i = 0; i < 2; i++)
        SW_TRY(sw_scratch_reserve(seq->backend, &s->x[i], sketchwalk_matrix_bytes(s, s->units)));
    return SW_OK;
}

struct sw_unit_matrix sketchwalk_rows_from(const struct sketchwalk_state *s, float *first)
{
    return (struct sw_unit_matrix){first, s->units, s->cap, s->cap};
}

struct sw_unit_matrix sketchwalk_single_rows(const struct sketchwalk_state *s, float *rows)
{
    return (struct sw_unit_matrix){rows, s->units, 1, s->cap};
}

bool sketchwalk_decode_follows(const struct sw_sequence *seq, const struct sw_layer_input *in)
{
    return in->n < seq->max_tokens;
}

enum sw_status sketchwalk_reserve_matrix(struct sw_sequence *seq, const struct sw_layer_input *in,
                                         struct sketchwalk_layer **layer)
{
    struct sketchwalk_state *s = seq->state;
    bool follows = sketchwalk_decode_follows(seq, in);
    size_t bytes = sketchwalk_matrix_bytes(s, s->units);
    *layer = &s->layers[follows ? in->layer : 0];
    SW_TRY(sw_scratch_reserve(seq->backend, &(*layer)->a, bytes));
    if (follows) /* rows and columns of blocks to come */
        SW_TRY(seq->backend->zero(seq->backend, (*layer)->a.data, bytes));
    return SW_OK;
}

enum sw_status sketchwalk_prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                                  struct sw_selection *out)
{
    struct sketchwalk_layer *layer;
    SW_TRY(sketchwalk_reserve_matrix(seq, in, &layer));
    return form_of(seq->params)->prefill(seq, layer, in, out);
}

enum sw_status sketchwalk_decode(struct sw_sequence *seq, const struct sw_layer_input *in,
                                 struct sw_selection *out)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    const struct sketchwalk_form *form = form_of(p);
    struct sketchwalk_layer *layer = &s->layers[in->layer];
    if (!layer->a.data)
        return SW_FAIL(SW_EINTERNAL, "decode of layer %d before its prompt", in->layer);
    bool done = false;
    if (form->decode_fused)
        SW_TRY(form->decode_fused(seq, layer, in, out, &done));
    if (done)
        return SW_OK;
    if (p->sketch != SKETCH_TOKENS)
        SW_TRY(sketchwalk_sketch_last_key(seq, layer, in));
    return form->decode(seq, layer, in, out);
}

struct sw_unit_matrix sketchwalk_raw_scores(struct sw_sequence *seq,
                                            const struct sw_layer_input *in)
{
    const struct sketchwalk_params *p = seq->params;
    struct sketchwalk_state *s = seq->state;
    if (p->variant != SKETCHWALK_ARXIV)
        return (struct sw_unit_matrix){.data = NULL};
    /* as sketchwalk_reserve_matrix and sketchwalk_decode find it */
    bool alone = in->n_q == in->n && !sketchwalk_decode_follows(seq, in);
    size_t row0 = (size_t)((in->n - in->n_q) / sw_sequence_block(seq));
    float *a = s->layers[alone ? 0 : in->layer].a.data;
    return sketchwalk_rows_from(s, a + row0 * (size_t)s->cap);
}
