/* Tables of texts, aligned by what is widest in a column. */
#include "harness/report/table.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static enum sw_status no_memory(void) { return SW_FAIL(SW_ENOMEM, "out of memory (table)"); }

enum sw_status sw_table_add(struct sw_table *table, const char *format, ...)
{
    if (table->count == table->capacity) {
        int capacity = table->capacity ? 2 * table->capacity : 64;
        char **cells = realloc(table->cells, (size_t)capacity * sizeof *cells);
        if (!cells)
            return no_memory();
        table->cells = cells;
        table->capacity = capacity;
    }
    va_list ap;
    va_start(ap, format);
    int used = vasprintf(&table->cells[table->count], format, ap);
    va_end(ap);
    if (used < 0)
        return no_memory();
    table->count++;
    return SW_OK;
}

void sw_table_free(struct sw_table *table)
{
    for (int i = 0; i < table->count; i++)
        free(table->cells[i]);
    free(table->cells);
    table->cells = NULL;
    table->count = table->capacity = 0;
}

/* What the columns of a table need. */
struct layout {
    int *width; /* [columns]: of the widest text */
    bool *used; /* [columns]: some row has a text */
};

/* Characters, not bytes, of a UTF-8 text; `wide` is written as two. */
static int width_of(const char *text, char wide)
{
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80 ? 1 + (wide && *text == wide) : 0;
    return width;
}

static enum sw_status measure(const struct sw_table *table, char wide, struct layout *layout)
{
    layout->width = calloc((size_t)table->columns + 1, sizeof *layout->width);
    layout->used = calloc((size_t)table->columns + 1, sizeof *layout->used);
    if (!layout->width || !layout->used)
        return no_memory();
    for (int c = 0; c < table->columns && table->titles; c++)
        layout->width[c] = width_of(table->titles[c], wide);
    for (int i = 0; i < table->count; i++) {
        int w = width_of(table->cells[i], wide), c = i % table->columns;
        layout->width[c] = w > layout->width[c] ? w : layout->width[c];
        layout->used[c] |= w > 0;
    }
    return SW_OK;
}

static void free_layout(struct layout *layout)
{
    free(layout->width);
    free(layout->used);
}

static int rows_of(const struct sw_table *table) { return table->count / table->columns; }

/* Row -1: the titles. */
static const char *text_at(const struct sw_table *table, int row, int column)
{
    return row < 0 ? table->titles[column] : table->cells[row * table->columns + column];
}

static bool aligns_right(const struct sw_table *table, int column)
{
    return table->right && table->right[column] == 'r';
}

/* --- plain ------------------------------------------------------------------------------------ */

static void print_row(const struct sw_table *table, const struct layout *layout, int row, FILE *out)
{
    int last = table->columns - 1, owed = 0; /* blanks not yet written: none may end a line */
    while (last > 0 && !*text_at(table, row, last))
        last--;
    for (int c = 0; c <= last; c++) {
        const char *text = text_at(table, row, c);
        bool right = aligns_right(table, c);
        int pad = layout->width[c] - width_of(text, 0);
        fprintf(out, "%*s%s", owed + (right ? pad : 0), "", text);
        owed = 2 + (right ? 0 : pad);
    }
    fputc('\n', out);
}

enum sw_status sw_table_print(const struct sw_table *table, FILE *out)
{
    struct layout layout = {0};
    enum sw_status st = measure(table, 0, &layout);
    for (int row = table->titles ? -1 : 0; row < rows_of(table) && st == SW_OK; row++)
        print_row(table, &layout, row, out);
    free_layout(&layout);
    return st;
}

/* --- Markdown --------------------------------------------------------------------------------- */

