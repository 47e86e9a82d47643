/* hide_origin.cuh: a value whose origin the compiler does not see: it can neither rematerialise it
 * where it is used nor hoist what is computed from it. */
#ifndef SW_CUDA_HIDE_ORIGIN_CUH
#define SW_CUDA_HIDE_ORIGIN_CUH

#include <type_traits>

template <class T>
__device__ __forceinline__ T hide_origin(T v)
{
    static_assert((sizeof(T) == 4 || sizeof(T) == 8) && !std::is_floating_point_v<T>,
                  "one or two integer registers");
    if constexpr (sizeof(T) == 8)
        asm volatile("" : "+l"(v));
    else
        asm volatile("" : "+r"(v));
    return v;
}

#endif
