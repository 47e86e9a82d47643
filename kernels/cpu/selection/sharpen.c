/* sharpen.c: a block matrix to a power, scaled by its largest entry first so that no power
 * overflows. Three passes over rows × cols; a row a task. */
#include <math.h>

#include "kernels/cpu/device/cpu.h"
#include "kernels/cpu/selection/power.h"

struct sharpen {
    const struct sw_sharpen *a;
    float *largest; /* [units, rows], then the first of each unit's is the unit's */
};

static float *largest_of(const struct sharpen *p, long unit)
{
    return p->largest + (size_t)unit * (size_t)p->a->rows;
}

static void largest_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct sharpen *p = ctx;
    const struct sw_sharpen *a = p->a;
    const float *row = sw_unit_row(&a->in, (size_t)(task / a->rows), (size_t)(task % a->rows));
    p->largest[task] = sw_cpu_largest(row, a->cols);
}

static void power_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct sharpen *p = ctx;
    const struct sw_sharpen *a = p->a;
    size_t unit = (size_t)(task / a->rows), i = (size_t)(task % a->rows);
    const float *in = sw_unit_row(&a->in, unit, i);
    float *out = sw_unit_row(&a->out, unit, i), largest = *largest_of(p, (long)unit);
    for (int j = 0; j < a->cols; j++) {
        float x = largest > 0 ? in[j] / largest : in[j], y = a->keep_sign ? fabsf(x) : x;
        sw_cpu_raise(&y, 1, a->exponent);
        out[j] = a->keep_sign ? copysignf(y, x) : y;
    }
}

enum sw_status sw_cpu_sharpen(struct sw_backend *be, const struct sw_sharpen *a)
{
    CPU_NEED(a && a->rows > 0 && a->cols > 0 && a->exponent > 0 &&
             sw_unit_holds(&a->in, a->rows, a->cols) && sw_unit_holds(&a->out, a->rows, a->cols) &&
             a->in.units == a->out.units);
    struct sharpen p = {.a = a};
    void *scratch;
    long rows = (long)a->in.units * a->rows;
    SW_TRY(sw_cpu_scratch(be, (size_t)rows * sizeof(float), &scratch));
    p.largest = scratch;
    sw_workers_run(cpu_of(be)->workers, rows, largest_task, &p);
    for (int u = 0; u < a->in.units; u++)
        *largest_of(&p, u) = sw_cpu_largest(largest_of(&p, u), a->rows);
    sw_workers_run(cpu_of(be)->workers, rows, power_task, &p);
    sw_cpu_scratch_done(be);
    return SW_OK;
}
