/* HDF5 files of others: what is no file, no HDF5, or one that the library does not survive. */
#include <dlfcn.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness/inputs/foreign.h"
#include "harness/store/h5_data.h"
#include "tests/support/backends.h"
#include "tests/support/folder.h"

static void refused(const char *path, const char *message)
{
    hid_t file;
    assert_int_equal(sw_foreign_open(path, &file), SW_EINPUT);
    if (!strstr(sw_error_message(), message) || !strstr(sw_error_message(), path))
        fail_msg("'%s' does not hold '%s' and the path", sw_error_message(), message);
    assert_true(file < 0);
    sw_error_clear();
}

static void what_is_no_hdf5(void **state)
{
    (void)state;
    sw_test_write("text.h5", "no HDF5 at all");
    assert_int_equal(mkfifo(sw_test_path("pipe"), 0600), 0);
    refused(sw_test_path("text.h5"), "not a readable HDF5 file");
    refused(sw_test_path("none.h5"), "cannot open: No such file");
    refused(sw_test_path(""), "found something else, expected a file");
    refused(sw_test_path("pipe"), "found something else, expected a file"); /* nor waited for */
}

static const char LONG_TEXT[] = "a text of variable length, which is in the file's global heap";

static void write_text_file(const char *path)
{
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), type = H5Tcopy(H5T_C_S1),
          space = H5Screate(H5S_SCALAR);
    const char *text = LONG_TEXT;
    H5Tset_size(type, H5T_VARIABLE);
    hid_t set = H5Acreate2(file, "text", type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(set >= 0 && H5Awrite(set, type, &text) >= 0);
    H5Aclose(set);
    H5Sclose(space);
    H5Tclose(type);
    assert_true(H5Fclose(file) >= 0);
}

static void a_good_one(void **state)
{
    (void)state;
    hid_t file;
    write_text_file(sw_test_path("good.h5"));
    for (int turn = 0; turn < 2; turn++) { /* the second time without a trial */
        sw_test_ok(sw_foreign_open(sw_test_path("good.h5"), &file));
        assert_true(H5Aexists(file, "text") > 0);
        H5Fclose(file);
    }
}

/* Whatever the heap says of its size and its first text, this process survives. */
static void spoiled_heaps(void **state)
{
    (void)state;
    static char bytes[20000];
    write_text_file(sw_test_path("whole.h5"));
    FILE *in = fopen(sw_test_path("whole.h5"), "rb");
    assert_non_null(in);
    size_t size = fread(bytes, 1, sizeof bytes, in), heap = 0;
    fclose(in);
    while (heap + 4 < size && memcmp(bytes + heap, "GCOL", 4) != 0)
        heap++;
    assert_true(heap + 64 < size);
    for (size_t at = heap + 8; at < heap + 18; at++) {
        char before = bytes[at], name[32];
        snprintf(name, sizeof name, "spoiled-%zu.h5", at); /* each one is tried: a new file */
        bytes[at] = (char)(before ^ 0xff);
        FILE *out = fopen(sw_test_path(name), "wb");
        assert_int_equal(fwrite(bytes, 1, size, out), size);
        fclose(out);
        bytes[at] = before;
        hid_t file;
        enum sw_status st = sw_foreign_open(sw_test_path(name), &file);
        assert_true(st == SW_OK || st == SW_EINPUT);
        if (st == SW_OK)
            H5Fclose(file);
        sw_error_clear();
    }
}

/* --- what has been tried ---------------------------------------------------------------------- */

/* Ours goes before the C library's: each trial is a child process. */
static int trials;
static time_t ahead; /* seconds that the clock is set forward */

pid_t fork(void)
{
    static union {
        void *symbol;
        pid_t (*call)(void);
    } next;
    if (!next.symbol)
        next.symbol = dlsym(RTLD_NEXT, "fork");
    trials++;
    return next.call();
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, out);
    out->tv_sec += ahead;
    return rc;
}

static int trials_of_opening(const char *path)
{
    hid_t file;
    int before = trials;
    sw_test_ok(sw_foreign_open(path, &file));
    H5Fclose(file);
    return trials - before;
}

/* Other bytes in the same place, and the time set back. */
static void write_beneath(const char *path)
{
    const struct timespec long_ago[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, LONG_TEXT, 1, 2000), 1);
    close(fd);
    assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
}

/* A good file is tried once for all cells of a run; one into which somebody writes is tried again,
 * though size and time of the last write are as they were, and though it all was in one tick of the
 * clock. */
static void a_file_that_changes_underneath(void **state)
{
    (void)state;
    const char *path = sw_test_path("mine.h5");
    write_text_file(path);
    assert_int_equal(truncate(path, 20000), 0);
    write_beneath(path);
    ahead = 10;
    assert_int_equal(trials_of_opening(path), 1);
    assert_int_equal(trials_of_opening(path), 0);
    usleep(20000);
    write_beneath(path);
    assert_int_equal(trials_of_opening(path), 1);
    ahead = 0; /* it may be written to once more before its times tell */
    usleep(20000);
    write_beneath(path);
    assert_int_equal(trials_of_opening(path), 1);
    assert_int_equal(trials_of_opening(path), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_hdf5), cmocka_unit_test(a_good_one),
        cmocka_unit_test(spoiled_heaps), cmocka_unit_test(a_file_that_changes_underneath)};
    return cmocka_run_group_tests(tests, sw_test_folder_make, sw_test_folder_remove);
}
