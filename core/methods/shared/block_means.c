/* Means of tokens over blocks, of a prompt and of decode steps. */
#include "core/methods/shared/block_means.h"

enum sw_status block_means_add(struct sw_sequence *seq, const void *x, int heads, int block, int t0,
                               int n, int ld, struct block_means *m)
{
    struct sw_backend *be = seq->backend;
    int d = seq->shape.head_dim;
    size_t bytes = sizeof(float) * (size_t)heads * (size_t)ld * (size_t)d;
    SW_TRY(sw_scratch_reserve(be, &m->sums, bytes));
    SW_TRY(sw_scratch_reserve(be, &m->means, bytes));
    SW_TRY(be->pool(be, &(struct sw_pool){.x = x,
                                          .heads = heads,
                                          .head_dim = d,
                                          .units = heads,
                                          .block = block,
                                          .t0 = t0,
                                          .t1 = n,
                                          .ld = ld,
                                          .sums = m->sums.data}));
    return be->sketch(be, &(struct sw_sketch){.sums = m->sums.data,
                                              .units = heads,
                                              .ld = ld,
                                              .d = d,
                                              .block = block,
                                              .n = n,
                                              .i0 = t0 / block,
                                              .i1 = sw_blocks(n, block),
                                              .out = m->means.data});
}

void block_means_free(struct sw_backend *be, struct block_means *m)
{
    sw_scratch_free(be, &m->sums);
    sw_scratch_free(be, &m->means);
}
