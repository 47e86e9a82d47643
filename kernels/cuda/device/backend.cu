/* The CUDA backend: opening, memory, time. One stream orders everything; nothing here prints.
 *
 * Memory comes from the device's stream-ordered pool, which keeps what is freed, so that alloc and
 * free cost microseconds. When the pool cannot serve a request it is trimmed and asked once more;
 * then the caller gets SW_ENOMEM with the bytes asked and free, and the CUDA error is cleared: the
 * next, smaller cell can run. */
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels/cuda/device/device.h"
#ifdef SWBENCH_CUDNN
#include "kernels/cuda/attention/attend_cudnn.h"
#endif

#ifndef SWBENCH_CUDA_ARCHS
#define SWBENCH_CUDA_ARCHS "default"
#endif

static struct sw_cuda_host host;

/* --- errors ----------------------------------------------------------------------------------- */

extern "C" __attribute__((visibility("hidden"))) enum sw_status sw_fail_at(const char *file,
                                                                           int line,
                                                                           enum sw_status code,
                                                                           const char *fmt, ...)
{
    char text[900];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return host.fail_at(file, line, code, "%s", text);
}

static size_t free_now(struct cuda_state *s)
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

enum sw_status sw_cuda_check_at(const char *file, int line, struct cuda_state *s, cudaError_t e,
                                const char *what)
{
    if (e == cudaSuccess)
        return SW_OK;
    (void)cudaGetLastError(); /* clears what is not sticky */
    if (e == cudaErrorMemoryAllocation)
        return sw_fail_at(file, line, SW_ENOMEM, "%s: out of device memory, free %zu bytes", what,
                          s ? free_now(s) : (size_t)0);
    if (e == cudaErrorInvalidValue || e == cudaErrorInvalidConfiguration)
        return sw_fail_at(file, line, SW_EINTERNAL, "%s: %s", what, cudaGetErrorString(e));
    return sw_fail_at(file, line, SW_EDEVICE, "%s: %s (%s)", what, cudaGetErrorString(e),
                      cudaGetErrorName(e));
}

enum sw_status sw_cuda_check_lt_at(const char *file, int line, struct cuda_state *s,
                                   cublasStatus_t e, const char *what)
{
    if (e == CUBLAS_STATUS_SUCCESS)
        return SW_OK;
    cudaError_t under = cudaGetLastError();
    if (under != cudaSuccess)
        return sw_cuda_check_at(file, line, s, under, what);
    if (e == CUBLAS_STATUS_ALLOC_FAILED)
        return sw_fail_at(file, line, SW_ENOMEM, "%s: cuBLASLt is out of memory, free %zu bytes",
                          what, free_now(s));
    if (e == CUBLAS_STATUS_NOT_SUPPORTED)
        return sw_fail_at(file, line, SW_EUNSUPPORTED, "%s: %s", what, cublasLtGetStatusString(e));
    return sw_fail_at(file, line, SW_EDEVICE, "%s: %s", what, cublasLtGetStatusString(e));
}

enum sw_status sw_cuda_selection_reserve(struct sw_selection *sel, struct sw_backend *be, int units,
                                         int rows, int64_t capacity, bool with_partial)
{
    return host.selection_reserve(sel, be, units, rows, capacity, with_partial);
}

enum sw_status sw_cuda_selection_reserve_masks(struct sw_selection *sel, int mask_ld,
                                               int query_words)
{
    return host.selection_reserve_masks(sel, mask_ld, query_words);
}

/* --- memory ----------------------------------------------------------------------------------- */

static bool address_less(const std::pair<void *, size_t> &a, void *const &p) { return a.first < p; }

enum sw_status sw_cuda_alloc(struct cuda_state *s, size_t bytes, void **out)
{
    *out = NULL;
    size_t want = bytes ? bytes : 1;
    void *p = NULL;
    bool recording = sw_cuda_recording(s);
    cudaError_t e = cudaSuccess;
    if (recording)
        SW_TRY(sw_cuda_recording_alloc(s, want, &p));
    else
        e = cudaMallocAsync(&p, want, s->stream);
    if (e == cudaErrorMemoryAllocation && !recording) {
        (void)cudaGetLastError();
        CUDA_TRY(s, cudaStreamSynchronize(s->stream));
        CUDA_TRY(s, cudaMemPoolTrimTo(s->pool, 0));
        e = cudaMallocAsync(&p, want, s->stream);
    }
    if (e == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return SW_FAIL(SW_ENOMEM, "device memory: asked %zu bytes, free %zu", bytes, free_now(s));
    }
    CUDA_TRY(s, e);
    auto at = std::lower_bound(s->sizes.begin(), s->sizes.end(), p, address_less);
    s->sizes.insert(at, std::make_pair(p, want));
    s->in_use += want;
    s->peak = std::max(s->peak, s->in_use);
    *out = p;
    return SW_OK;
}

