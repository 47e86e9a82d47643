/* The methods, in the order in which `swbench ls methods` shows them. A new method is one file
 * beside this one and one line here. */
#include "core/method.h"

extern const struct sw_method sw_method_dense, sw_method_oracle, sw_method_sink_window,
    sw_method_random, sw_method_onehop, sw_method_sketchwalk, sw_method_minference,
    sw_method_flexprefill, sw_method_xattention, sw_method_quest, sw_method_spargeattn,
    sw_method_moba, sw_method_nsa, sw_method_snapkv, sw_method_h2o;

const struct sw_method *const sw_methods[] = {
    &sw_method_dense,      &sw_method_oracle,     &sw_method_sink_window, &sw_method_random,
    &sw_method_onehop,     &sw_method_sketchwalk, &sw_method_minference,  &sw_method_flexprefill,
    &sw_method_xattention, &sw_method_quest,      &sw_method_spargeattn,  &sw_method_moba,
    &sw_method_nsa,        &sw_method_snapkv,     &sw_method_h2o,         NULL,
};
