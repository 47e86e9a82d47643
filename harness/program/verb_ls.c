/* swbench ls: what this build can do on this machine, one line each. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/model/model.h"
#include "core/nearest.h"
#include "harness/config/options.h"
#include "harness/inputs/dataset_check.h"
#include "harness/program/cli.h"
#include "harness/report/table.h"
#include "kernels/open.h"

static enum sw_status ls_methods(struct sw_table *table)
{
    static const char *const titles[] = {"method", "prefill", "decode", "native budget",
                                         "what it does"};
    table->columns = 5;
    table->titles = titles;
    for (int i = 0; sw_methods[i]; i++) {
        const struct sw_method *m = sw_methods[i];
        SW_TRY(sw_table_add(table, "%s", m->name));
        SW_TRY(sw_table_add(table, "%s", m->flags & SW_METHOD_PREFILL ? "yes" : "no"));
        SW_TRY(sw_table_add(table, "%s", m->flags & SW_METHOD_DECODE ? "yes" : "no"));
        SW_TRY(sw_table_add(table, "%s",
                            m->flags & SW_METHOD_DENSE    ? "-"
                            : m->flags & SW_METHOD_NATIVE ? "yes"
                                                          : "no"));
        SW_TRY(sw_table_add(table, "%s", m->summary));
    }
    return SW_OK;
}

static enum sw_status ls_shapes(struct sw_table *table)
{
    static const char *const titles[] = {"shape",    "layers",      "heads", "KV heads",
                                         "head_dim", "max context", "source"};
    table->columns = 7;
    table->titles = titles;
    table->right = "lrrrrrl";
    for (const struct sw_named_shape *s = sw_shapes; s->name; s++) {
        SW_TRY(sw_table_add(table, "%s", s->name));
        SW_TRY(sw_table_add(table, "%d", s->shape.n_layers));
        SW_TRY(sw_table_add(table, "%d", s->shape.n_heads));
        SW_TRY(sw_table_add(table, "%d", s->shape.n_kv_heads));
        SW_TRY(sw_table_add(table, "%d", s->shape.head_dim));
        SW_TRY(sw_table_add(table, "%d", s->max_context));
        SW_TRY(sw_table_add(table, "%s", s->source));
    }
    return SW_OK;
}

static enum sw_status ls_backends(struct sw_table *table)
{
    static const char *const titles[] = {"backend", "state"};
    table->columns = 2;
    table->titles = titles;
    for (int i = 0; sw_backend_names[i]; i++) {
        char state[512];
        SW_TRY(sw_table_add(table, "%s", sw_backend_names[i]));
        SW_TRY(
            sw_table_add(table, "%s", sw_backend_state(sw_backend_names[i], state, sizeof state)));
    }
    return SW_OK;
}

/* --- found in folders ------------------------------------------------------------------------- */

static int visible(const struct dirent *entry) { return entry->d_name[0] != '.'; }
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Calls `add` for every entry of `folder`, in the order of names. No such folder is no entry. */
static enum sw_status each_entry(const char *folder,
                                 enum sw_status (*add)(struct sw_table *, const char *path,
                                                       const char *name),
                                 struct sw_table *table)
{
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, visible, by_name);
    enum sw_status st = SW_OK;
    for (int i = 0; i < n; i++) {
        char *path = NULL;
        if (st == SW_OK && asprintf(&path, "%s/%s", folder, entries[i]->d_name) < 0) {
            path = NULL;
            st = SW_FAIL(SW_ENOMEM, "no memory to list %s", folder);
        }
        if (st == SW_OK)
            st = add(table, path, entries[i]->d_name);
        free(path);
        free(entries[i]);
    }
    free(entries);
    return st;
}

/* The same under datasets/PART and $SWBENCH_DATASETS/PART. */
static enum sw_status each_in_datasets(const char *part,
                                       enum sw_status (*add)(struct sw_table *, const char *path,
                                                             const char *name),
                                       struct sw_table *table)
{
    const char *elsewhere = getenv("SWBENCH_DATASETS");
    char folder[4096];
    snprintf(folder, sizeof folder, "datasets/%s", part);
    SW_TRY(each_entry(folder, add, table));
    if (!elsewhere || !*elsewhere || strcmp(elsewhere, "datasets") == 0)
        return SW_OK;
    snprintf(folder, sizeof folder, "%s/%s", elsewhere, part);
    return each_entry(folder, add, table);
}

