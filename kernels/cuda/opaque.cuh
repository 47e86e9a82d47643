/* opaque.cuh: a value of which the compiler may conclude nothing. It is neither made anew where it is used nor, made of such a value, kept in a register for the next time. */
#ifndef SW_CUDA_OPAQUE_CUH
#define SW_CUDA_OPAQUE_CUH

template <class T> __device__ __forceinline__ T opaque(T v)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a register or two");
    if constexpr (sizeof(T) == 8)
        asm volatile("" : "+l"(v));
    else
        asm volatile("" : "+r"(v));
    return v;
}

#endif
