/* Parses a verb's command line by its table of flags. */
#include "harness/program/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/nearest.h"
#include "core/param.h"
#include "harness/config/options.h"

const struct sw_verb *sw_verb_find(const char *name)
{
    for (const struct sw_verb *v = sw_verbs; v->name; v++)
        if (strcmp(v->name, name) == 0)
            return v;
    return NULL;
}

/* --- parsing ---------------------------------------------------------------------------------- */

static const struct sw_flag *find_flag(const struct sw_verb *verb, const char *text, size_t length)
{
    for (const struct sw_flag *f = verb->flags; f->name; f++)
        if (strlen(f->name) == length && strncmp(f->name, text, length) == 0)
            return f;
    return NULL;
}

static enum sw_status unknown_flag(const struct sw_verb *verb, const char *arg)
{
    char shown[80], name[80], hint[SW_HINT_SIZE];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(arg, "="), arg);
    struct sw_nearest nearest = sw_nearest_begin(name);
    for (const struct sw_flag *f = verb->flags; f->name; f++)
        sw_nearest_offer(&nearest, f->name);
    sw_quote(name, shown, sizeof shown);
    if (nearest.name)
        return SW_FAIL(SW_EINPUT, "%s: unknown flag %s%s", verb->name, shown,
                       sw_nearest_hint(&nearest, hint));
    return SW_FAIL(SW_EINPUT, "%s: unknown flag %s; `swbench help %s` lists them", verb->name,
                   shown, verb->name);
}

/* Takes argv[*i] and, when it wants one, its value. */
static enum sw_status take_flag(const struct sw_verb *verb, int argc, char **argv, int *i,
                                struct sw_cli *out)
{
    const char *arg = argv[*i], *equals = strchr(arg, '=');
    const struct sw_flag *flag =
        find_flag(verb, arg, equals ? (size_t)(equals - arg) : strlen(arg));
    if (!flag)
        return unknown_flag(verb, arg);
    const char *value = equals ? equals + 1 : NULL;
    if (!flag->value && value)
        return SW_FAIL(SW_EINPUT, "%s: %s takes no value", verb->name, flag->name);
    if (flag->value && !value && *i + 1 >= argc)
        return SW_FAIL(SW_EINPUT, "%s: %s expects %s", verb->name, flag->name, flag->value);
    if (flag->value && !value)
        value = argv[++*i];
    out->given[out->n_given].flag = flag;
    out->given[out->n_given++].value = value;
    return SW_OK;
}

enum sw_status sw_cli_parse(int argc, char **argv, int least, int most, struct sw_cli *out)
{
    out->n_positional = out->n_given = 0;
    const struct sw_verb *verb = sw_verb_find(argv[0]);
    if (!verb)
        return SW_FAIL(SW_EINTERNAL, "verb '%s' is not in the table", argv[0]);
    if (argc > SW_CLI_MAX)
        return SW_FAIL(SW_EINPUT, "%s: found %d arguments, expected at most %d", verb->name,
                       argc - 1, SW_CLI_MAX - 1);
    bool flags = true;
    for (int i = 1; i < argc; i++) {
        if (flags && strcmp(argv[i], "--") == 0)
            flags = false;
        else if (flags && argv[i][0] == '-' && argv[i][1] != '\0')
            SW_TRY(take_flag(verb, argc, argv, &i, out));
        else
            out->positional[out->n_positional++] = argv[i];
    }
    if (out->n_positional < least || out->n_positional > most)
        return SW_FAIL(SW_EINPUT, "found %s arguments, expected: swbench %s %s",
                       out->n_positional < least ? "too few" : "too many", verb->name, verb->usage);
    return SW_OK;
}

/* --- reading ---------------------------------------------------------------------------------- */

int sw_cli_values(const struct sw_cli *cli, const char *flag, const char *values[SW_CLI_MAX])
{
    int n = 0;
    for (int i = 0; i < cli->n_given; i++)
        if (strcmp(cli->given[i].flag->name, flag) == 0)
            values[n++] = cli->given[i].value;
    return n;
}

