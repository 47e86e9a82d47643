/* device.h: what the files of this folder share: the backend's state, error checks, launches and
 * scratch memory. */
#ifndef SW_CUDA_DEVICE_H
#define SW_CUDA_DEVICE_H

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "core/backend.h"
#include "kernels/cuda/device/host.h"

using bf16 = __nv_bfloat16;

/* The operations: core/operations.h explains each. CUDA has all of them. */
#define SW_OPERATION(need, name, parameters) enum sw_status sw_cuda_##name parameters SW_MUST_CHECK;

#define SW_FUNCTION(need, type, name, parameters) type sw_cuda_##name parameters;
#include "core/operations.h"

/* Row r of unit u, on the device (sw_unit_row and sw_keep_row are the host's). */
static __device__ __forceinline__ float *unit_row(const struct sw_unit_matrix &m, int u, int r)
{
    return m.data + ((int64_t)u * m.ld_rows + r) * m.ld;
}
static __device__ __forceinline__ uint8_t *keep_row(const struct sw_keep_matrix &m, int u, int r)
{
    return m.data + ((int64_t)u * m.ld_rows + r) * m.ld;
}

/* Scratch buffers grow and are kept; one a purpose, so that two uses in one operation cannot
 * collide. */
enum scratch_slot {
    SCRATCH_CONVERT,      /* upload_act, download_act, ids */
    SCRATCH_GEMM,         /* cuBLAS workspace */
    SCRATCH_LOGITS,       /* head */
    SCRATCH_ROWS,         /* head: per-row results; select: counts */
    SCRATCH_SPLIT,        /* decode: partial outputs; NOT_YET between calls */
    SCRATCH_DONE,         /* decode: counters, zero between calls */
    SCRATCH_SCORES,       /* block scores per unit before the mean */
    SCRATCH_STATS,        /* maximum and sum of their rows */
    SCRATCH_PACK,         /* regrouped queries and keys */
    SCRATCH_SORT,         /* keys and places being sorted */
    SCRATCH_SORT_ROOM,    /* the sort's own */
    SCRATCH_STEP,         /* walk_step: logits, parts of the walk; NOT_YET between calls */
    SCRATCH_STEP_WRITTEN, /* walk_step: flags */
    SCRATCH_LSE,          /* block mass */
    SCRATCH_BUDGET,       /* select_top: budget prefix */
    SCRATCH_ATTEND,       /* workspace of a library's attention kernel */
    SCRATCH_SLOTS,
};

struct scratch {
    void *p;
    size_t bytes;
};

/* A cuBLASLt product, found once a shape. */
struct gemm_plan {
    int rows, n_in, n_out;
    bool bias, out_f32;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t w, x, out;
    cublasLtMatmulAlgo_t algo;
};

/* The one stream. Whatever queues work on it gets it by queue_on, which counts: so a walk_step's
 * selection, which remembers the count, is known to be the last thing queued. Private, so that
 * nothing can be queued uncounted. */
class cuda_queue
{
  public:
    cudaError_t open() { return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking); }
    void close()
    {
        if (!stream)
            return;
        (void)cudaStreamSynchronize(stream);
        (void)cudaStreamDestroy(stream);
    }
    cudaStream_t next()
    {
        queued++;
        return stream;
    }
    uint64_t count() const { return queued; }

  private:
    cudaStream_t stream = nullptr;
    uint64_t queued = 0;
};

struct cuda_state {
    struct sw_backend be; /* first: be.impl points back here */
    int device, multiprocessors, major, minor, smem_optin, smem_per_mp;
    size_t l2_bytes, total_bytes;
    cuda_queue queue;
    cudaMemPool_t pool;
    cublasLtHandle_t lt;
    cudaEvent_t slots[SW_TIMER_SLOTS];
    struct scratch scratch[SCRATCH_SLOTS];
    void *flush;
    size_t flush_bytes;
    size_t in_use, peak;
    std::vector<std::pair<void *, size_t>> sizes; /* what alloc gave out, sorted by address */
    std::vector<gemm_plan> plans;
    std::vector<int32_t> budget; /* prefix sums now in SCRATCH_BUDGET */
    void *dense;                 /* state of the dense library kernel, if the build has one */
    struct recording *recording; /* record.cu */
    void *nvml_device;           /* clock.cu; NULL: no clock to be read */
    unsigned (*nvml_clock)(void *device, int type, unsigned *mhz);
    /* of the last walk_step: its flags, [batch] (walk_step.h), and entries of a sequence's list */
    const unsigned *step_written;
    int step_entries;
};

static inline struct cuda_state *state_of(struct sw_backend *be)
{
    return static_cast<struct cuda_state *>(be->impl);
}

/* The stream, for whatever is about to be queued on it. */
static inline cudaStream_t queue_on(struct cuda_state *s) { return s->queue.next(); }

/* Turns a CUDA error into a status, with what was being done. Clears what can be cleared. */
SW_MUST_CHECK enum sw_status sw_cuda_check_at(const char *file, int line, struct cuda_state *s,
                                              cudaError_t e, const char *what);
