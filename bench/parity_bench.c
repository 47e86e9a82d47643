/* A few timings at the attention shape of Llama-3.1-8B (32 heads, 8 KV heads of 128): is a change
 * worth a real run of the harness? Median of `RUNS` event-timed calls; prefill warm, decode with a
 * flushed cache. The lists are random, shared by all heads, B = 64. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/plain_read.h"
#include "core/budget.h"
#include "tests/kernels/parity_cuda.h"

enum { H = 32, HKV = 8, D = 128, B = 64, R = 64, RUNS = 9 };

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct job {
    enum sw_status (*run)(struct sw_backend *be, void *arg);
    void *arg;
    bool cold;
};

static double time_us(struct sw_backend *be, struct job j, int runs)
{
    double us[RUNS];
    must(j.run(be, j.arg), "warm-up");
    for (int i = 0; i < runs; i++) {
        if (j.cold)
            must(be->flush_cache(be), "flush");
        must(be->mark(be, 0), "mark");
        must(j.run(be, j.arg), "run");
        must(be->mark(be, 1), "mark");
        must(be->elapsed_ms(be, 0, 1, &us[i]), "elapsed");
    }
    qsort(us, (size_t)runs, sizeof *us, ascending);
    return us[runs / 2] * 1e3;
}

static enum sw_status run_attend(struct sw_backend *be, void *arg) { return be->attend(be, arg); }
static enum sw_status run_pool(struct sw_backend *be, void *arg) { return be->pool(be, arg); }
static enum sw_status run_sketch(struct sw_backend *be, void *arg) { return be->sketch(be, arg); }
static enum sw_status run_scores(struct sw_backend *be, void *arg)
{
    return be->block_scores(be, arg);
}
static enum sw_status run_walk(struct sw_backend *be, void *arg) { return be->walk(be, arg); }
static enum sw_status run_mass(struct sw_backend *be, void *arg) { return be->block_mass(be, arg); }

struct select_job {
    struct sw_select_top top;
    struct sw_selection *out;
};
static enum sw_status run_select(struct sw_backend *be, void *arg)
{
    struct select_job *j = arg;
    return be->select_top(be, &j->top, j->out);
}

/* A prompt's selection as Sketch&Walk queues it, and what follows it. */
struct chain_job {
    struct sw_pool pools[2];
    struct sw_sketch sketches[2];
    struct sw_block_scores scores;
    struct sw_walk walk;
    struct select_job select;
    struct sw_attend attend;
};
static enum sw_status run_pool_sketch(struct sw_backend *be, void *arg)
{
    struct chain_job *j = arg;
    return be->pool_sketch(be, j->pools, j->sketches, 2);
}
static enum sw_status run_walk_top(struct sw_backend *be, void *arg)
{
    struct chain_job *j = arg;
    return be->walk_top(be, &j->walk, &j->select.top, j->select.out);
}
static enum sw_status run_chain(struct sw_backend *be, void *arg)
{
    struct chain_job *j = arg;
    SW_TRY(run_pool_sketch(be, j));
    SW_TRY(be->block_scores(be, &j->scores));
    return run_walk_top(be, j);
}
static enum sw_status run_all(struct sw_backend *be, void *arg)
{
    struct chain_job *j = arg;
    SW_TRY(run_chain(be, j));
    return be->attend(be, &j->attend);
}
static enum sw_status run_nothing(struct sw_backend *be, void *arg)
{
    (void)be;
    (void)arg;
    return SW_OK;
}

static void *alloc(struct sw_backend *be, size_t bytes)
{
    void *p;
    must(be->alloc(be, bytes, &p), "alloc");
    return p;
}

/* Random activations of any size, without making them all on the host. */
static void *random_acts(struct sw_backend *be, uint64_t seed, size_t count)
{
    size_t piece = (size_t)1 << 21;
    char *d = alloc(be, count * 2);
    float *host = random_values(seed, piece, 1);
    for (size_t at = 0; at < count; at += piece)
        must(be->upload_act(be, d + at * 2, host, SW_F32, count - at < piece ? count - at : piece),
             "upload");
    free(host);
    return d;
}

