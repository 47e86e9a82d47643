/* One row of help about a config key or parameter, as text. */
#include "harness/program/help_row.h"

#include <stdio.h>
#include <string.h>

static void set_initial(const struct sw_param *param, struct sw_help_row *row)
{
    if (param->initial && *param->initial)
        snprintf(row->initial, sizeof row->initial, "default %s", param->initial);
    else
        row->initial[0] = '\0';
}

void sw_help_option(const struct sw_option *option, struct sw_help_row *row)
{
    char kinds[64] = "";
    for (int k = 0; option->kinds && sw_workload_kind_names[k]; k++)
        if (option->kinds & 1u << k)
            snprintf(kinds + strlen(kinds), sizeof kinds - strlen(kinds), "%s%s",
                     *kinds ? ", " : "", sw_workload_kind_names[k]);
    row->name = option->param.name;
    sw_option_expected(option, row->expected, sizeof row->expected);
    set_initial(&option->param, row);
    if (option->required)
        snprintf(row->initial, sizeof row->initial, "required");
    snprintf(row->help, sizeof row->help, "%s%s%s%s", option->param.help, *kinds ? " (" : "", kinds,
             *kinds ? ")" : "");
}

/* "default 64, native 128 (xattn/src/Xattention.py)" */
static void add_published(const struct sw_param *param, struct sw_help_row *row)
{
    char native[80] = "";
    size_t used = strlen(row->initial);
    if (param->native)
        snprintf(native, sizeof native, ", native %s", param->native);
    if (param->published)
        snprintf(row->initial + used, sizeof row->initial - used, "%s (%s)", native,
                 param->published);
}

void sw_help_param(const struct sw_param *param, struct sw_help_row *row)
{
    row->name = param->name;
    sw_param_expected(param, row->expected, sizeof row->expected);
    set_initial(param, row);
    add_published(param, row);
    snprintf(row->help, sizeof row->help, "%s", param->help ? param->help : "");
}
