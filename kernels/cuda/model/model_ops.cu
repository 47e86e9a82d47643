/* What a transformer needs besides products: embedding, RMSNorm, RoPE, SwiGLU, and conversions to
 * and from bf16. All of it moves bytes and computes next to nothing: a kernel is as fast as the
 * bytes that it has under way, so accesses are 16 bytes a thread (V = 8) where widths and addresses
 * are multiples of that, and one element (V = 1) elsewhere. */
#include <algorithm>
#include <cuda_fp16.h>

#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/reduce.cuh"

/* --- conversions ------------------------------------------------------------------------------ */

template <typename T>
__global__ void to_bf16(const T *src, bf16 *dst, size_t count)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        dst[i] = __float2bfloat16_rn((float)src[i]);
}

__global__ void to_float(const bf16 *src, float *dst, size_t count)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        dst[i] = __bfloat162float(src[i]);
}

static const size_t CHUNK = (size_t)4 << 20; /* elements converted at once */

static enum sw_status upload_act(struct sw_backend *be, void *dst, const void *src,
                                 enum sw_dtype from, size_t count)
{
    struct cuda_state *s = state_of(be);
    if (from == SW_BF16)
        return be->upload(be, dst, src, count * sizeof(bf16));
    size_t width = sw_dtype_size(from);
    void *stage;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_CONVERT, std::min(count, CHUNK) * width, &stage));
    for (size_t at = 0; at < count; at += CHUNK) {
        size_t n = std::min(CHUNK, count - at);
        CUDA_TRY(s, cudaMemcpyAsync(stage, static_cast<const char *>(src) + at * width, n * width,
                                    cudaMemcpyHostToDevice, s->stream));
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
        to_float<<<grid, 256, 0, s->stream>>>(static_cast<const bf16 *>(src) + at,
                                              static_cast<float *>(stage), n);
        LAUNCHED(s, "download_act");
        CUDA_TRY(s, cudaMemcpyAsync(dst + at, stage, n * sizeof(float), cudaMemcpyDeviceToHost,
                                    s->stream));
    }
    CUDA_TRY(s, cudaStreamSynchronize(s->stream));
    return SW_OK;
}

/* --- wide accesses ---------------------------------------------------------------------------- */

template <int V>
struct alignas(V * sizeof(bf16)) pack {
    bf16 e[V];
};

template <int V>
__device__ inline pack<V> load(const bf16 *p)
{
    return *reinterpret_cast<const pack<V> *>(p);
}
template <int V>
__device__ inline void store(bf16 *p, const pack<V> &x)
{
    *reinterpret_cast<pack<V> *>(p) = x;
}

/* May rows of `width` elements from these addresses be read and written 8 elements at a time? */
static bool wide(int width, const void *a, const void *b, const void *c)
{
    uintptr_t any = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) |
                    reinterpret_cast<uintptr_t>(c);
    return width % 8 == 0 && any % sizeof(pack<8>) == 0;
}

/* --- embedding -------------------------------------------------------------------------------- */

/* Reads and writes rows · width · 2 bytes. */
__global__ void embed_rows(const bf16 *table, const int32_t *ids, int width, bf16 *out)
{
    const bf16 *from = table + (int64_t)ids[blockIdx.x] * width;
    bf16 *to = out + (int64_t)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        to[i] = from[i];
}

static enum sw_status embed(struct sw_backend *be, const void *table, const int32_t *ids_host,
                            int rows, int width, void *out)
{
    struct cuda_state *s = state_of(be);
    if (rows == 0)
        return SW_OK;
    void *ids;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_CONVERT, (size_t)rows * sizeof(int32_t), &ids));
    SW_TRY(sw_cuda_upload(s, ids, ids_host, (size_t)rows * sizeof(int32_t)));
    embed_rows<<<rows, 256, 0, s->stream>>>(static_cast<const bf16 *>(table),
                                            static_cast<const int32_t *>(ids), width,
                                            static_cast<bf16 *>(out));
    LAUNCHED(s, "embed");
    return SW_OK;
}

