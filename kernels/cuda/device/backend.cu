/* The CUDA backend: opening and closing, errors, time stamps and the cold cache. One stream orders
 * everything; nothing here prints. */
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

enum sw_status sw_cuda_check_at(const char *file, int line, struct cuda_state *s, cudaError_t e,
                                const char *what)
{
    if (e == cudaSuccess)
        return SW_OK;
    (void)cudaGetLastError(); /* clears what is not sticky */
    if (e == cudaErrorMemoryAllocation)
        return sw_fail_at(file, line, SW_ENOMEM, "%s: out of device memory, free %zu bytes", what,
                          s ? sw_cuda_memory_free_now(s) : (size_t)0);
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
                          what, sw_cuda_memory_free_now(s));
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

/* --- time ------------------------------------------------------------------------------------- */

enum sw_status sw_cuda_mark(struct sw_backend *be, int slot)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(slot >= 0 && slot < SW_TIMER_SLOTS, "mark");
    /* In a recording: a node of its own, which stamps each run. */
    CUDA_TRY(s, cudaEventRecordWithFlags(s->slots[slot], queue_on(s),
                                         sw_cuda_recording(s) ? cudaEventRecordExternal
                                                              : cudaEventRecordDefault));
    return SW_OK;
}

enum sw_status sw_cuda_elapsed_ms(struct sw_backend *be, int from, int to, double *ms)
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

enum sw_status sw_cuda_sync(struct sw_backend *be)
{
    struct cuda_state *s = state_of(be);
    SW_TRY(sw_cuda_may_wait(s, "sync"));
    CUDA_TRY(s, cudaStreamSynchronize(queue_on(s)));
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

enum sw_status sw_cuda_flush_cache(struct sw_backend *be)
{
    struct cuda_state *s = state_of(be);
    if (!s->flush) {
        size_t bytes = std::max<size_t>(2 * s->l2_bytes, (size_t)64 << 20), peak = s->peak;
        SW_TRY(sw_cuda_memory_alloc(s, bytes, &s->flush));
        sw_cuda_memory_uncount(s, s->flush, peak); /* it is the stopwatch's, not the method's */
        s->flush_bytes = bytes;
        CUDA_TRY(s, cudaMemsetAsync(s->flush, 0, bytes, queue_on(s)));
    }
    flush_read<<<s->multiprocessors * 4, 512, 0, queue_on(s)>>>(
        static_cast<const uint4 *>(s->flush), s->flush_bytes / sizeof(uint4),
        static_cast<uint32_t *>(s->flush));
    LAUNCHED(s, "flush_cache");
    return SW_OK;
}

/* --- open and close --------------------------------------------------------------------------- */

void sw_cuda_close(struct sw_backend *be)
{
    struct cuda_state *s = state_of(be);
    sw_cuda_record_close(s);
    (void)cudaStreamSynchronize(queue_on(s));
    sw_cuda_linear_close(s);
#ifdef SWBENCH_CUDNN
    sw_cudnn_close(s);
#endif
    for (int i = 0; i < SCRATCH_SLOTS; i++)
        sw_cuda_memory_free(s, s->scratch[i].p);
    sw_cuda_memory_free(s, s->flush);
    for (int i = 0; i < SW_TIMER_SLOTS; i++)
        if (s->slots[i])
            (void)cudaEventDestroy(s->slots[i]);
    s->queue.close();
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
    CUDA_TRY(s, s->queue.open());
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
    if (host.interface_hash != SW_INTERFACE_HASH)
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
#define SW_OPERATION(need, name, parameters)      be->name = sw_cuda_##name;
#define SW_FUNCTION(need, type, name, parameters) be->name = sw_cuda_##name;
#include "core/operations.h"
    enum sw_status st = open_state(s);
    if (st != SW_OK) {
        sw_cuda_close(be);
        return st;
    }
    sw_cuda_clock_open(s);
    *out = be;
    return SW_OK;
}
