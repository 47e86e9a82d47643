/* Token tables: tokenizer.safetensors, and the texts of the tokens that it has. */
#include "core/model/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sw_vocab *vocab;
    enum sw_status status = sw_vocab_open(fuzz_folder("tokenizer.safetensors", data, size), &vocab);
    if (status == SW_OK)
        for (int32_t id = -1; id <= sw_vocab_size(vocab) && id < 64; id++) {
            const int32_t ids[] = {id, id / 2};
            char *text;
            if (sw_vocab_text(vocab, ids, 2, &text) == SW_OK && strlen(text) > size)
                abort();
            free(text);
            sw_error_clear();
        }
    sw_vocab_close(vocab);
    sw_error_clear();
    return 0;
}
