/* model_keys.h: what each key of a model's config.json means to this program. A key is read by
 * core/model/model_config.c, or known to leave the logits as they are, or known to change them and
 * then only allowed at the value that changes nothing; the rest is not understood. */
#ifndef SW_MODEL_KEYS_H
#define SW_MODEL_KEYS_H

#include <jansson.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Judges every key that core/model/model_config.c does not read. refuse: the key changes the
 * computation in a way that is not supported; warn: nobody here knows it. Both get one line of text
 * about the key and its value. */
struct sw_model_key_reports {
    void *context;
    void (*refuse)(void *context, const char *text);
    void (*warn)(void *context, const char *text);
};
void sw_model_keys_check(json_t *config, const struct sw_model_key_reports *reports);

/* The value as JSON on one line, cut to fit. */
void sw_model_key_value(json_t *value, char *text, size_t size);

#ifdef __cplusplus
}
#endif
#endif
