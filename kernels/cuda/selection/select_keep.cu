/* From a keep matrix to block lists, with the token rules that some methods add. One CTA a row, two
 * passes: count, write. */
#include "kernels/cuda/device/device.h"
#include "kernels/cuda/selection/list_starts.cuh"
#include "kernels/cuda/selection/radix_select.cuh"

struct keep_args {
    struct sw_select_keep in;
    int32_t *counts, *indptr, *indices;
    uint8_t *whole;
    const uint64_t *bits; /* queries or keys, and where they go */
    uint64_t *bits_out;
    int words;
};

/* Whether row r lists its own block: where it is free, if it is kept or no other (`others`) is. */
__device__ inline bool lists_diagonal(const struct sw_select_keep &a, int u, int r, int64_t others)
{
    return !a.free_diagonal || keep_row(a.keep, u, r)[a.row0 + r] || others == 0;
}

__global__ void __launch_bounds__(THREADS) keep_count(keep_args a)
{
    __shared__ int lanes[2][THREADS / 32];
    int r = blockIdx.x, u = blockIdx.y, i = a.in.row0 + r;
    struct pair_sum mine = {0, 0}, total;
    for (int j = threadIdx.x; j < i; j += THREADS)
        mine.a += keep_row(a.in.keep, u, r)[j] != 0;
    (void)scan_pairs(mine, &total, lanes);
    if (threadIdx.x == 0)
        a.counts[(int64_t)u * a.in.rows + r] = total.a + lists_diagonal(a.in, u, r, total.a);
}

__global__ void __launch_bounds__(THREADS) keep_fill(keep_args a)
{
    __shared__ int lanes[2][THREADS / 32];
    int r = blockIdx.x, u = blockIdx.y, i = a.in.row0 + r;
    int64_t first = a.indptr[(int64_t)u * a.in.rows + r], at = first;
    for (int base = 0; base <= i; base += THREADS) {
        int j = base + (int)threadIdx.x;
        bool kept = j < i && keep_row(a.in.keep, u, r)[j];
        struct pair_sum mine = {kept, 0}, total;
        struct pair_sum before = scan_pairs(mine, &total, lanes);
        int64_t e = at + before.a; /* all others are before the diagonal */
        if (kept || (j == i && lists_diagonal(a.in, u, r, e - first))) {
            a.indices[e] = j;
            if (a.whole)
                a.whole[e] = a.in.queries && j == i;
            for (int w = 0; w < a.words; w++)
                a.bits_out[e * a.words + w] =
                    a.bits[(keep_row(a.in.keep, u, r) - a.in.keep.data + j) * a.words + w];
        }
        at += total.a;
    }
}

enum sw_status sw_cuda_select_keep(struct sw_backend *be, const struct sw_select_keep *a,
                                   struct sw_selection *out)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(sw_keep_holds(&a->keep, a->rows, a->row0 + a->rows) && a->rows >= 1 && a->row0 >= 0,
            "select_keep");
    REQUIRE(!a->queries || !a->keys, "select_keep");
    int64_t rows = (int64_t)a->keep.units * a->rows,
            full = (int64_t)a->rows * (2 * (int64_t)a->row0 + a->rows + 1) / 2 * a->keep.units;
    if (full > INT32_MAX)
        return SW_FAIL(SW_EUNSUPPORTED, "selection: %lld blocks are more than a list can hold",
                       (long long)full);
    bool by_token = a->columns || a->slashes, masked = by_token || a->queries || a->keys;
    int words = a->queries || a->keys ? (a->block + 63) / 64 : 0;
    SW_TRY(sw_cuda_selection_reserve(out, be, a->keep.units, a->rows, full, masked));
    if (masked)
        SW_TRY(sw_cuda_selection_reserve_masks(out, by_token ? a->mask_ld : 0, words));
    out->block = a->block;
    out->n = a->n;
    out->n_q = a->n_q;
    out->row0 = a->row0;
    out->free_diagonal = a->free_diagonal;
    void *counts;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_ROWS, (size_t)rows * sizeof(int32_t), &counts));
    keep_args k = {*a,         static_cast<int32_t *>(counts), out->indptr,  out->indices,
                   out->whole, a->keys ? a->keys : a->queries, out->queries, words};
    if (a->keys) {
        out->keys = out->queries;
        out->queries = NULL;
    }
    dim3 grid((unsigned)a->rows, (unsigned)a->keep.units);
    keep_count<<<grid, THREADS, 0, queue_on(s)>>>(k);
    LAUNCHED(s, "select_keep, count");
    list_starts<<<1, THREADS, 0, queue_on(s)>>>(k.counts, rows, k.indptr);
    LAUNCHED(s, "select_keep, sum");
    keep_fill<<<grid, THREADS, 0, queue_on(s)>>>(k);
    LAUNCHED(s, "select_keep, fill");
    if (by_token) {
        size_t bytes = (size_t)a->keep.units * (size_t)a->mask_ld;
        const uint8_t *from[] = {a->columns, a->slashes};
        uint8_t **to[] = {&out->columns, &out->slashes};
        for (int i = 0; i < 2; i++) {
            if (from[i])
                CUDA_TRY(s, cudaMemcpyAsync(*to[i], from[i], bytes, cudaMemcpyDeviceToDevice,
                                            queue_on(s)));
            else
                *to[i] = NULL;
        }
    }
    return SW_OK;
}
