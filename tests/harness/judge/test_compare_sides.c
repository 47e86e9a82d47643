/* Cells of two folders that are compared: each has one partner, the one made most alike. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/judge/compare_parts.h"

enum { MOST = 4 };

struct made {
    struct sw_tidy_row rows[MOST];
    struct sw_compared_cell cells[MOST], *sorted[MOST];
    struct sw_compare_side side;
};

/* Experiments in ascending order, as a side is sorted by them. */
static void add(struct made *m, const char *experiment, const char *input, const char *device,
                int64_t threads)
{
    int i = m->side.n++;
    m->rows[i] = (struct sw_tidy_row){.device = device};
    m->cells[i] = (struct sw_compared_cell){.row = &m->rows[i],
                                            .experiment = (char *)(uintptr_t)experiment,
                                            .input = (char *)(uintptr_t)input,
                                            .kernels = (char *)(uintptr_t)"isa=avx2",
                                            .threads = threads};
    m->sorted[i] = &m->cells[i];
    m->side.cells = m->cells;
    m->side.by_experiment = m->sorted;
}

static void partners_are_of_one_experiment(void **state)
{
    (void)state;
    struct made base = {0}, now = {0};
    add(&base, "a", "1", "x", 2);
    add(&base, "b", "1", "x", 2);
    add(&now, "b", "1", "x", 2);
    add(&now, "c", "1", "x", 2);
    sw_compare_pair_cells(&base.side, &now.side);
    assert_null(base.cells[0].partner);
    assert_ptr_equal(base.cells[1].partner, &now.cells[0]);
    assert_ptr_equal(now.cells[0].partner, &base.cells[1]);
    assert_null(now.cells[1].partner);
}

/* The input counts most, then the machine; a cell that is taken is not taken again. */
static void of_several_the_most_alike(void **state)
{
    (void)state;
    struct made base = {0}, now = {0};
    add(&base, "a", "1", "x", 2);
    add(&base, "a", "1", "y", 2);
    add(&base, "a", "1", "x", 2);
    add(&now, "a", "2", "x", 2);
    add(&now, "a", "1", "y", 2);
    add(&now, "a", "1", "x", 4);
    sw_compare_pair_cells(&base.side, &now.side);
    assert_ptr_equal(base.cells[0].partner, &now.cells[2]);
    assert_ptr_equal(base.cells[1].partner, &now.cells[1]);
    assert_ptr_equal(base.cells[2].partner, &now.cells[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(partners_are_of_one_experiment),
                                       cmocka_unit_test(of_several_the_most_alike)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
