/* Inputs and outputs of the tests of C code. */
#include "tests/support/buffers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/rng.h"

enum { GUARD = 256, GUARD_BYTE = 0xa5 };

float *sw_test_normal(size_t count, uint64_t seed)
{
    float *x = malloc((count ? count : 1) * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)sw_rng_normal(seed, SW_RNG_TEST, i);
    return x;
}

struct sw_guarded sw_guarded_make(size_t count)
{
    struct sw_guarded g = {.count = count};
    size_t bytes = count * sizeof(float);
    g.all = aligned_alloc(64, (2 * GUARD + bytes + 63) / 64 * 64);
    assert_non_null(g.all);
    memset(g.all, GUARD_BYTE, GUARD);
    memset(g.all + GUARD, 0xff, bytes); /* all ones is a NaN */
    memset(g.all + GUARD + bytes, GUARD_BYTE, GUARD);
    g.data = (float *)(void *)(g.all + GUARD);
    return g;
}

void sw_guarded_check_free(struct sw_guarded *g, const char *what)
{
    size_t bytes = g->count * sizeof(float);
    for (size_t i = 0; i < GUARD; i++)
        if (g->all[i] != GUARD_BYTE || g->all[GUARD + bytes + i] != GUARD_BYTE)
            fail_msg("%s wrote outside its output (guard byte %zu)", what, i);
    free(g->all);
    g->all = NULL;
    g->data = NULL;
}

int sw_test_int(uint64_t seed, uint64_t index, int lo, int hi)
{
    return lo + (int)(sw_rng_u64(seed, SW_RNG_TEST, index) % (uint64_t)(hi - lo + 1));
}
