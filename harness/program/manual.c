/* The manual page, in man(7). Words from tables may hold anything: each is escaped, and lines are
 * broken below 80 bytes. */
#include "harness/program/manual.h"

#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include "core/method.h"
#include "harness/program/help_row.h"
#include "harness/program/verbs.h"
#include "harness/store/result.h"
#include "sw_version.h"

/* --- writing ---------------------------------------------------------------------------------- */

/* One character of UTF-8 as groff and mandoc both read it; returns its bytes. */
static int put_escaped(FILE *out, const unsigned char *s)
{
    static const char special[] = "\\-'`^~\"";
    static const char *const names[] = {"\\e", "\\-", "\\(aq", "\\(ga", "\\(ha", "\\(ti", "\\(dq"};
    const char *found = strchr(special, *s);
    if (*s < 0x80) {
        if (found)
            fputs(names[found - special], out);
        else
            fputc(*s, out);
        return 1;
    }
    int more = *s >= 0xf0 ? 3 : *s >= 0xe0 ? 2 : 1;
    unsigned code = *s & (0x3fu >> more);
    for (int i = 1; i <= more; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 1; /* not UTF-8: left out */
        code = code << 6 | (s[i] & 0x3fu);
    }
    fprintf(out, "\\[u%04X]", code);
    return 1 + more;
}

/* Text of one macro argument or line, from `s` to `end`. */
static void put(FILE *out, const char *s, const char *end)
{
    while (s < end)
        s += put_escaped(out, (const unsigned char *)s);
}

static void put_all(FILE *out, const char *s) { put(out, s, s + strlen(s)); }

