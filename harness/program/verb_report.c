/* swbench report: readable tables of a result folder, what to distrust in them, and where they come
 * from. */
#include <string.h>

#include "harness/program/result_args.h"
#include "harness/program/verbs.h"
#include "harness/report/report.h"

int sw_verb_report(int argc, char **argv)
{
    static const char *const formats[] = {"md", "latex", NULL};
    struct sw_result_args args;
    enum sw_status st = sw_result_args_parse(argc, argv, formats, &args);
    if (st == SW_OK)
        st = sw_report_print(args.results, strcmp(args.format, "latex") == 0);
    return sw_cli_flush(sw_cli_exit(st));
}
