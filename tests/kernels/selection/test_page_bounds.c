/* Page extremes and the upper bounds made of them, against scalar loops in double precision. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/backends.h"
#include "tests/support/buffers.h"

static const int shapes[][5] = {/* n H Hkv d B */ {1, 2, 1, 64, 16},
                                {15, 3, 3, 40, 16},
                                {16, 4, 2, 80, 16},
                                {300, 6, 2, 64, 32},
                                {700, 8, 1, 128, 16},
                                {129, 5, 5, 96, 64},
                                {1000, 24, 2, 32, 16},
                                {64, 1, 1, 256, 64}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Extremes are exact, however the tokens are cut into calls. */
static void extremes(void **state)
{
    (void)state;
    for (int c = 0; c < SHAPES; c++) {
        int n = shapes[c][0], heads = shapes[c][2], d = shapes[c][3], B = shapes[c][4],
            b = sw_blocks(n, B), ld = b + 1;
        size_t token = (size_t)heads * (size_t)d, count = (size_t)heads * (size_t)ld * (size_t)d;
        float *x = sw_test_normal((size_t)n * token, (uint64_t)c);
        for (int cut = 0; cut < 3; cut++)
            for (int threads = 1; threads <= 3; threads++) {
                struct sw_backend *be = sw_test_open(sw_test_isas()[0], threads);
                struct sw_guarded low = sw_guarded_make(count), high = sw_guarded_make(count);
                for (int t0 = 0, t1; t0 < n; t0 = t1) {
                    t1 = cut == 0   ? n
                         : cut == 1 ? t0 + 1
                                    : t0 + 1 + sw_test_int(3, (uint64_t)t0, 0, 2 * B);
                    t1 = t1 < n ? t1 : n;
                    sw_test_ok(be->extremes(be, &(struct sw_extremes){.x = x + (size_t)t0 * token,
                                                                      .heads = heads,
                                                                      .head_dim = d,
                                                                      .block = B,
                                                                      .t0 = t0,
                                                                      .t1 = t1,
                                                                      .ld = ld,
                                                                      .low = low.data,
                                                                      .high = high.data}));
                }
                for (int h = 0; h < heads; h++)
                    for (int j = 0; j < b; j++)
                        for (int k = 0; k < d; k++) {
                            float least = INFINITY, most = -INFINITY;
                            for (int t = j * B; t < n && t < (j + 1) * B; t++) {
                                least = fminf(least, x[(size_t)t * token + (size_t)(h * d + k)]);
                                most = fmaxf(most, x[(size_t)t * token + (size_t)(h * d + k)]);
                            }
                            size_t at =
                                ((size_t)h * (size_t)ld + (size_t)j) * (size_t)d + (size_t)k;
                            assert_true(low.data[at] == least && high.data[at] == most);
                        }
                sw_guarded_check_free(&low, "low");
                sw_guarded_check_free(&high, "high");
                sw_backend_close(be);
            }
        free(x);
    }
}

