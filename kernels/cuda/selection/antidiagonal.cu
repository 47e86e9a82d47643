/* XAttention's scores: sums along antidiagonals of a block, one product of regrouped tokens
 * (softmax_rows.cuh says how it goes on). */
#include <algorithm>

#include "kernels/cuda/device/device.h"
#include "kernels/cuda/selection/softmax_rows.cuh"

/* Groups of `stride` tokens as rows of stride · d numbers, queries in reverse; tokens that are not
 * there are zeros. */
__global__ void pack_groups(const bf16 *x, int n, int heads, int h, int d, int stride, int groups,
                            bool reverse, bf16 *out)
{
    int64_t id = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, chunks = d / 8,
            count = (int64_t)groups * stride * chunks;
    if (id >= count)
        return;
    int64_t c = id % chunks, place = id / chunks % stride, g = id / chunks / stride,
            t = g * stride + (reverse ? stride - 1 - place : place);
    uint4 v = make_uint4(0, 0, 0, 0);
    if (t < n)
        v = *reinterpret_cast<const uint4 *>(x + (t * heads + h) * d + c * 8);
    *reinterpret_cast<uint4 *>(out + ((g * stride + place) * chunks + c) * 8) = v;
}

enum sw_status sw_cuda_antidiagonal(struct sw_backend *be, const struct sw_antidiagonal *a)
{
    struct cuda_state *s = state_of(be);
    const struct sw_attend *in = a->in;
    int d = in->head_dim, n = in->n_k, G = in->n_heads / in->n_kv_heads, per = a->block / a->stride,
        b = div_up(n, a->block);
    REQUIRE(in->batch == 1 && in->n_q == n && a->stride >= 1 && a->block % a->stride == 0 &&
                sw_unit_holds(&a->out, b, b) && a->out.units == in->n_heads && d % 8 == 0,
            "antidiagonal");
    int groups = div_up(n, a->stride), columns = padded(groups), depth = a->stride * d;
    int strip = (int)std::max<int64_t>(
                    1, std::min<int64_t>(div_up(groups, per), STRIP_FLOATS / columns / per)) *
                per;
    void *room, *logits;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_PACK, 2 * (size_t)columns * (size_t)depth * sizeof(bf16),
                           &room));
    SW_TRY(sw_cuda_scratch(s, SCRATCH_SCORES, (size_t)strip * (size_t)columns * sizeof(float),
                           &logits));
    bf16 *q = static_cast<bf16 *>(room), *k = q + (int64_t)columns * depth;
    unsigned grid = (unsigned)div_up64((int64_t)columns * a->stride * (d / 8), 256);
    for (int h = 0; h < in->n_heads; h++) {
        if (h % G == 0)
            pack_groups<<<grid, 256, 0, queue_on(s)>>>(static_cast<const bf16 *>(in->k), n,
                                                       in->n_kv_heads, h / G, d, a->stride, columns,
                                                       false, k);
        pack_groups<<<grid, 256, 0, queue_on(s)>>>(static_cast<const bf16 *>(in->q), n, in->n_heads,
                                                   h, d, a->stride, columns, true, q);
        LAUNCHED(s, "antidiagonal, pack");
        for (int at = 0; at < groups; at += strip) {
            int rows = std::min(strip, groups - at), seen = padded(std::min(at + rows, groups));
            /* Columns after the strip's last row are not needed: half of the work. */
            SW_TRY(sw_cuda_gemm(s, q + (int64_t)at * depth, k, NULL, rows, depth, seen, false, true,
                                logits));
            gather_args g = {static_cast<float *>(logits),
                             seen,
                             at,
                             per,
                             per,
                             groups,
                             groups,
                             true,
                             0,
                             0,
                             0,
                             in->scale / (float)a->stride,
                             false,
                             sw_unit_row(&a->out, (size_t)h, 0),
                             a->out.ld,
                             b};
            SW_TRY(gather(s, g, rows));
        }
    }
    return SW_OK;
}
