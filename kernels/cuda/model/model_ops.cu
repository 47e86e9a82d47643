/* What a transformer needs besides products: embedding, RMSNorm, RoPE, SwiGLU. All of it moves
 * bytes and computes next to nothing: a kernel is as fast as the bytes that it has under way, so
 * accesses are 16 bytes a thread (V = 8) where widths and addresses are multiples of that, and one
 * element (V = 1) elsewhere. */
#include <algorithm>

#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/reduce.cuh"

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

enum sw_status sw_cuda_embed(struct sw_backend *be, const void *table, const int32_t *ids_host,
                             int rows, int width, void *out)
{
    struct cuda_state *s = state_of(be);
    if (rows == 0)
        return SW_OK;
    void *ids;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_CONVERT, (size_t)rows * sizeof(int32_t), &ids));
    SW_TRY(sw_cuda_memory_upload(s, ids, ids_host, (size_t)rows * sizeof(int32_t)));
    embed_rows<<<rows, 256, 0, queue_on(s)>>>(static_cast<const bf16 *>(table),
                                              static_cast<const int32_t *>(ids), width,
                                              static_cast<bf16 *>(out));
    LAUNCHED(s, "embed");
    return SW_OK;
}

/* --- RMSNorm ---------------------------------------------------------------------------------- */

/* One CTA a row: out = weight · x / sqrt(mean x² + eps), fp32 inside, rounded once. A thread has
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

/* Short rows (q and k norms of 64 … 256): a warp a row, eight rows a CTA. */
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

enum sw_status sw_cuda_rmsnorm(struct sw_backend *be, const void *x, const void *weight, int rows,
                               int width, float eps, void *out)
{
    struct cuda_state *s = state_of(be);
    if (rows == 0)
        return SW_OK;
    const bf16 *xb = static_cast<const bf16 *>(x), *wb = static_cast<const bf16 *>(weight);
    bf16 *to = static_cast<bf16 *>(out);
    if (width <= 256)
        rmsnorm_short<<<div_up(rows, 8), 256, 0, queue_on(s)>>>(xb, wb, rows, width, eps, to);
    else if (wide(width, x, weight, out))
        rmsnorm_rows<8><<<rows, std::min(div_up(width / 8, 32) * 32, 1024), 0, queue_on(s)>>>(
            xb, wb, width, eps, to);
    else
        rmsnorm_rows<1><<<rows, 512, 0, queue_on(s)>>>(xb, wb, width, eps, to);
    LAUNCHED(s, "rmsnorm");
    return SW_OK;
}

/* --- RoPE ------------------------------------------------------------------------------------- */

enum { ROPE_THREADS = 256, ROPE_ANGLES = 512 };

/* A CTA takes `tokens` tokens: first their angles, once for all heads, into shared memory; then a
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

enum sw_status sw_cuda_rope(struct sw_backend *be, void *x, int rows, int heads, int d, int pos0,
                            const float *inv_freq, float factor)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(d % 2 == 0 && d / 2 <= ROPE_ANGLES, "rope");
    if (rows == 0)
        return SW_OK;
    int tokens = rows < s->multiprocessors ? 1 : ROPE_ANGLES / (d / 2), grid = div_up(rows, tokens);
    if (wide(d / 2, x, NULL, NULL))
        rope_rows<8><<<grid, ROPE_THREADS, 0, queue_on(s)>>>(static_cast<bf16 *>(x), rows, heads, d,
                                                             tokens, pos0, inv_freq, factor);
    else
        rope_rows<1><<<grid, ROPE_THREADS, 0, queue_on(s)>>>(static_cast<bf16 *>(x), rows, heads, d,
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
    swiglu_packs<V><<<grid, 256, 0, queue_on(s)>>>(gate, up, from, count, out);
}

enum sw_status sw_cuda_swiglu(struct sw_backend *be, const void *gate, const void *up, size_t count,
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
