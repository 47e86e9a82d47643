/* Products with weights, by cuBLASLt, and the head (logits, loss, argmax) on top of them.
 *
 * Everything here is row-major; cuBLAS is column-major and sees outᵀ [n_out, rows] = wᵀ-transposed
 * · xᵀ, so that the bias, one value a row of outᵀ, is cuBLASLt's own epilogue. fp32 accumulation. 2
 * · rows · n_in · n_out operations, and for one row n_in · n_out · 2 bytes of weights. */
#include <algorithm>

#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/reduce.cuh"

static const size_t GEMM_WORKSPACE = (size_t)32 << 20;

static void drop_plan(struct gemm_plan *p)
{
    if (p->op)
        (void)cublasLtMatmulDescDestroy(p->op);
    for (cublasLtMatrixLayout_t layout : {p->w, p->x, p->out})
        if (layout)
            (void)cublasLtMatrixLayoutDestroy(layout);
}

void sw_cuda_linear_close(struct cuda_state *s)
{
    for (gemm_plan &p : s->plans)
        drop_plan(&p);
    s->plans.clear();
    if (s->lt)
        (void)cublasLtDestroy(s->lt);
    s->lt = NULL;
}

static enum sw_status make_plan(struct cuda_state *s, struct gemm_plan *p)
{
    cudaDataType_t out_type = p->out_f32 ? CUDA_R_32F : CUDA_R_16BF;
    cublasOperation_t transposed = CUBLAS_OP_T;
    LT_TRY(s, cublasLtMatmulDescCreate(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    LT_TRY(s, cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                             sizeof transposed));
    if (p->bias) {
        cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        cudaDataType_t bias_type = CUDA_R_16BF;
        LT_TRY(s, cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                                 sizeof epilogue));
        LT_TRY(s, cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
                                                 &bias_type, sizeof bias_type));
    }
    LT_TRY(s, cublasLtMatrixLayoutCreate(&p->w, CUDA_R_16BF, (uint64_t)p->n_in, (uint64_t)p->n_out,
                                         p->n_in));
    LT_TRY(s, cublasLtMatrixLayoutCreate(&p->x, CUDA_R_16BF, (uint64_t)p->n_in, (uint64_t)p->rows,
                                         p->n_in));
    LT_TRY(s, cublasLtMatrixLayoutCreate(&p->out, out_type, (uint64_t)p->n_out, (uint64_t)p->rows,
                                         p->n_out));
    cublasLtMatmulPreference_t want;
    LT_TRY(s, cublasLtMatmulPreferenceCreate(&want));
    size_t workspace = GEMM_WORKSPACE;
    cublasLtMatmulHeuristicResult_t found = {};
    int n = 0;
    cublasStatus_t e = cublasLtMatmulPreferenceSetAttribute(
        want, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    /* no partial sums in bf16 */
    uint32_t reductions =
        CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    if (e == CUBLAS_STATUS_SUCCESS)
        e = cublasLtMatmulPreferenceSetAttribute(want, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                 &reductions, sizeof reductions);
    /* Callers pass rows out of the middle of a matrix: only what a row's length guarantees may be
     * relied on. */
    uint32_t in_align = p->n_in % 8 == 0 ? 16 : 2,
             out_align = p->out_f32 ? (p->n_out % 4 == 0 ? 16 : 4) : (p->n_out % 8 == 0 ? 16 : 2);
    const cublasLtMatmulPreferenceAttributes_t aligns[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    for (int i = 0; i < 4 && e == CUBLAS_STATUS_SUCCESS; i++)
        e = cublasLtMatmulPreferenceSetAttribute(want, aligns[i], i < 2 ? &in_align : &out_align,
                                                 sizeof(uint32_t));
    if (e == CUBLAS_STATUS_SUCCESS)
        e = cublasLtMatmulAlgoGetHeuristic(s->lt, p->op, p->w, p->x, p->out, p->out, want, 1,
                                           &found, &n);
    (void)cublasLtMatmulPreferenceDestroy(want);
    LT_TRY(s, e);
    if (n == 0)
        return SW_FAIL(SW_EUNSUPPORTED, "cuBLASLt knows no way to multiply [%d, %d] by [%d, %d]",
                       p->rows, p->n_in, p->n_in, p->n_out);
    p->algo = found.algo;
    return SW_OK;
}

static enum sw_status find_plan(struct cuda_state *s, int rows, int n_in, int n_out, bool bias,
                                bool out_f32, struct gemm_plan **out)
{
    for (gemm_plan &p : s->plans)
        if (p.rows == rows && p.n_in == n_in && p.n_out == n_out && p.bias == bias &&
            p.out_f32 == out_f32) {
            *out = &p;
            return SW_OK;
        }
    if (!s->lt)
        LT_TRY(s, cublasLtCreate(&s->lt));
    if (s->plans.size() >= 256) { /* prompts of every length: start again */
        for (gemm_plan &p : s->plans)
            drop_plan(&p);
        s->plans.clear();
    }
    struct gemm_plan p = {};
    p.rows = rows;
    p.n_in = n_in;
    p.n_out = n_out;
    p.bias = bias;
    p.out_f32 = out_f32;
    enum sw_status st = make_plan(s, &p);
    if (st != SW_OK) {
        drop_plan(&p);
        return st;
    }
    s->plans.push_back(p);
    *out = &s->plans.back();
    return SW_OK;
}

enum sw_status sw_cuda_gemm(struct cuda_state *s, const void *x, const void *w, const void *bias,
                            int rows, int n_in, int n_out, bool accumulate, bool out_f32, void *out)
{
    if (rows == 0)
        return SW_OK;
    struct gemm_plan *p = NULL;
    SW_TRY(find_plan(s, rows, n_in, n_out, bias != NULL, out_f32, &p));
    void *workspace;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_GEMM, GEMM_WORKSPACE, &workspace));
    if (bias)
        LT_TRY(s, cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                                 sizeof bias));
    float alpha = 1, beta = accumulate ? 1.0f : 0.0f;
    LT_TRY(s, cublasLtMatmul(s->lt, p->op, &alpha, w, p->w, x, p->x, &beta, out, p->out, out,
                             p->out, &p->algo, workspace, GEMM_WORKSPACE, queue_on(s)));
    return SW_OK;
}