static void write_escaped(const char *text, FILE *out)
{
    for (; *text; text++) {
        if (*text == '|')
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void markdown_row(const struct sw_table *table, const struct layout *layout, int row,
                         FILE *out)
{
    for (int c = 0; c < table->columns; c++) {
        if (!layout->used[c])
            continue;
        const char *text = text_at(table, row, c);
        text = *text || row < 0 ? text : "-";
        bool right = aligns_right(table, c);
        int field = layout->width[c] > 3 ? layout->width[c] : 3, pad = field - width_of(text, '|');
        fprintf(out, "| %*s", right ? pad : 0, "");
        write_escaped(text, out);
        fprintf(out, "%*s", 1 + (right ? 0 : pad), "");
    }
    fputs("|\n", out);
}

static void markdown_rule(const struct sw_table *table, const struct layout *layout, FILE *out)
{
    for (int c = 0; c < table->columns; c++) {
        if (!layout->used[c])
            continue;
        int dashes = layout->width[c] > 3 ? layout->width[c] : 3;
        bool right = aligns_right(table, c);
        fputs("| ", out);
        for (int i = 0; i < dashes - right; i++)
            fputc('-', out);
        fputs(right ? ": " : " ", out);
    }
    fputs("|\n", out);
}

enum sw_status sw_table_markdown(const struct sw_table *table, FILE *out)
{
    struct layout layout = {0};
    enum sw_status st = measure(table, '|', &layout);
    if (st == SW_OK) {
        markdown_row(table, &layout, -1, out);
        markdown_rule(table, &layout, out);
    }
    for (int row = 0; row < rows_of(table) && st == SW_OK; row++)
        markdown_row(table, &layout, row, out);
    free_layout(&layout);
    return st;
}

/* --- LaTeX ------------------------------------------------------------------------------------ */

void sw_latex_text(const char *text, FILE *out)
{
    static const struct {
        const char *from, *to;
    } marks[] = {
        {"\\", "\\textbackslash{}"},
        {"~", "\\textasciitilde{}"},
        {"^", "\\textasciicircum{}"},
        {"&", "\\&"},
        {"%", "\\%"},
        {"$", "\\$"},
        {"#", "\\#"},
        {"_", "\\_"},
        {"{", "\\{"},
        {"}", "\\}"},
        {"Δ", "$\\Delta$"},
        {"×", "$\\times$"},
        {"≥", "$\\ge$"},
        {"…", "\\dots{}"},
        {"½", "$\\frac12$"},
        {"·", "$\\cdot$"},
        {"[", "{[}"},
        {"]", "{]}"},
        {"±", "$\\pm$"},
    };
    while (*text) {
        size_t i = 0, n = sizeof marks / sizeof marks[0];
        while (i < n && strncmp(text, marks[i].from, strlen(marks[i].from)) != 0)
            i++;
        if (i < n) {
            fputs(marks[i].to, out);
            text += strlen(marks[i].from);
        } else {
            fputc(*text++, out);
        }
    }
}

static void latex_row(const struct sw_table *table, const struct layout *layout, int row, FILE *out)
{
    const char *separator = "";
    for (int c = 0; c < table->columns; c++) {
        if (!layout->used[c])
            continue;
        const char *text = text_at(table, row, c);
        fputs(separator, out);
        separator = " & ";
        sw_latex_text(*text || row < 0 ? text : "--", out);
    }
    fputs(row < 0 ? " \\\\\n\\midrule\n" : " \\\\\n", out);
}

enum sw_status sw_table_latex(const struct sw_table *table, const char *caption, FILE *out)
{
    struct layout layout = {0};
    enum sw_status st = measure(table, 0, &layout);
    if (st == SW_OK) {
        fputs("\\begin{table}\n\\centering\\small\n\\caption{", out);
        sw_latex_text(caption, out);
        fputs("}\n\\begin{tabular}{", out);
        for (int c = 0; c < table->columns; c++)
            if (layout.used[c])
                fputc(aligns_right(table, c) ? 'r' : 'l', out);
        fputs("}\n\\toprule\n", out);
        for (int row = -1; row < rows_of(table); row++)
            latex_row(table, &layout, row, out);
        fputs("\\bottomrule\n\\end{tabular}\n\\end{table}\n", out);
    }
    free_layout(&layout);
    return st;
}
