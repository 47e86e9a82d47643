/* Dense causal attention: the baseline of everything. It selects nothing: the harness attends with no list, by the best dense kernel that
 * the backend has. */
#include "core/method.h"

extern const struct sw_method sw_method_dense;

static const struct sw_param params[] = {SW_METHOD_COMMON_PARAMS, SW_PARAM_END};

const struct sw_method sw_method_dense = {
    .name = "dense",
    .summary = "full causal attention, by the best dense kernel of the backend",
    .source = "the baseline",
    .flags = SW_METHOD_DENSE | SW_METHOD_PREFILL | SW_METHOD_DECODE | SW_METHOD_NATIVE,
    .params_size = sizeof(struct sw_method_params),
    .params = params,
};