/* The formula as it is written; besides, no key of the page has a larger logit. */
static void bounds(void **state)
{
    (void)state;
    for (int c = 0; c < SHAPES; c++)
        for (int group_sum = 0; group_sum < 2; group_sum++) {
            int n = shapes[c][0], H = shapes[c][1], Hkv = shapes[c][2], d = shapes[c][3],
                B = shapes[c][4], b = sw_blocks(n, B), ld_in = b + 1, ld = b + 3;
            int units = group_sum ? Hkv : H, share = H / units;
            size_t token = (size_t)Hkv * (size_t)d, count = (size_t)units * (size_t)ld;
            float *k = sw_test_normal((size_t)n * token, (uint64_t)c),
                  *q = sw_test_normal((size_t)H * (size_t)d, (uint64_t)c + 50);
            float *low = malloc((size_t)Hkv * (size_t)ld_in * (size_t)d * sizeof *low),
                  *high = malloc((size_t)Hkv * (size_t)ld_in * (size_t)d * sizeof *high);
            q[0] = 0;
            q[d / 2] = -0.0f;
            for (const char *const *isa = sw_test_isas(); *isa; isa++) {
                float *first = NULL;
                for (int threads = 1; threads <= 3; threads++) {
                    struct sw_backend *be = sw_test_open(*isa, threads);
                    struct sw_guarded out = sw_guarded_make(count);
                    sw_test_ok(be->extremes(be, &(struct sw_extremes){.x = k,
                                                                      .heads = Hkv,
                                                                      .head_dim = d,
                                                                      .block = B,
                                                                      .t1 = n,
                                                                      .ld = ld_in,
                                                                      .low = low,
                                                                      .high = high}));
                    sw_test_ok(be->bound_scores(
                        be, &(struct sw_bound_scores){.q = q,
                                                      .n_heads = H,
                                                      .n_kv_heads = Hkv,
                                                      .head_dim = d,
                                                      .b = b,
                                                      .ld_in = ld_in,
                                                      .low = low,
                                                      .high = high,
                                                      .out = {out.data, units, 1, ld}}));
                    for (int u = 0; u < units; u++)
                        for (int j = 0; j < b; j++) {
                            double want = 0, size = 0, got = (double)out.data[u * ld + j];
                            for (int h = u * share; h < (u + 1) * share; h++)
                                for (int e = 0; e < d; e++) {
                                    size_t at =
                                        ((size_t)(h / (H / Hkv)) * (size_t)ld_in + (size_t)j) *
                                            (size_t)d +
                                        (size_t)e;
                                    double x = (double)q[h * d + e],
                                           term = fmax(x * (double)low[at], x * (double)high[at]);
                                    want += term;
                                    size += fabs(term);
                                }
                            /* d·2^-24 at worst, and most roundings cancel */
                            double slack = 1e-6 * size;
                            if (!(fabs(got - want) <= slack))
                                fail_msg("%s case %d unit %d block %d: bound %.9g, should be %.9g",
                                         *isa, c, u, j, got, want);
                            for (int t = j * B; t < n && t < (j + 1) * B; t++) {
                                double logit = 0;
                                for (int h = u * share; h < (u + 1) * share; h++)
                                    for (int e = 0; e < d; e++)
                                        logit += (double)q[h * d + e] *
                                                 (double)k[(size_t)t * token +
                                                           (size_t)(h / (H / Hkv) * d + e)];
                                assert_true(got >= logit - slack);
                            }
                        }
                    if (!first) {
                        first = malloc(count * sizeof *first);
                        memcpy(first, out.data, count * sizeof *first);
                    } else {
                        assert_memory_equal(first, out.data, count * sizeof *first);
                    }
                    sw_guarded_check_free(&out, "bound_scores");
                    sw_backend_close(be);
                }
                free(first);
            }
            free(k);
            free(q);
            free(low);
            free(high);
        }
}

/* Keys (1,-2) and (3,0), query (1,-1): 5, where the largest logit is 3. */
static void hand_case(void **state)
{
    (void)state;
    float keys[4] = {1, -2, 3, 0}, q[2] = {1, -1}, low[2], high[2], out[1];
    struct sw_backend *be = sw_test_open(sw_test_isas()[0], 1);
    sw_test_ok(be->extremes(be, &(struct sw_extremes){.x = keys,
                                                      .heads = 1,
                                                      .head_dim = 2,
                                                      .block = 2,
                                                      .t1 = 2,
                                                      .ld = 1,
                                                      .low = low,
                                                      .high = high}));
    sw_test_ok(be->bound_scores(be, &(struct sw_bound_scores){.q = q,
                                                              .n_heads = 1,
                                                              .n_kv_heads = 1,
                                                              .head_dim = 2,
                                                              .b = 1,
                                                              .ld_in = 1,
                                                              .low = low,
                                                              .high = high,
                                                              .out = {out, 1, 1, 1}}));
    assert_true(out[0] == 5);
    struct sw_bound_scores bad = {.q = q,
                                  .n_heads = 3,
                                  .n_kv_heads = 1,
                                  .head_dim = 2,
                                  .b = 1,
                                  .ld_in = 1,
                                  .low = low,
                                  .high = high,
                                  .out = {out, 2, 1, 1}};
    sw_test_fails(be->bound_scores(be, &bad), SW_EINTERNAL); /* two units of three heads */
    sw_test_fails(be->extremes(be, &(struct sw_extremes){.x = keys,
                                                         .heads = 1,
                                                         .head_dim = 2,
                                                         .block = 2,
                                                         .t1 = 3,
                                                         .ld = 1,
                                                         .low = low,
                                                         .high = high}),
                  SW_EINTERNAL);
    sw_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(extremes), cmocka_unit_test(bounds),
                                       cmocka_unit_test(hand_case)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
