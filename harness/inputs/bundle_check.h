/* bundle_check.h: what a tensor bundle (bundle.h) is, without loading it, and everything that is
 * wrong with one. */
#ifndef SW_BUNDLE_CHECK_H
#define SW_BUNDLE_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "core/model/shape.h"
#include "core/status.h"

struct sw_bundle_info {
    struct sw_shape shape;
    int n;             /* prompt tokens */
    int decode_tokens; /* 0: no /decode */
};

/* Reads attributes and the extents of every dataset, not the values. SW_EINPUT: "FILE: PLACE: found
 * X, expected Y", the first problem. */
SW_MUST_CHECK enum sw_status sw_bundle_describe(const char *path, struct sw_bundle_info *out);

/* The same, with every problem as a line in `messages`, and all values scanned for NaN and
 * infinities. SW_EINPUT when there are any. Without messages the first problem is the error. */
SW_MUST_CHECK enum sw_status sw_bundle_check(const char *path, FILE *messages,
                                             struct sw_bundle_info *out);

/* Whether `path` is an HDF5 file; *format: its root attribute "format", "" when it has none.
 * SW_EINPUT: it is one that cannot be opened. */
SW_MUST_CHECK enum sw_status sw_hdf5_format(const char *path, bool *is_hdf5, char *format,
                                            size_t size);

#endif
