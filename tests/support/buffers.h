/* buffers.h: inputs and outputs for the tests of C code. */
#ifndef SW_TEST_BUFFERS_H
#define SW_TEST_BUFFERS_H

#include <stddef.h>
#include <stdint.h>

/* Standard normal values, the same for the same seed. malloc'ed. */
float *sw_test_normal(size_t count, uint64_t seed);

/* `count` floats of NaN between guard words: what an operation writes outside is seen, and what it
 * forgets stays NaN. */
struct sw_guarded {
    float *data;
    size_t count;
    unsigned char *all;
};
struct sw_guarded sw_guarded_make(size_t count);
/* Fails the test when a guard word was touched; frees. */
void sw_guarded_check_free(struct sw_guarded *g, const char *what);

/* Uniform integer in [lo, hi]. */
int sw_test_int(uint64_t seed, uint64_t index, int lo, int hi);

#endif
