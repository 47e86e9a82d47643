/* A section of a config file into a struct. */
#include "harness/config/bind_section.h"

#include <stdlib.h>
#include <string.h>

#include "core/nearest.h"

enum sw_status sw_section_defaults(const struct sw_section *section, char *base)
{
    for (const struct sw_option *o = section->options; o->param.name; o++) {
        void *to = base + o->param.offset;
        const char *initial = o->param.initial;
        if (o->form == SW_OPTION_SECTION)
            SW_TRY(sw_section_defaults(o->section, base));
        if (!initial)
            continue;
        if (o->form == SW_OPTION_VALUE)
            SW_TRY(sw_param_set(&o->param, base, initial));
        if (o->form == SW_OPTION_SEED)
            *(uint64_t *)to = strtoull(initial, NULL, 10);
        if (o->form == SW_OPTION_SET)
            *(unsigned *)to = *initial ? sw_option_all(o) : 0;
    }
    return SW_OK;
}

static void unknown_key(const struct sw_place *at, const struct sw_section *section)
{
    const char *key = at->node->key;
    char hint[SW_HINT_SIZE];
    struct sw_nearest nearest = sw_nearest_begin(key);
    for (const struct sw_option *o = section->options; o->param.name; o++)
        sw_nearest_offer(&nearest, o->param.name);
    if (nearest.name) {
        SW_PROBLEM(at, "unknown key%s", sw_nearest_hint(&nearest, hint));
        return;
    }
    for (int i = 0; sw_sections[i]; i++)
        if (sw_option_find(sw_sections[i], key)) {
            SW_PROBLEM(at, "unknown key; it belongs %s%s", i == 0 ? "at the top level" : "in ",
                       i == 0 ? "" : sw_sections[i]->name);
            return;
        }
    SW_PROBLEM(at, "unknown key; `swbench help config` lists them");
}

/* Whether workloads of a kind have this option. */
static bool applies(const struct sw_option *option, int kind)
{
    return kind == SW_NO_KIND || !option->kinds || option->kinds & 1u << kind;
}

static enum sw_status bind_option(const struct sw_place *at, const struct sw_option *option,
                                  char *base)
{
    switch (option->form) {
    case SW_OPTION_SECTION:
        return sw_bind_section(at, option->section, base, SW_NO_KIND);
    case SW_OPTION_WORKLOADS:
        return sw_bind_workloads(at, (struct sw_config *)(void *)base);
    case SW_OPTION_METHODS:
        return sw_bind_methods(at, (struct sw_config *)(void *)base);
    case SW_OPTION_METHOD:
    case SW_OPTION_PARAMS:
        return SW_OK; /* bind_method reads them */
    default:
        return sw_bind_value(at, option, base);
    }
}

static void check_required(const struct sw_place *at, const struct sw_section *section, int kind)
{
    for (const struct sw_option *o = section->options; o->param.name; o++) {
        char expected[SW_EXPECTED_SIZE];
        if (!o->required || !applies(o, kind) || sw_yaml_get(at->node, o->param.name))
            continue;
        const struct sw_place place = sw_place_member(at, o->param.name, at->node);
        SW_PROBLEM(&place, "missing, expected %s",
                   sw_option_expected(o, expected, sizeof expected));
    }
}

enum sw_status sw_bind_section(const struct sw_place *at, const struct sw_section *section,
                               char *base, int kind)
{
    if (at->node->kind != SW_YAML_MAP) {
        sw_unexpected(at, "a mapping");
        return SW_OK;
    }
    int count = at->node->count;
    for (int turn = 0; turn < 2 * count; turn++) { /* twice: methods last, they need the budget */
        const struct sw_yaml *value = at->node->items[turn % count];
        const struct sw_place place = sw_place_member(at, value->key, value);
        const struct sw_option *o = sw_option_find(section, value->key);
        if ((o && o->form == SW_OPTION_METHODS) != (turn >= count))
            continue;
        if (!o)
            unknown_key(&place, section);
        else if (!applies(o, kind))
            SW_PROBLEM(&place, "workloads of kind %s have no such key",
                       sw_workload_kind_names[kind]);
        else
            SW_TRY(bind_option(&place, o, base));
    }
    check_required(at, section, kind);
    return SW_OK;
}
