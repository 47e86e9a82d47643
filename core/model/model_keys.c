/* The keys of a model's config.json, and what each means to this program. */
#include "core/model/model_keys.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Read and judged by core/model/model_config.c. */
static const char *const used[] = {
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "original_max_position_embeddings",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "attention_bias",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "layer_types",
    "hidden_act",
};

/* Names, training, generation and storage: the logits do not depend on them. The weights' type is
 * read from the weights. */
static const char *const harmless[] = {
    "architectures",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "_name_or_path",
    "name_or_path",
    "_commit_hash",
    "tokenizer_class",
    "initializer_range",
    "use_cache",
    "pretraining_tp",
    "gradient_checkpointing",
    "attention_dropout",
    "hidden_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "classifier_dropout",
    "pad_token_id",
    "unk_token_id",
    "sep_token_id",
    "cls_token_id",
    "mask_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "is_decoder",
    "is_encoder_decoder",
    "return_dict",
    "return_dict_in_generate",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "torchscript",
    "use_bfloat16",
    "tf_legacy_loss",
    "chunk_size_feed_forward",
    "tie_encoder_decoder",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "task_specific_params",
    "finetuning_task",
    "prefix",
    "max_length",
    "min_length",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "num_beams",
    "num_beam_groups",
    "num_return_sequences",
    "diversity_penalty",
    "repetition_penalty",
    "length_penalty",
    "encoder_no_repeat_ngram_size",
    "no_repeat_ngram_size",
    "early_stopping",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "exponential_decay_length_penalty",
    "remove_invalid_values",
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "use_flash_attention",
    "_flash_attn_2_enabled",
    "transformers.js_config",
    "unsloth_fixed",
    "unsloth_version",
};

/* These change the computation. Allowed: null, and the listed values (a JSON array), which say that
 * nothing is changed. */
static const struct changing {
    const char *key, *allowed, *what;
} changing[] = {
    {"mlp_bias", "[false]", "a bias in the MLP"},
    {"qkv_bias", "[]", "a bias by this name"},
    {"use_bias", "[false]", "biases everywhere"},
    {"partial_rotary_factor", "[1]", "RoPE on a part of each head"},
    {"rotary_pct", "[1]", "RoPE on a part of each head"},
    {"rotary_dim", "[]", "RoPE on a part of each head"},
    {"rope_interleaved", "[false]", "RoPE of neighbouring pairs"},
    {"rope_interleave", "[false]", "RoPE of neighbouring pairs"},
    {"no_rope_layers", "[[]]", "layers without RoPE"},
    {"no_rope_layer_interval", "[]", "layers without RoPE"},
    {"rope_local_base_freq", "[]", "another RoPE in some layers"},
    {"alibi", "[false]", "ALiBi"},
    {"use_alibi", "[false]", "ALiBi"},
    {"hidden_activation", "[\"silu\"]", "another activation"},
    {"use_qk_norm", "[false]", "a norm of queries and keys beyond the family's"},
    {"qk_layernorm", "[false]", "a norm of queries and keys beyond the family's"},
    {"attention_chunk_size", "[]", "attention in chunks"},
    {"sliding_window_pattern", "[]", "sliding-window attention"},
    {"interleaved_sliding_window", "[]", "sliding-window attention"},
    {"attention_multiplier", "[]", "another scale of attention"},
    {"query_pre_attn_scalar", "[]", "another scale of attention"},
    {"attn_logit_softcapping", "[]", "capped attention scores"},
    {"final_logit_softcapping", "[]", "capped logits"},
    {"logits_scaling", "[1]", "scaled logits"},
    {"logit_scale", "[1]", "scaled logits"},
    {"lm_head_multiplier", "[1]", "scaled logits"},
    {"embedding_multiplier", "[1]", "scaled embeddings"},
    {"scale_emb", "[1]", "scaled embeddings"},
    {"normalize_embedding", "[false]", "scaled embeddings"},
    {"residual_multiplier", "[1]", "scaled residuals"},
    {"scale_depth", "[]", "scaled residuals"},
    {"dim_model_base", "[]", "scaled logits"},
    {"parallel_attn", "[false]", "attention and MLP side by side"},
    {"use_parallel_residual", "[false]", "attention and MLP side by side"},
    {"num_experts", "[0]", "a mixture of experts"},
    {"num_local_experts", "[0]", "a mixture of experts"},
    {"n_routed_experts", "[0]", "a mixture of experts"},
    {"num_experts_per_tok", "[0]", "a mixture of experts"},
    {"moe_intermediate_size", "[0]", "a mixture of experts"},
    {"q_lora_rank", "[]", "low-rank (latent) attention"},
    {"kv_lora_rank", "[]", "low-rank (latent) attention"},
    {"add_cross_attention", "[false]", "cross-attention"},
    {"cross_attention_hidden_size", "[]", "cross-attention"},
    {"pruned_heads", "[{}, []]", "pruned heads"},
    {"text_config", "[]", "a model of several parts"},
    {"vision_config", "[]", "a model of several parts"},
    {"quantization_config", "[]", "quantised weights"},
    {"compression_config", "[]", "quantised weights"},
    {"auto_map", "[{}]", "a model with code of its own"},
};

void sw_model_key_value(json_t *value, char *text, size_t size)
{
    char *dump = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    bool fits = dump && strlen(dump) < size;
    snprintf(text, size, "%.*s%s", fits ? (int)size : (int)size - 4, dump ? dump : "?",
             fits ? "" : "...");
    free(dump);
}

static bool among(const char *key, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(key, list[i]) == 0)
            return true;
    return false;
}

static bool is_allowed(json_t *value, json_t *allowed)
{
    for (size_t i = 0; i < json_array_size(allowed); i++) {
        json_t *one = json_array_get(allowed, i);
        if (json_equal(value, one) || (json_is_number(value) && json_is_number(one) &&
                                       json_number_value(value) == json_number_value(one)))
            return true;
    }
    return false;
}

static void judge(const char *key, json_t *value, const struct sw_model_key_reports *reports)
{
    char shown[64], text[512];
    sw_model_key_value(value, shown, sizeof shown);
    for (size_t i = 0; i < sizeof changing / sizeof *changing; i++) {
        const struct changing *c = &changing[i];
        if (strcmp(key, c->key) != 0)
            continue;
        json_t *allowed = json_loads(c->allowed, 0, NULL);
        bool fine = is_allowed(value, allowed);
        json_t *first = json_array_get(allowed, 0);
        char expected[32] = "null";
        if (first)
            sw_model_key_value(first, expected, sizeof expected);
        json_decref(allowed);
        snprintf(text, sizeof text, "'%s' is %s, expected %s: %s is not supported", key, shown,
                 expected, c->what);
        if (!fine)
            reports->refuse(reports->context, text);
        return;
    }
    snprintf(text, sizeof text, "'%.100s' is not understood (%s); computed as if it were not there",
             key, shown);
    reports->warn(reports->context, text);
}

void sw_model_keys_check(json_t *config, const struct sw_model_key_reports *reports)
{
    const char *key;
    json_t *value;
    json_object_foreach(config, key,
                        value) if (!json_is_null(value) &&
                                   !among(key, used, sizeof used / sizeof *used) &&
                                   !among(key, harmless, sizeof harmless / sizeof *harmless))
        judge(key, value, reports);
}
