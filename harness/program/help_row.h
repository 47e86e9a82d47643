/* help_row.h: what there is to say about a config key or a method's parameter, for `swbench help`
 * and the manual page. */
#ifndef SW_HELP_ROW_H
#define SW_HELP_ROW_H

#include "harness/config/options.h"

struct sw_help_row {
    const char *name;
    char expected[256]; /* what values are accepted */
    char initial[256];  /* "required", "default X" or nothing */
    char help[512];     /* with the kinds of workload it is for */
};

void sw_help_option(const struct sw_option *option, struct sw_help_row *row);
void sw_help_param(const struct sw_param *param, struct sw_help_row *row);

#endif
