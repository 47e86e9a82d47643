/* param_json.h: a cell's parameters as stored (JSON) against the table that describes them. */
#ifndef SW_PARAM_JSON_H
#define SW_PARAM_JSON_H

#include <jansson.h>

#include "core/param.h"

/* Whether `value` is the parameter's default. */
bool sw_param_json_is_default(const struct sw_param *param, const json_t *value);

/* A value as it is read and written: no quotes around texts. malloc'd, NULL when out of memory. */
char *sw_param_json_text(const json_t *value);

#endif
