/* Compact codes of key tokens, and a query's scores of tokens by them alone. */
#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/reduce.cuh"

enum { MOST_TRANSFORM = 256, TILE = 128 /* tokens, and threads, of a score's CTA */ };

static bool codes_fit(const struct sw_token_codes *c, int n)
{
    return c->words && c->heads > 0 && c->head_dim > 0 && n > 0 && n <= c->ld &&
           (c->kind == SW_CODES_HADAMARD ? !c->channels : c->n_channels > 0);
}

static enum sw_status shape_fits(const struct sw_token_codes *c)
{
    if (c->head_dim > MOST_TRANSFORM)
        return SW_FAIL(SW_EUNSUPPORTED, "token codes of head dimension %d; at most %d", c->head_dim,
                       MOST_TRANSFORM);
    return SW_OK;
}

/* --- codes ------------------------------------------------------------------------------------
 * A warp a token and head: reads 2·d bytes, writes d / 4 (HADAMARD) or channels / 2 + 8 (MINMAX4).
 */

/* Coordinate c of the transform is lane c mod 32's value c / 32. The butterflies are in the order
 * of the strides, as the CPU's: the codes are the same. */
template <int R>
__device__ __forceinline__ void hadamard(float (&y)[R], int lane)
{
#pragma unroll
    for (int stride = 1; stride < 32; stride *= 2)
#pragma unroll
        for (int r = 0; r < R; r++) {
            float other = __shfl_xor_sync(0xffffffffu, y[r], stride);
            y[r] = lane & stride ? other - y[r] : y[r] + other;
        }
#pragma unroll
    for (int stride = 1; stride < R; stride *= 2)
#pragma unroll
        for (int r = 0; r < R; r++)
            if (!(r & stride)) {
                float a = y[r], b = y[r + stride];
                y[r] = a + b;
                y[r + stride] = a - b;
            }
}

template <int R>
__device__ __forceinline__ void code_hadamard(const bf16 *x, int d, int lane, uint32_t *words)
{
    float y[R];
#pragma unroll
    for (int r = 0; r < R; r++)
        y[r] = lane + 32 * r < d ? __bfloat162float(x[lane + 32 * r]) : 0.0f;
    hadamard(y, lane);
#pragma unroll
    for (int r = 0; r < R; r++) {
        int code = (y[r] > -10.0f) + (y[r] > 0.0f) + (y[r] > 10.0f);
        uint32_t high = __ballot_sync(0xffffffffu, code >> 1),
                 low = __ballot_sync(0xffffffffu, code & 1);
        if (lane == 0) {
            words[r] = high;
            words[R + r] = low;
        }
    }
}

__device__ __forceinline__ void code_minmax(const bf16 *x, const int32_t *channels, int count,
                                            int lane, uint32_t *words)
{
    float most = -INFINITY, least = INFINITY;
    for (int c = lane; c < count; c += 32) {
        float v = __bfloat162float(x[channels ? channels[c] : c]);
        most = fmaxf(most, v);
        least = fminf(least, v);
    }
    float high = warp_max(most), low = -warp_max(-least),
          step = __fdiv_rn(__fsub_rn(high, low), 15.0f);
    int used = (count + 7) / 8;
    for (int c0 = 0; c0 < count; c0 += 32) {
        int c = c0 + lane;
        uint32_t code = 0;
        if (c < count && step > 0.0f) {
            float v = __bfloat162float(x[channels ? channels[c] : c]);
            code = (uint32_t)fminf(rintf(__fdiv_rn(__fsub_rn(v, low), step)), 15.0f)
                   << (lane % 8 * 4);
        }
        for (int o = 1; o < 8; o *= 2)
            code |= __shfl_xor_sync(0xffffffffu, code, o);
        if (lane % 8 == 0 && c < count)
            words[c / 8] = code;
    }
    if (lane == 0) {
        words[used] = __float_as_uint(low);
        words[used + 1] = __float_as_uint(step);
    }
}

