/* bind_value.h: one value, or a list of values, of a config file into the field that its option
 * names. What a function dislikes it reports as a problem; only running out of memory fails. */
#ifndef SW_BIND_VALUE_H
#define SW_BIND_VALUE_H

#include "harness/config/options.h"
#include "harness/config/yaml_tree.h"

enum { SW_PATH_SIZE = 200, SW_FOUND_SIZE = 80, SW_EXPECTED_SIZE = 256, SW_VALUE_MAX = 1000 };

/* A node of the file and what it is called in messages, "methods[1].params.block_size". */
struct sw_place {
    struct sw_problems *problems;
    const struct sw_yaml *node;
    char path[SW_PATH_SIZE];
};

/* The place of another node of the same file: member `key` of `at`, item i of it, or `at` itself.
 */
struct sw_place sw_place_member(const struct sw_place *at, const char *key,
                                const struct sw_yaml *node);
struct sw_place sw_place_item(const struct sw_place *at, int i, const struct sw_yaml *node);
struct sw_place sw_place_same(const struct sw_place *at, const struct sw_yaml *node);

/* Writes a problem at a place; format and arguments follow. */
#define SW_PROBLEM(at, ...) sw_problem((at)->problems, (at)->node, (at)->path, __VA_ARGS__)
/* "found X, expected EXPECTED" */
void sw_unexpected(const struct sw_place *at, const char *expected);
/* "found X, expected EXPECTED: a, b, c", with the nearest of the names */
void sw_unexpected_name(const struct sw_place *at, const char *expected, const char *const *names,
                        int n);

/* A scalar into a parameter. *accepted: false when a problem was written. */
SW_MUST_CHECK enum sw_status sw_bind_scalar(const struct sw_place *at, const struct sw_param *param,
                                            void *base, bool *accepted);
/* Every value of a list (a scalar counts as one) into `texts`, in the one spelling that
 * sw_param_text gives it, so that equal values are found. scratch: where param points. */
SW_MUST_CHECK enum sw_status sw_bind_list(const struct sw_place *at, const struct sw_param *param,
                                          void *scratch, struct sw_texts *texts);
/* Any option that is a value or a list of values, into the struct at base. */
SW_MUST_CHECK enum sw_status sw_bind_value(const struct sw_place *at,
                                           const struct sw_option *option, char *base);

#endif
