/* A weighted sum of two matrices. 12 bytes an entry. */
#include "kernels/cuda/device/device.h"

__global__ void blend_matrices(struct sw_blend a)
{
    int64_t id = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (id >= (int64_t)a.rows * a.cols)
        return;
    int i = (int)(id / a.cols), j = (int)(id % a.cols), u = blockIdx.y;
    float *out = unit_row(a.out, u, i) + j;
    int64_t at = out - a.out.data;
    *out = a.beta == 0 ? a.alpha * a.x[at] : a.alpha * a.x[at] + a.beta * a.y[at];
}

enum sw_status sw_cuda_blend(struct sw_backend *be, const struct sw_blend *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(a->x && (a->y || a->beta == 0) && sw_unit_holds(&a->out, a->rows, a->cols), "blend");
    if (a->rows == 0 || a->cols == 0)
        return SW_OK;
    dim3 grid((unsigned)div_up64((int64_t)a->rows * a->cols, 256), (unsigned)a->out.units);
    blend_matrices<<<grid, 256, 0, queue_on(s)>>>(*a);
    LAUNCHED(s, "blend");
    return SW_OK;
}
