/* Attention rolled out over layers, for the row that a decode step adds. */
#include "harness/run/decode_rollout.h"

#include <stdlib.h>

enum sw_status sw_decode_rollout_make(struct sw_decode_rollout *r, struct sw_capture *capture,
                                      int n, int m, int block)
{
    int L = sw_capture_shape(capture)->n_layers;
    size_t b = (size_t)sw_blocks(n, block), all = (size_t)sw_blocks(n + m, block);
    *r = (struct sw_decode_rollout){.layers = L, .blocks = (int)b};
    r->below = calloc((size_t)L, sizeof *r->below);
    r->own = calloc(all, sizeof *r->own);
    r->reach = calloc(all, sizeof *r->reach);
    bool made = r->below && r->own && r->reach;
    for (int l = 0; made && l < L; l++)
        made = (r->below[l] = calloc(b * b, sizeof **r->below)) != NULL;
    if (!made)
        return SW_FAIL(SW_ENOMEM, "rollout of %d layers: out of host memory", L);
    for (size_t i = 0; i < b; i++)
        r->below[0][i * b + i] = 1;
    for (int l = 1; l < L; l++) {
        const float *rolled;
        SW_TRY(sw_capture_rollout(capture, l - 1, n, block, &rolled));
        for (size_t e = 0; e < b * b; e++)
            r->below[l][e] = 0.5f * r->below[l - 1][e] + 0.5f * rolled[e];
    }
    return SW_OK;
}

void sw_decode_rollout_free(struct sw_decode_rollout *r)
{
    for (int l = 0; r->below && l < r->layers; l++)
        free(r->below[l]);
    free(r->below);
    free(r->own);
    free(r->reach);
    *r = (struct sw_decode_rollout){0};
}

const float *sw_decode_rollout_step(struct sw_decode_rollout *r, int layer, const float *mass,
                                    int b)
{
    int c = b - 1;
    for (int k = 0; k < b; k++) {
        r->reach[k] = 0;
        if (layer == 0)
            r->own[k] = (float)(k == c);
    }
    for (int j = 0; j < b; j++) {
        if (j != c && j >= r->blocks) {
            r->reach[j] += mass[j];
            continue;
        }
        const float *row = j == c ? r->own : r->below[layer] + (size_t)j * (size_t)r->blocks;
        for (int k = 0; k <= j; k++)
            r->reach[k] += mass[j] * row[k];
    }
    for (int k = 0; k < b; k++)
        r->own[k] = 0.5f * r->own[k] + 0.5f * r->reach[k];
    return r->reach;
}
