/* A comparison as text for people, md for pull requests, json for programs, junit for CI
 * systems. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/judge/compare.h"
#include "harness/report/table.h"

const char *const sw_comparison_formats[] = {"text", "json", "junit", "md", NULL};

static bool is_ratio(const struct sw_figure *f)
{
    return f->class == SW_FIGURE_SPEED || f->class == SW_FIGURE_MEMORY;
}

/* "+0.0124 [+0.0101, +0.0150]", "×1.152 [1.138, 1.166]" */
static void change_text(const struct sw_figure *f, char *out, size_t size)
{
    out[0] = '\0';
    if (isnan(f->change))
        return;
    int used = snprintf(out, size, is_ratio(f) ? "×%.3f" : "%+.4g", f->change);
    if (!isnan(f->lo) && !isnan(f->hi))
        snprintf(out + used, size - (size_t)used, is_ratio(f) ? " [%.3f, %.3f]" : " [%+.4g, %+.4g]",
                 f->lo, f->hi);
}

static void value_text(double value, char *out, size_t size)
{
    if (isnan(value))
        snprintf(out, size, "none");
    else
        snprintf(out, size, "%.6g", value);
}

static void p_text(const struct sw_figure *f, char *out, size_t size)
{
    if (isnan(f->p))
        out[0] = '\0';
    else
        snprintf(out, size, f->p < 1e-4 ? "<0.0001" : "%.4f", f->p);
}

static bool shown(const struct sw_figure *f, bool all)
{
    return all || (f->judged && f->verdict != SW_VERDICT_SAME);
}

static bool is_relative(const struct sw_figure *f) { return strcmp(f->unit, "of dense") == 0; }

static const char *verdict_text(const struct sw_figure *f)
{
    return f->judged ? sw_verdict_names[f->verdict] : "(shown)";
}

/* --- the table of figures ----------------------------------------------------------------------
 */

enum { COLUMNS = 8 };

static enum sw_status add_figure(struct sw_table *t, const struct sw_figure *f)
{
    char base[40], now[40], change[160], p[40];
    value_text(f->base, base, sizeof base);
    value_text(f->now, now, sizeof now);
    change_text(f, change, sizeof change);
    p_text(f, p, sizeof p);
    SW_TRY(sw_table_add(t, "%s", verdict_text(f)));
    SW_TRY(sw_table_add(t, "%s%s", f->metric, is_relative(f) ? " of dense" : ""));
    SW_TRY(sw_table_add(t, "%s", base));
    SW_TRY(sw_table_add(t, "%s", now));
    SW_TRY(sw_table_add(t, "%s", change));
    SW_TRY(sw_table_add(t, "%s", p));
    SW_TRY(sw_table_add(t, "%s", f->cell));
    return sw_table_add(t, "%s", f->note);
}

/* Worst first, each kind in the order of the cells. */
static enum sw_status add_figures(const struct sw_comparison *c, bool all, struct sw_table *t)
{
    static const enum sw_verdict order[] = {SW_VERDICT_WORSE, SW_VERDICT_INCOMPARABLE,
                                            SW_VERDICT_AMBIGUOUS, SW_VERDICT_BETTER,
                                            SW_VERDICT_SAME};
    for (int judged = 1; judged >= 0; --judged)
        for (size_t v = 0; v < sizeof order / sizeof order[0]; v++)
            for (int i = 0; i < c->n_figures; i++)
                if (c->figures[i].judged == judged && c->figures[i].verdict == order[v] &&
                    shown(&c->figures[i], all))
                    SW_TRY(add_figure(t, &c->figures[i]));
    return SW_OK;
}

/* --- text and md ------------------------------------------------------------------------------ */

static int by_text(const void *left, const void *right)
{
    const struct sw_finding *a = *(const struct sw_finding *const *)left,
                            *b = *(const struct sw_finding *const *)right;
    int c =
        a->kind != b->kind ? (a->kind > b->kind) - (a->kind < b->kind) : strcmp(a->text, b->text);
    return c ? c : (a > b) - (a < b);
}

static int by_place(const void *left, const void *right)
{
    const struct sw_finding *a = *(const struct sw_finding *const *)left,
                            *b = *(const struct sw_finding *const *)right;
    return (a > b) - (a < b);
}

static bool alike(const struct sw_finding *a, const struct sw_finding *b)
{
    return a->kind == b->kind && strcmp(a->text, b->text) == 0;
}

