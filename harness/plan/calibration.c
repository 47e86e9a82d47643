/* Reads, writes and looks up calibrated thresholds. */
#include "harness/plan/calibration.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sw_calibration {
    json_t *values; /* by the text of what_for: thresholds */
};

enum { DIGITS = 9 }; /* of the numbers in a file */

/* What an entry must have, with its JSON type as people call it. */
static const struct {
    const char *key, *type;
} members[] = {
    {"model", "a text"},
    {"task", "a text"},
    {"context", "an integer"},
    {"dense_layers", "an integer"},
    {"method", "a text"},
    {"params", "an object"},
    {"density", "a number"},
    {"parameter", "a text"},
    {"value", "a number or a text"},
};

/* What only generated inputs have. An entry without them, of version 0.1, is for all of them. */
static const char *const optional[] = {"layers", "whole_model"};

static bool is(const json_t *value, const char *type)
{
    return strcmp(type, "a text") == 0 ? json_is_string(value)
           : strcmp(type, "a number or a text") == 0
               ? json_is_number(value) || json_is_string(value)
           : strcmp(type, "an integer") == 0 ? json_is_integer(value)
           : strcmp(type, "a number") == 0   ? json_is_number(value)
                                             : json_is_object(value);
}

static enum sw_status check_entry(const char *path, size_t i, const json_t *entry)
{
    for (size_t m = 0; m < sizeof members / sizeof *members; m++)
        if (!is(json_object_get(entry, members[m].key), members[m].type))
            return SW_FAIL(SW_EINPUT, "%s: entries[%zu].%s: expected %s", path, i, members[m].key,
                           members[m].type);
    return SW_OK;
}

static enum sw_status check(const char *path, const json_t *root)
{
    const char *format = json_string_value(json_object_get(root, "format"));
    const json_t *entries = json_object_get(root, "entries");
    if (!format || strcmp(format, "swbench-calibration") != 0 ||
        json_integer_value(json_object_get(root, "version")) != 1)
        return SW_FAIL(SW_EINPUT,
                       "%s: found no format \"swbench-calibration\" of version 1, expected a file "
                       "that 'swbench calibrate' wrote",
                       path);
    if (!json_is_array(entries))
        return SW_FAIL(SW_EINPUT, "%s: entries: expected a list", path);
    for (size_t i = 0; i < json_array_size(entries); i++)
        SW_TRY(check_entry(path, i, json_array_get(entries, i)));
    return SW_OK;
}

/* The members of an entry that say what its threshold is for, as a text: equal for equal members,
 * which are compared with the digits that a file has. NULL when out of memory. */
static char *what_for(const json_t *entry)
{
    json_t *key = json_object();
    for (size_t m = 0; m < sizeof members / sizeof *members; m++)
        if (strcmp(members[m].key, "value") != 0)
            (void)json_object_set(key, members[m].key, json_object_get(entry, members[m].key));
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++)
        (void)json_object_set(key, optional[i], json_object_get(entry, optional[i]));
    char *text = json_dumps(key, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(DIGITS));
    json_decref(key);
    return text;
}

/* Of two entries for the same the first counts. */
static enum sw_status index_entries(const char *path, const json_t *entries, json_t *values)
{
    for (size_t i = 0; i < json_array_size(entries); i++) {
        json_t *entry = json_array_get(entries, i);
        char *key = what_for(entry);
        bool there = key && json_object_get(values, key);
        bool good =
            key && (there || json_object_set(values, key, json_object_get(entry, "value")) == 0);
        free(key);
        if (!good)
            return SW_FAIL(SW_ENOMEM, "%s: out of host memory", path);
    }
    return SW_OK;
}

enum sw_status sw_calibration_read(const char *path, struct sw_calibration **out)
{
    json_error_t error;
    *out = NULL;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return error.line > 0
                   ? SW_FAIL(SW_EINPUT, "%s:%d: %s, expected a file that 'swbench calibrate' wrote",
                             path, error.line, error.text)
                   : SW_FAIL(SW_EINPUT,
                             "%s: cannot be read, expected a file that 'swbench calibrate' wrote",
                             path);
    struct sw_calibration *c = calloc(1, sizeof *c);
    enum sw_status st = check(path, root);
    if (st == SW_OK && (!c || !(c->values = json_object())))
        st = SW_FAIL(SW_ENOMEM, "%s: out of host memory", path);
    if (st == SW_OK)
        st = index_entries(path, json_object_get(root, "entries"), c->values);
    json_decref(root);
    if (st != SW_OK) {
        sw_calibration_free(c);
        return st;
    }
    *out = c;
    return SW_OK;
}

