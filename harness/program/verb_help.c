/* swbench help: printed from the tables that parse: verbs.c, options.c, each method's parameters,
 * the metrics of result.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/answers/score.h"
#include "core/nearest.h"
#include "harness/config/options.h"
#include "harness/program/cli.h"
#include "harness/program/help_row.h"
#include "harness/program/manual.h"
#include "harness/report/table.h"
#include "harness/store/result.h"

static enum sw_status help_verbs(void)
{
    struct sw_table table = {.columns = 2};
    enum sw_status st = SW_OK;
    for (const struct sw_verb *v = sw_verbs; v->name && st == SW_OK; v++) {
        st = sw_table_add(&table, "  %s %s", v->name, v->usage);
        if (st == SW_OK)
            st = sw_table_add(&table, "%s", v->summary);
    }
    if (st == SW_OK) {
        printf(
            "swbench measures sparse attention: accuracy, recovery and time on one code path.\n\n");
        st = sw_table_print(&table, stdout);
        printf("\nswbench help TOPIC: a verb, config, a section of it (workloads, axes, methods, "
               "timing), a method, metrics, scores\n"
               "Exit codes:");
        for (const struct sw_exit_info *e = sw_exit_table; e->meaning; e++)
            printf("%s %d %s", e == sw_exit_table ? "" : ",", e->code, e->meaning);
        putchar('\n');
    }
    sw_table_free(&table);
    return st;
}

/* "methods with a threshold: spargeattn (cdfthreshd), …", and likewise those with layers. */
static void print_calibrated(void)
{
    const char *separator = "methods with a threshold to find: ";
    for (int i = 0; sw_methods[i]; i++)
        if (sw_methods[i]->threshold) {
            printf("%s%s (%s)", separator, sw_methods[i]->name, sw_methods[i]->threshold);
            separator = ", ";
        }
    separator = "\nmethods with layers to find: ";
    for (int i = 0; sw_methods[i]; i++)
        if (sw_methods[i]->layer_search) {
            printf("%s%s", separator, sw_methods[i]->name);
            separator = ", ";
        }
    putchar('\n');
}

static enum sw_status help_verb(const struct sw_verb *verb)
{
    struct sw_table table = {.columns = 2};
    enum sw_status st = SW_OK;
    for (const struct sw_flag *f = verb->flags; f->name && st == SW_OK; f++) {
        st = sw_table_add(&table, "  %s%s%s", f->name, f->value ? " " : "",
                          f->value ? f->value : "");
        if (st == SW_OK)
            st = sw_table_add(&table, "%s", f->help);
    }
    if (st == SW_OK) {
        printf("swbench %s %s: %s\n", verb->name, verb->usage, verb->summary);
        st = sw_table_print(&table, stdout);
    }
    if (st == SW_OK && verb->run == sw_verb_calibrate)
        print_calibrated();
    sw_table_free(&table);
    return st;
}

/* --- options ---------------------------------------------------------------------------------- */

static enum sw_status add_row(struct sw_table *table, const struct sw_help_row *row)
{
    SW_TRY(sw_table_add(table, "  %s", row->name));
    SW_TRY(sw_table_add(table, "%s", row->expected));
    SW_TRY(sw_table_add(table, "%s", row->initial));
    return sw_table_add(table, "%s", row->help);
}

static enum sw_status help_section(const struct sw_section *section)
{
    struct sw_table table = {.columns = 4};
    enum sw_status st = SW_OK;
    for (const struct sw_option *o = section->options; o->param.name && st == SW_OK; o++) {
        struct sw_help_row row;
        sw_help_option(o, &row);
        st = add_row(&table, &row);
    }
    if (st == SW_OK) {
        printf("%s: %s\n", section->name, section->help);
        st = sw_table_print(&table, stdout);
    }
    sw_table_free(&table);
    return st;
}

static enum sw_status help_config(void)
{
    for (int i = 0; sw_sections[i]; i++) {
        if (i > 0)
            putchar('\n');
        SW_TRY(help_section(sw_sections[i]));
    }
    return SW_OK;
}

/* --- methods and metrics ---------------------------------------------------------------------- */

static enum sw_status help_method(const struct sw_method *method)
{
    struct sw_table table = {.columns = 4};
    enum sw_status st = SW_OK;
    for (const struct sw_param *p = method->params; p->name && st == SW_OK; p++) {
        struct sw_help_row row;
        sw_help_param(p, &row);
        st = add_row(&table, &row);
    }
    if (st == SW_OK) {
        printf("%s: %s\n  follows %s\n", method->name, method->summary, method->source);
        st = sw_table_print(&table, stdout);
    }
    sw_table_free(&table);
    return st;
}