static void bench_prefill(struct sw_backend *be, int n)
{
    int b = sw_blocks(n, B);
    size_t mat = (size_t)b * (size_t)b * sizeof(float), vec = (size_t)b * D * sizeof(float);
    void *q = random_acts(be, 1, (size_t)n * H * D), *k = random_acts(be, 2, (size_t)n * HKV * D),
         *v = random_acts(be, 3, (size_t)n * HKV * D);
    void *out = alloc(be, (size_t)n * H * D * 2);
    float *qs = alloc(be, vec), *ks = alloc(be, vec), *qt = alloc(be, vec), *kt = alloc(be, vec),
          *a = alloc(be, mat), *x = alloc(be, mat), *y = alloc(be, mat);
    float *noise = alloc(be, mat);
    int *m = need((size_t)b * sizeof *m);
    must(sw_budget_rows(n, B, 0.2, SW_FORCED_COMMON, m, NULL), "budget");
    must(be->hash_scores(
             be,
             &(struct sw_hash_scores){
                 .seed = 1, .layer = 0, .row0 = 0, .rows = b, .cols = b, .out = {noise, 1, b, b}}),
         "hash_scores");
    struct sw_selection list = {0};
    struct select_job select = {{.scores = {noise, 1, b, b},
                                 .row0 = 0,
                                 .rows = b,
                                 .budget = m,
                                 .forced = SW_FORCED_COMMON,
                                 .block = B,
                                 .n = n,
                                 .n_q = n},
                                &list};
    must(run_select(be, &select), "select");
    float *signs = need(D * 4);
    int32_t *keep = need(D * 4);
    for (int c = 0; c < D; c++) {
        signs[c] = c % 3 ? 1.0f : -1.0f;
        keep[c] = (c * 37 + 1) % D;
    }
    struct sw_srht t = {.d = D,
                        .d_pow2 = D,
                        .r = R,
                        .scale = 0.125f,
                        .signs = on_device(be, signs, D * 4),
                        .keep = on_device(be, keep, D * 4)};
    struct sw_attend dense = {.batch = 1,
                              .n_q = n,
                              .n_k = n,
                              .n_heads = H,
                              .n_kv_heads = HKV,
                              .head_dim = D,
                              .kv_stride = n,
                              .q = q,
                              .k = k,
                              .v = v,
                              .out = out,
                              .scale = (float)(1 / sqrt(D))},
                     sparse = dense;
    sparse.sel = &list;
    struct sw_pool pool_q = {.x = q,
                             .heads = H,
                             .head_dim = D,
                             .units = 1,
                             .block = B,
                             .t0 = 0,
                             .t1 = n,
                             .ld = b,
                             .sums = qs},
                   pool_k = pool_q;
    pool_k.x = k;
    pool_k.heads = HKV;
    pool_k.sums = ks;
    struct sw_sketch sketch = {.sums = qs,
                               .units = 1,
                               .ld = b,
                               .d = D,
                               .block = B,
                               .n = n,
                               .i0 = 0,
                               .i1 = b,
                               .transform = &t,
                               .out = qt},
                     sketch_k = sketch;
    sketch_k.sums = ks;
    sketch_k.out = kt;
    struct sw_block_scores scores = {.q = qt,
                                     .k = kt,
                                     .units_q = 1,
                                     .units_k = 1,
                                     .rows = b,
                                     .row0 = 0,
                                     .b = b,
                                     .r = R,
                                     .q_ld = b,
                                     .k_ld = b,
                                     .scale = (float)(1 / sqrt(D)),
                                     .exponent = 8,
                                     .softmax = true,
                                     .causal = true,
                                     .out = {a, 1, b, b}};
    struct sw_walk walk = {.rows = b,
                           .row0 = 0,
                           .b = b,
                           .x = a,
                           .a = {a, 1, b, b},
                           .beta = 1,
                           .causal = true,
                           .scale_rows = true,
                           .out = {y, 1, b, b}};
    struct sw_block_mass mass = {
        .in = dense, .block = B, .out = {.units = H, .ld_rows = b, .ld = b}};
    double pairs = (double)n * (n + 1) / 2, kept = (double)sw_budget_pairs(n, B, m),
           flops = 4.0 * D * H;
    /* there and back: heat moves the long ones */
    static const char *const kernels[] = {"", "cudnn", "portable", "cudnn", ""};
    for (int which = 0; which < 5; which++) {
        dense.kernel = which == 1 || which == 3 ? SW_ATTEND_LIBRARY : SW_ATTEND_BEST;
        setenv("SWBENCH_ATTEND", which == 2 ? "portable" : "", 1);
        double d_us = time_us(be, (struct job){run_attend, &dense, false}, 5),
               s_us = time_us(be, (struct job){run_attend, &sparse, false}, 5);
        printf("prefill n %6d %-8s dense %9.1f us %5.0f TFLOP/s | density 0.2 %9.1f us %5.0f "
               "TFLOP/s\n",
               n, which ? kernels[which] : "chosen", d_us, flops * pairs / d_us * 1e-6, s_us,
               flops * kept / s_us * 1e-6);
    }
    unsetenv("SWBENCH_ATTEND");
    printf("select  n %6d pool q %.1f k %.1f sketch %.1f+%.1f scores %.1f walk %.1f top %.1f us\n",
           n, time_us(be, (struct job){run_pool, &pool_q, false}, RUNS),
           time_us(be, (struct job){run_pool, &pool_k, false}, RUNS),
           time_us(be, (struct job){run_sketch, &sketch, false}, RUNS),
           time_us(be, (struct job){run_sketch, &sketch_k, false}, RUNS),
           time_us(be, (struct job){run_scores, &scores, false}, RUNS),
           time_us(be, (struct job){run_walk, &walk, false}, RUNS),
           time_us(be, (struct job){run_select, &select, false}, RUNS));
    struct sw_selection walked = {0};
    struct chain_job chain = {{pool_q, pool_k}, {sketch, sketch_k}, scores, walk, select, sparse};
    chain.select.top.scores.data = y;
    chain.select.out = &walked;
    chain.attend.sel = &walked;
    must(run_chain(be, &chain), "chain");
    double of_attend = time_us(be, (struct job){run_attend, &chain.attend, false}, RUNS),
           of_all = time_us(be, (struct job){run_all, &chain, false}, RUNS);
    printf("chain   n %6d nothing %.1f pool_sketch %.1f scores %.1f walk_top %.1f selection %.1f | "
           "attention from it %.1f, both %.1f us\n",
           n, time_us(be, (struct job){run_nothing, NULL, false}, RUNS),
           time_us(be, (struct job){run_pool_sketch, &chain, false}, RUNS),
           time_us(be, (struct job){run_scores, &scores, false}, RUNS),
           time_us(be, (struct job){run_walk_top, &chain, false}, RUNS),
           time_us(be, (struct job){run_chain, &chain, false}, RUNS), of_attend, of_all);
    sw_selection_free(&walked);
    if ((size_t)H * mat < (size_t)4 << 30) {
        mass.out.data = alloc(be, H * mat);
        double us = time_us(be, (struct job){run_mass, &mass, false}, 3);
        printf("mass    n %6d %9.1f us %5.0f TFLOP/s\n", n, us, flops * pairs / us * 1e-6);
        be->free(be, mass.out.data);
    }
    void *all[] = {q, k, v, out, qs, ks, qt, kt, a, x, y, noise, (void *)t.signs, (void *)t.keep};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        be->free(be, all[i]);
    sw_selection_free(&list);
    free(m);
    free(signs);
    free(keep);
}

