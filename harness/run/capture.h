/* capture.h: the queries, keys and values of one sequence, from a bundle, a generator or a dense
 * run of a model, and the truth about them: dense attention's output and block mass. Recovery and
 * output error of every method are measured on it, whatever it came from. */
#ifndef SW_CAPTURE_H
#define SW_CAPTURE_H

#include "core/backend.h"
#include "core/model/model.h"
#include "core/model/synthetic.h"
#include "harness/inputs/bundle.h"

struct sw_capture;

/* Takes the bundle over. */
SW_MUST_CHECK enum sw_status sw_capture_bundle(struct sw_backend *be, struct sw_bundle *bundle,
                                               struct sw_capture **out);
SW_MUST_CHECK enum sw_status sw_capture_synthetic(struct sw_backend *be,
                                                  const struct sw_shape *shape, int planted,
                                                  uint64_t seed, int tokens,
                                                  struct sw_capture **out);
/* Runs the model densely over ids and keeps every layer's q, k, v. */
SW_MUST_CHECK enum sw_status sw_capture_model(struct sw_backend *be, struct sw_model *model,
                                              const int32_t *ids, int tokens,
                                              struct sw_capture **out);
void sw_capture_free(struct sw_capture *c); /* NULL is fine */

const struct sw_shape *sw_capture_shape(const struct sw_capture *c);

/* A layer's activations in backend memory: q [tokens, H, d], k, v [tokens, Hkv, d]. Valid until the
 * next call, or for good where all layers are resident. */
struct sw_capture_layer {
    const void *q, *k, *v;
};
SW_MUST_CHECK enum sw_status sw_capture_get(struct sw_capture *c, int layer,
                                            struct sw_capture_layer *out);
/* SW_ENOMEM unless all layers are in memory at one time: decode visits every layer at every step.
 */
SW_MUST_CHECK enum sw_status sw_capture_need_resident(const struct sw_capture *c);

/* Dense truth of the queries first … n-1 (n_q = n: a prompt; n_q = 1: the last token only), in host
 * memory, kept while there is room: output [n_q, H, d], and block mass [H, rows, b] with rows = b
 * or 1. The pointer is valid until the next call. */
SW_MUST_CHECK enum sw_status sw_capture_output(struct sw_capture *c, int layer, int n, int n_q,
                                               const float **output);
SW_MUST_CHECK enum sw_status sw_capture_mass(struct sw_capture *c, int layer, int n, int n_q,
                                             int block, const float **mass);
/* The same averaged over heads [b, b], and the rollout truth M^l·(½I + ½M^(l-1))···(½I + ½M^0) [b,
 * b] of a prompt. */
SW_MUST_CHECK enum sw_status sw_capture_rollout(struct sw_capture *c, int layer, int n, int block,
                                                const float **rollout);

#endif
