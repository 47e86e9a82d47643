/* attend.c: attention of many queries, dense and block-sparse by one kernel (vec.inc).
 *
 * Keys (transposed) and values are packed once a call and KV head, then tasks of one head × up to
 * 64 queries run over the key tiles that they see. Dense causal: 2·H·d·n² FLOPs; packing moves
 * 4·Hkv·d·n floats. Memory beyond the inputs: the packed copy of as many KV heads as fit in
 * ROUND_BYTES (at least one). */
#include "kernels/cpu/device/cpu.h"

enum { ROUND_BYTES = 64 << 20, PACK_KEYS = 512 };

enum sw_status sw_cpu_attend_check(const struct sw_attend *a, const char *what)
{
    if (!a || a->batch < 1 || a->n_q < 1 || a->n_k < a->n_q || a->n_heads < 1 ||
        a->n_kv_heads < 1 || a->n_heads % a->n_kv_heads || a->head_dim < 1 ||
        a->kv_stride < a->n_k || !a->q || !a->k)
        return SW_FAIL(SW_EINTERNAL, "%s: contract broken: shape, stride or pointers", what);
    if (a->head_dim > SW_MAX_HEAD_DIM)
        return SW_FAIL(SW_EUNSUPPORTED, "%s: head_dim %d; the cpu backend goes up to %d", what,
                       a->head_dim, SW_MAX_HEAD_DIM);
    return SW_OK;
}

/* A wrong list would make the kernels read anywhere. Costs one pass over the lists, nothing beside
 * the attention. */
static enum sw_status check_selection(const struct sw_attend *a)
{
    const struct sw_selection *s = a->sel;
    if (s->block < 1 || s->n != a->n_k || !s->indptr || !s->indices)
        return SW_FAIL(SW_EINTERNAL, "attend: selection of %d keys, block %d, for %d keys", s->n,
                       s->block, a->n_k);
    if ((s->columns || s->slashes) && s->mask_ld < a->n_k)
        return SW_FAIL(SW_EINTERNAL, "attend: token masks of %d entries for %d keys", s->mask_ld,
                       a->n_k);
    int per_batch = s->units / a->batch, offset = a->n_k - a->n_q;
    if (s->units % a->batch ||
        (per_batch != 1 && per_batch != a->n_kv_heads && per_batch != a->n_heads))
        return SW_FAIL(SW_EINTERNAL,
                       "attend: selection of %d units for batch %d, %d heads, %d KV heads",
                       s->units, a->batch, a->n_heads, a->n_kv_heads);
    if (a->n_q != 1 && offset % s->block)
        return SW_FAIL(SW_EINTERNAL, "attend: queries start at %d, not at a block of %d", offset,
                       s->block);
    if (s->row0 != offset / s->block || s->rows != sw_blocks(a->n_k, s->block) - s->row0)
        return SW_FAIL(SW_EINTERNAL, "attend: selection rows %d+%d for queries %d … %d, block %d",
                       s->row0, s->rows, offset, a->n_k - 1, s->block);
    int64_t rows = (int64_t)s->units * s->rows;
    for (int64_t row = 0; row < rows; row++) {
        int i = s->row0 + (int)(row % s->rows);
        int32_t from = s->indptr[row], to = s->indptr[row + 1], before = -1;
        bool good = from >= 0 && from < to && to <= s->capacity;
        for (int32_t e = from; good && e < to; e++) {
            good = s->indices[e] > before;
            before = s->indices[e];
        }
        if (!good || before > i)
            return SW_FAIL(
                SW_EINTERNAL,
                "attend: selection row %d of unit %d is empty, not ascending or not causal", i,
                (int)(row / s->rows));
    }
    return SW_OK;
}

