/* Block selection against sorting and counting pair by pair. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/backends.h"
#include "tests/support/buffers.h"

/* Does a come before b? The rule as it is written: score descending, NaN last, then j
 * descending. */
static bool before(float a, int ja, float b, int jb)
{
    bool na = isnan(a), nb = isnan(b);
    if (na != nb)
        return nb;
    if (!na && a != b)
        return a > b;
    return ja > jb;
}

static void top(void **state)
{
    (void)state;
    static const struct sw_forced forced[] = {{1, 2}, {0, 1}, {3, 4}};
    for (int turn = 0; turn < 24; turn++) {
        int units = 1 + turn % 3, row0 = turn % 2 ? 13 : 0, rows = turn % 4 == 3 ? 1 : 29,
            b = row0 + rows, ld = b + 2, ld_rows = rows + 1;
        struct sw_forced f = forced[turn % 3];
        float *scores = sw_test_normal((size_t)(units * ld_rows * ld), (uint64_t)turn);
        int budget[64];
        for (int r = 0; r < rows; r++)
            budget[r] =
                sw_test_int(9, (uint64_t)(turn * 100 + r), sw_forced_count(f, row0 + r), row0 + r);
        for (int i = 0; i < units * ld_rows * ld; i++) { /* many ties, and every odd value */
            if (turn % 5 > 0)
                scores[i] = roundf(scores[i] * 2);
            int odd = sw_test_int(10, (uint64_t)i, 0, 30);
            scores[i] = odd == 0   ? NAN
                        : odd == 1 ? -NAN
                        : odd == 2 ? INFINITY
                        : odd == 3 ? -INFINITY
                        : odd == 4 ? -0.0f
                        : odd == 5 ? 0.0f
                                   : scores[i];
        }
        bool recent = turn == 7;
        for (int threads = 1; threads <= 3; threads++) {
            struct sw_backend *be = sw_test_open(sw_test_isas()[0], threads);
            struct sw_selection s = {0};
            struct sw_select_top a = {.scores = {recent ? NULL : scores, units, ld_rows, ld},
                                      .row0 = row0,
                                      .rows = rows,
                                      .budget = budget,
                                      .forced = f,
                                      .block = 16,
                                      .n = b * 16 - 3,
                                      .n_q = rows == 1 ? 1 : b * 16 - 3};
            sw_test_ok(be->select_top(be, &a, &s));
            sw_test_ok(sw_selection_validate(&s));
            assert_true(s.block == 16 && s.n == b * 16 - 3 && s.units == units && s.rows == rows &&
                        s.row0 == row0 && s.whole == NULL);
            for (int u = 0; u < units; u++)
                for (int r = 0; r < rows; r++) {
                    int i = row0 + r;
                    int32_t e = s.indptr[u * rows + r], end = s.indptr[u * rows + r + 1];
                    assert_int_equal(end - e, budget[r] + 1);
                    const float *x = scores + (u * ld_rows + r) * ld;
                    for (int j = 0; j < i; j++) {
                        int better = 0; /* how many free blocks come before j */
                        for (int k = 0; k < i; k++)
                            better += !sw_forced_has(f, i, k) && k != j &&
                                      (recent ? k > j : before(x[k], k, x[j], j));
                        bool keep =
                            sw_forced_has(f, i, j) || better < budget[r] - sw_forced_count(f, i);
                        bool listed = e < end && s.indices[e] == j;
                        e += listed;
                        if (keep != listed)
                            fail_msg("turn %d unit %d row %d: block %d is %s", turn, u, i, j,
                                     listed ? "listed" : "missing");
                    }
                    assert_int_equal(s.indices[e], i);
                }
            sw_selection_free(&s);
            sw_backend_close(be);
        }
        free(scores);
    }
}

