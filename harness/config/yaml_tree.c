/* A small tree of a YAML document that knows line numbers, from libyaml events. */
#include "harness/config/yaml_tree.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "core/nearest.h"

enum { SHOWN_PROBLEMS = 50 };

/* --- problems --------------------------------------------------------------------------------- */

void sw_problem(struct sw_problems *problems, const struct sw_yaml *node, const char *path,
                const char *fmt, ...)
{
    problems->count++;
    FILE *out = problems->out;
    if (!out || problems->count > SHOWN_PROBLEMS + 1)
        return;
    char quoted[80];
    if (problems->count == SHOWN_PROBLEMS + 1) {
        fprintf(out, "%s: more problems, not shown\n", problems->file);
        return;
    }
    if (node && node->origin)
        fprintf(out, "--set %s: ", sw_quote(node->origin, quoted, sizeof quoted));
    else if (node && node->line > 0)
        fprintf(out, "%s:%d: ", problems->file, node->line);
    else
        fprintf(out, "%s: ", problems->file);
    if (*path)
        fprintf(out, "%s: ", path);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(out, fmt, ap);
    va_end(ap);
    fputc('\n', out);
}

/* --- nodes ------------------------------------------------------------------------------------ */

static struct sw_yaml *node_new(enum sw_yaml_kind kind, int line, const char *origin)
{
    struct sw_yaml *node = calloc(1, sizeof *node);
    if (node) {
        node->kind = kind;
        node->line = line;
        node->origin = origin;
    }
    return node;
}

void sw_yaml_free(struct sw_yaml *node) /* recursion is bounded by SW_YAML_MAX_DEPTH */
{
    if (!node)
        return;
    for (int i = 0; i < node->count; i++)
        sw_yaml_free(node->items[i]);
    free(node->items);
    free(node->key);
    free(node->text);
    free(node);
}

static enum sw_status no_memory(void) { return SW_FAIL(SW_ENOMEM, "no memory for the config"); }

/* Takes item over, also on failure. */
static enum sw_status append(struct sw_yaml *parent, struct sw_yaml *item)
{
    if (parent->count == parent->capacity) {
        int capacity = parent->capacity ? 2 * parent->capacity : 8;
        struct sw_yaml **items = realloc(parent->items, (size_t)capacity * sizeof *items);
        if (!items) {
            sw_yaml_free(item);
            return no_memory();
        }
        parent->items = items;
        parent->capacity = capacity;
    }
    parent->items[parent->count++] = item;
    return SW_OK;
}

static int key_index(const struct sw_yaml *map, const char *key)
{
    for (int i = 0; map->kind == SW_YAML_MAP && i < map->count; i++)
        if (strcmp(map->items[i]->key, key) == 0)
            return i;
    return -1;
}

const struct sw_yaml *sw_yaml_get(const struct sw_yaml *map, const char *key)
{
    int i = map ? key_index(map, key) : -1;
    return i < 0 ? NULL : map->items[i];
}

bool sw_yaml_is_null(const struct sw_yaml *node)
{
    return node->kind == SW_YAML_SCALAR && !node->quoted &&
           (*node->text == '\0' || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0);
}

const char *sw_yaml_found(const struct sw_yaml *node, char *text, size_t size)
{
    if (node->kind != SW_YAML_SCALAR)
        snprintf(text, size, "%s", node->kind == SW_YAML_LIST ? "a list" : "a mapping");
    else if (sw_yaml_is_null(node))
        snprintf(text, size, "nothing");
    else
        sw_quote(node->text, text, size);
    return text;
}

/* --- reading ---------------------------------------------------------------------------------- */

