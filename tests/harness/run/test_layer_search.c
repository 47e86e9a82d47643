/* The dynamic program that chooses layers, against all choices. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/rng.h"
#include "harness/run/layer_search.h"

enum { L = 8 };

static double served(const double *serves, int first, uint32_t layers)
{
    double sum = 0;
    for (int l = first, a = first; l < L; l++) {
        a = layers >> l & 1 ? l : a;
        sum += serves[a * L + l];
    }
    return sum / (L - first);
}

static void the_best_of_all_choices(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++)
        for (int first = 0; first < 3; first++)
            for (int count = 1; count <= L - first; count++) {
                double serves[L * L], best = -INFINITY;
                int chosen[L];
                for (int i = 0; i < L * L; i++)
                    serves[i] =
                        i / L == i % L ? 1 : sw_rng_uniform(seed, SW_RNG_LAYER, (uint64_t)i);
                for (uint32_t layers = 0; layers < 1u << L; layers++)
                    if (layers >> first & 1 && !(layers & ((1u << first) - 1)) &&
                        __builtin_popcount(layers) == count)
                        best = fmax(best, served(serves, first, layers));
                double found = sw_layer_search_segments(serves, L, first, count, chosen);
                uint32_t layers = 0;
                for (int k = 0; k < count; k++) {
                    assert_true(k == 0 ? chosen[0] == first : chosen[k] > chosen[k - 1]);
                    layers |= 1u << chosen[k];
                }
                assert_true(fabs(found - best) < 1e-12);
                assert_true(fabs(served(serves, first, layers) - best) < 1e-12);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_best_of_all_choices)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
