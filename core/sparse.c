/* Select, then attend, each timed: the one path of every experiment. */
#include "core/sparse.h"

#include <math.h>

enum { MARK_BEGIN, MARK_SELECTED, MARK_ATTENDED, MARKS };

static enum sw_status mark(struct sw_sparse *s, int layer, int which)
{
    bool wanted =
        s->marks == SW_MARKS_PARTS || (s->marks == SW_MARKS_WHOLE && which != MARK_SELECTED);
    return wanted ? s->backend->mark(s->backend, layer * MARKS + which) : SW_OK;
}

static struct sw_attend dense_call(const struct sw_sparse *s, int n_q, int n_k)
{
    return (struct sw_attend){.batch = 1,
                              .n_q = n_q,
                              .n_k = n_k,
                              .n_heads = s->shape.n_heads,
                              .n_kv_heads = s->shape.n_kv_heads,
                              .head_dim = s->shape.head_dim,
                              .kv_stride = n_k,
                              .scale = (float)(1.0 / sqrt((double)s->shape.head_dim)),
                              .kernel = s->dense_kernel};
}

bool sw_sparse_in_place(const struct sw_sparse *s, int tokens)
{
    struct sw_attend dense = dense_call(s, tokens, tokens);
    return s->backend->attend_in_place(s->backend, &dense);
}

enum sw_status sw_sparse_attend(struct sw_sparse *s, int layer, int n_q, int n_k, const void *q,
                                const void *k, const void *v, void *out)
{
    if (n_q != n_k && n_q != 1)
        return SW_FAIL(
            SW_EINTERNAL,
            "attention of %d queries after %d tokens is neither a prompt nor a decode step", n_q,
            n_k - n_q);
    if (layer < 0 || (layer + 1) * MARKS > SW_TIMER_SLOTS)
        return SW_FAIL(SW_EINTERNAL, "layer %d of at most %d", layer, SW_TIMER_SLOTS / MARKS);
    bool prompt = n_q == n_k, wanted = prompt ? s->sparse_prefill : s->sparse_decode;
    bool seen = s->sequence && layer >= s->dense_layers;
    bool sparse = seen && wanted;
    struct sw_layer_input in = {.layer = layer, .n = n_k, .n_q = n_q, .q = q, .k = k, .v = v};
    SW_TRY(mark(s, layer, MARK_BEGIN));
    if (seen && prompt &&
        (sparse ||
         s->sparse_decode)) /* a dense prompt still fills the state that sparse decode steps need */
        SW_TRY(sw_sequence_prefill(s->sequence, &in, sparse ? &s->selection : NULL));
    if (sparse && !prompt)
        SW_TRY(sw_sequence_decode(s->sequence, &in, &s->selection));
    SW_TRY(mark(s, layer, MARK_SELECTED));
    struct sw_attend attend = dense_call(s, n_q, n_k);
    attend.q = q;
    attend.k = k;
    attend.v = v;
    attend.out = out;
    if (sparse) {
        attend.sel = &s->selection;
        attend.kernel = SW_ATTEND_BEST;
    }
    SW_TRY(s->backend->attend(s->backend, &attend));
    return mark(s, layer, MARK_ATTENDED);
}

enum sw_status sw_sparse_times(struct sw_sparse *s, int layer, double *select_ms, double *total_ms)
{
    int at = layer * MARKS;
    *select_ms = NAN;
    if (s->marks == SW_MARKS_PARTS)
        SW_TRY(s->backend->elapsed_ms(s->backend, at + MARK_BEGIN, at + MARK_SELECTED, select_ms));
    return s->backend->elapsed_ms(s->backend, at + MARK_BEGIN, at + MARK_ATTENDED, total_ms);
}

void sw_sparse_free(struct sw_sparse *s) { sw_selection_free(&s->selection); }
