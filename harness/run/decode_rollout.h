/* decode_rollout.h: the rollout truth of decode steps.
 *
 * P^l = ½P^(l-1) + ½M^l·P^(l-1), P^-1 = I, is attention rolled out over layers 0 … l. A decode step
 * changes its own row of it alone, c: with m the step's true mass in layer l, the layer's rollout
 * truth is reach = m·P^(l-1), where row c of P is the step's own, and own <- ½own + ½reach. Blocks
 * that decoding has filled since the prompt reach themselves only. */
#ifndef SW_DECODE_ROLLOUT_H
#define SW_DECODE_ROLLOUT_H

#include "harness/run/capture.h"

struct sw_decode_rollout {
    int layers, blocks; /* of the prompt */
    float **below;      /* [layers] the prompt's rollout up to below each layer [blocks, blocks] */
    float *own, *reach; /* [b] of the step */
};

/* For m steps after a prompt of n tokens. */
SW_MUST_CHECK enum sw_status sw_decode_rollout_make(struct sw_decode_rollout *r,
                                                    struct sw_capture *capture, int n, int m,
                                                    int block);
void sw_decode_rollout_free(struct sw_decode_rollout *r); /* fine on a zeroed one */

/* The rollout truth [b] of a step in a layer, from its mass [b] averaged over heads; all layers of
 * a step, in their order. Valid until the next call. */
const float *sw_decode_rollout_step(struct sw_decode_rollout *r, int layer, const float *mass,
                                    int b);

#endif
