/* Parameters by their table: defaults, checks, and how they are printed. */
#include "core/param.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/nearest.h"

static void *field(const struct sw_param *param, void *base)
{
    return (char *)base + param->offset;
}
static const void *field_const(const struct sw_param *param, const void *base)
{
    return (const char *)base + param->offset;
}
static bool ranged(const struct sw_param *param) { return param->min != 0 || param->max != 0; }

/* --- reading ---------------------------------------------------------------------------------- */

static enum sw_status unexpected(const struct sw_param *param, const char *value)
{
    char found[80], expected[256];
    return SW_FAIL(SW_EINPUT, "found %s, expected %s",
                   *value ? sw_quote(value, found, sizeof found) : "nothing",
                   sw_param_expected(param, expected, sizeof expected));
}

/* Decimal digits with an optional minus; no leading zeros (octal to some readers), no plus, nothing
 * around it. */
static bool parse_int(const char *text, long long *out)
{
    const char *digits = text[0] == '-' ? text + 1 : text;
    size_t n = strspn(digits, "0123456789");
    if (n == 0 || digits[n] != '\0' || (n > 1 && digits[0] == '0'))
        return false;
    errno = 0;
    *out = strtoll(text, NULL, 10);
    return errno == 0;
}

/* Decimal numbers only: strtod would also take nan, inf and hexadecimal. */
static bool parse_real(const char *text, double *out)
{
    if (*text == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0')
        return false;
    char *end;
    *out = strtod(text, &end);
    return *end == '\0' && isfinite(*out);
}

static bool in_range(const struct sw_param *param, double value)
{
    return !ranged(param) ||
           ((param->min_open ? value > param->min : value >= param->min) && value <= param->max);
}

/* The place of `value` in "a|b|c", or -1. */
static int choice_index(const char *choices, const char *value)
{
    size_t length = strlen(value);
    for (int i = 0;; i++) {
        size_t n = strcspn(choices, "|");
        if (n == length && n > 0 && strncmp(choices, value, n) == 0)
            return i;
        if (choices[n] == '\0')
            return -1;
        choices += n + 1;
    }
}

static void choice_name(const char *choices, int index, char *text, size_t size)
{
    for (; index > 0 && *choices; index--) {
        choices += strcspn(choices, "|");
        choices += *choices == '|';
    }
    snprintf(text, size, "%.*s", (int)strcspn(choices, "|"), choices);
}

enum sw_status sw_param_set(const struct sw_param *param, void *base, const char *text)
{
    void *to = field(param, base);
    switch (param->type) {
    case SW_PARAM_INT: {
        long long v;
        if (!parse_int(text, &v) || v < INT_MIN || v > INT_MAX || !in_range(param, (double)v) ||
            (param->power_of_two && (v <= 0 || (v & (v - 1)) != 0)))
            return unexpected(param, text);
        *(int *)to = (int)v;
        return SW_OK;
    }
    case SW_PARAM_REAL: {
        double v;
        if (!parse_real(text, &v) || !in_range(param, v))
            return unexpected(param, text);
        *(double *)to = v == 0 ? 0.0 : v; /* -0 is 0: equal values must give equal keys */
        return SW_OK;
    }
    case SW_PARAM_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return unexpected(param, text);
        *(bool *)to = text[0] == 't';
        return SW_OK;
    case SW_PARAM_CHOICE: {
        int i = choice_index(param->choices, text);
        if (i < 0)
            return unexpected(param, text);
        *(int *)to = i;
        return SW_OK;
    }
    case SW_PARAM_TEXT: {
        if (*text && param->choices && choice_index(param->choices, text) < 0)
            return unexpected(param, text);
        char *copy = NULL;
        if (*text && !(copy = strdup(text)))
            return SW_FAIL(SW_ENOMEM, "no memory for the text of '%s' (%zu bytes)", param->name,
                           strlen(text) + 1);
        free(*(char **)to);
        *(char **)to = copy;
        return SW_OK;
    }
    }
    return SW_FAIL(SW_EINTERNAL, "parameter '%s' has unknown type %d", param->name,
                   (int)param->type);
}

enum sw_status sw_param_defaults(const struct sw_param *table, void *base)
{
    for (const struct sw_param *p = table; p && p->name; p++) {
        enum sw_status st = sw_param_set(p, base, p->initial ? p->initial : "");
        if (st != SW_OK)
            return sw_context(st, "default of '%s'", p->name);
    }
    return SW_OK;
}

enum sw_status sw_param_native(const struct sw_param *table, void *base)
{
    for (const struct sw_param *p = table; p && p->name; p++) {
        enum sw_status st = p->native ? sw_param_set(p, base, p->native) : SW_OK;
        if (st != SW_OK)
            return sw_context(st, "native default of '%s'", p->name);
    }
    return SW_OK;
}

void sw_param_free(const struct sw_param *table, void *base)
{
    for (const struct sw_param *p = table; base && p && p->name; p++)
        if (p->type == SW_PARAM_TEXT) {
            free(*(char **)field(p, base));
            *(char **)field(p, base) = NULL;
        }
}

/* --- names ------------------------------------------------------------------------------------ */

const struct sw_param *sw_param_find(const struct sw_param *table, const char *name)
{
    for (const struct sw_param *p = table; p && p->name; p++)
        if (strcmp(p->name, name) == 0)
            return p;
    return NULL;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* The shortest decimal that reads back as the same double; whole numbers without an exponent. */
static void real_text(double value, char *text, size_t size)
{
    if (value == trunc(value) && fabs(value) < 1e15) {
        snprintf(text, size, "%.0f", value);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            return;
    }
}

const char *sw_param_text(const struct sw_param *param, const void *base, char *text, size_t size)
{
    const void *from = field_const(param, base);
    switch (param->type) {
    case SW_PARAM_INT:
        snprintf(text, size, "%d", *(const int *)from);
        break;
    case SW_PARAM_REAL:
        real_text(*(const double *)from, text, size);
        break;
    case SW_PARAM_BOOL:
        snprintf(text, size, "%s", *(const bool *)from ? "true" : "false");
        break;
    case SW_PARAM_CHOICE:
        choice_name(param->choices, *(const int *)from, text, size);
        break;
    case SW_PARAM_TEXT: {
        const char *value = *(char *const *)from;
        snprintf(text, size, "%s", value ? value : "");
        break;
    }
    }
    return text;
}

const char *sw_param_expected(const struct sw_param *param, char *text, size_t size)
{
    char low[32], high[32];
    real_text(param->min, low, sizeof low);
    real_text(param->max, high, sizeof high);
    switch (param->type) {
    case SW_PARAM_INT:
        if (!ranged(param))
            snprintf(text, size, "an integer");
        else if (param->min == param->max)
            snprintf(text, size, "%.0f", param->min);
        else if (param->max >= INT_MAX)
            snprintf(text, size, "%s >= %.0f",
                     param->power_of_two ? "a power of two" : "an integer", param->min);
        else
            snprintf(text, size, "%s %.0f…%.0f",
                     param->power_of_two ? "a power of two" : "an integer", param->min, param->max);
        break;
    case SW_PARAM_REAL:
        if (!ranged(param))
            snprintf(text, size, "a number");
        else if (param->max >= 1e300)
            snprintf(text, size, "a number %s %s", param->min_open ? ">" : ">=", low);
        else
            snprintf(text, size, "a number in %c%s, %s]", param->min_open ? '(' : '[', low, high);
        break;
    case SW_PARAM_BOOL:
        snprintf(text, size, "true|false");
        break;
    case SW_PARAM_CHOICE:
        snprintf(text, size, "%s", param->choices);
        break;
    case SW_PARAM_TEXT:
        snprintf(text, size, "%s", param->choices ? param->choices : "a text");
        break;
    }
    return text;
}
