/* stride_scores.c: Stem's scores. A mean over all pairs of groups of the products of their tokens
 * is the product of the tokens' sums, one a place in the group: b²·stride·d FLOPs a head, causal,
 * in the place of n²·d/stride. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/device/cpu.h"

struct stride_scores {
    const struct cpu *c;
    const struct sw_stride_scores *a;
    int blocks, groups, width; /* width: stride·d */
    float *keys;               /* [Hkv, b, width] */
    float *bonus;              /* [Hkv, b] */
    float *sizes;              /* [Hkv, groups]: log of the largest ‖v‖ */
    float *query;              /* [threads, width] */
};

/* Sums over the groups of block i, [stride, d]; reverse: the group's last token first. */
static void sum_groups(const struct stride_scores *p, const float *x, int heads, int head, int i,
                       bool reverse, float *out)
{
    const struct sw_stride_scores *a = p->a;
    int n = a->in->n_k, d = a->in->head_dim,
        end = n - i * a->block < a->block ? n : (i + 1) * a->block;
    memset(out, 0, (size_t)p->width * sizeof *out);
    for (int t = i * a->block; t < end; t++) {
        int place = reverse ? a->stride - 1 - t % a->stride : t % a->stride;
        const float *row = x + ((size_t)t * (size_t)heads + (size_t)head) * (size_t)d;
        float *restrict sums = out + (size_t)place * (size_t)d;
        for (int c = 0; c < d; c++)
            sums[c] += row[c];
    }
}

static void keys_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct stride_scores *p = ctx;
    int kv = (int)(task / p->blocks), j = (int)(task % p->blocks);
    sum_groups(p, p->a->in->k, p->a->in->n_kv_heads, kv, j, false,
               p->keys + (size_t)task * (size_t)p->width);
}

static float log_size(const struct stride_scores *p, int kv, int group)
{
    const struct sw_attend *in = p->a->in;
    int d = in->head_dim, first = group * p->a->stride;
    float largest = 0;
    for (int t = first; t < first + p->a->stride && t < in->n_k; t++) {
        const float *v =
            (const float *)in->v + ((size_t)t * (size_t)in->n_kv_heads + (size_t)kv) * (size_t)d;
        float squares = 0;
        for (int c = 0; c < d; c++)
            squares += v[c] * v[c];
        largest = fmaxf(largest, squares);
    }
    return logf(sqrtf(largest) + 1e-6f);
}

/* A KV head's bonus a block. Mean and deviation are of the whole groups; fewer than two have no
 * deviation, and no bonus. */
static void bonus_task(void *ctx, long kv, int worker)
{
    (void)worker;
    const struct stride_scores *p = ctx;
    const struct sw_stride_scores *a = p->a;
    int whole = a->in->n_k / a->stride, per_block = a->block / a->stride;
    float *sizes = p->sizes + (size_t)kv * (size_t)p->groups,
          *bonus = p->bonus + (size_t)kv * (size_t)p->blocks;
    double mean = 0, squares = 0;
    for (int g = 0; g < p->groups; g++) {
        sizes[g] = log_size(p, (int)kv, g);
        mean += g < whole ? (double)sizes[g] / whole : 0;
    }
    for (int g = 0; g < whole; g++)
        squares += ((double)sizes[g] - mean) * ((double)sizes[g] - mean);
    double deviation = whole > 1 ? sqrt(squares / (whole - 1)) + 1e-6 : INFINITY;
    for (int j = 0; j < p->blocks; j++) {
        double sum = 0;
        for (int g = j * per_block; g < (j + 1) * per_block && g < p->groups; g++)
            sum += fmax(0, ((double)sizes[g] - mean) / deviation);
        bonus[j] = a->bonus * (float)(sum / per_block);
    }
}

static void row_task(void *ctx, long task, int worker)
{
    const struct stride_scores *p = ctx;
    const struct sw_stride_scores *a = p->a;
    int heads = a->in->n_heads, head = (int)(task % heads),
        i = p->blocks - 1 - (int)(task / heads), /* long rows first */
        kv = head / (heads / a->in->n_kv_heads);
    float per_block = (float)(a->block / a->stride),
          scale = a->in->scale / ((float)a->stride * per_block * per_block),
          *query = p->query + (size_t)worker * (size_t)p->width,
          *out = sw_unit_row(&a->out, (size_t)head, (size_t)i);
    sum_groups(p, a->in->q, heads, head, i, true, query);
    p->c->vec->scores(query, p->width, 1,
                      p->keys + (size_t)kv * (size_t)p->blocks * (size_t)p->width, p->width, i + 1,
                      p->width, scale, out, p->blocks);
    for (int j = 0; j < p->blocks; j++)
        out[j] = j <= i ? out[j] + p->bonus[kv * p->blocks + j] : -INFINITY;
}

enum sw_status sw_cpu_stride_scores(struct sw_backend *be, const struct sw_stride_scores *a)
{
    CPU_NEED(a != NULL);
    SW_TRY(sw_cpu_attend_check(a->in, "stride_scores"));
    const struct sw_attend *in = a->in;
    CPU_NEED(in->batch == 1 && in->n_q == in->n_k && in->v && a->stride > 0 && a->block > 0 &&
             a->block % a->stride == 0);
    struct stride_scores p = {.c = cpu_of(be),
                              .a = a,
                              .blocks = sw_blocks(in->n_k, a->block),
                              .groups = sw_blocks(in->n_k, a->stride),
                              .width = a->stride * in->head_dim};
    CPU_NEED(sw_unit_holds(&a->out, p.blocks, p.blocks) && a->out.units == in->n_heads);
    size_t kv_heads = (size_t)in->n_kv_heads, keys = kv_heads * (size_t)p.blocks * (size_t)p.width,
           bonus = kv_heads * (size_t)p.blocks, sizes = kv_heads * (size_t)p.groups;
    void *scratch;
    SW_TRY(sw_cpu_scratch(
        be, (keys + bonus + sizes + (size_t)be->threads * (size_t)p.width) * sizeof(float),
        &scratch));
    p.keys = scratch;
    p.bonus = p.keys + keys;
    p.sizes = p.bonus + bonus;
    p.query = p.sizes + sizes;
    sw_workers_run(p.c->workers, (long)(kv_heads * (size_t)p.blocks), keys_task, &p);
    sw_workers_run(p.c->workers, (long)kv_heads, bonus_task, &p);
    sw_workers_run(p.c->workers, (long)in->n_heads * p.blocks, row_task, &p);
    sw_cpu_scratch_done(be);
    return SW_OK;
}