/* The section of a config, and every method with its parameters. */
static enum sw_status help_methods(void)
{
    SW_TRY(help_section(&sw_method_section));
    for (int i = 0; sw_methods[i]; i++) {
        putchar('\n');
        SW_TRY(help_method(sw_methods[i]));
    }
    return SW_OK;
}

static enum sw_status help_metrics(void)
{
    static const char *const titles[] = {"metric", "unit", "better", "what it is"};
    struct sw_table table = {.columns = 4, .titles = titles};
    enum sw_status st = SW_OK;
    for (const struct sw_metric_info *m = sw_metric_table; m->name && st == SW_OK; m++) {
        st = sw_table_add(&table, "%s", m->name);
        if (st == SW_OK)
            st = sw_table_add(&table, "%s", m->unit);
        if (st == SW_OK)
            st = sw_table_add(&table, "%s",
                              m->better > 0   ? "higher"
                              : m->better < 0 ? "lower"
                                              : "-");
        if (st == SW_OK)
            st = sw_table_add(&table, "%s", m->long_name);
    }
    if (st == SW_OK)
        st = sw_table_print(&table, stdout);
    sw_table_free(&table);
    return st;
}

static enum sw_status help_scores(void)
{
    static const char *const titles[] = {"score", "of answers, 0 … 100"};
    struct sw_table table = {.columns = 2, .titles = titles};
    enum sw_status st = SW_OK;
    for (const struct sw_scorer *s = sw_scorers; s->name && st == SW_OK; s++) {
        st = sw_table_add(&table, "%s", s->name);
        if (st == SW_OK)
            st = sw_table_add(&table, "%s", s->summary);
    }
    if (st == SW_OK)
        st = sw_table_print(&table, stdout);
    sw_table_free(&table);
    return st;
}

/* --- topics ----------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum sw_status (*print)(void);
} topics[] = {
    {"config", help_config}, {"methods", help_methods}, {"metrics", help_metrics},
    {"scores", help_scores}, {"verbs", help_verbs},
};
enum { TOPICS = sizeof topics / sizeof topics[0] };

static enum sw_status unknown_topic(const char *topic)
{
    char shown[80], hint[SW_HINT_SIZE];
    struct sw_nearest nearest = sw_nearest_begin(topic);
    for (int i = 0; i < TOPICS; i++)
        sw_nearest_offer(&nearest, topics[i].name);
    for (int i = 0; sw_verbs[i].name; i++)
        sw_nearest_offer(&nearest, sw_verbs[i].name);
    for (int i = 0; sw_sections[i]; i++)
        sw_nearest_offer(&nearest, sw_sections[i]->name);
    for (int i = 0; sw_methods[i]; i++)
        sw_nearest_offer(&nearest, sw_methods[i]->name);
    return SW_FAIL(SW_EINPUT, "help: unknown topic %s%s; `swbench help` lists them",
                   sw_quote(topic, shown, sizeof shown), sw_nearest_hint(&nearest, hint));
}

static enum sw_status help_topic(const char *topic)
{
    for (int i = 0; i < TOPICS; i++)
        if (strcmp(topics[i].name, topic) == 0)
            return topics[i].print();
    if (sw_verb_find(topic))
        return help_verb(sw_verb_find(topic));
    if (sw_method_find(topic))
        return help_method(sw_method_find(topic));
    for (int i = 0; sw_sections[i]; i++)
        if (strcmp(sw_sections[i]->name, topic) == 0)
            return help_section(sw_sections[i]);
    return unknown_topic(topic);
}

/* Formats for machines: everything at once. */
static enum sw_status print_whole(const struct sw_cli *cli, const char *format)
{
    static const struct {
        const char *name;
        void (*print)(FILE *out);
    } formats[] = {
        {"man", sw_manual_print}, {"bash", sw_completion_bash}, {"zsh", sw_completion_zsh}};
    char shown[80];
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(formats[i].name, format) != 0)
            continue;
        if (cli->n_positional)
            return SW_FAIL(SW_EINPUT, "help: --format %s is of everything; found a topic beside it",
                           format);
        formats[i].print(stdout);
        return SW_OK;
    }
    return SW_FAIL(SW_EINPUT, "help: --format: found %s, expected text, man, bash or zsh",
                   sw_quote(format, shown, sizeof shown));
}

int sw_verb_help(int argc, char **argv)
{
    struct sw_cli cli;
    enum sw_status st = sw_cli_parse(argc, argv, 0, 1, &cli);
    const char *format = st == SW_OK ? sw_cli_value(&cli, "--format") : NULL;
    if (st == SW_OK && format && strcmp(format, "text") != 0)
        st = print_whole(&cli, format);
    else if (st == SW_OK)
        st = cli.n_positional ? help_topic(cli.positional[0]) : help_verbs();
    return sw_cli_exit(st);
}
