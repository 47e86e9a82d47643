/* Names that are not valid: which valid one is near, how that is said, and quoting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/nearest.h"

static void edits_are_counted(void **state)
{
    (void)state;
    assert_int_equal(sw_edit_distance("", ""), 0);
    assert_int_equal(sw_edit_distance("abc", ""), 3);
    assert_int_equal(sw_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(sw_edit_distance("onehpo", "onehop"), 1); /* neighbours swapped */
}

static const char *hint_of(const char *wanted)
{
    static const char *const names[] = {"count", "block_size", "variant", "variants"};
    static char hint[SW_HINT_SIZE];
    struct sw_nearest nearest = sw_nearest_begin(wanted);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        sw_nearest_offer(&nearest, names[i]);
    return sw_nearest_hint(&nearest, hint);
}

static void nearest_names(void **state)
{
    (void)state;
    char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_string_equal(hint_of("blocksize"), "; did you mean 'block_size'?");
    assert_string_equal(hint_of("varaint"), "; did you mean 'variant'?");
    assert_string_equal(hint_of("variantz"), "; did you mean 'variant'?"); /* the first of two */
    assert_string_equal(hint_of("variants"), "; did you mean 'variants'?");
    assert_string_equal(hint_of("temperature"), "");
    assert_string_equal(hint_of(longest), "");
    assert_string_equal(hint_of(NULL), "");
}

static void quotes_stay_on_one_line(void **state)
{
    (void)state;
    char text[80], longest[300];
    assert_string_equal(sw_quote("a\nb\x7f", text, sizeof text), "'a?b?'");
    memset(longest, 'y', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_true(strlen(sw_quote(longest, text, sizeof text)) < 64);
    for (size_t i = 0; i + 2 < sizeof longest; i += 2) /* no half characters */
        memcpy(longest + i, "é", 2);
    sw_quote(longest, text, sizeof text);
    assert_int_equal(text[0], '\'');
    assert_memory_equal(text + strlen(text) - 6, "é...'", 6);
    assert_string_equal(sw_quote("abc", text, 4), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edits_are_counted),
        cmocka_unit_test(nearest_names),
        cmocka_unit_test(quotes_stay_on_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
