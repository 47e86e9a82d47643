/* A report from top to bottom: tables, legend, what is missing, where it comes from. */
#include "harness/report/report.h"

#include <stdio.h>

#include "harness/report/report_cells.h"

static void print_legend(const struct sw_report *r)
{
    sw_report_line(r, "",
                   "density: asked for; kept: counted share of causal token pairs; [low, high]: "
                   "95 % interval; Δ to dense: paired over the same");
    sw_report_line(r, "",
                   "prompts or windows; speed-up: dense attention time / attention time, selection "
                   "included.");
    putchar('\n');
}

enum sw_status sw_report_print(const char *results, bool latex)
{
    struct sw_report r;
    enum sw_status st = sw_report_open(results, latex, &r);
    if (st == SW_OK) {
        sw_report_tables(&r);
        print_legend(&r);
        sw_report_missing(&r);
        sw_report_origins(&r);
        st = r.status;
    }
    sw_report_close(&r);
    return st;
}
