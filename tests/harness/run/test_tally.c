/* Means per layer and head, and what is made of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "harness/run/tally.h"

/* A layer is the mean of what was added to it; the whole is the mean of the layers that have
 * any. */
static void test_tally(void **state)
{
    (void)state;
    struct sw_tally t;
    struct sw_result result = {0};
    assert_int_equal(sw_tally_make(&t, 3, 2), SW_OK);
    sw_tally_add(&t, 1, 3, 4);
    sw_tally_add(&t, 1, 1, 4);
    sw_tally_add(&t, 2, 1, 1);
    sw_tally_add_head(&t, 1, 0, 1, 4);
    sw_tally_add_head(&t, 2, 1, 1, 1);
    assert_int_equal(sw_tally_report(&t, &result, "block_recall"), SW_OK);
    const struct sw_metric *m = sw_result_metric(&result, "block_recall");
    assert_true(m->value == 0.75 && m->n == 2 && m->n_layers == 3 && m->n_heads == 2);
    assert_true(isnan(m->per_layer[0]) && m->per_layer[1] == 0.5 && m->per_layer[2] == 1);
    assert_true(isnan(m->per_layer_head[0]) && m->per_layer_head[2] == 0.25 &&
                isnan(m->per_layer_head[3]) && m->per_layer_head[5] == 1);
    assert_true(fabs(sw_tally_spread(&t) - sqrt(2 * 0.375 * 0.375)) < 1e-12);
    sw_result_clear(&result);
    sw_tally_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tally)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