void sw_calibration_free(struct sw_calibration *c)
{
    if (!c)
        return;
    json_decref(c->values);
    free(c);
}

/* The cell's parameters but for those that are found. NULL when out of memory. */
static json_t *other_params(const struct sw_cell *cell)
{
    json_t *params = json_loads(cell->params_json, 0, NULL);
    if (!params || !cell->method->layer_search) {
        if (params && cell->method->threshold)
            (void)json_object_del(params, cell->method->threshold);
        return params;
    }
    struct sw_layer_search search = cell->method->layer_search(cell->params, &cell->shape);
    if (search.layers)
        (void)json_object_del(params, search.layers);
    if (search.sources)
        (void)json_object_del(params, search.sources);
    return params;
}

static json_t *entry_of(const struct sw_calibrated *found)
{
    const struct sw_cell *cell = found->cell;
    json_t *value = found->text ? json_string(found->text) : json_real(found->value);
    json_t *entry = json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:s, s:o, s:f, s:s, s:o, s:f, s:i}", "workload",
        sw_cell_workload(cell), "model", sw_cell_model(cell), "task", sw_cell_task(cell), "context",
        cell->context, "dense_layers", cell->dense_layers, "method", cell->method->name, "params",
        other_params(cell), "density", cell->density, "parameter", found->parameter, "value", value,
        "achieved", found->achieved, "prompts", found->prompts);
    if (cell->workload->kind == SW_WORKLOAD_SYNTHETIC)
        (void)json_object_update_new(entry, json_pack("{s:i, s:b}", "layers", cell->shape.n_layers,
                                                      "whole_model", cell->workload->whole_model));
    return entry;
}

static const json_t *look_up(const struct sw_calibration *c, const json_t *entry)
{
    char *key = what_for(entry);
    const json_t *found = key ? json_object_get(c->values, key) : NULL;
    free(key);
    return found;
}

static char *text_of(const json_t *value)
{
    char number[64];
    if (json_is_string(value))
        return strdup(json_string_value(value));
    snprintf(number, sizeof number, "%.17g", json_number_value(value));
    return strdup(number);
}

char *sw_calibration_find(const struct sw_calibration *c, const struct sw_cell *cell,
                          const char *parameter)
{
    json_t *entry = entry_of(&(struct sw_calibrated){.cell = cell, .parameter = parameter});
    const json_t *found = look_up(c, entry);
    for (size_t i = 0; i < sizeof optional / sizeof *optional && !found; i++)
        json_object_del(entry, optional[i]);
    found = found ? found : look_up(c, entry);
    char *text = found ? text_of(found) : NULL;
    json_decref(entry);
    return text;
}

static enum sw_status write_all(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    bool good = f && fputs(text, f) >= 0 && fflush(f) == 0 && fsync(fileno(f)) == 0;
    int why = errno;
    if (f && fclose(f) != 0 && good) {
        good = false;
        why = errno;
    }
    return good ? SW_OK : SW_FAIL(SW_EINPUT, "%s: cannot be written: %s", path, strerror(why));
}

/* The whole file beside the old one, on the disk, then in its place. text NULL: only to see that it
 * could be done. */
static enum sw_status replace(const char *path, const char *text)
{
    size_t size = strlen(path) + 16;
    char *partial = malloc(size);
    if (!partial)
        return SW_FAIL(SW_ENOMEM, "%s: out of host memory", path);
    snprintf(partial, size, "%s.%ld", path, (long)getpid());
    enum sw_status st = write_all(partial, text ? text : "");
    if (st == SW_OK && text && rename(partial, path) != 0)
        st = SW_FAIL(SW_EINPUT, "%s: cannot be written: %s", path, strerror(errno));
    if (st != SW_OK || !text)
        (void)remove(partial);
    free(partial);
    return st;
}

enum sw_status sw_calibration_writable(const char *path) { return replace(path, NULL); }

enum sw_status sw_calibration_write(const char *path, const struct sw_calibrated *found, int n,
                                    bool held_out)
{
    json_t *entries = json_array();
    for (int i = 0; entries && i < n; i++)
        (void)json_array_append_new(entries, entry_of(&found[i]));
    bool whole = json_array_size(entries) == (size_t)n;
    json_t *root = json_pack("{s:s, s:i, s:b, s:o}", "format", "swbench-calibration", "version", 1,
                             "held_out", held_out, "entries", entries);
    char *text =
        whole && root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(DIGITS)) : NULL;
    json_decref(root);
    enum sw_status st =
        text ? replace(path, text) : SW_FAIL(SW_ENOMEM, "%s: out of host memory", path);
    free(text);
    return st;
}
