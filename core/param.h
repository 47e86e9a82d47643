/* param.h: one table describes a set of parameters, and config reading, validation, help and cell
 * keys are all made from it.
 *
 * A table is an array of struct sw_param ending with a row whose name is NULL; `offset` points into
 * the struct it fills. */
#ifndef SW_PARAM_H
#define SW_PARAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum sw_param_type {
    SW_PARAM_INT,    /* int */
    SW_PARAM_REAL,   /* double */
    SW_PARAM_BOOL,   /* bool */
    SW_PARAM_CHOICE, /* int: index into choices */
    SW_PARAM_TEXT,   /* char *: malloc'd by sw_param_set, NULL when unset */
};

struct sw_param {
    const char *name;
    enum sw_param_type type;
    size_t offset;
    const char *initial; /* default, as text ("" for an unset SW_PARAM_TEXT) */
    /* Of methods: the default under a native budget, which is the published one, where it differs;
     * and where the published one stands: a paper or a file. NULL: no such thing. */
    const char *native, *published;
    double min, max;     /* inclusive range of INT and REAL; both 0: any value */
    bool min_open;       /* REAL: min itself is excluded, as in (0, 1] */
    const char *choices; /* CHOICE: "arxiv|icml", in the order of the enum; TEXT: NULL, or the only
                            texts accepted */
    const char *help;
    bool power_of_two; /* INT: must be a power of two */
    /* TEXT: names a file, whose content decides the outcome and so is part of a cell's key */
    bool file;
};

#define SW_PARAM_END {.name = NULL}

/* Sets every parameter of `table` in the struct at `base` to its default. base: zeroed memory, or a
 * struct already set. */
SW_MUST_CHECK enum sw_status sw_param_defaults(const struct sw_param *table, void *base);

/* Over these the native defaults, in rows that have one. */
SW_MUST_CHECK enum sw_status sw_param_native(const struct sw_param *table, void *base);

/* Parses and range-checks `text` into the parameter. SW_EINPUT: "found X, expected Y". */
SW_MUST_CHECK enum sw_status sw_param_set(const struct sw_param *param, void *base,
                                          const char *text);

const struct sw_param *sw_param_find(const struct sw_param *table, const char *name);

/* Writes the current value as text that sw_param_set reads back to the same value. Returns text. */
const char *sw_param_text(const struct sw_param *param, const void *base, char *text, size_t size);

/* Writes what is accepted, for messages and help: "an integer 1…4096", "a number in (0, 1]",
 * "arxiv|icml". Returns text. */
const char *sw_param_expected(const struct sw_param *param, char *text, size_t size);

/* Frees what TEXT parameters hold. */
void sw_param_free(const struct sw_param *table, void *base);

#ifdef __cplusplus
}
#endif
#endif
