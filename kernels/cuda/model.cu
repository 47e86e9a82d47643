/* What a transformer needs besides products: embedding, RMSNorm, RoPE, SwiGLU, and conversions to and from bf16. All of it moves
 * bytes and computes next to nothing; accesses are 16 bytes a thread where the width allows. */
#include <algorithm>
#include <cuda_fp16.h>

#include "kernels/cuda/device.h"
#include "kernels/cuda/reduce.cuh"

/* ------------------------------------------------------------------------------------------------- conversions */

template <typename T>
__global__ void to_bf16(const T *src, bf16 *dst, size_t count)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x)
        dst[i] = __float2bfloat16_rn((float)src[i]);
}

__global__ void to_float(const bf16 *src, float *dst, size_t count)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x)
        dst[i] = __bfloat162float(src[i]);
}

static const size_t CHUNK = (size_t)4 << 20; /* elements converted at once */

static enum sw_status upload_act(struct sw_backend *be, void *dst, const void *src, enum sw_dtype from, size_t count)
{
    struct cuda_state *s = state_of(be);
    if (from == SW_BF16)
        return be->upload(be, dst, src, count * sizeof(bf16));
    size_t width = sw_dtype_size(from);
    void *stage;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_CONVERT, std::min(count, CHUNK) * width, &stage));
    for (size_t at = 0; at < count; at += CHUNK) {
        size_t n = std::min(CHUNK, count - at);
        CUDA_TRY(s, cudaMemcpyAsync(stage, static_cast<const char *>(src) + at * width, n * width, cudaMemcpyHostToDevice, s->stream));
        int grid = (int)std::min<size_t>((n + 255) / 256, (size_t)s->multiprocessors * 8);
        bf16 *to = static_cast<bf16 *>(dst) + at;
        if (from == SW_F32)
            to_bf16<<<grid, 256, 0, s->stream>>>(static_cast<const float *>(stage), to, n);
        else
            to_bf16<<<grid, 256, 0, s->stream>>>(static_cast<const __half *>(stage), to, n);
        LAUNCHED(s, "upload_act");
    }
    return SW_OK;
}

static enum sw_status download_act(struct sw_backend *be, float *dst, const void *src, size_t count)
{
    struct cuda_state *s = state_of(be);
    void *stage;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_CONVERT, std::min(count, CHUNK) * sizeof(float), &stage));
    for (size_t at = 0; at < count; at += CHUNK) {
        size_t n = std::min(CHUNK, count - at);
        int grid = (int)std::min<size_t>((n + 255) / 256, (size_t)s->multiprocessors * 8);
        to_float<<<grid, 256, 0, s->stream>>>(static_cast<const bf16 *>(src) + at, static_cast<float *>(stage), n);
        LAUNCHED(s, "download_act");
        CUDA_TRY(s, cudaMemcpyAsync(dst + at, stage, n * sizeof(float), cudaMemcpyDeviceToHost, s->stream));
    }
    CUDA_TRY(s, cudaStreamSynchronize(s->stream));
    return SW_OK;
}

/* --------------------------------------------------------------------------------------------------- embedding */

/* Reads and writes rows · width · 2 bytes. */
__global__ void embed_rows(const bf16 *table, const int32_t *ids, int width, bf16 *out)
{
    const bf16 *from = table + (int64_t)ids[blockIdx.x] * width;
    bf16 *to = out + (int64_t)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        to[i] = from[i];
}

static enum sw_status embed(struct sw_backend *be, const void *table, const int32_t *ids_host, int rows, int width, void *out)
{
    struct cuda_state *s = state_of(be);
    if (rows == 0)
        return SW_OK;
    void *ids;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_CONVERT, (size_t)rows * sizeof(int32_t), &ids));
    SW_TRY(sw_cuda_upload(s, ids, ids_host, (size_t)rows * sizeof(int32_t)));
    embed_rows<<<rows, 256, 0, s->stream>>>(static_cast<const bf16 *>(table), static_cast<const int32_t *>(ids), width,
                                            static_cast<bf16 *>(out));
    LAUNCHED(s, "embed");
    return SW_OK;
}

/* ----------------------------------------------------------------------------------------------------- RMSNorm */

/* One block a row: out = weight · x / sqrt(mean x² + eps), fp32 inside, rounded once. Reads the row twice, the second time from L1/L2:
 * 4 · rows · width bytes of device memory. In place is fine. */
__global__ void rmsnorm_rows(const bf16 *x, const bf16 *weight, int width, float eps, bf16 *out)
{
    __shared__ float lanes[32];
    const bf16 *row = x + (int64_t)blockIdx.x * width;
    bf16 *to = out + (int64_t)blockIdx.x * width;
    float sum = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float v = __bfloat162float(row[i]);
        sum += v * v;
    }
    float inv = rsqrtf(block_sum(sum, lanes) / (float)width + eps);
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        to[i] = __float2bfloat16_rn(__bfloat162float(row[i]) * inv * __bfloat162float(weight[i]));
}

