/* yaml_tree.h: a YAML document as a small tree that knows its line numbers.
 *
 * Only what a config needs: mappings, lists and scalars. Anchors, aliases, tags and second
 * documents are refused, keys may not repeat, and size, depth and node count are bounded, so that
 * no input costs more than its own size. */
#ifndef SW_YAML_TREE_H
#define SW_YAML_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "core/status.h"

enum { SW_YAML_MAX_BYTES = 1 << 20, SW_YAML_MAX_DEPTH = 12, SW_YAML_MAX_NODES = 10000 };

enum sw_yaml_kind { SW_YAML_SCALAR, SW_YAML_LIST, SW_YAML_MAP };

struct sw_yaml {
    enum sw_yaml_kind kind;
    int line; /* from 1; of the key, where there is one */
    /* NULL: the file; else the --set argument, which must outlive the tree */
    const char *origin;
    char *key;   /* inside a mapping, else NULL */
    char *text;  /* SCALAR */
    bool quoted; /* SCALAR in quotes or a block: a text, whatever it looks like */
    struct sw_yaml **items;
    int count, capacity;
};

/* Where problems go: one line each, and how many there were. out NULL: only counted. */
struct sw_problems {
    FILE *out;
    const char *file;
    int count;
};

/* Writes "FILE:LINE: PATH: MESSAGE" (or "--set ARG: PATH: MESSAGE"). node NULL: no line; path "":
 * none. */
void sw_problem(struct sw_problems *problems, const struct sw_yaml *node, const char *path,
                const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Reads a whole file of at most SW_YAML_MAX_BYTES. SW_EINPUT: a problem was written. */
SW_MUST_CHECK enum sw_status sw_yaml_read_text(const char *file, struct sw_problems *problems,
                                               char **text, size_t *size);

/* Parses; an empty document gives an empty plain scalar. SW_EINPUT: the problems were written. */
SW_MUST_CHECK enum sw_status sw_yaml_parse(const char *text, size_t size, const char *origin,
                                           struct sw_problems *problems, struct sw_yaml **out);

/* Applies "a.b.0.c=VALUE" (also "a.b[0].c"), VALUE being YAML. Missing mappings on the way are
 * made; list items must be there. */
SW_MUST_CHECK enum sw_status sw_yaml_overlay(struct sw_yaml *root, const char *set,
                                             struct sw_problems *problems);

/* NULL when absent, or map is no mapping */
const struct sw_yaml *sw_yaml_get(const struct sw_yaml *map, const char *key);
/* a plain nothing, ~ or null */
bool sw_yaml_is_null(const struct sw_yaml *node);
const char *sw_yaml_found(const struct sw_yaml *node, char *text,
                          size_t size);  /* 'text', "a list", "a mapping", "nothing" */
void sw_yaml_free(struct sw_yaml *node); /* NULL is fine */

#endif
