/* A method's parameters as cells store them (JSON), against the table that describes them. */
#include "harness/config/param_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_TEXT = 1200 }; /* more than the reader of config files takes */

/* A text as JSON: quoted, or null where it is not set. NULL when out of memory. */
static char *quoted(const char *text)
{
    json_t *value = *text ? json_string(text) : json_null();
    char *json = json_dumps(value, JSON_ENCODE_ANY);
    json_decref(value);
    return json;
}

/* Numbers are not left to jansson: it writes 0.1 as 0.10000000000000001. */
enum sw_status sw_param_json(const struct sw_param *table, const void *base, char **out)
{
    size_t size;
    *out = NULL;
    FILE *stream = open_memstream(out, &size);
    bool good = stream != NULL;
    for (const struct sw_param *p = table; good && p->name; p++) {
        char text[LONGEST_TEXT], *json = NULL;
        sw_param_text(p, base, text, sizeof text);
        bool quote = p->type == SW_PARAM_CHOICE || p->type == SW_PARAM_TEXT;
        good = !quote || (json = quoted(text));
        fprintf(stream, "%s\"%s\": %s", p == table ? "{" : ", ", p->name, json ? json : text);
        free(json);
    }
    if (stream) {
        fputs(table->name ? "}" : "{}", stream);
        good = ferror(stream) == 0 && good;
        good = fclose(stream) == 0 && good && *out;
    }
    if (good)
        return SW_OK;
    free(*out);
    *out = NULL;
    return SW_FAIL(SW_ENOMEM, "out of host memory (parameters as JSON)");
}

char *sw_param_json_text(const json_t *value)
{
    return json_is_string(value)
               ? strdup(json_string_value(value))
               : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
}

static bool is_text(const json_t *value, const char *wanted)
{
    if (json_is_number(value))
        return strtod(wanted, NULL) == json_number_value(value);
    if (json_is_null(value))
        return !*wanted;
    if (json_is_string(value))
        return strcmp(wanted, json_string_value(value)) == 0;
    char *text = sw_param_json_text(value);
    bool same = text && strcmp(wanted, text) == 0;
    free(text);
    return same;
}

bool sw_param_json_is_default(const struct sw_param *param, const json_t *value)
{
    return is_text(value, param->initial);
}

void sw_param_json_drop_unset(const struct sw_param *table, json_t *params, bool native)
{
    for (const struct sw_param *p = table; p && p->name; p++) {
        const json_t *value = json_object_get(params, p->name);
        if (value && is_text(value, native && p->native ? p->native : p->initial))
            json_object_del(params, p->name);
    }
}

void sw_param_json_drop_defaults(const struct sw_param *table, json_t *params)
{
    sw_param_json_drop_unset(table, params, false);
}
