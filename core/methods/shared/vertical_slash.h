/* vertical_slash.h: what the vertical-slash family shares (minference, flexprefill): how the last
 * queries attend, by key and by distance, their sums over blocks, and the flags of what is kept of
 * them. One row a head everywhere; prompts only. */
#ifndef SW_METHODS_VERTICAL_SLASH_H
#define SW_METHODS_VERTICAL_SLASH_H

#include "core/method.h"
#include "core/scratch.h"

struct sw_vertical_slash_state {
    struct sw_scratch columns, slashes;            /* sums of probabilities, [H, n] fp32 */
    struct sw_scratch column_blocks, slash_blocks; /* the same over blocks, [H, b] fp32 */
    struct sw_scratch column_flags, slash_flags;   /* uint8 [H, n] or [H, b] */
};

void sw_vertical_slash_free(struct sw_backend *be, struct sw_vertical_slash_state *s);

/* Fills columns and slashes from the last `last` queries. */
SW_MUST_CHECK enum sw_status sw_vertical_slash_measure(struct sw_sequence *seq,
                                                       const struct sw_layer_input *in, int last,
                                                       struct sw_vertical_slash_state *s);

/* How distances become block distances: of whole blocks from the diagonal on, with each distance
 * split between the two blocks that it reaches, or of whole blocks from the farthest one back. */
enum sw_slash_pooling { SW_SLASHES_WHOLE, SW_SLASHES_SPLIT, SW_SLASHES_FROM_END };

/* Fills column_blocks, or slash_blocks, from them: means over the `last` queries. */
SW_MUST_CHECK enum sw_status sw_vertical_slash_pool_columns(struct sw_sequence *seq, int n,
                                                            int last,
                                                            struct sw_vertical_slash_state *s);
SW_MUST_CHECK enum sw_status sw_vertical_slash_pool_slashes(struct sw_sequence *seq, int n,
                                                            int last, enum sw_slash_pooling how,
                                                            struct sw_vertical_slash_state *s);

/* Block scores column_blocks[j] + slash_blocks[i - j] of heads h0 … h1-1, into scores [H, b, b]. */
SW_MUST_CHECK enum sw_status sw_vertical_slash_block_scores(struct sw_sequence *seq,
                                                            const struct sw_vertical_slash_state *s,
                                                            int h0, int h1, int b, float *scores);

#endif
