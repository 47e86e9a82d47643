/* UTF-8 that is whole, cut and broken: what Python's bytes.decode("utf-8", "replace") gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/utf8.h"

#define R "\xef\xbf\xbd"

static const struct {
    const char *text, *valid;
    size_t points;
} cases[] = {
    {"", "", 0},
    {"plain", "plain", 5},
    {"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z", "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z", 5},
    {"\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf",
     "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 7},
    {"cut \xe2\x82", "cut " R, 5}, /* one character was cut: one mark */
    {"cut \xf0\x9f\x98", "cut " R, 5},
    {"\xf0\x9f\x98\xf0\x9f\x98\x80", R "\xf0\x9f\x98\x80", 2},
    {"\x80\xbf", R R, 2},             /* nothing begins with these */
    {"\xc0\xaf\xc1\x81", R R R R, 4}, /* longer than needed */
    {"\xe0\x9f\xbf\xf0\x8f\xbf\xbf", R R R R R R R, 7},
    {"\xed\xa0\x80", R R R, 3},                   /* a surrogate */
    {"\xf4\x90\x80\x80\xf5\x80", R R R R R R, 6}, /* above U+10FFFF */
    {"\xff"
     "a\xe2"
     "b\xe2\x82"
     "c",
     R "a" R "b" R "c", 6},
    {R, R, 1},
};

static void test_validity(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *valid;
        struct sw_points points;
        assert_int_equal(sw_utf8_valid(cases[i].text, &valid), SW_OK);
        assert_string_equal(valid, cases[i].valid);
        assert_int_equal(sw_utf8_decode(cases[i].text, &points), SW_OK);
        assert_int_equal(points.n, cases[i].points);
        assert_int_equal(points.at[points.n], 0);
        free(valid);
        free(points.at);
    }
}

static void test_code_points(void **state)
{
    (void)state;
    static const uint32_t expected[] = {'a', 0xe9, 0x20ac, 0x1f600, 'z'};
    struct sw_points points;
    assert_int_equal(sw_utf8_decode(cases[2].text, &points), SW_OK);
    assert_memory_equal(points.at, expected, sizeof expected);
    free(points.at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_validity),
                                       cmocka_unit_test(test_code_points)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
