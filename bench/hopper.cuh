/* hopper.cuh: what the programs share that need a Hopper GPU and nothing else of ours: failing with
 * a line, and passing over another GPU. */
#ifndef SW_TEST_HOPPER_CUH
#define SW_TEST_HOPPER_CUH

#include <cstdio>
#include <cstdlib>

#include <cuda_runtime.h>

#define CUDA(call)                                                                        \
    do {                                                                                  \
        cudaError_t e_ = (call);                                                          \
        if (e_ != cudaSuccess) {                                                          \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(e_)); \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

/* Ends the program as skipped (77) where there is no GPU of compute capability 9.0. */
static inline void need_hopper(void)
{
    int major = 0, minor = 0;
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0) != cudaSuccess ||
        major != 9 || minor != 0) {
        printf("skipped: needs a GPU of compute capability 9.0\n");
        exit(77);
    }
}

#endif