enum sw_status sw_yaml_read_text(const char *file, struct sw_problems *problems, char **text,
                                 size_t *size)
{
    *text = NULL;
    *size = 0;
    FILE *in = fopen(file, "rb");
    if (!in) {
        sw_problem(problems, NULL, "", "cannot open: %s", strerror(errno));
        return SW_FAIL(SW_EINPUT, "%s: cannot open: %s", file, strerror(errno));
    }
    enum sw_status st = SW_OK;
    char *buffer = malloc(SW_YAML_MAX_BYTES + 2);
    size_t used = 0;
    if (!buffer) {
        st = no_memory();
    } else {
        errno = 0;
        used = fread(buffer, 1, SW_YAML_MAX_BYTES + 1, in);
        if (ferror(in)) {
            sw_problem(problems, NULL, "", "cannot read: %s", strerror(errno));
            st = SW_FAIL(SW_EINPUT, "%s: cannot read: %s", file, strerror(errno));
        } else if (used > SW_YAML_MAX_BYTES) {
            sw_problem(problems, NULL, "", "found more than 1 MiB, expected a config");
            st = SW_FAIL(SW_EINPUT, "%s: more than 1 MiB", file);
        }
    }
    fclose(in);
    if (st != SW_OK) {
        free(buffer);
        return st;
    }
    buffer[used] = '\0';
    *text = buffer;
    *size = used;
    return SW_OK;
}

/* The parser's state: the open lists and mappings, and the key that waits for its value. */
struct builder {
    yaml_parser_t parser;
    struct sw_problems *problems;
    const char *origin;
    struct sw_yaml *root;
    struct sw_yaml *open[SW_YAML_MAX_DEPTH];
    int depth, nodes, documents;
    char *key;
    int key_line;
};

static enum sw_status refuse(struct builder *b, int line, const char *what)
{
    struct sw_yaml at = {.line = line, .origin = b->origin};
    sw_problem(b->problems, &at, "", "%s", what);
    return SW_FAIL(SW_EINPUT, "%s:%d: %s", b->problems->file, line, what);
}

static enum sw_status syntax_error(struct builder *b)
{
    const yaml_parser_t *p = &b->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return no_memory();
    char what[256];
    int line = p->error == YAML_READER_ERROR ? 0 : (int)p->problem_mark.line + 1;
    if (p->error == YAML_READER_ERROR)
        snprintf(what, sizeof what, "not YAML text: %s at byte %zu",
                 p->problem ? p->problem : "unreadable", p->problem_offset);
    else
        snprintf(what, sizeof what, "not valid YAML: %s%s%s", p->context ? p->context : "",
                 p->context ? ", " : "", p->problem ? p->problem : "unreadable");
    return refuse(b, line, what);
}

/* Puts a finished scalar or a just opened list or mapping in its place. Takes node over, also on
 * failure. */
static enum sw_status place(struct builder *b, struct sw_yaml *node)
{
    if (++b->nodes > SW_YAML_MAX_NODES) {
        int line = node->line;
        sw_yaml_free(node);
        return refuse(b, line, "found more than 10000 values, expected a config");
    }
    if (b->depth == 0) {
        b->root = node;
        return SW_OK;
    }
    struct sw_yaml *parent = b->open[b->depth - 1];
    if (parent->kind == SW_YAML_MAP) {
        node->key = b->key;
        node->line = b->key_line;
        b->key = NULL;
    }
    return append(parent, node);
}

static enum sw_status take_key(struct builder *b, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    const struct sw_yaml *map = b->open[b->depth - 1];
    b->key_line = (int)event->start_mark.line + 1;
    int twin = key_index(map, text);
    if (twin >= 0) {
        char quoted[80];
        struct sw_yaml at = {.line = b->key_line, .origin = b->origin};
        sw_problem(b->problems, &at, "", "key %s is there twice; first in line %d",
                   sw_quote(text, quoted, sizeof quoted), map->items[twin]->line);
    }
    b->key = strdup(text);
    return b->key ? SW_OK : no_memory();
}

