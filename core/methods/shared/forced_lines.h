/* forced_lines.h: blocks that a rule keeps whatever their scores: leading ones, distances from the
 * diagonal, and the last rows whole. */
#ifndef SW_METHODS_FORCED_LINES_H
#define SW_METHODS_FORCED_LINES_H

#include "core/method.h"
#include "core/scratch.h"

struct forced_lines {
    int b;                   /* blocks that the flags below are of; 0: not made yet */
    struct sw_scratch flags; /* [3, units, b]: columns, distances, whole rows */
};

/* Marks in keep, [units, b, b] of a prompt, the first `sink` blocks, the `window` latest ones of
 * each row (1: the diagonal), and the last `dense_rows` rows whole. They are the same in all
 * layers, so that they are uploaded once. */
struct forced_rule {
    int sink, window, dense_rows;
};
SW_MUST_CHECK enum sw_status forced_lines_keep(struct sw_sequence *seq,
                                               const struct sw_layer_input *in,
                                               struct forced_rule rule, struct forced_lines *lines,
                                               struct sw_keep_matrix keep);
void forced_lines_free(struct sw_backend *be, struct forced_lines *lines);

#endif
