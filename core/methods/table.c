/* The methods, in the order in which `swbench ls methods` shows them. A new method is one file
 * beside this one and one line here. */
#include "core/method.h"

#define METHODS(X)    \
    X(dense)          \
    X(oracle)         \
    X(sink_window)    \
    X(random)         \
    X(powerattention) \
    X(onehop)         \
    X(sketchwalk)     \
    X(reuse)          \
    X(minference)     \
    X(flexprefill)    \
    X(xattention)     \
    X(flashprefill)   \
    X(stem)           \
    X(quest)          \
    X(adamas)         \
    X(doublesparsity) \
    X(spargeattn)     \
    X(moba)           \
    X(nsa)            \
    X(snapkv)         \
    X(h2o)

#define DECLARE(name) extern const struct sw_method sw_method_##name;
METHODS(DECLARE)

#define ENTRY(name) &sw_method_##name,
const struct sw_method *const sw_methods[] = {METHODS(ENTRY) NULL};
