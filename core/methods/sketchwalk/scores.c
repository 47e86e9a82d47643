/* Sketch&Walk: rows of the block matrix, from sketches or from true attention. */
#include <math.h>
#include <stdlib.h>

#include "core/methods/sketchwalk/state.h"

enum sw_status sketchwalk_score_rows(struct sw_sequence *seq, const struct sketchwalk_layer *layer,
                                     const struct sketchwalk_rows *rows)
{
    const struct sketchwalk_state *s = seq->state;
    struct sw_block_scores a = {.q = rows->q,
                                .k = layer->k_sketch.data,
                                .units_q = s->units_q,
                                .units_k = s->units_k,
                                .rows = rows->rows,
                                .row0 = rows->row0,
                                .b = rows->b,
                                .r = s->r,
                                .q_ld = rows->q_ld,
                                .k_ld = s->cap,
                                .scale = s->logit_scale,
                                .clamp = s->rules.clamp,
                                .exponent = rows->exponent,
                                .softmax = rows->softmax,
                                .causal = s->rules.causal,
                                .pool_rows = rows->pool_rows,
                                .out = rows->out};
    return seq->backend->block_scores(seq->backend, &a);
}

/* To a power on the host: an ablation is no contender in time. */
static enum sw_status raise_rows(struct sw_backend *be, const struct sw_unit_matrix *m, int rows,
                                 int b, float exponent)
{
    size_t row_bytes = sizeof(float) * (size_t)b;
    float *host = malloc(row_bytes);
    if (!host)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", row_bytes);
    enum sw_status st = SW_OK;
    for (int u = 0; u < m->units; u++)
        for (int i = 0; i < rows; i++) {
            float *row = sw_unit_row(m, (size_t)u, (size_t)i);
            SW_TRY_GOTO(st, done, be->download(be, host, row, row_bytes));
            for (int j = 0; j < b; j++)
                host[j] = powf(host[j], exponent);
            SW_TRY_GOTO(st, done, be->upload(be, row, host, row_bytes));
        }
done:
    free(host);
    return st;
}

enum sw_status sketchwalk_mass_rows(struct sw_sequence *seq, const struct sw_layer_input *in,
                                    int rows, float exponent, struct sw_unit_matrix out)
{
    struct sketchwalk_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int heads = seq->shape.n_heads, b = sw_blocks(in->n, sw_sequence_block(seq));
    SW_TRY(sw_scratch_reserve(be, &s->mass, sketchwalk_matrix_bytes(s, heads)));
    struct sw_unit_matrix mass = {s->mass.data, heads, s->cap, s->cap};
    struct sw_attend attention = sw_sequence_attend(seq, in);
    struct sw_block_mass whole = {.in = attention, .block = sw_sequence_block(seq), .out = mass};
    struct sw_mean_units mean = {.in = mass, .rows = rows, .cols = b, .out = out};
    SW_TRY(be->block_mass(be, &whole));
    SW_TRY(be->mean_units(be, &mean));
    return exponent == 1.0f ? SW_OK : raise_rows(be, &out, rows, b, exponent);
}
