/* Datasets: what is asked to be compressed is, whatever its rank, and reads back as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness/store/h5_data.h"

enum { VALUES = 1 << 18 }; /* more than one chunk, and far more than fits into an object header */

/* One of a kind in 97: compresses well, and a chunk in the wrong place shows. */
static void fill(uint8_t *values)
{
    for (int i = 0; i < VALUES; i++)
        values[i] = i % 97 == 0 ? (uint8_t)(1 + i / 4096) : 0;
}

static hsize_t stored_bytes(hid_t file, const char *name, int rank, const hsize_t dims[3],
                            bool compress, const uint8_t *values)
{
    hid_t dataset;
    struct sw_h5_array array = {.name = name,
                                .units = "1",
                                .long_name = "test values",
                                .type = H5T_NATIVE_UINT8,
                                .rank = rank,
                                .dims = {dims[0], dims[1], dims[2]},
                                .compress = compress,
                                .data = values};
    assert_int_equal(sw_h5_write(file, &array, &dataset), SW_OK);
    size_t count = (size_t)(dims[0] * dims[1] * dims[2]);
    uint8_t *back = calloc(count, 1);
    assert_non_null(back);
    assert_true(H5Dread(dataset, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, back) >= 0);
    assert_memory_equal(back, values, count);
    free(back);
    assert_true(sw_h5_is_stored(dataset));
    hsize_t bytes = H5Dget_storage_size(dataset);
    sw_h5_close(dataset);
    return bytes;
}

static void test_compression_of_every_rank(void **state)
{
    (void)state;
    static const struct {
        int rank;
        hsize_t dims[3];
    } shapes[] = {{1, {VALUES, 1, 1}},     {2, {9, VALUES / 9, 1}}, {2, {VALUES / 2, 2, 1}},
                  {2, {1, VALUES, 1}},     {2, {VALUES, 1, 1}},     {3, {8, 64, 512}},
                  {3, {2, VALUES / 10, 5}}};
    char folder[] = "/tmp/swbench-h5-XXXXXX", name[32];
    assert_non_null(mkdtemp(folder));
    struct sw_h5_file file;
    uint8_t *values = calloc(VALUES, 1);
    assert_non_null(values);
    fill(values);
    assert_int_equal(sw_h5_create(folder, "ranks", &file), SW_OK);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        snprintf(name, sizeof name, "raw_%zu", i);
        hsize_t raw = stored_bytes(file.id, name, shapes[i].rank, shapes[i].dims, false, values);
        snprintf(name, sizeof name, "compressed_%zu", i);
        hsize_t small = stored_bytes(file.id, name, shapes[i].rank, shapes[i].dims, true, values);
        assert_true(small > 0 && small < raw / 8);
    }
    sw_h5_discard(&file);
    free(values);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_compression_of_every_rank)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
