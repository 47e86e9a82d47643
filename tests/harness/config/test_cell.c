/* What a cell is called in tables, and how many of its samples are probed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/config/cell.h"

static const struct sw_named_shape shape = {.name = "smollm2-135m"};
static char folder[] = "some/model", bundle[] = "a/b.h5";

static void names(void **state)
{
    (void)state;
    struct sw_workload workload = {
        .kind = SW_WORKLOAD_TASK, .model = folder, .path = bundle, .shape = &shape};
    struct sw_cell cell = {.workload = &workload, .task = "ppl_book"};
    const char *const expected[][3] = {{"task", "model", "ppl_book"},
                                       {"tensors", "b.h5", ""},
                                       {"synthetic", "smollm2-135m", "gaussian"}};
    for (int kind = 0; kind < 3; kind++) {
        workload.kind = (enum sw_workload_kind)kind;
        workload.generator = SW_GENERATOR_GAUSSIAN;
        cell.task = kind == SW_WORKLOAD_TASK ? "ppl_book" : NULL;
        assert_string_equal(sw_cell_workload(&cell), expected[kind][0]);
        assert_string_equal(sw_cell_model(&cell), expected[kind][1]);
        assert_string_equal(sw_cell_task(&cell), expected[kind][2]);
    }
}

static void samples_that_are_probed(void **state)
{
    (void)state;
    const struct {
        unsigned measure, save;
        int recovery_samples, expected;
    } cases[] = {
        {SW_MEASURE_ACCURACY | SW_MEASURE_LATENCY, 0, 3, 0},
        {SW_MEASURE_RECOVERY, 0, 3, 3},
        {SW_MEASURE_OUTPUT_ERROR, 0, 2, 2},
        {SW_MEASURE_RECOVERY, 0, 0, 0},
        {SW_MEASURE_RECOVERY, SW_SAVE_OUTPUT, 0, 1}, /* what is saved is the first one's */
        {SW_MEASURE_ACCURACY, SW_SAVE_SELECTION, 3, 1},
        {SW_MEASURE_RECOVERY, SW_SAVE_SELECTION, 3, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sw_config config = {.measure = cases[i].measure, .save = cases[i].save};
        struct sw_workload workload = {.recovery_samples = cases[i].recovery_samples};
        struct sw_cell cell = {.config = &config, .workload = &workload};
        assert_int_equal(sw_cell_recovery_samples(&cell), cases[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names),
                                       cmocka_unit_test(samples_that_are_probed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
