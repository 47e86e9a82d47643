/* Claims: one process at a time has a name, its end gives the name up, and a file that is left over
 * claims nothing. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness/store/claim.h"
#include "tests/support/backends.h"
#include "tests/support/folder.h"

static bool claim(struct sw_claim *out)
{
    bool got;
    sw_test_ok(sw_claim_try(sw_test_folder(), "cell", out, &got));
    return got;
}

static bool is_there(const char *name) { return access(sw_test_path(name), F_OK) == 0; }

static void one_at_a_time(void **state)
{
    (void)state;
    struct sw_claim mine, other;
    bool got;
    assert_true(claim(&mine));
    assert_false(claim(&other)); /* a second file description, as of another process */
    assert_null(other.path);
    sw_test_ok(sw_claim_wait(sw_test_folder(), "cell", 0.15, &other, &got));
    assert_false(got);
    sw_test_ok(sw_claim_try(sw_test_folder(), "another", &other, &got));
    assert_true(got);
    sw_claim_release(&other);
    sw_claim_release(&mine);
    assert_false(is_there(".cell.lock"));
    sw_claim_release(&mine); /* of nothing */
    assert_true(claim(&mine));
    sw_claim_release(&mine);
}

static void a_process_that_ends(void **state)
{
    (void)state;
    struct sw_claim mine;
    pid_t child = fork();
    if (child == 0)
        _exit(claim(&mine) ? 0 : 1); /* without a release */
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(is_there(".cell.lock"));
    assert_true(claim(&mine));
    sw_claim_release(&mine);
}

static void leftovers(void **state)
{
    (void)state;
    struct sw_claim mine;
    int folder = open(sw_test_folder(), O_RDONLY | O_DIRECTORY);
    assert_true(folder >= 0 && claim(&mine));
    sw_test_write(".old.lock", "");
    sw_test_write("results.h5", "");
    static const char *const names[] = {".old.lock", ".cell.lock", "results.h5", ".none.lock"};
    for (int i = 0; i < 4; i++)
        sw_claim_remove_leftover(folder, names[i]);
    assert_false(is_there(".old.lock"));
    assert_true(is_there(".cell.lock")); /* somebody has it */
    assert_true(is_there("results.h5")); /* no lock file */
    sw_claim_release(&mine);
    close(folder);
}

static void no_such_folder(void **state)
{
    (void)state;
    struct sw_claim mine;
    bool got;
    sw_test_fails(sw_claim_try(sw_test_path("none"), "cell", &mine, &got), SW_EIO);
    assert_false(got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_at_a_time), cmocka_unit_test(a_process_that_ends),
        cmocka_unit_test(leftovers), cmocka_unit_test(no_such_folder)};
    return cmocka_run_group_tests(tests, sw_test_folder_make, sw_test_folder_remove);
}
