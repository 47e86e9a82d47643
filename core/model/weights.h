/* weights.h: the tensors of a model: which they are, whether a folder has them, and loading them.
 * Within core/model. */
#ifndef SW_MODEL_WEIGHTS_H
#define SW_MODEL_WEIGHTS_H

#include <stdio.h>

#include "core/model/model.h"
#include "core/model/safetensors.h"

struct sw_model_layer {
    void *attention_norm, *q, *k, *v, *q_bias, *k_bias, *v_bias, *q_norm, *k_norm, *o, *o_bias,
        *mlp_norm, *gate, *up, *down;
};

struct sw_model {
    struct sw_backend *backend;
    struct sw_model_config config;
    void *embedding, *final_norm, *head; /* head == embedding when tied */
    float *inv_freq;
    struct sw_model_layer *layers;
};

/* The tensors of a model: Hugging Face name, shape, and where the pointer goes. One list serves
 * loading, checking and random weights. */
struct sw_weight_slot {
    char name[96];
    int rank;
    int64_t shape[2];
    void **place;
    bool norm; /* random weights: ones */
};

/* malloc'ed, as many as *count, in the order of layers; their places are NULL. SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_weights_list(struct sw_model *m, struct sw_weight_slot **slots,
                                             int *count);

/* Whether the stored tensors are those of the slots. Every problem is a line on `messages`;
 * without, the first one is the error. */
SW_MUST_CHECK enum sw_status sw_weights_check(struct sw_model *m, const char *folder,
                                              const struct sw_safetensors *weights,
                                              struct sw_weight_slot *slots, int count,
                                              FILE *messages);

/* Memory for a slot, and the stored values in it. */
SW_MUST_CHECK enum sw_status sw_weights_load(struct sw_model *m, const struct sw_weight_slot *s,
                                             const struct sw_stored_tensor *t);

#endif
