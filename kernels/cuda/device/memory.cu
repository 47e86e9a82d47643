/* Memory of the GPU: what it gives out, copies, and conversions to and from bf16.
 *
 * It comes from the device's stream-ordered pool, which keeps what is freed, so that alloc and free
 * cost microseconds. When the pool cannot serve a request it is trimmed and asked once more; then
 * the caller gets SW_ENOMEM with the bytes asked and free, and the CUDA error is cleared: the next,
 * smaller cell can run. */
#include <algorithm>
#include <cuda_fp16.h>

#include "kernels/cuda/device/device.h"

size_t sw_cuda_memory_free_now(struct cuda_state *s)
{
    size_t free_bytes = 0, total = 0;
    if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    uint64_t reserved = 0, used = 0; /* what the pool holds and nobody uses is free too */
    if (s->pool &&
        cudaMemPoolGetAttribute(s->pool, cudaMemPoolAttrReservedMemCurrent, &reserved) ==
            cudaSuccess &&
        cudaMemPoolGetAttribute(s->pool, cudaMemPoolAttrUsedMemCurrent, &used) == cudaSuccess &&
        reserved > used)
        free_bytes += reserved - used;
    return free_bytes;
}

static bool address_less(const std::pair<void *, size_t> &a, void *const &p) { return a.first < p; }

enum sw_status sw_cuda_memory_alloc(struct cuda_state *s, size_t bytes, void **out)
{
    *out = NULL;
    size_t want = bytes ? bytes : 1;
    void *p = NULL;
    bool recording = sw_cuda_recording(s);
    cudaError_t e = cudaSuccess;
    if (recording)
        SW_TRY(sw_cuda_recording_alloc(s, want, &p));
    else
        e = cudaMallocAsync(&p, want, queue_on(s));
    if (e == cudaErrorMemoryAllocation && !recording) {
        (void)cudaGetLastError();
        CUDA_TRY(s, cudaStreamSynchronize(queue_on(s)));
        CUDA_TRY(s, cudaMemPoolTrimTo(s->pool, 0));
        e = cudaMallocAsync(&p, want, queue_on(s));
    }
    if (e == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return SW_FAIL(SW_ENOMEM, "device memory: asked %zu bytes, free %zu", bytes,
                       sw_cuda_memory_free_now(s));
    }
    CUDA_TRY(s, e);
    auto at = std::lower_bound(s->sizes.begin(), s->sizes.end(), p, address_less);
    s->sizes.insert(at, std::make_pair(p, want));
    s->in_use += want;
    s->peak = std::max(s->peak, s->in_use);
    *out = p;
    return SW_OK;
}

void sw_cuda_memory_free(struct cuda_state *s, void *p)
{
    if (!p)
        return;
    auto at = std::lower_bound(s->sizes.begin(), s->sizes.end(), p, address_less);
    if (at != s->sizes.end() && at->first == p) {
        s->in_use -= at->second;
        s->sizes.erase(at);
    }
    if (sw_cuda_recording(s))
        sw_cuda_recording_free(s, p);
    else if (cudaFreeAsync(p, queue_on(s)) != cudaSuccess)
        (void)cudaGetLastError();
}

void sw_cuda_memory_uncount(struct cuda_state *s, void *p, size_t peak)
{
    auto at = std::lower_bound(s->sizes.begin(), s->sizes.end(), p, address_less);
    s->in_use -= at->second;
    s->peak = std::max(peak, s->in_use);
    at->second = 0;
}

enum sw_status sw_cuda_may_wait(const struct cuda_state *s, const char *what)
{
    return sw_cuda_recording(s)
               ? SW_FAIL(SW_EUNSUPPORTED, "%s waits for a result: it cannot be recorded", what)
               : SW_OK;
}

enum sw_status sw_cuda_scratch(struct cuda_state *s, enum scratch_slot slot, size_t bytes,
                               void **out)
{
    struct scratch *c = &s->scratch[slot];
    if (c->bytes < bytes) {
        sw_cuda_memory_free(s, c->p);
        c->p = NULL;
        c->bytes = 0;
        size_t rounded = (bytes + 0xffff) & ~(size_t)0xffff;
        SW_TRY(sw_cuda_memory_alloc(s, rounded, &c->p));
        c->bytes = rounded;
    }
    *out = c->p;
    return SW_OK;
}

