#include "tests/support/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The rules of a block kept in part, as core/selection.h writes them. */
static bool rule_keeps(const struct sw_selection *sel, int unit, int32_t e, int t, int u)
{
    int words = (sel->block + 63) / 64, bit = t % sel->block;
    if (t - u < sel->window || u < sel->sink)
        return true;
    if (sel->columns && sel->columns[(size_t)unit * (size_t)sel->mask_ld + (size_t)u])
        return true;
    if (sel->slashes && sel->slashes[(size_t)unit * (size_t)sel->mask_ld + (size_t)(t - u)])
        return true;
    return sel->queries &&
           (sel->queries[(size_t)e * (size_t)words + (size_t)(bit / 64)] >> (bit % 64) & 1);
}

bool sw_reference_sees(const struct sw_selection *sel, int unit, int t, int u)
{
    if (u > t)
        return false;
    if (!sel)
        return true;
    int64_t row = (int64_t)unit * sel->rows + t / sel->block - sel->row0;
    for (int32_t e = sel->indptr[row]; e < sel->indptr[row + 1]; e++)
        if (sel->indices[e] == u / sel->block)
            return !sel->whole || sel->whole[e] || rule_keeps(sel, unit, e, t, u);
    return false;
}

static int unit_of(const struct sw_attend *a, int batch, int head)
{
    if (!a->sel)
        return 0;
    int units = a->sel->units / a->batch;
    return batch * units + (units == 1 ? 0 : head / (a->n_heads / units));
}

#define ATTEND(real, exp_fn)                                                                   \
    int d = a->head_dim, group = a->n_heads / a->n_kv_heads;                                   \
    real *p = malloc((size_t)a->n_k * sizeof *p);                                              \
    for (int batch = 0; batch < a->batch; batch++)                                             \
        for (int q = 0; q < a->n_q; q++)                                                       \
            for (int h = 0; h < a->n_heads; h++) {                                             \
                int t = a->n_k - a->n_q + q;                                                   \
                const float *query =                                                           \
                    (const float *)a->q +                                                      \
                    (((size_t)batch * (size_t)a->n_q + (size_t)q) * (size_t)a->n_heads +       \
                     (size_t)h) *                                                              \
                        (size_t)d;                                                             \
                size_t kv0 =                                                                   \
                    (size_t)batch * (size_t)a->kv_stride * (size_t)a->n_kv_heads * (size_t)d + \
                    (size_t)(h / group) * (size_t)d;                                           \
                size_t step = (size_t)a->n_kv_heads * (size_t)d;                               \
                real max = -INFINITY, sum = 0;                                                 \
                for (int u = 0; u <= t; u++) {                                                 \
                    if (!sw_reference_sees(a->sel, unit_of(a, batch, h), t, u)) {              \
                        p[u] = -INFINITY;                                                      \
                        continue;                                                              \
                    }                                                                          \
                    real s = 0;                                                                \
                    for (int c = 0; c < d; c++)                                                \
                        s += (real)query[c] *                                                  \
                             (real)((const float *)a->k)[kv0 + (size_t)u * step + (size_t)c];  \
                    p[u] = s * (real)a->scale;                                                 \
                    max = p[u] > max ? p[u] : max;                                             \
                }                                                                              \
                for (int u = 0; u <= t; u++) {                                                 \
                    p[u] = exp_fn(p[u] - max);                                                 \
                    sum += p[u];                                                               \
                }                                                                              \
                for (int c = 0; c < d; c++) {                                                  \
                    real o = 0;                                                                \
                    for (int u = 0; u <= t; u++)                                               \
                        o += p[u] *                                                            \
                             (real)((const float *)a->v)[kv0 + (size_t)u * step + (size_t)c];  \
                    out[(((size_t)batch * (size_t)a->n_q + (size_t)q) * (size_t)a->n_heads +   \
                         (size_t)h) *                                                          \
                            (size_t)d +                                                        \
                        (size_t)c] = o / sum;                                                  \
                }                                                                              \
            }                                                                                  \
    free(p)

void sw_reference_attend(const struct sw_attend *a, double *out) { ATTEND(double, exp); }
void sw_reference_attend_fp32(const struct sw_attend *a, float *out) { ATTEND(float, expf); }

void sw_reference_block_mass(const struct sw_attend *a, int block, double *out)
{
    int d = a->head_dim, group = a->n_heads / a->n_kv_heads, offset = a->n_k - a->n_q,
        row0 = offset / block;
    int blocks = sw_blocks(a->n_k, block), rows = blocks - row0;
    double *p = malloc((size_t)a->n_k * sizeof *p);
    memset(out, 0, (size_t)a->n_heads * (size_t)rows * (size_t)blocks * sizeof *out);
    for (int h = 0; h < a->n_heads; h++)
        for (int q = 0; q < a->n_q; q++) {
            int t = offset + q, i = t / block;
            int first = i * block > offset ? i * block : offset,
                end = (i + 1) * block < a->n_k ? (i + 1) * block : a->n_k;
            double max = -INFINITY, sum = 0;
            for (int u = 0; u <= t; u++) {
                p[u] = 0;
                for (int c = 0; c < d; c++)
                    p[u] +=
                        (double)((const float *)a
                                     ->q)[((size_t)q * (size_t)a->n_heads + (size_t)h) * (size_t)d +
                                          (size_t)c] *
                        (double)((const float *)a->k)[((size_t)u * (size_t)a->n_kv_heads +
                                                       (size_t)(h / group)) *
                                                          (size_t)d +
                                                      (size_t)c];
                p[u] *= (double)a->scale;
                max = p[u] > max ? p[u] : max;
            }
            for (int u = 0; u <= t; u++)
                sum += exp(p[u] - max);
            for (int u = 0; u <= t; u++)
                out[((size_t)h * (size_t)rows + (size_t)(i - row0)) * (size_t)blocks +
                    (size_t)(u / block)] += exp(p[u] - max) / sum / (end - first);
        }
    free(p);
}