/* One line for all cells of which the same is to say, in the order of the first ones. */
static enum sw_status print_findings(const struct sw_comparison *c, const char *bullet)
{
    const struct sw_finding **order = malloc(((size_t)c->n_findings + 1) * sizeof *order);
    int *alike_of = calloc((size_t)c->n_findings + 1, sizeof *alike_of), firsts = 0;
    if (!order || !alike_of) {
        free(order);
        free(alike_of);
        return SW_FAIL(SW_ENOMEM, "out of memory (%d findings)", c->n_findings);
    }
    for (int i = 0; i < c->n_findings; i++)
        order[i] = &c->findings[i];
    qsort(order, (size_t)c->n_findings, sizeof *order, by_text);
    for (int i = 0; i < c->n_findings; i++) {
        if (!firsts || !alike(order[firsts - 1], order[i]))
            order[firsts++] = order[i];
        alike_of[order[firsts - 1] - c->findings]++;
    }
    qsort(order, (size_t)firsts, sizeof *order, by_place);
    for (int i = 0; i < firsts; i++) {
        const struct sw_finding *f = order[i];
        int more = alike_of[f - c->findings] - 1;
        printf("%s%s: %s", bullet, sw_finding_names[f->kind], f->cell);
        if (more)
            printf(" and %d more", more);
        printf("%s%s\n", *f->text ? ": " : "", f->text);
    }
    if (c->n_findings)
        putchar('\n');
    free(order);
    free(alike_of);
    return SW_OK;
}

static void print_summary(const struct sw_comparison *c, const char *bullet)
{
    for (int i = 0; i < SW_FIGURE_CLASSES; i++) {
        int total = 0;
        for (int v = 0; v < SW_VERDICTS; v++)
            total += c->counts[i][v];
        if (!total)
            continue;
        printf("%s%s: %d figures:", bullet, sw_figure_class_names[i], total);
        const char *comma = "";
        for (int v = 0; v < SW_VERDICTS; v++)
            if (c->counts[i][v]) {
                printf("%s %d %s", comma, c->counts[i][v], sw_verdict_names[v]);
                comma = ",";
            }
        if (i == SW_FIGURE_SPEED && !isnan(c->noise))
            printf(" (noise between cells %.1f %%%s)", 100 * c->noise,
                   c->too_noisy ? ": too much to tell such a slowdown" : "");
        putchar('\n');
    }
    if (c->unjudged)
        printf("%s%d times have too few samples to be judged (--all shows them)\n", bullet,
               c->unjudged);
}

static enum sw_status print_text(const struct sw_comparison *c, bool all)
{
    static const char *const titles[COLUMNS] = {"verdict", "metric", "BASE", "NEW",
                                                "change",  "p",      "cell", ""};
    struct sw_table t = {.columns = COLUMNS, .titles = titles, .right = "llrrlrll"};
    enum sw_status st;
    SW_TRY_GOTO(st, out, add_figures(c, all, &t));
    SW_TRY_GOTO(st, out, print_findings(c, ""));
    if (t.count) {
        SW_TRY_GOTO(st, out, sw_table_print(&t, stdout));
        putchar('\n');
    }
    print_summary(c, "");
    printf("%d cells compared: %s\n", c->pairs, sw_verdict_names[sw_comparison_verdict(c)]);
out:
    sw_table_free(&t);
    return st;
}

static enum sw_status print_md(const struct sw_comparison *c, bool all)
{
    static const char *const titles[COLUMNS] = {"verdict", "metric", "BASE", "NEW",
                                                "change",  "p",      "cell", "note"};
    struct sw_table t = {.columns = COLUMNS, .titles = titles, .right = "llrrlrll"};
    enum sw_status st;
    SW_TRY_GOTO(st, out, add_figures(c, all, &t));
    printf("### swbench: %s (%d cells compared)\n\n", sw_verdict_names[sw_comparison_verdict(c)],
           c->pairs);
    print_summary(c, "- ");
    putchar('\n');
    SW_TRY_GOTO(st, out, print_findings(c, "- "));
    if (t.count)
        st = sw_table_markdown(&t, stdout);
out:
    sw_table_free(&t);
    return st;
}

/* --- json ------------------------------------------------------------------------------------- */

static json_t *real(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static enum sw_status print_json(const struct sw_comparison *c, bool all)
{
    json_t *figures = json_array(), *findings = json_array(), *counts = json_object();
    for (int i = 0; i < c->n_figures; i++) {
        const struct sw_figure *f = &c->figures[i];
        if (shown(f, all))
            json_array_append_new(
                figures,
                json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:s}",
                          "cell", f->cell, "metric", f->metric, "unit", f->unit, "class",
                          sw_figure_class_names[f->class], "verdict", sw_verdict_names[f->verdict],
                          "base", real(f->base), "new", real(f->now), "change", real(f->change),
                          "lo", real(f->lo), "hi", real(f->hi), "p", real(f->p), "judged",
                          f->judged, "note", f->note));
    }
    for (int i = 0; i < c->n_findings; i++)
        json_array_append_new(
            findings, json_pack("{s:s, s:s, s:s}", "kind", sw_finding_names[c->findings[i].kind],
                                "cell", c->findings[i].cell, "text", c->findings[i].text));
    for (int i = 0; i < SW_FIGURE_CLASSES; i++) {
        json_t *class = json_object();
        for (int v = 0; v < SW_VERDICTS; v++)
            json_object_set_new(class, sw_verdict_names[v], json_integer(c->counts[i][v]));
        json_object_set_new(counts, sw_figure_class_names[i], class);
    }
    json_t *root = json_pack("{s:s, s:i, s:o, s:b, s:o, s:o, s:o}", "verdict",
                             sw_verdict_names[sw_comparison_verdict(c)], "pairs", c->pairs, "noise",
                             real(c->noise), "too_noisy", c->too_noisy, "counts", counts, "figures",
                             figures, "findings", findings);
    char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(root);
    if (!text)
        return SW_FAIL(SW_ENOMEM, "out of memory (json of %d figures)", c->n_figures);
    puts(text);
    free(text);
    return SW_OK;
}

