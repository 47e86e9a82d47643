/* power.h: powers of scores, and what scales them. */
#ifndef SW_CPU_POWER_H
#define SW_CPU_POWER_H

#include <math.h>

/* x[j]^exponent in place. Whole exponents by squaring: exact signs, and no libm. */
static inline void sw_cpu_raise(float *x, int n, float exponent)
{
    int whole = (int)exponent;
    if ((float)whole != exponent || whole < 1 || whole > 64) {
        for (int j = 0; j < n; j++)
            x[j] = powf(x[j], exponent);
        return;
    }
    for (int j = 0; j < n; j++) {
        float base = x[j], y = 1.0f;
        for (int e = whole; e; e >>= 1) {
            if (e & 1)
                y *= base;
            base *= base;
        }
        x[j] = y;
    }
}

/* The largest |x[j]|; 0 where n is 0. Eight maxima side by side, which compilers vectorise. */
static inline float sw_cpu_largest(const float *x, int n)
{
    float lane[8] = {0}, largest = 0;
    int j = 0;
    for (; j + 8 <= n; j += 8)
        for (int l = 0; l < 8; l++) {
            float size = fabsf(x[j + l]);
            lane[l] = size > lane[l] ? size : lane[l];
        }
    for (; j < n; j++)
        largest = fabsf(x[j]) > largest ? fabsf(x[j]) : largest;
    for (int l = 0; l < 8; l++)
        largest = lane[l] > largest ? lane[l] : largest;
    return largest;
}

#endif