bool sw_cli_has(const struct sw_cli *cli, const char *flag)
{
    const char *values[SW_CLI_MAX];
    return sw_cli_values(cli, flag, values) > 0;
}

const char *sw_cli_value(const struct sw_cli *cli, const char *flag)
{
    const char *values[SW_CLI_MAX];
    int n = sw_cli_values(cli, flag, values);
    return n > 0 ? values[n - 1] : NULL;
}

enum sw_status sw_cli_int(const struct sw_cli *cli, const char *flag, int low, int high,
                          int otherwise, int *out)
{
    const char *text = sw_cli_value(cli, flag);
    struct sw_param param = {.name = flag, .type = SW_PARAM_INT, .min = low, .max = high};
    *out = otherwise;
    if (!text)
        return SW_OK;
    enum sw_status st = sw_param_set(&param, out, text);
    return st == SW_OK ? SW_OK : sw_context(st, "%s", flag);
}

static enum sw_status replace(char **field, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        return SW_FAIL(SW_ENOMEM, "no memory for the command line");
    free(*field);
    *field = copy;
    return SW_OK;
}

static enum sw_status apply_flags(const struct sw_cli *cli, struct sw_config *config)
{
    const char *backend = sw_cli_value(cli, "--backend"), *output = sw_cli_value(cli, "--output");
    if (backend) {
        enum sw_status st = sw_param_set(&sw_option_find(&sw_config_section, "backend")->param,
                                         config, *backend ? backend : "none");
        if (st != SW_OK)
            return sw_context(st, "--backend");
    }
    if (output && !*output)
        return SW_FAIL(SW_EINPUT, "--output: found nothing, expected a folder");
    if (output)
        return replace(&config->output, output);
    if (!config->output) {
        char folder[128];
        snprintf(folder, sizeof folder, "results/%s", config->name);
        return replace(&config->output, folder);
    }
    return SW_OK;
}

enum sw_status sw_cli_config(const struct sw_cli *cli, struct sw_config **out)
{
    return sw_cli_config_set(cli, NULL, out);
}

enum sw_status sw_cli_config_set(const struct sw_cli *cli, const char *set, struct sw_config **out)
{
    const char *sets[SW_CLI_MAX + 1];
    int n_sets = sw_cli_values(cli, "--set", sets);
    if (set)
        sets[n_sets++] = set;
    enum sw_status st = sw_config_read(cli->positional[0], sets, n_sets, stderr, out);
    if (st == SW_EINPUT)
        sw_error_clear(); /* its lines are out */
    if (st != SW_OK)
        return st;
    st = apply_flags(cli, *out);
    if (st != SW_OK) {
        sw_config_free(*out);
        *out = NULL;
    }
    return st;
}

/* --- ending ----------------------------------------------------------------------------------- */

int sw_cli_exit(enum sw_status status)
{
    if (status == SW_OK)
        return SW_EXIT_OK;
    if (*sw_error_message())
        fprintf(stderr, "swbench: %s\n", sw_error_message());
    sw_error_clear();
    switch (status) {
    case SW_EINTERRUPTED:
        return SW_EXIT_INTERRUPTED;
    case SW_ENOMEM:
    case SW_EDEVICE:
    case SW_EINTERNAL:
        return SW_EXIT_FAILED_CELLS;
    case SW_OK:
    case SW_EINPUT:
    case SW_EUNSUPPORTED:
    case SW_EIO:
        break;
    }
    return SW_EXIT_USAGE;
}

int sw_cli_flush(int code)
{
    errno = 0;
    if ((fflush(stdout) == 0 && !ferror(stdout)) || code != SW_EXIT_OK)
        return code; /* a failure has its line already */
    fprintf(stderr, "swbench: cannot write to standard output%s%s\n", errno ? ": " : "",
            errno ? strerror(errno) : "");
    return SW_EXIT_USAGE;
}
