/* When measuring stops, and what is made of the samples. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/interval.h"
#include "core/rng.h"
#include "harness/run/timing.h"

enum { N = 60 };
static const struct sw_timing rule = {.min_runs = 9, .max_seconds = 2, .target_error = 0.005};

/* Whether another run is wanted after n passes of 100 ms with this much scatter, and `seconds`. */
static bool more(int n, double scatter, double seconds)
{
    double total[N];
    bool wanted;
    for (int i = 0; i < n; i++)
        total[i] = 100 + scatter * sw_rng_normal(3, SW_RNG_TEST, (uint64_t)i);
    assert_int_equal(sw_times_more(&(struct sw_times){.n = n, .n_parts = 1, .total = total}, &rule,
                                   seconds, &wanted),
                     SW_OK);
    return wanted;
}

static void test_when_to_stop(void **state)
{
    (void)state;
    assert_true(more(0, 0, 0) && more(8, 0, 0) && more(8, 0, 100)); /* never before min_runs */
    assert_false(more(9, 0, 0));                                    /* exact enough */
    assert_true(more(9, 10, 1.9));                                  /* 4 % */
    assert_false(more(9, 10, 2));                                   /* time is up */
    assert_true(more(N, 10, 0));                                    /* 1.6 % still */
    assert_false(more(N, 1, 0));                                    /* 0.16 % */
    bool wanted;
    double total[9] = {0};
    assert_int_equal(sw_times_more(&(struct sw_times){.n = 9, .total = total}, &rule, 100, &wanted),
                     SW_OK);
    assert_true(wanted); /* no time of selection yet */
}

/* A metric of n samples: the scaled median, and an interval that holds the truth 95 times of 100,
 * as often too low as too high. */
static void test_interval_of_a_median(void **state)
{
    (void)state;
    enum { REPEATS = 1000, SCALE = 1000 };
    int above = 0, below = 0;
    for (int r = 0; r < REPEATS; r++) {
        struct sw_result result = {0};
        double x[N], median;
        for (int i = 0; i < N; i++)
            x[i] = 10 + sw_rng_normal(5, SW_RNG_TEST, (uint64_t)(r * N + i));
        assert_int_equal(sw_report_median(&result, "prefill_attention_ms", x, N, SCALE), SW_OK);
        const struct sw_metric *m = sw_result_metric(&result, "prefill_attention_ms");
        assert_int_equal(sw_percentile(x, N, 50, &median), SW_OK);
        assert_true(fabs(m->value - SCALE * median) < 1e-9 && m->n == N && m->n_samples == N &&
                    m->samples[7] == SCALE * x[7]);
        assert_true(m->p5 < m->lo && m->lo < m->value && m->value < m->hi && m->hi < m->p95);
        above += m->lo > SCALE * 10;
        below += m->hi < SCALE * 10;
        sw_result_clear(&result);
    }
    assert_in_range(above, 8, 45); /* 25, give or take four standard errors */
    assert_in_range(below, 8, 45);
}

/* A time is not negative, whatever its scatter. */
static void test_interval_of_a_time(void **state)
{
    (void)state;
    struct sw_result result = {0};
    assert_int_equal(
        sw_report_median(&result, "prefill_attention_ms", (const double[]){0.1, 50, 0.2}, 3, 1),
        SW_OK);
    const struct sw_metric *m = sw_result_metric(&result, "prefill_attention_ms");
    assert_true(m->value == 0.2 && m->lo == 0 && m->hi > 1);
    sw_result_clear(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_when_to_stop),
                                       cmocka_unit_test(test_interval_of_a_median),
                                       cmocka_unit_test(test_interval_of_a_time)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
