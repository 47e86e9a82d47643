/* Tensor bundles: what is read, and what is refused with its place. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/inputs/bundle.h"
#include "harness/inputs/bundle_check.h"
#include "tests/support/backends.h"
#include "tests/support/bundles.h"
#include "tests/support/folder.h"

static void refused(const char *path, const char *message)
{
    struct sw_bundle_info info;
    struct sw_bundle *bundle = NULL;
    assert_int_equal(sw_bundle_describe(path, &info), SW_EINPUT);
    if (!strstr(sw_error_message(), message))
        fail_msg("'%s' does not hold '%s'", sw_error_message(), message);
    sw_error_clear();
    assert_int_equal(sw_bundle_open(path, &bundle), SW_EINPUT);
    sw_error_clear();
}

static void read(void **state)
{
    (void)state;
    enum { LAYERS = 3, H = 4, HKV = 2, D = 16, N = 70, DECODE = 5 };
    static float q[(N + DECODE) * H * D], k[(N + DECODE) * HKV * D], v[(N + DECODE) * HKV * D];
    struct sw_bundle *bundle;
    struct sw_bundle_info info;
    sw_test_bundle_write(sw_test_path("good.h5"), (struct sw_test_bundle){.layers = LAYERS,
                                                                          .heads = H,
                                                                          .kv_heads = HKV,
                                                                          .d = D,
                                                                          .n = N,
                                                                          .decode = DECODE,
                                                                          .bad = 7});
    sw_test_ok(sw_bundle_describe(sw_test_path("good.h5"), &info));
    assert_int_equal(info.n, N);
    assert_int_equal(info.decode_tokens, DECODE);
    assert_int_equal(info.shape.n_layers, LAYERS);
    sw_test_ok(sw_bundle_open(sw_test_path("good.h5"), &bundle));
    assert_int_equal(sw_bundle_shape(bundle)->n_kv_heads, HKV);
    assert_int_equal(sw_bundle_tokens(bundle), N);
    assert_int_equal(sw_bundle_decode_tokens(bundle), DECODE);
    sw_test_ok(sw_bundle_read(bundle, LAYERS - 1, q, k, v)); /* prompt and decode, end to end */
    for (int i = 0; i < (N + DECODE) * HKV * D; i++)
        assert_true(v[i] == (i == N * HKV * D - 2 ? 7 : 0));
    sw_bundle_close(bundle);
}

static void lies(void **state)
{
    (void)state;
    static const struct {
        int lie;
        const char *message;
    } all[] = {
        {LIE_HEADS, "/layer_001/v: found [70, 3, 16], expected [tokens, 2, 16]"},
        {LIE_RANK, "/layer_001/v: found 2 dimensions, expected 3"},
        {LIE_TOKENS, "/layer_001/v: found 69 tokens, expected 70"},
        {LIE_LAYER, "/layer_001: missing, expected 2 layers"},
        {LIE_FORMAT, "attribute format: expected the text"},
        {LIE_RATIO, "attribute n_heads: found 5, expected a multiple of n_kv_heads (2)"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        sw_test_bundle_write(
            sw_test_path("lie.h5"),
            (struct sw_test_bundle){
                .layers = 2, .heads = 4, .kv_heads = 2, .d = 16, .n = 70, .lie = all[i].lie});
        refused(sw_test_path("lie.h5"), all[i].message);
    }
    sw_test_bundle_write(
        sw_test_path("double.h5"),
        (struct sw_test_bundle){
            .layers = 2, .heads = 4, .kv_heads = 2, .d = 16, .n = 70, .type = H5T_IEEE_F64LE});
    refused(sw_test_path("double.h5"), "found float64, expected float32 or float16");
    sw_test_write("text.h5", "no HDF5 at all");
    refused(sw_test_path("text.h5"), "not a readable HDF5 file");
    refused("/nowhere.h5", "/nowhere.h5: cannot open: No such file or directory");
}

static void values_that_are_no_numbers(void **state)
{
    (void)state;
    static const float values[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        char *messages = NULL;
        size_t size;
        struct sw_bundle_info info;
        sw_test_bundle_write(
            sw_test_path("nan.h5"),
            (struct sw_test_bundle){
                .layers = 2, .heads = 4, .kv_heads = 2, .d = 16, .n = 70, .bad = values[i]});
        FILE *out = open_memstream(&messages, &size);
        assert_int_equal(sw_bundle_check(sw_test_path("nan.h5"), out, &info), SW_EINPUT);
        fclose(out);
        assert_non_null(strstr(
            messages,
            i == 0 ? "/layer_001/v: found NaN at [69, 1, 14], expected finite numbers"
                   : "/layer_001/v: found infinity at [69, 1, 14], expected finite numbers"));
        free(messages);
        sw_error_clear();
        sw_test_ok(sw_bundle_describe(sw_test_path("nan.h5"),
                                      &info)); /* the values are not its business */
    }
}

/* A truncated or changed file is refused or read, never a crash. */
static void damaged_bundles(void **state)
{
    (void)state;
    char bytes[20000];
    sw_test_bundle_write(
        sw_test_path("whole.h5"),
        (struct sw_test_bundle){.layers = 1, .heads = 2, .kv_heads = 1, .d = 16, .n = 3});
    FILE *in = fopen(sw_test_path("whole.h5"), "rb");
    assert_non_null(in);
    size_t size = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    assert_true(size > 0 && size < sizeof bytes);
    for (size_t cut = 0; cut < size; cut += size / 40 + 1) {
        struct sw_bundle_info info;
        FILE *out = fopen(sw_test_path("cut.h5"), "wb");
        assert_int_equal(fwrite(bytes, 1, cut, out), cut);
        fclose(out);
        assert_int_equal(sw_bundle_describe(sw_test_path("cut.h5"), &info), SW_EINPUT);
        sw_error_clear();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(read), cmocka_unit_test(lies),
                                       cmocka_unit_test(values_that_are_no_numbers),
                                       cmocka_unit_test(damaged_bundles)};
    return cmocka_run_group_tests(tests, sw_test_folder_make, sw_test_folder_remove);
}
