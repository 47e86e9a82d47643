/* bundles.h: tensor bundles for tests, right or wrong in one place. */
#ifndef SW_TEST_BUNDLES_H
#define SW_TEST_BUNDLES_H

#include <hdf5.h>

struct sw_test_bundle {
    int layers, heads, kv_heads, d, n, decode;
    float bad;  /* the last value but one of the prompt's last v */
    hid_t type; /* of that dataset and all others; 0: float32 */
    enum { LIE_NONE, LIE_HEADS, LIE_RANK, LIE_TOKENS, LIE_LAYER, LIE_FORMAT, LIE_RATIO } lie;
};

/* Zeros but for `bad`. */
void sw_test_bundle_write(const char *path, struct sw_test_bundle bundle);

#endif
