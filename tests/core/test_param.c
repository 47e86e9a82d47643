/* Parameter tables: what is accepted, what is refused and how that is said, and that texts read
 * back to the same values. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/param.h"

struct sample {
    int count, block, choice, any;
    double share, wide;
    bool flag;
    char *text, *place;
};

static const struct sw_param table[] = {
    {.name = "count",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct sample, count),
     .initial = "3",
     .min = 0,
     .max = 4096},
    {.name = "block_size",
     .type = SW_PARAM_INT,
     .offset = offsetof(struct sample, block),
     .initial = "64",
     .min = 16,
     .max = 256,
     .power_of_two = true},
    {.name = "any", .type = SW_PARAM_INT, .offset = offsetof(struct sample, any), .initial = "-7"},
    {.name = "share",
     .type = SW_PARAM_REAL,
     .offset = offsetof(struct sample, share),
     .initial = "0.2",
     .min = 0,
     .max = 1,
     .min_open = true},
    {.name = "wide",
     .type = SW_PARAM_REAL,
     .offset = offsetof(struct sample, wide),
     .initial = "1e-3",
     .min = -DBL_MAX,
     .max = DBL_MAX},
    {.name = "flag",
     .type = SW_PARAM_BOOL,
     .offset = offsetof(struct sample, flag),
     .initial = "true"},
    {.name = "variant",
     .type = SW_PARAM_CHOICE,
     .offset = offsetof(struct sample, choice),
     .initial = "icml",
     .choices = "arxiv|icml|arx"},
    {.name = "text", .type = SW_PARAM_TEXT, .offset = offsetof(struct sample, text), .initial = ""},
    {.name = "place",
     .type = SW_PARAM_TEXT,
     .offset = offsetof(struct sample, place),
     .initial = "cpu",
     .choices = "cpu|cuda"},
    SW_PARAM_END,
};

static void accept(struct sample *s, const char *name, const char *text)
{
    if (sw_param_set(sw_param_find(table, name), s, text) != SW_OK)
        fail_msg("%s = '%s' refused: %s", name, text, sw_error_message());
}

static void refuse(const char *name, const char *text, const char *message)
{
    struct sample s = {0};
    assert_int_equal(sw_param_set(sw_param_find(table, name), &s, text), SW_EINPUT);
    if (message)
        assert_string_equal(sw_error_message(), message);
    assert_null(s.text);
    sw_error_clear();
}

static void defaults_are_set(void **state)
{
    (void)state;
    struct sample s = {0};
    assert_int_equal(sw_param_defaults(table, &s), SW_OK);
    assert_int_equal(s.count, 3);
    assert_int_equal(s.block, 64);
    assert_int_equal(s.any, -7);
    assert_true(s.share == 0.2 && s.wide == 1e-3 && s.flag);
    assert_int_equal(s.choice, 1);
    assert_null(s.text);
    assert_string_equal(s.place, "cpu");
    /* again, over what is there: nothing leaks */
    assert_int_equal(sw_param_defaults(table, &s), SW_OK);
    sw_param_free(table, &s);
    assert_null(s.place);
}

static void good_values_are_taken(void **state)
{
    (void)state;
    struct sample s = {0};
    accept(&s, "count", "0");
    accept(&s, "count", "4096");
    assert_int_equal(s.count, 4096);
    accept(&s, "any", "-2147483648");
    assert_int_equal(s.any, INT32_MIN);
    accept(&s, "block_size", "256");
    accept(&s, "share", "1");
    accept(&s, "share", "1e-9");
    accept(&s, "share", ".5");
    assert_true(s.share == 0.5);
    accept(&s, "wide", "-0");
    assert_false(signbit(s.wide));
    accept(&s, "variant", "arx");
    assert_int_equal(s.choice, 2);
    accept(&s, "text", "one");
    accept(&s, "text", "two");
    assert_string_equal(s.text, "two");
    accept(&s, "text", "");
    assert_null(s.text);
    accept(&s, "place", "cuda");
    sw_param_free(table, &s);
}

static void bad_values_are_refused(void **state)
{
    (void)state;
    static const char *const ints[] = {"",
                                       " 3",
                                       "3 ",
                                       "+3",
                                       "007",
                                       "3.0",
                                       "1e3",
                                       "0x10",
                                       "--3",
                                       "-",
                                       "4097",
                                       "-1",
                                       "99999999999999999999",
                                       "nan"};
    static const char *const reals[] = {"",       "nan", "inf",  "-inf",      "infinity",
                                        "0x1p-2", "0",   "-0.1", "1.0000001", "1e400",
                                        "0.5 ",   "1e",  "."};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        refuse("count", ints[i], NULL);
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        refuse("share", reals[i], NULL);
    refuse("count", "x", "found 'x', expected an integer 0…4096");
    refuse("count", "", "found nothing, expected an integer 0…4096");
    refuse("block_size", "48", "found '48', expected a power of two 16…256");
    refuse("share", "2", "found '2', expected a number in (0, 1]");
    refuse("flag", "yes", "found 'yes', expected true|false");
    refuse("variant", "ar", "found 'ar', expected arxiv|icml|arx");
    refuse("variant", "arxiv|icml", NULL);
    refuse("variant", "", NULL);
    refuse("place", "gpu", "found 'gpu', expected cpu|cuda");
    refuse("any", "2147483648", "found '2147483648', expected an integer");
}

static void texts_read_back(void **state)
{
    (void)state;
    static const double values[] = {0.1,     1.0 / 3, 100,    1e-5, 123456789.125,       -2.5e-300,
                                    DBL_MAX, DBL_MIN, 5e-324, 1e15, 0.30000000000000004, 60000};
    struct sample s = {0};
    const struct sw_param *wide = sw_param_find(table, "wide");
    char text[400];
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        s.wide = values[i];
        sw_param_text(wide, &s, text, sizeof text);
        s.wide = 0;
        accept(&s, "wide", text);
        assert_true(s.wide == values[i]);
    }
    s.wide = 100;
    assert_string_equal(sw_param_text(wide, &s, text, sizeof text), "100");
    s.wide = 0.1;
    assert_string_equal(sw_param_text(wide, &s, text, sizeof text), "0.1");
    /* every type: default → text → value → text */
    for (const struct sw_param *p = table; p->name; p++) {
        char again[400];
        assert_int_equal(sw_param_set(p, &s, p->initial), SW_OK);
        sw_param_text(p, &s, text, sizeof text);
        assert_int_equal(sw_param_set(p, &s, text), SW_OK);
        assert_string_equal(sw_param_text(p, &s, again, sizeof again), text);
    }
    sw_param_free(table, &s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_set),
        cmocka_unit_test(good_values_are_taken),
        cmocka_unit_test(bad_values_are_refused),
        cmocka_unit_test(texts_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
