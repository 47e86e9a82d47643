/* Means of matrices over consecutive units: from heads to groups, or to one for all. */
#include "kernels/cuda/device/device.h"

__global__ void mean_of_units(struct sw_mean_units a)
{
    int64_t id = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (id >= (int64_t)a.rows * a.cols)
        return;
    int i = (int)(id / a.cols), j = (int)(id % a.cols), u = blockIdx.y,
        per = a.in.units / a.out.units;
    const float *p = unit_row(a.in, u * per, i) + j;
    int64_t plane = (int64_t)a.in.ld_rows * a.in.ld;
    float sum = 0;
    for (int k = 0; k < per; k++)
        sum += p[k * plane];
    unit_row(a.out, u, i)[j] = per == 1 ? sum : sum / (float)per;
}

enum sw_status sw_cuda_mean_units(struct sw_backend *be, const struct sw_mean_units *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(sw_unit_holds(&a->in, a->rows, a->cols) && sw_unit_holds(&a->out, a->rows, a->cols) &&
                a->in.units % a->out.units == 0,
            "mean_units");
    if (a->rows == 0 || a->cols == 0)
        return SW_OK;
    dim3 grid((unsigned)div_up64((int64_t)a->rows * a->cols, 256), (unsigned)a->out.units);
    mean_of_units<<<grid, 256, 0, queue_on(s)>>>(*a);
    LAUNCHED(s, "mean_units");
    return SW_OK;
}
