/* param_json.h: a method's parameters as cells store them (JSON), against the table that describes
 * them. */
#ifndef SW_PARAM_JSON_H
#define SW_PARAM_JSON_H

#include <jansson.h>

#include "core/param.h"

/* {"block_size": 64, …}: every parameter of the table in its order, each number with as few digits
 * as read back to it; null for a text that is not set. Malloc'd. */
SW_MUST_CHECK enum sw_status sw_param_json(const struct sw_param *table, const void *base,
                                           char **out);

/* Whether `value` is the parameter's default. */
bool sw_param_json_is_default(const struct sw_param *param, const json_t *value);

/* Removes the parameters that have their default value. Those that the table does not have stay. */
void sw_param_json_drop_defaults(const struct sw_param *table, json_t *params);

/* Removes the parameters that are as they are where nobody sets them; native: under a native
 * budget. */
void sw_param_json_drop_unset(const struct sw_param *table, json_t *params, bool native);

/* A value as it is read and written: no quotes around texts. malloc'd, NULL when out of memory. */
char *sw_param_json_text(const json_t *value);

#endif
