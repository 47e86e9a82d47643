/* bind_section.h: from a mapping of a config file to a struct, by the tables of options.c;
 * workloads and methods are sections with rules of their own. Every function here reports what it
 * dislikes as a problem and goes on, so that one run shows them all; only running out of memory
 * stops it. */
#ifndef SW_BIND_SECTION_H
#define SW_BIND_SECTION_H

#include "harness/config/bind_value.h"

enum { SW_NO_KIND = -1 }; /* of a section that is no workload */

/* Defaults of a section's values; its axes and names stay empty. */
SW_MUST_CHECK enum sw_status sw_section_defaults(const struct sw_section *section, char *base);

/* Fills the struct at base from a mapping. kind: of a workload, or SW_NO_KIND. */
SW_MUST_CHECK enum sw_status sw_bind_section(const struct sw_place *at,
                                             const struct sw_section *section, char *base,
                                             int kind);

/* bind_workload.c, bind_method.c: the lists of the top level. Methods are bound when the budget
 * is. */
SW_MUST_CHECK enum sw_status sw_bind_workloads(const struct sw_place *at, struct sw_config *config);
SW_MUST_CHECK enum sw_status sw_bind_methods(const struct sw_place *at, struct sw_config *config);

#endif
