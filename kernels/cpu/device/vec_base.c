/* The instructions that every processor of the architecture has (SSE2 on x86-64). */
#define SW_LANES     4
#define SW_VEC_TABLE sw_vec_base
#if defined(__x86_64__)
#define SW_VEC_NAME "sse2"
#else
#define SW_VEC_NAME "base"
#endif
#include "kernels/cpu/device/vec.inc"
