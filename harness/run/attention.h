/* attention.h: the attention of a cell, as its config says. */
#ifndef SW_ATTENTION_H
#define SW_ATTENTION_H

#include "core/sparse.h"
#include "harness/config/cell.h"

/* Sets up method and phases for a sequence of at most max_tokens, prompt and decode together. */
SW_MUST_CHECK enum sw_status sw_attention_open(const struct sw_cell *cell, struct sw_backend *be,
                                               const struct sw_shape *shape, int max_tokens,
                                               struct sw_sparse *sp);
void sw_attention_close(struct sw_sparse *sp); /* fine on a zeroed one */

/* Whether the attention of a prompt of `tokens` may be written over its queries
 * (sw_sparse_in_place). */
bool sw_attention_in_place(const struct sw_cell *cell, struct sw_backend *be,
                           const struct sw_shape *shape, int tokens);

#endif