/* Short rows (q and k norms of 64 … 256): a warp a row, eight rows a block. */
__global__ void rmsnorm_short(const bf16 *x, const bf16 *weight, int rows, int width, float eps, bf16 *out)
{
    int64_t r = (int64_t)blockIdx.x * 8 + (threadIdx.x >> 5);
    int lane = threadIdx.x & 31;
    if (r >= rows)
        return;
    const bf16 *row = x + r * width;
    float v[8];
    float sum = 0;
    for (int k = 0; k < 8; k++) {
        int i = k * 32 + lane;
        v[k] = i < width ? __bfloat162float(row[i]) : 0.0f;
        sum += v[k] * v[k];
    }
    float inv = rsqrtf(warp_sum(sum) / (float)width + eps);
    for (int k = 0; k < 8; k++) {
        int i = k * 32 + lane;
        if (i < width)
            out[r * width + i] = __float2bfloat16_rn(v[k] * inv * __bfloat162float(weight[i]));
    }
}

static enum sw_status rmsnorm(struct sw_backend *be, const void *x, const void *weight, int rows, int width, float eps, void *out)
{
    struct cuda_state *s = state_of(be);
    if (rows == 0)
        return SW_OK;
    const bf16 *xb = static_cast<const bf16 *>(x), *wb = static_cast<const bf16 *>(weight);
    if (width <= 256)
        rmsnorm_short<<<div_up(rows, 8), 256, 0, s->stream>>>(xb, wb, rows, width, eps, static_cast<bf16 *>(out));
    else
        rmsnorm_rows<<<rows, width >= 2048 ? 512 : 256, 0, s->stream>>>(xb, wb, width, eps, static_cast<bf16 *>(out));
    LAUNCHED(s, "rmsnorm");
    return SW_OK;
}

/* -------------------------------------------------------------------------------------------------------- RoPE */

/* A thread a (token, pair): the angle once, then all heads. Precise sincosf: positions reach 131072 rad, where the fast one is noise.
 * 4 · rows · heads · d bytes. */
__global__ void rope_rows(bf16 *x, int rows, int heads, int d, int pos0, const float *inv_freq, float factor)
{
    int half = d / 2;
    int64_t id = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (id >= (int64_t)rows * half)
        return;
    int t = (int)(id / half), k = (int)(id % half);
    float sine, cosine;
    sincosf((float)(pos0 + t) * inv_freq[k], &sine, &cosine);
    sine *= factor;
    cosine *= factor;
    bf16 *row = x + (int64_t)t * heads * d + k;
    for (int h = blockIdx.y; h < heads; h += gridDim.y) {
        bf16 *p = row + (int64_t)h * d;
        float a = __bfloat162float(p[0]), b = __bfloat162float(p[half]);
        p[0] = __float2bfloat16_rn(a * cosine - b * sine);
        p[half] = __float2bfloat16_rn(b * cosine + a * sine);
    }
}

static enum sw_status rope(struct sw_backend *be, void *x, int rows, int heads, int d, int pos0, const float *inv_freq, float factor)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(d % 2 == 0, "rope");
    if (rows == 0)
        return SW_OK;
    dim3 grid((unsigned)div_up64((int64_t)rows * (d / 2), 128), (unsigned)(rows >= 256 ? std::min(heads, 4) : heads));
    rope_rows<<<grid, 128, 0, s->stream>>>(static_cast<bf16 *>(x), rows, heads, d, pos0, inv_freq, factor);
    LAUNCHED(s, "rope");
    return SW_OK;
}

/* ------------------------------------------------------------------------------------------------------ SwiGLU */

__device__ inline float silu_times(float g, float u) { return g / (1.0f + __expf(-g)) * u; }

/* out = silu(gate) · up; 6 · count bytes. */
__global__ void swiglu_pairs(const __nv_bfloat162 *gate, const __nv_bfloat162 *up, size_t pairs, __nv_bfloat162 *out)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < pairs; i += (size_t)gridDim.x * blockDim.x) {
        float2 g = __bfloat1622float2(gate[i]), u = __bfloat1622float2(up[i]);
        out[i] = __floats2bfloat162_rn(silu_times(g.x, u.x), silu_times(g.y, u.y));
    }
}

__global__ void swiglu_last(const bf16 *gate, const bf16 *up, bf16 *out)
{
    *out = __float2bfloat16_rn(silu_times(__bfloat162float(*gate), __bfloat162float(*up)));
}

static enum sw_status swiglu(struct sw_backend *be, const void *gate, const void *up, size_t count, void *out)
{
    struct cuda_state *s = state_of(be);
    const bf16 *g = static_cast<const bf16 *>(gate), *u = static_cast<const bf16 *>(up);
    bf16 *o = static_cast<bf16 *>(out);
    size_t pairs = count / 2;
    if (pairs > 0) {
        int grid = (int)std::min<size_t>((pairs + 255) / 256, (size_t)s->multiprocessors * 16);
        swiglu_pairs<<<grid, 256, 0, s->stream>>>(reinterpret_cast<const __nv_bfloat162 *>(g), reinterpret_cast<const __nv_bfloat162 *>(u),
                                                  pairs, reinterpret_cast<__nv_bfloat162 *>(o));
        LAUNCHED(s, "swiglu");
    }
    if (count & 1) {
        swiglu_last<<<1, 1, 0, s->stream>>>(g + count - 1, u + count - 1, o + count - 1);
        LAUNCHED(s, "swiglu");
    }
    return SW_OK;
}

void sw_cuda_bind_model(struct sw_backend *be)
{
    be->upload_act = upload_act;
    be->download_act = download_act;
    be->embed = embed;
    be->rmsnorm = rmsnorm;
    be->rope = rope;
    be->swiglu = swiglu;
}
