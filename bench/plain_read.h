/* plain_read.h: reads the listed blocks of K and V once and does nothing with them: the limit of
 * decode attention over them. */
#ifndef PLAIN_READ_H
#define PLAIN_READ_H

#include <stdint.h>

#include "core/backend.h"

struct plain_read {
    const void *k, *v;
    const int32_t *indices; /* [batch, blocks], device memory; NULL: the first ones */
    /* of K and of V, multiples of 16; from one sequence to the next */
    int64_t block_bytes, sequence_bytes;
    int batch, blocks; /* blocks: of one sequence */
};

#ifdef __cplusplus
extern "C"
#endif
    SW_MUST_CHECK enum sw_status
    plain_read(struct sw_backend *be, const struct plain_read *a);

#endif