SW_MUST_CHECK enum sw_status sw_cuda_check_lt_at(const char *file, int line, struct cuda_state *s,
                                                 cublasStatus_t e, const char *what);
#define CUDA_TRY(s, expr)                                                             \
    do {                                                                              \
        cudaError_t cuda_try_error_ = (expr);                                         \
        if (cuda_try_error_ != cudaSuccess)                                           \
            return sw_cuda_check_at(__FILE__, __LINE__, (s), cuda_try_error_, #expr); \
    } while (0)
#define LT_TRY(s, expr)                                                                 \
    do {                                                                                \
        cublasStatus_t lt_try_status_ = (expr);                                         \
        if (lt_try_status_ != CUBLAS_STATUS_SUCCESS)                                    \
            return sw_cuda_check_lt_at(__FILE__, __LINE__, (s), lt_try_status_, #expr); \
    } while (0)
/* After every launch. */
#define LAUNCHED(s, what)                                                              \
    do {                                                                               \
        cudaError_t launched_error_ = cudaGetLastError();                              \
        if (launched_error_ != cudaSuccess)                                            \
            return sw_cuda_check_at(__FILE__, __LINE__, (s), launched_error_, (what)); \
    } while (0)
#define REQUIRE(cond, what)                                                       \
    do {                                                                          \
        if (!(cond))                                                              \
            return SW_FAIL(SW_EINTERNAL, "%s: broken contract: %s", what, #cond); \
    } while (0)

/* Device scratch of at least `bytes`; what it held is lost when it grows. */
SW_MUST_CHECK enum sw_status sw_cuda_scratch(struct cuda_state *s, enum scratch_slot slot,
                                             size_t bytes, void **out);
/* The same, with every byte `byte` when it is new, once, also while a recording is made; every use
 * leaves it so. */
SW_MUST_CHECK enum sw_status sw_cuda_scratch_filled(struct cuda_state *s, enum scratch_slot slot,
                                                    size_t bytes, int byte, void **out);
SW_MUST_CHECK enum sw_status sw_cuda_memory_alloc(struct cuda_state *s, size_t bytes, void **out);
void sw_cuda_memory_free(struct cuda_state *s, void *p);
size_t sw_cuda_memory_free_now(struct cuda_state *s);
/* From now on p does not count as in use; the peak becomes `peak`, or what is in use if that is
 * more. */
void sw_cuda_memory_uncount(struct cuda_state *s, void *p, size_t peak);

/* Host bytes to the device; they may change as soon as this returns, also while recording. */
SW_MUST_CHECK enum sw_status sw_cuda_memory_upload(struct cuda_state *s, void *dst, const void *src,
                                                   size_t bytes);

/* walk.cu: `walk` without the scaling of rows. */
SW_MUST_CHECK enum sw_status sw_cuda_walk_product(struct cuda_state *s, const struct sw_walk *a);

/* While a recording is made (record.cu): is one; memory from outside the recorded stream; memory to
 * free once the recording has run; bytes to keep. */
bool sw_cuda_recording(const struct cuda_state *s);
/* SW_EUNSUPPORTED while recording */
SW_MUST_CHECK enum sw_status sw_cuda_may_wait(const struct cuda_state *s, const char *what);
SW_MUST_CHECK enum sw_status sw_cuda_recording_alloc(struct cuda_state *s, size_t bytes,
                                                     void **out);
SW_MUST_CHECK enum sw_status sw_cuda_recording_fill(struct cuda_state *s, void *p, int byte,
                                                    size_t bytes);
void sw_cuda_recording_free(struct cuda_state *s, void *p);
const void *sw_cuda_recording_keep(struct cuda_state *s, const void *src, size_t bytes);
void sw_cuda_record_close(struct cuda_state *s);

/* Functions of the core, through the table that open.c passes. */
SW_MUST_CHECK enum sw_status sw_cuda_selection_reserve(struct sw_selection *sel,
                                                       struct sw_backend *be, int units, int rows,
                                                       int64_t capacity, bool with_partial);

SW_MUST_CHECK enum sw_status sw_cuda_selection_reserve_masks(struct sw_selection *sel, int mask_ld,
                                                             int query_words);

/* out = x · wᵀ (+ bias) (+ out), bf16 in, fp32 accumulation; out bf16 or fp32. */
SW_MUST_CHECK enum sw_status sw_cuda_gemm(struct cuda_state *s, const void *x, const void *w,
                                          const void *bias, int rows, int n_in, int n_out,
                                          bool accumulate, bool out_f32, void *out);

/* attend.cu: which kernels attend over prompts here: "hopper"; "portable", where SWBENCH_ATTEND
 * asks for it alone (also of dense attention); else "best". */
const char *sw_cuda_prompt_kernels(const struct cuda_state *s);
/* clock.cu: finds what clock_mhz asks, once the device is known. */
void sw_cuda_clock_open(struct cuda_state *s);
/* linear.cu */
void sw_cuda_linear_close(struct cuda_state *s);

static inline int div_up(int a, int b) { return (a + b - 1) / b; }
static inline int64_t div_up64(int64_t a, int64_t b) { return (a + b - 1) / b; }

#endif
