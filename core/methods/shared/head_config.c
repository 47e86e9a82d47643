/* Reads and checks files that configure each head of each layer. */
#include "core/methods/shared/head_config.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/nearest.h"

enum { FILE_MAX = 16 << 20, SIZE_LARGEST = 1 << 24 };
static const struct sw_head_rule left_out = {SW_HEAD_VERTICAL_SLASH, 1000, 6096};

/* The file as JSON: a regular file of at most FILE_MAX bytes whose root is a list. */
static enum sw_status load(const char *path, json_t **out)
{
    struct stat about;
    json_error_t error;
    char found[80];
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hold us up */
    if (fd < 0)
        return SW_FAIL(SW_EINPUT, "%s: cannot open: %s", path, strerror(errno));
    enum sw_status st = SW_OK;
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode) || about.st_size > FILE_MAX)
        st = SW_FAIL(SW_EINPUT, "%s: found something else, expected a JSON file of at most %d MiB",
                     path, FILE_MAX >> 20);
    else if (!(*out = json_loadfd(fd, JSON_REJECT_DUPLICATES, &error)))
        st = SW_FAIL(SW_EINPUT, "%s:%d: not JSON: %s", path, error.line,
                     sw_quote(error.text, found, sizeof found));
    else if (!json_is_array(*out) || json_array_size(*out) == 0)
        st =
            SW_FAIL(SW_EINPUT, "%s: found other JSON, expected a list with an entry a layer", path);
    close(fd);
    if (st != SW_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return st;
}

/* A place in the file, for messages. */
struct place {
    const char *path;
    size_t layer;
    const char *head; /* as written, between quotes and shortened */
};

static enum sw_status read_size(const struct place *p, const json_t *value, const char *what,
                                int *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > SIZE_LARGEST)
        return SW_FAIL(SW_EINPUT, "%s: layer %zu, head %s: %s is not an integer 0…%d", p->path,
                       p->layer, p->head, what, SIZE_LARGEST);
    *out = (int)json_integer_value(value);
    return SW_OK;
}

static enum sw_status read_rule(const struct place *p, const json_t *value,
                                struct sw_head_rule *out)
{
    static const struct {
        const char *name;
        enum sw_head_pattern pattern;
    } types[] = {{"vertical_and_slash", SW_HEAD_VERTICAL_SLASH},
                 {"block_sparse", SW_HEAD_BLOCK_SPARSE},
                 {"stream_llm", SW_HEAD_A_SHAPE}};
    char found[80];
    const char *type = json_string_value(json_array_get(value, 0));
    if (!type || json_array_size(value) < 3)
        return SW_FAIL(SW_EINPUT,
                       "%s: layer %zu, head %s: expected [type, columns, slashes, score]", p->path,
                       p->layer, p->head);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(type, types[i].name) == 0) {
            out->pattern = types[i].pattern;
            SW_TRY(read_size(p, json_array_get(value, 1), "the second entry", &out->columns));
            return read_size(p, json_array_get(value, 2), "the third entry", &out->slashes);
        }
    return SW_FAIL(SW_EINPUT,
                   "%s: layer %zu, head %s: found type %s, expected vertical_and_slash, "
                   "block_sparse or stream_llm",
                   p->path, p->layer, p->head, sw_quote(type, found, sizeof found));
}

/* A head's number, written as JSON objects' names are. -1: none of this shape's. */
static int head_number(const char *text, int n_heads)
{
    char again[16];
    int head = strlen(text) < 10 ? atoi(text) : -1;
    if (head < 0 || head >= n_heads)
        return -1;
    snprintf(again, sizeof again, "%d", head);
    return strcmp(text, again) == 0 ? head : -1;
}

static enum sw_status read_layer_rules(const char *path, size_t layer, json_t *heads, int n_heads,
                                       struct sw_head_rule *out)
{
    const char *name;
    json_t *value;
    if (!json_is_object(heads))
        return SW_FAIL(
            SW_EINPUT,
            "%s: layer %zu: expected an object {\"head\": [type, columns, slashes, score]}", path,
            layer);
    json_object_foreach(heads, name, value)
    {
        char quoted[80];
        struct sw_head_rule rule;
        struct place place = {path, layer, sw_quote(name, quoted, sizeof quoted)};
        int head = head_number(name, n_heads);
        if (head < 0)
            return SW_FAIL(SW_EINPUT, "%s: layer %zu: found head %s, expected 0…%d", path, layer,
                           quoted, n_heads - 1);
        SW_TRY(read_rule(&place, value, &rule));
        if (out)
            out[head] = rule;
    }
    return SW_OK;
}

enum sw_status sw_head_rules_read(const char *path, const struct sw_shape *shape,
                                  struct sw_head_rule *out)
{
    json_t *root;
    SW_TRY(load(path, &root));
    enum sw_status st = SW_OK;
    for (int i = 0; out && i < shape->n_layers * shape->n_heads; i++)
        out[i] = left_out;
    for (size_t layer = 0;
         st == SW_OK && layer < json_array_size(root) && layer < (size_t)shape->n_layers; layer++)
        st = read_layer_rules(path, layer, json_array_get(root, layer), shape->n_heads,
                              out ? out + layer * (size_t)shape->n_heads : NULL);
    json_decref(root);
    return st;
}

static enum sw_status read_layer_shares(const char *path, size_t layer, const json_t *heads,
                                        int n_heads, double *out)
{
    if (!json_is_array(heads) || json_array_size(heads) != (size_t)n_heads)
        return SW_FAIL(SW_EINPUT, "%s: layer %zu: expected a list of %d numbers, one a head", path,
                       layer, n_heads);
    for (size_t h = 0; h < (size_t)n_heads; h++) {
        const json_t *value = json_array_get(heads, h);
        double share = json_number_value(value);
        if (!json_is_number(value) || !(share >= 0 && share <= 1))
            return SW_FAIL(SW_EINPUT, "%s: layer %zu, head %zu: expected a number in [0, 1]", path,
                           layer, h);
        if (out)
            out[h] = share;
    }
    return SW_OK;
}

enum sw_status sw_head_shares_read(const char *path, const struct sw_shape *shape, double *out)
{
    json_t *root;
    SW_TRY(load(path, &root));
    enum sw_status st = SW_OK;
    if (json_array_size(root) < (size_t)shape->n_layers)
        st = SW_FAIL(SW_EINPUT, "%s: found %zu layers, expected %d", path, json_array_size(root),
                     shape->n_layers);
    for (size_t layer = 0; st == SW_OK && layer < (size_t)shape->n_layers; layer++)
        st = read_layer_shares(path, layer, json_array_get(root, layer), shape->n_heads,
                               out ? out + layer * (size_t)shape->n_heads : NULL);
    json_decref(root);
    return st;
}