/* R: 0 is MINMAX4, else HADAMARD of 32·R coordinates. */
template <int R>
__global__ void __launch_bounds__(128) code_rows(struct sw_code_tokens a, int words)
{
    int lane = threadIdx.x & 31, t = a.t0 + blockIdx.x * 4 + (threadIdx.x >> 5), h = blockIdx.y;
    if (t >= a.t1)
        return;
    const struct sw_token_codes &to = a.to;
    const bf16 *x =
        static_cast<const bf16 *>(a.x) + ((int64_t)(t - a.t0) * to.heads + h) * to.head_dim;
    uint32_t *out = to.words + ((int64_t)h * to.ld + t) * words;
    if constexpr (R > 0)
        code_hadamard<R>(x, to.head_dim, lane, out);
    else
        code_minmax(x, to.channels ? to.channels + (int64_t)h * to.n_channels : nullptr,
                    to.n_channels, lane, out);
}

enum sw_status sw_cuda_code_tokens(struct sw_backend *be, const struct sw_code_tokens *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(a->x && a->t0 >= 0 && a->t1 > a->t0 && codes_fit(&a->to, a->t1), "code_tokens");
    SW_TRY(shape_fits(&a->to));
    dim3 grid((unsigned)div_up(a->t1 - a->t0, 4), (unsigned)a->to.heads);
    int words = sw_code_words(&a->to), R = sw_code_transform(a->to.head_dim) / 32;
    if (a->to.kind == SW_CODES_MINMAX4)
        code_rows<0><<<grid, 128, 0, queue_on(s)>>>(*a, words);
    else if (R == 1)
        code_rows<1><<<grid, 128, 0, queue_on(s)>>>(*a, words);
    else if (R == 2)
        code_rows<2><<<grid, 128, 0, queue_on(s)>>>(*a, words);
    else if (R == 4)
        code_rows<4><<<grid, 128, 0, queue_on(s)>>>(*a, words);
    else
        code_rows<8><<<grid, 128, 0, queue_on(s)>>>(*a, words);
    LAUNCHED(s, "code_tokens");
    return SW_OK;
}

/* --- scores -----------------------------------------------------------------------------------
 * A thread a token; a CTA copies the codes of its 128 tokens to shared memory, whole lines at a
 * time, and all query heads of the KV head take them from there: the codes are read once. Bytes a
 * token and KV head, with G query heads: d / 4 + 4·G (HADAMARD), channels / 2 + 8 + 4·G (MINMAX4).
 * The arithmetic is 3 population counts for 32 coordinates of a head, or a multiply-add a channel.
 */

/* Rows of words in shared memory, an odd number of words apart: no two threads of a warp read the
 * same bank. */
__device__ __forceinline__ void stage(const struct sw_token_codes &c, int h, int t0, int tokens,
                                      int words, uint32_t *tile)
{
    const uint32_t *from = c.words + ((int64_t)h * c.ld + t0) * words;
    for (int i = threadIdx.x; i < tokens * words; i += TILE)
        tile[i / words * (words | 1) + i % words] = from[i];
}

__device__ __forceinline__ float finished(const struct sw_code_scores &a, int t, float score)
{
    return a.last_is_best && t == a.n - 1 ? INFINITY : score;
}

template <int R>
__global__ void __launch_bounds__(TILE) distance_rows(struct sw_code_scores a)
{
    extern __shared__ uint32_t tile[];
    __shared__ uint32_t query[4][2 * R]; /* a warp codes a head's query */
    int h = blockIdx.y, G = a.n_heads / a.from.heads, t0 = blockIdx.x * TILE, t = t0 + threadIdx.x,
        lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    stage(a.from, h, t0, min(TILE, a.n - t0), 2 * R, tile);
    uint32_t key[2 * R];
    for (int g0 = 0; g0 < G; g0 += 4) {
        __syncthreads(); /* the tile is there; the last queries have been read */
        if (g0 + warp < G)
            code_hadamard<R>(static_cast<const bf16 *>(a.q) +
                                 (int64_t)(h * G + g0 + warp) * a.from.head_dim,
                             a.from.head_dim, lane, query[warp]);
        __syncthreads();
        if (t >= a.n)
            continue;
        if (g0 == 0)
#pragma unroll
            for (int w = 0; w < 2 * R; w++)
                key[w] = tile[threadIdx.x * (2 * R | 1) + w];
        for (int g = 0; g < min(4, G - g0); g++) {
            int sum = 0;
#pragma unroll
            for (int w = 0; w < R; w++) {
                uint32_t qh = query[g][w], ql = query[g][R + w], kh = key[w], kl = key[R + w];
                sum +=
                    __popc((qh | ql) ^ (kh | kl)) + __popc(qh ^ kh) + __popc((qh & ql) ^ (kh & kl));
            }
            unit_row(a.out, h * G + g0 + g, 0)[t] = finished(a, t, -(float)sum);
        }
    }
}