static enum sw_status take_scalar(struct builder *b, const yaml_event_t *event)
{
    int line = (int)event->start_mark.line + 1;
    const char *text = (const char *)event->data.scalar.value;
    if (event->data.scalar.anchor || event->data.scalar.tag)
        return refuse(b, line, "anchors and tags are not accepted here");
    if (strlen(text) != event->data.scalar.length)
        return refuse(b, line, "found a zero byte in a text");
    if (b->depth > 0 && b->open[b->depth - 1]->kind == SW_YAML_MAP && !b->key)
        return take_key(b, event);
    struct sw_yaml *node = node_new(SW_YAML_SCALAR, line, b->origin);
    if (!node || !(node->text = strdup(text))) {
        sw_yaml_free(node);
        return no_memory();
    }
    node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    return place(b, node);
}

static enum sw_status open_container(struct builder *b, enum sw_yaml_kind kind,
                                     const yaml_event_t *event)
{
    int line = (int)event->start_mark.line + 1;
    bool map = kind == SW_YAML_MAP;
    if (map ? event->data.mapping_start.anchor || event->data.mapping_start.tag
            : event->data.sequence_start.anchor || event->data.sequence_start.tag)
        return refuse(b, line, "anchors and tags are not accepted here");
    if (b->depth > 0 && b->open[b->depth - 1]->kind == SW_YAML_MAP && !b->key)
        return refuse(b, line, "found a list or mapping as a key, expected a name");
    if (b->depth == SW_YAML_MAX_DEPTH)
        return refuse(b, line, "found more than 12 levels of nesting, expected a config");
    struct sw_yaml *node = node_new(kind, line, b->origin);
    if (!node)
        return no_memory();
    SW_TRY(place(b, node));
    b->open[b->depth++] = node;
    return SW_OK;
}

static enum sw_status take_event(struct builder *b, const yaml_event_t *event, bool *done)
{
    int line = (int)event->start_mark.line + 1;
    switch (event->type) {
    case YAML_STREAM_END_EVENT:
        *done = true;
        return SW_OK;
    case YAML_DOCUMENT_START_EVENT:
        return ++b->documents > 1 ? refuse(b, line, "found a second document, expected one")
                                  : SW_OK;
    case YAML_ALIAS_EVENT:
        return refuse(b, line, "aliases are not accepted here");
    case YAML_SCALAR_EVENT:
        return take_scalar(b, event);
    case YAML_SEQUENCE_START_EVENT:
        return open_container(b, SW_YAML_LIST, event);
    case YAML_MAPPING_START_EVENT:
        return open_container(b, SW_YAML_MAP, event);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        b->depth--;
        return SW_OK;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return SW_OK;
    }
    return SW_OK;
}

enum sw_status sw_yaml_parse(const char *text, size_t size, const char *origin,
                             struct sw_problems *problems, struct sw_yaml **out)
{
    *out = NULL;
    struct builder b = {.problems = problems, .origin = origin};
    int before = problems->count;
    if (!yaml_parser_initialize(&b.parser))
        return no_memory();
    yaml_parser_set_input_string(&b.parser, (const unsigned char *)text, size);
    enum sw_status st = SW_OK;
    for (bool done = false; st == SW_OK && !done;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&b.parser, &event)) {
            st = syntax_error(&b);
            break;
        }
        st = take_event(&b, &event, &done);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&b.parser);
    if (st == SW_OK && !b.root) {
        b.root = node_new(SW_YAML_SCALAR, 1, origin);
        if (!b.root || !(b.root->text = strdup("")))
            st = no_memory();
    }
    if (st == SW_OK && problems->count > before)
        st = SW_FAIL(SW_EINPUT, "%s: keys are there twice", problems->file);
    free(b.key);
    if (st != SW_OK) {
        sw_yaml_free(b.root);
        return st;
    }
    *out = b.root;
    return SW_OK;
}

/* --- overlays --------------------------------------------------------------------------------- */

static enum sw_status bad_set(struct sw_problems *problems, const char *set, const char *path,
                              const char *what)
{
    struct sw_yaml at = {.origin = set};
    sw_problem(problems, &at, path, "%s", what);
    return SW_FAIL(SW_EINPUT, "--set %s: %s", set, what);
}

