/* page_bounds.c: extremes of a page's keys, and the largest logit that they allow (Quest). */
#include <math.h>
#include <string.h>

#include "kernels/cpu/device/cpu.h"

/* --- extremes --------------------------------------------------------------------------------- */

struct extremes {
    const struct sw_extremes *a;
    int block0, blocks;
};

static void extremes_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct extremes *p = ctx;
    const struct sw_extremes *a = p->a;
    int head = (int)(task / p->blocks), j = p->block0 + (int)(task % p->blocks), d = a->head_dim;
    int from = j * a->block > a->t0 ? j * a->block : a->t0,
        to = (j + 1) * a->block < a->t1 ? (j + 1) * a->block : a->t1;
    size_t at = ((size_t)head * (size_t)a->ld + (size_t)j) * (size_t)d;
    float *restrict low = a->low + at, *restrict high = a->high + at;
    for (int t = from; t < to; t++) {
        const float *restrict x =
            (const float *)a->x +
            ((size_t)(t - a->t0) * (size_t)a->heads + (size_t)head) * (size_t)d;
        if (t == j * a->block) {
            memcpy(low, x, (size_t)d * sizeof *low);
            memcpy(high, x, (size_t)d * sizeof *high);
            continue;
        }
        for (int c = 0; c < d; c++) {
            low[c] = x[c] < low[c] ? x[c] : low[c];
            high[c] = x[c] > high[c] ? x[c] : high[c];
        }
    }
}

enum sw_status sw_cpu_extremes(struct sw_backend *be, const struct sw_extremes *a)
{
    CPU_NEED(a && a->heads > 0 && a->head_dim > 0 && a->block > 0 && a->t0 >= 0 && a->t1 >= a->t0);
    if (a->t1 == a->t0)
        return SW_OK;
    struct extremes p = {.a = a, .block0 = a->t0 / a->block};
    p.blocks = sw_blocks(a->t1, a->block) - p.block0;
    CPU_NEED(a->x && a->low && a->high && p.block0 + p.blocks <= a->ld);
    sw_workers_run(cpu_of(be)->workers, (long)a->heads * p.blocks, extremes_task, &p);
    return SW_OK;
}

/* --- upper bounds ----------------------------------------------------------------------------- */

/* max(q·low, q·high) is q·high where q >= 0 and q·low elsewhere: two matrix–vector products, with
 * q's positive part and its negative one. A unit of several heads is the product of their parts'
 * sums. */
enum { TASK_BLOCKS = 64 };

struct bounds {
    const struct sw_bound_scores *a;
    const struct sw_vec *vec;
    int tasks_per_head;
    const float *plus, *minus; /* [units, d] */
};

static void bounds_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct bounds *p = ctx;
    const struct sw_bound_scores *a = p->a;
    int head = (int)(task / p->tasks_per_head), j0 = (int)(task % p->tasks_per_head) * TASK_BLOCKS,
        d = a->head_dim, ld = a->out.ld_rows * a->out.ld;
    int blocks = a->b - j0 < TASK_BLOCKS ? a->b - j0 : TASK_BLOCKS,
        share = a->out.units / a->n_kv_heads;
    size_t at = ((size_t)head * (size_t)a->ld_in + (size_t)j0) * (size_t)d;
    for (int u = head * share; u < (head + 1) * share; u += SW_GEMV_ROWS) {
        int rows = (head + 1) * share - u < SW_GEMV_ROWS ? (head + 1) * share - u : SW_GEMV_ROWS;
        float *out = sw_unit_row(&a->out, (size_t)u, 0) + j0;
        p->vec->gemv(p->plus + (size_t)u * (size_t)d, d, rows, a->high + at, d, blocks, NULL, false,
                     out, ld);
        p->vec->gemv(p->minus + (size_t)u * (size_t)d, d, rows, a->low + at, d, blocks, NULL, true,
                     out, ld);
    }
}

enum sw_status sw_cpu_bound_scores(struct sw_backend *be, const struct sw_bound_scores *a)
{
    CPU_NEED(a && a->q && a->low && a->high && a->n_kv_heads > 0 && a->n_heads > 0 &&
             a->n_heads % a->n_kv_heads == 0);
    CPU_NEED((a->out.units == a->n_heads || a->out.units == a->n_kv_heads) && a->head_dim > 0 &&
             a->b > 0 && a->ld_in >= a->b && sw_unit_holds(&a->out, 1, a->b));
    size_t parts = (size_t)a->out.units * (size_t)a->head_dim;
    void *scratch;
    SW_TRY(sw_cpu_scratch(be, 2 * parts * sizeof(float), &scratch));
    float *plus = scratch, *minus = plus + parts;
    memset(plus, 0, 2 * parts * sizeof *plus);
    for (int h = 0; h < a->n_heads; h++)
        for (int c = 0; c < a->head_dim; c++) {
            float x = ((const float *)a->q)[(size_t)h * (size_t)a->head_dim + (size_t)c];
            size_t to = (size_t)(h * a->out.units / a->n_heads) * (size_t)a->head_dim + (size_t)c;
            *(x >= 0 ? &plus[to] : &minus[to]) += x;
        }
    struct bounds p = {.a = a,
                       .vec = cpu_of(be)->vec,
                       .tasks_per_head = (a->b + TASK_BLOCKS - 1) / TASK_BLOCKS,
                       .plus = plus,
                       .minus = minus};
    sw_workers_run(cpu_of(be)->workers, (long)a->n_kv_heads * p.tasks_per_head, bounds_task, &p);
    sw_cpu_scratch_done(be);
    return SW_OK;
}
