/* The attention of a cell: its method, phases and dense layers, set up for a shape. */
#include "harness/run/attention.h"

static struct sw_sparse attention_of(const struct sw_cell *cell, struct sw_backend *be,
                                     const struct sw_shape *shape)
{
    return (struct sw_sparse){
        .backend = be,
        .shape = *shape,
        .dense_layers = cell->dense_layers,
        .sparse_prefill = cell->phase != SW_PHASE_DECODE,
        .sparse_decode = cell->phase != SW_PHASE_PREFILL,
        .dense_kernel =
            cell->method->dense_kernel ? cell->method->dense_kernel(cell->params) : SW_ATTEND_BEST,
    };
}

bool sw_attention_in_place(const struct sw_cell *cell, struct sw_backend *be,
                           const struct sw_shape *shape, int tokens)
{
    struct sw_sparse sp = attention_of(cell, be, shape);
    return sw_sparse_in_place(&sp, tokens);
}

enum sw_status sw_attention_open(const struct sw_cell *cell, struct sw_backend *be,
                                 const struct sw_shape *shape, int max_tokens, struct sw_sparse *sp)
{
    *sp = attention_of(cell, be, shape);
    if (cell->method->flags & SW_METHOD_DENSE)
        return SW_OK;
    return sw_sequence_begin(&sp->sequence, cell->method, cell->params, be, shape, max_tokens,
                             cell->density, cell->budget, cell->seed, cell->dense_layers);
}

void sw_attention_close(struct sw_sparse *sp)
{
    sw_sequence_end(sp->sequence);
    sp->sequence = NULL;
    sw_sparse_free(sp);
}
