/* kept.h: densities of a method's lists in a model's own passes. They need the lists and no truth,
 * so that a cell which measures no recovery has them too, without a dense run kept beside it. */
#ifndef SW_KEPT_H
#define SW_KEPT_H

#include "core/sparse.h"
#include "harness/config/cell.h"
#include "harness/run/figures.h"

struct sw_kept {
    const struct sw_cell *cell; /* NULL: nothing is counted */
    struct sw_figures figures;
    struct sw_selection lists; /* of a layer, on the host */
    int64_t counted, most;     /* lists that were counted, and that are at most */
};

/* Begins to count where no probe does (sw_cell_recovery_samples) and no time is taken, which a look
 * at the lists would disturb. */
SW_MUST_CHECK enum sw_status sw_kept_begin(struct sw_kept *kept, const struct sw_cell *cell,
                                           const struct sw_shape *shape);
void sw_kept_end(struct sw_kept *kept); /* fine on a zeroed one */

/* Whether the next decode step is one to look at; such a step cannot be recorded. */
bool sw_kept_wants_step(const struct sw_kept *kept);

/* After sw_sparse_attend of a layer: counts its list, of the prompt where prompts are sparse, else
 * of the first 16 decode steps. Without the memory for it nothing is counted, and the pass goes
 * on. */
SW_MUST_CHECK enum sw_status sw_kept_count(struct sw_kept *kept, const struct sw_sparse *sp,
                                           int layer, int n_q, int n_k);

/* The densities into the result; none where no list was seen. */
SW_MUST_CHECK enum sw_status sw_kept_report(struct sw_kept *kept, struct sw_result *result);

#endif
