/* host.h: what crosses the line between the program and the CUDA module, which is opened at run
 * time.
 *
 * The module (libswbench_cuda.so) exports one function, sw_cuda_backend_open. It needs three things
 * of the core, and gets them as pointers: linked in a second time, the core would keep its error
 * text twice. */
#ifndef SW_CUDA_HOST_H
#define SW_CUDA_HOST_H

#include "core/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

struct sw_cuda_host {
    /* SW_INTERFACE_HASH, by kernels/CMakeLists.txt: of the headers that say what the two sides
     * share. A module built from others must not be used. */
    uint64_t interface_hash;
    enum sw_status (*fail_at)(const char *file, int line, enum sw_status code, const char *fmt,
                              ...);
    enum sw_status (*selection_reserve)(struct sw_selection *s, struct sw_backend *backend,
                                        int units, int rows, int64_t capacity, bool with_partial);
    enum sw_status (*selection_reserve_masks)(struct sw_selection *s, int mask_ld, int query_words);
};

/* SW_EINPUT when there is no driver or no device that this build supports; the message says
 * which. */
typedef enum sw_status sw_cuda_backend_open_fn(const struct sw_cuda_host *host, int threads,
                                               struct sw_backend **out);

#ifdef __cplusplus
}
#endif
#endif
