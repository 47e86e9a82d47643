/* Budgets and density accounting against hand-computed cases and by brute force. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/budget.h"
#include "core/rng.h"
#include "core/selection.h"
#include "tests/support/reference.h"

static const struct sw_forced none = {.sink = 0, .local = 1};

/* n=8, B=2, density 2/3, nothing forced: 24 of 36 pairs. */
static void test_hand_case(void **state)
{
    (void)state;
    int m[4];
    assert_int_equal(sw_budget_rows(8, 2, 2.0 / 3, none, m, NULL), SW_OK);
    const int want[] = {0, 0, 1, 2};
    assert_memory_equal(m, want, sizeof m);
    assert_int_equal(sw_budget_pairs(8, 2, m), 24);
}

/* 64 blocks of 64 at density 0.2 under the common forced set: 0.19990 of the pairs, 0.2120 of the
 * blocks. */
static void test_published_case(void **state)
{
    (void)state;
    int m[64];
    bool floored;
    assert_int_equal(sw_budget_rows(64 * 64, 64, 0.2, SW_FORCED_COMMON, m, &floored), SW_OK);
    assert_false(floored);
    double pairs = 4096.0 * 4097 / 2, blocks = 64;
    for (int i = 0; i < 64; i++)
        blocks += m[i];
    assert_true(fabs((double)sw_budget_pairs(4096, 64, m) / pairs - 0.19990) < 5e-6);
    assert_true(fabs(blocks / (64 * 65 / 2) - 0.2120) < 5e-5);
}

static void test_full_density_keeps_all(void **state)
{
    (void)state;
    const int lengths[] = {1, 63, 64, 65, 1000, 4096};
    for (size_t c = 0; c < sizeof lengths / sizeof *lengths; c++) {
        int b = sw_blocks(lengths[c], 64), m[64];
        assert_int_equal(sw_budget_rows(lengths[c], 64, 1.0, SW_FORCED_COMMON, m, NULL), SW_OK);
        for (int i = 0; i < b; i++)
            assert_int_equal(m[i], i);
        assert_int_equal(sw_budget_decode(lengths[c], 64, 1.0, SW_FORCED_COMMON, NULL), b - 1);
    }
}

/* Every budget is within half a block of the request, or floored; between the forced count and i;
 * tails included. */
static void test_within_half_a_block(void **state)
{
    (void)state;
    for (uint64_t c = 0; c < 400; c++) {
        int block = 16 << (sw_rng_u64(1, SW_RNG_TEST, 3 * c) % 4),
            n = 1 + (int)(sw_rng_u64(1, SW_RNG_TEST, 3 * c + 1) % 5000);
        double density = 0.02 + 0.98 * sw_rng_uniform(1, SW_RNG_TEST, 3 * c + 2),
               target = density * n * (n + 1.0) / 2;
        int b = sw_blocks(n, block), *m = malloc((size_t)b * sizeof *m);
        bool floored;
        assert_int_equal(sw_budget_rows(n, block, density, SW_FORCED_COMMON, m, &floored), SW_OK);
        for (int i = 0; i < b; i++)
            assert_true(m[i] >= sw_forced_count(SW_FORCED_COMMON, i) && m[i] <= i);
        double off = fabs((double)sw_budget_pairs(n, block, m) - target),
               half = 0.5 * block * block;
        if (!floored && off > half) /* only where no single block could bring it closer: all rows
                                       full, or the next row's step */
            fail_msg("n %d, block %d, density %g: %g pairs off, half a block is %g", n, block,
                     density, off, half);
        free(m);
    }
}

static void test_bad_requests(void **state)
{
    (void)state;
    int m[1];
    const double bad[] = {0, -0.1, 1.5, NAN};
    for (size_t c = 0; c < 4; c++) {
        assert_int_equal(sw_budget_rows(8, 2, bad[c], none, m, NULL), SW_EINPUT);
        sw_error_clear();
    }
}

/* Counting pairs of a selection entry by entry equals counting them token by token, partial blocks
 * included. */
static void test_counting_against_brute_force(void **state)
{
    (void)state;
    for (uint64_t c = 0; c < 60; c++) {
        int block = 16, n = 1 + (int)(sw_rng_u64(2, SW_RNG_TEST, 8 * c) % 150),
            b = sw_blocks(n, block);
        int window = 1 + (int)(sw_rng_u64(2, SW_RNG_TEST, 8 * c + 1) % 60),
            sink = (int)(sw_rng_u64(2, SW_RNG_TEST, 8 * c + 2) % 40);
        struct sw_selection s = {0};
        assert_int_equal(sw_selection_full(&s, n, block, 1), SW_OK);
        unsigned char whole[200];
        for (int e = 0; e < s.indptr[b]; e++)
            whole[e] = sw_rng_u64(3, SW_RNG_TEST, 1000 * c + (uint64_t)e) & 1;
        s.whole = whole;
        s.window = window;
        s.sink = sink;
        assert_int_equal(sw_selection_validate(&s), SW_OK);
        int64_t counted = 0, brute = 0;
        for (int i = 0; i < b; i++)
            for (int e = s.indptr[i]; e < s.indptr[i + 1]; e++) {
                counted += sw_selection_entry_pairs(&s, 0, i, e);
                for (int t = i * block; t < n && t < (i + 1) * block; t++)
                    for (int u = s.indices[e] * block; u <= t && u < (s.indices[e] + 1) * block;
                         u++)
                        brute += whole[e] || t - u < window || u < sink;
            }
        assert_int_equal(counted, brute);
        assert_true(fabs(sw_selection_block_density(&s) - 1) < 1e-12);
        s.whole = NULL;
        assert_true(fabs(sw_selection_density(&s) - 1) < 1e-12);
        sw_selection_free(&s);
    }
}