/* A paragraph's text: escaped, broken between words, ending its line. */
static void flow(FILE *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void flow(FILE *out, const char *format, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    int column = 0;
    for (const char *s = text; *s;) {
        size_t blank = strspn(s, " \n");
        s += blank;
        size_t length = strcspn(s, " \n");
        if (length == 0)
            break;
        if (column > 0 && column + (int)length > 60) {
            fputc('\n', out);
            column = 0;
        }
        if (column > 0)
            fputc(' ', out);
        else if (*s == '.' || *s == '\'')
            fputs("\\&", out); /* would be a request */
        put(out, s, s + length);
        column += (int)length + 1;
        s += length;
    }
    fputc('\n', out);
}

static void section(FILE *out, const char *title) { fprintf(out, ".SH %s\n", title); }

/* .SS and .TP with a heading of bold words and an italic rest. */
static void heading(FILE *out, const char *macro, const char *bold, const char *italic)
{
    fprintf(out, "%s\n", macro);
    fputs("\\fB", out);
    put_all(out, bold);
    fputs("\\fR", out);
    if (italic && *italic) {
        fputs(" \\fI", out);
        put_all(out, italic);
        fputs("\\fR", out);
    }
    fputc('\n', out);
}

/* --- sections --------------------------------------------------------------------------------- */

static void synopsis(FILE *out)
{
    section(out, "SYNOPSIS");
    for (const struct sw_verb *v = sw_verbs; v->name; v++) {
        fputs(v == sw_verbs ? "" : ".br\n", out);
        fputs("\\fBswbench ", out);
        put_all(out, v->name);
        fputs("\\fR \\fI", out);
        put_all(out, v->usage);
        fputs("\\fR\n", out);
    }
}

static void verbs(FILE *out)
{
    section(out, "VERBS");
    for (const struct sw_verb *v = sw_verbs; v->name; v++) {
        heading(out, ".SS", v->name, v->usage);
        flow(out, "%s", v->summary);
        for (const struct sw_flag *f = v->flags; f->name; f++) {
            heading(out, ".TP", f->name, f->value);
            flow(out, "%s", f->help);
        }
    }
}

static void row(FILE *out, const struct sw_help_row *r)
{
    heading(out, ".TP", r->name, NULL);
    flow(out, "%s: %s%s%s", r->help, r->expected, *r->initial ? "; " : "", r->initial);
}

static void config(FILE *out)
{
    section(out, "CONFIGURATION");
    flow(out, "A config is a YAML file. Keys that are not listed here are errors. `--set "
              "KEY=VALUE` overrides any of them.");
    for (int i = 0; sw_sections[i]; i++) {
        heading(out, ".SS", sw_sections[i]->name, NULL);
        flow(out, "%s", sw_sections[i]->help);
        for (const struct sw_option *o = sw_sections[i]->options; o->param.name; o++) {
            struct sw_help_row r;
            sw_help_option(o, &r);
            row(out, &r);
        }
    }
}

static void methods(FILE *out)
{
    section(out, "METHODS");
    flow(out, "Each with its parameters. In a config, a list of values is an axis.");
    for (int i = 0; sw_methods[i]; i++) {
        heading(out, ".SS", sw_methods[i]->name, NULL);
        flow(out, "%s; follows %s", sw_methods[i]->summary, sw_methods[i]->source);
        for (const struct sw_param *p = sw_methods[i]->params; p->name; p++) {
            struct sw_help_row r;
            sw_help_param(p, &r);
            row(out, &r);
        }
    }
}

static void metrics(FILE *out)
{
    section(out, "METRICS");
    for (const struct sw_metric_info *m = sw_metric_table; m->name; m++) {
        heading(out, ".TP", m->name, m->unit);
        flow(out, "%s%s", m->long_name,
             m->better > 0   ? "; higher is better"
             : m->better < 0 ? "; lower is better"
                             : "");
    }
}

static void exit_status(FILE *out)
{
    section(out, "EXIT STATUS");
    for (const struct sw_exit_info *e = sw_exit_table; e->meaning; e++)
        fprintf(out, ".TP\n.B %d\n%s\n", e->code, e->meaning);
}

static void environment(FILE *out)
{
    static const struct {
        const char *name, *help;
    } variables[] = {
        {"SWBENCH_THREADS",
         "CPU threads where the config says 0; no result but time depends on it"},
        {"SWBENCH_DATASETS",
         "a folder with models and prepared datasets, where ./datasets has not got them"},
        {"SWBENCH_ISA", "avx512, avx2, or sse2 (base where that is not x86): these vector "
                        "instructions, not the best that the processor has"},
        {"SWBENCH_ATTEND", "portable: the portable CUDA attention kernel also on a Hopper GPU"},
    };
    section(out, "ENVIRONMENT");
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        heading(out, ".TP", variables[i].name, NULL);
        flow(out, "%s", variables[i].help);
    }
}

static void examples(FILE *out)
{
    static const struct {
        const char *call, *help;
    } calls[] = {
        {"swbench plan quickstart.yaml",
         "what would run, what is there already, and how much memory and time it takes"},
        {"swbench run quickstart.yaml --set axes.density=[0.2]",
         "runs it at one density; interrupt it, run it again, it goes on"},
        {"swbench report results/quickstart", "tables with intervals and provenance"},
        {"swbench export results/quickstart --metric ppl", "one metric as CSV"},
    };
    section(out, "EXAMPLES");
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        heading(out, ".TP", calls[i].call, NULL);
        flow(out, "%s", calls[i].help);
    }
}

void sw_manual_print(FILE *out)
{
    fprintf(out, ".TH SWBENCH 1 %s \"swbench %s\" \"User Commands\"\n", SW_DATE, SW_VERSION);
    section(out, "NAME");
    fputs("swbench \\- measure sparse attention\n", out);
    synopsis(out);
    section(out, "DESCRIPTION");
    flow(out, "swbench runs dense and sparse attention on one code path and measures accuracy, "
              "recovery of the true top blocks and time with the "
              "same kernels. A config names workloads, methods and axes; every list in it is an "
              "axis, and the plan is their product. Each cell of the "
              "plan becomes one HDF5 file in the folder of results, complete or not there.");
    fputs(".PP\n", out);
    flow(out, "Data goes to standard output, progress and messages to standard error.");
    verbs(out);
    config(out);
    methods(out);
    metrics(out);
    exit_status(out);
    environment(out);
    examples(out);
}
