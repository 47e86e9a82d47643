/* walk_step.c: Sketch&Walk's decode step of one layer, and attention from the list that it leaves.
 * Where a backend has no walk_step (the CPU), its parts one after the other. */
#include "core/budget.h"
#include "tests/kernels/cases.h"

enum { Q, K, SIGNS, KEPT, X, SUMS, SKETCH, MATRIX, WALKED, LIST, OUT, AGAIN };
enum { BATCH = 3 }; /* sequences that there is memory for; a step of one takes the last */

struct shape {
    int n, H, Hkv, d, B, r;
    int first;  /* the first sparse layer: no walk */
    int repeat; /* of keys, after so many blocks; 0: none */
    float exponent;
    double density;
};
static const float SCALE = 0.3f;

static int blocks(const struct shape *s) { return sw_blocks(s->n, s->B); }
static int ld_of(const struct shape *s) { return (blocks(s) + 6) / 4 * 4; }

/* Multiples of 1/1024: their sums are nearly exact, and there are ties. */
static void make_exact(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = floorf(fabsf(x[i]) * 256) / 1024;
}

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int b = blocks(s), ld = ld_of(s);
    size_t token = (size_t)(s->Hkv * s->d), plane = (size_t)ld * (size_t)ld,
           period = (size_t)(s->repeat * s->B) * token, keys = (size_t)s->n * token;
    sw_take_acts(c, Q, (size_t)(BATCH * s->H * s->d));
    float *k = sw_take_acts(c, K, BATCH * keys);
    for (size_t i = 0; period && i < BATCH * keys; i++)
        k[i] = i % keys < period ? k[i] : k[i - period];
    sw_take_srht(c, SIGNS, s->d, s->r);
    make_exact(sw_take_floats(c, X, (size_t)(BATCH * ld)), (size_t)(BATCH * ld));
    sw_change(c, SUMS, SW_FLOATS, (struct sw_extent){BATCH, ld, s->d, b, s->d});
    sw_change(c, SKETCH, SW_FLOATS, (struct sw_extent){BATCH, ld, s->r, b, s->r});
    float *a = sw_change(c, MATRIX, SW_FLOATS, (struct sw_extent){BATCH, ld, ld, ld, ld});
    make_exact(a, c->slot[MATRIX].given);
    for (size_t i = 0; i < c->slot[MATRIX].given; i++) /* lower triangular */
        if (i % plane % (size_t)ld > i % plane / (size_t)ld)
            a[i] = 0;
    sw_give(c, WALKED, SW_FLOATS, (struct sw_extent){BATCH, 1, ld, 1, b});
    c->slot[WALKED].loose = true; /* a step writes whole vectors of four */
    sw_give(c, OUT, SW_ACTS, (struct sw_extent){BATCH, s->H, s->d, s->H, s->d});
    sw_give(c, AGAIN, SW_ACTS, (struct sw_extent){BATCH, s->H, s->d, s->H, s->d});
    sw_give_list(c, LIST);
    int *batch = c->extra = sw_need(sizeof *batch);
    *batch = 1;
}

/* The step of the sequences from `seq` on, everything in its place. */
static struct sw_walk_step step_of(const struct sw_case *c, struct sw_backend *be, void *const *at,
                                   const struct sw_srht *t, int seq)
{
    const struct shape *s = c->shape;
    size_t act = sw_dtype_size(be->act), token = (size_t)(s->Hkv * s->d), of = (size_t)seq,
           keys = (size_t)s->n * token, ld = (size_t)ld_of(s);
    return (struct sw_walk_step){
        .batch = BATCH - seq,
        .k_stride = (int64_t)keys,
        .q = (char *)at[Q] + of * (size_t)(s->H * s->d) * act,
        .k = (char *)at[K] + ((of + 1) * keys - token) * act,
        .n_heads = s->H,
        .n_kv_heads = s->Hkv,
        .head_dim = s->d,
        .block = s->B,
        .n = s->n,
        .ld = (int)ld,
        .transform = t,
        .scale = SCALE,
        .exponent = s->exponent,
        .k_sums = (float *)at[SUMS] + of * ld * (size_t)s->d,
        .k_sketch = (float *)at[SKETCH] + of * ld * (size_t)s->r,
        .a = (float *)at[MATRIX] + of * ld * ld,
        .x = s->first ? NULL : (float *)at[X] + of * ld,
        .out = (float *)at[WALKED] + of * ld,
        .kept = sw_budget_decode(s->n, s->B, s->density, SW_FORCED_COMMON, NULL),
        .forced = SW_FORCED_COMMON};
}

