/* rng.h: random numbers from counters, not from state: a value depends only on (seed, purpose,
 * index), so that results do not depend on threads, ranks or the order of evaluation. Mixing: the
 * finaliser of splitmix64 (Steele et al., OOPSLA 2014). */
#ifndef SW_RNG_H
#define SW_RNG_H

#include <math.h>
#include <stdint.h>

enum sw_rng_purpose { /* keeps streams apart; append only: the values decide results */
                      SW_RNG_SIGNS = 1,
                      SW_RNG_PERMUTATION = 2,
                      SW_RNG_RANDOM_METHOD = 3,
                      SW_RNG_GAUSSIAN = 4,
                      SW_RNG_PLANTED = 5,
                      SW_RNG_WEIGHTS = 6,
                      SW_RNG_BOOTSTRAP = 7,
                      SW_RNG_TEST = 8,
                      SW_RNG_TOKENS = 9,
                      SW_RNG_LAYER = 10, /* a seed for each layer */
};

static inline uint64_t sw_mix64(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static inline uint64_t sw_rng_u64(uint64_t seed, enum sw_rng_purpose purpose, uint64_t index)
{
    return sw_mix64(sw_mix64(sw_mix64(seed) ^ ((uint64_t)purpose << 32)) ^ index);
}

/* Uniform in [0, 1). */
static inline double sw_rng_uniform(uint64_t seed, enum sw_rng_purpose purpose, uint64_t index)
{
    return (double)(sw_rng_u64(seed, purpose, index) >> 11) * 0x1p-53;
}

/* Standard normal (Box–Muller over two counters). */
static inline double sw_rng_normal(uint64_t seed, enum sw_rng_purpose purpose, uint64_t index)
{
    double u = 1.0 - sw_rng_uniform(seed, purpose, 2 * index);
    double v = sw_rng_uniform(seed, purpose, 2 * index + 1);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

#endif
