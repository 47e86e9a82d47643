/* From the tree of a config file to struct sw_config, by the tables of options.c. Every function
 * here reports what it dislikes as a problem and goes on, so that one run shows them all; only
 * running out of memory stops it. */
#include "harness/config/config.h"

#include <stdlib.h>
#include <string.h>

#include "core/nearest.h"
#include "harness/config/bind_value.h"

static enum sw_status no_memory(void) { return SW_FAIL(SW_ENOMEM, "no memory for the config"); }

/* --- sections --------------------------------------------------------------------------------- */

/* Defaults of a section's values; its axes and names stay empty. */
static enum sw_status section_defaults(const struct sw_section *section, char *base)
{
    for (const struct sw_option *o = section->options; o->param.name; o++) {
        void *to = base + o->param.offset;
        const char *initial = o->param.initial;
        if (o->form == SW_OPTION_SECTION)
            SW_TRY(section_defaults(o->section, base));
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

enum { NO_KIND = -1 }; /* of a section that is no workload */

/* Whether workloads of a kind have this option. */
static bool applies(const struct sw_option *option, int kind)
{
    return kind == NO_KIND || !option->kinds || option->kinds & 1u << kind;
}

static enum sw_status bind_workloads(const struct sw_place *at, struct sw_config *config);
static enum sw_status bind_methods(const struct sw_place *at, struct sw_config *config);
static enum sw_status bind_section(const struct sw_place *at, const struct sw_section *section,
                                   char *base, int kind);

static enum sw_status bind_option(const struct sw_place *at, const struct sw_option *option,
                                  char *base)
{
    switch (option->form) {
    case SW_OPTION_SECTION:
        return bind_section(at, option->section, base, NO_KIND);
    case SW_OPTION_WORKLOADS:
        return bind_workloads(at, (struct sw_config *)(void *)base);
    case SW_OPTION_METHODS:
        return bind_methods(at, (struct sw_config *)(void *)base);
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

/* Fills the struct at base from a mapping. kind: of a workload, or NO_KIND. */
static enum sw_status bind_section(const struct sw_place *at, const struct sw_section *section,
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

/* --- workloads -------------------------------------------------------------------------------- */

/* "a/b/" → "a/b" and "b/" → "./b", so that the last part of a path is always what follows the last
 * slash. */
static enum sw_status tidy_path(char **path)
{
    size_t n = *path ? strlen(*path) : 0;
    if (n < 2 || (*path)[n - 1] != '/')
        return SW_OK;
    while (n > 1 && (*path)[n - 1] == '/')
        (*path)[--n] = '\0';
    if (strchr(*path, '/'))
        return SW_OK;
    char *tidy;
    if (asprintf(&tidy, "./%s", *path) < 0)
        return no_memory();
    free(*path);
    *path = tidy;
    return SW_OK;
}

const char *sw_workload_model(const struct sw_workload *w)
{
    if (w->kind == SW_WORKLOAD_SYNTHETIC)
        return w->shape->name;
    const char *path = w->kind == SW_WORKLOAD_TASK ? w->model : w->path;
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* No more prompts can be probed than there are. */
static void limit_recovery_samples(const struct sw_place *at, struct sw_workload *workload)
{
    const struct sw_yaml *given = sw_yaml_get(at->node, "recovery_samples");
    if (workload->kind != SW_WORKLOAD_TASK || workload->recovery_samples <= workload->samples)
        return;
    if (!given) {
        workload->recovery_samples = workload->samples;
        return;
    }
    const struct sw_place place = sw_place_member(at, "recovery_samples", given);
    SW_PROBLEM(&place, "found %d, expected at most samples (%d)", workload->recovery_samples,
               workload->samples);
}

static enum sw_status bind_workload(const struct sw_place *at, struct sw_workload *workload)
{
    workload->line = at->node->line;
    const struct sw_yaml *kind = sw_yaml_get(at->node, "kind");
    if (at->node->kind == SW_YAML_MAP && (!kind || kind->kind != SW_YAML_SCALAR)) {
        SW_PROBLEM(at, "no kind, expected kind: task, tensors or synthetic");
        return SW_OK;
    }
    bool accepted = true;
    if (kind) {
        const struct sw_place place = sw_place_member(at, "kind", kind);
        SW_TRY(sw_bind_scalar(&place, &sw_option_find(&sw_workload_section, "kind")->param,
                              workload, &accepted));
    }
    if (!accepted)
        return SW_OK; /* without the kind, the other keys cannot be checked */
    SW_TRY(bind_section(at, &sw_workload_section, (char *)workload, (int)workload->kind));
    SW_TRY(tidy_path(&workload->model));
    limit_recovery_samples(at, workload);
    return SW_OK;
}

static enum sw_status bind_workloads(const struct sw_place *at, struct sw_config *config)
{
    if (at->node->kind != SW_YAML_LIST || at->node->count == 0) {
        sw_unexpected(at, "a list of at least one workload");
        return SW_OK;
    }
    config->workloads = calloc((size_t)at->node->count, sizeof *config->workloads);
    if (!config->workloads)
        return no_memory();
    for (int i = 0; i < at->node->count; i++) {
        const struct sw_place place = sw_place_item(at, i, at->node->items[i]);
        struct sw_workload *workload = &config->workloads[config->n_workloads++];
        SW_TRY(section_defaults(&sw_workload_section, (char *)workload));
        SW_TRY(bind_workload(&place, workload));
    }
    return SW_OK;
}

/* --- methods ---------------------------------------------------------------------------------- */

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
        SW_TRY(bind_section(at, &sw_method_section, (char *)mc, NO_KIND));
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

static enum sw_status bind_methods(const struct sw_place *at, struct sw_config *config)
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

/* --- whole config ----------------------------------------------------------------------------- */

/* An axis is needed where some workload has none of its own and some method runs along it. */
static void check_axes(const struct sw_place *root, const struct sw_config *config)
{
    bool needs_context = false, needs_density = false, all_have_density = config->n_workloads > 0;
    for (int i = 0; i < config->n_methods; i++)
        needs_density |=
            config->methods[i].method && !(config->methods[i].method->flags & SW_METHOD_DENSE);
    for (int i = 0; i < config->n_workloads; i++) {
        const struct sw_workload *w = &config->workloads[i];
        needs_context |= w->kind != SW_WORKLOAD_TENSORS && w->n_contexts == 0;
        all_have_density &= w->n_densities > 0;
    }
    needs_density &= !all_have_density && config->budget != SW_BUDGET_NATIVE;
    const struct sw_yaml *axes = sw_yaml_get(root->node, "axes");
    if (axes && axes->kind != SW_YAML_MAP)
        return; /* its own problem is written */
    const struct {
        bool needed;
        const char *name;
    } all[] = {{needs_context, "context"}, {needs_density, "density"}};
    const struct sw_place at = sw_place_member(root, "axes", axes ? axes : root->node);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char expected[SW_EXPECTED_SIZE];
        if (!all[i].needed || sw_yaml_get(axes, all[i].name))
            continue;
        const struct sw_place place = sw_place_member(&at, all[i].name, at.node);
        SW_PROBLEM(&place, "missing, expected %s",
                   sw_option_expected(sw_option_find(&sw_axes_section, all[i].name), expected,
                                      sizeof expected));
    }
}

static void check_name(const struct sw_place *root, const struct sw_config *config)
{
    if (!config->name || sw_is_file_name(config->name))
        return;
    const struct sw_yaml *name = sw_yaml_get(root->node, "name");
    const struct sw_place at = sw_place_member(root, "name", name ? name : root->node);
    sw_unexpected(&at,
                  "a file name of at most 100 bytes, without '/', not starting with '.' or '-'");
}

static enum sw_status default_phase(const struct sw_place *root, struct sw_config *config)
{
    if (config->n_phases || sw_yaml_get(sw_yaml_get(root->node, "axes"), "phase"))
        return SW_OK;
    if (!(config->phases = calloc(1, sizeof *config->phases)))
        return no_memory();
    config->phases[0] = SW_PHASE_PREFILL;
    config->n_phases = 1;
    return SW_OK;
}

static enum sw_status bind_config(const struct sw_place *root, struct sw_config *config)
{
    SW_TRY(section_defaults(&sw_config_section, (char *)config));
    SW_TRY(bind_section(root, &sw_config_section, (char *)config, NO_KIND));
    check_axes(root, config);
    check_name(root, config);
    return default_phase(root, config);
}

/* The file's text and the overrides, as provenance. */
static enum sw_status keep_text(struct sw_config *config, const char *text, const char *const *sets,
                                int n_sets)
{
    size_t size = 0;
    FILE *out = open_memstream(&config->text, &size);
    if (!out)
        return no_memory();
    size_t n = strlen(text);
    fprintf(out, "%s%s", text, n > 0 && text[n - 1] != '\n' ? "\n" : "");
    for (int i = 0; i < n_sets; i++)
        fprintf(out, "# --set %s\n", sets[i]);
    bool failed = ferror(out) != 0;
    return fclose(out) != 0 || failed || !config->text ? no_memory() : SW_OK;
}

static enum sw_status read_tree(struct sw_problems *problems, const char *text, size_t size,
                                const char *const *sets, int n_sets, struct sw_yaml **out)
{
    SW_TRY(sw_yaml_parse(text, size, NULL, problems, out));
    if ((*out)->kind != SW_YAML_MAP) {
        const struct sw_place root = {.problems = problems, .node = *out};
        sw_unexpected(&root, "a config (`swbench help config`)");
        return SW_FAIL(SW_EINPUT, "%s: not a config", problems->file);
    }
    for (int i = 0; i < n_sets; i++) {
        enum sw_status st = sw_yaml_overlay(*out, sets[i], problems);
        if (st != SW_OK && st != SW_EINPUT)
            return st;
        if (st == SW_EINPUT)
            sw_error_clear(); /* it is among the problems */
    }
    return SW_OK;
}

static enum sw_status read_config(struct sw_problems *problems, const char *const *sets, int n_sets,
                                  struct sw_config *config)
{
    char *text = NULL;
    size_t size;
    struct sw_yaml *tree = NULL;
    enum sw_status st = sw_yaml_read_text(problems->file, problems, &text, &size);
    if (st == SW_OK)
        st = read_tree(problems, text, size, sets, n_sets, &tree);
    if (st == SW_OK)
        st = bind_config(&(struct sw_place){.problems = problems, .node = tree}, config);
    if (st == SW_OK)
        st = keep_text(config, text, sets, n_sets);
    if (st == SW_OK && problems->count > 0)
        st = SW_FAIL(SW_EINPUT, "%s: %d problem%s", problems->file, problems->count,
                     problems->count == 1 ? "" : "s");
    sw_yaml_free(tree);
    free(text);
    return st;
}

enum sw_status sw_config_read(const char *file, const char *const *sets, int n_sets, FILE *messages,
                              struct sw_config **out)
{
    *out = NULL;
    struct sw_problems problems = {.out = messages, .file = file};
    struct sw_config *config = calloc(1, sizeof *config);
    if (!config || !(config->file = strdup(file))) {
        free(config);
        return no_memory();
    }
    enum sw_status st = read_config(&problems, sets, n_sets, config);
    if (st != SW_OK) {
        sw_config_free(config);
        return st;
    }
    *out = config;
    return SW_OK;
}

static void method_config_clear(struct sw_method_config *mc)
{
    for (int i = 0; mc->method && mc->values && mc->method->params[i].name; i++)
        sw_texts_clear(&mc->values[i]);
    free(mc->values);
}

void sw_config_free(struct sw_config *config)
{
    if (!config)
        return;
    for (int i = 0; i < config->n_workloads; i++) {
        struct sw_workload *w = &config->workloads[i];
        free(w->contexts);
        free(w->densities);
        free(w->phases);
        free(w->model);
        free(w->data);
        free(w->path);
        sw_texts_clear(&w->tasks);
    }
    for (int i = 0; i < config->n_methods; i++)
        method_config_clear(&config->methods[i]);
    free(config->workloads);
    free(config->methods);
    free(config->contexts);
    free(config->densities);
    free(config->phases);
    free(config->file);
    free(config->text);
    free(config->name);
    free(config->backend);
    free(config->output);
    free(config);
}
