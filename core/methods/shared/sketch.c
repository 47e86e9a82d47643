/* The subsampled randomised Hadamard transform: its signs, rows and scale. */
#include "core/methods/shared/sketch.h"

#include <stdlib.h>

#include "core/rng.h"

int sw_next_power_of_two(int x)
{
    int p = 1;
    while (p < x)
        p *= 2;
    return p;
}

/* Fisher–Yates from the top, each draw from its own counter. */
static void permutation(uint64_t seed, int32_t *p, int n)
{
    for (int i = 0; i < n; i++)
        p[i] = i;
    for (int i = n - 1; i > 0; i--) {
        int j = (int)(sw_rng_u64(seed, SW_RNG_PERMUTATION, (uint64_t)i) % (uint64_t)(i + 1));
        int32_t swap = p[i];
        p[i] = p[j];
        p[j] = swap;
    }
}

enum sw_status sw_srht_make(struct sw_backend *be, int d, int r, uint64_t seed, struct sw_srht *out)
{
    int d_pow2 = sw_next_power_of_two(d);
    if (r > d_pow2)
        r = d_pow2;
    *out = (struct sw_srht){.d = d, .d_pow2 = d_pow2, .r = r, .scale = 1.0f};
    size_t sign_bytes = sizeof(float) * (size_t)d_pow2,
           keep_bytes = sizeof(int32_t) * (size_t)d_pow2;
    float *signs = malloc(sign_bytes);
    int32_t *keep = malloc(keep_bytes);
    enum sw_status st = SW_OK;
    void *p;
    if (!signs || !keep)
        SW_TRY_GOTO(
            st, done,
            SW_FAIL(SW_ENOMEM, "sketch: asked %zu bytes of host memory", sign_bytes + keep_bytes));
    for (int c = 0; c < d_pow2; c++)
        signs[c] = sw_rng_u64(seed, SW_RNG_SIGNS, (uint64_t)c) & 1 ? -1.0f : 1.0f;
    permutation(seed, keep, d_pow2);
    SW_TRY_GOTO(st, done, be->alloc(be, sign_bytes, &p));
    out->signs = p;
    SW_TRY_GOTO(st, done, be->alloc(be, keep_bytes, &p));
    out->keep = p;
    SW_TRY_GOTO(st, done, be->upload(be, (void *)out->signs, signs, sign_bytes));
    SW_TRY_GOTO(st, done, be->upload(be, (void *)out->keep, keep, keep_bytes));
done:
    free(signs);
    free(keep);
    if (st != SW_OK)
        sw_srht_free(be, out);
    return st;
}

void sw_srht_free(struct sw_backend *be, struct sw_srht *t)
{
    be->free(be, (void *)t->signs);
    be->free(be, (void *)t->keep);
    t->signs = NULL;
    t->keep = NULL;
}
