/* scratch.h: backend memory that grows when a longer sequence needs it and is kept between
 * layers. */
#ifndef SW_SCRATCH_H
#define SW_SCRATCH_H

#include "core/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

struct sw_scratch {
    void *data;
    size_t bytes;
};

/* Makes room for at least `bytes`; what it held is lost when it has to grow. SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_scratch_reserve(struct sw_backend *be, struct sw_scratch *s,
                                                size_t bytes);
void sw_scratch_free(struct sw_backend *be, struct sw_scratch *s);

#ifdef __cplusplus
}
#endif
#endif
