/* The statistics of the regression gate against values made in another way. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/rng.h"
#include "harness/judge/verdict.h"

static double sign_flip(const double *d, int n)
{
    double p;
    assert_int_equal(sw_sign_flip(d, n, 1, &p), SW_OK);
    return p;
}

static void test_sign_flip_by_hand(void **state)
{
    (void)state;
    /* only all + and all - reach 6 */
    assert_true(sign_flip((double[]){1, 2, 3}, 3) == 2.0 / 8);
    assert_true(sign_flip((double[]){1, 1, -1}, 3) == 1); /* every pattern reaches 1 */
    /* |sum| >= 4: +++ ++- and their opposites */
    assert_true(sign_flip((double[]){3, 2, -1, 0}, 4) == 4.0 / 8);
    assert_true(sign_flip((double[]){0, 0}, 2) == 1);
    assert_true(sign_flip(NULL, 0) == 1);
    /* sums in another order are equal */
    assert_true(sign_flip((double[]){0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1}, 7) == 2.0 / 128);
}

/* Every pattern spelled out. */
static double naive(const double *d, int n)
{
    double sum = 0;
    int hits = 0;
    for (int i = 0; i < n; i++)
        sum += d[i];
    for (int s = 0; s < 1 << n; s++) {
        double flipped = 0;
        for (int i = 0; i < n; i++)
            flipped += s >> i & 1 ? -d[i] : d[i];
        hits += fabs(flipped) >= fabs(sum) - 1e-12;
    }
    return (double)hits / (1 << n);
}

static void test_sign_flip_against_enumeration(void **state)
{
    (void)state;
    for (int round = 0; round < 30; round++) {
        double d[14];
        int n = 2 + round % 13;
        for (int i = 0; i < n; i++)
            d[i] = sw_rng_normal(3, SW_RNG_TEST, (uint64_t)(100 * round + i)) + 0.5;
        assert_true(sign_flip(d, n) == naive(d, n));
    }
}

/* Beyond 20 differences patterns are drawn: 25 that all point one way never happen by chance; a
 * balanced 24 + 24 always do. */
static void test_sign_flip_drawn(void **state)
{
    (void)state;
    double d[64], p;
    for (int i = 0; i < 64; i++)
        d[i] = 1;
    assert_true(sign_flip(d, 40) <= 1.0 / 50000);
    for (int i = 0; i < 48; i++)
        d[i] = i % 2 ? 1 : -1;
    assert_true(sign_flip(d, 48) == 1);
    /* 21 ones: P(|sum| >= 9) = 2 P(Binomial(21, 1/2) >= 15) = 0.0784, four standard errors
     * 0.0034 */
    for (int i = 0; i < 21; i++)
        d[i] = i < 15 ? 1 : -1;
    p = sign_flip(d, 21);
    assert_true(fabs(p - 0.0784) < 0.0034);
    assert_true(sign_flip(d, 21) == p);
}

static void test_holm(void **state)
{
    (void)state;
    double p[] = {0.04, NAN, 0.01, 0.03, 0.005}; /* 4·0.005, 3·0.01, 2·0.03, 1·0.04 made monotone */
    assert_int_equal(sw_holm(p, 5), SW_OK);
    assert_true(fabs(p[4] - 0.02) < 1e-15 && fabs(p[2] - 0.03) < 1e-15 &&
                fabs(p[3] - 0.06) < 1e-15 && fabs(p[0] - 0.06) < 1e-15);
    assert_true(isnan(p[1]));
    double large[] = {0.6, 0.7};
    assert_int_equal(sw_holm(large, 2), SW_OK);
    assert_true(large[0] == 1 && large[1] == 1);
    assert_int_equal(sw_holm(NULL, 0), SW_OK);
}

