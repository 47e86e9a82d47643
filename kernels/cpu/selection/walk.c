/* walk.c: one step of the walk over the block graph, and the running update of the cached graph.
 *
 * A step is a product of lower-triangular matrices: out[I, j] = Σ_{j <= k <= I} x[I, k]·a[k, j],
 * b³/3 multiply-adds of the 2·b³/2 that a square one has. Panels of PANEL blocks skip what lies
 * outside the triangle. */
#include <cblas.h>
#include <string.h>

#include "kernels/cpu/device/cpu.h"
#include "kernels/cpu/selection/power.h"

enum { PANEL = 128 };

struct walk {
    const struct sw_walk *a;
    int row_panels, col_panels;
};

static int least(int a, int b) { return a < b ? a : b; }

static void walk_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct walk *p = ctx;
    const struct sw_walk *w = p->a;
    int panel = (int)(task % ((long)p->row_panels * p->col_panels));
    size_t unit = (size_t)(task / ((long)p->row_panels * p->col_panels)), ld = (size_t)w->out.ld;
    int i0 = panel / p->col_panels * PANEL, j0 = panel % p->col_panels * PANEL;
    int rows = least(PANEL, w->rows - i0), cols = least(PANEL, w->b - j0);
    /* Middle blocks that can contribute: from the first column on, to the last row. */
    int k0 = w->causal ? j0 : 0, k1 = w->causal ? least(w->row0 + i0 + rows, w->b) : w->b;
    size_t of_row = (unit * (size_t)w->out.ld_rows + (size_t)i0) * ld; /* in x, anchor and out */
    float *out = w->out.data + of_row + (size_t)j0;
    const float *anchor = w->anchor ? w->anchor + of_row + (size_t)j0 : NULL;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++)
            out[(size_t)i * ld + (size_t)j] =
                w->alpha == 0.0f ? 0.0f : w->alpha * anchor[(size_t)i * ld + (size_t)j];
    if (k1 <= k0 || w->beta == 0.0f)
        return;
    const float *x = w->x + of_row + (size_t)k0;
    const float *a = sw_unit_row(&w->a, unit, (size_t)k0) + j0;
    if (rows == 1)
        cblas_sgemv(CblasRowMajor, CblasTrans, k1 - k0, cols, w->beta, a, w->a.ld, x, 1, 1.0f, out,
                    1);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, cols, k1 - k0, w->beta, x,
                    w->out.ld, a, w->a.ld, 1.0f, out, w->out.ld);
}

static void scale_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct walk *p = ctx;
    const struct sw_walk *w = p->a;
    float *row = sw_unit_row(&w->out, (size_t)(task / w->rows), (size_t)(task % w->rows));
    float largest = sw_cpu_largest(row, w->b);
    if (largest > 0)
        for (int j = 0; j < w->b; j++)
            row[j] /= largest;
}

enum sw_status sw_cpu_walk(struct sw_backend *be, const struct sw_walk *a)
{
    CPU_NEED(a && a->rows > 0 && a->row0 >= 0 && a->b > 0 &&
             sw_unit_holds(&a->out, a->rows, a->b) && sw_unit_holds(&a->a, a->b, a->b) &&
             a->a.units == a->out.units && a->a.ld == a->out.ld);
    CPU_NEED(a->x && (a->anchor || a->alpha == 0.0f) && a->out.data != a->x &&
             a->out.data != a->a.data);
    struct walk p = {.a = a,
                     .row_panels = (a->rows + PANEL - 1) / PANEL,
                     .col_panels = (a->b + PANEL - 1) / PANEL};
    sw_workers_run(cpu_of(be)->workers, (long)a->out.units * p.row_panels * p.col_panels, walk_task,
                   &p);
    if (a->scale_rows)
        sw_workers_run(cpu_of(be)->workers, (long)a->out.units * a->rows, scale_task, &p);
    return SW_OK;
}

/* --- running average -------------------------------------------------------------------------- */

static void blend(float *x, float value, float weight)
{
    *x = weight == 1.0f ? value : *x + weight * (value - *x);
}

static void renormalise(float *row, int b)
{
    double sum = 0;
    for (int j = 0; j < b; j++)
        sum += row[j];
    if (sum > 0)
        for (int j = 0; j < b; j++)
            row[j] = (float)(row[j] / sum);
}

static void running_task(void *ctx, long unit, int worker)
{
    (void)worker;
    const struct sw_running *a = ctx;
    size_t ld = (size_t)a->a.ld;
    float *m = sw_unit_row(&a->a, (size_t)unit, 0), *own = m + (size_t)a->c * ld;
    const float *row = a->row + (size_t)unit * (size_t)a->row_ld;
    for (int j = 0; j < a->b; j++)
        blend(&own[j], row[j], a->weight);
    renormalise(own, a->b);
    for (int i = a->causal ? a->c : 0; i < (a->causal ? a->c + 1 : a->b); i++) {
        blend(&m[(size_t)i * ld + (size_t)a->c], row[i], a->weight);
        renormalise(m + (size_t)i * ld, a->b);
    }
}

enum sw_status sw_cpu_running(struct sw_backend *be, const struct sw_running *a)
{
    CPU_NEED(a && a->b > 0 && a->c >= 0 && a->c < a->b && sw_unit_holds(&a->a, a->b, a->b) &&
             a->row && a->row_ld >= a->b);
    struct sw_running copy = *a;
    sw_workers_run(cpu_of(be)->workers, a->a.units, running_task, &copy);
    return SW_OK;
}
