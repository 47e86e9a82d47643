/* HDF5 files that are whole or absent: made, changed, copied, and damaged byte by byte. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "harness/store/h5_data.h"
#include "tests/support/backends.h"
#include "tests/support/folder.h"

static int files_there(void)
{
    DIR *dir = opendir(sw_test_folder());
    int n = 0;
    for (const struct dirent *e; (e = readdir(dir));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(dir);
    return n;
}

static void write_one(const char *name, const char *text)
{
    struct sw_h5_file file;
    sw_test_ok(sw_h5_create(sw_test_folder(), name, &file));
    sw_test_ok(sw_h5_set_text(file.id, "text", text));
    sw_test_ok(sw_h5_publish(&file));
}

static void expect_text(const char *path, const char *text)
{
    hid_t file;
    char *found;
    sw_test_ok(sw_h5_open(path, &file));
    sw_test_ok(sw_h5_get_text(file, "text", &found));
    assert_string_equal(found, text);
    free(found);
    sw_h5_close(file);
}

static void seen_once_it_is_whole(void **state)
{
    (void)state;
    struct sw_h5_file file;
    struct stat info;
    sw_test_ok(sw_h5_create(sw_test_folder(), "a", &file));
    sw_test_ok(sw_h5_set_text(file.id, "text", "one"));
    assert_int_not_equal(stat(sw_test_path("a.h5"), &info), 0);
    sw_test_ok(sw_h5_publish(&file));
    expect_text(sw_test_path("a.h5"), "one");
    sw_test_ok(sw_h5_create(sw_test_folder(), "a", &file));
    sw_h5_discard(&file);
    expect_text(sw_test_path("a.h5"), "one");
    assert_int_equal(files_there(), 1);
    sw_test_fails(sw_h5_create(sw_test_path("none"), "a", &file), SW_EIO);
}

/* All else of the file stays. */
static void changed_in_place(void **state)
{
    (void)state;
    struct sw_h5_file file;
    static double values[5000];
    for (int i = 0; i < 5000; i++)
        values[i] = i;
    sw_test_ok(sw_h5_create(sw_test_folder(), "a", &file));
    sw_test_ok(sw_h5_set_text(file.id, "text", "one"));
    sw_test_ok(sw_h5_write(file.id,
                           &(struct sw_h5_array){.name = "values",
                                                 .units = "1",
                                                 .long_name = "values",
                                                 .type = H5T_NATIVE_DOUBLE,
                                                 .rank = 1,
                                                 .dims = {5000},
                                                 .compress = true,
                                                 .data = values},
                           NULL));
    sw_test_ok(sw_h5_publish(&file));
    for (int turn = 0; turn < 3; turn++) { /* a changed file can be changed again */
        sw_test_ok(sw_h5_change(sw_test_folder(), "a", &file));
        assert_true(H5Adelete(file.id, "text") >= 0);
        sw_test_ok(sw_h5_set_text(file.id, "text", turn ? "three, which is longer" : "two"));
        if (turn == 2)
            sw_h5_discard(&file);
        else
            sw_test_ok(sw_h5_publish(&file));
    }
    expect_text(sw_test_path("a.h5"), "three, which is longer");
    hid_t again;
    double *read;
    hsize_t dims[3];
    int rank;
    sw_test_ok(sw_h5_open(sw_test_path("a.h5"), &again));
    sw_test_ok(sw_h5_read_reals(again, "values", &read, dims, &rank));
    assert_memory_equal(read, values, sizeof values);
    free(read);
    sw_h5_close(again);
    assert_int_equal(files_there(), 1);
}

/* Any byte, and any end that is missing. */
static void damage(void **state)
{
    (void)state;
    struct stat info;
    struct sw_h5_file file;
    hid_t id;
    write_one("a", "one");
    assert_int_equal(stat(sw_test_path("a.h5"), &info), 0);
    int fd = open(sw_test_path("a.h5"), O_RDWR);
    for (off_t at = 0; at < info.st_size; at += at < 512 ? 1 : 37) {
        unsigned char byte, other;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        other = byte ^ 1;
        assert_int_equal(pwrite(fd, &other, 1, at), 1);
        sw_test_fails(sw_h5_open(sw_test_path("a.h5"), &id), SW_EINPUT);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    expect_text(sw_test_path("a.h5"), "one");
    assert_int_equal(ftruncate(fd, info.st_size - 1), 0);
    close(fd);
    sw_test_fails(sw_h5_open(sw_test_path("a.h5"), &id), SW_EINPUT);
    sw_test_fails(sw_h5_copy(sw_test_path("a.h5"), sw_test_folder(), "b"), SW_EINPUT);
    sw_test_fails(sw_h5_change(sw_test_folder(), "a", &file), SW_EINPUT);
    assert_int_equal(files_there(), 1);
}

static void copied(void **state)
{
    (void)state;
    write_one("a", "one");
    sw_test_ok(sw_h5_copy(sw_test_path("a.h5"), sw_test_folder(), "b"));
    expect_text(sw_test_path("b.h5"), "one");
    sw_test_fails(sw_h5_copy(sw_test_path("c.h5"), sw_test_folder(), "b"), SW_EINPUT);
    expect_text(sw_test_path("b.h5"), "one");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, sw_test_folder_make, sw_test_folder_remove)
int main(void)
{
    const struct CMUnitTest tests[] = {TEST(seen_once_it_is_whole), TEST(changed_in_place),
                                       TEST(damage), TEST(copied)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
