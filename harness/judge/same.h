/* same.h: which cells belong together. Whatever pairs cells asks here, so that no table, check or
 * gate can forget what another one looks at.
 *
 * What decides a cell is its identity (harness/config/identity.h). Two hashes of it are columns of
 * the tidy table: `experiment` (all but the code) and `conditions` (all but the code and what the
 * method is: name, parameters, density, budget). A method's counterparts share its conditions:
 *   dense      its quality baseline. Every dense cell of the conditions has the same losses up to
 *              rounding; that of the same block size is taken, then the first by parameters.
 *   baseline   what its speed-ups are over: of all dense cells of the conditions (kernels, block
 *              sizes) the one with the smallest value of the metric, so that no method looks faster
 *              by a slow baseline; where the cell's config names a kernel, of the dense cells with
 *              that kernel, if there is one.
 *   one-hop    of the same density; the same budget and block size where there are several.
 *   oracle     one list a head, under the common forced blocks, of the same density, budget and
 *              block size: no list of blocks recovers more mass. */
#ifndef SW_SAME_H
#define SW_SAME_H

#include "harness/store/store.h"

/* An index over the rows of ok cells that hold a metric over all layers. The table must stay as it
 * is while it is used. Made in O(n log n); each question takes O(log n + answers). SW_ENOMEM. */
struct sw_same;
SW_MUST_CHECK enum sw_status sw_same_make(const struct sw_tidy *tidy, struct sw_same **out);
void sw_same_free(struct sw_same *same); /* NULL is fine */

/* The counterpart's row of the same metric, or NULL; of a dense or one-hop cell it may be the row
 * itself. */
const struct sw_tidy_row *sw_same_dense(const struct sw_same *same, const struct sw_tidy_row *row);
const struct sw_tidy_row *sw_same_one_hop(const struct sw_same *same,
                                          const struct sw_tidy_row *row);
const struct sw_tidy_row *sw_same_oracle(const struct sw_same *same, const struct sw_tidy_row *row);

/* The baseline of the row's speed-up. *kernel: it is of the kernel that the row's config names;
 * false where that is `fastest`, or where no dense cell has it. */
const struct sw_tidy_row *sw_same_baseline(const struct sw_same *same,
                                           const struct sw_tidy_row *row, bool *kernel);

/* The rows of all dense cells of the row's conditions and metric, n of them. */
const struct sw_tidy_row *const *sw_same_all_dense(const struct sw_same *same,
                                                   const struct sw_tidy_row *row, int *n);

/* What cells of two result folders share when they are one experiment made by other code, on
 * another machine, or over other content of the same inputs (a comparison says which): the identity
 * without those, without what is measured beside, and with parameters at their defaults left out.
 * Malloc'd text; `input` is the hash of that content. SW_EINPUT: not an identity. */
SW_MUST_CHECK enum sw_status sw_same_across_code(const char *identity, char **out, char **input);

#endif
