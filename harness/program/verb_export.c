/* swbench export: the tidy table on stdout. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/judge/derived.h"
#include "harness/program/result_args.h"
#include "harness/program/verbs.h"
#include "harness/store/store.h"

/* Fewest digits that read back to the same value. */
static const char *shortest(double value, char text[32])
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    return text;
}

/* RFC 4180, with plain line feeds between rows: quoted where a comma, a quote or a line break asks
 * for it. */
static void csv_text(const char *text)
{
    if (text[strcspn(text, ",\"\r\n")] == '\0') {
        fputs(text, stdout);
        return;
    }
    putchar('"');
    for (; *text; text++) {
        if (*text == '"')
            putchar('"');
        putchar(*text);
    }
    putchar('"');
}

static void json_text(const char *text)
{
    putchar('"');
    for (const unsigned char *s = (const unsigned char *)text; *s; s++) {
        if (*s == '"' || *s == '\\')
            printf("\\%c", *s);
        else if (*s < 0x20)
            printf("\\u%04x", *s);
        else
            putchar(*s);
    }
    putchar('"');
}

/* A figure as text, NULL where the field is empty: no value, no layer, not counted. */
static const char *figure(const struct sw_tidy_row *row, const struct sw_tidy_column *c,
                          char text[32])
{
    const char *field = (const char *)row + c->offset;
    if (c->kind == SW_COLUMN_REAL) {
        double value;
        memcpy(&value, field, sizeof value);
        return isfinite(value) ? shortest(value, text) : NULL;
    }
    int64_t value = 0;
    int narrow;
    if (c->kind == SW_COLUMN_INT64) {
        memcpy(&value, field, sizeof value);
    } else {
        memcpy(&narrow, field, sizeof narrow);
        value = narrow;
    }
    if ((c->offset == offsetof(struct sw_tidy_row, layer) && value < 0) ||
        (c->offset == offsetof(struct sw_tidy_row, n) && value == 0))
        return NULL;
    snprintf(text, 32, "%lld", (long long)value);
    return text;
}

static void print_row(const struct sw_tidy_row *row, bool json)
{
    if (json)
        putchar('{');
    for (const struct sw_tidy_column *c = sw_tidy_columns; c->name; c++) {
        char text[32];
        if (c != sw_tidy_columns)
            putchar(',');
        if (json)
            printf("\"%s\":", c->name);
        if (c->kind == SW_COLUMN_TEXT) {
            const char *value = *(const char *const *)((const char *)row + c->offset);
            (json ? json_text : csv_text)(value);
        } else {
            const char *value = figure(row, c, text);
            fputs(value ? value : json ? "null" : "", stdout);
        }
    }
    fputs(json ? "}\n" : "\n", stdout);
}

/* Cells without any metric (failed, skipped) stay in a selection of metrics: what is missing must
 * not look as if it had not been asked. */
static bool wanted(const struct sw_tidy_row *row, const struct sw_result_args *args)
{
    bool found = args->n_metrics == 0 || row->metric[0] == '\0';
    for (int i = 0; i < args->n_metrics && !found; i++)
        found = strcmp(row->metric, args->metrics[i]) == 0;
    return found;
}

static enum sw_status print_table(int argc, char **argv)
{
    static const char *const formats[] = {"csv", "jsonl", NULL};
    struct sw_result_args args;
    struct sw_tidy *tidy;
    SW_TRY(sw_result_args_parse(argc, argv, formats, &args));
    SW_TRY(sw_derived_read(args.results, &tidy, NULL));
    bool json = strcmp(args.format, "jsonl") == 0;
    for (const struct sw_tidy_column *c = sw_tidy_columns; !json && c->name; c++)
        printf("%s%s", c == sw_tidy_columns ? "" : ",", c->name);
    if (!json)
        putchar('\n');
    for (int64_t i = 0; i < tidy->count; i++)
        if (wanted(&tidy->rows[i], &args))
            print_row(&tidy->rows[i], json);
    sw_tidy_free(tidy);
    return SW_OK;
}

int sw_verb_export(int argc, char **argv)
{
    return sw_cli_flush(sw_cli_exit(print_table(argc, argv)));
}