/* --- RMSNorm ---------------------------------------------------------------------------------- */

/* One block a row: out = weight · x / sqrt(mean x² + eps), fp32 inside, rounded once. A thread has
 * one pack of the row up to 8192 columns; the row's second reading comes from L1. 4 · rows · width
 * bytes of device memory. In place is fine. */
template <int V>
__global__ void rmsnorm_rows(const bf16 *x, const bf16 *weight, int width, float eps, bf16 *out)
{
    __shared__ float lanes[32];
    const bf16 *row = x + (int64_t)blockIdx.x * width;
    bf16 *to = out + (int64_t)blockIdx.x * width;
    float sum = 0;
    for (int i = threadIdx.x * V; i < width; i += blockDim.x * V) {
        pack<V> v = load<V>(row + i);
        for (int k = 0; k < V; k++) {
            float f = __bfloat162float(v.e[k]);
            sum += f * f;
        }
    }
    float inv = rsqrtf(block_sum(sum, lanes) / (float)width + eps);
    for (int i = threadIdx.x * V; i < width; i += blockDim.x * V) {
        pack<V> v = load<V>(row + i), w = load<V>(weight + i);
        for (int k = 0; k < V; k++)
            v.e[k] = __float2bfloat16_rn(__bfloat162float(v.e[k]) * inv * __bfloat162float(w.e[k]));
        store<V>(to + i, v);
    }
}

/* Short rows (q and k norms of 64 … 256): a warp a row, eight rows a block. */
__global__ void rmsnorm_short(const bf16 *x, const bf16 *weight, int rows, int width, float eps,
                              bf16 *out)
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

static enum sw_status rmsnorm(struct sw_backend *be, const void *x, const void *weight, int rows,
                              int width, float eps, void *out)
{
    struct cuda_state *s = state_of(be);
    if (rows == 0)
        return SW_OK;
    const bf16 *xb = static_cast<const bf16 *>(x), *wb = static_cast<const bf16 *>(weight);
    bf16 *to = static_cast<bf16 *>(out);
    if (width <= 256)
        rmsnorm_short<<<div_up(rows, 8), 256, 0, s->stream>>>(xb, wb, rows, width, eps, to);
    else if (wide(width, x, weight, out))
        rmsnorm_rows<8><<<rows, std::min(div_up(width / 8, 32) * 32, 1024), 0, s->stream>>>(
            xb, wb, width, eps, to);
    else
        rmsnorm_rows<1><<<rows, 512, 0, s->stream>>>(xb, wb, width, eps, to);
    LAUNCHED(s, "rmsnorm");
    return SW_OK;
}

/* --- RoPE ------------------------------------------------------------------------------------- */

enum { ROPE_THREADS = 256, ROPE_ANGLES = 512 };

/* A block takes `tokens` tokens: first their angles, once for all heads, into shared memory; then a
 * thread a pack of pairs at a time. The angles of packs' e-th pairs lie side by side, so that a
 * warp reads them without bank conflicts. Precise sincosf: positions reach 131072 rad, where the
 * fast one is noise. 4 · rows · heads · d bytes. */