enum sw_status sw_cuda_linear(struct sw_backend *be, const void *x, const void *w, const void *bias,
                              int rows, int n_in, int n_out, bool accumulate, void *out)
{
    return sw_cuda_gemm(state_of(be), x, w, bias, rows, n_in, n_out, accumulate, false, out);
}

/* --- head ------------------------------------------------------------------------------------- */

struct best {
    float value;
    int id;
};

__device__ inline struct best better(struct best a, struct best b)
{
    return b.value > a.value || (b.value == a.value && b.id < a.id) ? b : a; /* the first best id */
}

/* One CTA a row of logits [rows, vocab] fp32: maximum and its first id, then log Σ exp; two
 * reads, the second mostly from L2. */
__global__ void head_rows(const float *logits, int vocab, const int32_t *targets, float *nll,
                          int32_t *argmax)
{
    __shared__ struct best bests[32];
    __shared__ float lanes[32];
    const float *row = logits + (int64_t)blockIdx.x * vocab;
    struct best b = {-INFINITY, 0x7fffffff};
    for (int i = threadIdx.x; i < vocab; i += blockDim.x)
        b = better(b, {row[i], i});
    for (int o = 16; o > 0; o >>= 1)
        b = better(
            b, {__shfl_xor_sync(0xffffffffu, b.value, o), __shfl_xor_sync(0xffffffffu, b.id, o)});
    if ((threadIdx.x & 31) == 0)
        bests[threadIdx.x >> 5] = b;
    __syncthreads();
    for (int k = 0; k < (int)blockDim.x / 32; k++)
        b = better(b, bests[k]);
    if (threadIdx.x == 0 && argmax)
        argmax[blockIdx.x] = b.id == 0x7fffffff ? -1 : b.id;
    if (!nll)
        return;
    float sum = 0;
    for (int i = threadIdx.x; i < vocab; i += blockDim.x)
        sum += expf(row[i] - b.value);
    sum = block_sum(sum, lanes);
    if (threadIdx.x == 0)
        nll[blockIdx.x] = logf(sum) + b.value - row[targets[blockIdx.x]];
}

enum sw_status sw_cuda_head(struct sw_backend *be, const void *x, const void *w, int rows, int n_in,
                            int vocab, const int32_t *targets_host, float *nll_host,
                            int32_t *argmax_host)
{
    struct cuda_state *s = state_of(be);
    if (rows == 0)
        return SW_OK;
    SW_TRY(sw_cuda_may_wait(s, "head"));
    REQUIRE(!nll_host || targets_host, "head");
    const int64_t room = (int64_t)32 << 20; /* logits at once: 128 MiB */
    int chunk = (int)std::min<int64_t>(rows, std::max<int64_t>(1, room / vocab));
    void *logits, *small;
    SW_TRY(
        sw_cuda_scratch(s, SCRATCH_LOGITS, (size_t)chunk * (size_t)vocab * sizeof(float), &logits));
    SW_TRY(sw_cuda_scratch(s, SCRATCH_ROWS, (size_t)rows * 12, &small));
    int32_t *targets = static_cast<int32_t *>(small), *argmax = targets + rows;
    float *nll = reinterpret_cast<float *>(argmax + rows);
    if (nll_host)
        CUDA_TRY(s, cudaMemcpyAsync(targets, targets_host, (size_t)rows * sizeof(int32_t),
                                    cudaMemcpyHostToDevice, queue_on(s)));
    for (int at = 0; at < rows; at += chunk) {
        int n = std::min(chunk, rows - at);
        SW_TRY(sw_cuda_gemm(s, static_cast<const bf16 *>(x) + (int64_t)at * n_in, w, NULL, n, n_in,
                            vocab, false, true, logits));
        head_rows<<<n, 1024, 0, queue_on(s)>>>(static_cast<const float *>(logits), vocab,
                                               targets + at, nll_host ? nll + at : NULL,
                                               argmax_host ? argmax + at : NULL);
        LAUNCHED(s, "head");
    }
    if (nll_host)
        CUDA_TRY(s, cudaMemcpyAsync(nll_host, nll, (size_t)rows * sizeof(float),
                                    cudaMemcpyDeviceToHost, queue_on(s)));
    if (argmax_host)
        CUDA_TRY(s, cudaMemcpyAsync(argmax_host, argmax, (size_t)rows * sizeof(int32_t),
                                    cudaMemcpyDeviceToHost, queue_on(s)));
    CUDA_TRY(s, cudaStreamSynchronize(queue_on(s)));
    return SW_OK;
}
