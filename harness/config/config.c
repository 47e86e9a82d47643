/* A config file as a whole, from its text to struct sw_config; what no single key shows is checked
 * here. */
#include "harness/config/config.h"

#include <stdlib.h>
#include <string.h>

#include "harness/config/bind_section.h"

static enum sw_status no_memory(void) { return SW_FAIL(SW_ENOMEM, "no memory for the config"); }

const char *sw_workload_model(const struct sw_workload *w)
{
    if (w->kind == SW_WORKLOAD_SYNTHETIC)
        return w->shape->name;
    const char *path = w->kind == SW_WORKLOAD_TASK ? w->model : w->path;
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

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
    SW_TRY(sw_section_defaults(&sw_config_section, (char *)config));
    SW_TRY(sw_bind_section(root, &sw_config_section, (char *)config, SW_NO_KIND));
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
    free(config->calibration);
    free(config);
}
