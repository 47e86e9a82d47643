/* From the tree of a config file to struct sw_config, by the tables of options.c. Every function
 * here reports what it dislikes as a problem and goes on, so that one run shows them all; only
 * running out of memory stops it. */
#include "harness/config/config.h"

#include <stdlib.h>
#include <string.h>

#include "core/nearest.h"
#include "harness/config/options.h"
#include "harness/config/yaml_tree.h"

enum { PATH_SIZE = 200, FOUND_SIZE = 80, EXPECTED_SIZE = 256, LONGEST_TEXT = 1000 };
#define CONTROLS \
    "\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20\21\22\23\24\25\26\27\30\31\32\33\34\35\36\37\177"

static enum sw_status no_memory(void) { return SW_FAIL(SW_ENOMEM, "no memory for the config"); }

static void unexpected(struct sw_problems *problems, const struct sw_yaml *node, const char *path,
                       const char *expected)
{
    char found[FOUND_SIZE];
    sw_problem(problems, node, path, "found %s, expected %s",
               sw_yaml_found(node, found, sizeof found), expected);
}

static void join(char path[PATH_SIZE], const char *parent, const char *key)
{
    snprintf(path, PATH_SIZE, "%s%s%.60s", parent, *parent ? "." : "", key);
    for (char *p = path; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127)
            *p = '?';
}

/* --- single values ---------------------------------------------------------------------------- */

/* One scalar into a parameter. *accepted: false when a problem was written. */
static enum sw_status bind_scalar(struct sw_problems *problems, const struct sw_yaml *node,
                                  const char *path, const struct sw_param *param, void *base,
                                  bool *accepted)
{
    char expected[EXPECTED_SIZE];
    *accepted = false;
    bool text = param->type == SW_PARAM_TEXT || param->type == SW_PARAM_CHOICE;
    if (node->kind != SW_YAML_SCALAR || sw_yaml_is_null(node) || *node->text == '\0' ||
        (node->quoted && !text)) {
        sw_param_expected(param, expected, sizeof expected);
        if (node->kind == SW_YAML_SCALAR && node->quoted && !text)
            snprintf(expected + strlen(expected), sizeof expected - strlen(expected),
                     " without quotes");
        unexpected(problems, node, path, expected);
        return SW_OK;
    }
    if (strlen(node->text) > LONGEST_TEXT || node->text[strcspn(node->text, CONTROLS)] != '\0') {
        unexpected(problems, node, path, "one line of at most 1000 bytes");
        return SW_OK;
    }
    enum sw_status st = sw_param_set(param, base, node->text);
    if (st == SW_EINPUT) {
        sw_problem(problems, node, path, "%s", sw_error_message());
        sw_error_clear();
        return SW_OK;
    }
    *accepted = st == SW_OK;
    return st;
}

static void bind_seed(struct sw_problems *problems, const struct sw_yaml *node, const char *path,
                      const struct sw_option *option, uint64_t *out)
{
    char expected[EXPECTED_SIZE];
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
        unexpected(problems, node, path, sw_option_expected(option, expected, sizeof expected));
}

/* --- lists of values -------------------------------------------------------------------------- */

/* A scalar counts as a list of one. 0 with a problem written when there is nothing to take. */
static int list_count(struct sw_problems *problems, const struct sw_yaml *node, const char *path,
                      const char *expected)
{
    if (node->kind == SW_YAML_SCALAR)
        return 1;
    if (node->kind == SW_YAML_LIST && node->count > 0)
        return node->count;
    if (node->kind == SW_YAML_LIST)
        sw_problem(problems, node, path, "found an empty list, expected %s", expected);
    else
        unexpected(problems, node, path, expected);
    return 0;
}

static const struct sw_yaml *list_item(const struct sw_yaml *node, int i)
{
    return node->kind == SW_YAML_LIST ? node->items[i] : node;
}

/* Every value of a list into `texts`, in the one spelling that sw_param_text gives it, so that
 * twins are found. scratch: where param points. */
