/* Lists of decode steps, joined for saving: what is kept of them, token by token, is what each step
 * kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "harness/run/step_lists.h"
#include "tests/support/backends.h"

enum { BLOCK = 16, STEPS = 3, UNITS = 2, FIRST = 44 /* keys of the first step */ };

/* Step s keeps the blocks 0, 1 and the last of the second unit, the last alone of the first; all
 * but the last in part. masked: columns besides. */
static void fill(struct sw_selection *step, int s, bool masked)
{
    int n = FIRST + s * 4, own = (n - 1) / BLOCK; /* the last step begins a block */
    const int32_t listed[] = {own, 0, 1, own};
    sw_test_ok(sw_selection_reserve(step, NULL, UNITS, 1, 4, true));
    step->block = BLOCK;
    step->n = n;
    step->n_q = 1;
    step->row0 = own;
    step->window = 3 + s;
    step->sink = 5 - s;
    step->indptr[0] = 0;
    step->indptr[1] = 1;
    step->indptr[2] = 4;
    for (int e = 0; e < 4; e++) {
        step->indices[e] = listed[e];
        step->whole[e] = listed[e] == own && s != 1;
    }
    if (!masked)
        return;
    sw_test_ok(sw_selection_reserve_masks(step, n, 0));
    step->slashes = NULL;
    memset(step->columns, 0, (size_t)UNITS * (size_t)n);
    step->columns[n + 20 + s] = 1;
}

/* Whether the joined lists say that step s of a unit keeps key u, as docs/formats.md reads them. */
static bool says(const struct sw_step_lists *joined, int unit, int s, int t, int u)
{
    const struct sw_selection *all = &joined->lists;
    int32_t row = unit * STEPS + s;
    for (int32_t e = all->indptr[row]; e < all->indptr[row + 1]; e++) {
        if (all->indices[e] != u / BLOCK)
            continue;
        bool bit = joined->keys && joined->keys[e] >> (u % BLOCK) & 1;
        return all->whole[e] || t - u < joined->window[s] || u < joined->sink[s] || bit;
    }
    return false;
}

static void check(bool masked)
{
    struct sw_selection steps[STEPS] = {0};
    struct sw_step_lists joined = {0};
    int kept = 0;
    for (int s = 0; s < STEPS; s++)
        fill(&steps[s], s, masked);
    sw_test_ok(sw_step_lists_join(&joined, steps, STEPS));
    assert_int_equal(joined.lists.n, steps[STEPS - 1].n);
    assert_int_equal(joined.lists.n_q, STEPS);
    assert_int_equal(joined.keys != NULL, masked);
    for (int unit = 0; unit < UNITS; unit++)
        for (int s = 0; s < STEPS; s++) {
            int t = steps[s].n - 1;
            for (int u = 0; u <= t; u++) {
                bool wanted = false;
                for (int32_t e = steps[s].indptr[unit]; e < steps[s].indptr[unit + 1]; e++)
                    wanted |= sw_selection_keeps(&steps[s], unit, e, t, u);
                assert_int_equal(says(&joined, unit, s, t, u), wanted);
                kept += wanted;
            }
        }
    /* By hand. Unit 0: its own block of 12 and 4 whole, of 16 the window 4. Unit 1: the same, the
     * sinks 5, 4 and 3, and a column of block 1, which in the last step lies in the middle. */
    assert_int_equal(kept, 2 * (12 + 4 + 4) + 5 + 4 + 3 + (masked ? 3 : 0));
    for (int s = 0; s < STEPS; s++)
        sw_selection_free(&steps[s]);
    sw_step_lists_free(&joined);
}

static void test_windows_and_sinks_are_of_their_step(void **state)
{
    (void)state;
    check(false);
}

static void test_masks_become_keys(void **state)
{
    (void)state;
    check(true);
}

static void test_whole_blocks_need_nothing(void **state)
{
    (void)state;
    struct sw_selection step = {0};
    struct sw_step_lists joined = {0};
    fill(&step, 0, false);
    sw_test_ok(sw_selection_reserve(&step, NULL, 1, 1, 1, false));
    step.indptr[1] = 1;
    sw_test_ok(sw_step_lists_join(&joined, &step, 1));
    assert_null(joined.lists.whole);
    assert_null(joined.parts.window);
    sw_selection_free(&step);
    sw_step_lists_free(&joined);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows_and_sinks_are_of_their_step),
        cmocka_unit_test(test_masks_become_keys),
        cmocka_unit_test(test_whole_blocks_need_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
