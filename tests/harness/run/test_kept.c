/* Densities of a method's own lists: which are counted, and when there are none. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/run/kept.h"
#include "tests/support/backends.h"

enum { LAYERS = 3, TOKENS = 64, BLOCK = 16 };

static struct sw_config config;
static struct sw_workload workload = {.recovery_samples = 1};
static struct sw_cell cell = {.config = &config, .workload = &workload, .dense_layers = 1};
static const struct sw_shape shape = {
    .n_layers = LAYERS, .n_heads = 2, .n_kv_heads = 1, .head_dim = 16};
static struct sw_kept kept;
static struct sw_sparse sp;
static struct sw_sequence *some_sequence; /* that there is one is all that counts */

static void begin(const char *method, enum sw_phase phase, unsigned measure)
{
    cell.method = sw_method_find(method);
    cell.phase = phase;
    config.measure = measure;
    sp = (struct sw_sparse){.shape = shape,
                            .sequence = (struct sw_sequence *)(void *)&some_sequence,
                            .dense_layers = 1,
                            .sparse_prefill = phase != SW_PHASE_DECODE,
                            .sparse_decode = phase != SW_PHASE_PREFILL};
    sw_test_ok(sw_kept_begin(&kept, &cell, &shape));
}

static void see(int layer, int n_q, int n_k)
{
    sw_selection_free(&sp.selection);
    sw_test_ok(sw_selection_full(&sp.selection, n_k, BLOCK, 1));
    if (n_q == 1) { /* of a step: the diagonal block of the last row */
        struct sw_selection *s = &sp.selection;
        s->rows = s->n_q = s->indptr[1] = 1;
        s->row0 = s->indices[0] = sw_blocks(n_k, BLOCK) - 1;
    }
    sw_test_ok(sw_kept_count(&kept, &sp, layer, n_q, n_k));
}

static double end(void)
{
    struct sw_result result = {0};
    sw_test_ok(sw_kept_report(&kept, &result));
    double density = NAN;
    for (int i = 0; i < result.n_metrics; i++)
        if (strcmp(result.metrics[i].info->name, "density") == 0)
            density = result.metrics[i].value;
    sw_result_clear(&result);
    sw_kept_end(&kept);
    sw_selection_free(&sp.selection);
    return density;
}

static void of_the_prompt_where_that_is_sparse(void **state)
{
    (void)state;
    const enum sw_phase phases[] = {SW_PHASE_PREFILL, SW_PHASE_BOTH};
    for (int i = 0; i < 2; i++) {
        begin("onehop", phases[i], SW_MEASURE_ACCURACY);
        assert_false(sw_kept_wants_step(&kept));
        for (int l = 0; l < LAYERS; l++)
            see(l, TOKENS, TOKENS);
        assert_int_equal(kept.counted, LAYERS - 1); /* not of the dense layer */
        see(1, 1, TOKENS + 1);
        see(1, TOKENS, TOKENS); /* another sample's would be too many */
        assert_int_equal(kept.counted, LAYERS - 1);
        assert_true(end() == 1);
    }
}

static void of_sixteen_steps_where_they_alone_are(void **state)
{
    (void)state;
    begin("onehop", SW_PHASE_DECODE, SW_MEASURE_ACCURACY);
    see(1, TOKENS, TOKENS);
    assert_int_equal(kept.counted, 0);
    for (int step = 0; step < 20; step++) {
        assert_int_equal(sw_kept_wants_step(&kept), step < 16);
        for (int l = 0; l < LAYERS; l++)
            see(l, 1, TOKENS);
    }
    assert_int_equal(kept.counted, 16 * (LAYERS - 1));
    assert_true(end() == 0.25); /* one of four blocks */
}

/* Where a probe counts, or a look would be in a time. */
static void not_where_others_do_or_time_is_taken(void **state)
{
    (void)state;
    const unsigned measures[] = {SW_MEASURE_ACCURACY | SW_MEASURE_RECOVERY,
                                 SW_MEASURE_ACCURACY | SW_MEASURE_LATENCY};
    for (int i = 0; i < 2; i++) {
        begin("onehop", SW_PHASE_PREFILL, measures[i]);
        see(1, TOKENS, TOKENS);
        assert_true(isnan(end()));
    }
}

static void what_was_not_seen_is_not_said(void **state)
{
    (void)state;
    begin("onehop", SW_PHASE_DECODE, SW_MEASURE_ACCURACY); /* an answer without a step */
    assert_true(isnan(end()));
    begin("dense", SW_PHASE_PREFILL, SW_MEASURE_ACCURACY);
    sp.sequence = NULL;
    see(1, TOKENS, TOKENS);
    assert_true(end() == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(of_the_prompt_where_that_is_sparse),
                                       cmocka_unit_test(of_sixteen_steps_where_they_alone_are),
                                       cmocka_unit_test(not_where_others_do_or_time_is_taken),
                                       cmocka_unit_test(what_was_not_seen_is_not_said)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
