/* Methods of a config file, with their parameters. */
#include <stdlib.h>
#include <string.h>

#include "core/nearest.h"
#include "harness/config/bind_section.h"

static enum sw_status no_memory(void) { return SW_FAIL(SW_ENOMEM, "no memory for the config"); }

static enum sw_status unknown_method(const struct sw_place *at)
{
    int n = 0;
    while (sw_methods[n])
        n++;
    const char **names = calloc((size_t)n, sizeof *names);
    if (!names)
        return no_memory();
    for (int i = 0; i < n; i++)
        names[i] = sw_methods[i]->name;
    sw_unexpected_name(at, "a method", names, n);
    free(names);
    return SW_OK;
}

static void unknown_param(const struct sw_place *at, const struct sw_method *method)
{
    char hint[SW_HINT_SIZE];
    struct sw_nearest nearest = sw_nearest_begin(at->node->key);
    for (const struct sw_param *p = method->params; p->name; p++)
        sw_nearest_offer(&nearest, p->name);
    if (nearest.name)
        SW_PROBLEM(at, "unknown key%s", sw_nearest_hint(&nearest, hint));
    else
        SW_PROBLEM(at, "unknown key; `swbench help %s` lists them", method->name);
}

/* node: NULL where the config gives none. scratch: a parameter struct of the method, holding its
 * defaults. */
static enum sw_status bind_params(const struct sw_place *at, struct sw_method_config *mc,
                                  void *scratch)
{
    const struct sw_param *table = mc->method->params;
    const struct sw_yaml *node = at->node;
    if (node && node->kind != SW_YAML_MAP) {
        sw_unexpected(at, "a mapping of parameters");
        node = NULL;
    }
    for (int i = 0; table[i].name; i++) { /* before any value of the file comes into scratch */
        char text[SW_VALUE_MAX + 1];
        if (!node || !sw_yaml_get(node, table[i].name))
            SW_TRY(
                sw_texts_add(&mc->values[i], sw_param_text(&table[i], scratch, text, sizeof text)));
    }
    for (int i = 0; node && i < node->count; i++) {
        const struct sw_yaml *value = node->items[i];
        const struct sw_param *param = sw_param_find(table, value->key);
        const struct sw_place place = sw_place_member(at, value->key, value);
        if (param)
            SW_TRY(sw_bind_list(&place, param, scratch, &mc->values[param - table]));
        else
            unknown_param(&place, mc->method);
    }
    return SW_OK;
}

/* native: parameters that are left out have their published values. */
static enum sw_status bind_method(const struct sw_place *at, bool native,
                                  struct sw_method_config *mc)
{
    struct sw_place name = *at, params = sw_place_member(at, "params", NULL);
    mc->line = at->node->line;
    if (at->node->kind == SW_YAML_MAP) {
        SW_TRY(sw_bind_section(at, &sw_method_section, (char *)mc, SW_NO_KIND));
        name = sw_place_member(at, "name", sw_yaml_get(at->node, "name"));
        params.node = sw_yaml_get(at->node, "params");
        if (!name.node)
            return SW_OK;
    }
    mc->method = name.node->kind == SW_YAML_SCALAR ? sw_method_find(name.node->text) : NULL;
    if (!mc->method)
        return unknown_method(&name);
    int count = 0;
    while (mc->method->params[count].name)
        count++;
    void *scratch = calloc(1, mc->method->params_size);
    mc->values = calloc((size_t)count + 1, sizeof *mc->values);
    enum sw_status st = scratch && mc->values ? SW_OK : no_memory();
    if (st == SW_OK)
        st = sw_param_defaults(mc->method->params, scratch);
    if (st == SW_OK && native)
        st = sw_param_native(mc->method->params, scratch);
    if (st == SW_OK)
        st = bind_params(&params, mc, scratch);
    sw_param_free(mc->method->params, scratch);
    free(scratch);
    return st;
}

static bool texts_meet(const struct sw_texts *a, const struct sw_texts *b)
{
    for (int i = 0; i < a->count; i++)
        if (sw_texts_have(b, a->items[i]))
            return true;
    return false;
}

/* Whether two entries have a combination of values in common, which would be one cell twice. */
static bool methods_meet(const struct sw_method_config *a, const struct sw_method_config *b)
{
    if (!a->method || a->method != b->method)
        return false;
    for (int i = 0; a->method->params[i].name; i++)
        if (!texts_meet(&a->values[i], &b->values[i]))
            return false;
    return true;
}

enum sw_status sw_bind_methods(const struct sw_place *at, struct sw_config *config)
{
    if (at->node->kind != SW_YAML_LIST || at->node->count == 0) {
        sw_unexpected(at, "a list of at least one method");
        return SW_OK;
    }
    config->methods = calloc((size_t)at->node->count, sizeof *config->methods);
    if (!config->methods)
        return no_memory();
    for (int i = 0; i < at->node->count; i++) {
        const struct sw_place place = sw_place_item(at, i, at->node->items[i]);
        SW_TRY(bind_method(&place, config->budget == SW_BUDGET_NATIVE,
                           &config->methods[config->n_methods++]));
        for (int j = 0; j < i; j++)
            if (methods_meet(&config->methods[j], &config->methods[i])) {
                SW_PROBLEM(&place, "the same method with the same parameters as methods[%d]", j);
                break;
            }
    }
    return SW_OK;
}