static enum sw_status add_model(struct sw_table *table, const char *path, const char *name)
{
    struct stat about;
    struct sw_model_config c;
    if (stat(path, &about) != 0 || !S_ISDIR(about.st_mode))
        return SW_OK;
    enum sw_status st = sw_model_config_read(path, NULL, &c);
    SW_TRY(sw_table_add(table, "%s", name));
    if (st == SW_EINPUT || st == SW_EUNSUPPORTED) {
        for (int i = 0; i < 6; i++)
            SW_TRY(sw_table_add(table, "%s", ""));
        st = sw_table_add(table, "unusable: %s", sw_error_message());
        sw_error_clear();
        return st;
    }
    SW_TRY(st);
    SW_TRY(sw_table_add(table, "%s", c.type));
    SW_TRY(sw_table_add(table, "%d", c.shape.n_layers));
    SW_TRY(sw_table_add(table, "%d", c.shape.n_heads));
    SW_TRY(sw_table_add(table, "%d", c.shape.n_kv_heads));
    SW_TRY(sw_table_add(table, "%d", c.shape.head_dim));
    SW_TRY(sw_table_add(table, "%d", c.max_context));
    return sw_table_add(table, "%s", path);
}

static enum sw_status ls_models(struct sw_table *table)
{
    static const char *const titles[] = {"model",    "type",     "layers",      "heads",
                                         "KV heads", "head_dim", "max context", "folder"};
    table->columns = 8;
    table->titles = titles;
    table->right = "llrrrrrl";
    SW_TRY(each_in_datasets("models", add_model, table));
    if (table->count == 0)
        fprintf(stderr, "swbench: no models here; `python datasets/import_model.py` makes them\n");
    return SW_OK;
}

/* One prepared file: TASK-CONTEXT-sSEED-nSAMPLES.h5. */
static enum sw_status add_dataset(struct sw_table *table, const char *path, const char *name)
{
    struct sw_dataset_info info;
    size_t n = strlen(name);
    if (n < 4 || strcmp(name + n - 3, ".h5") != 0)
        return SW_OK;
    enum sw_status st = sw_dataset_describe(path, &info);
    SW_TRY(sw_table_add(table, "%.*s", (int)strcspn(name, "-"), name));
    if (st == SW_EINPUT) {
        for (int i = 0; i < 3; i++)
            SW_TRY(sw_table_add(table, "%s", ""));
        st = sw_table_add(table, "unusable: %s", sw_error_message());
        sw_error_clear();
        return st;
    }
    SW_TRY(st);
    SW_TRY(sw_table_add(table, "%d", info.context));
    SW_TRY(sw_table_add(table, "%d", info.samples));
    SW_TRY(sw_table_add(table, "%s", info.scorer ? info.scorer->name : "ppl"));
    return sw_table_add(table, "%s", path);
}

static enum sw_status add_prepared_model(struct sw_table *table, const char *path, const char *name)
{
    (void)name;
    return each_entry(path, add_dataset, table);
}

static enum sw_status ls_tasks(struct sw_table *table)
{
    static const char *const titles[] = {"task", "context", "samples", "score", "dataset"};
    table->columns = 5;
    table->titles = titles;
    table->right = "lrrll";
    SW_TRY(each_in_datasets("prepared", add_prepared_model, table));
    if (table->count == 0)
        fprintf(stderr, "swbench: no prepared tasks here; `python datasets/prepare.py CONFIG` "
                        "makes those of a config\n");
    return SW_OK;
}

/* --- verb ------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum sw_status (*list)(struct sw_table *table);
} topics[] = {
    {"methods", ls_methods}, {"models", ls_models},     {"tasks", ls_tasks},
    {"shapes", ls_shapes},   {"backends", ls_backends},
};

static enum sw_status list(const char *topic)
{
    enum { TOPICS = sizeof topics / sizeof topics[0] };
    struct sw_nearest nearest = sw_nearest_begin(topic);
    char shown[80], hint[SW_HINT_SIZE];
    for (int i = 0; i < TOPICS; i++) {
        sw_nearest_offer(&nearest, topics[i].name);
        if (strcmp(topics[i].name, topic) != 0)
            continue;
        struct sw_table table = {0};
        enum sw_status st = topics[i].list(&table);
        if (st == SW_OK && table.count > 0)
            st = sw_table_print(&table, stdout);
        sw_table_free(&table);
        return st;
    }
    return SW_FAIL(SW_EINPUT, "ls: found %s, expected methods, models, tasks, shapes or backends%s",
                   sw_quote(topic, shown, sizeof shown), sw_nearest_hint(&nearest, hint));
}

int sw_verb_ls(int argc, char **argv)
{
    struct sw_cli cli;
    enum sw_status st = sw_cli_parse(argc, argv, 1, 1, &cli);
    if (st == SW_OK)
        st = list(cli.positional[0]);
    return sw_cli_exit(st);
}
