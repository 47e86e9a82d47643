/* What decode steps read, and the rate that is made of it, against lists that are counted here. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness/plan/plan.h"
#include "harness/run/attention.h"
#include "harness/run/latency.h"
#include "harness/run/recover.h"
#include "kernels/open.h"
#include "tests/support/backends.h"

enum { N = 250, STEPS = 9, BLOCK = 16 }; /* the steps fill a block and begin another */

/* One cell a phase: per head, so that the heads of a KV group keep different blocks. */
static const char text[] =
    "version: 1\nname: t\nbackend: cpu\nthreads: 1\noutput: /tmp/none\n"
    "workloads:\n- {kind: synthetic, shape: smollm2-135m, layers: 3, decode_tokens: 9}\n"
    "axes: {context: 250, density: 0.4, phase: [decode, both]}\n"
    "methods:\n- {name: oracle, params: {block_size: 16, unit: head}}\n"
    "dense_layers: 1\nmeasure: [recovery, latency]\n"
    "timing: {warmup_ms: 0, min_runs: 3, max_seconds: 0.01}\n";

struct world {
    struct sw_config *config;
    struct sw_backend *be;
    struct sw_plan *plan;
    struct sw_capture *capture;
};

static void open_world(struct world *w)
{
    char path[] = "/tmp/swbench-recover-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "w");
    assert_true(fputs(text, file) >= 0 && fclose(file) == 0);
    sw_test_ok(sw_config_read(path, NULL, 0, stderr, &w->config));
    assert_int_equal(remove(path), 0);
    sw_test_ok(sw_backend_open("cpu", 1, &w->be));
    sw_test_ok(sw_plan_make(w->config, w->be, NULL, &w->plan));
    assert_int_equal(w->plan->count, 2);
    sw_test_ok(sw_capture_synthetic(w->be, &w->plan->cells[0].shape, 1, 1, N + STEPS, &w->capture));
}

static void close_world(struct world *w)
{
    sw_capture_free(w->capture);
    sw_plan_free(w->plan);
    sw_backend_close(w->be);
    sw_config_free(w->config);
}

/* Keys that a KV group needs for the last query: marked token by token. */
static int64_t keys_of(const struct sw_selection *s, int n_heads, int n_kv_heads)
{
    int64_t total = 0;
    char needed[N + STEPS];
    for (int g = 0; g < n_kv_heads; g++) {
        memset(needed, 0, sizeof needed);
        for (int h = 0; h < n_heads; h++) {
            int unit = h * s->units / n_heads;
            for (int32_t e = s->indptr[unit];
                 h * n_kv_heads / n_heads == g && e < s->indptr[unit + 1]; e++)
                for (int t = s->indices[e] * BLOCK; t < (s->indices[e] + 1) * BLOCK && t < s->n;
                     t++)
                    needed[t] = 1;
        }
        for (int t = 0; t < s->n; t++)
            total += needed[t];
    }
    return total;
}

/* The same by the cell's attention, layer by layer and step by step. */
static int64_t count_keys(const struct world *w, const struct sw_cell *cell)
{
    const struct sw_shape *shape = &cell->shape;
    size_t token = (size_t)shape->n_heads * (size_t)shape->head_dim * sw_dtype_size(w->be->act);
    struct sw_sparse sp;
    struct sw_capture_layer x;
    struct sw_selection list = {0};
    void *out;
    int64_t keys = 0;
    sw_test_ok(w->be->alloc(w->be, N * token, &out));
    sw_test_ok(sw_attention_open(cell, w->be, shape, N + STEPS, &sp));
    for (int l = 0; l < shape->n_layers; l++) {
        sw_test_ok(sw_capture_get(w->capture, l, &x));
        sw_test_ok(sw_sparse_attend(&sp, l, N, N, x.q, x.k, x.v, out));
    }
    for (int n = N + 1; n <= N + STEPS; n++)
        for (int l = 0; l < shape->n_layers; l++) {
            sw_test_ok(sw_capture_get(w->capture, l, &x));
            const char *q = (const char *)x.q + (size_t)(n - 1) * token;
            sw_test_ok(sw_sparse_attend(&sp, l, 1, n, q, x.k, x.v, out));
            if (l < cell->dense_layers) {
                keys += (int64_t)n * shape->n_kv_heads;
                continue;
            }
            sw_test_ok(sw_selection_to_host(&sp.selection, &list));
            keys += keys_of(&list, shape->n_heads, shape->n_kv_heads);
        }
    sw_selection_free(&list);
    sw_attention_close(&sp);
    w->be->free(w->be, out);
    return keys;
}

/* In phase both too: the density is then the prompt's, the bytes are the steps'. */
static void test_keys_that_steps_read(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    for (int i = 0; i < w.plan->count; i++) {
        const struct sw_cell *cell = &w.plan->cells[i];
        const struct sw_recovered of = {.capture = w.capture, .n = N, .m = STEPS};
        struct sw_figures figures;
        struct sw_result result = {0};
        sw_test_ok(sw_figures_make(&figures, &cell->shape));
        sw_test_ok(sw_recover(cell, w.be, &of, NULL, &figures, &result));
        assert_int_equal(figures.decode_steps, STEPS);
        assert_true(fabs(figures.decode_keys - (double)count_keys(&w, cell)) < 1e-6);
        sw_test_ok(sw_figures_report(&figures, &result));
        /* kept pairs would be told apart: heads of a group do not share their blocks */
        double kept = sw_result_metric(&result, "density_all_layers")->value;
        double dense = 0;
        for (int s = 1; s <= STEPS; s++)
            dense += (double)(N + s) * cell->shape.n_kv_heads * cell->shape.n_layers;
        assert_true(figures.decode_keys > 1.05 * kept * dense && figures.decode_keys < dense);
        sw_result_clear(&result);
        sw_figures_free(&figures);
    }
    close_world(&w);
}

/* The rate is of the keys that were counted, not of the time alone. */
static void test_rate_of_decoding(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    double rate[2];
    for (int i = 0; i < 2; i++) {
        const struct sw_cell *cell = &w.plan->cells[1];
        const struct sw_recovered of = {.capture = w.capture, .n = N, .m = STEPS};
        struct sw_figures figures;
        struct sw_result result = {0};
        sw_test_ok(sw_figures_make(&figures, &cell->shape));
        sw_test_ok(sw_recover(cell, w.be, &of, NULL, &figures, &result));
        sw_test_ok(sw_figures_report(&figures, &result));
        figures.decode_keys *= i == 0 ? 1 : 1e6;
        sw_test_ok(sw_latency(cell, w.be, w.capture, N, STEPS, &figures, &result));
        rate[i] = sw_result_metric(&result, "effective_gbps")->value;
        assert_true(sw_result_metric(&result, "effective_tflops")->value > 0);
        assert_true(sw_result_metric(&result, "decode_attention_us")->n >= 3);
        sw_result_clear(&result);
        sw_figures_free(&figures);
    }
    assert_true(rate[0] > 0 && rate[1] > 1e4 * rate[0]);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_keys_that_steps_read),
                                       cmocka_unit_test(test_rate_of_decoding)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
