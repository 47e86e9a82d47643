/* model.h: decoder-only language models: RMSNorm, RoPE, grouped-query attention, SwiGLU, over the
 * operations of a backend.
 *
 * A model folder holds config.json (Hugging Face names) and safetensors, single or sharded, in
 * fp32, fp16 or bf16; datasets/README.md says how to make one. A config.json key that changes the
 * computation and is not supported is an error, never ignored (core/model/model_keys.h). */
#ifndef SW_MODEL_H
#define SW_MODEL_H

#include <stdio.h>

#include "core/backend.h"
#include "core/model/shape.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum sw_rope_scaling { SW_ROPE_PLAIN, SW_ROPE_LINEAR, SW_ROPE_LLAMA3, SW_ROPE_YARN };

struct sw_model_config {
    char type[32]; /* model_type of config.json */
    struct sw_shape shape;
    int hidden, intermediate, vocab, max_context;
    double rms_eps, rope_theta;
    bool tied, qkv_bias, o_bias, qk_norm; /* o_bias: of the attention's output projection */
    enum sw_rope_scaling rope;
    /* llama3: low and high frequency factors; yarn: beta_slow, beta_fast */
    double rope_factor, rope_low, rope_high;
    double rope_attention; /* multiplies cos and sin: 1 unless yarn */
    int rope_original;     /* original_max_position_embeddings */
    /* yarn: the ramp begins and ends at whole dimensions */
    bool rope_whole;
};

/* Reads and checks FOLDER/config.json. SW_EINPUT with the first problem; with `messages` (may be
 * NULL) every problem is listed there, and a warning for every key that nothing here
 * understands. */
SW_MUST_CHECK enum sw_status sw_model_config_read(const char *folder, FILE *messages,
                                                  struct sw_model_config *out);

/* Checks a whole model folder, weights' names and shapes included; every problem is a line on
 * `messages`. SW_EINPUT when there was one; without messages the first is the error. */
SW_MUST_CHECK enum sw_status sw_model_check(const char *folder, FILE *messages);

/* The inverse frequencies [d/2] that RoPE uses, with the config's scaling applied. */
void sw_model_inv_freq(const struct sw_model_config *config, float *inv_freq);

struct sw_model;
SW_MUST_CHECK enum sw_status sw_model_open(const char *folder, struct sw_backend *backend,
                                           struct sw_model **out);
/* The same with random weights of a known shape, where nobody has the weights: for time and memory,
 * not for accuracy. */
SW_MUST_CHECK enum sw_status sw_model_random(const struct sw_named_shape *shape, uint64_t seed,
                                             struct sw_backend *backend, struct sw_model **out);
void sw_model_close(struct sw_model *model); /* NULL is fine */
const struct sw_model_config *sw_model_config(const struct sw_model *model);

/* Attention of one layer, supplied by the caller: queries are the last n_q of n_k positions. q, out
 * [n_q, H, d]; k, v [n_k, Hkv, d]. out may be q (sw_pass_open). */
struct sw_attention_hook {
    enum sw_status (*attend)(void *context, int layer, int n_q, int n_k, const void *q,
                             const void *k, const void *v, void *out);
    void *context;
};

/* The KV caches of some sequences, and the activations that they share. */
struct sw_pass;
/* in_place: hooks get out == q for prompts of more than one token, which saves [max_prompt, H, d]
 * less a chunk's rows [sw_pass_chunk, hidden]. For hooks that need no query after attention and
 * whose kernels allow it (sw_sparse_in_place). SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_pass_open(struct sw_model *model, int sequences, int max_tokens,
                                          int max_prompt, bool in_place, struct sw_pass **out);
void sw_pass_close(struct sw_pass *pass);
/* rows of a prompt whose products are made at once */
int sw_pass_chunk(const struct sw_model_config *config, int max_prompt);
void sw_pass_reset(struct sw_pass *pass, int sequence); /* forgets its tokens, keeps the memory */

/* Appends n tokens to a sequence and runs all layers on them: n == 1 is a decode step, the first
 * call is the prompt. SW_EINPUT for ids outside the vocabulary, SW_EINTERNAL past max_tokens. */
SW_MUST_CHECK enum sw_status sw_pass_run(struct sw_pass *pass, int sequence, const int32_t *ids,
                                         int n, struct sw_attention_hook hook);

/* A decode step of n different sequences at once, with the same results as one after the other: the
 * weights are read once for all of them. n is at most the backend's rows_alike. Errors as above. */
struct sw_step {
    int sequence;
    int32_t id;
    struct sw_attention_hook hook;
};
SW_MUST_CHECK enum sw_status sw_pass_step(struct sw_pass *pass, const struct sw_step *steps, int n);

/* Of the last run's rows row0 … row0+rows-1 (counted from the run's first token; of a step: from
 * its first sequence): natural-log loss of targets, first best ids. Either may be NULL; waits for
 * the result. Of a prompt of more than one token only the rows asked for first go through the last
 * layer: they can be had again, others are SW_EINTERNAL. */
SW_MUST_CHECK enum sw_status sw_pass_predict(struct sw_pass *pass, int row0, int rows,
                                             const int32_t *targets, float *nll, int32_t *argmax);
/* All logits of one row, to host memory [vocab]. Rows as above. */
SW_MUST_CHECK enum sw_status sw_pass_logits(struct sw_pass *pass, int row, float *logits);

#ifdef __cplusplus
}
#endif
#endif