void sw_cuda_free(struct cuda_state *s, void *p)
{
    if (!p)
        return;
    s->step_is_last = false;
    auto at = std::lower_bound(s->sizes.begin(), s->sizes.end(), p, address_less);
    if (at != s->sizes.end() && at->first == p) {
        s->in_use -= at->second;
        s->sizes.erase(at);
    }
    if (sw_cuda_recording(s))
        sw_cuda_recording_free(s, p);
    else if (cudaFreeAsync(p, s->stream) != cudaSuccess)
        (void)cudaGetLastError();
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
        sw_cuda_free(s, c->p);
        c->p = NULL;
        c->bytes = 0;
        size_t rounded = (bytes + 0xffff) & ~(size_t)0xffff;
        SW_TRY(sw_cuda_alloc(s, rounded, &c->p));
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
    CUDA_TRY(s, cudaMemsetAsync(*out, byte, s->scratch[slot].bytes, s->stream));
    return SW_OK;
}

static enum sw_status cuda_alloc(struct sw_backend *be, size_t bytes, void **out)
{
    return sw_cuda_alloc(state_of(be), bytes, out);
}
static void cuda_free(struct sw_backend *be, void *p) { sw_cuda_free(state_of(be), p); }
static size_t cuda_free_bytes(struct sw_backend *be) { return free_now(state_of(be)); }

static size_t cuda_peak_bytes(struct sw_backend *be, bool reset)
{
    struct cuda_state *s = state_of(be);
    size_t peak = s->peak;
    if (reset)
        s->peak = s->in_use;
    return peak;
}

enum sw_status sw_cuda_upload(struct cuda_state *s, void *dst, const void *src, size_t bytes)
{
    s->step_is_last = false;
    if (sw_cuda_recording(s) && !(src = sw_cuda_recording_keep(s, src, bytes)))
        return SW_FAIL(SW_ENOMEM, "recording: asked %zu bytes of host memory", bytes);
    /* From pageable memory this returns when src has been read, so the caller may reuse it at
     * once. */
    CUDA_TRY(s, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, s->stream));
    return SW_OK;
}

static enum sw_status cuda_upload(struct sw_backend *be, void *dst, const void *src, size_t bytes)
{
    return sw_cuda_upload(state_of(be), dst, src, bytes);
}

static enum sw_status cuda_download(struct sw_backend *be, void *dst, const void *src, size_t bytes)
{
    struct cuda_state *s = state_of(be);
    SW_TRY(sw_cuda_may_wait(s, "download"));
    CUDA_TRY(s, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, s->stream));
    CUDA_TRY(s, cudaStreamSynchronize(s->stream));
    return SW_OK;
}

static enum sw_status cuda_copy(struct sw_backend *be, void *dst, const void *src, size_t bytes)
{
    struct cuda_state *s = state_of(be);
    s->step_is_last = false;
    CUDA_TRY(s, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, s->stream));
    return SW_OK;
}

static enum sw_status cuda_zero(struct sw_backend *be, void *dst, size_t bytes)
{
    struct cuda_state *s = state_of(be);
    s->step_is_last = false;
    CUDA_TRY(s, cudaMemsetAsync(dst, 0, bytes, s->stream));
    return SW_OK;
}

/* --- time ------------------------------------------------------------------------------------- */

static enum sw_status cuda_mark(struct sw_backend *be, int slot)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(slot >= 0 && slot < SW_TIMER_SLOTS, "mark");
    s->step_is_last = false;
    /* In a recording: a node of its own, which stamps each run. */
    CUDA_TRY(s, cudaEventRecordWithFlags(s->slots[slot], s->stream,
                                         sw_cuda_recording(s) ? cudaEventRecordExternal
                                                              : cudaEventRecordDefault));
    return SW_OK;
}

