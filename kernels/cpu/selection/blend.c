/* blend.c: a weighted sum of two matrices. A row of a unit a task. */
#include "kernels/cpu/device/cpu.h"

static void blend_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct sw_blend *a = ctx;
    float *out = sw_unit_row(&a->out, (size_t)(task / a->rows), (size_t)(task % a->rows));
    size_t at = (size_t)(out - a->out.data);
    const float *x = a->x + at;
    if (a->beta == 0) {
        for (int j = 0; j < a->cols; j++)
            out[j] = a->alpha * x[j];
        return;
    }
    const float *y = a->y + at;
    for (int j = 0; j < a->cols; j++)
        out[j] = a->alpha * x[j] + a->beta * y[j];
}

enum sw_status sw_cpu_blend(struct sw_backend *be, const struct sw_blend *a)
{
    CPU_NEED(a && a->x && (a->y || a->beta == 0) && a->rows >= 0 && a->cols >= 0 &&
             sw_unit_holds(&a->out, a->rows, a->cols));
    struct sw_blend copy = *a;
    sw_workers_run(cpu_of(be)->workers, (long)a->out.units * a->rows, blend_task, &copy);
    return SW_OK;
}
