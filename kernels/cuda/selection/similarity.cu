/* How alike the tokens of a block are: their mean cosine similarity (SpargeAttn). */
#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/reduce.cuh"

/* One CTA a (key block, head). Its warps take the tokens by turns: norm, then the unit vector
 * into the warp's own sum, which a fixed order adds up. One read of x: 2 · d bytes a token. */
__global__ void __launch_bounds__(256) alike_blocks(struct sw_similarity a)
{
    extern __shared__ float sums[]; /* [8][d] */
    __shared__ float lanes[32];
    int i = blockIdx.x, h = blockIdx.y, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    int t0 = i * a.block, t1 = min(t0 + a.block, a.n);
    const float *shift = a.shift ? a.shift + (int64_t)h * a.head_dim : nullptr;
    float *mine = sums + warp * a.head_dim;
    for (int c = lane; c < a.head_dim; c += 32)
        mine[c] = 0;
    for (int t = t0 + warp; t < t1; t += 8) {
        const bf16 *x = static_cast<const bf16 *>(a.x) + ((int64_t)t * a.heads + h) * a.head_dim;
        float square = 0, largest = 0, scale = 1;
        for (int c = lane; c < a.head_dim; c += 32) {
            float v = __bfloat162float(x[c]) - (shift ? shift[c] : 0.0f);
            square += v * v;
            largest = fmaxf(largest, fabsf(v));
        }
        square = warp_sum(square);
        /* Squares that leave fp32's range, upwards or downwards: once more, brought near 1 by a
         * power of two. */
        if (!(square >= 1e-30f && square <= 1e38f) && (largest = warp_max(largest)) > 0) {
            scale = exp2f(fminf(-(float)ilogbf(largest), 126.0f));
            square = 0;
            for (int c = lane; c < a.head_dim; c += 32) {
                float v = (__bfloat162float(x[c]) - (shift ? shift[c] : 0.0f)) * scale;
                square += v * v;
            }
            square = warp_sum(square);
        }
        float inv = square > 0 ? 1.0f / sqrtf(square) : 0.0f;
        for (int c = lane; c < a.head_dim; c += 32)
            mine[c] += (__bfloat162float(x[c]) - (shift ? shift[c] : 0.0f)) * scale * inv;
    }
    __syncthreads();
    float total = 0;
    for (int c = threadIdx.x; c < a.head_dim; c += blockDim.x) {
        float v = 0;
        for (int w = 0; w < 8; w++)
            v += sums[w * a.head_dim + c];
        v /= (float)(t1 - t0);
        total += v * v;
    }
    total = block_sum(total, lanes);
    if (threadIdx.x == 0)
        a.out[(int64_t)h * a.ld + i] = total;
}

enum sw_status sw_cuda_similarity(struct sw_backend *be, const struct sw_similarity *a)
{
    struct cuda_state *s = state_of(be);
    int b = div_up(a->n, a->block);
    REQUIRE(a->n >= 1 && a->heads >= 1 && b <= a->ld && a->head_dim <= 1024, "similarity");
    alike_blocks<<<dim3((unsigned)b, (unsigned)a->heads), 256,
                   (size_t)a->head_dim * 8 * sizeof(float), queue_on(s)>>>(*a);
    LAUNCHED(s, "similarity");
    return SW_OK;
}