static enum sw_status cuda_elapsed_ms(struct sw_backend *be, int from, int to, double *ms)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(from >= 0 && from < SW_TIMER_SLOTS && to >= 0 && to < SW_TIMER_SLOTS, "elapsed_ms");
    float value = 0;
    CUDA_TRY(s, cudaEventSynchronize(s->slots[from]));
    CUDA_TRY(s, cudaEventSynchronize(s->slots[to]));
    CUDA_TRY(s, cudaEventElapsedTime(&value, s->slots[from], s->slots[to]));
    *ms = value;
    return SW_OK;
}

static enum sw_status cuda_sync(struct sw_backend *be)
{
    struct cuda_state *s = state_of(be);
    SW_TRY(sw_cuda_may_wait(s, "sync"));
    CUDA_TRY(s, cudaStreamSynchronize(s->stream));
    return SW_OK;
}

/* Reads 2 × L2 once: 100 MB on H100, about 40 µs. Nothing is written: write-backs of dirty lines
 * would be charged to what follows. */
__global__ void flush_read(const uint4 *p, size_t count, uint32_t *never)
{
    uint32_t acc = 0;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x) {
        uint4 v = p[i];
        acc |= v.x | v.y | v.z | v.w;
    }
    if (acc == 0xdeadbeefu) /* the buffer holds zeros */
        *never = acc;
}

static enum sw_status cuda_flush_cache(struct sw_backend *be)
{
    struct cuda_state *s = state_of(be);
    if (!s->flush) {
        size_t bytes = std::max<size_t>(2 * s->l2_bytes, (size_t)64 << 20);
        /* a tool of the stopwatch, not of the method: it does not count as the method's peak */
        size_t peak = s->peak;
        SW_TRY(sw_cuda_alloc(s, bytes, &s->flush));
        s->in_use -= bytes;
        s->peak = std::max(peak, s->in_use);
        auto at = std::lower_bound(s->sizes.begin(), s->sizes.end(), s->flush, address_less);
        at->second = 0;
        s->flush_bytes = bytes;
        CUDA_TRY(s, cudaMemsetAsync(s->flush, 0, bytes, s->stream));
    }
    flush_read<<<s->multiprocessors * 4, 512, 0, s->stream>>>(static_cast<const uint4 *>(s->flush),
                                                              s->flush_bytes / sizeof(uint4),
                                                              static_cast<uint32_t *>(s->flush));
    LAUNCHED(s, "flush_cache");
    return SW_OK;
}

/* --- open and close --------------------------------------------------------------------------- */

static void cuda_close(struct sw_backend *be)
{
    struct cuda_state *s = state_of(be);
    sw_cuda_record_close(s);
    (void)cudaStreamSynchronize(s->stream);
    sw_cuda_linear_close(s);
#ifdef SWBENCH_CUDNN
    sw_cudnn_close(s);
#endif
    for (int i = 0; i < SCRATCH_SLOTS; i++)
        sw_cuda_free(s, s->scratch[i].p);
    sw_cuda_free(s, s->flush);
    for (int i = 0; i < SW_TIMER_SLOTS; i++)
        if (s->slots[i])
            (void)cudaEventDestroy(s->slots[i]);
    if (s->stream) {
        (void)cudaStreamSynchronize(s->stream);
        (void)cudaStreamDestroy(s->stream);
    }
    if (s->pool)
        (void)cudaMemPoolTrimTo(s->pool, 0);
    (void)cudaGetLastError();
    delete s;
}

/* Ranks of one machine take the devices in turn; one process takes the first. */
static int device_for_rank(int count)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID",
                                        "SLURM_LOCALID"};
    for (const char *name : names) {
        const char *text = getenv(name);
        if (text && *text)
            return (int)(strtol(text, NULL, 10) % count + count) % count;
    }
    return 0;
}