/* --- a decode step ---------------------------------------------------------------------------- */

struct step {
    struct sw_walk_step select; /* transform NULL: no selection in the step */
    struct sw_attend attend;    /* q NULL: no attention */
    struct plain_read read;     /* k NULL: no plain read */
    struct sw_selection *list;
};

static void queue_step(struct sw_backend *be, struct step *s)
{
    if (s->select.transform)
        must(be->walk_step(be, &s->select, s->list), "walk_step");
    if (s->attend.q)
        must(be->attend(be, &s->attend), "attend");
    if (s->read.k)
        must(plain_read(be, &s->read), "plain_read");
}

/* The step as a replayed graph, with a cache that was flushed before. */
static double step_us(struct sw_backend *be, struct step s)
{
    double us[4 * RUNS];
    queue_step(be, &s); /* scratch memory comes now */
    must(be->record_begin(be), "record_begin");
    must(be->flush_cache(be), "flush");
    must(be->mark(be, 0), "mark");
    queue_step(be, &s);
    must(be->mark(be, 1), "mark");
    must(be->record_end(be), "record_end");
    for (int i = 0; i < 4 * RUNS; i++) {
        must(be->record_run(be), "record_run");
        must(be->elapsed_ms(be, 0, 1, &us[i]), "elapsed");
    }
    be->record_drop(be);
    qsort(us, 4 * RUNS, sizeof *us, ascending);
    return us[2 * RUNS] * 1e3;
}