/* Pools and sketches the keys t0 … t1 - 1 of a sequence; x at token t0. */
static enum sw_status take_keys(struct sw_backend *be, const struct sw_walk_step *a, const void *x,
                                int t0, int t1)
{
    SW_TRY(be->pool(be, &(struct sw_pool){.x = x,
                                          .heads = a->n_kv_heads,
                                          .head_dim = a->head_dim,
                                          .units = 1,
                                          .block = a->block,
                                          .t0 = t0,
                                          .t1 = t1,
                                          .ld = a->ld,
                                          .sums = a->k_sums}));
    return be->sketch(be, &(struct sw_sketch){.sums = a->k_sums,
                                              .units = 1,
                                              .ld = a->ld,
                                              .d = a->head_dim,
                                              .block = a->block,
                                              .n = t1,
                                              .i0 = t0 / a->block,
                                              .i1 = sw_blocks(t1, a->block),
                                              .transform = a->transform,
                                              .out = a->k_sketch});
}

/* The query's mean over heads, and its sketch. */
static enum sw_status take_query(struct sw_backend *be, const struct sw_walk_step *a, float *sum,
                                 float *sketch)
{
    SW_TRY(be->pool(be, &(struct sw_pool){.x = a->q,
                                          .heads = a->n_heads,
                                          .head_dim = a->head_dim,
                                          .units = 1,
                                          .block = 1,
                                          .t1 = 1,
                                          .ld = 1,
                                          .sums = sum}));
    return be->sketch(be, &(struct sw_sketch){.sums = sum,
                                              .units = 1,
                                              .ld = 1,
                                              .d = a->head_dim,
                                              .block = 1,
                                              .n = 1,
                                              .i1 = 1,
                                              .transform = a->transform,
                                              .out = sketch});
}

/* One sequence's step in its parts, on the CPU. */
static enum sw_status step_in_parts(struct sw_backend *be, const struct sw_walk_step *a,
                                    struct sw_selection *list)
{
    int b = sw_blocks(a->n, a->block), last = b - 1;
    float q_sum[256], q_sketch[256], *row = a->a + (size_t)last * (size_t)a->ld;
    struct sw_unit_matrix out = {a->out, 1, 1, a->ld};
    SW_TRY(take_keys(be, a, a->k, a->n - 1, a->n));
    SW_TRY(take_query(be, a, q_sum, q_sketch));
    SW_TRY(be->block_scores(be, &(struct sw_block_scores){.q = q_sketch,
                                                          .k = a->k_sketch,
                                                          .units_q = 1,
                                                          .units_k = 1,
                                                          .rows = 1,
                                                          .row0 = last,
                                                          .b = b,
                                                          .r = a->transform->r,
                                                          .q_ld = 1,
                                                          .k_ld = a->ld,
                                                          .scale = a->scale,
                                                          .exponent = a->exponent,
                                                          .softmax = true,
                                                          .causal = true,
                                                          .out = {row, 1, 1, a->ld}}));
    SW_TRY(be->walk(be, &(struct sw_walk){.rows = 1,
                                          .row0 = last,
                                          .b = b,
                                          .x = a->x ? a->x : row,
                                          .a = {a->a, 1, a->ld, a->ld},
                                          .anchor = row,
                                          .alpha = a->x ? 0 : 1,
                                          .beta = a->x ? 1 : 0,
                                          .causal = true,
                                          .scale_rows = true,
                                          .out = out}));
    return be->select_top(be,
                          &(struct sw_select_top){.scores = out,
                                                  .row0 = last,
                                                  .rows = 1,
                                                  .budget = &a->kept,
                                                  .forced = a->forced,
                                                  .block = a->block,
                                                  .n = a->n,
                                                  .n_q = 1},
                          list);
}

/* Attention right behind the step, and once more from its list. */
static enum sw_status attend_twice(const struct sw_case *c, struct sw_backend *be, void *const *at,
                                   int seq)
{
    const struct shape *s = c->shape;
    size_t act = sw_dtype_size(be->act), of = (size_t)seq,
           keys = (size_t)s->n * (size_t)(s->Hkv * s->d), token = (size_t)(s->H * s->d);
    for (int slot = OUT; slot <= AGAIN; slot++)
        SW_TRY(be->attend(be, &(struct sw_attend){.batch = BATCH - seq,
                                                  .n_q = 1,
                                                  .n_k = s->n,
                                                  .n_heads = s->H,
                                                  .n_kv_heads = s->Hkv,
                                                  .head_dim = s->d,
                                                  .kv_stride = s->n,
                                                  .q = (char *)at[Q] + of * token * act,
                                                  .k = (char *)at[K] + of * keys * act,
                                                  .v = (char *)at[K] + of * keys * act,
                                                  .out = (char *)at[slot] + of * token * act,
                                                  .scale = 0.2f,
                                                  .sel = at[LIST]}));
    return SW_OK;
}

