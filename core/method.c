/* A method on one sequence: begin, select for the prompt and for each decode step, end. */
#include "core/method.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum sw_status sw_sequence_begin(struct sw_sequence **out, const struct sw_method *method,
                                 const void *params, struct sw_backend *backend,
                                 const struct sw_shape *shape, int max_tokens, double density,
                                 enum sw_budget_mode mode, uint64_t seed, int dense_layers)
{
    *out = NULL;
    if (method->check)
        SW_TRY(method->check(params, shape, mode));
    struct sw_sequence *seq = calloc(1, sizeof *seq);
    void *state = calloc(1, method->state_size ? method->state_size : 1);
    if (!seq || !state) {
        free(seq);
        free(state);
        return SW_FAIL(SW_ENOMEM, "%s: asked %zu bytes of host memory", method->name,
                       sizeof *seq + method->state_size);
    }
    seq->method = method;
    seq->params = params;
    seq->state = state;
    seq->backend = backend;
    seq->shape = *shape;
    seq->max_tokens = max_tokens;
    seq->density = density;
    seq->mode = mode;
    seq->seed = seed;
    seq->dense_layers = dense_layers;
    seq->scale = (float)(1.0 / sqrt((double)shape->head_dim));
    enum sw_status st = method->begin ? method->begin(seq) : SW_OK;
    if (st != SW_OK) {
        sw_sequence_end(seq);
        return sw_context(st, "%s", method->name);
    }
    *out = seq;
    return SW_OK;
}

void sw_sequence_end(struct sw_sequence *seq)
{
    if (!seq)
        return;
    if (seq->method->end)
        seq->method->end(seq);
    free(seq->budget);
    free(seq->state);
    free(seq);
}

enum sw_status sw_sequence_prefill(struct sw_sequence *seq, const struct sw_layer_input *in,
                                   struct sw_selection *out)
{
    if (in->n > seq->max_tokens || in->n_q != in->n || in->layer < seq->dense_layers)
        return SW_FAIL(SW_EINTERNAL, "prefill of layer %d with %d queries, %d keys, at most %d",
                       in->layer, in->n_q, in->n, seq->max_tokens);
    return seq->method->prefill(seq, in, out);
}

enum sw_status sw_sequence_decode(struct sw_sequence *seq, const struct sw_layer_input *in,
                                  struct sw_selection *out)
{
    if (in->n > seq->max_tokens || in->n_q != 1 || in->layer < seq->dense_layers)
        return SW_FAIL(SW_EINTERNAL, "decode of layer %d with %d queries, %d keys, at most %d",
                       in->layer, in->n_q, in->n, seq->max_tokens);
    return seq->method->decode(seq, in, out);
}

int sw_sequence_block(const struct sw_sequence *seq)
{
    return ((const struct sw_method_params *)seq->params)->block_size;
}

struct sw_attend sw_sequence_attend(const struct sw_sequence *seq, const struct sw_layer_input *in)
{
    return (struct sw_attend){.batch = 1,
                              .n_q = in->n_q,
                              .n_k = in->n,
                              .n_heads = seq->shape.n_heads,
                              .n_kv_heads = seq->shape.n_kv_heads,
                              .head_dim = seq->shape.head_dim,
                              .kv_stride = in->n,
                              .q = in->q,
                              .k = in->k,
                              .v = in->v,
                              .scale = seq->scale};
}

const void *sw_sequence_key(const struct sw_sequence *seq, const struct sw_layer_input *in, int t)
{
    size_t token = sw_dtype_size(seq->backend->act) * (size_t)seq->shape.n_kv_heads *
                   (size_t)seq->shape.head_dim;
    return (const char *)in->k + (size_t)t * token;
}

enum { BY_DENSITY = -1 }; /* instead of a constant number of blocks a row */

/* Row budgets of the input's rows: one in decode, one a block in prefill; the prompt's are the same
 * for all layers and computed once. blocks: those of a row in all, as far as there are so many and
 * not fewer than the forced ones, or BY_DENSITY. */
