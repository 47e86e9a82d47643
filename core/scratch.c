/* Backend memory that grows with the sequence and is kept between layers. */
#include "core/scratch.h"

enum sw_status sw_scratch_reserve(struct sw_backend *be, struct sw_scratch *s, size_t bytes)
{
    if (s->bytes >= bytes)
        return SW_OK;
    sw_scratch_free(be, s);
    SW_TRY(be->alloc(be, bytes, &s->data));
    s->bytes = bytes;
    return SW_OK;
}

void sw_scratch_free(struct sw_backend *be, struct sw_scratch *s)
{
    be->free(be, s->data);
    s->data = NULL;
    s->bytes = 0;
}