static enum sw_status open_state(struct cuda_state *s)
{
    int count = 0;
    cudaError_t e = cudaGetDeviceCount(&count);
    if (e != cudaSuccess || count == 0) {
        (void)cudaGetLastError();
        return SW_FAIL(SW_EINPUT, "backend 'cuda': no usable GPU here (%s)",
                       e == cudaSuccess ? "no device" : cudaGetErrorString(e));
    }
    s->device = device_for_rank(count);
    CUDA_TRY(s, cudaSetDevice(s->device));
    cudaDeviceProp p;
    CUDA_TRY(s, cudaGetDeviceProperties(&p, s->device));
    if (p.major < 8)
        return SW_FAIL(SW_EINPUT,
                       "backend 'cuda': %s has compute capability %d.%d; 8.0 or newer is needed",
                       p.name, p.major, p.minor);
    s->multiprocessors = p.multiProcessorCount;
    s->major = p.major;
    s->minor = p.minor;
    s->smem_optin = (int)p.sharedMemPerBlockOptin;
    s->smem_per_mp = (int)p.sharedMemPerMultiprocessor;
    s->l2_bytes = (size_t)p.l2CacheSize;
    s->total_bytes = p.totalGlobalMem;
    CUDA_TRY(s, cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
    CUDA_TRY(s, cudaDeviceGetDefaultMemPool(&s->pool, s->device));
    uint64_t keep = UINT64_MAX;
    CUDA_TRY(s, cudaMemPoolSetAttribute(s->pool, cudaMemPoolAttrReleaseThreshold, &keep));
    for (int i = 0; i < SW_TIMER_SLOTS; i++)
        CUDA_TRY(s, cudaEventCreate(&s->slots[i]));
    int driver = 0, runtime = 0;
    CUDA_TRY(s, cudaDriverGetVersion(&driver));
    CUDA_TRY(s, cudaRuntimeGetVersion(&runtime));
    size_t lt = cublasLtGetVersion();
    char cudnn[40] = "";
#ifdef SWBENCH_CUDNN
    sw_cudnn_version(cudnn, sizeof cudnn);
#endif
    snprintf(s->be.device, sizeof s->be.device, "%.127s", p.name);
    snprintf(s->be.variant, sizeof s->be.variant, "sm=%d%d prompt=%s library=%s", p.major, p.minor,
             sw_cuda_prompt_kernels(s), *cudnn ? "cudnn" : "none");
    snprintf(s->be.details, sizeof s->be.details,
             "compute capability %d.%d, %d multiprocessors, %zu MiB, L2 %zu MiB; CUDA driver "
             "%d.%d, runtime %d.%d, cuBLASLt %zu%s%s; built for %s",
             p.major, p.minor, p.multiProcessorCount, s->total_bytes >> 20, s->l2_bytes >> 20,
             driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10, lt,
             *cudnn ? ", " : "", cudnn, SWBENCH_CUDA_ARCHS);
    return SW_OK;
}

extern "C" __attribute__((visibility("default"))) enum sw_status sw_cuda_backend_open(
    const struct sw_cuda_host *from, int threads, struct sw_backend **out)
{
    *out = NULL;
    host = *from;
    if (host.abi != SW_CUDA_ABI || host.backend_size != sizeof(struct sw_backend))
        return SW_FAIL(
            SW_EINPUT,
            "backend 'cuda': the CUDA module was built from another version of the program");
    struct cuda_state *s = new (std::nothrow) cuda_state();
    if (!s)
        return SW_FAIL(SW_ENOMEM, "backend 'cuda': out of host memory");
    struct sw_backend *be = &s->be;
    be->name = "cuda";
    be->act = SW_BF16;
    be->flops = 2e14; /* of an H100 at our sizes, as far as estimates need it */
    be->bytes_per_second = 2e12;
    be->threads = threads > 0 ? threads : 1;
    be->rows_alike = 1; /* cuBLASLt chooses its sums by the number of rows */
    be->impl = s;
    be->close = cuda_close;
    be->alloc = cuda_alloc;
    be->free = cuda_free;
    be->peak_bytes = cuda_peak_bytes;
    be->free_bytes = cuda_free_bytes;
    be->upload = cuda_upload;
    be->download = cuda_download;
    be->copy = cuda_copy;
    be->zero = cuda_zero;
    be->mark = cuda_mark;
    be->elapsed_ms = cuda_elapsed_ms;
    be->sync = cuda_sync;
    be->flush_cache = cuda_flush_cache;
    sw_cuda_bind_model(be);
    sw_cuda_bind_linear(be);
    sw_cuda_bind_attend(be);
    sw_cuda_bind_pool(be);
    sw_cuda_bind_scores(be);
    sw_cuda_bind_walk(be);
    sw_cuda_bind_select(be);
    sw_cuda_bind_mass(be);
    sw_cuda_bind_lines(be);
    sw_cuda_bind_keep(be);
    sw_cuda_bind_sorted(be);
    sw_cuda_bind_groups(be);
    sw_cuda_bind_pages(be);
    sw_cuda_bind_walk_step(be);
    sw_cuda_bind_record(be);
    enum sw_status st = open_state(s);
    if (st != SW_OK) {
        cuda_close(be);
        return st;
    }
    sw_cuda_bind_clock(be);
    *out = be;
    return SW_OK;
}