/* Sketch&Walk's decode step of one layer and its attention, apart and together, beside dense
 * attention and a plain read of the kept keys and values. Sequences have keys, sketches and
 * matrices of their own. */
static void bench_step(struct sw_backend *be, int n, int batch)
{
    int b = sw_blocks(n, B), rows = batch * b;
    size_t kv = (size_t)n * HKV * D, matrix = (size_t)b * (size_t)b, of_batch = (size_t)batch;
    void *q = random_acts(be, 1, of_batch * H * D), *k = random_acts(be, 2, of_batch * kv),
         *v = random_acts(be, 3, of_batch * kv), *out = alloc(be, of_batch * H * D * 2);
    float *a = alloc(be, of_batch * matrix * 4), *x = alloc(be, (size_t)rows * 4),
          *walked = alloc(be, (size_t)rows * 4), *sums = alloc(be, (size_t)rows * D * 4),
          *sketch = alloc(be, (size_t)rows * R * 4);
    must(
        be->hash_scores(
            be,
            &(struct sw_hash_scores){
                .seed = 1, .layer = 0, .row0 = 0, .rows = rows, .cols = b, .out = {a, 1, rows, b}}),
        "hash_scores");
    must(be->hash_scores(be, &(struct sw_hash_scores){.seed = 2,
                                                      .layer = 0,
                                                      .row0 = 0,
                                                      .rows = batch,
                                                      .cols = b,
                                                      .out = {x, 1, batch, b}}),
         "hash_scores");
    must(be->hash_scores(be, &(struct sw_hash_scores){.seed = 3,
                                                      .layer = 0,
                                                      .row0 = 0,
                                                      .rows = rows,
                                                      .cols = R,
                                                      .out = {sketch, 1, rows, R}}),
         "hash_scores");
    must(be->zero(be, sums, (size_t)rows * D * 4), "zero");
    float *signs = need(D * 4);
    int32_t *keep = need(D * 4);
    for (int c = 0; c < D; c++) {
        signs[c] = c % 3 ? 1.0f : -1.0f;
        keep[c] = (c * 37 + 1) % D;
    }
    struct sw_srht t = {.d = D,
                        .d_pow2 = D,
                        .r = R,
                        .scale = 0.125f,
                        .signs = on_device(be, signs, D * 4),
                        .keep = on_device(be, keep, D * 4)};
    struct sw_selection list = {0};
    struct sw_walk_step select = {.batch = batch,
                                  .k_stride = (int64_t)kv,
                                  .q = q,
                                  .k = (char *)k + (kv - HKV * D) * 2,
                                  .n_heads = H,
                                  .n_kv_heads = HKV,
                                  .head_dim = D,
                                  .block = B,
                                  .n = n,
                                  .ld = b,
                                  .transform = &t,
                                  .scale = (float)(1 / sqrt(D)),
                                  .exponent = 8,
                                  .k_sums = sums,
                                  .k_sketch = sketch,
                                  .a = a,
                                  .x = x,
                                  .out = walked,
                                  .kept = sw_budget_decode(n, B, 0.2, SW_FORCED_COMMON, NULL),
                                  .forced = SW_FORCED_COMMON};
    struct sw_attend dense = {.batch = batch,
                              .n_q = 1,
                              .n_k = n,
                              .n_heads = H,
                              .n_kv_heads = HKV,
                              .head_dim = D,
                              .kv_stride = n,
                              .q = q,
                              .k = k,
                              .v = v,
                              .out = out,
                              .scale = (float)(1 / sqrt(D))},
                     sparse = dense;
    sparse.sel = &list;
    double select_us = step_us(be, (struct step){.select = select, .list = &list});
    struct plain_read read = {.k = k,
                              .v = v,
                              .indices = list.indices,
                              .block_bytes = (int64_t)B * HKV * D * 2,
                              .sequence_bytes = (int64_t)kv * 2,
                              .batch = batch,
                              .blocks = select.kept + 1},
                      all = read;
    all.indices = NULL;
    all.blocks = n / B;
    double nothing = step_us(be, (struct step){0}),
           dense_us = step_us(be, (struct step){.attend = dense}),
           sparse_us = step_us(be, (struct step){.attend = sparse}),
           both_us = step_us(be, (struct step){.select = select, .attend = sparse, .list = &list}),
           read_us = step_us(be, (struct step){.read = read}),
           all_us = step_us(be, (struct step){.read = all});
    printf("step    n %6d batch %d nothing %.1f us | select %5.1f + attend %5.1f, together %5.1f "
           "us | plain read of the kept %5.1f | dense %6.1f us, plain read of all %6.1f\n",
           n, batch, nothing, select_us, sparse_us, both_us, read_us, dense_us, all_us);
    void *used[] = {q, k, v, out, a, x, walked, sums, sketch, (void *)t.signs, (void *)t.keep};
    for (size_t i = 0; i < sizeof used / sizeof *used; i++)
        be->free(be, used[i]);
    sw_selection_free(&list);
    free(signs);
    free(keep);
}

