/* swbench compare: the regression gate. */
#include <stdio.h>
#include <string.h>

#include "core/param.h"
#include "harness/judge/compare.h"
#include "harness/program/cli.h"

enum ambiguous { PASS, FAIL };

struct options {
    struct sw_compare_rules rules;
    int ambiguous, format;
    bool all;
};

/* A flag's value by the rules that config values follow; as it is when the flag is absent. */
static enum sw_status take(const struct sw_cli *cli, const struct sw_param *param, void *base)
{
    const char *text = sw_cli_value(cli, param->name);
    if (!text)
        return SW_OK;
    enum sw_status st = sw_param_set(param, base, text);
    return st == SW_OK ? st : sw_context(st, "%s", param->name);
}

static enum sw_status parse(const struct sw_cli *cli, struct options *o)
{
    static const struct sw_param params[] = {
        {.name = "--accuracy-drop",
         .type = SW_PARAM_REAL,
         .offset = offsetof(struct options, rules.accuracy_drop),
         .min = 0,
         .max = 100},
        {.name = "--slowdown",
         .type = SW_PARAM_REAL,
         .offset = offsetof(struct options, rules.slowdown),
         .min = 1,
         .min_open = true,
         .max = 1000},
        {.name = "--on-ambiguous",
         .type = SW_PARAM_CHOICE,
         .offset = offsetof(struct options, ambiguous),
         .choices = "pass|fail"},
        {.name = "--format",
         .type = SW_PARAM_CHOICE,
         .offset = offsetof(struct options, format),
         .choices = "text|json|junit|md"},
        SW_PARAM_END,
    };
    *o = (struct options){.rules = {.accuracy_drop = 1, .slowdown = 1.10}, .ambiguous = PASS};
    for (const struct sw_param *p = params; p->name; p++)
        SW_TRY(take(cli, p, o));
    o->all = sw_cli_has(cli, "--all");
    o->rules.absolute_time = sw_cli_has(cli, "--absolute-time");
    o->rules.across_machines = sw_cli_has(cli, "--across-machines");
    return SW_OK;
}

static int exit_code(enum sw_verdict verdict, enum ambiguous ambiguous)
{
    switch (verdict) {
    case SW_VERDICT_WORSE:
        return SW_EXIT_REGRESSION;
    case SW_VERDICT_INCOMPARABLE:
        return SW_EXIT_INCONCLUSIVE;
    case SW_VERDICT_AMBIGUOUS:
        return ambiguous == FAIL ? SW_EXIT_INCONCLUSIVE : SW_EXIT_OK;
    case SW_VERDICT_SAME:
    case SW_VERDICT_BETTER:
    case SW_VERDICTS:
        break;
    }
    return SW_EXIT_OK;
}

int sw_verb_compare(int argc, char **argv)
{
    struct sw_cli cli;
    struct options o;
    struct sw_comparison c = {0};
    enum sw_status st = sw_cli_parse(argc, argv, 2, 2, &cli);
    if (st == SW_OK)
        st = parse(&cli, &o);
    if (st == SW_OK)
        st = sw_compare(cli.positional[0], cli.positional[1], &o.rules, &c);
    if (st == SW_OK)
        st = sw_comparison_print(&c, sw_comparison_formats[o.format], o.all, o.ambiguous == FAIL);
    int code = st == SW_OK ? exit_code(sw_comparison_verdict(&c), o.ambiguous) : sw_cli_exit(st);
    sw_comparison_clear(&c);
    return sw_cli_flush(code);
}