static int ascending(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static void quantile(void **state)
{
    (void)state;
    /* n B n_q sink_blocks window_blocks window sink dense_tail units */
    static const int cases[][9] = {
        {700, 16, 700, 1, 3, 35, 18, 4, 2}, {700, 16, 1, 1, 3, 35, 18, 0, 1},
        {333, 32, 333, 0, 1, 1, 0, 0, 1},   {640, 64, 640, 1, 1, 32, 32, 4, 1},
        {100, 16, 100, 2, 2, 200, 0, 0, 1}, {200, 16, 200, 0, 0, 0, 0, 0, 1},
        {513, 16, 513, 1, 2, 26, 26, 4, 3}, {16, 16, 16, 1, 1, 1, 1, 0, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int n = cases[c][0], B = cases[c][1], n_q = cases[c][2], sb = cases[c][3], wb = cases[c][4],
            window = cases[c][5], sink = cases[c][6], units = cases[c][8];
        int b = sw_blocks(n, B), row0 = (n - n_q) / B, rows = b - row0, ld = b + 1;
        float *scores = sw_test_normal((size_t)(units * rows * ld), c);
        if (c == 0)
            for (int i = 0; i < units * rows * ld; i++)
                scores[i] = i % 17 == 0 ? NAN : i % 3 ? roundf(scores[i]) : scores[i];
        for (int threads = 1; threads <= 2; threads++) {
            struct sw_backend *be = sw_test_open(sw_test_isas()[0], threads);
            struct sw_selection s = {0};
            struct sw_select_quantile a = {.scores = {scores, units, rows, ld},
                                           .row0 = row0,
                                           .rows = rows,
                                           .sink_blocks = sb,
                                           .window_blocks = wb,
                                           .window = window,
                                           .sink = sink,
                                           .dense_from = cases[c][7] ? b - cases[c][7] : b + 1,
                                           .quantile = 0.875,
                                           .block = B,
                                           .n = n,
                                           .n_q = n_q};
            sw_test_ok(be->select_quantile(be, &a, &s));
            sw_test_ok(sw_selection_validate(&s));
            for (int u = 0; u < units; u++)
                for (int r = 0; r < rows; r++) {
                    int i = row0 + r, count = 0;
                    const float *x = scores + (u * rows + r) * ld;
                    double sorted[64], threshold = INFINITY;
                    for (int j = sb; j <= i - wb; j++)
                        if (!isnan(x[j]))
                            sorted[count++] = (double)x[j];
                    qsort(sorted, (size_t)count, sizeof *sorted, ascending);
                    if (count) {
                        double at = 0.875 * (count - 1);
                        int low = (int)at, high = low + 1 < count ? low + 1 : low;
                        threshold = sorted[low] + (at - low) * (sorted[high] - sorted[low]);
                    }
                    for (int j = 0; j <= i; j++) {
                        bool chosen = i >= a.dense_from ||
                                      (j >= sb && j <= i - wb && (double)x[j] > threshold);
                        int32_t e = s.indptr[u * rows + r];
                        while (e < s.indptr[u * rows + r + 1] && s.indices[e] != j)
                            e++;
                        bool listed = e < s.indptr[u * rows + r + 1];
                        for (int t = i * B > n - n_q ? i * B : n - n_q; t < n && t < (i + 1) * B;
                             t++)
                            for (int v = j * B; v < (j + 1) * B && v <= t; v++) {
                                bool want =
                                    chosen || t - v < window || v < sink || (window < 1 && i == j);
                                bool got = listed && (s.whole[e] || t - v < s.window || v < s.sink);
                                if (want != got)
                                    fail_msg(
                                        "case %zu unit %d: pair (%d, %d) of blocks %d, %d is %s", c,
                                        u, t, v, i, j, got ? "kept" : "dropped");
                            }
                        if (listed && j != i && !chosen) { /* and no empty entries */
                            int t0 = i * B > n - n_q ? i * B : n - n_q;
                            assert_true(t0 - (j * B + B - 1) < window || j * B < sink);
                        }
                    }
                }
            sw_selection_free(&s);
            sw_backend_close(be);
        }
        free(scores);
    }
}

static void broken_contracts(void **state)
{
    (void)state;
    struct sw_backend *be = sw_test_open(sw_test_isas()[0], 1);
    struct sw_selection s = {0};
    float scores[16] = {0};
    int budget[4] = {0, 1, 2, 4};
    struct sw_select_top a = {.scores = {scores, 1, 4, 4},
                              .rows = 4,
                              .budget = budget,
                              .forced = {1, 2},
                              .block = 16,
                              .n = 64,
                              .n_q = 64};
    sw_test_fails(be->select_top(be, &a, &s), SW_EINTERNAL); /* more than there is */
    budget[3] = 1;
    sw_test_fails(be->select_top(be, &a, &s), SW_EINTERNAL); /* less than is forced */
    budget[3] = 3;
    sw_test_ok(be->select_top(be, &a, &s));
    a.scores.ld = 3;
    sw_test_fails(be->select_top(be, &a, &s), SW_EINTERNAL);
    a.budget = NULL;
    sw_test_fails(be->select_top(be, &a, &s), SW_EINTERNAL);
    sw_selection_free(&s);
    sw_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(top), cmocka_unit_test(quantile),
                                       cmocka_unit_test(broken_contracts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
