/* Text of models on a terminal: escaped and wrapped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/program/show_text.h"

static void expect(const char *text, int columns, const char *shown)
{
    char *made = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&made, &size);
    assert_non_null(out);
    assert_int_equal(sw_show_text(out, text, "> ", columns), SW_OK);
    fclose(out);
    assert_string_equal(made, shown);
    free(made);
}

static void lines_are_wrapped(void **state)
{
    (void)state;
    expect("", 10, "");
    expect("one two three", 20, "> one two three\n");
    expect("one two three", 9, "> one two \n> three\n"); /* after a blank */
    expect("onetwothree", 4, "> onet\n> woth\n> ree\n"); /* or where there is none */
    expect("a\nb", 10, "> a\\n\n> b\n");
    expect("日本語", 4, "> 日本\n> 語\n"); /* two columns each */
}

static void nothing_reaches_the_terminal_but_what_prints(void **state)
{
    (void)state;
    expect("a\033[31m\\\t\r", 40, "> a\\x1b[31m\\\\\\t\\r\n");
    expect("\xe2\x80\xae"
           "a",
           40, "> \\u{202e}a\n"); /* which would turn the line round */
    expect("\xff"
           "a",
           40,
           "> \xef\xbf\xbd"
           "a\n");
    expect("e\xcc\x81", 1, "> e\xcc\x81\n"); /* a mark stays with its letter */
}

static void the_end_of_a_text(void **state)
{
    (void)state;
    const char *text = "aäb";
    assert_string_equal(sw_text_tail(text, 0), "");
    assert_string_equal(sw_text_tail(text, 2), "äb");
    assert_ptr_equal(sw_text_tail(text, 9), text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_wrapped),
        cmocka_unit_test(nothing_reaches_the_terminal_but_what_prints),
        cmocka_unit_test(the_end_of_a_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
