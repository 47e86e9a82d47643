/* The table of known shapes. */
#include "core/model/shape.h"

#include <string.h>

/* From the config.json that each model was published with. */
const struct sw_named_shape sw_shapes[] = {
    /* name            L   H  Hkv  d       hidden  inter  vocab   context  rope theta */
    {"smollm2-135m", {30, 9, 3, 64}, 576, 1536, 49152, 8192, 100000, "HuggingFaceTB/SmolLM2-135M"},
    {"llama-3.2-1b",
     {16, 32, 8, 64},
     2048,
     8192,
     128256,
     131072,
     500000,
     "meta-llama/Llama-3.2-1B"},
    {"llama-3.1-8b",
     {32, 32, 8, 128},
     4096,
     14336,
     128256,
     131072,
     500000,
     "meta-llama/Llama-3.1-8B"},
    {"qwen2-7b", {28, 28, 4, 128}, 3584, 18944, 152064, 131072, 1000000, "Qwen/Qwen2-7B"},
    {"qwen2.5-1.5b", {28, 12, 2, 128}, 1536, 8960, 151936, 131072, 1000000, "Qwen/Qwen2.5-1.5B"},
    {"qwen3-8b", {36, 32, 8, 128}, 4096, 12288, 151936, 40960, 1000000, "Qwen/Qwen3-8B"},
    {.name = 0},
};

const struct sw_named_shape *sw_shape_find(const char *name)
{
    for (const struct sw_named_shape *s = sw_shapes; s->name; s++)
        if (strcmp(s->name, name) == 0)
            return s;
    return NULL;
}
