/* mass.c: the true block mass (baselines' oracle): two passes over QKᵀ of the dense causal softmax,
 * 4·H·d·n² / 2 FLOPs, no n² memory. */
#include <string.h>

#include "kernels/cpu/device/cpu.h"

enum { ROUND_BYTES = 64 << 20 };

struct mass {
    const struct cpu *c;
    const struct sw_block_mass *a;
    struct sw_tiling t;
    int g0, heads, rows, row0;
    const float *k_packed;
    size_t k_head;
};

static void mass_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct mass *p = ctx;
    const struct sw_attend *in = &p->a->in;
    int group = in->n_heads / in->n_kv_heads, row = p->rows - 1 - (int)(task / p->heads),
        in_round = (int)(task % p->heads) / group;
    int head = p->g0 * group + (int)(task % p->heads), i = p->row0 + row,
        offset = in->n_k - in->n_q;
    int first = i * p->t.block > offset ? i * p->t.block : offset;
    int end = (i + 1) * p->t.block < in->n_k ? (i + 1) * p->t.block : in->n_k;
    float *out = sw_unit_row(&p->a->out, (size_t)head, (size_t)row);
    memset(out, 0, (size_t)sw_blocks(in->n_k, p->t.block) * sizeof *out);
    ptrdiff_t stride = (ptrdiff_t)in->n_heads * in->head_dim;
    for (int pos = first; pos < end; pos += SW_TILE_ROWS) {
        struct sw_vec_mass job = {.tiling = p->t,
                                  .k_packed = p->k_packed + (size_t)in_round * p->k_head,
                                  .n_k = in->n_k,
                                  .n_blocks = i + 1,
                                  .q = (const float *)in->q + (pos - offset) * stride +
                                       (ptrdiff_t)head * in->head_dim,
                                  .q_stride = stride,
                                  .rows = end - pos < SW_TILE_ROWS ? end - pos : SW_TILE_ROWS,
                                  .pos0 = pos,
                                  .scale = in->scale,
                                  .sums = out};
        p->c->vec->mass(&job);
    }
    for (int j = 0; j <= i; j++)
        out[j] /= (float)(end - first);
}

enum sw_status sw_cpu_block_mass(struct sw_backend *be, const struct sw_block_mass *a)
{
    struct cpu *c = cpu_of(be);
    CPU_NEED(a != NULL);
    SW_TRY(sw_cpu_attend_check(&a->in, "block_mass"));
    CPU_NEED(a->in.batch == 1 && a->block > 0);
    struct mass p = {.c = c, .a = a, .t = sw_tiling_make(c->vec, a->block, a->in.head_dim)};
    int blocks = sw_blocks(a->in.n_k, a->block);
    p.row0 = (a->in.n_k - a->in.n_q) / a->block;
    p.rows = blocks - p.row0;
    CPU_NEED(sw_unit_holds(&a->out, p.rows, blocks) && a->out.units == a->in.n_heads);
    p.k_head = (size_t)blocks * (size_t)p.t.per_block * p.t.k_floats;
    size_t round = ROUND_BYTES / (p.k_head * sizeof(float));
    int all = a->in.n_kv_heads, per_round = round<1 ? 1 : round>(size_t) all ? all : (int)round;
    void *scratch;
    SW_TRY(sw_cpu_scratch(be, p.k_head * (size_t)per_round * sizeof(float), &scratch));
    p.k_packed = scratch;
    for (p.g0 = 0; p.g0 < all; p.g0 += per_round) {
        int count = all - p.g0 < per_round ? all - p.g0 : per_round;
        p.heads = count * (a->in.n_heads / all);
        sw_cpu_pack_heads(c, &a->in, &p.t, p.g0, count, scratch, NULL);
        sw_workers_run(c->workers, (long)p.heads * p.rows, mass_task, &p);
    }
    sw_cpu_scratch_done(be);
    return SW_OK;
}
