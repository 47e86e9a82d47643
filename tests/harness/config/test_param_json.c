/* Parameters as cells store them: as text, and which of them are as they are by themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/config/param_json.h"

struct values {
    int block, kind;
    double share;
    bool flag;
    char *file;
};
#define AT(field) .offset = offsetof(struct values, field)
static const struct sw_param table[] = {
    {.name = "block", .type = SW_PARAM_INT, AT(block), .initial = "64", .native = "128"},
    {.name = "kind", .type = SW_PARAM_CHOICE, AT(kind), .initial = "a", .choices = "a|b"},
    {.name = "share", .type = SW_PARAM_REAL, AT(share), .initial = "0.1", .max = 1},
    {.name = "flag", .type = SW_PARAM_BOOL, AT(flag), .initial = "false"},
    {.name = "file", .type = SW_PARAM_TEXT, AT(file), .initial = ""},
    SW_PARAM_END,
};

static void every_parameter_is_written(void **state)
{
    (void)state;
    struct values v = {0};
    char *text;
    assert_int_equal(sw_param_defaults(table, &v), SW_OK);
    assert_int_equal(sw_param_json(table, &v, &text), SW_OK);
    assert_string_equal(
        text, "{\"block\": 64, \"kind\": \"a\", \"share\": 0.1, \"flag\": false, \"file\": null}");
    free(text);
    assert_int_equal(sw_param_set(&table[4], &v, "say \"a\""), SW_OK);
    assert_int_equal(sw_param_json(table, &v, &text), SW_OK);
    assert_non_null(strstr(text, "\"file\": \"say \\\"a\\\"\"}"));
    free(text);
    sw_param_free(table, &v);
}

static void expect_left(const char *params, bool native, const char *left)
{
    json_t *json = json_loads(params, 0, NULL);
    sw_param_json_drop_unset(table, json, native);
    char *text = json_dumps(json, JSON_COMPACT);
    assert_string_equal(text, left);
    free(text);
    json_decref(json);
}

static void what_nobody_set_is_dropped(void **state)
{
    (void)state;
    const char *defaults = "{\"block\": 64.0, \"kind\": \"a\", \"share\": 1e-1, \"flag\": false, "
                           "\"file\": null}";
    expect_left(defaults, false, "{}");
    expect_left(defaults, true, "{\"block\":64.0}"); /* published is another */
    expect_left("{\"block\": 128, \"share\": 0.1}", true, "{}");
    expect_left("{\"block\": 128, \"kind\": \"b\", \"flag\": true, \"file\": \"\", \"new\": 1}",
                false, "{\"block\":128,\"kind\":\"b\",\"flag\":true,\"new\":1}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_parameter_is_written),
                                       cmocka_unit_test(what_nobody_set_is_dropped)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
