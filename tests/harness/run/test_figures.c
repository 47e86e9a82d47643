/* Pooled metrics: each by the row of the metric table, and what follows from the density. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "harness/run/figures.h"
#include "tests/support/backends.h"

static const struct sw_shape shape = {.n_layers = 3, .n_heads = 2, .n_kv_heads = 1, .head_dim = 4};

static const struct sw_metric *found(const struct sw_result *result, const char *name)
{
    for (int i = 0; i < result->n_metrics; i++)
        if (strcmp(result->metrics[i].info->name, name) == 0)
            return &result->metrics[i];
    return NULL;
}

/* Layer 0 is dense. In layer 1 one head has a row more: the heads count alike where the table says
 * so, and as many rows as they have where it does not. */
static void test_pooling(void **state)
{
    (void)state;
    struct sw_figures f;
    struct sw_result result = {0};
    sw_test_ok(sw_figures_make(&f, &shape));
    for (int l = 1; l < 3; l++) {
        sw_test_ok(sw_figures_add(&f, "density", l, 0.25 * l, 1));
        sw_test_ok(sw_figures_add_head(&f, "density", l, 0, 0.25 * l, 1));
        sw_test_ok(sw_figures_add_head(&f, "density", l, 1, 0.25 * l, 1));
        sw_test_ok(sw_figures_add(&f, "kv_fetch_density", l, 0.5, 1));
        for (int h = 0; h < 2; h++) {
            sw_test_ok(sw_figures_add(&f, "mass_recall", l, h, 1 + h));
            sw_test_ok(sw_figures_add_head(&f, "mass_recall", l, h, h, 1 + h));
            sw_test_ok(sw_figures_add(&f, "output_rel_error", l, h, 1 + h));
            sw_test_ok(sw_figures_add_head(&f, "output_rel_error", l, h, h, 1 + h));
        }
    }
    sw_test_ok(sw_figures_report(&f, &result));
    assert_true(found(&result, "density")->value == 0.375 && found(&result, "density")->n == 2);
    assert_true(fabs(found(&result, "density_all_layers")->value - 1.75 / 3) < 1e-15);
    assert_true(found(&result, "density_spread")->n == 4);
    assert_true(found(&result, "kv_fetch_density")->value == 0.5);
    assert_null(found(&result, "kv_fetch_density")->per_layer_head);
    assert_true(found(&result, "mass_recall")->value == 0.25);
    assert_true(fabs(found(&result, "output_rel_error")->value - 1.0 / 3) < 1e-15);
    assert_true(isnan(found(&result, "mass_recall")->per_layer_head[0]));
    assert_null(found(&result, "block_recall")); /* nothing was added */
    sw_result_clear(&result);
    sw_figures_free(&f);
}

static void test_all_dense(void **state)
{
    (void)state;
    struct sw_figures f;
    struct sw_result result = {0};
    sw_test_ok(sw_figures_make(&f, &shape));
    sw_test_ok(sw_figures_report(&f, &result));
    static const char *const ones[] = {"density", "density_all_layers", "kv_fetch_density"};
    for (size_t i = 0; i < sizeof ones / sizeof *ones; i++)
        assert_true(found(&result, ones[i])->value == 1);
    assert_true(found(&result, "density_spread")->value == 0);
    sw_result_clear(&result);
    sw_figures_free(&f);
}

static void test_what_is_not_pooled(void **state)
{
    (void)state;
    struct sw_figures f;
    sw_test_ok(sw_figures_make(&f, &shape));
    sw_test_fails(sw_figures_add(&f, "no_such_metric", 0, 1, 1), SW_EINTERNAL);
    sw_test_fails(sw_figures_add(&f, "accuracy", 0, 1, 1), SW_EINTERNAL);
    sw_test_fails(sw_figures_add_head(&f, "kv_fetch_density", 0, 0, 1, 1), SW_EINTERNAL);
    sw_figures_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pooling),
                                       cmocka_unit_test(test_all_dense),
                                       cmocka_unit_test(test_what_is_not_pooled)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
