#include "harness/report/report_table.h"

#include <stdio.h>
#include <string.h>

static const char *text_at(const struct report_table *t, int row, int column)
{
    const char *text = row < 0 ? t->titles[column] : t->texts[row * t->columns + column];
    return text ? text : "";
}

static bool used(const struct report_table *t, int column)
{
    for (int row = 0; row < t->rows; ++row)
        if (*text_at(t, row, column))
            return true;
    return false;
}

/* Characters, not bytes; '|' is written as two. */
static int width(const char *text)
{
    int n = 0;
    for (; *text; ++text)
        n += ((unsigned char)*text & 0xc0) != 0x80 ? 1 + (*text == '|') : 0;
    return n;
}

static void markdown_text(const char *text, int field, bool left)
{
    int pad = field - width(text);
    if (!left)
        printf("%*s", pad, "");
    for (; *text; ++text) {
        if (*text == '|')
            putchar('\\');
        putchar(*text);
    }
    if (left)
        printf("%*s", pad, "");
}

void sw_report_table_markdown(const struct report_table *t, int left)
{
    for (int row = -2; row < t->rows; ++row) { /* titles, the rule, rows */
        for (int c = 0; c < t->columns; ++c) {
            if (!used(t, c))
                continue;
            int field = 3;
            for (int r = -1; r < t->rows; ++r)
                field = width(text_at(t, r, c)) > field ? width(text_at(t, r, c)) : field;
            fputs("| ", stdout);
            if (row == -1) {
                for (int i = 0; i < field; ++i)
                    putchar(c >= left && i == field - 1 ? ':' : '-');
            } else {
                const char *text = text_at(t, row == -2 ? -1 : row, c);
                markdown_text(*text || row == -2 ? text : "-", field, c < left);
            }
            putchar(' ');
        }
        fputs("|\n", stdout);
    }
}

void sw_report_latex(const char *text)
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
            ++i;
        if (i < n) {
            fputs(marks[i].to, stdout);
            text += strlen(marks[i].from);
        } else {
            putchar(*text++);
        }
    }
}

void sw_report_table_latex(const struct report_table *t, int left, const char *caption)
{
    fputs("\\begin{table}\n\\centering\\small\n\\caption{", stdout);
    sw_report_latex(caption);
    fputs("}\n\\begin{tabular}{", stdout);
    for (int c = 0; c < t->columns; ++c)
        if (used(t, c))
            putchar(c < left ? 'l' : 'r');
    fputs("}\n\\toprule\n", stdout);
    for (int row = -1; row < t->rows; ++row) {
        bool first = true;
        for (int c = 0; c < t->columns; ++c) {
            if (!used(t, c))
                continue;
            if (!first)
                fputs(" & ", stdout);
            first = false;
            const char *text = text_at(t, row, c);
            sw_report_latex(*text || row < 0 ? text : "--");
        }
        fputs(row < 0 ? " \\\\\n\\midrule\n" : " \\\\\n", stdout);
    }
    fputs("\\bottomrule\n\\end{tabular}\n\\end{table}\n", stdout);
}
