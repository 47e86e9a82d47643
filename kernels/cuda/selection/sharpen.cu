/* A block matrix over its largest entry, to a power. 12 bytes an entry: read twice, written once.
 */
#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/selection/power.cuh"

/* The largest |in| of each unit, as the bits of a float that is not negative: they are in the order
 * of the numbers, and their maximum does not depend on who comes first. */
__global__ void __launch_bounds__(256) largest_entries(struct sw_sharpen a, int *largest)
{
    __shared__ float lanes[32];
    int u = blockIdx.y;
    const float *row = unit_row(a.in, u, blockIdx.x);
    float top = 0;
    for (int j = threadIdx.x; j < a.cols; j += blockDim.x)
        top = fmaxf(top, fabsf(row[j]));
    top = block_max(top, lanes);
    if (threadIdx.x == 0)
        atomicMax(&largest[u], __float_as_int(top));
}

__global__ void __launch_bounds__(256)
    sharpen_rows(struct sw_sharpen a, const int *largest, int whole)
{
    int u = blockIdx.y;
    float top = __int_as_float(largest[u]);
    const float *in = unit_row(a.in, u, blockIdx.x);
    float *out = unit_row(a.out, u, blockIdx.x);
    for (int j = threadIdx.x; j < a.cols; j += blockDim.x) {
        float x = top > 0 ? in[j] / top : in[j];
        out[j] = a.keep_sign ? copysignf(power_of(fabsf(x), a.exponent, whole), x)
                             : power_of(x, a.exponent, whole);
    }
}

enum sw_status sw_cuda_sharpen(struct sw_backend *be, const struct sw_sharpen *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(a->rows >= 1 && a->cols >= 1 && a->exponent > 0 &&
                sw_unit_holds(&a->in, a->rows, a->cols) &&
                sw_unit_holds(&a->out, a->rows, a->cols) && a->in.units == a->out.units,
            "sharpen");
    void *room;
    size_t bytes = (size_t)a->in.units * sizeof(int);
    SW_TRY(sw_cuda_scratch(s, SCRATCH_STATS, bytes, &room));
    int *largest = static_cast<int *>(room);
    CUDA_TRY(s, cudaMemsetAsync(largest, 0, bytes, queue_on(s)));
    dim3 grid((unsigned)a->rows, (unsigned)a->in.units);
    largest_entries<<<grid, 256, 0, queue_on(s)>>>(*a, largest);
    LAUNCHED(s, "sharpen, largest");
    sharpen_rows<<<grid, 256, 0, queue_on(s)>>>(*a, largest, whole_power(a->exponent));
    LAUNCHED(s, "sharpen");
    return SW_OK;
}
