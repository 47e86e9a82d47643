/* options.h: every key of a config, in one table a section. bind_section.c reads files and --set
 * with them, verb_help.c prints them.
 *
 * To add a scalar key: one field in struct sw_config (or sw_workload) and one row here. */
#ifndef SW_OPTIONS_H
#define SW_OPTIONS_H

#include "harness/config/config.h"

enum sw_option_form {
    SW_OPTION_VALUE, /* one value of param.type at param.offset */
    SW_OPTION_SEED,  /* uint64_t at param.offset */
    /* one value or a list: array (malloc'd) at param.offset, its int length at count_offset */
    SW_OPTION_AXIS,
    /* one name or a list: struct sw_texts at param.offset; safe as parts of file names */
    SW_OPTION_NAMES,
    SW_OPTION_SET,     /* any of param.choices: unsigned at param.offset, bit i for choice i */
    SW_OPTION_SHAPE,   /* a name of sw_shapes: pointer at param.offset */
    SW_OPTION_SECTION, /* a mapping with the options of `section`, offsets in the same struct */
    /* structure, not values */
    SW_OPTION_WORKLOADS,
    SW_OPTION_METHODS,
    SW_OPTION_METHOD,
    SW_OPTION_PARAMS,
};

struct sw_section;

struct sw_option {
    /* name, type and range of one value, default, help; name NULL ends a table */
    struct sw_param param;
    enum sw_option_form form;
    size_t count_offset;              /* AXIS */
    const struct sw_section *section; /* SECTION, WORKLOADS, METHODS */
    unsigned kinds;                   /* workloads: for which kinds (bit 1 << kind); 0: all */
    bool required;
};

struct sw_section {
    const char *name, *help;
    const struct sw_option *options;
};

extern const struct sw_section sw_config_section, sw_axes_section, sw_timing_section,
    sw_workload_section, sw_method_section;
extern const struct sw_section *const sw_sections[]; /* all of them; ends with NULL */

const struct sw_option *sw_option_find(const struct sw_section *section, const char *name);
/* What a message says is expected: that of sw_param_expected, a list of it, a mapping … Returns
 * text. */
const char *sw_option_expected(const struct sw_option *option, char *text, size_t size);

unsigned sw_option_all(const struct sw_option *option); /* SET: the bits of all its choices */

/* Whether a text can be a file's name: 1…100 bytes, no '/', no control characters, no leading '.'
 * or '-'. */
bool sw_is_file_name(const char *text);

#endif
