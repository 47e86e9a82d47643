/* YAML as a tree: what is there, on which line, and values that are put into it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/config/yaml_tree.h"

static struct sw_problems none = {.file = "c.yaml"};

static struct sw_yaml *parse(const char *text)
{
    struct sw_yaml *tree;
    assert_int_equal(sw_yaml_parse(text, strlen(text), NULL, &none, &tree), SW_OK);
    return tree;
}

static const char text[] = "a: 1\nlist:\n  - {b: x}\n  - 'null'\nempty:\nmap: {c: ~}\n";

static void what_is_there(void **state)
{
    (void)state;
    struct sw_yaml *tree = parse(text);
    const struct sw_yaml *list = sw_yaml_get(tree, "list");
    char found[80];
    assert_int_equal(tree->count, 4);
    assert_string_equal(sw_yaml_get(tree, "a")->text, "1");
    assert_int_equal(sw_yaml_get(tree, "empty")->line, 5);
    assert_int_equal(list->items[1]->line, 4);
    assert_string_equal(sw_yaml_get(list->items[0], "b")->text, "x");
    assert_null(sw_yaml_get(list, "b"));
    assert_null(sw_yaml_get(tree, "b"));
    assert_true(sw_yaml_is_null(sw_yaml_get(tree, "empty")));
    assert_true(sw_yaml_is_null(sw_yaml_get(sw_yaml_get(tree, "map"), "c")));
    assert_false(sw_yaml_is_null(list->items[1])); /* a text, in quotes */
    assert_string_equal(sw_yaml_found(list, found, sizeof found), "a list");
    assert_string_equal(sw_yaml_found(sw_yaml_get(tree, "empty"), found, sizeof found), "nothing");
    assert_string_equal(sw_yaml_found(sw_yaml_get(tree, "a"), found, sizeof found), "'1'");
    sw_yaml_free(tree);
}

static void put(struct sw_yaml *tree, const char *set)
{
    assert_int_equal(sw_yaml_overlay(tree, set, &none), SW_OK);
}

static void values_are_put_into_it(void **state)
{
    (void)state;
    struct sw_yaml *tree = parse(text);
    put(tree, "a=[2, 3]");
    put(tree, "list.0.b=y=z");
    put(tree, "list[1]=w");
    put(tree, "empty.new.deep=1");
    put(tree, "map.c='='");
    const struct sw_yaml *list = sw_yaml_get(tree, "list");
    assert_string_equal(sw_yaml_get(tree, "a")->items[1]->text, "3");
    assert_string_equal(sw_yaml_get(list->items[0], "b")->text, "y=z");
    assert_string_equal(list->items[1]->text, "w");
    assert_int_equal(list->count, 2);
    const struct sw_yaml *made = sw_yaml_get(sw_yaml_get(tree, "empty"), "new");
    assert_string_equal(sw_yaml_get(made, "deep")->text, "1");
    assert_string_equal(sw_yaml_get(made, "deep")->origin, "empty.new.deep=1");
    assert_string_equal(sw_yaml_get(sw_yaml_get(tree, "map"), "c")->text, "=");
    sw_yaml_free(tree);
}

static void what_cannot_be_put(void **state)
{
    (void)state;
    static const char *const bad[] = {"a",         "=1",       "a.b=1",
                                      "list.2=x",  "list.b=x", "list..b=1",
                                      "list.-1=x", "x=[1",     "x={a: 1, a: 2}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sw_problems problems = {.file = "c.yaml"};
        struct sw_yaml *tree = parse(text);
        if (sw_yaml_overlay(tree, bad[i], &problems) != SW_EINPUT || problems.count == 0)
            fail_msg("%s was put", bad[i]);
        assert_int_equal(tree->count, 4);
        sw_error_clear();
        sw_yaml_free(tree);
    }
}

static void what_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"a: &x 1",
                                      "a: *x",
                                      "a: !t 1",
                                      "--- 1\n--- 2",
                                      "a: 1\na: 2",
                                      "{a: 1}: 2",
                                      "[[[[[[[[[[[[[1]]]]]]]]]]]]]",
                                      "a: [",
                                      "\t- a"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sw_problems problems = {.file = "c.yaml"};
        struct sw_yaml *tree;
        if (sw_yaml_parse(bad[i], strlen(bad[i]), NULL, &problems, &tree) != SW_EINPUT ||
            problems.count == 0 || tree)
            fail_msg("%s was read", bad[i]);
        sw_error_clear();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_there), cmocka_unit_test(values_are_put_into_it),
        cmocka_unit_test(what_cannot_be_put), cmocka_unit_test(what_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