/* Cuts the next step off "a.b[0].c"; returns the rest, or NULL when the step is empty. */
static char *next_step(char *path, char **step)
{
    *step = path;
    char *end = path + strcspn(path, ".[");
    char separator = *end;
    *end = '\0';
    if (separator != '\0')
        end++;
    size_t n = strlen(*step);
    if (n > 0 && (*step)[n - 1] == ']')
        (*step)[n - 1] = '\0';
    return **step ? end : NULL;
}

/* The index that `step` names in a list, or -1. */
static int list_index(const struct sw_yaml *list, const char *step)
{
    size_t n = strlen(step);
    if (n > 5 || strspn(step, "0123456789") != n)
        return -1;
    int i = atoi(step);
    return i < list->count ? i : -1;
}

/* Puts node at `step` of parent. Takes node over, also on failure. */
static enum sw_status put(struct sw_yaml *parent, int index, const char *step, struct sw_yaml *node)
{
    if (parent->kind == SW_YAML_MAP && !(node->key = strdup(step))) {
        sw_yaml_free(node);
        return no_memory();
    }
    if (index < 0)
        return append(parent, node);
    sw_yaml_free(parent->items[index]);
    parent->items[index] = node;
    return SW_OK;
}

/* Walks from root along path, making mappings, and puts node there. Takes node over, also on
 * failure. */
static enum sw_status overlay_at(struct sw_yaml *root, char *path, const char *set,
                                 struct sw_yaml *node, struct sw_problems *problems)
{
    struct sw_yaml *at = root;
    for (int depth = 1;; depth++) {
        char *step, *rest = next_step(path, &step), what[160], quoted[80];
        int index =
            rest ? at->kind == SW_YAML_LIST ? list_index(at, step) : key_index(at, step) : -1;
        what[0] = '\0';
        if (!rest)
            snprintf(what, sizeof what, "an empty step in the key, expected KEY.KEY=VALUE");
        else if (depth > SW_YAML_MAX_DEPTH)
            snprintf(what, sizeof what, "too many steps in the key");
        else if (at->kind == SW_YAML_SCALAR)
            snprintf(what, sizeof what, "found %s one step up, expected a list or mapping",
                     sw_yaml_found(at, quoted, sizeof quoted));
        else if (at->kind == SW_YAML_LIST && index < 0)
            snprintf(what, sizeof what, "found %s, expected an index below %d",
                     sw_quote(step, quoted, sizeof quoted), at->count);
        if (what[0]) {
            sw_yaml_free(node);
            return bad_set(problems, set, "", what);
        }
        if (*rest == '\0')
            return put(at, index, step, node);
        bool missing = index < 0 || sw_yaml_is_null(at->items[index]);
        if (missing) {
            struct sw_yaml *map = node_new(SW_YAML_MAP, 0, set);
            if (!map) {
                sw_yaml_free(node);
                return no_memory();
            }
            enum sw_status st = put(at, index, step, map);
            if (st != SW_OK) {
                sw_yaml_free(node);
                return st;
            }
            index = index < 0 ? at->count - 1 : index;
        }
        at = at->items[index];
        path = rest;
    }
}

enum sw_status sw_yaml_overlay(struct sw_yaml *root, const char *set, struct sw_problems *problems)
{
    const char *equals = strchr(set, '=');
    if (!equals || equals == set)
        return bad_set(problems, set, "", "expected KEY=VALUE");
    if (strlen(set) > SW_YAML_MAX_BYTES)
        return bad_set(problems, set, "", "longer than 1 MiB");
    struct sw_yaml *node;
    SW_TRY(sw_yaml_parse(equals + 1, strlen(equals + 1), set, problems, &node));
    char *path = strndup(set, (size_t)(equals - set));
    if (!path) {
        sw_yaml_free(node);
        return no_memory();
    }
    enum sw_status st = overlay_at(root, path, set, node, problems);
    free(path);
    return st;
}
