/* Weights: one .safetensors file. The tensors of a file that is accepted must lie inside it. */
#include "core/model/safetensors.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"a", "b", "model.norm.weight"};
    struct sw_safetensors *st;
    enum sw_status status = sw_safetensors_open(fuzz_file(data, size), &st);
    volatile unsigned sum = 0; /* so that the bytes are read */
    for (size_t i = 0; status == SW_OK && i < sizeof names / sizeof *names; i++) {
        const struct sw_stored_tensor *t = sw_safetensors_find(st, names[i]);
        const int bytes = !t || t->type == SW_STORED_U8                           ? 1
                          : t->type == SW_STORED_I64                              ? 8
                          : t->type == SW_STORED_F16 || t->type == SW_STORED_BF16 ? 2
                                                                                  : 4;
        for (int64_t at = 0; t && at < t->count * bytes; at++)
            sum += ((const unsigned char *)t->data)[at];
    }
    (void)sum;
    sw_safetensors_close(st);
    sw_error_clear();
    return 0;
}
