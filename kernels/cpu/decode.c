/* decode.c: attention of one query a sequence. Bound by reading K and V once: 2·n_k·Hkv·d·4 bytes dense, so the heads of a KV group that
 * read the same keys go together. Keys are cut into parts of fixed size (not by the number of threads), combined in order. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum { PART_KEYS = 512, DENSE_BLOCK = 64 };

/* Heads that read the same list. */
struct set {
    int batch, head, heads;
    int64_t from; /* first list entry (sparse) */
    int blocks;
    int part0; /* its first part among all parts */
};

struct decode {
    const struct cpu *c;
    const struct sw_attend *a;
    int block, blocks_per_part, sets, parts;
    struct set *set;
    int *part_set; /* [parts] */
    float *max, *sum; /* [parts, SW_DECODE_HEADS] */
    float *out;       /* [parts, SW_DECODE_HEADS, d] */
};

static void part_task(void *ctx, long part, int worker)
{
    (void)worker;
    const struct decode *p = ctx;
    const struct sw_attend *a = p->a;
    const struct set *s = &p->set[p->part_set[part]];
    int block0 = ((int)part - s->part0) * p->blocks_per_part, n = s->blocks - block0 < p->blocks_per_part ? s->blocks - block0 : p->blocks_per_part;
    ptrdiff_t stride = (ptrdiff_t)a->n_kv_heads * a->head_dim, group = a->n_heads / a->n_kv_heads;
    ptrdiff_t at = (ptrdiff_t)s->batch * a->kv_stride * stride + s->head / group * a->head_dim;
    size_t first = (size_t)part * SW_DECODE_HEADS;
    struct sw_vec_decode job = {.heads = s->heads, .d = a->head_dim, .block = p->block, .n_k = a->n_k,
                                .q = (const float *)a->q + ((ptrdiff_t)s->batch * a->n_heads + s->head) * a->head_dim, .scale = a->scale,
                                .k = (const float *)a->k + at, .v = (const float *)a->v + at, .stride = stride, .first_block = block0,
                                .list = {.n_blocks = n}, .max = p->max + first, .sum = p->sum + first,
                                .out = p->out + first * (size_t)a->head_dim};
    if (a->sel) {
        job.list.blocks = a->sel->indices + s->from + block0;
        job.list.whole = a->sel->whole ? a->sel->whole + s->from + block0 : NULL;
        job.list.window = a->sel->window;
        job.list.sink = a->sel->sink;
    }
    p->c->vec->decode(&job);
}

static void combine_task(void *ctx, long i, int worker)
{
    (void)worker;
    const struct decode *p = ctx;
    const struct sw_attend *a = p->a;
    const struct set *s = &p->set[i];
    int parts = (s->blocks + p->blocks_per_part - 1) / p->blocks_per_part, d = a->head_dim;
    for (int h = 0; h < s->heads; h++) {
        float *out = (float *)a->out + ((ptrdiff_t)s->batch * a->n_heads + s->head + h) * d;
        float max = -INFINITY, sum = 0;
        for (int q = 0; q < parts; q++) {
            float m = p->max[(size_t)(s->part0 + q) * SW_DECODE_HEADS + (size_t)h];
            max = m > max ? m : max;
        }
        memset(out, 0, (size_t)d * sizeof *out);
        for (int q = 0; q < parts; q++) {
            size_t at = (size_t)(s->part0 + q) * SW_DECODE_HEADS + (size_t)h;
            float weight = exp2f(p->max[at] - max);
            sum += p->sum[at] * weight;
            for (int c = 0; c < d; c++)
                out[c] += p->out[at * (size_t)d + (size_t)c] * weight;
        }
        float factor = sum > 0 ? 1.0f / sum : 0.0f;
        for (int c = 0; c < d; c++)
            out[c] *= factor;
    }
}

/* Fills p->set, or only counts when it is NULL. */
static void make_sets(struct decode *p)
{
    const struct sw_attend *a = p->a;
    const struct sw_selection *s = a->sel;
    int group = a->n_heads / a->n_kv_heads, units = s ? s->units / a->batch : 1;
    int together = units == a->n_heads ? 1 : group; /* heads with lists of their own go alone */
    p->sets = p->parts = 0;
    for (int batch = 0; batch < a->batch; batch++)
        for (int head = 0; head < a->n_heads;) {
            int left = together - head % together, heads = left < SW_DECODE_HEADS ? left : SW_DECODE_HEADS;
            struct set set = {.batch = batch, .head = head, .heads = heads, .blocks = sw_blocks(a->n_k, p->block), .part0 = p->parts};
            if (s) {
                int64_t row = (int64_t)batch * units + (units == 1 ? 0 : units == a->n_heads ? head : head / group);
                set.from = s->indptr[row];
                set.blocks = s->indptr[row + 1] - s->indptr[row];
            }
            int parts = (set.blocks + p->blocks_per_part - 1) / p->blocks_per_part;
            if (p->set) {
                p->set[p->sets] = set;
                for (int q = 0; q < parts; q++)
                    p->part_set[p->parts + q] = p->sets;
            }
            p->parts += parts;
            p->sets++;
            head += heads;
        }
}

enum sw_status sw_cpu_attend_decode(struct sw_backend *be, const struct sw_attend *a)
{
    struct decode p = {.c = cpu_of(be), .a = a, .block = a->sel ? a->sel->block : DENSE_BLOCK};
    p.blocks_per_part = p.block < PART_KEYS ? PART_KEYS / p.block : 1;
    make_sets(&p);
    size_t partial = (size_t)p.parts * SW_DECODE_HEADS;
    void *scratch;
    SW_TRY(sw_cpu_scratch(be, (size_t)p.sets * sizeof *p.set + (size_t)p.parts * sizeof *p.part_set +
                                  partial * (2 + (size_t)a->head_dim) * sizeof(float), &scratch));
    p.set = scratch;
    p.part_set = (int *)(void *)(p.set + p.sets);
    p.max = (float *)(void *)(p.part_set + p.parts);
    p.sum = p.max + partial;
    p.out = p.sum + partial;
    make_sets(&p);
    sw_workers_run(cpu_of(be)->workers, p.parts, part_task, &p);
    sw_workers_run(cpu_of(be)->workers, p.sets, combine_task, &p);
    sw_cpu_scratch_done(be);
    return SW_OK;
}
