/* Steps are recorded where backend and method allow it, and launched one by one where not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "harness/run/recorder.h"
#include "tests/support/backends.h"

/* A backend that writes down what is asked of it: begin, queue, end, run, drop. */
static char calls[64];
static enum sw_status of_queue;

static enum sw_status note(char what)
{
    calls[strlen(calls)] = what;
    return SW_OK;
}

static enum sw_status begin(struct sw_backend *be)
{
    (void)be;
    return note('b');
}

static enum sw_status end(struct sw_backend *be)
{
    (void)be;
    return note('e');
}

static enum sw_status run(struct sw_backend *be)
{
    (void)be;
    return note('r');
}

static void drop(struct sw_backend *be)
{
    (void)be;
    calls[strlen(calls)] = 'd';
}

static enum sw_status queue(void *context)
{
    (void)context;
    SW_TRY(note('q'));
    return of_queue == SW_OK ? SW_OK : SW_FAIL(of_queue, "a step reads back");
}

static const struct sw_work work = {queue, NULL};

static void expect(const char *found)
{
    assert_string_equal(calls, found);
    memset(calls, 0, sizeof calls);
}

static struct sw_backend recording(void)
{
    struct sw_backend be = {0};
    be.record_begin = begin;
    be.record_end = end;
    be.record_run = run;
    be.record_drop = drop;
    return be;
}

static void step(struct sw_recorder *r)
{
    sw_test_ok(sw_recorder_prepare(r, work));
    sw_test_ok(sw_recorder_launch(r, work));
}

static void test_recorded(void **state)
{
    (void)state;
    struct sw_backend be = recording();
    struct sw_recorder r = {.backend = &be};
    struct sw_result result = {0};
    step(&r); /* before it was tried */
    expect("q");
    sw_test_ok(sw_recorder_try(&r, work, &result));
    expect("bqed");
    assert_true(r.active && result.n_warnings == 0);
    step(&r);
    expect("bqer");
}

static void test_method_reads_back(void **state)
{
    (void)state;
    struct sw_backend be = recording();
    struct sw_recorder r = {.backend = &be};
    struct sw_result result = {0};
    of_queue = SW_EUNSUPPORTED;
    sw_test_ok(sw_recorder_try(&r, work, &result));
    of_queue = SW_OK;
    expect("bqd");
    assert_true(!r.active && result.n_warnings == 1);
    assert_string_equal(sw_error_message(), "");
    assert_non_null(strstr(result.warnings[0], "a step reads back"));
    step(&r);
    expect("q");
    sw_result_clear(&result);
}

/* What is wrong with the step itself is not taken for a step that cannot be recorded. */
static void test_failure(void **state)
{
    (void)state;
    struct sw_backend be = recording();
    struct sw_recorder r = {.backend = &be};
    struct sw_result result = {0};
    of_queue = SW_ENOMEM;
    sw_test_fails(sw_recorder_try(&r, work, &result), SW_ENOMEM);
    of_queue = SW_OK;
    expect("bqd");
    assert_true(!r.active && result.n_warnings == 0);
}

static void test_no_recording(void **state)
{
    (void)state;
    struct sw_backend be = {0};
    struct sw_recorder r = {.backend = &be};
    struct sw_result result = {0};
    sw_test_ok(sw_recorder_try(&r, work, &result));
    assert_true(!r.active && result.n_warnings == 0);
    step(&r);
    expect("q");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded), cmocka_unit_test(test_method_reads_back),
        cmocka_unit_test(test_failure), cmocka_unit_test(test_no_recording)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
