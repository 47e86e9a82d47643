/* open.h: opening a backend by its name. */
#ifndef SW_KERNELS_OPEN_H
#define SW_KERNELS_OPEN_H

#include "core/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Opens "cpu", "cuda" or "auto" (cuda when there is a driver and a device, else cpu). threads <= 0:
 * all cores (or SWBENCH_THREADS). SW_EINPUT when the asked backend is not in this build or has no
 * device; the message says which. */
SW_MUST_CHECK enum sw_status sw_backend_open(const char *name, int threads,
                                             struct sw_backend **out);

/* One line a backend for `swbench ls backends`: is it built in, is there a device. Returns text. */
const char *sw_backend_state(const char *name, char *text, size_t size);
extern const char *const sw_backend_names[]; /* ends with NULL */

/* Of kernels/cpu. That of kernels/cuda is in a module of its own: kernels/cuda/device/host.h. */
SW_MUST_CHECK enum sw_status sw_cpu_backend_open(int threads, struct sw_backend **out);

#ifdef __cplusplus
}
#endif
#endif
