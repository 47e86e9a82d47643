/* What is kept, marked: the best of a row, and columns and slashes as blocks of a keep matrix. */
#include <algorithm>

#include "kernels/cuda/device/device.h"
#include "kernels/cuda/selection/radix_select.cuh"

/* --- mark_top --------------------------------------------------------------------------------- */

/* One CTA a row. The threshold by radix selection (four reads), then runs of entries in order, so
 * that of equal ones the last (or the first) are kept: 24 bytes an entry, from L2 but for the first
 * 4. */
__global__ void __launch_bounds__(THREADS) mark_rows(struct sw_mark_top a, const int32_t *counts)
{
    __shared__ struct radix_shared sh;
    __shared__ int lanes[2][THREADS / 32];
    const float *in = a.in + (int64_t)blockIdx.x * a.ld;
    uint8_t *flags = a.flags + (int64_t)blockIdx.x * a.ld;
    int always = min(a.always, a.n), need = min(max(counts[blockIdx.x] - always, 0), a.n - always),
        equal_needed = 0;
    uint32_t threshold = 0xffffffffu;
    if (need > 0)
        threshold = radix_select(in, always, a.n, need, &equal_needed, &sh);
    int equal_all = 0; /* entries equal to the threshold */
    if (need > 0 && !a.small_first) {
        struct pair_sum mine = {0, 0}, total;
        for (int x = always + (int)threadIdx.x; x < a.n; x += THREADS)
            mine.b += key_of_score(in[x]) == threshold;
        (void)scan_pairs(mine, &total, lanes);
        equal_all = total.b;
    }
    int before = 0; /* equal ones seen so far */
    for (int base = 0; base < a.n; base += THREADS) {
        int x = base + (int)threadIdx.x;
        uint32_t key = x >= always && x < a.n && need > 0 ? key_of_score(in[x]) : 0;
        bool equal = x >= always && x < a.n && need > 0 && key == threshold;
        struct pair_sum mine = {0, equal}, total, place = scan_pairs(mine, &total, lanes);
        int nth = before + place.b; /* among the equal ones, from 0 */
        bool kept =
            x < always || (need > 0 && key > threshold) ||
            (equal && (a.small_first ? nth < equal_needed : nth >= equal_all - equal_needed));
        if (x < a.n)
            flags[x] = kept;
        before += total.b;
    }
}

enum sw_status sw_cuda_mark_top(struct sw_backend *be, const struct sw_mark_top *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(a->rows >= 1 && a->n >= 1 && a->n <= a->ld && a->always >= 0, "mark_top");
    void *counts;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_ROWS, (size_t)a->rows * sizeof(int32_t), &counts));
    SW_TRY(sw_cuda_memory_upload(s, counts, a->k, (size_t)a->rows * sizeof(int32_t)));
    mark_rows<<<(unsigned)a->rows, THREADS, 0, queue_on(s)>>>(*a,
                                                              static_cast<const int32_t *>(counts));
    LAUNCHED(s, "mark_top");
    return SW_OK;
}

/* --- keep_vertical_slash
 * ------------------------------------------------------------------------------- */

/* Flags a block of columns [units, b] and of offsets [units, b]; any token's flag makes its
 * block's. */
__global__ void vertical_slash_blocks(struct sw_keep_vertical_slash a, int b, uint8_t *columns,
                                      uint8_t *offsets)
{
    int j = blockIdx.x * blockDim.x + threadIdx.x, u = blockIdx.y;
    if (j >= b)
        return;
    bool column = false, offset = false;
    if (a.grain == 1) {
        int x0 = j * a.block, x1 = min(x0 + a.block, a.n);
        for (int x = x0; a.columns && x < x1 && !column; x++)
            column = a.columns[(int64_t)u * a.ld_in + x];
        /* Offset δ reaches ⌊δ/B⌋ and ⌈δ/B⌉: blocks j that hold it, and those after a block that
         * holds one past its first. */
        for (int x = max(x0 - a.block + 1, 0); a.slashes && x < x1 && !offset; x++)
            offset = a.slashes[(int64_t)u * a.ld_in + x];
    } else {
        column = a.columns && a.columns[(int64_t)u * a.ld_in + j];
        offset = a.slashes && (a.slashes[(int64_t)u * a.ld_in + j] ||
                               (a.straddle && j > 0 && a.slashes[(int64_t)u * a.ld_in + j - 1]));
    }
    columns[(int64_t)u * b + j] = column;
    offsets[(int64_t)u * b + j] = offset;
}

__global__ void keep_vertical_slash_rows(struct sw_keep_vertical_slash a, int b,
                                         const uint8_t *columns, const uint8_t *offsets)
{
    int j = blockIdx.x * blockDim.x + threadIdx.x, r = blockIdx.y, u = blockIdx.z, i = a.row0 + r;
    if (j >= b)
        return;
    uint8_t *keep = keep_row(a.keep, u, r) + j;
    bool on = j <= i && (columns[(int64_t)u * b + j] || offsets[(int64_t)u * b + i - j] ||
                         (a.whole_rows && a.whole_rows[(int64_t)u * a.ld_in + i]));
    *keep = on || (!a.clear && *keep);
}

enum sw_status sw_cuda_keep_vertical_slash(struct sw_backend *be,
                                           const struct sw_keep_vertical_slash *a)
{
    struct cuda_state *s = state_of(be);
    int b = div_up(a->n, a->block);
    REQUIRE(sw_keep_holds(&a->keep, a->rows, b) && a->rows >= 1 && a->row0 + a->rows <= b,
            "keep_vertical_slash");
    REQUIRE((a->grain == 1 && a->n <= a->ld_in) || (a->grain == a->block && b <= a->ld_in),
            "keep_vertical_slash");
    void *room;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_ROWS, 2 * (size_t)a->keep.units * (size_t)b, &room));
    uint8_t *columns = static_cast<uint8_t *>(room),
            *offsets = columns + (int64_t)a->keep.units * b;
    vertical_slash_blocks<<<dim3((unsigned)div_up(b, 64), (unsigned)a->keep.units), 64, 0,
                            queue_on(s)>>>(*a, b, columns, offsets);
    LAUNCHED(s, "keep_vertical_slash, blocks");
    keep_vertical_slash_rows<<<dim3((unsigned)div_up(b, 128), (unsigned)a->rows,
                                    (unsigned)a->keep.units),
                               128, 0, queue_on(s)>>>(*a, b, columns, offsets);
    LAUNCHED(s, "keep_vertical_slash");
    return SW_OK;
}
