/* Lists from keep matrices, entry by entry, with each kind of token rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/backends.h"
#include "tests/support/buffers.h"

enum { NO_RULE, COLUMNS, SLASHES, LINES, QUERIES, RULES };

static uint8_t *random_flags(size_t count, uint64_t seed, int one_in)
{
    uint8_t *x = malloc(count);
    for (size_t i = 0; i < count; i++)
        x[i] = sw_test_int(seed, i, 1, one_in) == 1;
    return x;
}

static void lists(void **state)
{
    (void)state;
    static const int cases[][4] = {/* n n_q B units */ {300, 300, 16, 2},
                                   {17, 17, 16, 1},
                                   {500, 500, 128, 3},
                                   {200, 1, 64, 4},
                                   {16, 16, 16, 2},
                                   {3, 3, 16, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases * RULES; c++) {
        const int *x = cases[c / RULES], rule = (int)(c % RULES), n = x[0], B = x[2], units = x[3],
                  words = (B + 63) / 64;
        int b = sw_blocks(n, B), row0 = (n - x[1]) / B, rows = b - row0, ld = b + 2,
            ld_rows = rows + 1, mask_ld = n + 5;
        size_t cells = (size_t)(units * ld_rows * ld);
        uint8_t *keep = random_flags(cells, c, 3),
                *columns = random_flags((size_t)(units * mask_ld), c + 100, 4),
                *slashes = random_flags((size_t)(units * mask_ld), c + 200, 4);
        uint64_t *queries = malloc(cells * (size_t)words * sizeof *queries);
        for (size_t i = 0; i < cells * (size_t)words; i++)
            queries[i] = (uint64_t)sw_test_int(c + 300, i, 0, 1 << 30) << 20;
        for (int threads = 1; threads <= 3; threads++) {
            struct sw_backend *be = sw_test_open(sw_test_isas()[0], threads);
            struct sw_selection s = {0};
            struct sw_select_keep a = {.keep = {keep, units, ld_rows, ld},
                                       .row0 = row0,
                                       .rows = rows,
                                       .columns = rule == COLUMNS || rule == LINES ? columns : NULL,
                                       .slashes = rule == SLASHES || rule == LINES ? slashes : NULL,
                                       .mask_ld = mask_ld,
                                       .queries = rule == QUERIES ? queries : NULL,
                                       .block = B,
                                       .n = n,
                                       .n_q = x[1]};
            for (int twice = 0; twice < 2; twice++) /* the second time into room that is there */
                sw_test_ok(be->select_keep(be, &a, &s));
            sw_test_ok(sw_selection_validate(&s));
            assert_true(s.block == B && s.n == n && s.n_q == x[1] && s.units == units &&
                        s.rows == rows && s.row0 == row0);
            assert_true(!s.whole == (rule == NO_RULE) && !s.columns == !a.columns &&
                        !s.slashes == !a.slashes && !s.queries == !a.queries);
            for (int u = 0; u < units; u++)
                for (int r = 0; r < rows; r++) {
                    int32_t e = s.indptr[u * rows + r];
                    for (int j = 0; j <= row0 + r; j++) {
                        size_t at = (size_t)((u * ld_rows + r) * ld + j);
                        if (!keep[at] && j < row0 + r)
                            continue;
                        assert_true(e < s.indptr[u * rows + r + 1] && s.indices[e] == j);
                        if (s.whole)
                            assert_int_equal(s.whole[e], rule == QUERIES && j == row0 + r);
                        if (s.queries)
                            assert_memory_equal(s.queries + e * words, queries + at * (size_t)words,
                                                (size_t)words * sizeof *queries);
                        e++;
                    }
                    assert_int_equal(e, s.indptr[u * rows + r + 1]);
                }
            if (s.columns)
                assert_memory_equal(s.columns, columns, (size_t)(units * mask_ld));
            if (s.slashes)
                assert_memory_equal(s.slashes, slashes, (size_t)(units * mask_ld));
            sw_selection_free(&s);
            sw_backend_close(be);
        }
        free(keep);
        free(columns);
        free(slashes);
        free(queries);
    }
}

static void broken_contracts(void **state)
{
    (void)state;
    struct sw_backend *be = sw_test_open(sw_test_isas()[0], 1);
    struct sw_selection s = {0};
    uint8_t keep[16] = {0}, line[64] = {0};
    struct sw_select_keep good = {.keep = {keep, 1, 4, 4},
                                  .rows = 4,
                                  .block = 16,
                                  .n = 64,
                                  .n_q = 64},
                          a = good;
    a.keep.data = NULL;
    sw_test_fails(be->select_keep(be, &a, &s), SW_EINTERNAL);
    a = good;
    a.keep.ld = 3;
    sw_test_fails(be->select_keep(be, &a, &s), SW_EINTERNAL);
    a = good;
    a.n = 48; /* three blocks, four rows */
    sw_test_fails(be->select_keep(be, &a, &s), SW_EINTERNAL);
    a = good;
    a.columns = line;
    a.mask_ld = 63;
    sw_test_fails(be->select_keep(be, &a, &s), SW_EINTERNAL);
    sw_test_ok(be->select_keep(be, &good, &s));
    sw_selection_free(&s);
    sw_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lists), cmocka_unit_test(broken_contracts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
