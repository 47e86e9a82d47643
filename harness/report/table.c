#include "harness/report/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS_MAX = 16 };

enum sw_status sw_table_add(struct sw_table *table, const char *format, ...)
{
    if (table->count == table->capacity) {
        int capacity = table->capacity ? 2 * table->capacity : 64;
        char **cells = realloc(table->cells, (size_t)capacity * sizeof *cells);
        if (!cells)
            return SW_FAIL(SW_ENOMEM, "no memory for a table");
        table->cells = cells;
        table->capacity = capacity;
    }
    va_list ap;
    va_start(ap, format);
    int used = vasprintf(&table->cells[table->count], format, ap);
    va_end(ap);
    if (used < 0)
        return SW_FAIL(SW_ENOMEM, "no memory for a table");
    table->count++;
    return SW_OK;
}

/* Characters, not bytes, of a UTF-8 text. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void print_row(const struct sw_table *table, const char *const *row, const int *width,
                      FILE *out)
{
    int last = table->columns - 1, owed = 0; /* blanks not yet written: none may end a line */
    while (last > 0 && !*row[last])
        last--;
    for (int c = 0; c <= last; c++) {
        bool right = table->right && table->right[c] == 'r';
        int pad = width[c] - width_of(row[c]);
        fprintf(out, "%*s%s", owed + (right ? pad : 0), "", row[c]);
        owed = 2 + (right ? 0 : pad);
    }
    fputc('\n', out);
}

void sw_table_print(const struct sw_table *table, FILE *out)
{
    int width[COLUMNS_MAX] = {0};
    for (int c = 0; c < table->columns && table->titles; c++)
        width[c] = width_of(table->titles[c]);
    for (int i = 0; i < table->count; i++) {
        int w = width_of(table->cells[i]), c = i % table->columns;
        width[c] = w > width[c] ? w : width[c];
    }
    if (table->titles)
        print_row(table, table->titles, width, out);
    for (int i = 0; i + table->columns <= table->count; i += table->columns)
        print_row(table, (const char *const *)table->cells + i, width, out);
}

void sw_table_free(struct sw_table *table)
{
    for (int i = 0; i < table->count; i++)
        free(table->cells[i]);
    free(table->cells);
    table->cells = NULL;
    table->count = table->capacity = 0;
}