__global__ void __launch_bounds__(TILE) product_rows(struct sw_code_scores a, int words)
{
    extern __shared__ uint32_t tile[];
    __shared__ float4 query[MOST_TRANSFORM]; /* four heads' values of a channel */
    int h = blockIdx.y, G = a.n_heads / a.from.heads, t0 = blockIdx.x * TILE, t = t0 + threadIdx.x,
        count = a.from.n_channels;
    stage(a.from, h, t0, min(TILE, a.n - t0), words, tile);
    const uint32_t *mine = tile + threadIdx.x * (words | 1);
    for (int g0 = 0; g0 < G; g0 += 4) {
        __syncthreads();
        for (int i = threadIdx.x; i < (count + 7) / 8 * 32; i += TILE) {
            int c = i / 4, g = g0 + i % 4;
            int from = c < count && a.from.channels ? a.from.channels[(int64_t)h * count + c] : c;
            bool there = c < count && g < G;
            reinterpret_cast<float *>(query)[i] =
                there ? __bfloat162float(static_cast<const bf16 *>(
                            a.q)[(int64_t)(h * G + g) * a.from.head_dim + from])
                      : 0.0f;
        }
        __syncthreads();
        if (t >= a.n)
            continue;
        float4 sum = {0, 0, 0, 0}, all = {0, 0, 0, 0};
        for (int w = 0; w < words - 2; w++) {
            uint32_t codes = mine[w];
#pragma unroll
            for (int c = 0; c < 8; c++) {
                float code = (float)(codes >> (4 * c) & 15u);
                float4 q = query[w * 8 + c];
                sum.x += q.x * code, sum.y += q.y * code, sum.z += q.z * code, sum.w += q.w * code;
                all.x += q.x, all.y += q.y, all.z += q.z, all.w += q.w;
            }
        }
        float low = __uint_as_float(mine[words - 2]), step = __uint_as_float(mine[words - 1]);
        float score[4] = {low * all.x + step * sum.x, low * all.y + step * sum.y,
                          low * all.z + step * sum.z, low * all.w + step * sum.w};
#pragma unroll
        for (int g = 0; g < 4; g++)
            if (g0 + g < G)
                unit_row(a.out, h * G + g0 + g, 0)[t] = finished(a, t, a.scale * score[g]);
    }
}

enum sw_status sw_cuda_code_scores(struct sw_backend *be, const struct sw_code_scores *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(a->q && codes_fit(&a->from, a->n) && a->n_heads > 0 &&
                a->n_heads % a->from.heads == 0 && a->out.units == a->n_heads &&
                sw_unit_holds(&a->out, 1, a->n),
            "code_scores");
    SW_TRY(shape_fits(&a->from));
    dim3 grid((unsigned)div_up(a->n, TILE), (unsigned)a->from.heads);
    int words = sw_code_words(&a->from), R = sw_code_transform(a->from.head_dim) / 32;
    size_t shared = sizeof(uint32_t) * TILE * (size_t)(words | 1);
    if (a->from.kind == SW_CODES_MINMAX4)
        product_rows<<<grid, TILE, shared, queue_on(s)>>>(*a, words);
    else if (R == 1)
        distance_rows<1><<<grid, TILE, shared, queue_on(s)>>>(*a);
    else if (R == 2)
        distance_rows<2><<<grid, TILE, shared, queue_on(s)>>>(*a);
    else if (R == 4)
        distance_rows<4><<<grid, TILE, shared, queue_on(s)>>>(*a);
    else
        distance_rows<8><<<grid, TILE, shared, queue_on(s)>>>(*a);
    LAUNCHED(s, "code_scores");
    return SW_OK;
}
