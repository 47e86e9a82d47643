/* report.h: a result folder as tables for people: what methods reach, what is missing, what to
 * distrust, and where the figures come from. */
#ifndef SW_REPORT_H
#define SW_REPORT_H

#include <stdbool.h>

#include "core/status.h"

/* On standard output, as Markdown or LaTeX. SW_EINPUT: a folder without cells, or a damaged one. */
SW_MUST_CHECK enum sw_status sw_report_print(const char *results, bool latex);

#endif
