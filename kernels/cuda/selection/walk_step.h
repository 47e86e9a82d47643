/* walk_step.h: one step of the walk as its kernels see it: walk_step.cu, which selects, and
 * decode.cu, which may attend as soon as the list is written. */
#ifndef SW_CUDA_WALK_STEP_H
#define SW_CUDA_WALK_STEP_H

#include <cstdint>

#include "core/backend.h"

/* Everything that each sequence has is here the first one's. */
struct step_args {
    struct sw_walk_step in;
    struct sw_srht t;
    int c, b, strips, bands, whole_exponent; /* c: the token's block; b = c + 1 */
    int wide;                                /* columns of a tile of the matrix */
    int bands_room;                          /* of `part`, a sequence */
    /* CTAs a sequence, besides the finisher */
    int workers;
    /* [batch]: whether everything that this step leaves is written */
    unsigned *written;
    /* [batch, ld]; [batch, bands_room, ld]: sums over the rows of each band */
    float *logits, *part;
    /* an entry is NOT_YET (reduce.cuh) until it is written */
    int32_t *indptr, *indices;
};

#endif
