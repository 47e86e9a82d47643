/* A model's config.json, and the frequencies of the rotary embedding that follow from one that is
 * accepted. */
#include <stdlib.h>

#include "core/model/model.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sw_model_config config;
    const char *folder = fuzz_folder("config.json", data, size);
    enum sw_status status = sw_model_config_read(folder, fuzz_messages(), &config);
    if (status == SW_OK) {
        float *frequencies = malloc((size_t)config.shape.head_dim / 2 * sizeof *frequencies);
        if (frequencies)
            sw_model_inv_freq(&config, frequencies);
        free(frequencies);
    }
    sw_error_clear();
    if (sw_model_config_read(folder, NULL, &config) !=
        status) /* messages or not: the same verdict */
        abort();
    sw_error_clear();
    return 0;
}
