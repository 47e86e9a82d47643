/* mean_units.c: means of matrices over consecutive units: from heads to groups, or to one for all.
 */
#include "kernels/cpu/device/cpu.h"

static void mean_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct sw_mean_units *a = ctx;
    size_t unit = (size_t)(task / a->rows), row = (size_t)(task % a->rows),
           plane = (size_t)a->in.ld_rows * (size_t)a->in.ld;
    int share = a->in.units / a->out.units;
    const float *in = sw_unit_row(&a->in, unit * (size_t)share, row);
    float *out = sw_unit_row(&a->out, unit, row);
    for (int c = 0; c < a->cols; c++) {
        float sum = in[c];
        for (int h = 1; h < share; h++)
            sum += in[(size_t)h * plane + (size_t)c];
        out[c] = sum / (float)share;
    }
}

enum sw_status sw_cpu_mean_units(struct sw_backend *be, const struct sw_mean_units *a)
{
    CPU_NEED(a && a->rows >= 0 && a->cols >= 0 && sw_unit_holds(&a->in, a->rows, a->cols) &&
             sw_unit_holds(&a->out, a->rows, a->cols) && a->in.units % a->out.units == 0);
    struct sw_mean_units copy = *a;
    sw_workers_run(cpu_of(be)->workers, (long)a->out.units * a->rows, mean_task, &copy);
    return SW_OK;
}
