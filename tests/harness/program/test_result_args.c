/* The command line of the verbs that read results: which argument is the folder, which are metrics,
 * and what a wrong one is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "harness/program/result_args.h"
#include "tests/support/backends.h"

static const char *const formats[] = {"text", "md", "csv", NULL};

/* Words after the verb, as many as there are. */
static enum sw_status parse(struct sw_result_args *out, const char *const *words)
{
    static char text[8][64];
    char *argv[9] = {text[0]};
    int argc = 1;
    strcpy(text[0], "export");
    for (; words[argc - 1]; argc++) {
        snprintf(text[argc], sizeof text[argc], "%s", words[argc - 1]);
        argv[argc] = text[argc];
    }
    return sw_result_args_parse(argc, argv, formats, out);
}
#define PARSE(out, ...) parse(out, (const char *const[]){__VA_ARGS__, NULL})

static void understood(void **state)
{
    (void)state;
    struct sw_result_args args;
    sw_test_ok(PARSE(&args, "results/x"));
    assert_string_equal(args.results, "results/x");
    assert_string_equal(args.format, "text"); /* the first is the default */
    assert_int_equal(args.n_metrics, 0);
    sw_test_ok(PARSE(&args, "--format", "md", "results/x", "--metric", "nll"));
    assert_string_equal(args.format, "md");
    assert_string_equal(args.results, "results/x");
    assert_int_equal(args.n_metrics, 1);
    assert_string_equal(args.metrics[0], "nll");
}

/* --metric A B C, before or after the folder. */
static void several_metrics(void **state)
{
    (void)state;
    struct sw_result_args args;
    sw_test_ok(PARSE(&args, "results/x", "--metric", "nll", "accuracy"));
    assert_string_equal(args.results, "results/x");
    assert_int_equal(args.n_metrics, 2);
    sw_test_ok(PARSE(&args, "--metric", "nll", "accuracy", "results/x"));
    assert_string_equal(args.results, "results/x");
    assert_int_equal(args.n_metrics, 2);
    sw_test_ok(PARSE(&args, "--metric", "nll", "accuracy")); /* a folder may be called so */
    assert_string_equal(args.results, "accuracy");
}

static void refused(enum sw_status st, const char *message)
{
    assert_int_equal(st, SW_EINPUT);
    if (!strstr(sw_error_message(), message))
        fail_msg("'%s' does not hold '%s'", sw_error_message(), message);
    sw_error_clear();
}

static void wrong_ones(void **state)
{
    (void)state;
    struct sw_result_args args;
    refused(PARSE(&args, "results/x", "--format", "pdf"),
            "--format: found 'pdf', expected text|md|csv");
    refused(PARSE(&args, "results/x", "--metric", "acuracy"), "did you mean 'accuracy'?");
    refused(PARSE(&args, "results/x", "results/y"), "expected one result folder");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(understood),
                                       cmocka_unit_test(several_metrics),
                                       cmocka_unit_test(wrong_ones)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
