/* vocab.h: token ids back into text, for scoring what a model wrote. Reads
 * FOLDER/tokenizer.safetensors: token_bytes U8 [total], token_offsets I64 [vocab + 1],
 * token_special U8 [vocab] (made by datasets/import_model.py). */
#ifndef SW_VOCAB_H
#define SW_VOCAB_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct sw_vocab;
SW_MUST_CHECK enum sw_status sw_vocab_open(const char *folder, struct sw_vocab **out);
void sw_vocab_close(struct sw_vocab *vocab); /* NULL is fine */
int sw_vocab_size(const struct sw_vocab *vocab);

/* The bytes of n ids as one malloc'd string, special tokens left out; ids outside the vocabulary
 * give SW_EINTERNAL. */
SW_MUST_CHECK enum sw_status sw_vocab_text(const struct sw_vocab *vocab, const int32_t *ids, int n,
                                           char **text);

#ifdef __cplusplus
}
#endif
#endif