/* --- junit ------------------------------------------------------------------------------------ */

/* Text of XML 1.0; control characters, which it cannot hold, become '?'. */
static void xml(const char *text)
{
    for (; *text; text++) {
        unsigned char ch = (unsigned char)*text;
        if (ch == '&')
            fputs("&amp;", stdout);
        else if (ch == '<')
            fputs("&lt;", stdout);
        else if (ch == '>')
            fputs("&gt;", stdout);
        else if (ch == '"')
            fputs("&quot;", stdout);
        else
            putchar(ch < 0x20 || ch == 0x7f ? '?' : ch);
    }
}

static void test_case(const char *group, const char *name, const char *what, const char *outcome,
                      const char *type, const char *message)
{
    printf("  <testcase classname=\"swbench.%s\" name=\"", group);
    xml(name);
    if (*what) {
        fputs(": ", stdout);
        xml(what);
    }
    if (!outcome) {
        puts("\"/>");
        return;
    }
    printf("\">\n    <%s", outcome);
    if (strcmp(outcome, "skipped") != 0)
        printf(" type=\"%s\"", type);
    printf(" message=\"%s: ", type);
    xml(message);
    printf("\"/>\n  </testcase>\n");
}

static const char *outcome_of(enum sw_verdict verdict, bool ambiguous_fails)
{
    switch (verdict) {
    case SW_VERDICT_WORSE:
        return "failure";
    case SW_VERDICT_INCOMPARABLE:
        return "error";
    case SW_VERDICT_AMBIGUOUS:
        return ambiguous_fails ? "error" : "skipped";
    case SW_VERDICT_SAME:
    case SW_VERDICT_BETTER:
    case SW_VERDICTS:
        break;
    }
    return NULL;
}

static enum sw_verdict finding_verdict(const struct sw_finding *f)
{
    return f->kind == SW_FINDING_FAILED  ? SW_VERDICT_WORSE
           : f->kind == SW_FINDING_EXTRA ? SW_VERDICT_SAME
                                         : SW_VERDICT_INCOMPARABLE;
}

static enum sw_status print_junit(const struct sw_comparison *c, bool ambiguous_fails)
{
    int tests = 0, failures = 0, errors = 0, skipped = 0;
    for (int pass = 0; pass < 2; pass++) { /* counts stand before the cases */
        if (pass) {
            puts("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
            printf("<testsuite name=\"swbench compare\" tests=\"%d\" failures=\"%d\" errors=\"%d\" "
                   "skipped=\"%d\">\n",
                   tests, failures, errors, skipped);
        }
        for (int i = 0; i < c->n_figures + c->n_findings; i++) {
            const struct sw_figure *f = i < c->n_figures ? &c->figures[i] : NULL;
            const struct sw_finding *found = f ? NULL : &c->findings[i - c->n_figures];
            if (f && !f->judged)
                continue;
            const char *outcome =
                outcome_of(f ? f->verdict : finding_verdict(found), ambiguous_fails);
            if (!pass) {
                tests++;
                failures += outcome && strcmp(outcome, "failure") == 0;
                errors += outcome && strcmp(outcome, "error") == 0;
                skipped += outcome && strcmp(outcome, "skipped") == 0;
                continue;
            }
            if (found) {
                test_case("cells", found->cell, "", outcome, sw_finding_names[found->kind],
                          found->text);
                continue;
            }
            char what[128], message[400], change[160], base[40], now[40];
            snprintf(what, sizeof what, "%s%s", f->metric, is_relative(f) ? " of dense" : "");
            change_text(f, change, sizeof change);
            value_text(f->base, base, sizeof base);
            value_text(f->now, now, sizeof now);
            snprintf(message, sizeof message, "%s to %s %s, %s %s", base, now, f->unit, change,
                     f->note);
            test_case(sw_figure_class_names[f->class], f->cell, what, outcome,
                      sw_verdict_names[f->verdict], message);
        }
    }
    puts("</testsuite>");
    return SW_OK;
}

enum sw_status sw_comparison_print(const struct sw_comparison *c, const char *format, bool all,
                                   bool ambiguous_fails)
{
    if (strcmp(format, "json") == 0)
        return print_json(c, all);
    if (strcmp(format, "junit") == 0)
        return print_junit(c, ambiguous_fails);
    return strcmp(format, "md") == 0 ? print_md(c, all) : print_text(c, all);
}
