/* Chooses the vector kernels that this processor can run. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/device/vec.h"

static bool runs(const struct sw_vec *v)
{
#if defined(__x86_64__)
    if (v == &sw_vec_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (v == &sw_vec_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    return true;
#else
    return v == &sw_vec_base;
#endif
}

const struct sw_vec *sw_vec_choose(void)
{
    static const struct sw_vec *const all[] = {&sw_vec_avx512, &sw_vec_avx2, &sw_vec_base};
    const char *wanted = getenv("SWBENCH_ISA");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (runs(all[i]) && (!wanted || !*wanted || strcmp(wanted, all[i]->isa) == 0))
            return all[i];
    return NULL;
}

struct sw_tiling sw_tiling_make(const struct sw_vec *vec, int block, int head_dim)
{
    struct sw_tiling t = {.block = block, .d = head_dim};
    t.per_block = (block + SW_TILE_KEYS - 1) / SW_TILE_KEYS;
    t.tile = (block + t.per_block - 1) / t.per_block;
    t.tile_pad = sw_round_up(t.tile, vec->lanes);
    t.d_pad = sw_round_up(head_dim, vec->lanes);
    t.k_floats = (size_t)t.tile_pad * (size_t)head_dim;
    t.v_floats = (size_t)t.tile * (size_t)t.d_pad;
    return t;
}
