/* What a cell measured, in memory: metrics, their layers and heads, and what is dropped. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/store/result.h"

static void the_table_is_sound(void **state)
{
    (void)state;
    for (const struct sw_metric_info *m = sw_metric_table; m->name; m++) {
        assert_ptr_equal(sw_metric_find(m->name), m); /* unique */
        assert_true(*m->unit && *m->long_name && m->better >= -1 && m->better <= 1);
    }
    assert_null(sw_metric_find("no_such_metric"));
}

/* Pointers that were handed out stay good while others are added. */
static void metrics_are_added_once(void **state)
{
    (void)state;
    struct sw_result result = {0};
    struct sw_metric *first = sw_result_metric(&result, sw_metric_table[0].name);
    assert_true(isnan(first->value) && isnan(first->lo) && isnan(first->p95));
    int n = 0;
    for (; sw_metric_table[n].name; n++)
        assert_non_null(sw_result_metric(&result, sw_metric_table[n].name));
    assert_int_equal(result.n_metrics, n);
    assert_ptr_equal(sw_result_metric(&result, sw_metric_table[0].name), first);
    assert_int_equal(result.n_metrics, n);
    assert_null(sw_result_metric(&result, "no_such_metric"));
    sw_result_keep_metrics(&result, 1);
    assert_int_equal(result.n_metrics, 1);
    sw_result_clear(&result);
}

static void layers_and_heads_agree(void **state)
{
    (void)state;
    const double values[6] = {0, 1, 2, 3, 4, 5};
    struct sw_result result = {0};
    struct sw_metric *m = sw_result_metric(&result, "density");
    assert_int_equal(sw_metric_set_layer_heads(m, values, 2, 3), SW_OK);
    assert_int_equal(sw_metric_set_layers(m, values, 3), SW_EINTERNAL);
    assert_null(m->per_layer);
    assert_int_equal(sw_metric_set_layers(m, values + 1, 2), SW_OK);
    assert_int_equal(sw_metric_set_layer_heads(m, values, 3, 2), SW_EINTERNAL);
    assert_true(m->per_layer[1] == 2 && m->per_layer_head[5] == 5 && m->n_heads == 3);
    sw_error_clear();
    sw_result_clear(&result);
}

/* Texts are the result's own. */
static void answers_are_copied(void **state)
{
    (void)state;
    char prediction[] = "yes", one[] = "a", two[] = "b";
    const char *const references[] = {one, two};
    struct sw_result result = {0};
    assert_int_equal(sw_result_predict(&result, &(struct sw_answer){.prediction = prediction,
                                                                    .references = references,
                                                                    .n_references = 2,
                                                                    .score = 50,
                                                                    .depth = NAN}),
                     SW_OK);
    assert_int_equal(sw_result_warn(&result, "%d of %s", 3, one), SW_OK);
    prediction[0] = one[0] = '?';
    assert_string_equal(result.answers[0].prediction, "yes");
    assert_string_equal(result.answers[0].references[0], "a");
    assert_string_equal(result.warnings[0], "3 of a");
    sw_result_clear(&result);
    assert_true(result.n_answers == 0 && !result.answers && !result.warnings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_sound), cmocka_unit_test(metrics_are_added_once),
        cmocka_unit_test(layers_and_heads_agree), cmocka_unit_test(answers_are_copied)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
