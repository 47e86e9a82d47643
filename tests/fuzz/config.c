/* Configs: YAML, and --set arguments. The file ends at the first zero byte; what follows are up to
 * four arguments, each ended by one. */
#include "harness/config/config.h"

#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

enum { SETS = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    const char *sets[SETS];
    int n_sets = 0;
    for (size_t at = strlen(text) + 1; at < size && n_sets < SETS; at += strlen(text + at) + 1)
        sets[n_sets++] = text + at;
    struct sw_config *config = NULL;
    enum sw_status status =
        sw_config_read(fuzz_file(data, strlen(text)), sets, n_sets, fuzz_messages(), &config);
    if (status == SW_OK)
        sw_config_free(config);
    sw_error_clear();
    free(text);
    return 0;
}
