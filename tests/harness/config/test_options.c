/* The table of config keys: defaults, names and what messages say is expected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/config/options.h"

static int choices_of(const char *choices)
{
    int n = 1;
    for (; *choices; choices++)
        n += *choices == '|';
    return n;
}

/* "a|b|c" of the table against the names in the order of the enum. */
static void same_words(const char *choices, const char *const *names)
{
    int n = 0;
    for (const char *at = choices; names[n]; n++) {
        size_t length = strcspn(at, "|");
        if (strlen(names[n]) != length || strncmp(names[n], at, length) != 0)
            fail_msg("%s: word %d is not %s", choices, n, names[n]);
        at += length + (at[length] == '|');
    }
    assert_int_equal(n, choices_of(choices));
}

static void choices_are_in_the_order_of_their_enum(void **state)
{
    (void)state;
    const struct {
        const struct sw_section *section;
        const char *key, *const *names;
    } keys[] = {
        {&sw_axes_section, "phase", sw_phase_names},
        {&sw_workload_section, "kind", sw_workload_kind_names},
        {&sw_workload_section, "phase", sw_phase_names},
        {&sw_workload_section, "generator", sw_generator_names},
        {&sw_config_section, "budget", sw_budget_mode_names},
        {&sw_config_section, "measure", sw_measure_names},
        {&sw_config_section, "save", sw_save_names},
        {&sw_config_section, "baseline", sw_baseline_names},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        same_words(sw_option_find(keys[i].section, keys[i].key)->param.choices, keys[i].names);
}

/* Keys are unique, explained, and their defaults are values that they accept. */
static void every_row_is_sound(void **state)
{
    (void)state;
    static union {
        struct sw_config config;
        struct sw_workload workload;
    } base;
    for (int s = 0; sw_sections[s]; s++)
        for (const struct sw_option *o = sw_sections[s]->options; o->param.name; o++) {
            char text[256];
            assert_ptr_equal(sw_option_find(sw_sections[s], o->param.name), o);
            assert_true(o->param.help && *o->param.help);
            assert_true(*sw_option_expected(o, text, sizeof text));
            if (o->form != SW_OPTION_VALUE || !o->param.initial || !*o->param.initial)
                continue;
            if (sw_param_set(&o->param, &base, o->param.initial) != SW_OK)
                fail_msg("%s: %s", o->param.name, sw_error_message());
        }
    free(base.config.backend);
    assert_null(sw_option_find(&sw_config_section, "no_such_key"));
}

static void what_is_expected(void **state)
{
    (void)state;
    char text[256];
    const struct {
        const char *key, *expected;
    } cases[] = {{"seed", "an integer 0…9223372036854775807"},
                 {"measure", "a list of accuracy|recovery|output_error|latency"},
                 {"budget", "matched|calibrated|native"},
                 {"workloads", "a list of workloads"},
                 {"axes", "a mapping"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(
            sw_option_expected(sw_option_find(&sw_config_section, cases[i].key), text, sizeof text),
            cases[i].expected);
    assert_string_equal(
        sw_option_expected(sw_option_find(&sw_axes_section, "density"), text, sizeof text),
        "a number in (0, 1], or a list of these");
    assert_int_equal(sw_option_all(sw_option_find(&sw_config_section, "measure")), 15);
    assert_int_equal(sw_option_all(sw_option_find(&sw_config_section, "save")), 3);
}

static void names_of_files(void **state)
{
    (void)state;
    char longest[102];
    memset(longest, 'a', sizeof longest);
    longest[101] = '\0';
    assert_false(sw_is_file_name(longest));
    longest[100] = '\0';
    assert_true(sw_is_file_name(longest));
    static const char *const good[] = {"a", "ppl_book", "größe", "a.b", "a b"},
                             *const bad[] = {"", ".a", "-a", "a/b", "a\nb", "a\x7f"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(sw_is_file_name(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(sw_is_file_name(bad[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(choices_are_in_the_order_of_their_enum),
                                       cmocka_unit_test(every_row_is_sound),
                                       cmocka_unit_test(what_is_expected),
                                       cmocka_unit_test(names_of_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