static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    struct sw_srht t = sw_srht_at(at, SIGNS, s->d, s->r, 1.0f / sqrtf((float)s->r));
    int first = BATCH - *(int *)c->extra;
    for (int seq = first; s->n > 1 && seq < BATCH; seq++) { /* all but the last token */
        struct sw_walk_step a = step_of(c, be, at, &t, seq);
        const char *keys =
            (char *)at[K] + (size_t)seq * (size_t)a.k_stride * sw_dtype_size(be->act);
        SW_TRY(take_keys(be, &a, keys, 0, s->n - 1));
    }
    struct sw_walk_step a = step_of(c, be, at, &t, first);
    if (be->walk_step)
        SW_TRY(be->walk_step(be, &a, at[LIST]));
    else
        SW_TRY(step_in_parts(be, &a, at[LIST]));
    return attend_twice(c, be, at, first);
}

/* --- what it must be -------------------------------------------------------------------------- */

/* The last sequence's part of a tensor. */
static const float *last_of(const struct sw_case *c, const struct sw_result *r, int slot)
{
    struct sw_extent of = c->slot[slot].of;
    return (const float *)r->of[slot] + (BATCH - 1) * (size_t)of.ld_rows * (size_t)of.ld;
}

/* The query's sketch in double. */
static void sketch_query(const struct sw_case *c, double *sketch)
{
    const struct shape *s = c->shape;
    const float *q = (float *)c->slot[Q].host + (BATCH - 1) * s->H * s->d,
                *signs = c->slot[SIGNS].host;
    const int32_t *keep = c->slot[KEPT].host;
    for (int x = 0; x < s->r; x++) {
        sketch[x] = 0;
        for (int i = 0; i < s->H * s->d; i++)
            sketch[x] += (__builtin_popcount((unsigned)(keep[x] & (i % s->d))) % 2 ? -1 : 1) *
                         (double)signs[i % s->d] * (double)q[i] / s->H / sqrt(s->r);
    }
}

/* Row c of the matrix, from the sketches that the step left; and the walk from that row. */
static void check_row(const struct sw_case *c, const struct sw_result *got)
{
    const struct shape *s = c->shape;
    int b = blocks(s), ld = ld_of(s), wrong = 0;
    const float *row = last_of(c, got, MATRIX) + (size_t)(b - 1) * (size_t)ld,
                *walked = last_of(c, got, WALKED), *sketch = last_of(c, got, SKETCH),
                *a = last_of(c, got, MATRIX), *x = (float *)c->slot[X].host + (BATCH - 1) * ld;
    double query[256], *p = sw_need(2 * (size_t)b * sizeof *p), *walk = p + b, top = -INFINITY,
                       sum = 0, most = 0, largest = 0;
    sketch_query(c, query);
    for (int j = 0; j < b; j++) {
        for (int e = 0; e < s->r; e++)
            p[j] += (double)SCALE * query[e] * (double)sketch[j * s->r + e];
        top = fmax(top, p[j]);
    }
    for (int j = 0; j < b; j++)
        sum += p[j] = exp(p[j] - top);
    for (int j = 0; j < b; j++) {
        most = fmax(most, p[j] = pow(p[j] / sum, (double)s->exponent));
        for (int i = j; !s->first && i < b; i++)
            walk[j] += (double)x[i] * (double)a[(size_t)i * (size_t)ld + (size_t)j];
        largest = fmax(largest, walk[j] = s->first ? p[j] : walk[j]);
    }
    for (int j = 0; j < b; j++)
        wrong += !(fabs((double)row[j] - p[j]) <= 1e-4 * most) ||
                 !(fabs((double)walked[j] - walk[j] / (largest > 0 ? largest : 1)) <= 1e-4);
    sw_holds(wrong == 0, "%d of %d blocks have another weight than in double", wrong, b);
    free(p);
}

/* A step of three sequences gives the last what a step of it alone gave. (Not the attention behind
 * it: how many parts a sequence's keys are cut into depends on how many sequences there are.) */
static void check_batch(struct sw_case *c, struct sw_backend *be, const struct sw_result *alone)
{
    static const int slots[] = {SUMS, SKETCH, MATRIX, WALKED};
    int *batch = c->extra;
    *batch = BATCH;
    struct sw_result all = sw_case_run(c, be);
    *batch = 1;
    if (all.none)
        return;
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        struct sw_extent of = c->slot[slots[i]].of;
        sw_holds(memcmp(last_of(c, &all, slots[i]), last_of(c, alone, slots[i]),
                        (size_t)of.ld_rows * (size_t)of.ld * sizeof(float)) == 0,
                 "one of three sequences differs from one alone, output %d", slots[i]);
    }
    const struct sw_selection *x = &all.list[LIST], *y = &alone->list[LIST];
    int from = x->indptr[BATCH - 1], count = x->indptr[BATCH] - from;
    sw_holds(count == y->indptr[1] &&
                 memcmp(x->indices + from, y->indices, (size_t)count * sizeof *x->indices) == 0,
             "one of three sequences has another list than one alone");
    sw_result_free(&all);
}

