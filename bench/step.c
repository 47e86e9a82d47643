/* step.c: Sketch&Walk's decode step of one layer and its attention, apart and together, as a
 * replayed graph with a cache that was flushed before. */
#include "bench/gpu.h"
#include "bench/plain_read.h"
#include "core/budget.h"

struct step {
    struct sw_walk_step select; /* transform NULL: no selection in the step */
    struct sw_attend attend;    /* q NULL: no attention */
    struct plain_read read;     /* k NULL: no plain read */
    struct sw_selection *list;
};

static void queue_step(struct sw_backend *be, struct step *s)
{
    if (s->select.transform)
        sw_must(be->walk_step(be, &s->select, s->list), "walk_step");
    if (s->attend.q)
        sw_must(be->attend(be, &s->attend), "attend");
    if (s->read.k)
        sw_must(plain_read(be, &s->read), "plain_read");
}

/* The step as a replayed graph, with a cache that was flushed before. */
static double step_us(struct sw_backend *be, struct step s)
{
    double us[4 * RUNS];
    queue_step(be, &s); /* scratch memory comes now */
    sw_must(be->record_begin(be), "record_begin");
    sw_must(be->flush_cache(be), "flush");
    sw_must(be->mark(be, 0), "mark");
    queue_step(be, &s);
    sw_must(be->mark(be, 1), "mark");
    sw_must(be->record_end(be), "record_end");
    for (int i = 0; i < 4 * RUNS; i++) {
        sw_must(be->record_run(be), "record_run");
        sw_must(be->elapsed_ms(be, 0, 1, &us[i]), "elapsed");
    }
    be->record_drop(be);
    qsort(us, 4 * RUNS, sizeof *us, ascending);
    return us[2 * RUNS] * 1e3;
}

/* Sketch&Walk's decode step of one layer and its attention, apart and together, beside dense
 * attention and a plain read of the kept keys and values. Sequences have keys, sketches and
 * matrices of their own. */
void bench_step(struct sw_backend *be, int n, int batch)
{
    int b = sw_blocks(n, B), rows = batch * b;
    size_t kv = (size_t)n * HKV * D, matrix = (size_t)b * (size_t)b, of_batch = (size_t)batch;
    void *q = bench_acts(be, 1, 1, of_batch * H * D), *k = bench_acts(be, 2, 1, of_batch * kv),
         *v = bench_acts(be, 3, 1, of_batch * kv), *out = bench_alloc(be, of_batch * H * D * 2);
    float *a = bench_alloc(be, of_batch * matrix * 4), *x = bench_alloc(be, (size_t)rows * 4),
          *walked = bench_alloc(be, (size_t)rows * 4),
          *sums = bench_alloc(be, (size_t)rows * D * 4),
          *sketch = bench_alloc(be, (size_t)rows * R * 4);
    sw_must(
        be->hash_scores(
            be,
            &(struct sw_hash_scores){
                .seed = 1, .layer = 0, .row0 = 0, .rows = rows, .cols = b, .out = {a, 1, rows, b}}),
        "hash_scores");
    sw_must(be->hash_scores(be, &(struct sw_hash_scores){.seed = 2,
                                                         .layer = 0,
                                                         .row0 = 0,
                                                         .rows = batch,
                                                         .cols = b,
                                                         .out = {x, 1, batch, b}}),
            "hash_scores");
    sw_must(be->hash_scores(be, &(struct sw_hash_scores){.seed = 3,
                                                         .layer = 0,
                                                         .row0 = 0,
                                                         .rows = rows,
                                                         .cols = R,
                                                         .out = {sketch, 1, rows, R}}),
            "hash_scores");
    sw_must(be->zero(be, sums, (size_t)rows * D * 4), "zero");
    struct sw_srht t = bench_srht(be);
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
    bench_free(be, used, sizeof used / sizeof *used);
    sw_selection_free(&list);
}