/* The same with token masks, per unit; a copy to the host keeps them; a new reserve leaves none,
 * nor the number of the launch that filled it. */
static void test_counting_of_masks(void **state)
{
    (void)state;
    for (uint64_t c = 0; c < 40; c++) {
        int block = c % 2 ? 16 : 128, n = 1 + (int)(sw_rng_u64(4, SW_RNG_TEST, c) % 400),
            b = sw_blocks(n, block), units = 1 + (int)c % 3;
        int words = c % 4 < 2 ? sw_query_words(block) : 0, mask_ld = c % 4 > 0 ? n + 3 : 0;
        int64_t capacity = sw_selection_full_capacity(units, 0, b);
        struct sw_selection s = {0}, copy = {0};
        assert_int_equal(sw_selection_full(&s, n, block, units), SW_OK);
        /* no partial blocks */
        assert_int_equal(sw_selection_reserve_masks(&s, mask_ld, words), SW_EINTERNAL);
        sw_error_clear();
        s.whole = malloc((size_t)capacity);
        assert_int_equal(sw_selection_reserve_masks(&s, mask_ld, words), SW_OK);
        for (int64_t e = 0; e < capacity; e++) {
            s.whole[e] = sw_rng_u64(5, SW_RNG_TEST, (uint64_t)e) % 4 == 0;
            for (int w = 0; w < words; w++)
                s.queries[e * words + w] = sw_rng_u64(6, SW_RNG_TEST, (uint64_t)(e * words + w));
        }
        for (int x = 0; x < units * mask_ld; x++) {
            s.columns[x] = sw_rng_u64(7, SW_RNG_TEST, (uint64_t)x) % 8 == 0;
            s.slashes[x] = sw_rng_u64(8, SW_RNG_TEST, (uint64_t)x) % 8 == 0;
        }
        if (c % 8 == 3)
            s.columns = NULL;
        if (c % 8 == 7)
            s.slashes = NULL;
        s.window = (int)c % 5 == 0 ? 3 : 0;
        assert_int_equal(sw_selection_to_host(&s, &copy), SW_OK);
        assert_int_equal(sw_selection_validate(&copy), SW_OK);
        assert_true(!s.columns == !copy.columns && !s.slashes == !copy.slashes &&
                    !s.queries == !copy.queries);
        int64_t kept = 0;
        for (int64_t row = 0; row < (int64_t)units * b; row++)
            for (int32_t e = s.indptr[row]; e < s.indptr[row + 1]; e++) {
                int unit = (int)(row / b), i = (int)(row % b);
                int64_t brute = 0;
                for (int t = i * block; t < n && t < (i + 1) * block; t++)
                    for (int u = s.indices[e] * block; u <= t && u < (s.indices[e] + 1) * block;
                         u++)
                        brute += sw_reference_sees(&s, unit, t, u);
                assert_int_equal(sw_selection_entry_pairs(&copy, unit, i, e), brute);
                kept += brute;
            }
        assert_true(fabs(sw_selection_density(&copy) -
                         (double)kept / ((double)n * (n + 1) / 2 * units)) < 1e-12);
        assert_true(fabs(sw_selection_block_density(&copy) - 1) < 1e-12);
        if (mask_ld) {
            copy.mask_ld = n - 1;
            assert_int_equal(sw_selection_validate(&copy), SW_EINTERNAL);
            sw_error_clear();
        }
        copy.launch = 7; /* whatever fills it next is another launch's */
        assert_int_equal(sw_selection_reserve(&copy, NULL, units, b, capacity, true), SW_OK);
        assert_false(sw_selection_masked(&copy) || copy.launch);
        sw_selection_free(&copy);
        sw_selection_free(&s);
    }
}

static void test_validation_finds_damage(void **state)
{
    (void)state;
    struct sw_selection s = {0};
    assert_int_equal(sw_selection_full(&s, 100, 16, 2), SW_OK);
    assert_int_equal(sw_selection_validate(&s), SW_OK);
    int32_t *last = &s.indices[s.indptr[3] - 1];
    *last = 1; /* row 2 of unit 0: diagonal lost */
    assert_int_equal(sw_selection_validate(&s), SW_EINTERNAL);
    sw_error_clear();
    *last = 7; /* a block of the future */
    assert_int_equal(sw_selection_validate(&s), SW_EINTERNAL);
    sw_error_clear();
    sw_selection_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hand_case),
        cmocka_unit_test(test_published_case),
        cmocka_unit_test(test_full_density_keeps_all),
        cmocka_unit_test(test_within_half_a_block),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_counting_against_brute_force),
        cmocka_unit_test(test_counting_of_masks),
        cmocka_unit_test(test_validation_finds_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
