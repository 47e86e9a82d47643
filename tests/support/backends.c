/* Opens the CPU backend in every way that must give the same answers. */
#include "tests/support/backends.h"
#include "kernels/open.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>

#include <cmocka.h>

void sw_test_ok(enum sw_status st)
{
    if (st != SW_OK)
        fail_msg("%s: %s (%s)", sw_status_name(st), sw_error_message(), sw_error_place());
}

void sw_test_fails(enum sw_status st, enum sw_status code)
{
    if (st != code)
        fail_msg("expected failure '%s', got '%s' %s", sw_status_name(code), sw_status_name(st),
                 sw_error_message());
    assert_true(sw_error_message()[0] != '\0');
    sw_error_clear();
}

/* What a task's instructions are makes no race: under the thread sanitizer, where all takes some
 * twenty times as long, the widest stand for all. */
#ifdef __SANITIZE_THREAD__
static const bool one_isa = true;
#else
static const bool one_isa = false;
#endif

const char *const *sw_test_isas(void)
{
    static const char *const all[] = {"sse2", "base", "avx2", "avx512"};
    static const char *found[5];
    static int n;
    if (n == 0)
        for (int i = 0; i < 4; i++) {
            setenv("SWBENCH_ISA", all[i], 1);
            struct sw_backend *be;
            if (sw_cpu_backend_open(1, &be) == SW_OK) {
                found[n++] = all[i];
                sw_backend_close(be);
            }
            sw_error_clear();
        }
    return one_isa ? found + n - 1 : found;
}

struct sw_backend *sw_test_open(const char *isa, int threads)
{
    struct sw_backend *be = NULL;
    setenv("SWBENCH_ISA", isa, 1);
    sw_test_ok(sw_cpu_backend_open(threads, &be));
    return be;
}
