/* The lists of a layer's decode steps, joined as they are saved. */
#include "harness/run/step_lists.h"

#include <stdlib.h>

/* Room for everything; the arrays of parts only where a step keeps blocks in part, and keys only
 * where windows and sinks do not say all of it. */
static enum sw_status reserve(struct sw_step_lists *out, const struct sw_selection *steps, int m)
{
    int units = steps[0].units;
    bool partial = false, masked = false;
    int64_t total = 0;
    for (int s = 0; s < m; s++) {
        total += steps[s].indptr[units];
        partial |= steps[s].whole != NULL;
        masked |= sw_selection_masked(&steps[s]);
    }
    SW_TRY(sw_selection_reserve(&out->lists, NULL, units, m, total, partial));
    if (!partial)
        return SW_OK;
    size_t words = (size_t)total * (size_t)sw_query_words(steps[0].block);
    out->window = calloc((size_t)m, sizeof *out->window);
    out->sink = calloc((size_t)m, sizeof *out->sink);
    if (masked)
        out->keys = calloc(words > 0 ? words : 1, sizeof *out->keys);
    if (!out->window || !out->sink || (masked && !out->keys))
        return SW_FAIL(SW_ENOMEM, "lists of %d decode steps: out of host memory", m);
    out->parts = (struct sw_kept_in_part){out->window, out->sink, out->keys};
    return SW_OK;
}

/* Bits of the keys that the step's one query, its last token, keeps of entry e. */
static void set_keys(const struct sw_selection *step, int unit, int64_t e, uint64_t *bits)
{
    int first = step->indices[e] * step->block, t = step->n - 1;
    for (int u = first; u < first + step->block && u <= t; u++)
        if (sw_selection_keeps(step, unit, e, t, u))
            bits[(u - first) / 64] |= (uint64_t)1 << ((u - first) % 64);
}

static void append(struct sw_step_lists *out, const struct sw_selection *step, int unit,
                   int32_t *at)
{
    int words = sw_query_words(step->block);
    for (int32_t e = step->indptr[unit]; e < step->indptr[unit + 1]; e++, ++*at) {
        out->lists.indices[*at] = step->indices[e];
        if (out->lists.whole)
            out->lists.whole[*at] = step->whole ? step->whole[e] : 1;
        if (out->keys)
            set_keys(step, unit, e, out->keys + (int64_t)*at * words);
    }
}

enum sw_status sw_step_lists_join(struct sw_step_lists *out, const struct sw_selection *steps,
                                  int m)
{
    SW_TRY(reserve(out, steps, m));
    struct sw_selection *all = &out->lists;
    all->block = steps[0].block;
    all->n = steps[m - 1].n;
    all->n_q = m;
    all->row0 = steps[0].row0;
    int32_t at = 0;
    for (int u = 0; u < all->units; u++)
        for (int s = 0; s < m; s++) {
            all->indptr[(int64_t)u * m + s] = at;
            append(out, &steps[s], u, &at);
        }
    all->indptr[(int64_t)all->units * m] = at;
    for (int s = 0; s < m && out->window; s++) {
        out->window[s] = steps[s].window;
        out->sink[s] = steps[s].sink;
    }
    return SW_OK;
}

void sw_step_lists_free(struct sw_step_lists *s)
{
    sw_selection_free(&s->lists);
    free(s->window);
    free(s->sink);
    free(s->keys);
    *s = (struct sw_step_lists){0};
}
