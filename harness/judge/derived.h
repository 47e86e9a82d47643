/* derived.h: figures that need two cells: a method's difference with its counterpart (same.h), made
 * when results are read, so that it does not matter in which order, or on which day, the cells were
 * run. */
#ifndef SW_DERIVED_H
#define SW_DERIVED_H

#include "core/interval.h"
#include "harness/store/store.h"

/* sw_tidy_read_intact, with the rows `nll_delta` of every cell that has losses and a dense
 * counterpart. damaged NULL: a damaged cell is SW_EINPUT. */
SW_MUST_CHECK enum sw_status sw_derived_read(const char *results, struct sw_tidy **out,
                                             struct sw_texts *damaged);

/* Mean difference row - other over the same windows or prompts, with its 95 % interval; without raw
 * samples on both sides the difference of the values. */
SW_MUST_CHECK enum sw_status sw_derived_difference(const char *results,
                                                   const struct sw_tidy_row *row,
                                                   const struct sw_tidy_row *other,
                                                   struct sw_interval *out);

/* Median of a's raw samples / median of b's, with its interval; NaN where either has none. */
SW_MUST_CHECK enum sw_status sw_derived_ratio(const char *results, const struct sw_tidy_row *a,
                                              const struct sw_tidy_row *b, struct sw_interval *out);

#endif
