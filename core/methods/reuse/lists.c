/* reuse: the lists of a selecting layer, kept in backend memory, and their copies for the layers
 * after it, which score nothing. */
#include <math.h>
#include <stdlib.h>

#include "core/methods/reuse/state.h"

/* --- what a selecting layer keeps ------------------------------------------------------------- */

/* Tokens of a list at n keys, and of a row of a prompt: an own tile comes besides. */
static int native_tokens(const struct reuse_rules *r, int n)
{
    int share = (int)(r->token_share * n);
    return share > r->token_budget ? share : r->token_budget;
}

/* Off-diagonal blocks that hold so many tokens, in s->budget. */
static enum sw_status native_budget(struct sw_sequence *seq, const struct sw_layer_input *in,
                                    int row0, int rows)
{
    struct reuse_state *s = seq->state;
    const struct reuse_rules *r = &s->rules;
    int block = sw_sequence_block(seq), whole = native_tokens(r, in->n) - r->own_tile;
    int *m = realloc(s->budget, (size_t)rows * sizeof *m);
    if (!m)
        return SW_FAIL(SW_ENOMEM, "budget: asked %zu bytes of host memory",
                       (size_t)rows * sizeof *m);
    s->budget = m;
    for (int row = 0; row < rows; row++) {
        int i = row0 + row, tokens = whole;
        if (r->own_tile && in->n_q == in->n && native_tokens(r, i * block) < whole)
            tokens = native_tokens(r, i * block); /* of the keys before the row alone */
        m[row] = sw_blocks(tokens, block) - (r->own_tile && in->n_q == in->n ? 0 : 1);
        m[row] = m[row] < 0 ? 0 : m[row] > i ? i : m[row];
    }
    return SW_OK;
}

static enum sw_status choose_native(struct sw_sequence *seq, const struct sw_layer_input *in,
                                    struct sw_unit_matrix scores)
{
    struct reuse_state *s = seq->state;
    int block = sw_sequence_block(seq), b = sw_blocks(in->n, block);
    int rows = in->n_q == in->n ? b : 1, row0 = b - rows;
    SW_TRY(native_budget(seq, in, row0, rows));
    s->entries = rows;
    for (int i = 0; i < rows; i++)
        s->entries += s->budget[i];
    int64_t room = rows > 1 ? s->entries : s->cap;
    SW_TRY(sw_selection_reserve(&s->kept, seq->backend, s->units, rows, s->units * room, false));
    return seq->backend->select_top(seq->backend,
                                    &(struct sw_select_top){.scores = scores,
                                                            .row0 = row0,
                                                            .rows = rows,
                                                            .budget = s->budget,
                                                            .forced = SW_FORCED_DIAGONAL,
                                                            .block = block,
                                                            .n = in->n,
                                                            .n_q = in->n_q},
                                    &s->kept);
}

enum sw_status reuse_choose(struct sw_sequence *seq, const struct sw_layer_input *in,
                            struct sw_unit_matrix scores)
{
    struct reuse_state *s = seq->state;
    s->by_token = false;
    if (seq->mode != SW_BUDGET_NATIVE) {
        SW_TRY(sw_sequence_select(seq, in, scores, SW_FORCED_COMMON, &s->kept));
        s->entries = s->kept.rows;
        for (int i = 0; i < s->kept.rows; i++)
            s->entries += seq->budget[i];
        return SW_OK;
    }
    if (s->rules.source != SOURCE_SKETCH)
        return choose_native(seq, in, scores);
    s->entries = -1;
    return sketchwalk_icml_choose(s->onehop, in, scores, &s->kept);
}

/* --- copies ----------------------------------------------------------------------------------- */

/* Each unit's entries are as many as any other's, so that they begin at the same places. */
static enum sw_status copy_indices(struct sw_sequence *seq, const int *map,
                                   const struct sw_selection *out)
{
    const struct reuse_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    size_t one = sizeof *out->indices;
    if (!map) {
        int64_t used = s->entries < 0 ? s->kept.capacity : s->entries * s->units;
        return be->copy(be, out->indices, s->kept.indices, (size_t)used * one);
    }
    if (s->entries < 0)
        return SW_FAIL(SW_EUNSUPPORTED, "map: similarity under a native budget with source: "
                                        "sketch, whose lists differ in length");
    for (int u = 0; u < s->units; u++)
        SW_TRY(be->copy(be, out->indices + u * s->entries, s->kept.indices + map[u] * s->entries,
                        (size_t)s->entries * one));
    return SW_OK;
}

static enum sw_status copy_kept(struct sw_sequence *seq, const struct sw_layer_input *in,
                                const int *map, struct sw_selection *out)
{
    const struct reuse_state *s = seq->state;
    const struct sw_selection *kept = &s->kept;
    struct sw_backend *be = seq->backend;
    if (!kept->indptr || kept->n != in->n || kept->n_q != in->n_q)
        return SW_FAIL(SW_EINTERNAL, "layer %d of %d tokens has no list to copy", in->layer, in->n);
    SW_TRY(sw_selection_reserve(out, be, kept->units, kept->rows, kept->capacity,
                                kept->whole != NULL));
    out->block = kept->block;
    out->n = kept->n;
    out->n_q = kept->n_q;
    out->row0 = kept->row0;
    out->window = kept->window;
    out->sink = kept->sink;
    size_t starts = (size_t)kept->units * (size_t)kept->rows + 1;
    SW_TRY(be->copy(be, out->indptr, kept->indptr, starts * sizeof *out->indptr));
    if (kept->whole)
        SW_TRY(be->copy(be, out->whole, kept->whole, (size_t)kept->capacity));
    return copy_indices(seq, map, out);
}

enum sw_status reuse_emit(struct sw_sequence *seq, const struct sw_layer_input *in,
                          struct sw_selection *out)
{
    const struct reuse_state *s = seq->state;
    const struct reuse_layer *layer = &s->layers[in->layer];
    if (layer->dense)
        return sw_sequence_select_count(seq, in, (struct sw_unit_matrix){.units = s->units},
                                        sw_blocks(in->n, sw_sequence_block(seq)),
                                        SW_FORCED_DIAGONAL, out);
    if (s->by_token)
        return reuse_emit_tokens(seq, in, out);
    return copy_kept(seq, in, layer->selects ? NULL : layer->map, out);
}