static enum sw_status row_budgets(struct sw_sequence *seq, const struct sw_layer_input *in,
                                  struct sw_forced forced, int blocks)
{
    int block = sw_sequence_block(seq), b = sw_blocks(in->n, block);
    bool decode = in->n_q < in->n;
    bool same = seq->budget && !decode && blocks == BY_DENSITY && seq->budget_n == in->n &&
                seq->budget_forced.sink == forced.sink && seq->budget_forced.local == forced.local;
    if (same)
        return SW_OK;
    int *m = realloc(seq->budget, (size_t)b * sizeof *m);
    if (!m)
        return SW_FAIL(SW_ENOMEM, "budget: asked %zu bytes of host memory", (size_t)b * sizeof *m);
    seq->budget = m;
    seq->budget_n = decode || blocks != BY_DENSITY ? 0 : in->n; /* 0: not to be reused */
    seq->budget_forced = forced;
    if (blocks != BY_DENSITY) {
        for (int r = 0; r < (decode ? 1 : b); r++) {
            int i = decode ? b - 1 : r, least = sw_forced_count(forced, i),
                most = blocks - 1 < i ? blocks - 1 : i;
            m[r] = most > least ? most : least;
        }
        return SW_OK;
    }
    if (!(seq->density > 0 && seq->density <= 1)) /* also NaN, a native rule's */
        return SW_FAIL(SW_EINTERNAL, "budget of %s: density %g", seq->method->name, seq->density);
    if (decode) {
        m[0] = sw_budget_decode(in->n, block, seq->density, forced, &seq->floored);
        return SW_OK;
    }
    return sw_budget_rows(in->n, block, seq->density, forced, m, &seq->floored);
}

/* Room in the selection, and the backend's arguments, which point to seq's budget. */
static enum sw_status plan_rows(struct sw_sequence *seq, const struct sw_layer_input *in,
                                struct sw_unit_matrix scores, struct sw_forced forced, int blocks,
                                struct sw_selection *out, struct sw_select_top *top)
{
    int block = sw_sequence_block(seq), b = sw_blocks(in->n, block);
    int row0 = in->n_q < in->n ? b - 1 : 0, rows = b - row0;
    SW_TRY(row_budgets(seq, in, forced, blocks));
    int64_t entries = rows; /* the diagonals */
    for (int i = 0; i < rows; i++)
        entries += seq->budget[i];
    if (in->n_q < in->n) /* room for the longest list to come, so that no decode step allocates */
        entries = sw_blocks(seq->max_tokens, block);
    *top = (struct sw_select_top){.scores = scores,
                                  .row0 = row0,
                                  .rows = rows,
                                  .budget = seq->budget,
                                  .forced = forced,
                                  .block = block,
                                  .n = in->n,
                                  .n_q = in->n_q};
    return sw_selection_reserve(out, seq->backend, scores.units, rows, scores.units * entries,
                                false);
}

static enum sw_status select_rows(struct sw_sequence *seq, const struct sw_layer_input *in,
                                  struct sw_unit_matrix scores, struct sw_forced forced, int blocks,
                                  struct sw_selection *out)
{
    struct sw_select_top top;
    SW_TRY(plan_rows(seq, in, scores, forced, blocks, out, &top));
    return seq->backend->select_top(seq->backend, &top, out);
}

enum sw_status sw_sequence_select(struct sw_sequence *seq, const struct sw_layer_input *in,
                                  struct sw_unit_matrix scores, struct sw_forced forced,
                                  struct sw_selection *out)
{
    return select_rows(seq, in, scores, forced, BY_DENSITY, out);
}

enum sw_status sw_sequence_walk_select(struct sw_sequence *seq, const struct sw_layer_input *in,
                                       const struct sw_walk *walk, struct sw_forced forced,
                                       struct sw_selection *out)
{
    struct sw_backend *be = seq->backend;
    struct sw_select_top top;
    SW_TRY(plan_rows(seq, in, walk->out, forced, BY_DENSITY, out, &top));
    if (be->walk_top)
        return be->walk_top(be, walk, &top, out);
    SW_TRY(be->walk(be, walk));
    return be->select_top(be, &top, out);
}

enum sw_status sw_sequence_select_forced(struct sw_sequence *seq, const struct sw_layer_input *in,
                                         int units, struct sw_forced forced,
                                         struct sw_selection *out)
{
    return select_rows(seq, in, (struct sw_unit_matrix){.units = units}, forced, 0, out);
}

enum sw_status sw_sequence_select_count(struct sw_sequence *seq, const struct sw_layer_input *in,
                                        struct sw_unit_matrix scores, int blocks,
                                        struct sw_forced forced, struct sw_selection *out)
{
    return select_rows(seq, in, scores, forced, blocks > 0 ? blocks : 0, out);
}

enum sw_status sw_sequence_budget(struct sw_sequence *seq, const struct sw_layer_input *in,
                                  struct sw_forced forced, const int **budget)
{
    SW_TRY(row_budgets(seq, in, forced, BY_DENSITY));
    *budget = seq->budget;
    return SW_OK;
}

bool sw_density_if_matched(const void *params, enum sw_budget_mode mode)
{
    (void)params;
    return mode == SW_BUDGET_MATCHED;
}

bool sw_density_unless_native(const void *params, enum sw_budget_mode mode)
{
    (void)params;
    return mode != SW_BUDGET_NATIVE;
}

const struct sw_method *sw_method_find(const char *name)
{
    for (const struct sw_method *const *m = sw_methods; *m; m++)
        if (strcmp((*m)->name, name) == 0)
            return *m;
    return NULL;
}
