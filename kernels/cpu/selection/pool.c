/* pool.c: from tokens to blocks: pooled sums, means and sketches. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/device/cpu.h"

/* --- pool ------------------------------------------------------------------------------------- */

struct pool {
    const struct sw_pool *a;
    int block0, blocks;
};

/* One unit and block: tokens in order, so that any cut into calls gives the same bits. */
static void pool_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct pool *p = ctx;
    const struct sw_pool *a = p->a;
    int unit = (int)(task / p->blocks), j = p->block0 + (int)(task % p->blocks),
        share = a->heads / a->units, d = a->head_dim;
    int from = j * a->block > a->t0 ? j * a->block : a->t0,
        to = (j + 1) * a->block < a->t1 ? (j + 1) * a->block : a->t1;
    float *restrict sum = a->sums + ((size_t)unit * (size_t)a->ld + (size_t)j) * (size_t)d;
    float mean[SW_MAX_HEAD_DIM];
    if (from == j * a->block)
        memset(sum, 0, (size_t)d * sizeof *sum);
    for (int t = from; t < to; t++) {
        const float *restrict x =
            (const float *)a->x +
            ((size_t)(t - a->t0) * (size_t)a->heads + (size_t)unit * (size_t)share) * (size_t)d;
        if (share == 1) {
            for (int c = 0; c < d; c++)
                sum[c] += x[c];
            continue;
        }
        memcpy(mean, x, (size_t)d * sizeof *mean);
        for (int h = 1; h < share; h++)
            for (int c = 0; c < d; c++)
                mean[c] += x[(size_t)h * (size_t)d + (size_t)c];
        for (int c = 0; c < d; c++)
            sum[c] += mean[c] / (float)share;
    }
}

enum sw_status sw_cpu_pool(struct sw_backend *be, const struct sw_pool *a)
{
    CPU_NEED(a && a->heads > 0 && a->units > 0 && a->heads % a->units == 0 && a->block > 0);
    CPU_NEED(a->head_dim > 0 && a->t0 >= 0 && a->t1 >= a->t0);
    if (a->head_dim > SW_MAX_HEAD_DIM)
        return SW_FAIL(SW_EUNSUPPORTED, "pool: head_dim %d; the cpu backend goes up to %d",
                       a->head_dim, SW_MAX_HEAD_DIM);
    if (a->t1 == a->t0)
        return SW_OK;
    struct pool p = {.a = a, .block0 = a->t0 / a->block};
    p.blocks = sw_blocks(a->t1, a->block) - p.block0;
    CPU_NEED(a->x && a->sums && p.block0 + p.blocks <= a->ld);
    sw_workers_run(cpu_of(be)->workers, (long)a->units * p.blocks, pool_task, &p);
    return SW_OK;
}

/* --- sketch ----------------------------------------------------------------------------------- */

enum { SRHT_MAX = 256 };

/* In place, not normalised; x has a power of two of entries. */
static void walsh_hadamard(float *x, int n)
{
    for (int half = 1; half < n; half *= 2)
        for (int i = 0; i < n; i += 2 * half)
            for (int j = i; j < i + half; j++) {
                float a = x[j], b = x[j + half];
                x[j] = a + b;
                x[j + half] = a - b;
            }
}

static void sketch_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct sw_sketch *a = ctx;
    int unit = (int)(task / (a->i1 - a->i0)), i = a->i0 + (int)(task % (a->i1 - a->i0)),
        r = a->transform ? a->transform->r : a->d;
    int real = a->n - i * a->block < a->block ? a->n - i * a->block : a->block;
    float count = (float)(a->padded_tail ? a->block : real);
    const float *sum = a->sums + ((size_t)unit * (size_t)a->ld + (size_t)i) * (size_t)a->d;
    float *out = a->out + ((size_t)unit * (size_t)a->ld + (size_t)i) * (size_t)r;
    float x[SRHT_MAX] = {0};
    for (int c = 0; c < a->d; c++)
        x[c] = sum[c] / count;
    if (!a->transform) {
        memcpy(out, x, (size_t)r * sizeof *out);
        return;
    }
    const struct sw_srht *t = a->transform;
    for (int c = 0; c < a->d; c++)
        x[c] *= t->signs[c];
    walsh_hadamard(x, t->d_pow2);
    for (int c = 0; c < r; c++)
        out[c] = x[t->keep[c]] * t->scale;
}

enum sw_status sw_cpu_sketch(struct sw_backend *be, const struct sw_sketch *a)
{
    CPU_NEED(a && a->units > 0 && a->d > 0 && a->block > 0 && a->i0 >= 0 && a->i1 >= a->i0);
    CPU_NEED(a->i1 <= a->ld && (int64_t)(a->i1 - 1) * a->block < a->n && a->sums && a->out);
    if (a->d > SRHT_MAX)
        return SW_FAIL(SW_EUNSUPPORTED, "sketch: head_dim %d; the cpu backend goes up to %d", a->d,
                       SRHT_MAX);
    if (a->transform) {
        const struct sw_srht *t = a->transform;
        CPU_NEED(t->d == a->d && t->d_pow2 >= a->d && t->d_pow2 <= SRHT_MAX &&
                 (t->d_pow2 & (t->d_pow2 - 1)) == 0);
        CPU_NEED(t->r > 0 && t->r <= t->d_pow2 && t->signs && t->keep);
        for (int c = 0; c < t->r; c++)
            CPU_NEED(t->keep[c] >= 0 && t->keep[c] < t->d_pow2);
    }
    struct sw_sketch copy = *a;
    sw_workers_run(cpu_of(be)->workers, (long)a->units * (a->i1 - a->i0), sketch_task, &copy);
    return SW_OK;
}
