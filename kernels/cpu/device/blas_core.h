/* blas_core.h: making OpenBLAS use the processor's vectors.
 *
 * OpenBLAS chooses its kernels when it is loaded, and versions older than the processor take it for
 * an earlier one (0.3.21 runs Zen 4 and 5 on Haswell kernels, at half speed). OPENBLAS_CORETYPE
 * overrides that, but only before loading. */
#ifndef SW_BLAS_CORE_H
#define SW_BLAS_CORE_H

#include <stdbool.h>

/* True when the processor has AVX-512 and OpenBLAS does not use it although the user asked for
 * nothing else. */
bool sw_cpu_blas_wants_restart(void);

/* First thing in main(): when a restart is wanted, sets OPENBLAS_CORETYPE and executes this program
 * again, once. Returns when nothing is to be done or it did not work. */
void sw_cpu_prefer_fast_blas(char **argv);

#endif
