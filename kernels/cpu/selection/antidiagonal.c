/* antidiagonal.c: XAttention's scores. With the tokens of a group side by side, the queries' in
 * reverse, the sums over antidiagonals are one product of [n / stride, stride·d] matrices:
 * n²·d/stride FLOPs a head, causal. Keys are regrouped once a KV head, as many heads at a time as
 * fit into ROUND_BYTES (at least one); a task is one head and about TASK_GROUPS groups of queries.
 * The product is OpenBLAS's, twice as fast here as vec.h's scores: equal keys then differ in the
 * last bit in some columns, which a threshold on summed shares of attention does not see. */
#include <cblas.h>
#include <string.h>

#include "kernels/cpu/device/cpu.h"

enum { ROUND_BYTES = 64 << 20, TASK_GROUPS = 64 };

struct antidiagonal {
    const struct cpu *c;
    const struct sw_antidiagonal *a;
    /* groups of tokens, and of them in a block; blocks a task, tasks a head */
    int groups, per_block, blocks, task_blocks, tasks;
    int kv0, heads; /* this round's KV heads start at kv0; query heads in it */
    float *keys;    /* [KV heads of the round, groups, stride·d] */
    /* [threads]: queries [rows, stride·d], weights [rows, groups], rows = task_blocks·per_block */
    float *scratch;
    size_t per_thread;
};

/* Rows of [stride, d] for groups g0 … g1-1 of one head of x [n, heads, d]; reverse: last token
 * first. Tokens past the end are zero. */
static void regroup(const struct sw_antidiagonal *a, const float *x, int heads, int head, int g0,
                    int g1, bool reverse, float *out)
{
    int n = a->in->n_k, d = a->in->head_dim;
    for (int g = g0; g < g1; g++)
        for (int s = 0; s < a->stride; s++, out += d) {
            int t = g * a->stride + (reverse ? a->stride - 1 - s : s);
            if (t < n)
                memcpy(out, x + ((size_t)t * (size_t)heads + (size_t)head) * (size_t)d,
                       (size_t)d * sizeof *out);
            else
                memset(out, 0, (size_t)d * sizeof *out);
        }
}

static void keys_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct antidiagonal *p = ctx;
    int in_round = (int)(task / p->blocks), g0 = (int)(task % p->blocks) * p->per_block;
    int g1 = g0 + p->per_block < p->groups ? g0 + p->per_block : p->groups;
    size_t width = (size_t)p->a->stride * (size_t)p->a->in->head_dim;
    regroup(p->a, p->a->in->k, p->a->in->n_kv_heads, p->kv0 + in_round, g0, g1, false,
            p->keys + ((size_t)in_round * (size_t)p->groups + (size_t)g0) * width);
}

static void add_blocks(const struct antidiagonal *p, const float *weights, int group, float *out)
{
    for (int from = 0, j = 0; from <= group; from += p->per_block, j++) {
        int to = from + p->per_block <= group + 1 ? from + p->per_block : group + 1;
        float sum = 0;
        for (int c = from; c < to; c++)
            sum += weights[c];
        out[j] += sum;
    }
}

static void scores_task(void *ctx, long task, int worker)
{
    const struct antidiagonal *p = ctx;
    const struct sw_antidiagonal *a = p->a;
    const struct sw_attend *in = a->in;
    int share = in->n_heads / in->n_kv_heads, in_round = (int)(task % p->heads),
        head = p->kv0 * share + in_round;
    int i0 = (p->tasks - 1 - (int)(task / p->heads)) * p->task_blocks; /* long rows first */
    int i1 = i0 + p->task_blocks < p->blocks ? i0 + p->task_blocks : p->blocks;
    int g0 = i0 * p->per_block, g1 = i1 * p->per_block < p->groups ? i1 * p->per_block : p->groups,
        width = a->stride * in->head_dim;
    float *q = p->scratch + (size_t)worker * p->per_thread,
          *weights = q + (size_t)p->task_blocks * (size_t)p->per_block * (size_t)width;
    const float *k = p->keys + (size_t)(in_round / share) * (size_t)p->groups * (size_t)width;
    regroup(a, in->q, in->n_heads, head, g0, g1, true, q);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, g1 - g0, g1, width,
                in->scale / (float)a->stride, q, width, k, width, 0.0f, weights, p->groups);
    for (int i = i0; i < i1; i++) {
        float *out = sw_unit_row(&a->out, (size_t)head, (size_t)i);
        memset(out, 0, (size_t)p->blocks * sizeof *out);
        for (int g = i * p->per_block; g < (i + 1) * p->per_block && g < g1; g++) {
            float *row = weights + (size_t)(g - g0) * (size_t)p->groups;
            p->c->vec->softmax(row, g + 1);
            add_blocks(p, row, g, out);
        }
    }
}

enum sw_status sw_cpu_antidiagonal(struct sw_backend *be, const struct sw_antidiagonal *a)
{
    CPU_NEED(a != NULL);
    SW_TRY(sw_cpu_attend_check(a->in, "antidiagonal"));
    const struct sw_attend *in = a->in;
    CPU_NEED(in->batch == 1 && in->n_q == in->n_k && a->stride > 0 && a->block > 0 &&
             a->block % a->stride == 0);
    struct antidiagonal p = {.c = cpu_of(be),
                             .a = a,
                             .groups = sw_blocks(in->n_k, a->stride),
                             .per_block = a->block / a->stride,
                             .blocks = sw_blocks(in->n_k, a->block)};
    CPU_NEED(sw_unit_holds(&a->out, p.blocks, p.blocks) && a->out.units == in->n_heads);
    p.task_blocks = p.per_block < TASK_GROUPS ? TASK_GROUPS / p.per_block : 1;
    p.tasks = (p.blocks + p.task_blocks - 1) / p.task_blocks;
    size_t width = (size_t)a->stride * (size_t)in->head_dim, k_head = (size_t)p.groups * width;
    p.per_thread = (size_t)p.task_blocks * (size_t)p.per_block * (width + (size_t)p.groups);
    size_t round = ROUND_BYTES / (k_head * sizeof(float));
    int all = in->n_kv_heads, per_round = round<1 ? 1 : round>(size_t) all ? all : (int)round;
    void *scratch;
    SW_TRY(sw_cpu_scratch(
        be, (k_head * (size_t)per_round + (size_t)be->threads * p.per_thread) * sizeof(float),
        &scratch));
    p.keys = scratch;
    p.scratch = p.keys + k_head * (size_t)per_round;
    for (p.kv0 = 0; p.kv0 < all; p.kv0 += per_round) {
        int count = all - p.kv0 < per_round ? all - p.kv0 : per_round;
        p.heads = count * (in->n_heads / all);
        sw_workers_run(p.c->workers, (long)count * p.blocks, keys_task, &p);
        sw_workers_run(p.c->workers, (long)p.heads * p.tasks, scores_task, &p);
    }
    sw_cpu_scratch_done(be);
    return SW_OK;
}