static void check(struct sw_case *c, struct sw_backend *be, const struct sw_result *got)
{
    const struct shape *s = c->shape;
    sw_holds(memcmp(got->of[OUT], got->of[AGAIN], (size_t)(BATCH * s->H * s->d) * sizeof(float)) ==
                 0,
             "attention behind a step and from its list differ");
    check_row(c, got);
    const float *row = last_of(c, got, MATRIX) + (size_t)(blocks(s) - 1) * (size_t)ld_of(s);
    int unlike = 0; /* equal blocks, wherever they lie: a tie stays one */
    for (int j = s->repeat; s->repeat && j < blocks(s) - 1; j++)
        unlike += row[j] != row[j - s->repeat];
    sw_holds(unlike == 0, "%d weights differ from those of equal blocks", unlike);
    if (be->walk_step)
        check_batch(c, be, got);
}

/* Lists but for near-ties. A block of difference would show in the attention, so only that of equal
 * lists is compared; its bound is that of the attention tests' bf16. */
static void compare(struct sw_case *c, const struct sw_result *cpu, const struct sw_result *cuda)
{
    const struct shape *s = c->shape;
    const struct sw_selection *x = &cpu->list[LIST], *y = &cuda->list[LIST];
    int other = 0, entries = x->indptr[1];
    for (int e = 0; e < entries && e < y->indptr[1]; e++)
        other += x->indices[e] != y->indices[e];
    sw_holds(entries == y->indptr[1] && other <= (s->repeat ? 0 : 1 + entries / 100),
             "%d and %d blocks, %d differ", entries, y->indptr[1], other);
    const float *ours = last_of(c, cuda, OUT), *theirs = last_of(c, cpu, OUT);
    double error = 0, norm = 0;
    for (int i = 0; i < s->H * s->d; i++) {
        error += pow((double)ours[i] - (double)theirs[i], 2);
        norm += pow((double)theirs[i], 2);
    }
    sw_holds(other || sqrt(error) <= 0.02 * sqrt(norm), "attention behind the step: error %.3g",
             sqrt(error / norm));
}

static void cost(const struct sw_case *c, double *flops, double *bytes)
{
    const struct shape *s = c->shape;
    double b = blocks(s);
    *flops = 0;
    *bytes = 4.0 * b * s->r + (s->first ? 0 : 2.0 * b * b) + 8.0 * b;
}

static const struct shape shapes[] = {{2, 2, 1, 64, 64, 64, 1, 0, 8, 0.5},
                                      {65, 4, 2, 64, 64, 32, 0, 0, 8, 0.5},
                                      {1000, 6, 2, 96, 16, 64, 0, 0, 2.5f, 0.3},
                                      {3000, 2, 1, 256, 64, 200, 0, 0, 8, 0.4},
                                      {4500, 4, 2, 128, 16, 64, 1, 7, 1, 0.3}};
static const struct shape large[] = {
    {4097, 8, 2, 128, 64, 64, 0, 0, 2, 0.2},    {9000, 32, 8, 128, 64, 64, 1, 0, 8, 0.2},
    {20000, 8, 8, 128, 32, 128, 0, 0, 1, 0.1},  {9000, 4, 2, 64, 64, 64, 1, 7, 8, 0.3},
    {40000, 4, 2, 64, 16, 64, 1, 5, 3, 0.2},    {70000, 2, 1, 64, 16, 32, 1, 5, 3, 0.2},
    {40000, 4, 2, 64, 16, 64, 0, 0, 1.5f, 0.2}, {65536, 2, 1, 64, 16, 32, 0, 0, 1, 0.2},
    {70000, 2, 1, 64, 16, 32, 0, 0, 1, 0.2}};

SW_CASES(walk_step, .covers = "walk_step pool sketch block_scores walk select_top attend",
         .fields = "n H Hkv d B r first repeat", .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .make = make, .run = run, .check = check, .compare = compare,
         .cuda = {[SKETCH] = {SW_OF_LARGEST, 1e-6, 0},
                  [MATRIX] = {SW_OF_ROW, 1e-4, 0},
                  [WALKED] = {SW_OF_ROW, 1e-4, 0},
                  [LIST] = {SW_ANY, 0, 0},
                  [OUT] = {SW_ANY, 0, 0},
                  [AGAIN] = {SW_ANY, 0, 0}},
         .cost = cost);