template <int V>
__global__ void rope_rows(bf16 *x, int rows, int heads, int d, int tokens, int pos0,
                          const float *inv_freq, float factor)
{
    __shared__ float2 angle[ROPE_ANGLES];
    int half = d / 2, packs = half / V, t0 = blockIdx.x * tokens, some = min(tokens, rows - t0);
    for (int i = threadIdx.x; i < some * half; i += blockDim.x) {
        int t = i / half, k = i % half;
        float sine, cosine;
        sincosf((float)(pos0 + t0 + t) * inv_freq[k], &sine, &cosine);
        angle[t * half + k % V * packs + k / V] = make_float2(cosine * factor, sine * factor);
    }
    __syncthreads();
    bf16 *base = x + (int64_t)t0 * heads * d;
    for (int i = threadIdx.x; i < some * heads * packs; i += blockDim.x) {
        int row = i / packs, at = i % packs; /* row: token and head */
        const float2 *angles = angle + row / heads * half + at;
        bf16 *p = base + (int64_t)row * d + at * V;
        pack<V> a = load<V>(p), b = load<V>(p + half);
        for (int e = 0; e < V; e++) {
            float2 turn = angles[e * packs];
            float u = __bfloat162float(a.e[e]), v = __bfloat162float(b.e[e]);
            a.e[e] = __float2bfloat16_rn(u * turn.x - v * turn.y);
            b.e[e] = __float2bfloat16_rn(v * turn.x + u * turn.y);
        }
        store<V>(p, a);
        store<V>(p + half, b);
    }
}

static enum sw_status rope(struct sw_backend *be, void *x, int rows, int heads, int d, int pos0,
                           const float *inv_freq, float factor)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(d % 2 == 0 && d / 2 <= ROPE_ANGLES, "rope");
    if (rows == 0)
        return SW_OK;
    int tokens = rows < s->multiprocessors ? 1 : ROPE_ANGLES / (d / 2), grid = div_up(rows, tokens);
    if (wide(d / 2, x, NULL, NULL))
        rope_rows<8><<<grid, ROPE_THREADS, 0, s->stream>>>(static_cast<bf16 *>(x), rows, heads, d,
                                                           tokens, pos0, inv_freq, factor);
    else
        rope_rows<1><<<grid, ROPE_THREADS, 0, s->stream>>>(static_cast<bf16 *>(x), rows, heads, d,
                                                           tokens, pos0, inv_freq, factor);
    LAUNCHED(s, "rope");
    return SW_OK;
}

/* --- SwiGLU ----------------------------------------------------------------------------------- */

__device__ inline float silu_times(float g, float u) { return g / (1.0f + __expf(-g)) * u; }

/* out = silu(gate) · up of elements from … count-1, in packs; 6 · count bytes. out may be gate. */
template <int V>
__global__ void swiglu_packs(const bf16 *gate, const bf16 *up, size_t from, size_t count, bf16 *out)
{
    for (size_t i = from + (blockIdx.x * (size_t)blockDim.x + threadIdx.x) * V; i < count;
         i += (size_t)gridDim.x * blockDim.x * V) {
        pack<V> g = load<V>(gate + i), u = load<V>(up + i);
        for (int k = 0; k < V; k++)
            g.e[k] =
                __float2bfloat16_rn(silu_times(__bfloat162float(g.e[k]), __bfloat162float(u.e[k])));
        store<V>(out + i, g);
    }
}

template <int V>
static void launch_swiglu(struct cuda_state *s, const bf16 *gate, const bf16 *up, size_t from,
                          size_t count, bf16 *out)
{
    /* so many that the last ones level out */
    int grid =
        (int)std::min<size_t>(((count - from) / V + 255) / 256, (size_t)s->multiprocessors * 256);
    swiglu_packs<V><<<grid, 256, 0, s->stream>>>(gate, up, from, count, out);
}

static enum sw_status swiglu(struct sw_backend *be, const void *gate, const void *up, size_t count,
                             void *out)
{
    struct cuda_state *s = state_of(be);
    const bf16 *g = static_cast<const bf16 *>(gate), *u = static_cast<const bf16 *>(up);
    bf16 *o = static_cast<bf16 *>(out);
    size_t packs = wide(8, gate, up, out) ? count & ~(size_t)7 : 0;
    if (packs > 0)
        launch_swiglu<8>(s, g, u, 0, packs, o);
    if (packs < count)
        launch_swiglu<1>(s, g, u, packs, count, o);
    LAUNCHED(s, "swiglu");
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
