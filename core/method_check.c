/* Checks the table of methods once, at start, so that a method that lacks a piece is one line of
 * error and no crash in the middle of a sweep. */
#include <stdlib.h>
#include <string.h>

#include "core/method.h"

static bool is_name(const char *text)
{
    return text && *text && text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
}

static bool is_empty(const char *text) { return !text || !*text; }

static size_t param_bytes(const struct sw_param *param)
{
    switch (param->type) {
    case SW_PARAM_INT:
    case SW_PARAM_CHOICE:
        return sizeof(int);
    case SW_PARAM_REAL:
        return sizeof(double);
    case SW_PARAM_BOOL:
        return sizeof(bool);
    case SW_PARAM_TEXT:
        return sizeof(char *);
    }
    return 0;
}

/* One row of a parameter table, apart from its default, which check_params tries. */
static enum sw_status check_param(const struct sw_method *m, const struct sw_param *param)
{
    bool number = param->type == SW_PARAM_INT || param->type == SW_PARAM_REAL;
    if (!is_name(param->name))
        return SW_FAIL(SW_EINTERNAL, "parameter '%s': expected a name of a-z, 0-9 and _",
                       param->name);
    if (is_empty(param->help))
        return SW_FAIL(SW_EINTERNAL, "parameter %s has no help", param->name);
    if (number && !(param->min < param->max))
        return SW_FAIL(SW_EINTERNAL, "parameter %s has no range", param->name);
    if (param->native && !(m->flags & SW_METHOD_NATIVE))
        return SW_FAIL(SW_EINTERNAL, "parameter %s has a native default, the method no flag NATIVE",
                       param->name);
    if (param->native && is_empty(param->published))
        return SW_FAIL(SW_EINTERNAL, "parameter %s: where is its native default published?",
                       param->name);
    if (param->type == SW_PARAM_CHOICE && is_empty(param->choices))
        return SW_FAIL(SW_EINTERNAL, "parameter %s has no choices", param->name);
    if (param_bytes(param) == 0 || param->offset > m->params_size ||
        m->params_size - param->offset < param_bytes(param))
        return SW_FAIL(SW_EINTERNAL, "parameter %s lies outside the %zu bytes of params_size",
                       param->name, m->params_size);
    if (sw_param_find(m->params, param->name) != param)
        return SW_FAIL(SW_EINTERNAL, "two parameters are named %s", param->name);
    return SW_OK;
}

static enum sw_status check_params(const struct sw_method *m)
{
    const struct sw_param *first = m->params;
    if (!first || !first->name || strcmp(first->name, "block_size") != 0 ||
        first->type != SW_PARAM_INT || first->offset != 0 || !first->power_of_two)
        return SW_FAIL(SW_EINTERNAL, "its parameters must begin with SW_METHOD_COMMON_PARAMS");
    for (const struct sw_param *param = first; param->name; param++)
        SW_TRY(check_param(m, param));
    void *values = calloc(1, m->params_size);
    if (!values)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", m->params_size);
    enum sw_status st = sw_param_defaults(first, values);
    if (st == SW_OK)
        st = sw_param_native(first, values);
    sw_param_free(first, values);
    free(values);
    return st == SW_EINPUT ? SW_EINTERNAL : st; /* the table is wrong, not what a user wrote */
}

static enum sw_status check_functions(const struct sw_method *m)
{
    bool dense = m->flags & SW_METHOD_DENSE;
    if (!(m->flags & (SW_METHOD_PREFILL | SW_METHOD_DECODE)))
        return SW_FAIL(SW_EINTERNAL, "neither flag PREFILL nor flag DECODE");
    if (dense && (m->prefill || m->decode))
        return SW_FAIL(SW_EINTERNAL, "flag DENSE with a function that selects");
    if (!dense && m->dense_kernel)
        return SW_FAIL(SW_EINTERNAL, "dense_kernel without flag DENSE");
    if (!dense && !m->prefill)
        return SW_FAIL(SW_EINTERNAL,
                       "no function prefill: even a method of decode alone sees the prompt");
    if (!dense && (m->flags & SW_METHOD_DECODE) && !m->decode)
        return SW_FAIL(SW_EINTERNAL, "flag DECODE without a function decode");
    if (m->decode && !(m->flags & SW_METHOD_DECODE))
        return SW_FAIL(SW_EINTERNAL, "a function decode without flag DECODE");
    if (m->begin && !m->end)
        return SW_FAIL(SW_EINTERNAL, "begin without end: nothing would free what it allocates");
    if ((m->begin || m->end) && m->state_size == 0)
        return SW_FAIL(SW_EINTERNAL, "begin or end without state_size: there is no state to keep");
    return SW_OK;
}

static enum sw_status check_threshold(const struct sw_method *m)
{
    if (!m->threshold)
        return SW_OK;
    const struct sw_param *param = sw_param_find(m->params, m->threshold);
    if (!param || param->type != SW_PARAM_REAL)
        return SW_FAIL(SW_EINTERNAL, "threshold '%s': expected the name of a REAL parameter",
                       m->threshold);
    if (!(m->flags & SW_METHOD_NATIVE))
        return SW_FAIL(SW_EINTERNAL, "a threshold without flag NATIVE: no rule would use it");
    return SW_OK;
}

static enum sw_status check_method(const struct sw_method *m)
{
    if (is_empty(m->summary))
        return SW_FAIL(SW_EINTERNAL, "no summary");
    if (is_empty(m->source))
        return SW_FAIL(SW_EINTERNAL, "no source: which paper or file does it follow?");
    if (m->params_size < sizeof(struct sw_method_params))
        return SW_FAIL(SW_EINTERNAL,
                       "params_size %zu: expected at least the %zu bytes of "
                       "struct sw_method_params",
                       m->params_size, sizeof(struct sw_method_params));
    SW_TRY(check_params(m));
    SW_TRY(check_functions(m));
    return check_threshold(m);
}

enum sw_status sw_methods_check(const struct sw_method *const *methods)
{
    for (int i = 0; methods[i]; i++) {
        const struct sw_method *m = methods[i];
        if (!is_name(m->name))
            return SW_FAIL(SW_EINTERNAL, "method number %d is named '%s': expected a-z, 0-9 and _",
                           i + 1, m->name ? m->name : "");
        for (int j = 0; j < i; j++)
            if (strcmp(methods[j]->name, m->name) == 0)
                return SW_FAIL(SW_EINTERNAL, "method %s is in the table twice", m->name);
        enum sw_status st = check_method(m);
        if (st != SW_OK)
            return sw_context(st, "method %s", m->name);
    }
    return SW_OK;
}
