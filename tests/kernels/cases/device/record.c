/* record.c: a prompt's selection and attention, whose kernels overlap at their ends: launched, and
 * as a recording that runs twice; the same bits. A backend without recordings launches twice. */
#include "core/budget.h"
#include "tests/kernels/cases.h"

enum {
    Q,
    K,
    V,
    SIGNS,
    KEPT,
    BUDGET,
    Q_SUMS,
    K_SUMS,
    Q_SKETCH,
    K_SKETCH,
    MATRIX,
    WALKED,
    OUT,
    LIST
};
struct shape {
    int n, H, Hkv, d, B, r;
};

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int b = sw_blocks(s->n, s->B);
    sw_take_acts(c, Q, (size_t)(s->n * s->H * s->d));
    sw_take_acts(c, K, (size_t)(s->n * s->Hkv * s->d));
    sw_take_acts(c, V, (size_t)(s->n * s->Hkv * s->d));
    sw_take_srht(c, SIGNS, s->d, s->r);
    sw_must(sw_budget_rows(s->n, s->B, 0.2, SW_FORCED_COMMON,
                           sw_take_host(c, BUDGET, (size_t)b * sizeof(int)), NULL),
            "sw_budget_rows");
    for (int slot = Q_SUMS; slot <= K_SUMS; slot++)
        sw_give(c, slot, SW_FLOATS, (struct sw_extent){1, b, s->d, b, s->d});
    for (int slot = Q_SKETCH; slot <= K_SKETCH; slot++)
        sw_give(c, slot, SW_FLOATS, (struct sw_extent){1, b, s->r, b, s->r});
    for (int slot = MATRIX; slot <= WALKED; slot++)
        sw_give(c, slot, SW_FLOATS, (struct sw_extent){1, b, b, b, b});
    sw_give(c, OUT, SW_ACTS, (struct sw_extent){s->n, s->H, s->d, s->H, s->d});
    sw_give_list(c, LIST);
}

static enum sw_status take_tokens(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    int b = sw_blocks(s->n, s->B);
    struct sw_srht t = sw_srht_at(at, SIGNS, s->d, s->r, 1.0f / sqrtf((float)s->r));
    struct sw_pool pools[2];
    struct sw_sketch sketches[2];
    for (int i = 0; i < 2; i++) {
        pools[i] = (struct sw_pool){.x = at[Q + i],
                                    .heads = i ? s->Hkv : s->H,
                                    .head_dim = s->d,
                                    .units = 1,
                                    .block = s->B,
                                    .t1 = s->n,
                                    .ld = b,
                                    .sums = at[Q_SUMS + i]};
        sketches[i] = (struct sw_sketch){.sums = at[Q_SUMS + i],
                                         .units = 1,
                                         .ld = b,
                                         .d = s->d,
                                         .block = s->B,
                                         .n = s->n,
                                         .i1 = b,
                                         .transform = &t,
                                         .out = at[Q_SKETCH + i]};
    }
    if (be->pool_sketch)
        return be->pool_sketch(be, pools, sketches, 2);
    for (int i = 0; i < 2; i++) {
        SW_TRY(be->pool(be, &pools[i]));
        SW_TRY(be->sketch(be, &sketches[i]));
    }
    return SW_OK;
}

static enum sw_status choose(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    int b = sw_blocks(s->n, s->B);
    SW_TRY(be->block_scores(be, &(struct sw_block_scores){.q = at[Q_SKETCH],
                                                          .k = at[K_SKETCH],
                                                          .units_q = 1,
                                                          .units_k = 1,
                                                          .rows = b,
                                                          .b = b,
                                                          .r = s->r,
                                                          .q_ld = b,
                                                          .k_ld = b,
                                                          .scale = 0.1f,
                                                          .exponent = 8,
                                                          .softmax = true,
                                                          .causal = true,
                                                          .out = sw_matrix(c, at, MATRIX)}));
    struct sw_walk walk = {.rows = b,
                           .b = b,
                           .x = at[MATRIX],
                           .a = sw_matrix(c, at, MATRIX),
                           .beta = 1,
                           .causal = true,
                           .scale_rows = true,
                           .out = sw_matrix(c, at, WALKED)};
    struct sw_select_top top = {.scores = walk.out,
                                .rows = b,
                                .budget = at[BUDGET],
                                .forced = SW_FORCED_COMMON,
                                .block = s->B,
                                .n = s->n,
                                .n_q = s->n};
    if (be->walk_top)
        return be->walk_top(be, &walk, &top, at[LIST]);
    SW_TRY(be->walk(be, &walk));
    return be->select_top(be, &top, at[LIST]);
}

static enum sw_status launch(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    SW_TRY(take_tokens(c, be, at));
    SW_TRY(choose(c, be, at));
    return be->attend(be, &(struct sw_attend){.batch = 1,
                                              .n_q = s->n,
                                              .n_k = s->n,
                                              .n_heads = s->H,
                                              .n_kv_heads = s->Hkv,
                                              .head_dim = s->d,
                                              .kv_stride = s->n,
                                              .q = at[Q],
                                              .k = at[K],
                                              .v = at[V],
                                              .out = at[OUT],
                                              .scale = 1.0f / sqrtf((float)s->d),
                                              .sel = at[LIST]});
}

static enum sw_status again(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    return be->record_run ? be->record_run(be) : launch(c, be, at);
}

static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    size_t count =
        (size_t)c->slot[OUT].of.units * (size_t)(c->slot[OUT].of.ld_rows * c->slot[OUT].of.ld);
    float *first = sw_need(count * sizeof *first), *later = sw_need(count * sizeof *later);
    SW_TRY(launch(c, be, at));
    SW_TRY(be->download_act(be, first, at[OUT], count));
    if (be->record_begin) {
        SW_TRY(be->record_begin(be));
        SW_TRY(launch(c, be, at));
        SW_TRY(be->record_end(be));
    }
    for (int turn = 0; turn < 2; turn++) {
        SW_TRY(be->zero(be, at[OUT], count * sw_dtype_size(be->act)));
        SW_TRY(again(c, be, at));
        SW_TRY(be->download_act(be, later, at[OUT], count));
        sw_holds(memcmp(first, later, count * sizeof *first) == 0, "run %d: other bits", turn);
    }
    if (be->record_drop)
        be->record_drop(be);
    free(first);
    free(later);
    return SW_OK;
}

static const struct shape shapes[] = {{500, 4, 2, 64, 64, 32}};
static const struct shape large[] = {{4000, 8, 2, 128, 64, 64}};

SW_CASES(recorded_prompt, .covers = "record_begin record_end record_run record_drop",
         .fields = "n H Hkv d B r", .shapes = SW_SHAPES(shapes), .large = SW_SHAPES(large),
         .make = make, .run = run, .cuda_alone = true);
