/* chain.c: a prompt's selection as Sketch&Walk queues it, one operation after the other, whose
 * kernels overlap at their ends; and attention from it. */
#include "bench/gpu.h"
#include "core/budget.h"

struct chain {
    struct sw_pool pools[2];
    struct sw_sketch sketches[2];
    struct sw_block_scores scores;
    struct sw_walk walk;
    struct sw_select_top top;
    struct sw_selection *list;
    struct sw_attend attend;
};

static enum sw_status nothing(struct sw_backend *be, void *arg)
{
    (void)be;
    (void)arg;
    return SW_OK;
}
static enum sw_status pool_sketch(struct sw_backend *be, void *arg)
{
    struct chain *c = arg;
    return be->pool_sketch(be, c->pools, c->sketches, 2);
}
static enum sw_status block_scores(struct sw_backend *be, void *arg)
{
    struct chain *c = arg;
    return be->block_scores(be, &c->scores);
}
static enum sw_status walk_top(struct sw_backend *be, void *arg)
{
    struct chain *c = arg;
    return be->walk_top(be, &c->walk, &c->top, c->list);
}
static enum sw_status selection(struct sw_backend *be, void *arg)
{
    SW_TRY(pool_sketch(be, arg));
    SW_TRY(block_scores(be, arg));
    return walk_top(be, arg);
}
static enum sw_status attention(struct sw_backend *be, void *arg)
{
    struct chain *c = arg;
    return be->attend(be, &c->attend);
}
static enum sw_status both(struct sw_backend *be, void *arg)
{
    SW_TRY(selection(be, arg));
    return attention(be, arg);
}

void bench_chain(struct sw_backend *be, int n)
{
    int b = sw_blocks(n, B), *m = sw_need((size_t)b * sizeof *m);
    size_t matrix = (size_t)b * (size_t)b * sizeof(float), sums = (size_t)b * D * sizeof(float),
           tokens = (size_t)n;
    void *qkv[] = {bench_acts(be, 1, 1, tokens * H * D), bench_acts(be, 2, 1, tokens * HKV * D),
                   bench_acts(be, 3, 1, tokens * HKV * D), bench_alloc(be, tokens * H * D * 2)};
    float *sum[] = {bench_alloc(be, sums), bench_alloc(be, sums)},
          *sketch[] = {bench_alloc(be, sums), bench_alloc(be, sums)}, *a = bench_alloc(be, matrix),
          *walked = bench_alloc(be, matrix);
    struct sw_srht t = bench_srht(be);
    struct sw_selection list = {0};
    sw_must(sw_budget_rows(n, B, 0.2, SW_FORCED_COMMON, m, NULL), "sw_budget_rows");
    struct chain c = {
        .scores = {.q = sketch[0],
                   .k = sketch[1],
                   .units_q = 1,
                   .units_k = 1,
                   .rows = b,
                   .b = b,
                   .r = R,
                   .q_ld = b,
                   .k_ld = b,
                   .scale = (float)(1 / sqrt(D)),
                   .exponent = 8,
                   .softmax = true,
                   .causal = true,
                   .out = {a, 1, b, b}},
        .walk = {.rows = b,
                 .b = b,
                 .x = a,
                 .a = {a, 1, b, b},
                 .beta = 1,
                 .causal = true,
                 .scale_rows = true,
                 .out = {walked, 1, b, b}},
        .top = {.scores = {walked, 1, b, b},
                .rows = b,
                .budget = m,
                .forced = SW_FORCED_COMMON,
                .block = B,
                .n = n,
                .n_q = n},
        .list = &list,
        .attend = {.batch = 1,
                   .n_q = n,
                   .n_k = n,
                   .n_heads = H,
                   .n_kv_heads = HKV,
                   .head_dim = D,
                   .kv_stride = n,
                   .q = qkv[0],
                   .k = qkv[1],
                   .v = qkv[2],
                   .out = qkv[3],
                   .scale = (float)(1 / sqrt(D)),
                   .sel = &list},
    };
    for (int i = 0; i < 2; i++) { /* queries, keys */
        c.pools[i] = (struct sw_pool){.x = qkv[i],
                                      .heads = i ? HKV : H,
                                      .head_dim = D,
                                      .units = 1,
                                      .block = B,
                                      .t1 = n,
                                      .ld = b,
                                      .sums = sum[i]};
        c.sketches[i] = (struct sw_sketch){.sums = sum[i],
                                           .units = 1,
                                           .ld = b,
                                           .d = D,
                                           .block = B,
                                           .n = n,
                                           .i1 = b,
                                           .transform = &t,
                                           .out = sketch[i]};
    }
    sw_must(selection(be, &c), "a selection");
    bench_call *calls[] = {nothing,   pool_sketch, block_scores, walk_top,
                           selection, attention,   both};
    double us[7];
    for (int i = 0; i < 7; i++)
        us[i] = bench_us(be, calls[i], &c, false);
    printf("chain   n %6d nothing %.1f pool_sketch %.1f scores %.1f walk_top %.1f selection %.1f | "
           "attention from it %.1f, both %.1f us\n",
           n, us[0], us[1], us[2], us[3], us[4], us[5], us[6]);
    void *used[] = {qkv[0],    qkv[1],    qkv[2], qkv[3], sum[0],          sum[1],
                    sketch[0], sketch[1], a,      walked, (void *)t.signs, (void *)t.keep};
    bench_free(be, used, sizeof used / sizeof *used);
    sw_selection_free(&list);
    free(m);
}
