/* safetensors.h: reads weights by mmap: one .safetensors file, or a folder with model.safetensors
 * or model.safetensors.index.json and its shards.
 *
 * The header is hostile input: its length, every dtype, shape and byte range are checked against
 * the file before anything is read (in range, no overlap, product of the shape = bytes / size).
 * Format: huggingface/safetensors README. */
#ifndef SW_SAFETENSORS_H
#define SW_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum sw_stored {
    SW_STORED_F32,
    SW_STORED_F16,
    SW_STORED_BF16,
    SW_STORED_I32,
    SW_STORED_I64,
    SW_STORED_U8
};

struct sw_stored_tensor {
    char *name;
    enum sw_stored type;
    int rank;
    int64_t shape[4];
    int64_t count;
    const void *data; /* inside the mapping; little-endian, maybe unaligned */
};

struct sw_safetensors;

/* SW_EINPUT: "FILE: what was found, what was expected"; SW_EIO when it cannot be opened or
 * mapped. */
SW_MUST_CHECK enum sw_status sw_safetensors_open(const char *path, struct sw_safetensors **out);
void sw_safetensors_close(struct sw_safetensors *st); /* NULL is fine */

/* NULL when absent */
const struct sw_stored_tensor *sw_safetensors_find(const struct sw_safetensors *st,
                                                   const char *name);
int sw_safetensors_count(const struct sw_safetensors *st);
/* by name, 0 … count-1 */
const struct sw_stored_tensor *sw_safetensors_at(const struct sw_safetensors *st, int i);

#ifdef __cplusplus
}
#endif
#endif
