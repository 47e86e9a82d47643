/* Dense causal attention: the baseline of everything. It selects nothing: the harness attends with
 * no list, by the best dense kernel that the backend has. */
#include "core/method.h"

extern const struct sw_method sw_method_dense;

struct dense_params {
    struct sw_method_params common;
    int kernel;
};

static const struct sw_param params[] = {
    SW_METHOD_COMMON_PARAMS,
    {.name = "kernel",
     .type = SW_PARAM_CHOICE,
     .offset = offsetof(struct dense_params, kernel),
     .initial = "best",
     .choices = "best|library|own",
     .help = "the backend's best dense kernel, its vendor's library (cuDNN), or our own kernel at "
             "density 1"},
    SW_PARAM_END,
};

static enum sw_attend_kernel dense_kernel(const void *p)
{
    return (enum sw_attend_kernel)((const struct dense_params *)p)->kernel;
}

const struct sw_method sw_method_dense = {
    .name = "dense",
    .summary = "full causal attention, by the best dense kernel of the backend",
    .source = "the baseline",
    .flags = SW_METHOD_DENSE | SW_METHOD_PREFILL | SW_METHOD_DECODE | SW_METHOD_NATIVE,
    .params_size = sizeof(struct dense_params),
    .params = params,
    .dense_kernel = dense_kernel,
};
