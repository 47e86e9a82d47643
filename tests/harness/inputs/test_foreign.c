/* HDF5 files of others: what is no file, no HDF5, or one that the library does not survive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_no_hdf5),
                                       cmocka_unit_test(a_good_one),
                                       cmocka_unit_test(spoiled_heaps)};
    return cmocka_run_group_tests(tests, sw_test_folder_make, sw_test_folder_remove);
}