static void bench_decode(struct sw_backend *be, int n, int batch)
{
    int b = sw_blocks(n, B), units = batch;
    void *q = random_acts(be, 1, (size_t)batch * H * D),
         *k = random_acts(be, 2, (size_t)batch * (size_t)n * HKV * D),
         *v = random_acts(be, 3, (size_t)batch * (size_t)n * HKV * D),
         *out = alloc(be, (size_t)batch * H * D * 2);
    float *noise = alloc(be, (size_t)units * (size_t)b * sizeof(float));
    int m = sw_budget_decode(n, B, 0.2, SW_FORCED_COMMON, NULL);
    must(be->hash_scores(be, &(struct sw_hash_scores){.seed = 1,
                                                      .layer = 0,
                                                      .row0 = b - 1,
                                                      .rows = 1,
                                                      .cols = b,
                                                      .out = {noise, units, 1, b}}),
         "hash_scores");
    struct sw_selection list = {0};
    struct select_job select = {{.scores = {noise, units, 1, b},
                                 .row0 = b - 1,
                                 .rows = 1,
                                 .budget = &m,
                                 .forced = SW_FORCED_COMMON,
                                 .block = B,
                                 .n = n,
                                 .n_q = 1},
                                &list};
    must(run_select(be, &select), "select");
    struct sw_attend dense = {.batch = batch,
                              .n_q = 1,
                              .n_k = n,
                              .n_heads = H,
                              .n_kv_heads = HKV,
                              .head_dim = D,
                              .kv_stride = n,
                              .q = q,
                              .k = k,
                              .v = v,
                              .out = out,
                              .scale = (float)(1 / sqrt(D))},
                     sparse = dense;
    sparse.sel = &list;
    double d_us = time_us(be, (struct job){run_attend, &dense, true}, RUNS),
           s_us = time_us(be, (struct job){run_attend, &sparse, true}, RUNS);
    double bytes = 4.0 * D * HKV * batch;
    printf("decode  n %6d batch %d dense %7.1f us %5.0f GB/s | density 0.2 %7.1f us %5.0f GB/s | "
           "top %.1f us\n",
           n, batch, d_us, bytes * n / d_us * 1e-3, s_us, bytes * (m + 1) * B / s_us * 1e-3,
           time_us(be, (struct job){run_select, &select, true}, RUNS));
    void *all[] = {q, k, v, out, noise};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        be->free(be, all[i]);
    sw_selection_free(&list);
}

void parity_bench(struct parity *p)
{
    static const int lengths[] = {8192, 32768, 131072};
    int n_lengths = p->quick ? 2 : 3;
    const char *only = p->only ? p->only : "";
    for (int i = 0; i < n_lengths && strstr("prefill", only); i++)
        bench_prefill(p->cuda, lengths[i]);
    for (int i = 0; i < n_lengths && strstr("decode", only); i++)
        for (int batch = 1; batch <= (i == 1 ? 8 : 4); batch *= i == 1 ? 8 : 4)
            bench_decode(p->cuda, lengths[i], batch);
    static const int batches[][2] = {{8192, 1}, {32768, 1}, {32768, 8}, {131072, 1}, {131072, 4}};
    for (size_t i = 0; i < sizeof batches / sizeof *batches && strstr("step", only); i++)
        if (batches[i][0] <= lengths[n_lengths - 1])
            bench_step(p->cuda, batches[i][0], batches[i][1]);
    for (int i = 0; i < n_lengths && strstr("model", only); i++)
        parity_bench_model(p, lengths[i]);
}
