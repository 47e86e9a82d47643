/* Recordings: a decode step as a CUDA graph, so that its time is the GPU's and not that of some
 * hundred launches.
 *
 * The stream is captured; the graph is instantiated and sent to the device by record_end, and
 * record_run is one launch. Memory that is asked for meanwhile comes from a second stream (an
 * allocation inside a capture would belong to the graph), and what is freed is freed after the run.
 * Host arrays are copied, because a graph reads them when it runs. */
#include <cstring>
#include <memory>
#include <new>

#include "kernels/cuda/device/device.h"

struct recording {
    bool begun; /* between begin and end */
    cudaStream_t side;
    cudaGraphExec_t exec;
    /* while recording; the memory may be in use until the run is over */
    std::vector<void *> freed;
    std::vector<std::unique_ptr<char[]>> kept; /* uploads */
};

bool sw_cuda_recording(const struct cuda_state *s) { return s->recording && s->recording->begun; }

enum sw_status sw_cuda_recording_alloc(struct cuda_state *s, size_t bytes, void **out)
{
    struct recording *r = s->recording;
    CUDA_TRY(s, cudaMallocAsync(out, bytes, r->side));
    CUDA_TRY(s, cudaStreamSynchronize(r->side));
    return SW_OK;
}

enum sw_status sw_cuda_recording_fill(struct cuda_state *s, void *p, int byte, size_t bytes)
{
    CUDA_TRY(s, cudaMemsetAsync(p, byte, bytes, s->recording->side));
    CUDA_TRY(s, cudaStreamSynchronize(s->recording->side));
    return SW_OK;
}

void sw_cuda_recording_free(struct cuda_state *s, void *p) { s->recording->freed.push_back(p); }

const void *sw_cuda_recording_keep(struct cuda_state *s, const void *src, size_t bytes)
{
    std::unique_ptr<char[]> copy(new (std::nothrow) char[bytes ? bytes : 1]);
    if (!copy)
        return NULL;
    memcpy(copy.get(), src, bytes);
    s->recording->kept.push_back(std::move(copy));
    return s->recording->kept.back().get();
}

/* Forgets what was recorded; the stream is idle or has the work queued already. */
static void forget(struct cuda_state *s)
{
    struct recording *r = s->recording;
    if (r->begun) {
        cudaGraph_t graph = NULL;
        (void)cudaStreamEndCapture(queue_on(s), &graph);
        if (graph)
            (void)cudaGraphDestroy(graph);
        r->begun = false;
    }
    if (r->exec)
        (void)cudaGraphExecDestroy(r->exec); /* a run that is under way goes on */
    r->exec = NULL;
    for (void *p : r->freed)
        (void)cudaFreeAsync(p, queue_on(s));
    r->freed.clear();
    (void)cudaGetLastError();
}

void sw_cuda_record_drop(struct sw_backend *be)
{
    if (state_of(be)->recording)
        forget(state_of(be));
}

enum sw_status sw_cuda_record_begin(struct sw_backend *be)
{
    struct cuda_state *s = state_of(be);
    if (!s->recording) {
        s->recording = new (std::nothrow) recording();
        if (!s->recording)
            return SW_FAIL(SW_ENOMEM, "recording: out of host memory");
        CUDA_TRY(s, cudaStreamCreateWithFlags(&s->recording->side, cudaStreamNonBlocking));
    }
    forget(s);
    CUDA_TRY(s,
             cudaStreamSynchronize(queue_on(s))); /* the last run has read what was kept for it */
    s->recording->kept.clear();
    CUDA_TRY(s, cudaStreamBeginCapture(queue_on(s), cudaStreamCaptureModeRelaxed));
    s->recording->begun = true;
    return SW_OK;
}

enum sw_status sw_cuda_record_end(struct sw_backend *be)
{
    struct cuda_state *s = state_of(be);
    struct recording *r = s->recording;
    REQUIRE(r && r->begun, "record_end");
    cudaGraph_t graph = NULL;
    r->begun = false;
    CUDA_TRY(s, cudaStreamEndCapture(queue_on(s), &graph));
    cudaError_t e = cudaGraphInstantiate(&r->exec, graph, 0);
    (void)cudaGraphDestroy(graph);
    CUDA_TRY(s, e);
    CUDA_TRY(s, cudaGraphUpload(r->exec, queue_on(s)));
    CUDA_TRY(s, cudaStreamSynchronize(queue_on(s)));
    return SW_OK;
}

enum sw_status sw_cuda_record_run(struct sw_backend *be)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(s->recording && s->recording->exec, "record_run");
    CUDA_TRY(s, cudaGraphLaunch(s->recording->exec, queue_on(s)));
    return SW_OK;
}

void sw_cuda_record_close(struct cuda_state *s)
{
    struct recording *r = s->recording;
    if (!r)
        return;
    (void)cudaStreamSynchronize(queue_on(s));
    forget(s);
    (void)cudaStreamSynchronize(queue_on(s));
    if (r->side)
        (void)cudaStreamDestroy(r->side);
    delete r;
    s->recording = NULL;
}
