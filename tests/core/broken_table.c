/* A table of methods with one that cannot run: linked in place of core/methods/table.c it makes a
 * program that must refuse to start. */
#include "core/method.h"

static const struct sw_param params[] = {SW_METHOD_COMMON_PARAMS, SW_PARAM_END};

static const struct sw_method broken = {
    .name = "broken",
    .summary = "claims a prefill that it does not have",
    .source = "this file",
    .flags = SW_METHOD_PREFILL,
    .params_size = sizeof(struct sw_method_params),
    .params = params,
};

const struct sw_method *const sw_methods[] = {&broken, NULL};
