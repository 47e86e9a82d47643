/* recovery.h: how much of the true attention a selection recovers. Host memory, but for
 * the scores of sw_count_negative.
 * Definitions: docs/measuring.md. */
#ifndef SW_RECOVERY_H
#define SW_RECOVERY_H

#include "core/backend.h"
#include "core/selection.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Means over the rows of a selection where the figure exists; count is how many. Sums, so that rows
 * of several calls can be pooled. */
struct sw_recovery_sum {
    double recall_sum, mass_sum;
    int64_t recall_rows, mass_rows;
};

/* Adds, for every row of `unit` of the selection, recall and mass against truth [rows, ld] (row r
 * is query block row0 + r; columns: key blocks).
 * Recall: T = the k best causal blocks by truth outside the common forced set {0, i-1, i}, k = kept
 * blocks outside it; |kept ∩ T| / k;
 * rows with k = 0 have none. Mass: the truth of the kept blocks, a partial block counting by its
 * share of causal pairs. SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_recovery_add(const struct sw_selection *s, int unit,
                                             const float *truth, int ld,
                                             struct sw_recovery_sum *sum);

/* Share of the blocks that spans touch which row `row` (0 …) of a unit keeps, whole or in part; a
 * block once. spans [count, 2]: tokens [first, last), all before the end of the row's own block. */
double sw_spans_kept(const struct sw_selection *s, int unit, int row, const int64_t *spans,
                     int count);

/* ||a - b||_F / ||b||_F over [n, heads, d], overall (returned) and per head (per_head [heads] or
 * NULL). */
double sw_relative_error(const float *a, const float *b, int n, int heads, int d, double *per_head);

/* How many scores of causal pairs of blocks are below zero, of how many: of all units, rows row0 …
 * row0 + rows - 1 (scores' first is row0). SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_count_negative(struct sw_backend *be, struct sw_unit_matrix scores,
                                               int row0, int rows, int64_t *negative, int64_t *all);

#ifdef __cplusplus
}
#endif
#endif
