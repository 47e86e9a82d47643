/* dependent_launch.cuh: kernels that begin while the one before them ends ("programmatic dependent
 * launch", compute capability 9.0).
 *
 * Two launches in a row cost 2–4 µs between the last write of one and the first read of the other.
 * The CTAs of a dependent kernel get their places on the multiprocessors as soon as all CTAs of the
 * kernel before have called allow_dependents() or are over; they set themselves up and wait. Rules:
 *   - every CTA of a dependent kernel calls wait_for_previous() before it ends, and before it reads
 *     or writes what the kernels before it write or read;
 *   - allow_dependents() comes first of all, so that a whole chain is in place while its first
 *     kernel still runs. A kernel gets its places only after all CTAs of those before it have
 *     theirs, so none that waits can keep out one that it waits for;
 *   - so what a dependent kernel may read before its wait is only what was complete when the last
 *     kernel before it that is not dependent began.
 * Decode attention behind a walk_step is the exception to the first rule: walk_step.cu says how it
 * knows what is complete.
 * Where the kernel before has no allow_dependents(), or something else than a kernel lies between
 * (a time stamp, a copy), the launch is an ordinary one. Below 9.0 it always is. */
#ifndef SW_CUDA_DEPENDENT_LAUNCH_CUH
#define SW_CUDA_DEPENDENT_LAUNCH_CUH

#include "kernels/cuda/device/device.h"

__device__ inline void allow_dependents()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ inline void wait_for_previous()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

template <class... P, class... A>
static cudaError_t dependent_launch(struct cuda_state *s, bool dependent, void (*kernel)(P...),
                                    dim3 grid, int threads, int bytes, A... args)
{
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3((unsigned)threads);
    config.dynamicSmemBytes = (size_t)bytes;
    config.stream = queue_on(s);
    config.attrs = &attribute;
    config.numAttrs = dependent && s->major >= 9 ? 1 : 0;
    return cudaLaunchKernelEx(&config, kernel, P(args)...);
}

#endif
