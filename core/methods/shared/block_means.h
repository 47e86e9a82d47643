/* block_means.h: means of tokens over blocks, of a prompt and of the decode steps after it. */
#ifndef SW_BLOCK_MEANS_H
#define SW_BLOCK_MEANS_H

#include "core/method.h"
#include "core/scratch.h"

struct block_means {
    struct sw_scratch sums, means; /* [heads, ld, d] fp32 */
};

/* Takes in tokens t0 … n-1 of x [*, heads, d], x pointing at token t0's row, and makes the means of
 * the blocks that they touch, each over its tokens up to n. t0 > 0 continues what earlier calls
 * with the same ld hold. */
SW_MUST_CHECK enum sw_status block_means_add(struct sw_sequence *seq, const void *x, int heads,
                                             int block, int t0, int n, int ld,
                                             struct block_means *m);
void block_means_free(struct sw_backend *be, struct block_means *m);

#endif
