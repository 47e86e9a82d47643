/* decode.c: attention of one query a sequence. Bound by reading K and V once: 2·n_k·Hkv·d·4 bytes
 * dense, so the heads of a KV group that read the same keys go together. Keys are cut into parts of
 * fixed size (not by the number of threads), combined in order. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/device/cpu.h"

/* a part of K and V, all heads, lies in the second cache level */
enum { PART_BYTES = 384 << 10, DENSE_BLOCK = 64 };

/* Heads that read the same list. */
struct set {
    int batch, head, heads;
    int64_t row, from; /* its row of the selection, and first list entry (sparse) */
    int blocks;
    int part0; /* its first part among all parts */
};

struct decode {
    const struct cpu *c;
    const struct sw_attend *a;
    int block, blocks_per_part, sets, parts, most_parts; /* most_parts: of one set */
    bool alike; /* all heads of a sequence read the same keys */
    struct set *set;
    float *max, *sum; /* [parts, SW_DECODE_HEADS] */
    float *out;       /* [parts, SW_DECODE_HEADS, d] */
};

static void part_of_set(const struct decode *p, const struct set *s, int at)
{
    const struct sw_attend *a = p->a;
    int block0 = at * p->blocks_per_part,
        n = s->blocks - block0 < p->blocks_per_part ? s->blocks - block0 : p->blocks_per_part;
    ptrdiff_t stride = (ptrdiff_t)a->n_kv_heads * a->head_dim, group = a->n_heads / a->n_kv_heads;
    ptrdiff_t kv = (ptrdiff_t)s->batch * a->kv_stride * stride + s->head / group * a->head_dim;
    size_t first = (size_t)(s->part0 + at) * SW_DECODE_HEADS;
    struct sw_vec_decode job = {.heads = s->heads,
                                .d = a->head_dim,
                                .block = p->block,
                                .n_k = a->n_k,
                                .q = (const float *)a->q +
                                     ((ptrdiff_t)s->batch * a->n_heads + s->head) * a->head_dim,
                                .scale = a->scale,
                                .k = (const float *)a->k + kv,
                                .v = (const float *)a->v + kv,
                                .stride = stride,
                                .first_block = block0,
                                .list = {.n_blocks = n},
                                .max = p->max + first,
                                .sum = p->sum + first,
                                .out = p->out + first * (size_t)a->head_dim};
    if (a->sel)
        job.list = sw_cpu_key_list(a->sel, s->row, block0, n);
    p->c->vec->decode(&job);
}

/* A head's keys are short pieces Hkv·d floats apart; read one head at a time, memory gives a third
 * of what it gives to a straight run. Where all heads read the same tokens, touch the whole rows
 * first, in order: they stay in the second cache level. */
static void fetch_rows(const struct decode *p, const struct set *s, int at)
{
    const struct sw_attend *a = p->a;
    ptrdiff_t stride = (ptrdiff_t)a->n_kv_heads * a->head_dim,
              start = (ptrdiff_t)s->batch * a->kv_stride * stride;
    float touched = 0;
    for (int e = at * p->blocks_per_part; e < s->blocks && e < (at + 1) * p->blocks_per_part; e++) {
        int j = a->sel ? a->sel->indices[s->from + e] : e, from = j * p->block,
            to = from + p->block < a->n_k ? from + p->block : a->n_k;
        for (int of_v = 0; of_v < 2; of_v++) {
            const float *row = (const float *)(of_v ? a->v : a->k) + start;
            for (ptrdiff_t i = from * stride; i < to * stride; i += 64 / (ptrdiff_t)sizeof *row)
                touched += row[i];
        }
    }
    /* loads, not prefetch instructions: only those start the processor's own prefetching */
    volatile float sink = touched;
    (void)sink;
}

/* One part of every head of a sequence. */
static void part_task(void *ctx, long i, int worker)
{
    (void)worker;
    const struct decode *p = ctx;
    int batch = (int)(i / p->most_parts), at = (int)(i % p->most_parts),
        sets = p->sets / p->a->batch;
    bool fetched = !p->alike;
    for (const struct set *s = p->set + batch * sets; s < p->set + (batch + 1) * sets; s++) {
        if (at * p->blocks_per_part >= s->blocks)
            continue;
        if (!fetched)
            fetch_rows(p, s, at);
        fetched = true;
        part_of_set(p, s, at);
    }
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
    p->sets = p->parts = p->most_parts = 0;
    p->alike = units == 1;
    for (int batch = 0; batch < a->batch; batch++)
        for (int head = 0; head < a->n_heads;) {
            int left = together - head % together,
                heads = left < SW_DECODE_HEADS ? left : SW_DECODE_HEADS;
            struct set set = {.batch = batch,
                              .head = head,
                              .heads = heads,
                              .blocks = sw_blocks(a->n_k, p->block),
                              .part0 = p->parts};
            if (s) {
                set.row = (int64_t)batch * units + (units == 1            ? 0
                                                    : units == a->n_heads ? head
                                                                          : head / group);
                set.from = s->indptr[set.row];
                set.blocks = s->indptr[set.row + 1] - s->indptr[set.row];
            }
            int parts = (set.blocks + p->blocks_per_part - 1) / p->blocks_per_part;
            if (p->set)
                p->set[p->sets] = set;
            p->parts += parts;
            p->most_parts = parts > p->most_parts ? parts : p->most_parts;
            p->sets++;
            head += heads;
        }
}

enum sw_status sw_cpu_attend_decode(struct sw_backend *be, const struct sw_attend *a)
{
    struct decode p = {.c = cpu_of(be), .a = a, .block = a->sel ? a->sel->block : DENSE_BLOCK};
    size_t block_bytes =
        (size_t)p.block * (size_t)a->n_kv_heads * (size_t)a->head_dim * 2 * sizeof(float);
    p.blocks_per_part = block_bytes < PART_BYTES ? (int)(PART_BYTES / block_bytes) : 1;
    make_sets(&p);
    size_t partial = (size_t)p.parts * SW_DECODE_HEADS;
    void *scratch;
    SW_TRY(sw_cpu_scratch(
        be, (size_t)p.sets * sizeof *p.set + partial * (2 + (size_t)a->head_dim) * sizeof(float),
        &scratch));
    p.set = scratch;
    p.max = (float *)(void *)(p.set + p.sets);
    p.sum = p.max + partial;
    p.out = p.sum + partial;
    make_sets(&p);
    sw_workers_run(cpu_of(be)->workers, (long)a->batch * p.most_parts, part_task, &p);
    sw_workers_run(cpu_of(be)->workers, p.sets, combine_task, &p);
    sw_cpu_scratch_done(be);
    return SW_OK;
}