static enum sw_status bind_list(struct sw_problems *problems, const struct sw_yaml *node,
                                const char *path, const struct sw_param *param, void *scratch,
                                struct sw_texts *texts)
{
    char expected[EXPECTED_SIZE];
    int count =
        list_count(problems, node, path, sw_param_expected(param, expected, sizeof expected));
    for (int i = 0; i < count; i++) {
        char text[LONGEST_TEXT + 1];
        bool accepted;
        const struct sw_yaml *item = list_item(node, i);
        SW_TRY(bind_scalar(problems, item, path, param, scratch, &accepted));
        if (!accepted)
            continue;
        sw_param_text(param, scratch, text, sizeof text);
        if (sw_texts_have(texts, text)) {
            char quoted[FOUND_SIZE];
            sw_problem(problems, item, path, "%s is there twice",
                       sw_quote(text, quoted, sizeof quoted));
            continue;
        }
        SW_TRY(sw_texts_add(texts, text));
    }
    return SW_OK;
}

static enum sw_status bind_axis(struct sw_problems *problems, const struct sw_yaml *node,
                                const char *path, const struct sw_option *option, char *base)
{
    struct sw_texts texts = {0};
    struct sw_param one = option->param;
    one.offset = 0;
    double scratch[1] = {0}; /* room for an int or a double */
    size_t size = one.type == SW_PARAM_REAL ? sizeof(double) : sizeof(int);
    enum sw_status st = bind_list(problems, node, path, &one, scratch, &texts);
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

static enum sw_status bind_names(struct sw_problems *problems, const struct sw_yaml *node,
                                 const char *path, const struct sw_option *option,
                                 struct sw_texts *out)
{
    char expected[EXPECTED_SIZE];
    int count =
        list_count(problems, node, path, sw_option_expected(option, expected, sizeof expected));
    for (int i = 0; i < count; i++) {
        const struct sw_yaml *item = list_item(node, i);
        if (item->kind != SW_YAML_SCALAR || sw_yaml_is_null(item) || !sw_is_file_name(item->text))
            unexpected(problems, item, path, "a name that can be a part of a file name");
        else if (sw_texts_have(out, item->text))
            sw_problem(problems, item, path, "'%s' is there twice", item->text);
        else
            SW_TRY(sw_texts_add(out, item->text));
    }
    return SW_OK;
}

static void bind_set(struct sw_problems *problems, const struct sw_yaml *node, const char *path,
                     const struct sw_option *option, unsigned *out)
{
    char expected[EXPECTED_SIZE];
    sw_option_expected(option, expected, sizeof expected);
    struct sw_param choice = option->param;
    choice.type = SW_PARAM_CHOICE;
    choice.offset = 0;
    *out = 0;
    if (node->kind == SW_YAML_LIST && node->count == 0)
        return; /* [] is none */
    int count = list_count(problems, node, path, expected);
    for (int i = 0; i < count; i++) {
        const struct sw_yaml *item = list_item(node, i);
        int index = 0;
        if (item->kind != SW_YAML_SCALAR || sw_param_set(&choice, &index, item->text) != SW_OK) {
            unexpected(problems, item, path, expected);
            sw_error_clear();
        } else if (*out & 1u << index) {
            sw_problem(problems, item, path, "'%s' is there twice", item->text);
        } else {
            *out |= 1u << index;
        }
    }
}

/* The search for what a node's text may have been meant to be. */
static struct sw_nearest nearest_to(const struct sw_yaml *node)
{
    return sw_nearest_begin(node->kind == SW_YAML_SCALAR ? node->text : NULL);
}

/* " a, b, c": name i of a list. */
static void add_name(char list[EXPECTED_SIZE], int i, const char *name)
{
    size_t used = strlen(list);
    snprintf(list + used, EXPECTED_SIZE - used, "%s %s", i ? "," : "", name);
}

static void bind_shape(struct sw_problems *problems, const struct sw_yaml *node, const char *path,
                       const struct sw_named_shape **out)
{
    *out = node->kind == SW_YAML_SCALAR ? sw_shape_find(node->text) : NULL;
    if (*out)
        return;
    char found[FOUND_SIZE], expected[EXPECTED_SIZE] = "", hint[SW_HINT_SIZE];
    struct sw_nearest nearest = nearest_to(node);
    for (int i = 0; sw_shapes[i].name; i++) {
        add_name(expected, i, sw_shapes[i].name);
        sw_nearest_offer(&nearest, sw_shapes[i].name);
    }
    sw_problem(problems, node, path, "found %s, expected a shape:%s%s",
               sw_yaml_found(node, found, sizeof found), expected, sw_nearest_hint(&nearest, hint));
}

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

static void unknown_key(struct sw_problems *problems, const struct sw_yaml *node, const char *path,
                        const struct sw_section *section)
{
    char hint[SW_HINT_SIZE];
    struct sw_nearest nearest = sw_nearest_begin(node->key);
    for (const struct sw_option *o = section->options; o->param.name; o++)
        sw_nearest_offer(&nearest, o->param.name);
    if (nearest.name) {
        sw_problem(problems, node, path, "unknown key%s", sw_nearest_hint(&nearest, hint));
        return;
    }
    for (int i = 0; sw_sections[i]; i++)
        if (sw_option_find(sw_sections[i], node->key)) {
            sw_problem(problems, node, path, "unknown key; it belongs %s%s",
                       i == 0 ? "at the top level" : "in ", i == 0 ? "" : sw_sections[i]->name);
            return;
        }
    sw_problem(problems, node, path, "unknown key; `swbench help config` lists them");
}

static enum sw_status bind_workloads(struct sw_problems *problems, const struct sw_yaml *node,
                                     const char *path, struct sw_config *config);
static enum sw_status bind_methods(struct sw_problems *problems, const struct sw_yaml *node,
                                   const char *path, struct sw_config *config);

/* Fills the struct at base from a mapping. kind: of a workload, or -1. */
static enum sw_status bind_section(struct sw_problems *problems, const struct sw_yaml *node,
                                   const char *path, const struct sw_section *section, char *base,
                                   int kind)
{
    if (node->kind != SW_YAML_MAP) {
        unexpected(problems, node, path, "a mapping");
        return SW_OK;
    }
    for (int i = 0; i < node->count; i++) {
        const struct sw_yaml *value = node->items[i];
        char at[PATH_SIZE];
        bool accepted;
        join(at, path, value->key);
        const struct sw_option *o = sw_option_find(section, value->key);
        if (!o) {
            unknown_key(problems, value, at, section);
            continue;
        }
        if (kind >= 0 && o->kinds && !(o->kinds & 1u << kind)) {
            sw_problem(problems, value, at, "workloads of kind %s have no such key",
                       sw_workload_kind_names[kind]);
            continue;
        }
        void *to = base + o->param.offset;
        switch (o->form) {
        case SW_OPTION_VALUE:
            SW_TRY(bind_scalar(problems, value, at, &o->param, base, &accepted));
            break;
        case SW_OPTION_SEED:
            bind_seed(problems, value, at, o, to);
            break;
        case SW_OPTION_AXIS:
            SW_TRY(bind_axis(problems, value, at, o, base));
            break;
        case SW_OPTION_NAMES:
            SW_TRY(bind_names(problems, value, at, o, to));
            break;
        case SW_OPTION_SET:
            bind_set(problems, value, at, o, to);
            break;
        case SW_OPTION_SHAPE:
            bind_shape(problems, value, at, to);
            break;
        case SW_OPTION_SECTION:
            SW_TRY(bind_section(problems, value, at, o->section, base, -1));
            break;
        case SW_OPTION_WORKLOADS:
            SW_TRY(bind_workloads(problems, value, at, (struct sw_config *)base));
            break;
        case SW_OPTION_METHODS:
            SW_TRY(bind_methods(problems, value, at, (struct sw_config *)base));
            break;
        case SW_OPTION_METHOD:
        case SW_OPTION_PARAMS:
            break; /* bind_method reads them */
        }
    }
    for (const struct sw_option *o = section->options; o->param.name; o++)
        if (o->required && (kind < 0 || !o->kinds || o->kinds & 1u << kind) &&
            !sw_yaml_get(node, o->param.name)) {
            char at[PATH_SIZE], expected[EXPECTED_SIZE];
            join(at, path, o->param.name);
            sw_problem(problems, node, at, "missing, expected %s",
                       sw_option_expected(o, expected, sizeof expected));
        }
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

static enum sw_status bind_workload(struct sw_problems *problems, const struct sw_yaml *node,
                                    const char *path, struct sw_workload *workload)
{
    workload->line = node->line;
    const struct sw_yaml *kind = sw_yaml_get(node, "kind");
    if (node->kind == SW_YAML_MAP && (!kind || kind->kind != SW_YAML_SCALAR)) {
        sw_problem(problems, node, path, "no kind, expected kind: task, tensors or synthetic");
        return SW_OK;
    }
    bool accepted = true;
    char at[PATH_SIZE];
    join(at, path, "kind");
    if (kind)
        SW_TRY(bind_scalar(problems, kind, at, &sw_option_find(&sw_workload_section, "kind")->param,
                           workload, &accepted));
    if (!accepted)
        return SW_OK; /* without the kind, the other keys cannot be judged */
    SW_TRY(bind_section(problems, node, path, &sw_workload_section, (char *)workload,
                        (int)workload->kind));
    SW_TRY(tidy_path(&workload->model));
    if (workload->kind == SW_WORKLOAD_TASK && workload->recovery_samples > workload->samples) {
        const struct sw_yaml *given = sw_yaml_get(node, "recovery_samples");
        if (given) {
            join(at, path, "recovery_samples");
            sw_problem(problems, given, at, "found %d, expected at most samples (%d)",
                       workload->recovery_samples, workload->samples);
        } else {
            workload->recovery_samples = workload->samples;
        }
    }
    return SW_OK;
}

static enum sw_status bind_workloads(struct sw_problems *problems, const struct sw_yaml *node,
                                     const char *path, struct sw_config *config)
{
    if (node->kind != SW_YAML_LIST || node->count == 0) {
        unexpected(problems, node, path, "a list of at least one workload");
        return SW_OK;
    }
    config->workloads = calloc((size_t)node->count, sizeof *config->workloads);
    if (!config->workloads)
        return no_memory();
    for (int i = 0; i < node->count; i++) {
        char at[PATH_SIZE];
        snprintf(at, sizeof at, "%.100s[%d]", path, i);
        struct sw_workload *workload = &config->workloads[config->n_workloads++];
        SW_TRY(section_defaults(&sw_workload_section, (char *)workload));
        SW_TRY(bind_workload(problems, node->items[i], at, workload));
    }
    return SW_OK;
}

/* --- methods ---------------------------------------------------------------------------------- */

static void unknown_method(struct sw_problems *problems, const struct sw_yaml *node,
                           const char *path)
{
    char found[FOUND_SIZE], expected[EXPECTED_SIZE] = "", hint[SW_HINT_SIZE];
    struct sw_nearest nearest = nearest_to(node);
    for (int i = 0; sw_methods[i]; i++) {
        add_name(expected, i, sw_methods[i]->name);
        sw_nearest_offer(&nearest, sw_methods[i]->name);
    }
    sw_problem(problems, node, path, "found %s, expected a method:%s%s",
               sw_yaml_found(node, found, sizeof found), expected, sw_nearest_hint(&nearest, hint));
}

static void unknown_param(struct sw_problems *problems, const struct sw_yaml *node,
                          const char *path, const struct sw_method *method)
{
    char hint[SW_HINT_SIZE];
    struct sw_nearest nearest = sw_nearest_begin(node->key);
    for (const struct sw_param *p = method->params; p->name; p++)
        sw_nearest_offer(&nearest, p->name);
    if (nearest.name)
        sw_problem(problems, node, path, "unknown key%s", sw_nearest_hint(&nearest, hint));
    else
        sw_problem(problems, node, path, "unknown key; `swbench help %s` lists them", method->name);
}

/* scratch: a parameter struct of the method, holding its defaults. */
static enum sw_status bind_params(struct sw_problems *problems, const struct sw_yaml *node,
                                  const char *path, struct sw_method_config *mc, void *scratch)
{
    const struct sw_param *table = mc->method->params;
    if (node && node->kind != SW_YAML_MAP) {
        unexpected(problems, node, path, "a mapping of parameters");
        node = NULL;
    }
    for (int i = 0; table[i].name; i++) { /* before any value of the file comes into scratch */
        char text[LONGEST_TEXT + 1];
        if (!node || !sw_yaml_get(node, table[i].name))
            SW_TRY(
                sw_texts_add(&mc->values[i], sw_param_text(&table[i], scratch, text, sizeof text)));
    }
    for (int i = 0; node && i < node->count; i++) {
        const struct sw_yaml *value = node->items[i];
        const struct sw_param *param = sw_param_find(table, value->key);
        char at[PATH_SIZE];
        join(at, path, value->key);
        if (param) {
            SW_TRY(bind_list(problems, value, at, param, scratch, &mc->values[param - table]));
            continue;
        }
        unknown_param(problems, value, at, mc->method);
    }
    return SW_OK;
}

static enum sw_status bind_method(struct sw_problems *problems, const struct sw_yaml *node,
                                  const char *path, struct sw_method_config *mc)
{
    char at[PATH_SIZE];
    mc->line = node->line;
    const struct sw_yaml *name = node, *params = NULL;
    if (node->kind == SW_YAML_MAP) {
        SW_TRY(bind_section(problems, node, path, &sw_method_section, (char *)mc, -1));
        name = sw_yaml_get(node, "name");
        params = sw_yaml_get(node, "params");
        if (!name)
            return SW_OK;
    }
    join(at, path, "name");
    mc->method = name->kind == SW_YAML_SCALAR ? sw_method_find(name->text) : NULL;
    if (!mc->method) {
        unknown_method(problems, name, node->kind == SW_YAML_MAP ? at : path);
        return SW_OK;
    }
    int count = 0;
    while (mc->method->params[count].name)
        count++;
    void *scratch = calloc(1, mc->method->params_size);
    mc->values = calloc((size_t)count + 1, sizeof *mc->values);
    enum sw_status st = scratch && mc->values ? SW_OK : no_memory();
    if (st == SW_OK)
        st = sw_param_defaults(mc->method->params, scratch);
    join(at, path, "params");
    if (st == SW_OK)
        st = bind_params(problems, params, at, mc, scratch);
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

static enum sw_status bind_methods(struct sw_problems *problems, const struct sw_yaml *node,
                                   const char *path, struct sw_config *config)
{
    if (node->kind != SW_YAML_LIST || node->count == 0) {
        unexpected(problems, node, path, "a list of at least one method");
        return SW_OK;
    }
    config->methods = calloc((size_t)node->count, sizeof *config->methods);
    if (!config->methods)
        return no_memory();
    for (int i = 0; i < node->count; i++) {
        char at[PATH_SIZE];
        snprintf(at, sizeof at, "%.100s[%d]", path, i);
        SW_TRY(bind_method(problems, node->items[i], at, &config->methods[config->n_methods++]));
        for (int j = 0; j < i; j++)
            if (methods_meet(&config->methods[j], &config->methods[i])) {
                sw_problem(problems, node->items[i], at,
                           "the same method with the same parameters as methods[%d]", j);
                break;
            }
    }
    return SW_OK;
}

/* --- whole config ----------------------------------------------------------------------------- */

/* What no single key shows. */
static enum sw_status check_whole(struct sw_problems *problems, const struct sw_yaml *root,
                                  struct sw_config *config)
{
    bool needs_context = false, needs_density = false;
    for (int i = 0; i < config->n_methods; i++)
        needs_density |=
            config->methods[i].method && !(config->methods[i].method->flags & SW_METHOD_DENSE);
    bool all_have_density = config->n_workloads > 0;
    for (int i = 0; i < config->n_workloads; i++) {
        const struct sw_workload *w = &config->workloads[i];
        needs_context |= w->kind != SW_WORKLOAD_TENSORS && w->n_contexts == 0;
        all_have_density &= w->n_densities > 0;
    }
    needs_density &= !all_have_density;
    const struct sw_yaml *axes = sw_yaml_get(root, "axes");
    if (axes && axes->kind != SW_YAML_MAP)
        needs_context = needs_density = false; /* its own problem is written */
    if (needs_context && !sw_yaml_get(axes, "context"))
        sw_problem(problems, axes ? axes : root, "axes.context",
                   "missing, expected an integer 1…%d, or a list of these", 1 << 24);
    if (needs_density && config->budget != SW_BUDGET_NATIVE && !sw_yaml_get(axes, "density"))
        sw_problem(problems, axes ? axes : root, "axes.density",
                   "missing, expected a number in (0, 1], or a list of these");
    if (config->name && !sw_is_file_name(config->name)) {
        const struct sw_yaml *name = sw_yaml_get(root, "name");
        unexpected(problems, name ? name : root, "name",
                   "a file name of at most 100 bytes, without '/', not starting with '.' or '-'");
    }
    if (config->n_phases == 0 && !sw_yaml_get(axes, "phase")) {
        if (!(config->phases = calloc(1, sizeof *config->phases)))
            return no_memory();
        config->phases[0] = SW_PHASE_PREFILL;
        config->n_phases = 1;
    }
    return SW_OK;
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
        unexpected(problems, *out, "", "a config (`swbench help config`)");
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
        st = section_defaults(&sw_config_section, (char *)config);
    if (st == SW_OK)
        st = bind_section(problems, tree, "", &sw_config_section, (char *)config, -1);
    if (st == SW_OK)
        st = check_whole(problems, tree, config);
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
