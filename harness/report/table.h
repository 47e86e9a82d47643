/* table.h: a table of texts: plain for a terminal, Markdown, or LaTeX. */
#ifndef SW_TABLE_H
#define SW_TABLE_H

#include <stdio.h>

#include "core/status.h"

struct sw_table {
    char **cells; /* row-major; "" where nothing is there */
    int columns, count, capacity;
    const char *const *titles; /* [columns]; NULL: no line of titles (plain only) */
    const char *right;         /* one character a column: 'r' aligns right, else left */
};

/* Adds the next cell, row by row. */
SW_MUST_CHECK enum sw_status sw_table_add(struct sw_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void sw_table_free(struct sw_table *table);

/* Plain: columns as wide as they need; the last one is not padded, and empty cells at a row's end
 * leave no blanks. */
SW_MUST_CHECK enum sw_status sw_table_print(const struct sw_table *table, FILE *out);

/* Columns without any text in their rows are left out; an empty cell is shown as a dash. */
SW_MUST_CHECK enum sw_status sw_table_markdown(const struct sw_table *table, FILE *out);
SW_MUST_CHECK enum sw_status sw_table_latex(const struct sw_table *table, const char *caption,
                                            FILE *out);

/* One line of text, escaped for LaTeX. */
void sw_latex_text(const char *text, FILE *out);

#endif
