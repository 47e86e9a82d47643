/* reference.h: what a selection in host memory means, as core/selection.h writes it. */
#ifndef SW_TEST_REFERENCE_H
#define SW_TEST_REFERENCE_H

#include "core/backend.h"

/* May query position t of the block row's unit see key u? Dense causal when sel is NULL. */
bool sw_reference_sees(const struct sw_selection *sel, int unit, int t, int u);

#endif
