/* Workloads of a config file. */
#include <stdlib.h>
#include <string.h>

#include "harness/config/bind_section.h"

static enum sw_status no_memory(void) { return SW_FAIL(SW_ENOMEM, "no memory for the config"); }

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
    SW_TRY(sw_bind_section(at, &sw_workload_section, (char *)workload, (int)workload->kind));
    SW_TRY(tidy_path(&workload->model));
    limit_recovery_samples(at, workload);
    return SW_OK;
}

enum sw_status sw_bind_workloads(const struct sw_place *at, struct sw_config *config)
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
        SW_TRY(sw_section_defaults(&sw_workload_section, (char *)workload));
        SW_TRY(bind_workload(&place, workload));
    }
    return SW_OK;
}
