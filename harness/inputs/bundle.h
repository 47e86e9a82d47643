/* bundle.h: tensor bundles: captured queries, keys and values of any model, in HDF5.
 * docs/formats.md has the layout, and the lines of Python that write one. */
#ifndef SW_BUNDLE_H
#define SW_BUNDLE_H

#include "core/model/shape.h"
#include "core/status.h"

struct sw_bundle;

/* Opens and checks attributes, and shape and type of every dataset. SW_EINPUT: "FILE: dataset:
 * found, expected". */
SW_MUST_CHECK enum sw_status sw_bundle_open(const char *path, struct sw_bundle **out);
void sw_bundle_close(struct sw_bundle *bundle); /* NULL is fine */

const struct sw_shape *sw_bundle_shape(const struct sw_bundle *bundle);
int sw_bundle_tokens(const struct sw_bundle *bundle);        /* n, of the prompt */
int sw_bundle_decode_tokens(const struct sw_bundle *bundle); /* 0 when there is no /decode */

/* Reads a layer, prompt and decode tokens end to end: q [n + m, H, d], k, v [n + m, Hkv, d] fp32.
 * SW_EINPUT for NaN or infinity, naming dataset and place; SW_EIO. */
SW_MUST_CHECK enum sw_status sw_bundle_read(struct sw_bundle *bundle, int layer, float *q, float *k,
                                            float *v);

#endif
