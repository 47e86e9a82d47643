/* The rollout truth of decode steps, against the product of whole matrices. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/run/decode_rollout.h"

enum { LAYERS = 3, PROMPT = 3, STEPS = 3, MOST = PROMPT + 1 };

/* Rows that sum to 1, other ones in each layer. */
static float mass_at(int layer, int i, int j)
{
    float sum = 0;
    for (int k = 0; k <= i; k++)
        sum += (float)(1 + (3 * layer + 5 * i + 7 * k) % 11);
    return j > i ? 0 : (float)(1 + (3 * layer + 5 * i + 7 * j) % 11) / sum;
}

/* P <- ½P + ½M·P over b blocks; *reach: row c of M·P. */
static void roll(double P[MOST][MOST], int layer, int b, double *reach)
{
    double next[MOST][MOST] = {0};
    for (int i = 0; i < b; i++)
        for (int k = 0; k < b; k++) {
            double product = 0;
            for (int j = 0; j <= i; j++)
                product += (double)mass_at(layer, i, j) * P[j][k];
            next[i][k] = 0.5 * P[i][k] + 0.5 * product;
            if (i == b - 1)
                reach[k] = product;
        }
    memcpy(P, next, sizeof next);
}

/* A step in the block behind the prompt, which has rows of its own: its truth is the last row of
 * the rollout over all blocks. */
static void a_step_is_the_last_row(void **state)
{
    (void)state;
    struct sw_decode_rollout r = {.layers = LAYERS, .blocks = PROMPT};
    double P[MOST][MOST] = {0}, prompt[MOST][MOST] = {0}, reach[MOST];
    r.below = calloc(LAYERS, sizeof *r.below);
    r.own = calloc(MOST, sizeof *r.own);
    r.reach = calloc(MOST, sizeof *r.reach);
    for (int i = 0; i < MOST; i++)
        P[i][i] = prompt[i][i] = 1;
    for (int l = 0; l < LAYERS; l++) {
        r.below[l] = calloc((size_t)PROMPT * PROMPT, sizeof **r.below);
        for (int i = 0; i < PROMPT; i++)
            for (int k = 0; k < PROMPT; k++)
                r.below[l][i * PROMPT + k] = (float)prompt[i][k];
        roll(prompt, l, PROMPT, reach);
    }
    for (int step = 0; step < STEPS; step++) /* a step starts from nothing of the one before */
        for (int l = 0; l < LAYERS; l++) {
            float mass[MOST];
            if (l == 0)
                for (int i = 0; i < MOST; i++)
                    for (int k = 0; k < MOST; k++)
                        P[i][k] = i == k;
            for (int j = 0; j < MOST; j++)
                mass[j] = mass_at(l, MOST - 1, j);
            roll(P, l, MOST, reach);
            const float *found = sw_decode_rollout_step(&r, l, mass, MOST);
            for (int k = 0; k < MOST; k++)
                if (fabs((double)found[k] - reach[k]) > 1e-6)
                    fail_msg("layer %d, block %d: %g, not %g", l, k, (double)found[k], reach[k]);
        }
    sw_decode_rollout_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_step_is_the_last_row)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