enum sw_status sw_cuda_scratch_filled(struct cuda_state *s, enum scratch_slot slot, size_t bytes,
                                      int byte, void **out)
{
    size_t had = s->scratch[slot].bytes;
    SW_TRY(sw_cuda_scratch(s, slot, bytes, out));
    if (s->scratch[slot].bytes == had)
        return SW_OK;
    if (sw_cuda_recording(s))
        return sw_cuda_recording_fill(s, *out, byte, s->scratch[slot].bytes);
    CUDA_TRY(s, cudaMemsetAsync(*out, byte, s->scratch[slot].bytes, queue_on(s)));
    return SW_OK;
}

enum sw_status sw_cuda_alloc(struct sw_backend *be, size_t bytes, void **out)
{
    return sw_cuda_memory_alloc(state_of(be), bytes, out);
}
void sw_cuda_free(struct sw_backend *be, void *p) { sw_cuda_memory_free(state_of(be), p); }
size_t sw_cuda_free_bytes(struct sw_backend *be) { return sw_cuda_memory_free_now(state_of(be)); }

size_t sw_cuda_peak_bytes(struct sw_backend *be, bool reset)
{
    struct cuda_state *s = state_of(be);
    size_t peak = s->peak;
    if (reset)
        s->peak = s->in_use;
    return peak;
}

enum sw_status sw_cuda_memory_upload(struct cuda_state *s, void *dst, const void *src, size_t bytes)
{
    if (sw_cuda_recording(s) && !(src = sw_cuda_recording_keep(s, src, bytes)))
        return SW_FAIL(SW_ENOMEM, "recording: asked %zu bytes of host memory", bytes);
    /* From pageable memory this returns when src has been read, so the caller may reuse it at
     * once. */
    CUDA_TRY(s, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, queue_on(s)));
    return SW_OK;
}

enum sw_status sw_cuda_upload(struct sw_backend *be, void *dst, const void *src, size_t bytes)
{
    return sw_cuda_memory_upload(state_of(be), dst, src, bytes);
}

enum sw_status sw_cuda_download(struct sw_backend *be, void *dst, const void *src, size_t bytes)
{
    struct cuda_state *s = state_of(be);
    SW_TRY(sw_cuda_may_wait(s, "download"));
    CUDA_TRY(s, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, queue_on(s)));
    CUDA_TRY(s, cudaStreamSynchronize(queue_on(s)));
    return SW_OK;
}

enum sw_status sw_cuda_copy(struct sw_backend *be, void *dst, const void *src, size_t bytes)
{
    struct cuda_state *s = state_of(be);
    CUDA_TRY(s, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, queue_on(s)));
    return SW_OK;
}

enum sw_status sw_cuda_zero(struct sw_backend *be, void *dst, size_t bytes)
{
    struct cuda_state *s = state_of(be);
    CUDA_TRY(s, cudaMemsetAsync(dst, 0, bytes, queue_on(s)));
    return SW_OK;
}

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

enum sw_status sw_cuda_upload_act(struct sw_backend *be, void *dst, const void *src,
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
                                    cudaMemcpyHostToDevice, queue_on(s)));
        int grid = (int)std::min<size_t>((n + 255) / 256, (size_t)s->multiprocessors * 8);
        bf16 *to = static_cast<bf16 *>(dst) + at;
        if (from == SW_F32)
            to_bf16<<<grid, 256, 0, queue_on(s)>>>(static_cast<const float *>(stage), to, n);
        else
            to_bf16<<<grid, 256, 0, queue_on(s)>>>(static_cast<const __half *>(stage), to, n);
        LAUNCHED(s, "upload_act");
    }
    return SW_OK;
}

enum sw_status sw_cuda_download_act(struct sw_backend *be, float *dst, const void *src,
                                    size_t count)
{
    struct cuda_state *s = state_of(be);
    void *stage;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_CONVERT, std::min(count, CHUNK) * sizeof(float), &stage));
    for (size_t at = 0; at < count; at += CHUNK) {
        size_t n = std::min(CHUNK, count - at);
        int grid = (int)std::min<size_t>((n + 255) / 256, (size_t)s->multiprocessors * 8);
        to_float<<<grid, 256, 0, queue_on(s)>>>(static_cast<const bf16 *>(src) + at,
                                                static_cast<float *>(stage), n);
        LAUNCHED(s, "download_act");
        CUDA_TRY(s, cudaMemcpyAsync(dst + at, stage, n * sizeof(float), cudaMemcpyDeviceToHost,
                                    queue_on(s)));
    }
    CUDA_TRY(s, cudaStreamSynchronize(queue_on(s)));
    return SW_OK;
}
