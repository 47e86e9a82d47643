/* list_starts.cuh: where each row's list begins, from how long each is. */
#ifndef SW_CUDA_LIST_STARTS_CUH
#define SW_CUDA_LIST_STARTS_CUH

#include "kernels/cuda/selection/radix_select.cuh"

/* indptr = exclusive sums of counts; one CTA. */
static __global__ void __launch_bounds__(THREADS)
    list_starts(const int32_t *counts, int64_t rows, int32_t *indptr)
{
    __shared__ int lanes[2][THREADS / 32];
    int carry = 0;
    for (int64_t base = 0; base < rows; base += THREADS) {
        int64_t r = base + threadIdx.x;
        struct pair_sum mine = {r < rows ? counts[r] : 0, 0}, total;
        struct pair_sum before = scan_pairs(mine, &total, lanes);
        if (r < rows)
            indptr[r] = carry + before.a;
        carry += total.a;
    }
    if (threadIdx.x == 0)
        indptr[rows] = carry;
}

#endif