struct sw_key_list sw_cpu_key_list(const struct sw_selection *s, int64_t row, int first, int blocks)
{
    int64_t at = s->indptr[row] + (int64_t)first, line = row / s->rows * s->mask_ld;
    int words = sw_query_words(s->block);
    return (struct sw_key_list){.blocks = s->indices + at,
                                .whole = s->whole ? s->whole + at : NULL,
                                .n_blocks = blocks,
                                .window = s->window,
                                .sink = s->sink,
                                .columns = s->columns ? s->columns + line : NULL,
                                .slashes = s->slashes ? s->slashes + line : NULL,
                                .queries = s->queries ? s->queries + at * words : NULL,
                                .keys = s->keys ? s->keys + at * words : NULL,
                                .words = words};
}

/* --- packing ---------------------------------------------------------------------------------- */

struct pack {
    const struct cpu *c;
    const struct sw_attend *a;
    const struct sw_tiling *t;
    int g0, blocks, blocks_per_task, tasks_per_head;
    float *k_packed, *v_packed;
};

static void pack_task(void *ctx, long i, int worker)
{
    (void)worker;
    const struct pack *p = ctx;
    const struct sw_attend *a = p->a;
    int head = (int)(i / p->tasks_per_head), g = p->g0 + head,
        block0 = (int)(i % p->tasks_per_head) * p->blocks_per_task;
    int block1 = block0 + p->blocks_per_task < p->blocks ? block0 + p->blocks_per_task : p->blocks;
    ptrdiff_t stride = (ptrdiff_t)a->n_kv_heads * a->head_dim;
    ptrdiff_t at = (ptrdiff_t)(g / a->n_kv_heads) * a->kv_stride * stride +
                   (ptrdiff_t)(g % a->n_kv_heads) * a->head_dim;
    size_t tiles = (size_t)p->blocks * (size_t)p->t->per_block;
    p->c->vec->pack_keys(p->t, (const float *)a->k + at, stride, a->n_k, block0, block1,
                         p->k_packed + (size_t)head * tiles * p->t->k_floats);
    if (p->v_packed)
        p->c->vec->pack_values(p->t, (const float *)a->v + at, stride, a->n_k, block0, block1,
                               p->v_packed + (size_t)head * tiles * p->t->v_floats);
}

void sw_cpu_pack_heads(struct cpu *c, const struct sw_attend *a, const struct sw_tiling *t, int g0,
                       int count, float *k_packed, float *v_packed)
{
    struct pack p = {.c = c,
                     .a = a,
                     .t = t,
                     .g0 = g0,
                     .blocks = sw_blocks(a->n_k, t->block),
                     .blocks_per_task = t->block < PACK_KEYS ? PACK_KEYS / t->block : 1,
                     .k_packed = k_packed,
                     .v_packed = v_packed};
    p.tasks_per_head = (p.blocks + p.blocks_per_task - 1) / p.blocks_per_task;
    sw_workers_run(c->workers, (long)count * p.tasks_per_head, pack_task, &p);
}

/* --- attention -------------------------------------------------------------------------------- */

struct prefill {
    const struct cpu *c;
    const struct sw_attend *a;
    struct sw_tiling t;
    int g0, heads;     /* KV heads of this round, query heads a KV head × that */
    int q_rows;        /* queries a tile */
    int tiles_per_row; /* query tiles a block (sparse) */
    int q_tiles;
    const float *k_packed, *v_packed;
    size_t k_head, v_head; /* floats a packed KV head */
};

