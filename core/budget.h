/* budget.h: how many key blocks each query block may keep at a requested density.
 *
 * Density is kept token pairs / causal token pairs. With b_i tokens in block i (the tail has r <=
 * B), a kept off-diagonal block costs b_i·B pairs and the diagonal, always kept, d_i =
 * b_i(b_i+1)/2. m_i counts off-diagonal blocks kept by row i. */
#ifndef SW_BUDGET_H
#define SW_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The set that every method keeps under a matched budget: block 0, the previous block and the
 * diagonal. */
struct sw_forced {
    int sink;  /* leading blocks */
    int local; /* trailing blocks, the diagonal included (>= 1) */
};
static const struct sw_forced SW_FORCED_COMMON = {.sink = 1, .local = 2};
static const struct sw_forced SW_FORCED_FIRST_AND_LAST = {.sink = 1, .local = 1};
static const struct sw_forced SW_FORCED_DIAGONAL = {.sink = 0, .local = 1};

/* Forced off-diagonal blocks of row i: |{0 … sink-1} ∪ {i-local+1 … i-1}| among 0 … i-1. */
int sw_forced_count(struct sw_forced forced, int i);
static inline bool sw_forced_has(struct sw_forced forced, int i, int j)
{
    return j < forced.sink || j > i - forced.local;
}

/* Every row keeps about the same share of its causal pairs. Fills m[0 … b-1]. The total
 * is within half a block of density · n(n+1)/2 unless the forced set alone is more (*floored says
 * so; it may be NULL). density in (0, 1]. */
SW_MUST_CHECK enum sw_status sw_budget_rows(int n, int block, double density,
                                            struct sw_forced forced, int *m, bool *floored);

/* Decode with n keys, the current token's included: off-diagonal blocks to keep. */
int sw_budget_decode(int n, int block, double density, struct sw_forced forced, bool *floored);

/* Kept pairs of a budget, for accounting and tests. */
int64_t sw_budget_pairs(int n, int block, const int *m);

#ifdef __cplusplus
}
#endif
#endif
