/* block_scores.c: scores between block sketches. 2·units·rows·b·r FLOPs (half when causal); one
 * output unit and a few rows a task, so that the scores of the units averaged into one are never in
 * memory together. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/device/cpu.h"
#include "kernels/cpu/selection/power.h"

enum { TASK_ROWS = 16 };

struct scores {
    const struct sw_vec *vec;
    const struct sw_block_scores *a;
    int row_tasks;
    float *scratch; /* [threads, TASK_ROWS, b] */
};

static void scores_task(void *ctx, long task, int worker)
{
    const struct scores *p = ctx;
    const struct sw_block_scores *a = p->a;
    int unit = (int)(task / p->row_tasks), from = (int)(task % p->row_tasks) * TASK_ROWS;
    int share = a->units_q / a->out.units,
        to = from + TASK_ROWS < a->rows ? from + TASK_ROWS : a->rows;
    if (a->pool_rows) { /* one task does all rows */
        from = 0;
        to = a->rows;
    }
    float *x = p->scratch + (size_t)worker * TASK_ROWS * (size_t)a->b,
          *out = sw_unit_row(&a->out, (size_t)unit, 0);
    for (int i = from; i < to; i++)
        if (!a->pool_rows || i == 0)
            memset(out + (size_t)i * (size_t)a->out.ld, 0, (size_t)a->b * sizeof *out);
    for (int s = 0; s < share; s++) {
        int uq = unit * share + s, uk = (int)((int64_t)uq * a->units_k / a->units_q);
        const float *k = a->k + (size_t)uk * (size_t)a->k_ld * (size_t)a->r;
        const float *given =
            a->column_scores ? a->column_scores + (size_t)uk * (size_t)a->k_ld : NULL;
        for (int i0 = from; i0 < to; i0 += TASK_ROWS) {
            int rows = to - i0 < TASK_ROWS ? to - i0 : TASK_ROWS;
            int last = a->row0 + (a->pool_rows ? 0 : i0 + rows - 1),
                cols = a->causal && last + 1 < a->b ? last + 1 : a->b;
            const float *q = a->q + ((size_t)uq * (size_t)a->q_ld + (size_t)i0) * (size_t)a->r;
            p->vec->scores(q, a->r, rows, k, a->r, cols, a->r, a->scale, x, a->b);
            for (int i = 0; i < rows; i++) {
                float *row = x + (size_t)i * (size_t)a->b,
                      *to_row = out + (a->pool_rows ? 0 : (size_t)(i0 + i)) * (size_t)a->out.ld;
                int own = a->row0 + (a->pool_rows ? 0 : i0 + i),
                    n = a->causal && own + 1 < a->b ? own + 1 : a->b;
                for (int j = 0; a->clamp > 0 && j < n; j++)
                    row[j] = row[j] < -a->clamp ? -a->clamp : row[j] > a->clamp ? a->clamp : row[j];
                for (int j = 0; given && j < n; j++)
                    if (!isnan(given[j]))
                        /* takes no part in the softmax; when none does, every entry is replaced
                         * below */
                        row[j] = -INFINITY;
                if (a->softmax)
                    p->vec->softmax(row, n);
                if (a->exponent != 1.0f)
                    sw_cpu_raise(row, n, a->exponent);
                for (int j = 0; given && j < n; j++)
                    if (!isnan(given[j]))
                        row[j] = given[j];
                for (int j = 0; j < n; j++)
                    to_row[j] += row[j];
            }
        }
    }
    float count = (float)share * (float)(a->pool_rows ? a->rows : 1);
    if (count != 1.0f)
        for (int i = from; i < (a->pool_rows ? 1 : to); i++)
            for (int j = 0; j < a->b; j++)
                out[(size_t)i * (size_t)a->out.ld + (size_t)j] /= count;
}

enum sw_status sw_cpu_block_scores(struct sw_backend *be, const struct sw_block_scores *a)
{
    CPU_NEED(a && a->q && a->k && a->units_q > 0 && a->units_k > 0 && a->b > 0);
    CPU_NEED(sw_unit_holds(&a->out, a->pool_rows ? 1 : a->rows, a->b) &&
             a->units_q % a->out.units == 0 &&
             (a->units_q % a->units_k == 0 || a->units_k % a->units_q == 0));
    CPU_NEED(a->rows > 0 && a->row0 >= 0 && a->r > 0 && a->q_ld >= a->rows && a->k_ld >= a->b);
    struct scores p = {.vec = cpu_of(be)->vec,
                       .a = a,
                       .row_tasks = a->pool_rows ? 1 : (a->rows + TASK_ROWS - 1) / TASK_ROWS};
    void *scratch;
    SW_TRY(sw_cpu_scratch(be, (size_t)be->threads * TASK_ROWS * (size_t)a->b * sizeof(float),
                          &scratch));
    p.scratch = scratch;
    sw_workers_run(cpu_of(be)->workers, (long)a->out.units * p.row_tasks, scores_task, &p);
    sw_cpu_scratch_done(be);
    return SW_OK;
}