static void prefill_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct prefill *p = ctx;
    const struct sw_attend *a = p->a;
    /* Last tiles first: they see the most keys, and short ones fill the end. The heads of a KV
     * group follow each other. */
    int tile = p->q_tiles - 1 - (int)(task / p->heads), group = a->n_heads / a->n_kv_heads;
    int in_round = (int)(task % p->heads) / group, g = p->g0 + in_round;
    int batch = g / a->n_kv_heads,
        head = g % a->n_kv_heads * group + (int)(task % p->heads) % group;
    int offset = a->n_k - a->n_q, row = tile / p->tiles_per_row;
    int first = row * p->t.block + tile % p->tiles_per_row * p->q_rows, end = first + p->q_rows;
    if (end > (row + 1) * p->t.block)
        end = (row + 1) * p->t.block;
    if (end > a->n_q)
        end = a->n_q;
    if (first >= end)
        return;
    ptrdiff_t stride = (ptrdiff_t)a->n_heads * a->head_dim,
              at = ((ptrdiff_t)batch * a->n_q + first) * stride + (ptrdiff_t)head * a->head_dim;
    struct sw_vec_attend job = {.tiling = p->t,
                                .n_k = a->n_k,
                                .k_packed = p->k_packed + (size_t)in_round * p->k_head,
                                .v_packed = p->v_packed + (size_t)in_round * p->v_head,
                                .q = (const float *)a->q + at,
                                .out = (float *)a->out + at,
                                .q_stride = stride,
                                .out_stride = stride,
                                .rows = end - first,
                                .pos0 = offset + first,
                                .scale = a->scale};
    const struct sw_selection *s = a->sel;
    if (s) {
        int units = s->units / a->batch,
            unit = batch * units + (units == 1            ? 0
                                    : units == a->n_heads ? head
                                                          : head / group);
        int64_t r = (int64_t)unit * s->rows + row;
        job.list = sw_cpu_key_list(s, r, 0, s->indptr[r + 1] - s->indptr[r]);
    }
    p->c->vec->attend(&job);
}

/* A task packs its own queries before it writes its own rows, and no other task reads these. */
bool sw_cpu_attend_in_place(struct sw_backend *be, const struct sw_attend *a)
{
    (void)be;
    return a->n_q > 1 && a->kernel != SW_ATTEND_LIBRARY;
}

enum sw_status sw_cpu_attend(struct sw_backend *be, const struct sw_attend *a)
{
    struct cpu *c = cpu_of(be);
    SW_TRY(sw_cpu_attend_check(a, "attend"));
    CPU_NEED(a->v && a->out);
    if (a->kernel == SW_ATTEND_LIBRARY)
        return SW_FAIL(SW_EUNSUPPORTED,
                       "the cpu backend has no library kernel for attention; its own is the best");
    CPU_NEED(a->out != a->q || sw_cpu_attend_in_place(be, a));
    if (a->sel)
        SW_TRY(check_selection(a));
    if (a->n_q == 1)
        return sw_cpu_attend_decode(be, a);

    struct prefill p = {
        .c = c,
        .a = a,
        .t = sw_tiling_make(c->vec, a->sel ? a->sel->block : SW_TILE_KEYS, a->head_dim)};
    p.tiles_per_row = (p.t.block + SW_TILE_ROWS - 1) / SW_TILE_ROWS;
    p.q_rows = (p.t.block + p.tiles_per_row - 1) / p.tiles_per_row;
    p.q_tiles = sw_blocks(a->n_q, p.t.block) * p.tiles_per_row;
    size_t tiles = (size_t)sw_blocks(a->n_k, p.t.block) * (size_t)p.t.per_block;
    p.k_head = tiles * p.t.k_floats;
    p.v_head = tiles * p.t.v_floats;
    size_t head_bytes = (p.k_head + p.v_head) * sizeof(float), round = ROUND_BYTES / head_bytes;
    int all = a->batch * a->n_kv_heads,
        per_round = round<1 ? 1 : round>(size_t) all ? all : (int)round;
    void *scratch;
    SW_TRY(sw_cpu_scratch(be, head_bytes * (size_t)per_round, &scratch));
    float *k_packed = scratch, *v_packed = k_packed + p.k_head * (size_t)per_round;
    p.k_packed = k_packed;
    p.v_packed = v_packed;
    for (p.g0 = 0; p.g0 < all; p.g0 += per_round) {
        int count = all - p.g0 < per_round ? all - p.g0 : per_round;
        p.heads = count * (a->n_heads / a->n_kv_heads);
        sw_cpu_pack_heads(c, a, &p.t, p.g0, count, k_packed, v_packed);
        sw_workers_run(c->workers, (long)p.heads * p.q_tiles, prefill_task, &p);
    }
    sw_cpu_scratch_done(be);
    return SW_OK;
}
