/* model_ops.c: the small operations between the products of a transformer layer; all bound by
 * memory. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/device/cpu.h"

enum { ROW_FLOATS = 1 << 14 }; /* floats a task, about */

static int rows_per_task(int width) { return width >= ROW_FLOATS ? 1 : ROW_FLOATS / width; }
static long tasks_of(int rows, int per_task) { return ((long)rows + per_task - 1) / per_task; }

struct rows {
    const struct sw_vec *vec;
    const float *x, *weight;
    const int32_t *ids;
    int rows, width, per_task;
    float eps;
    float *out;
};

static void embed_task(void *ctx, long i, int worker)
{
    (void)worker;
    const struct rows *a = ctx;
    for (int r = (int)i * a->per_task; r < a->rows && r < ((int)i + 1) * a->per_task; r++)
        memcpy(a->out + (size_t)r * (size_t)a->width, a->x + (size_t)a->ids[r] * (size_t)a->width,
               (size_t)a->width * sizeof(float));
}

enum sw_status sw_cpu_embed(struct sw_backend *be, const void *embeddings, const int32_t *ids,
                            int rows, int width, void *out)
{
    CPU_NEED(rows >= 0 && width > 0);
    CPU_NEED(rows == 0 || (embeddings && ids && out));
    for (int r = 0; r < rows; r++)
        if (ids[r] < 0)
            return SW_FAIL(SW_EINTERNAL, "embed: token id %d at row %d", ids[r], r);
    struct rows a = {.x = embeddings,
                     .ids = ids,
                     .rows = rows,
                     .width = width,
                     .per_task = rows_per_task(width),
                     .out = out};
    sw_workers_run(cpu_of(be)->workers, tasks_of(rows, a.per_task), embed_task, &a);
    return SW_OK;
}

static void rmsnorm_task(void *ctx, long i, int worker)
{
    (void)worker;
    const struct rows *a = ctx;
    for (int r = (int)i * a->per_task; r < a->rows && r < ((int)i + 1) * a->per_task; r++)
        a->vec->rmsnorm(a->x + (size_t)r * (size_t)a->width, a->weight, a->width, a->eps,
                        a->out + (size_t)r * (size_t)a->width);
}

enum sw_status sw_cpu_rmsnorm(struct sw_backend *be, const void *x, const void *weight, int rows,
                              int width, float eps, void *out)
{
    CPU_NEED(rows >= 0 && width > 0);
    CPU_NEED(rows == 0 || (x && weight && out));
    struct rows a = {.vec = cpu_of(be)->vec,
                     .x = x,
                     .weight = weight,
                     .rows = rows,
                     .width = width,
                     .per_task = rows_per_task(width),
                     .eps = eps,
                     .out = out};
    sw_workers_run(cpu_of(be)->workers, tasks_of(rows, a.per_task), rmsnorm_task, &a);
    return SW_OK;
}

struct swiglu {
    const struct sw_vec *vec;
    const float *gate, *up;
    size_t count;
    float *out;
};

static void swiglu_task(void *ctx, long i, int worker)
{
    (void)worker;
    const struct swiglu *a = ctx;
    size_t at = (size_t)i * ROW_FLOATS, n = a->count - at < ROW_FLOATS ? a->count - at : ROW_FLOATS;
    a->vec->swiglu(a->gate + at, a->up + at, n, a->out + at);
}

enum sw_status sw_cpu_swiglu(struct sw_backend *be, const void *gate, const void *up, size_t count,
                             void *out)
{
    CPU_NEED(count == 0 || (gate && up && out));
    struct swiglu a = {.vec = cpu_of(be)->vec, .gate = gate, .up = up, .count = count, .out = out};
    sw_workers_run(cpu_of(be)->workers, (long)((count + ROW_FLOATS - 1) / ROW_FLOATS), swiglu_task,
                   &a);
    return SW_OK;
}

struct rope {
    const struct sw_vec *vec;
    float *x;
    const float *inv_freq;
    int rows, heads, d, pos0, per_task;
    float factor;
};

/* The angle is the fp32 product position · inv_freq, as in the models' reference code: at position
 * 10⁵ its rounding is visible. */
static void rope_task(void *ctx, long i, int worker)
{
    (void)worker;
    const struct rope *a = ctx;
    int half = a->d / 2;
    float cosines[SW_MAX_HEAD_DIM / 2], sines[SW_MAX_HEAD_DIM / 2];
    for (int r = (int)i * a->per_task; r < a->rows && r < ((int)i + 1) * a->per_task; r++) {
        for (int c = 0; c < half; c++) {
            float angle = (float)(a->pos0 + r) * a->inv_freq[c];
            sincosf(angle, &sines[c], &cosines[c]);
            cosines[c] *= a->factor;
            sines[c] *= a->factor;
        }
        for (int h = 0; h < a->heads; h++)
            a->vec->rope(a->x + ((size_t)r * (size_t)a->heads + (size_t)h) * (size_t)a->d, cosines,
                         sines, a->d);
    }
}

enum sw_status sw_cpu_rope(struct sw_backend *be, void *x, int rows, int heads, int d, int pos0,
                           const float *inv_freq, float factor)
{
    CPU_NEED(rows >= 0 && heads > 0 && d > 0 && d % 2 == 0 && pos0 >= 0);
    CPU_NEED(rows == 0 || (x && inv_freq));
    if (d > SW_MAX_HEAD_DIM)
        return SW_FAIL(SW_EUNSUPPORTED, "rope: head_dim %d; the cpu backend goes up to %d", d,
                       SW_MAX_HEAD_DIM);
    struct rope a = {.vec = cpu_of(be)->vec,
                     .x = x,
                     .inv_freq = inv_freq,
                     .rows = rows,
                     .heads = heads,
                     .d = d,
                     .pos0 = pos0,
                     .per_task = rows_per_task(heads * d),
                     .factor = factor};
    sw_workers_run(cpu_of(be)->workers, tasks_of(rows, a.per_task), rope_task, &a);
    return SW_OK;
}
