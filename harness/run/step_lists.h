/* step_lists.h: the lists of a layer's decode steps, joined as they are saved. */
#ifndef SW_STEP_LISTS_H
#define SW_STEP_LISTS_H

#include "harness/store/store.h"

struct sw_step_lists {
    struct sw_selection lists; /* rows are steps; n and n_q after the last step */
    struct sw_kept_in_part parts;
    int32_t *window, *sink; /* what parts points to */
    uint64_t *keys;
};

/* Joins the lists of m steps, on the host, each of one row, one after the other: unit-major, then
 * steps. SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_step_lists_join(struct sw_step_lists *out,
                                                const struct sw_selection *steps, int m);
void sw_step_lists_free(struct sw_step_lists *s); /* zeroed is fine */

#endif
