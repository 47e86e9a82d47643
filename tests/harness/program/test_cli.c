/* A verb's command line: flags, values, positionals, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/program/cli.h"

enum { MOST = 8 };

static enum sw_status parse(const char *const *words, struct sw_cli *cli)
{
    char *argv[MOST];
    int argc = 0;
    for (; words[argc]; argc++)
        argv[argc] = (char *)(uintptr_t)words[argc];
    return sw_cli_parse(argc, argv, 1, 2, cli);
}
#define PARSE(cli, ...) parse((const char *const[]){__VA_ARGS__, NULL}, cli)

static void flags_and_positionals(void **state)
{
    (void)state;
    struct sw_cli cli;
    const char *sets[SW_CLI_MAX];
    assert_int_equal(PARSE(&cli, "run", "a.yaml", "--set", "x=1", "-q", "--set=y=2", "--", "-b"),
                     SW_OK);
    assert_int_equal(cli.n_positional, 2);
    assert_string_equal(cli.positional[1], "-b"); /* after --, no flag */
    assert_true(sw_cli_has(&cli, "-q") && !sw_cli_has(&cli, "--fresh"));
    assert_int_equal(sw_cli_values(&cli, "--set", sets), 2);
    assert_string_equal(sets[0], "x=1");
    assert_string_equal(sw_cli_value(&cli, "--set"), "y=2"); /* the last one */
    assert_null(sw_cli_value(&cli, "--output"));
}

static void numbers(void **state)
{
    (void)state;
    struct sw_cli cli;
    int limit;
    assert_int_equal(PARSE(&cli, "run", "a.yaml", "--limit", "3"), SW_OK);
    assert_int_equal(sw_cli_int(&cli, "--limit", 0, 9, -1, &limit), SW_OK);
    assert_int_equal(limit, 3);
    assert_int_equal(sw_cli_int(&cli, "--limit", 0, 2, -1, &limit), SW_EINPUT);
    assert_non_null(strstr(sw_error_message(), "--limit"));
    sw_error_clear();
    assert_int_equal(PARSE(&cli, "run", "a.yaml"), SW_OK);
    assert_int_equal(sw_cli_int(&cli, "--limit", 0, 2, -1, &limit), SW_OK);
    assert_int_equal(limit, -1);
}

static void refused(const char *const *words, const char *message)
{
    struct sw_cli cli;
    assert_int_equal(parse(words, &cli), SW_EINPUT);
    if (!strstr(sw_error_message(), message))
        fail_msg("'%s' does not hold '%s'", sw_error_message(), message);
    sw_error_clear();
}
#define REFUSED(message, ...) refused((const char *const[]){__VA_ARGS__, NULL}, message)

static void what_is_refused(void **state)
{
    (void)state;
    REFUSED("too few arguments", "run");
    REFUSED("too many arguments", "run", "a", "b", "c");
    REFUSED("did you mean '--output'?", "run", "a", "--ouptut", "b");
    REFUSED("unknown flag '--entirely-else'; `swbench help run`", "run", "a", "--entirely-else=1");
    REFUSED("-q takes no value", "run", "a", "-q=1");
    REFUSED("--output expects", "run", "a", "--output");
}

static void exit_codes(void **state)
{
    (void)state;
    assert_int_equal(sw_cli_exit(SW_OK), SW_EXIT_OK);
    assert_int_equal(sw_cli_exit(SW_EINPUT), SW_EXIT_USAGE);
    assert_int_equal(sw_cli_exit(SW_ENOMEM), SW_EXIT_FAILED_CELLS);
    assert_int_equal(sw_cli_exit(SW_EINTERRUPTED), SW_EXIT_INTERRUPTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(flags_and_positionals),
                                       cmocka_unit_test(numbers), cmocka_unit_test(what_is_refused),
                                       cmocka_unit_test(exit_codes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
