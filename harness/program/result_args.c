/* The command line of the verbs that read results. */
#include "harness/program/result_args.h"

#include <stdio.h>
#include <string.h>

#include "core/nearest.h"
#include "harness/store/result.h"

static enum sw_status check_format(const char *format, const char *const *formats)
{
    char list[64] = "";
    for (const char *const *f = formats; *f; f++) {
        if (strcmp(*f, format) == 0)
            return SW_OK;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", f == formats ? "" : "|",
                 *f);
    }
    return SW_FAIL(SW_EINPUT, "--format: found '%s', expected %s", format, list);
}

static enum sw_status check_metric(const char *name)
{
    if (sw_metric_find(name))
        return SW_OK;
    char shown[80], hint[SW_HINT_SIZE];
    struct sw_nearest nearest = sw_nearest_begin(name);
    for (const struct sw_metric_info *m = sw_metric_table; m->name; m++)
        sw_nearest_offer(&nearest, m->name);
    return SW_FAIL(SW_EINPUT,
                   "--metric: found %s, expected one that `swbench help metrics` lists%s",
                   sw_quote(name, shown, sizeof shown), sw_nearest_hint(&nearest, hint));
}

enum sw_status sw_result_args_parse(int argc, char **argv, const char *const *formats,
                                    struct sw_result_args *out)
{
    struct sw_cli cli;
    *out = (struct sw_result_args){.format = formats[0]};
    SW_TRY(sw_cli_parse(argc, argv, 1, SW_CLI_MAX, &cli));
    if (sw_cli_has(&cli, "--format"))
        out->format = sw_cli_value(&cli, "--format");
    SW_TRY(check_format(out->format, formats));
    if (sw_cli_has(&cli, "--metric"))
        out->n_metrics = sw_cli_values(&cli, "--metric", out->metrics);
    /* "--metric A B C" names several: of the arguments without a flag, one is the folder, the
     * others are metrics. */
    int folder = 0;
    while (folder + 1 < cli.n_positional && out->n_metrics &&
           sw_metric_find(cli.positional[folder]))
        ++folder;
    out->results = cli.positional[folder];
    for (int i = 0; i < cli.n_positional; i++) {
        if (i == folder)
            continue;
        if (!sw_cli_has(&cli, "--metric"))
            return SW_FAIL(SW_EINPUT, "found '%s' after '%s', expected one result folder",
                           cli.positional[i], out->results);
        out->metrics[out->n_metrics++] = cli.positional[i];
    }
    for (int i = 0; i < out->n_metrics; i++)
        SW_TRY(check_metric(out->metrics[i]));
    return SW_OK;
}
