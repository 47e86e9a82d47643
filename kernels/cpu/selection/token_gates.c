/* token_gates.c: a token's own gates, its query times the means of key blocks (NSA's and MoBA's
 * form). n·b·d FLOPs a head over the causal half, as products of TASK_TOKENS queries each; the
 * gates of one such piece are all that is ever in memory. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/device/cpu.h"
#include "kernels/cpu/selection/order.h"

enum { TASK_TOKENS = 32 };

struct gates {
    const struct sw_token_gates *in;
    const struct sw_vec *vec;
    int b, row0, rows;
    float *gates;   /* [threads, TASK_TOKENS, b] */
    uint64_t *keys; /* [threads, b] */
};

/* Query tokens of row i: the first and one past the last, as positions. */
static void row_span(const struct sw_token_gates *in, int i, int *first, int *end)
{
    int begin = i * in->block;
    *first = begin > in->n - in->n_q ? begin : in->n - in->n_q;
    *end = in->n - begin < in->block ? in->n : begin + in->block;
}

/* Gates of `tokens` tokens of a head from position t on, over blocks 0 … cols-1, into out [tokens,
 * b]. */
static void token_gates(const struct gates *p, int head, int t, int tokens, int cols, float *out)
{
    const struct sw_token_gates *in = p->in;
    int stride = in->n_heads * in->head_dim, kv = head / (in->n_heads / in->n_kv_heads);
    const float *q = (const float *)in->q + (ptrdiff_t)(t - (in->n - in->n_q)) * stride +
                     (ptrdiff_t)head * in->head_dim;
    const float *k = in->k + (size_t)kv * (size_t)in->k_ld * (size_t)in->head_dim;
    p->vec->scores(q, stride, tokens, k, in->head_dim, cols, in->head_dim, in->scale, out, p->b);
}

static enum sw_status sw_cpu_token_gates(struct sw_backend *be, const struct sw_token_gates *in,
                                         int ld_rows, int ld, bool with_keys, struct gates *p)
{
    CPU_NEED(in->q && in->k && in->block > 0 && in->n_q > 0 && in->n_q <= in->n &&
             in->head_dim > 0);
    CPU_NEED(in->n_kv_heads > 0 && in->n_heads > 0 && in->n_heads % in->n_kv_heads == 0);
    *p = (struct gates){.in = in,
                        .vec = cpu_of(be)->vec,
                        .b = sw_blocks(in->n, in->block),
                        .row0 = (in->n - in->n_q) / in->block};
    p->rows = p->b - p->row0;
    CPU_NEED(in->k_ld >= p->b && ld_rows >= p->rows && ld >= p->b);
    size_t keys = with_keys ? (size_t)be->threads * (size_t)p->b : 0;
    void *scratch;
    SW_TRY(sw_cpu_scratch(be,
                          keys * sizeof(uint64_t) +
                              (size_t)be->threads * TASK_TOKENS * (size_t)p->b * sizeof(float),
                          &scratch));
    p->keys = scratch;
    p->gates = (float *)(void *)(p->keys + keys);
    return SW_OK;
}

/* --- scores ----------------------------------------------------------------------------------- */

struct gate_scores {
    struct gates g;
    const struct sw_gate_scores *a;
};

/* Blocks that the token at position t of row i sees. */
static int seen_blocks(const struct gate_scores *p, int t, int i)
{
    return p->a->complete ? (t + 1) / p->g.in->block : i + 1;
}

/* One softmax a row: of `tokens` more tokens from t on, whose gates are x. sums are of exp(g -
 * *top), and are brought to the new top where it grows. x is used up. */
static void add_to_row(const struct gate_scores *p, int i, int t, int tokens, float *x, float *sums,
                       float *top)
{
    const struct sw_vec *vec = p->g.vec;
    float best = *top;
    for (int r = 0; r < tokens; r++)
        best = fmaxf(best, vec->max(x + (size_t)r * (size_t)p->g.b, seen_blocks(p, t + r, i)));
    if (best == -INFINITY)
        return;
    float shrink = expf(*top - best);
    for (int j = 0; j <= i; j++)
        sums[j] *= shrink;
    *top = best;
    for (int r = 0; r < tokens; r++) {
        float *restrict of_token = x + (size_t)r * (size_t)p->g.b;
        int blocks = seen_blocks(p, t + r, i);
        if (blocks == 0)
            continue;
        float weight = vec->sum_exp(of_token, best, blocks);
        vec->softmax(of_token, blocks);
        for (int j = 0; j < blocks; j++)
            sums[j] += weight * of_token[j];
    }
}

static void divide_by_sum(float *row, int n)
{
    float sum = 0;
    for (int j = 0; j < n; j++)
        sum += row[j];
    for (int j = 0; sum > 0 && j < n; j++)
        row[j] /= sum;
}

