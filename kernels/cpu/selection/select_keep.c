/* select_keep.c: from a keep matrix to block lists, with the token rules that some methods add. One
 * row a task, two passes: count, write. */
#include <string.h>

#include "kernels/cpu/device/cpu.h"

struct keep {
    const struct sw_select_keep *a;
    struct sw_selection *out;
    int32_t *count; /* [units, rows]; NULL in the second pass */
    int words;
};

/* Whether row i lists its own block: where it is free, if it is kept or no other is. */
static bool lists_diagonal(const struct sw_select_keep *a, const uint8_t *keep, int i)
{
    bool listed = !a->free_diagonal || keep[i];
    for (int j = 0; j < i && !listed; j++)
        if (keep[j])
            return false;
    return true;
}

static void keep_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct keep *p = ctx;
    const struct sw_select_keep *a = p->a;
    int row = (int)(task % a->rows), i = a->row0 + row;
    const uint8_t *keep = sw_keep_row(&a->keep, (size_t)(task / a->rows), (size_t)row);
    size_t at = (size_t)(keep - a->keep.data);
    bool diagonal = lists_diagonal(a, keep, i);
    if (p->count) {
        int32_t kept = diagonal;
        for (int j = 0; j < i; j++)
            kept += keep[j] != 0;
        p->count[task] = kept;
        return;
    }
    int32_t e = p->out->indptr[task];
    for (int j = 0; j <= i; j++) {
        if (j < i ? !keep[j] : !diagonal)
            continue;
        p->out->indices[e] = j;
        if (p->out->whole)
            p->out->whole[e] = a->queries && j == i;
        const uint64_t *bits = a->keys ? a->keys : a->queries;
        if (bits)
            memcpy((a->keys ? p->out->keys : p->out->queries) + (size_t)e * (size_t)p->words,
                   bits + (at + (size_t)j) * (size_t)p->words, (size_t)p->words * sizeof *bits);
        e++;
    }
}

static enum sw_status reserve(struct sw_backend *be, const struct sw_select_keep *a, int64_t total,
                              int words, struct sw_selection *out)
{
    bool by_token = a->columns || a->slashes, masked = by_token || a->queries || a->keys;
    if (total > INT32_MAX)
        return SW_FAIL(SW_EUNSUPPORTED,
                       "select_keep: %lld list entries; 32-bit offsets end at 2^31",
                       (long long)total);
    SW_TRY(sw_selection_reserve(out, be, a->keep.units, a->rows, total, masked));
    if (!masked)
        return SW_OK;
    SW_TRY(sw_selection_reserve_masks(out, by_token ? a->mask_ld : 0, words));
    if (a->keys) {
        out->keys = out->queries;
        out->queries = NULL;
    }
    size_t bytes = (size_t)a->keep.units * (size_t)a->mask_ld;
    if (a->columns)
        memcpy(out->columns, a->columns, bytes);
    else
        out->columns = NULL;
    if (a->slashes)
        memcpy(out->slashes, a->slashes, bytes);
    else
        out->slashes = NULL;
    return SW_OK;
}

enum sw_status sw_cpu_select_keep(struct sw_backend *be, const struct sw_select_keep *a,
                                  struct sw_selection *out)
{
    CPU_NEED(a && out && a->rows > 0 && a->row0 >= 0 && a->block > 0 && a->n_q > 0 &&
             a->n_q <= a->n);
    CPU_NEED(sw_keep_holds(&a->keep, a->rows, a->row0 + a->rows) &&
             a->n > (a->row0 + a->rows - 1) * (int64_t)a->block);
    CPU_NEED(!(a->columns || a->slashes) || (a->mask_ld >= a->n && !a->queries));
    CPU_NEED(!a->queries || !a->keys);
    size_t rows = (size_t)a->keep.units * (size_t)a->rows;
    void *scratch;
    SW_TRY(sw_cpu_scratch(be, rows * sizeof(int32_t), &scratch));
    struct keep p = {.a = a,
                     .out = out,
                     .count = scratch,
                     .words = a->queries || a->keys ? sw_query_words(a->block) : 0};
    int32_t *count = scratch;
    sw_workers_run(cpu_of(be)->workers, (long)rows, keep_task, &p);
    int64_t total = 0;
    for (size_t r = 0; r < rows; r++)
        total += count[r];
    enum sw_status st = reserve(be, a, total, p.words, out);
    if (st == SW_OK) {
        out->block = a->block;
        out->n = a->n;
        out->n_q = a->n_q;
        out->row0 = a->row0;
        out->free_diagonal = a->free_diagonal;
        int32_t at = 0;
        for (size_t r = 0; r < rows; r++) {
            out->indptr[r] = at;
            at += count[r];
        }
        out->indptr[rows] = at;
        p.count = NULL;
        sw_workers_run(cpu_of(be)->workers, (long)rows, keep_task, &p);
    }
    sw_cpu_scratch_done(be);
    return st;
}
