/* reference.h: the operations of core/backend.h once more, in double precision and as plain loops.
 * Host memory. */
#ifndef SW_TEST_REFERENCE_H
#define SW_TEST_REFERENCE_H

#include "core/backend.h"

/* May query position t of the block row's unit see key u? Dense causal when sel is NULL. */
bool sw_reference_sees(const struct sw_selection *sel, int unit, int t, int u);

/* out [batch, n_q, H, d]. And the same arithmetic in fp32, the yardstick of kernel errors. */
void sw_reference_attend(const struct sw_attend *a, double *out);
void sw_reference_attend_fp32(const struct sw_attend *a, float *out);

/* out [H, rows, blocks]. */
void sw_reference_block_mass(const struct sw_attend *a, int block, double *out);

#endif
