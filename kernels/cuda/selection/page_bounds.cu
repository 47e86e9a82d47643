/* Quest: the extremes of a page's keys, and the bound on a query's scores that they give. */
#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/reduce.cuh"

/* A thread a (block, head, coordinate); its tokens one after the other. One read of x. */
__global__ void extreme_blocks(struct sw_extremes a)
{
    int j = a.t0 / a.block + blockIdx.x, h = blockIdx.y;
    int t0 = max(a.t0, j * a.block), t1 = min(a.t1, (j + 1) * a.block);
    for (int c = threadIdx.x; c < a.head_dim; c += blockDim.x) {
        int64_t at = ((int64_t)h * a.ld + j) * a.head_dim + c;
        bool fresh = t0 == j * a.block;
        float low = fresh ? INFINITY : a.low[at], high = fresh ? -INFINITY : a.high[at];
#pragma unroll 4
        for (int t = t0; t < t1; t++) {
            float v = __bfloat162float(static_cast<const bf16 *>(
                a.x)[((int64_t)(t - a.t0) * a.heads + h) * a.head_dim + c]);
            low = fminf(low, v);
            high = fmaxf(high, v);
        }
        a.low[at] = low;
        a.high[at] = high;
    }
}

enum sw_status sw_cuda_extremes(struct sw_backend *be, const struct sw_extremes *a)
{
    struct cuda_state *s = state_of(be);
    if (a->t1 <= a->t0)
        return SW_OK;
    int blocks = (a->t1 - 1) / a->block - a->t0 / a->block + 1;
    REQUIRE(a->t0 >= 0 && (a->t1 - 1) / a->block < a->ld, "extremes");
    extreme_blocks<<<dim3((unsigned)blocks, (unsigned)a->heads), 128, 0, queue_on(s)>>>(*a);
    LAUNCHED(s, "extremes");
    return SW_OK;
}

/* A warp a (block, unit). Reads both extremes once a unit: 8 · d bytes a block and KV head. */
__global__ void __launch_bounds__(256) bound_blocks(struct sw_bound_scores a)
{
    int j = blockIdx.x * 8 + (threadIdx.x >> 5), lane = threadIdx.x & 31, u = blockIdx.y;
    if (j >= a.b)
        return;
    int per = a.n_heads / a.out.units, G = a.n_heads / a.n_kv_heads;
    float sum = 0;
    for (int h = u * per; h < (u + 1) * per; h++) {
        const bf16 *q = static_cast<const bf16 *>(a.q) + (int64_t)h * a.head_dim;
        int64_t at = ((int64_t)(h / G) * a.ld_in + j) * a.head_dim;
        float bound = 0;
        for (int c = lane; c < a.head_dim; c += 32) {
            float v = __bfloat162float(q[c]);
            bound += fmaxf(v * a.low[at + c], v * a.high[at + c]);
        }
        sum += warp_sum(bound);
    }
    if (lane == 0)
        unit_row(a.out, u, 0)[j] = sum;
}

enum sw_status sw_cuda_bound_scores(struct sw_backend *be, const struct sw_bound_scores *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(sw_unit_holds(&a->out, 1, a->b) && a->n_heads % a->out.units == 0 && a->b <= a->ld_in &&
                a->n_heads % a->n_kv_heads == 0,
            "bound_scores");
    bound_blocks<<<dim3((unsigned)div_up(a->b, 8), (unsigned)a->out.units), 256, 0, queue_on(s)>>>(
        *a);
    LAUNCHED(s, "bound_scores");
    return SW_OK;
}
