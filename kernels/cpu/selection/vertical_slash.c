/* vertical_slash.c: how the last queries attend, by key (columns) and by distance (slashes); their
 * sums over blocks, and block scores made of them. last·n·d multiply-adds a head, half a million a
 * key at last = 64 and 64 heads of 128; a few rows of probabilities at a time. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/device/cpu.h"

enum { QUERY_ROWS = 16 }; /* queries whose probabilities are in memory together */

struct vertical_slash {
    const struct sw_vec *vec;
    const struct sw_vertical_slash *a;
    float *scratch; /* [threads, QUERY_ROWS, n_k] */
};

static void vertical_slash_task(void *ctx, long head, int worker)
{
    const struct vertical_slash *p = ctx;
    const struct sw_vertical_slash *a = p->a;
    const struct sw_attend *in = a->in;
    int n = in->n_k, d = in->head_dim, width = in->n_heads * d, kv_width = in->n_kv_heads * d,
        kv = (int)head / (in->n_heads / in->n_kv_heads);
    float *x = p->scratch + (size_t)worker * QUERY_ROWS * (size_t)n;
    float *columns = a->columns ? a->columns + (size_t)head * (size_t)a->ld : NULL;
    float *slashes = a->slashes ? a->slashes + (size_t)head * (size_t)a->ld : NULL;
    if (columns)
        memset(columns, 0, (size_t)n * sizeof *columns);
    if (slashes)
        memset(slashes, 0, (size_t)n * sizeof *slashes);
    for (int t0 = n - a->last; t0 < n; t0 += QUERY_ROWS) {
        int rows = n - t0 < QUERY_ROWS ? n - t0 : QUERY_ROWS;
        const float *q = (const float *)in->q + (size_t)(in->n_q - (n - t0)) * (size_t)width +
                         (size_t)head * (size_t)d;
        const float *k = (const float *)in->k + (size_t)kv * (size_t)d;
        p->vec->scores(q, width, rows, k, kv_width, t0 + rows, d, in->scale, x, n);
        for (int r = 0; r < rows; r++) {
            float *row = x + (size_t)r * (size_t)n;
            int t = t0 + r;
            p->vec->softmax(row, t + 1);
            for (int u = 0; columns && u <= t; u++)
                columns[u] += row[u];
            for (int u = 0; slashes && u <= t; u++)
                slashes[t - u] += row[u];
        }
    }
}

enum sw_status sw_cpu_vertical_slash(struct sw_backend *be, const struct sw_vertical_slash *a)
{
    CPU_NEED(a != NULL);
    SW_TRY(sw_cpu_attend_check(a->in, "vertical_slash"));
    CPU_NEED(a->in->batch == 1 && a->last > 0 && a->last <= a->in->n_q && a->ld >= a->in->n_k);
    void *scratch;
    SW_TRY(sw_cpu_scratch(be, (size_t)be->threads * QUERY_ROWS * (size_t)a->in->n_k * sizeof(float),
                          &scratch));
    struct vertical_slash p = {.vec = cpu_of(be)->vec, .a = a, .scratch = scratch};
    sw_workers_run(cpu_of(be)->workers, a->in->n_heads, vertical_slash_task, &p);
    sw_cpu_scratch_done(be);
    return SW_OK;
}

/* --- sums over blocks ------------------------------------------------------------------------- */

static void pool_task(void *ctx, long row, int worker)
{
    (void)worker;
    const struct sw_pool_vertical_slash *a = ctx;
    const float *in = a->in + (size_t)row * (size_t)a->ld;
    float *out = a->out + (size_t)row * (size_t)a->ld_out;
    double passed = 0; /* from the block before */
    int first = a->from_end ? (a->n - 1) % a->block + 1 : a->block;
    for (int from = 0, end, j = 0; from < a->n; from = end, j++) {
        end = j == 0 ? first : from + a->block;
        int count = a->n < end ? a->n - from : end - from;
        double sum = passed, after = 0;
        float most = -INFINITY;
        for (int x = 0; a->largest && x < count; x++)
            most = in[from + x] > most ? in[from + x] : most;
        for (int x = 0; !a->largest && x < count; x++) {
            /* of this entry, to the next block */
            double share = a->split ? (double)x / a->block : 0.0;
            sum += (1.0 - share) * (double)in[from + x];
            after += share * (double)in[from + x];
        }
        out[j] = a->largest ? a->scale * most : (float)((double)a->scale * sum);
        passed = after;
    }
}

enum sw_status sw_cpu_pool_vertical_slash(struct sw_backend *be,
                                          const struct sw_pool_vertical_slash *a)
{
    CPU_NEED(a && a->in && a->out && a->rows > 0 && a->n > 0 && a->block > 0 && a->ld >= a->n &&
             !(a->split && (a->from_end || a->largest)) && a->ld_out >= sw_blocks(a->n, a->block));
    struct sw_pool_vertical_slash copy = *a;
    sw_workers_run(cpu_of(be)->workers, a->rows, pool_task, &copy);
    return SW_OK;
}

/* --- block scores ----------------------------------------------------------------------------- */

static void scores_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct sw_vertical_slash_scores *a = ctx;
    size_t unit = (size_t)(task / a->rows), row = (size_t)(task % a->rows);
    int i = a->row0 + (int)row;
    const float *columns = a->columns + unit * (size_t)a->ld_in,
                *slashes = a->slashes + unit * (size_t)a->ld_in;
    float *out = sw_unit_row(&a->out, unit, row);
    for (int j = 0; j < a->b; j++)
        out[j] = j <= i ? columns[j] + slashes[i - j] : 0.0f;
}

enum sw_status sw_cpu_vertical_slash_scores(struct sw_backend *be,
                                            const struct sw_vertical_slash_scores *a)
{
    CPU_NEED(a && a->columns && a->slashes && a->rows > 0 && a->row0 >= 0 &&
             a->row0 + a->rows <= a->b && a->ld_in >= a->b &&
             sw_unit_holds(&a->out, a->rows, a->b));
    struct sw_vertical_slash_scores copy = *a;
    sw_workers_run(cpu_of(be)->workers, (long)a->out.units * a->rows, scores_task, &copy);
    return SW_OK;
}