static void test_noise(void **state)
{
    (void)state;
    enum { N = 400 };
    double x[N], noise;
    for (int i = 0; i < N; i++)
        x[i] = 0.3 + 0.05 * sw_rng_normal(9, SW_RNG_TEST, (uint64_t)i);
    assert_int_equal(sw_timing_noise(x, N, &noise), SW_OK);
    assert_true(fabs(noise / (sqrt(2) * 0.05) - 1) < 0.15); /* what all share is no noise */
    for (int i = 0; i < N / 5; i++)
        x[i] += 1; /* nor what a fifth does */
    assert_int_equal(sw_timing_noise(x, N, &noise), SW_OK);
    assert_true(noise < 1.5 * sqrt(2) * 0.05);
    x[0] = NAN;
    assert_int_equal(sw_timing_noise(x, N, &noise), SW_OK);
    assert_true(isfinite(noise));
    assert_int_equal(sw_timing_noise((double[]){0, 0, 0, 0, 0}, 5, &noise), SW_OK);
    assert_true(noise == 0.02);
    assert_int_equal(sw_timing_noise((double[]){0, 0.5}, 2, &noise), SW_OK);
    assert_true(noise == 0.04);
}

static void test_verdicts(void **state)
{
    (void)state;
    assert_int_equal(sw_verdict_paired(-5, false, +1, 1, 0), SW_VERDICT_SAME);
    assert_int_equal(sw_verdict_paired(-2, true, +1, 1, 0.5), SW_VERDICT_WORSE);
    assert_int_equal(sw_verdict_paired(+2, true, -1, 1, 0.5), SW_VERDICT_WORSE);
    assert_int_equal(sw_verdict_paired(-0.5, true, +1, 1, 0.5), SW_VERDICT_AMBIGUOUS);
    assert_int_equal(sw_verdict_paired(-0.5, true, +1, 1, 0.001), SW_VERDICT_WORSE);
    assert_int_equal(sw_verdict_paired(+0.5, true, +1, 1, 0.001), SW_VERDICT_BETTER);
    assert_int_equal(sw_verdict_paired(0, true, +1, 1, 1), SW_VERDICT_AMBIGUOUS);

    /* relative above 1 */
    assert_int_equal(
        sw_differing((double[]){1, NAN, NAN, 100}, (double[]){1.1, NAN, 2, 100.5}, 4, 0.01), 2);
    assert_int_equal(sw_verdict_exact(0.1, 1, +1, 1e-6), SW_VERDICT_BETTER);
    assert_int_equal(sw_verdict_exact(0.1, 1, -1, 1e-6), SW_VERDICT_WORSE);
    assert_int_equal(sw_verdict_exact(0.1, 1, 0, 1e-6), SW_VERDICT_WORSE);
    assert_int_equal(sw_verdict_exact(0, 3, +1, 1e-6), SW_VERDICT_WORSE);
    assert_int_equal(sw_verdict_exact(0, 0, +1, 1e-6), SW_VERDICT_SAME);

    assert_int_equal(sw_verdict_timed(log(1.15), 1.1, 0.02, 0.001), SW_VERDICT_WORSE);
    assert_int_equal(sw_verdict_timed(-log(1.15), 1.1, 0.02, 0.001), SW_VERDICT_BETTER);
    assert_int_equal(sw_verdict_timed(log(1.15), 1.1, 0.02, 0.2), SW_VERDICT_AMBIGUOUS);
    assert_int_equal(sw_verdict_timed(log(1.15), 1.1, 0.02, NAN), SW_VERDICT_AMBIGUOUS);
    assert_int_equal(sw_verdict_timed(log(3), 1.1, 0.2, 0), SW_VERDICT_AMBIGUOUS); /* too noisy */
    assert_int_equal(sw_verdict_timed(log(3), 2, 0.2, 0), SW_VERDICT_WORSE);
    assert_int_equal(sw_verdict_timed(log(1.05), 1.1, 0.02, 0), SW_VERDICT_SAME);
    assert_int_equal(sw_verdict_timed(NAN, 1.1, 0.02, 0), SW_VERDICT_AMBIGUOUS);

    assert_int_equal(sw_verdict_memory(100, 101), SW_VERDICT_SAME);
    assert_int_equal(sw_verdict_memory(100, 103), SW_VERDICT_WORSE);
    assert_int_equal(sw_verdict_memory(103, 100), SW_VERDICT_BETTER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sign_flip_by_hand),
        cmocka_unit_test(test_sign_flip_against_enumeration),
        cmocka_unit_test(test_sign_flip_drawn),
        cmocka_unit_test(test_holm),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_verdicts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
