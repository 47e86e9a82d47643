/* reduce.cuh: sums and maxima over a warp and a CTA, always in the same order, so that results
 * are the same in every run. */
#ifndef SW_CUDA_REDUCE_CUH
#define SW_CUDA_REDUCE_CUH

#include <cstdint>

#include <cuda_runtime.h>

__device__ inline float warp_sum(float v)
{
    for (int o = 16; o > 0; o >>= 1)
        v += __shfl_xor_sync(0xffffffffu, v, o);
    return v;
}

__device__ inline float warp_max(float v)
{
    for (int o = 16; o > 0; o >>= 1)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
    return v;
}

/* Whole CTA; `lanes` is shared memory for 32 floats. Every thread gets the result. */
template <bool MAX>
__device__ inline float block_reduce(float v, float *lanes)
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
    v = MAX ? warp_max(v) : warp_sum(v);
    __syncthreads(); /* an earlier use of lanes is over */
    if (lane == 0)
        lanes[warp] = v;
    __syncthreads();
    v = lane < warps ? lanes[lane] : (MAX ? -INFINITY : 0.0f);
    return MAX ? warp_max(v) : warp_sum(v);
}
__device__ inline float block_sum(float v, float *lanes) { return block_reduce<false>(v, lanes); }
__device__ inline float block_max(float v, float *lanes) { return block_reduce<true>(v, lanes); }

/* A place that another CTA may write meanwhile, read anew each time. */
__device__ inline int load_now(const int *p)
{
    int v;
    asm volatile("ld.volatile.global.s32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
__device__ inline unsigned load_now(const unsigned *p)
{
    return (unsigned)load_now(reinterpret_cast<const int *>(p));
}
__device__ inline float2 load_now(const float2 *p)
{
    float2 v;
    asm volatile("ld.volatile.global.v2.f32 {%0,%1}, [%2];"
                 : "=f"(v.x), "=f"(v.y)
                 : "l"(p)
                 : "memory");
    return v;
}
__device__ inline float4 load_now(const float4 *p)
{
    float4 v;
    asm volatile("ld.volatile.global.v4.f32 {%0,%1,%2,%3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "l"(p)
                 : "memory");
    return v;
}

/* What a place holds until its value is written: no result of arithmetic (its not-a-number is
 * 0x7fffffff) and no key block. */
static const uint32_t NOT_YET = 0xffffffffu;

__device__ inline bool is_there(float v) { return __float_as_uint(v) != NOT_YET; }
__device__ inline bool is_there(float2 v)
{
    return __float_as_uint(v.x) != NOT_YET && __float_as_uint(v.y) != NOT_YET;
}
__device__ inline bool is_there(float4 v)
{
    return is_there(make_float2(v.x, v.y)) && is_there(make_float2(v.z, v.w));
}

/* Adds 1 to a counter after everything that this CTA wrote; says whether it was the last of
 * `count` CTAs, which then sees what all of them wrote. The last one leaves a zero. The whole CTA
 * calls it. */
__device__ inline bool last_of(unsigned *done, unsigned count)
{
    __shared__ bool last;
    __syncthreads();
    /* one thread's release and acquire hold for its CTA, which the barriers order around it */
    if (threadIdx.x == 0) {
        unsigned before;
        asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;"
                     : "=r"(before)
                     : "l"(done)
                     : "memory");
        last = before == count - 1;
        if (last)
            *done = 0;
    }
    __syncthreads();
    return last;
}

#endif
