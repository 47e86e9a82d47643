/* Reads, writes and looks up calibrated thresholds. */
#include "harness/plan/calibration.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sw_calibration {
    json_t *root;
};

/* What an entry must have, with its JSON type as people call it. */
static const struct {
    const char *key, *type;
} members[] = {
    {"model", "a text"},       {"task", "a text"},
    {"context", "an integer"}, {"dense_layers", "an integer"},
    {"method", "a text"},      {"params", "an object"},
    {"density", "a number"},   {"parameter", "a text"},
    {"value", "a number"},
};

static bool is(const json_t *value, const char *type)
{
    return strcmp(type, "a text") == 0       ? json_is_string(value)
           : strcmp(type, "an integer") == 0 ? json_is_integer(value)
           : strcmp(type, "a number") == 0   ? json_is_number(value)
                                             : json_is_object(value);
}

static enum sw_status check(const char *path, json_t *root)
{
    const char *format = json_string_value(json_object_get(root, "format"));
    json_t *entries = json_object_get(root, "entries"), *entry;
    size_t i;
    if (!format || strcmp(format, "swbench-calibration") != 0 ||
        json_integer_value(json_object_get(root, "version")) != 1)
        return SW_FAIL(SW_EINPUT,
                       "%s: found no format \"swbench-calibration\" of version 1, expected a file "
                       "that 'swbench calibrate' wrote",
                       path);
    if (!json_is_array(entries))
        return SW_FAIL(SW_EINPUT, "%s: entries: expected a list", path);
    json_array_foreach(
        entries, i,
        entry) for (size_t m = 0; m < sizeof members / sizeof *members;
                    m++) if (!is(json_object_get(entry, members[m].key),
                                 members[m]
                                     .type)) return SW_FAIL(SW_EINPUT,
                                                            "%s: entries[%zu].%s: expected %s",
                                                            path, i, members[m].key,
                                                            members[m].type);
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
    enum sw_status st = check(path, root);
    struct sw_calibration *c = st == SW_OK ? calloc(1, sizeof *c) : NULL;
    if (st == SW_OK && !c)
        st = SW_FAIL(SW_ENOMEM, "%s: out of host memory", path);
    if (st != SW_OK) {
        json_decref(root);
        return st;
    }
    c->root = root;
    *out = c;
    return SW_OK;
}

void sw_calibration_free(struct sw_calibration *c)
{
    if (!c)
        return;
    json_decref(c->root);
    free(c);
}

/* The cell's parameters but for the threshold itself. NULL when out of memory. */
static json_t *other_params(const struct sw_cell *cell)
{
    json_t *params = json_loads(cell->params_json, 0, NULL);
    if (params)
        json_object_del(params, cell->method->threshold);
    return params;
}

static bool same_text(const json_t *entry, const char *key, const char *text)
{
    return strcmp(json_string_value(json_object_get(entry, key)), text) == 0;
}

static bool same_int(const json_t *entry, const char *key, int value)
{
    return json_integer_value(json_object_get(entry, key)) == value;
}

bool sw_calibration_find(const struct sw_calibration *c, const struct sw_cell *cell, double *value)
{
    json_t *entry, *params = other_params(cell);
    size_t i;
    bool found = false;
    json_array_foreach(json_object_get(c->root, "entries"), i, entry)
    {
        if (found || !same_text(entry, "model", sw_cell_model(cell)) ||
            !same_text(entry, "task", sw_cell_task(cell)) ||
            !same_text(entry, "method", cell->method->name) ||
            !same_text(entry, "parameter", cell->method->threshold) ||
            !same_int(entry, "context", cell->context) ||
            !same_int(entry, "dense_layers", cell->dense_layers) ||
            fabs(json_number_value(json_object_get(entry, "density")) - cell->density) > 1e-12 ||
            !json_equal(json_object_get(entry, "params"), params))
            continue;
        *value = json_number_value(json_object_get(entry, "value"));
        found = true;
    }
    json_decref(params);
    return found;
}

static json_t *entry_of(const struct sw_calibrated *found)
{
    const struct sw_cell *cell = found->cell;
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:s, s:o, s:f, s:s, s:f, s:f, s:i}", "workload",
                     sw_cell_workload(cell), "model", sw_cell_model(cell), "task",
                     sw_cell_task(cell), "context", cell->context, "dense_layers",
                     cell->dense_layers, "method", cell->method->name, "params", other_params(cell),
                     "density", cell->density, "parameter", cell->method->threshold, "value",
                     found->value, "achieved", found->achieved, "prompts", found->prompts);
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
    char *text = whole && root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    enum sw_status st =
        text ? replace(path, text) : SW_FAIL(SW_ENOMEM, "%s: out of host memory", path);
    free(text);
    return st;
}
