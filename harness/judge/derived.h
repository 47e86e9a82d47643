/* derived.h: figures that need two cells: a method's difference with the dense cell of the same
 * inputs. They are made when results are read, so that it does not matter in which order, or on
 * which day, the cells were run. */
#ifndef SW_DERIVED_H
#define SW_DERIVED_H

#include "harness/store/store.h"

/* The dense cell's row of the same metric, inputs, seed and device as `row` (over all layers), or
 * NULL. */
const struct sw_tidy_row *sw_tidy_dense(const struct sw_tidy *tidy, const struct sw_tidy_row *row);

/* The row of the first onehop cell of the same metric, inputs, seed, device and density, or NULL:
 * what a method adds to it. */
const struct sw_tidy_row *sw_tidy_one_hop(const struct sw_tidy *tidy,
                                          const struct sw_tidy_row *row);

/* Mean difference row - dense over the same windows or prompts, with its 95 % interval; without raw
 * samples the difference of the values. */
struct sw_interval;
SW_MUST_CHECK enum sw_status sw_tidy_difference(const char *results, const struct sw_tidy_row *row,
                                                const struct sw_tidy_row *dense,
                                                struct sw_interval *out);

/* Median of a's raw samples / median of b's, with its interval; NaN where either has none. */
SW_MUST_CHECK enum sw_status sw_tidy_ratio(const char *results, const struct sw_tidy_row *a,
                                           const struct sw_tidy_row *b, struct sw_interval *out);

/* Adds the rows `nll_delta`. The table's order is the caller's business. */
SW_MUST_CHECK enum sw_status sw_tidy_derive(const char *results, struct sw_tidy *tidy);

#endif
