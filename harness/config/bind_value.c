/* One value, or a list of values, of a config file into the field that its option names. */
#include "harness/config/bind_value.h"

#include <stdlib.h>
#include <string.h>

#include "core/nearest.h"

#define CONTROLS \
    "\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20\21\22\23\24\25\26\27\30\31\32\33\34\35\36\37\177"

static enum sw_status no_memory(void) { return SW_FAIL(SW_ENOMEM, "no memory for the config"); }

/* --- places ----------------------------------------------------------------------------------- */

struct sw_place sw_place_same(const struct sw_place *at, const struct sw_yaml *node)
{
    struct sw_place place = *at;
    place.node = node;
    return place;
}

struct sw_place sw_place_member(const struct sw_place *at, const char *key,
                                const struct sw_yaml *node)
{
    struct sw_place place = {.problems = at->problems, .node = node};
    snprintf(place.path, sizeof place.path, "%s%s%.60s", at->path, *at->path ? "." : "", key);
    for (char *p = place.path; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127)
            *p = '?';
    return place;
}

struct sw_place sw_place_item(const struct sw_place *at, int i, const struct sw_yaml *node)
{
    struct sw_place place = {.problems = at->problems, .node = node};
    snprintf(place.path, sizeof place.path, "%.100s[%d]", at->path, i);
    return place;
}

void sw_unexpected(const struct sw_place *at, const char *expected)
{
    char found[SW_FOUND_SIZE];
    SW_PROBLEM(at, "found %s, expected %s", sw_yaml_found(at->node, found, sizeof found), expected);
}

void sw_unexpected_name(const struct sw_place *at, const char *expected, const char *const *names,
                        int n)
{
    char found[SW_FOUND_SIZE], list[SW_EXPECTED_SIZE] = "", hint[SW_HINT_SIZE];
    bool text = at->node->kind == SW_YAML_SCALAR;
    struct sw_nearest nearest = sw_nearest_begin(text ? at->node->text : NULL);
    for (int i = 0; i < n; i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s %s", i ? "," : "", names[i]);
        sw_nearest_offer(&nearest, names[i]);
    }
    SW_PROBLEM(at, "found %s, expected %s:%s%s", sw_yaml_found(at->node, found, sizeof found),
               expected, list, sw_nearest_hint(&nearest, hint));
}

/* --- single values ---------------------------------------------------------------------------- */

enum sw_status sw_bind_scalar(const struct sw_place *at, const struct sw_param *param, void *base,
                              bool *accepted)
{
    const struct sw_yaml *node = at->node;
    char expected[SW_EXPECTED_SIZE];
    *accepted = false;
    bool text = param->type == SW_PARAM_TEXT || param->type == SW_PARAM_CHOICE;
    if (node->kind != SW_YAML_SCALAR || sw_yaml_is_null(node) || *node->text == '\0' ||
        (node->quoted && !text)) {
        sw_param_expected(param, expected, sizeof expected);
        if (node->kind == SW_YAML_SCALAR && node->quoted && !text)
            snprintf(expected + strlen(expected), sizeof expected - strlen(expected),
                     " without quotes");
        sw_unexpected(at, expected);
        return SW_OK;
    }
    if (strlen(node->text) > SW_VALUE_MAX || node->text[strcspn(node->text, CONTROLS)] != '\0') {
        sw_unexpected(at, "one line of at most 1000 bytes");
        return SW_OK;
    }
    enum sw_status st = sw_param_set(param, base, node->text);
    if (st == SW_EINPUT) {
        SW_PROBLEM(at, "%s", sw_error_message());
        sw_error_clear();
        return SW_OK;
    }
    *accepted = st == SW_OK;
    return st;
}

static void bind_seed(const struct sw_place *at, const struct sw_option *option, uint64_t *out)
{
    const struct sw_yaml *node = at->node;
    char expected[SW_EXPECTED_SIZE];
    uint64_t value = 0;
    bool good = node->kind == SW_YAML_SCALAR && !node->quoted && *node->text;
    for (const char *p = good ? node->text : ""; *p && good; p++) {
        uint64_t digit = (uint64_t)(unsigned char)*p - '0';
        good = digit <= 9 && value <= ((uint64_t)INT64_MAX - digit) / 10 &&
               (p == node->text || node->text[0] != '0');
        value = good ? 10 * value + digit : 0;
    }
    if (good)
        *out = value;
    else
        sw_unexpected(at, sw_option_expected(option, expected, sizeof expected));
}

/* --- lists of values -------------------------------------------------------------------------- */

/* A scalar counts as a list of one. 0 with a problem written when there is nothing to take. */
static int list_count(const struct sw_place *at, const char *expected)
{
    const struct sw_yaml *node = at->node;
    if (node->kind == SW_YAML_SCALAR)
        return 1;
    if (node->kind == SW_YAML_LIST && node->count > 0)
        return node->count;
    if (node->kind == SW_YAML_LIST)
        SW_PROBLEM(at, "found an empty list, expected %s", expected);
    else
        sw_unexpected(at, expected);
    return 0;
}

static const struct sw_yaml *list_item(const struct sw_yaml *node, int i)
{
    return node->kind == SW_YAML_LIST ? node->items[i] : node;
}

