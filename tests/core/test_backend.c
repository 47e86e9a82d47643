/* Which functions a backend must have: the CPU's are all there, and one that is missing is named.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/open.h"
#include "tests/support/backends.h"

/* The check fails, and says `name`. */
static void refused(const struct sw_backend *be, const char *name)
{
    assert_int_equal(sw_backend_check(be), SW_EINTERNAL);
    assert_non_null(strstr(sw_error_message(), name));
    sw_error_clear();
}

static void cpu_has_what_is_required(void **state)
{
    (void)state;
    struct sw_backend *be;
    sw_test_ok(sw_backend_open("cpu", 1, &be));
    sw_test_ok(sw_backend_check(be));
    sw_backend_close(be);
}

/* The check of a backend without `function`, which it names. */
static void lacks(const struct sw_backend *whole, size_t function, const char *name)
{
    struct sw_backend be = *whole;
    void *none = NULL;
    memcpy((char *)&be + function, &none, sizeof none);
    refused(&be, name);
}

static void missing_ones_are_named(void **state)
{
    (void)state;
    struct sw_backend *be;
    sw_test_ok(sw_backend_open("cpu", 1, &be));
    lacks(be, offsetof(struct sw_backend, close), "'close'");
    lacks(be, offsetof(struct sw_backend, walk), "'walk'");
    lacks(be, offsetof(struct sw_backend, gate_top), "'gate_top'");
    assert_null(be->walk_step); /* optional */
    sw_backend_close(be);
}

static enum sw_status record(struct sw_backend *be)
{
    (void)be;
    return SW_OK;
}

static void recording_is_whole(void **state)
{
    (void)state;
    struct sw_backend *be;
    sw_test_ok(sw_backend_open("cpu", 1, &be));
    struct sw_backend some = *be;
    some.record_begin = record;
    refused(&some, "'record_end'");
    some = *be;
    some.record_run = record;
    refused(&some, "'record_run'");
    sw_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cpu_has_what_is_required),
                                       cmocka_unit_test(missing_ones_are_named),
                                       cmocka_unit_test(recording_is_whole)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
