/* Powers of scores, of any exponent. */
#ifndef SW_CUDA_POWER_H
#define SW_CUDA_POWER_H

#include <cmath>

/* The exponent where it is whole and 1 to 64, else 0. */
static inline int whole_power(float exponent)
{
    return exponent >= 1 && exponent <= 64 && exponent == floorf(exponent) ? (int)exponent : 0;
}

/* v^exponent; whole: whole_power of it. */
static __device__ __forceinline__ float power_of(float v, float exponent, int whole)
{
    if (whole == 1)
        return v;
    if (whole > 1) { /* squaring: exact signs, and faster than powf */
        float r = 1;
        for (int e = whole; e > 0; e >>= 1) {
            if (e & 1)
                r *= v;
            v *= v;
        }
        return r;
    }
    return powf(v, exponent);
}

#endif