static void scores_task(void *ctx, long task, int worker)
{
    const struct gate_scores *p = ctx;
    const struct gates *g = &p->g;
    float top = -INFINITY;
    /* long rows first */
    int unit = (int)(task % p->a->out.units), row = g->rows - 1 - (int)(task / p->a->out.units),
        i = g->row0 + row;
    int share = g->in->n_heads / p->a->out.units, first, end;
    float *x = g->gates + (size_t)worker * TASK_TOKENS * (size_t)g->b;
    float *out = sw_unit_row(&p->a->out, (size_t)unit, (size_t)row);
    memset(out, 0, (size_t)g->b * sizeof *out);
    row_span(g->in, i, &first, &end);
    for (int h = unit * share; h < (unit + 1) * share; h++)
        for (int t = first; t < end; t += TASK_TOKENS) {
            int tokens = end - t < TASK_TOKENS ? end - t : TASK_TOKENS;
            token_gates(g, h, t, tokens, i + 1, x);
            if (p->a->row_softmax) {
                add_to_row(p, i, t, tokens, x, out, &top);
                continue;
            }
            for (int r = 0; r < tokens; r++) {
                float *restrict of_token = x + (size_t)r * (size_t)g->b;
                int blocks = seen_blocks(p, t + r, i);
                if (blocks > 0)
                    g->vec->softmax(of_token, blocks);
                for (int j = 0; j < blocks; j++)
                    out[j] += of_token[j];
            }
        }
    if (p->a->row_softmax)
        divide_by_sum(out, i + 1);
}

enum sw_status sw_cpu_gate_scores(struct sw_backend *be, const struct sw_gate_scores *a)
{
    CPU_NEED(a && a->out.data && a->out.units > 0 && a->in.n_heads % a->out.units == 0);
    CPU_NEED(!a->row_softmax || a->out.units == a->in.n_heads);
    struct gate_scores p = {.a = a};
    SW_TRY(sw_cpu_token_gates(be, &a->in, a->out.ld_rows, a->out.ld, false, &p.g));
    sw_workers_run(cpu_of(be)->workers, (long)a->out.units * p.g.rows, scores_task, &p);
    sw_cpu_scratch_done(be);
    return SW_OK;
}

/* --- top -------------------------------------------------------------------------------------- */

struct gate_top {
    struct gates g;
    const struct sw_gate_top *a;
    int words;
};

static void top_task(void *ctx, long task, int worker)
{
    const struct gate_top *p = ctx;
    const struct gates *g = &p->g;
    int heads = g->in->n_heads, head = (int)(task % heads), row = g->rows - 1 - (int)(task / heads),
        i = g->row0 + row;
    int top = p->a->top[row] < i ? p->a->top[row] : i, first, end;
    float *x = g->gates + (size_t)worker * TASK_TOKENS * (size_t)g->b;
    uint64_t *keys = g->keys + (size_t)worker * (size_t)g->b;
    uint8_t *keep = sw_keep_row(&p->a->keep, (size_t)head, (size_t)row);
    uint64_t *queries = p->a->queries + (size_t)(keep - p->a->keep.data) * (size_t)p->words;
    memset(keep, 0, (size_t)g->b);
    memset(queries, 0, (size_t)g->b * (size_t)p->words * sizeof *queries);
    keep[i] = 1;
    row_span(g->in, i, &first, &end);
    for (int t = first; t < end && top > 0; t += TASK_TOKENS) {
        int tokens = end - t < TASK_TOKENS ? end - t : TASK_TOKENS;
        token_gates(g, head, t, tokens, i, x);
        for (int r = 0; r < tokens; r++) {
            const float *of_token = x + (size_t)r * (size_t)g->b;
            int bit = t + r - i * g->in->block;
            for (int j = 0; j < i; j++)
                keys[j] = sw_key_of(of_token[j], (uint32_t)j);
            uint64_t threshold = sw_kth_largest(keys, i, top - 1);
            for (int j = 0; j < i; j++)
                if (sw_key_of(of_token[j], (uint32_t)j) >= threshold) {
                    keep[j] = 1;
                    queries[(size_t)j * (size_t)p->words + (size_t)(bit / 64)] |= (uint64_t)1
                                                                                  << (bit % 64);
                }
        }
    }
}

enum sw_status sw_cpu_gate_top(struct sw_backend *be, const struct sw_gate_top *a)
{
    CPU_NEED(a && a->top && a->queries && a->keep.data && a->keep.units == a->in.n_heads);
    struct gate_top p = {.a = a};
    SW_TRY(sw_cpu_token_gates(be, &a->in, a->keep.ld_rows, a->keep.ld, true, &p.g));
    p.words = sw_query_words(a->in.block);
    sw_workers_run(cpu_of(be)->workers, (long)a->in.n_heads * p.g.rows, top_task, &p);
    sw_cpu_scratch_done(be);
    return SW_OK;
}
