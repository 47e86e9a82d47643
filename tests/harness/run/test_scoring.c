/* What a task's windows come to. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/run/scoring.h"

static void perplexity_is_of_the_mean_loss(void **state)
{
    (void)state;
    const double loss[] = {1, 2, 3, 6};
    struct sw_result result = {0};
    assert_int_equal(sw_score_windows(loss, 4, 1, &result), SW_OK);
    const struct sw_metric *nll = sw_result_metric(&result, "nll"),
                           *ppl = sw_result_metric(&result, "ppl");
    assert_int_equal(result.n_metrics, 2);
    assert_true(nll->value == 3 && ppl->value == exp(3)); /* not the mean of exp(loss) */
    assert_true(ppl->lo == exp(nll->lo) && ppl->hi == exp(nll->hi) && nll->lo < 3 && nll->hi > 3);
    assert_true(ppl->n == 4 && nll->n_samples == 4 && nll->samples[3] == 6);
    sw_result_clear(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(perplexity_is_of_the_mean_loss)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
