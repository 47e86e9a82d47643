/* AVX-512 F, DQ, BW, VL; on other architectures never chosen, and compiled as the baseline. */
#if defined(__AVX512F__)
#define SW_LANES 16
#else
#define SW_LANES 4
#endif
#define SW_VEC_TABLE sw_vec_avx512
#define SW_VEC_NAME  "avx512"
#include "kernels/cpu/device/vec.inc"
