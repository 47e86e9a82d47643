#include "harness/store/param_json.h"

#include <stdlib.h>
#include <string.h>

char *sw_param_json_text(const json_t *value)
{
    return json_is_string(value)
               ? strdup(json_string_value(value))
               : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
}

bool sw_param_json_is_default(const struct sw_param *param, const json_t *value)
{
    if (json_is_number(value))
        return strtod(param->initial, NULL) == json_number_value(value);
    if (json_is_null(value))
        return !*param->initial;
    if (json_is_string(value))
        return strcmp(param->initial, json_string_value(value)) == 0;
    char *text = sw_param_json_text(value);
    bool same = text && strcmp(param->initial, text) == 0;
    free(text);
    return same;
}
