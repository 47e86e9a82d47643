/* The check of method tables: this build's own table passes; each broken one is refused by one line
 * that names the method and what it lacks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/method.h"

struct sample_params {
    struct sw_method_params common;
    double share;
    int mode;
};
struct sample_state {
    int calls;
};

static enum sw_status begin(struct sw_sequence *seq)
{
    (void)seq;
    return SW_OK;
}

static void end(struct sw_sequence *seq) { (void)seq; }

static enum sw_status select_nothing(struct sw_sequence *seq, const struct sw_layer_input *in,
                                     struct sw_selection *out)
{
    (void)seq, (void)in, (void)out;
    return SW_OK;
}

static enum sw_attend_kernel best_kernel(const void *params)
{
    (void)params;
    return SW_ATTEND_BEST;
}

/* A method that passes, with its parameters where a test may break them. */
struct sample {
    struct sw_param params[4];
    struct sw_method method;
};

static void make(struct sample *s)
{
    *s =
        (struct sample){.params = {SW_METHOD_COMMON_PARAMS,
                                   {.name = "share",
                                    .type = SW_PARAM_REAL,
                                    .offset = offsetof(struct sample_params, share),
                                    .initial = "0.5",
                                    .min = 0,
                                    .max = 1,
                                    .help = "what it keeps"},
                                   {.name = "mode",
                                    .type = SW_PARAM_CHOICE,
                                    .offset = offsetof(struct sample_params, mode),
                                    .initial = "slow",
                                    .choices = "fast|slow",
                                    .help = "how"},
                                   SW_PARAM_END},
                        .method = {.name = "sample",
                                   .summary = "a method for this test",
                                   .source = "this file",
                                   .flags = SW_METHOD_PREFILL | SW_METHOD_DECODE | SW_METHOD_NATIVE,
                                   .params_size = sizeof(struct sample_params),
                                   .state_size = sizeof(struct sample_state),
                                   .threshold = "share",
                                   .begin = begin,
                                   .prefill = select_nothing,
                                   .decode = select_nothing,
                                   .end = end}};
    s->method.params = s->params;
}

static void accept(const struct sample *s)
{
    const struct sw_method *table[] = {&s->method, NULL};
    if (sw_methods_check(table) != SW_OK)
        fail_msg("%s", sw_error_message());
}

static void refuse_table(const struct sw_method *const *table, const char *name, const char *part)
{
    assert_int_equal(sw_methods_check(table), SW_EINTERNAL);
    const char *message = sw_error_message();
    if (!strstr(message, name) || !strstr(message, part) || strchr(message, '\n'))
        fail_msg("'%s' lacks '%s' or '%s', or is more than one line", message, name, part);
    sw_error_clear();
}

static void refuse(const struct sample *s, const char *part)
{
    const struct sw_method *table[] = {&s->method, NULL};
    refuse_table(table, "method sample", part);
}

static void own_table(void **state)
{
    (void)state;
    if (sw_methods_check(sw_methods) != SW_OK)
        fail_msg("%s", sw_error_message());
}

static void names(void **state)
{
    (void)state;
    struct sample one, two;
    make(&one);
    make(&two);
    accept(&one);
    const struct sw_method *table[] = {&one.method, &two.method, NULL};
    refuse_table(table, "method sample", "twice");
    two.method.name = "other";
    assert_int_equal(sw_methods_check(table), SW_OK);
    two.method.name = "Other method";
    refuse_table(table, "number 2", "Other method");
    two.method.name = NULL;
    refuse_table(table, "number 2", "expected a-z");
    one.method.summary = "";
    refuse(&one, "summary");
    make(&one);
    one.method.source = NULL;
    refuse(&one, "source");
}

/* Breaks the sample by one statement, and expects a refusal that says `part`. */
#define BROKEN(part, ...) \
    do {                  \
        struct sample s;  \
        make(&s);         \
        __VA_ARGS__;      \
        refuse(&s, part); \
    } while (0)

static void functions(void **state)
{
    (void)state;
    BROKEN("neither flag", s.method.flags = SW_METHOD_NATIVE);
    BROKEN("no function prefill", s.method.prefill = NULL);
    BROKEN("without a function decode", s.method.decode = NULL);
    BROKEN("without flag DECODE", s.method.flags &= ~(unsigned)SW_METHOD_DECODE);
    BROKEN("begin without end", s.method.end = NULL);
    BROKEN("state_size", s.method.state_size = 0);
    BROKEN("dense_kernel", s.method.dense_kernel = best_kernel);
    BROKEN("flag DENSE", s.method.flags |= SW_METHOD_DENSE);
}

static void parameters(void **state)
{
    (void)state;
    BROKEN("SW_METHOD_COMMON_PARAMS", s.method.params = NULL);
    BROKEN("SW_METHOD_COMMON_PARAMS", s.method.params = s.params + 1);
    BROKEN("SW_METHOD_COMMON_PARAMS", s.params[0].type = SW_PARAM_REAL);
    BROKEN("params_size", s.method.params_size = 0);
    BROKEN("mode lies outside", s.method.params_size = offsetof(struct sample_params, mode));
    BROKEN("share has no help", s.params[1].help = NULL);
    BROKEN("share has no range", s.params[1].max = 0);
    BROKEN("mode has no choices", s.params[2].choices = NULL);
    BROKEN("named share", s.params[2].name = "share");
    BROKEN("expected a name", s.params[2].name = "two words");
    BROKEN("default of 'share'", s.params[1].initial = "1.5");
    BROKEN("native default of 'share'", s.params[1].native = "1.5",
           s.params[1].published = "nowhere");
    BROKEN("where is its native default", s.params[1].native = "0.25");
    BROKEN("default of 'mode'", s.params[2].initial = "middling");
}

static void thresholds(void **state)
{
    (void)state;
    BROKEN("threshold 'width'", s.method.threshold = "width");
    BROKEN("threshold 'mode'", s.method.threshold = "mode");
    BROKEN("without flag NATIVE", s.method.flags &= ~(unsigned)SW_METHOD_NATIVE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_table),  cmocka_unit_test(names),      cmocka_unit_test(functions),
        cmocka_unit_test(parameters), cmocka_unit_test(thresholds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
