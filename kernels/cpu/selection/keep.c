/* keep.c: what is kept, marked: the best of a row, and columns and slashes as blocks of a keep
 * matrix. Whole rows or units a task. */
#include <string.h>

#include "kernels/cpu/device/cpu.h"
#include "kernels/cpu/selection/order.h"

/* --- the best of a row ------------------------------------------------------------------------ */

struct top {
    const struct sw_mark_top *a;
    uint64_t *keys; /* [threads, n] */
};

static void top_task(void *ctx, long row, int worker)
{
    const struct top *p = ctx;
    const struct sw_mark_top *a = p->a;
    const float *in = a->in + (size_t)row * (size_t)a->ld;
    uint8_t *flags = a->flags + (size_t)row * (size_t)a->ld;
    uint64_t *keys = p->keys + (size_t)worker * (size_t)a->n;
    int always = a->always < a->n ? a->always : a->n, others = a->n - always,
        left = a->k[row] - always;
    memset(flags, 1, (size_t)always);
    memset(flags + always, left >= others, (size_t)others);
    if (left <= 0 || left >= others)
        return;
    uint32_t turn = a->small_first ? UINT32_MAX : 0;
    for (int x = always; x < a->n; x++)
        keys[x - always] = sw_key_of(in[x], (uint32_t)x ^ turn);
    uint64_t threshold = sw_kth_largest(keys, others, left - 1);
    for (int x = always; x < a->n; x++)
        flags[x] = sw_key_of(in[x], (uint32_t)x ^ turn) >= threshold;
}

enum sw_status sw_cpu_mark_top(struct sw_backend *be, const struct sw_mark_top *a)
{
    CPU_NEED(a && a->in && a->k && a->flags && a->rows > 0 && a->n > 0 && a->ld >= a->n &&
             a->always >= 0);
    void *scratch;
    SW_TRY(sw_cpu_scratch(be, (size_t)be->threads * (size_t)a->n * sizeof(uint64_t), &scratch));
    struct top p = {.a = a, .keys = scratch};
    sw_workers_run(cpu_of(be)->workers, a->rows, top_task, &p);
    sw_cpu_scratch_done(be);
    return SW_OK;
}

/* --- columns and slashes ---------------------------------------------------------------------- */

struct keep_vertical_slash {
    const struct sw_keep_vertical_slash *a;
    int b;
    /* [units, 2, b + 1]: the blocks with a column, the block offsets with a slash (one more:
     * where the last reaches to) */
    uint8_t *blocks;
};

static void blocks_task(void *ctx, long unit, int worker)
{
    (void)worker;
    const struct keep_vertical_slash *p = ctx;
    const struct sw_keep_vertical_slash *a = p->a;
    uint8_t *columns = p->blocks + (size_t)unit * 2 * ((size_t)p->b + 1),
            *slashes = columns + p->b + 1;
    int count = a->grain == 1 ? a->n : p->b, per_block = a->grain == 1 ? a->block : 1;
    memset(columns, 0, 2 * ((size_t)p->b + 1));
    const uint8_t *in = a->columns ? a->columns + (size_t)unit * (size_t)a->ld_in : NULL;
    for (int x = 0; in && x < count; x++)
        if (in[x])
            columns[x / per_block] = 1;
    in = a->slashes ? a->slashes + (size_t)unit * (size_t)a->ld_in : NULL;
    for (int x = 0; in && x < count; x++)
        if (in[x]) {
            slashes[x / per_block] = 1;
            if (a->grain == 1 ? x % per_block != 0 : a->straddle)
                slashes[x / per_block + 1] = 1;
        }
}

static void keep_rows_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct keep_vertical_slash *p = ctx;
    const struct sw_keep_vertical_slash *a = p->a;
    size_t unit = (size_t)(task / a->rows), row = (size_t)(task % a->rows);
    int i = a->row0 + (int)row;
    const uint8_t *columns = p->blocks + unit * 2 * ((size_t)p->b + 1),
                  *slashes = columns + p->b + 1;
    bool whole = a->whole_rows && a->whole_rows[unit * (size_t)a->ld_in + (size_t)i];
    uint8_t *keep = sw_keep_row(&a->keep, unit, row);
    if (a->clear)
        memset(keep, 0, (size_t)p->b);
    for (int j = 0; j <= i; j++)
        if (whole || columns[j] || slashes[i - j])
            keep[j] = 1;
}

enum sw_status sw_cpu_keep_vertical_slash(struct sw_backend *be,
                                          const struct sw_keep_vertical_slash *a)
{
    CPU_NEED(a && a->rows > 0 && a->row0 >= 0 && a->n > 0 && a->block > 0);
    CPU_NEED(a->grain == 1 || a->grain == a->block);
    int b = sw_blocks(a->n, a->block);
    CPU_NEED(a->row0 + a->rows <= b && sw_keep_holds(&a->keep, a->rows, b));
    CPU_NEED(!(a->columns || a->slashes) || a->ld_in >= (a->grain == 1 ? a->n : b));
    CPU_NEED(!a->whole_rows || a->ld_in >= b);
    void *scratch;
    SW_TRY(sw_cpu_scratch(be, (size_t)a->keep.units * 2 * ((size_t)b + 1), &scratch));
    struct keep_vertical_slash p = {.a = a, .b = b, .blocks = scratch};
    sw_workers_run(cpu_of(be)->workers, a->keep.units, blocks_task, &p);
    sw_workers_run(cpu_of(be)->workers, (long)a->keep.units * a->rows, keep_rows_task, &p);
    sw_cpu_scratch_done(be);
    return SW_OK;
}