enum sw_status sw_bind_list(const struct sw_place *at, const struct sw_param *param, void *scratch,
                            struct sw_texts *texts)
{
    char expected[SW_EXPECTED_SIZE];
    int count = list_count(at, sw_param_expected(param, expected, sizeof expected));
    for (int i = 0; i < count; i++) {
        char text[SW_VALUE_MAX + 1];
        bool accepted;
        const struct sw_yaml *item = list_item(at->node, i);
        const struct sw_place item_at = sw_place_same(at, item);
        SW_TRY(sw_bind_scalar(&item_at, param, scratch, &accepted));
        if (!accepted)
            continue;
        sw_param_text(param, scratch, text, sizeof text);
        if (sw_texts_have(texts, text)) {
            char quoted[SW_FOUND_SIZE];
            SW_PROBLEM(&item_at, "%s is there twice", sw_quote(text, quoted, sizeof quoted));
            continue;
        }
        SW_TRY(sw_texts_add(texts, text));
    }
    return SW_OK;
}

static enum sw_status bind_axis(const struct sw_place *at, const struct sw_option *option,
                                char *base)
{
    struct sw_texts texts = {0};
    struct sw_param one = option->param;
    one.offset = 0;
    double scratch[1] = {0}; /* room for an int or a double */
    size_t size = one.type == SW_PARAM_REAL ? sizeof(double) : sizeof(int);
    enum sw_status st = sw_bind_list(at, &one, scratch, &texts);
    char *values = NULL;
    if (st == SW_OK && texts.count > 0 && !(values = calloc((size_t)texts.count, size)))
        st = no_memory();
    for (int i = 0; st == SW_OK && i < texts.count; i++)
        st = sw_param_set(&one, values + (size_t)i * size, texts.items[i]);
    if (st == SW_OK) {
        /* keys do not repeat: it was NULL */
        memcpy(base + option->param.offset, &values, sizeof values);
        memcpy(base + option->count_offset, &texts.count, sizeof texts.count);
    } else {
        free(values);
    }
    sw_texts_clear(&texts);
    return st;
}

static enum sw_status bind_names(const struct sw_place *at, const struct sw_option *option,
                                 struct sw_texts *out)
{
    char expected[SW_EXPECTED_SIZE];
    int count = list_count(at, sw_option_expected(option, expected, sizeof expected));
    for (int i = 0; i < count; i++) {
        const struct sw_yaml *item = list_item(at->node, i);
        const struct sw_place item_at = sw_place_same(at, item);
        if (item->kind != SW_YAML_SCALAR || sw_yaml_is_null(item) || !sw_is_file_name(item->text))
            sw_unexpected(&item_at, "a name that can be a part of a file name");
        else if (sw_texts_have(out, item->text))
            SW_PROBLEM(&item_at, "'%s' is there twice", item->text);
        else
            SW_TRY(sw_texts_add(out, item->text));
    }
    return SW_OK;
}

static void bind_set(const struct sw_place *at, const struct sw_option *option, unsigned *out)
{
    const struct sw_yaml *node = at->node;
    char expected[SW_EXPECTED_SIZE];
    sw_option_expected(option, expected, sizeof expected);
    struct sw_param choice = option->param;
    choice.type = SW_PARAM_CHOICE;
    choice.offset = 0;
    *out = 0;
    if (node->kind == SW_YAML_LIST && node->count == 0)
        return; /* [] is none */
    int count = list_count(at, expected);
    for (int i = 0; i < count; i++) {
        const struct sw_yaml *item = list_item(at->node, i);
        const struct sw_place item_at = sw_place_same(at, item);
        int index = 0;
        if (item->kind != SW_YAML_SCALAR || sw_param_set(&choice, &index, item->text) != SW_OK) {
            sw_unexpected(&item_at, expected);
            sw_error_clear();
        } else if (*out & 1u << index) {
            SW_PROBLEM(&item_at, "'%s' is there twice", item->text);
        } else {
            *out |= 1u << index;
        }
    }
}

static enum sw_status bind_shape(const struct sw_place *at, const struct sw_named_shape **out)
{
    *out = at->node->kind == SW_YAML_SCALAR ? sw_shape_find(at->node->text) : NULL;
    if (*out)
        return SW_OK;
    int n = 0;
    while (sw_shapes[n].name)
        n++;
    const char **names = calloc((size_t)n, sizeof *names);
    if (!names)
        return no_memory();
    for (int i = 0; i < n; i++)
        names[i] = sw_shapes[i].name;
    sw_unexpected_name(at, "a shape", names, n);
    free(names);
    return SW_OK;
}

enum sw_status sw_bind_value(const struct sw_place *at, const struct sw_option *option, char *base)
{
    void *to = base + option->param.offset;
    bool accepted;
    switch (option->form) {
    case SW_OPTION_VALUE:
        return sw_bind_scalar(at, &option->param, base, &accepted);
    case SW_OPTION_SEED:
        bind_seed(at, option, to);
        return SW_OK;
    case SW_OPTION_AXIS:
        return bind_axis(at, option, base);
    case SW_OPTION_NAMES:
        return bind_names(at, option, to);
    case SW_OPTION_SET:
        bind_set(at, option, to);
        return SW_OK;
    case SW_OPTION_SHAPE:
        return bind_shape(at, to);
    default:
        return SW_FAIL(SW_EINTERNAL, "option %s is no value", option->param.name);
    }
}
