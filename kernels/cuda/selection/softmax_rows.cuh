/* softmax_rows.cuh: rows of logits become probabilities, added up per query block and key block:
 * what XAttention's antidiagonals and the gates of single tokens (NSA) end with.
 *
 * The logits are products of packed bf16 matrices by cuBLAS into fp32, a strip of rows at a time;
 * then one CTA a query block turns its rows into probabilities and adds them up per key block, in a
 * fixed order. */
#ifndef SW_CUDA_SOFTMAX_ROWS_CUH
#define SW_CUDA_SOFTMAX_ROWS_CUH

#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/reduce.cuh"

static const int64_t STRIP_FLOATS = (int64_t)64 << 20; /* 256 MiB of logits */

/* Columns of the logits: a multiple of 8 for the product's alignment; what is added is zeros. */
static inline int padded(int columns) { return (columns + 7) & ~7; }

struct gather_args {
    const float *x; /* [rows, ld] of this strip, scaled below */
    int ld, rows0;  /* first row of the strip (a group or a token) */
    int per_block;  /* rows a query block */
    int grain;      /* columns a key block */
    int total_rows;
    int columns; /* in use */
    /* row r sees columns 0 … r; else those of its own block: 0 … row / per_block (its block's
     * index, + row0) */
    bool by_row;
    int block0; /* index of the first query block (row 0's) */
    /* B: row r, at position position0 + r, sees the blocks that end at or before it; 0: as above */
    int complete, position0;
    float scale;
    bool add;   /* to what out holds */
    float *out; /* [blocks, ld_out] of this unit */
    int ld_out, b;
};

/* One CTA a query block. Shared memory: b sums. Each row is read three times (maximum, sum,
 * values), twice from L2. */
static __global__ void __launch_bounds__(256) gather_block(gather_args a)
{
    extern __shared__ float sums[];
    __shared__ float lanes[32];
    int first = a.rows0 + blockIdx.x * a.per_block, last = min(first + a.per_block, a.total_rows),
        i = first / a.per_block;
    for (int j = threadIdx.x; j < a.b; j += blockDim.x)
        sums[j] = 0;
    for (int row = first; row < last; row++) {
        const float *x = a.x + (int64_t)(row - a.rows0) * a.ld;
        int seen = min(a.by_row ? row + 1 : a.block0 + i + 1, a.columns);
        if (a.complete > 0)
            seen = (a.position0 + row + 1) / a.complete;
        float top = -INFINITY;
        for (int c = threadIdx.x; c < seen; c += blockDim.x)
            top = fmaxf(top, a.scale * x[c]);
        top = block_max(top, lanes);
        float sum = 0;
        for (int c = threadIdx.x; c < seen; c += blockDim.x)
            sum += expf(a.scale * x[c] - top);
        float inv = 1.0f / block_sum(sum, lanes);
        for (int j = threadIdx.x; j * a.grain < seen; j += blockDim.x) {
            float part = 0;
            for (int c = j * a.grain; c < min((j + 1) * a.grain, seen); c++)
                part += expf(a.scale * x[c] - top) * inv;
            sums[j] += part;
        }
    }
    float *out = a.out + (int64_t)i * a.ld_out;
    for (int j = threadIdx.x; j < a.b; j += blockDim.x)
        out[j] = a.add ? out[j] + sums[j] : sums[j];
}

static enum sw_status gather(struct cuda_state *s, const gather_args &a, int rows)
{
    size_t shared = (size_t)a.b * sizeof(float);
    if (shared > 48 << 10)
        CUDA_TRY(s, cudaFuncSetAttribute(gather_block, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         (int)shared));
    gather_block<<<(unsigned)div_up(rows, a.per_block), 256, shared, queue_on(s)>>>(a);
    LAUNCHED(s, "scores of groups");
    return SW_OK;
}

#endif
