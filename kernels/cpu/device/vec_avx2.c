/* AVX2 and FMA; on other architectures never chosen, and compiled as the baseline. */
#if defined(__AVX2__)
#define SW_LANES 8
#else
#define SW_LANES 4
#endif
#define SW_VEC_TABLE sw_vec_avx2
#define SW_VEC_NAME  "avx2"
#include "kernels/cpu/device/vec.inc"
