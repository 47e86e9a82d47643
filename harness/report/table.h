/* table.h: a table of texts in columns as wide as they need, for what the verbs print. */
#ifndef SW_TABLE_H
#define SW_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#include "core/status.h"

struct sw_table {
    char **cells; /* row-major */
    int columns, count, capacity;
    const char *const *titles; /* [columns]; NULL: no line of titles */
    const char *right;         /* one character a column: 'r' aligns right, else left */
};

/* Adds the next cell, row by row. */
SW_MUST_CHECK enum sw_status sw_table_add(struct sw_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* the last column is not padded; empty trailing cells leave no blanks */
void sw_table_print(const struct sw_table *table, FILE *out);
void sw_table_free(struct sw_table *table);

#endif
