/* report_table.h: a table of texts, printed as Markdown or LaTeX. */
#ifndef SW_REPORT_TABLE_H
#define SW_REPORT_TABLE_H

#include <stdbool.h>

struct report_table {
    int columns, rows;
    const char **titles; /* [columns] */
    const char **texts;  /* [rows * columns]; NULL: nothing there */
};

/* Columns without any text are left out; the first `left` columns are aligned left, the rest
 * right. */
void sw_report_table_markdown(const struct report_table *table, int left);
void sw_report_table_latex(const struct report_table *table, int left, const char *caption);

/* One line of text, escaped for LaTeX. */
void sw_report_latex(const char *text);

#endif
