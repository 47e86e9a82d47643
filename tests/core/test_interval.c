/* Statistics: known values, coverage of the intervals, determinism. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/interval.h"
#include "core/rng.h"

static void test_known_values(void **state)
{
    (void)state;
    const double x[] = {4, 1, 3, 2};
    double value, error;
    assert_true(sw_mean(x, 4) == 2.5);
    assert_true(isnan(sw_mean(x, 0)));
    assert_int_equal(sw_percentile(x, 4, 50, &value), SW_OK);
    assert_true(value == 2.5);
    assert_int_equal(sw_percentile(x, 4, 0, &value), SW_OK);
    assert_true(value == 1);
    assert_int_equal(sw_percentile(x, 4, 100, &value), SW_OK);
    assert_true(value == 4);
    assert_int_equal(sw_percentile(x, 4, 95, &value), SW_OK); /* numpy.percentile */
    assert_true(fabs(value - 3.85) < 1e-12);
    assert_int_equal(sw_percentile(x, 0, 50, &value), SW_OK);
    assert_true(isnan(value));
    assert_int_equal(sw_median_error(x, 1, &value, &error), SW_OK);
    assert_true(value == 4 && isnan(error));
    assert_int_equal(sw_median_error(x, 4, &value, &error), SW_OK);
    assert_true(value == 2.5 && fabs(error - 1.2533141373155 * sqrt(5.0 / 12)) < 1e-9);
}

/* The standard error of the median of n normals is about 1.2533/√n. */
static void test_median_error(void **state)
{
    (void)state;
    enum { N = 100, REPEATS = 400 };
    double x[N], median, error, errors = 0, squares = 0;
    for (int r = 0; r < REPEATS; r++) {
        for (int i = 0; i < N; i++)
            x[i] = 10 + sw_rng_normal(7, SW_RNG_TEST, (uint64_t)(r * N + i));
        assert_int_equal(sw_median_error(x, N, &median, &error), SW_OK);
        errors += error / REPEATS;
        squares += (median - 10) * (median - 10) / REPEATS;
    }
    assert_true(fabs(errors / sqrt(squares) - 1) < 0.15);
}

static void test_mean_interval(void **state)
{
    (void)state;
    enum { N = 40, REPEATS = 200 };
    double x[N];
    struct sw_interval interval, again;
    int covered = 0;
    double lower = 0, upper = 0;
    for (int r = 0; r < REPEATS; r++) {
        for (int i = 0; i < N; i++)
            x[i] = 3 + sw_rng_normal(11, SW_RNG_TEST, (uint64_t)(r * N + i));
        assert_int_equal(sw_interval_mean(x, N, 1, &interval), SW_OK);
        assert_true(interval.lo <= interval.value && interval.value <= interval.hi);
        covered += interval.lo <= 3 && 3 <= interval.hi;
        lower += (interval.value - interval.lo) / REPEATS;
        upper += (interval.hi - interval.value) / REPEATS;
    }
    /* of the mean of N normals, drawn anew from themselves */
    double reach = 1.96 * sqrt((N - 1.0) / N / N);
    assert_true(fabs(lower / reach - 1) < 0.04 && fabs(upper / reach - 1) < 0.04);
    /* 95 % of 200, give or take four standard errors and the bootstrap's own shortfall */
    assert_in_range(covered, 176, 199);
    assert_int_equal(sw_interval_mean(x, N, 1, &again), SW_OK);
    assert_true(again.lo == interval.lo && again.hi == interval.hi);
    assert_int_equal(sw_interval_mean(x, 1, 1, &interval), SW_OK);
    assert_true(interval.value == x[0] && isnan(interval.lo));
    assert_int_equal(sw_interval_mean(x, 0, 1, &interval), SW_OK);
    assert_true(isnan(interval.value));
}

/* Pairing removes what both share: the interval is as narrow as the difference. */
static void test_paired(void **state)
{
    (void)state;
    enum { N = 30 };
    double a[N], b[N];
    for (int i = 0; i < N; i++) {
        b[i] = 100 * sw_rng_normal(3, SW_RNG_TEST, (uint64_t)i);
        a[i] = b[i] + 0.5 + 0.01 * sw_rng_normal(4, SW_RNG_TEST, (uint64_t)i);
    }
    struct sw_interval x;
    assert_int_equal(sw_interval_paired(a, b, N, 1, &x), SW_OK);
    assert_true(fabs(x.value - 0.5) < 0.01 && x.lo > 0.49 && x.hi < 0.51);
    assert_int_equal(sw_interval_paired(a, a, N, 1, &x), SW_OK);
    assert_true(x.value == 0 && x.lo == 0 && x.hi == 0);
    assert_int_equal(sw_interval_paired(a, b, 0, 1, &x), SW_OK);
    assert_true(isnan(x.value));
}

static void test_median_ratio(void **state)
{
    (void)state;
    double a[25], b[31];
    for (int i = 0; i < 25; i++)
        a[i] = 30 + sw_rng_uniform(5, SW_RNG_TEST, (uint64_t)i);
    for (int i = 0; i < 31; i++)
        b[i] = 10 + 0.3 * sw_rng_uniform(6, SW_RNG_TEST, (uint64_t)i);
    struct sw_interval x;
    assert_int_equal(sw_interval_median_ratio(a, 25, b, 31, 1, &x), SW_OK);
    assert_true(x.value > 2.9 && x.value < 3.1 && x.lo < x.value && x.value < x.hi &&
                x.hi - x.lo < 0.15);
    assert_int_equal(sw_interval_median_ratio(a, 25, b, 0, 1, &x), SW_OK);
    assert_true(isnan(x.value));
    assert_int_equal(sw_interval_median_ratio(a, 1, b, 1, 1, &x), SW_OK);
    assert_true(isfinite(x.value) && isnan(x.lo));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),  cmocka_unit_test(test_median_error),
        cmocka_unit_test(test_mean_interval), cmocka_unit_test(test_paired),
        cmocka_unit_test(test_median_ratio),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
