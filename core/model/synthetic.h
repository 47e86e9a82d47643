/* synthetic.h: generated queries, keys and values at a model's shape; the same bits on every
 * machine, whatever the order of generation.
 *
 * gaussian: independent standard normals: no structure, the worst case for any selection.
 * planted: every run of 64 tokens has a topic direction a KV head; queries of a run look for their
 * own topic, the first one's (a sink) and those of three earlier runs drawn a layer, so that a
 * known few blocks hold most of the attention mass and hops through layers exist. */
#ifndef SW_SYNTHETIC_H
#define SW_SYNTHETIC_H

#include <stdint.h>

#include "core/model/shape.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SW_SYNTHETIC_VERSION = 1 }; /* part of every cell's key: raise it when the numbers change */

/* Tokens 0 … n-1 of a layer: q [n, H, d], k, v [n, Hkv, d] fp32, host. A longer n begins with the
 * same tokens. */
SW_MUST_CHECK enum sw_status sw_synthetic_layer(const struct sw_shape *shape, int planted,
                                                uint64_t seed, int layer, int n, float *q, float *k,
                                                float *v);

#ifdef __cplusplus
}
#endif
#endif
