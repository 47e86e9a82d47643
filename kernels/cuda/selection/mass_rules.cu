/* Operations that need scores in order: how many make up a share of the mass, and which.
 *
 * The sort is CUB's segmented radix sort of 32-bit keys with 32-bit places, four passes of 16 bytes
 * an entry: 67 M entries (32 heads, b = 2048) are
 * 4.3 GB, 1.5 ms. Entries go in backwards, so that a stable descending sort puts later ones first
 * among equals. Cumulative sums are fp64. Only
 * this file includes CUB, which takes its time to compile. */
#include <algorithm>
#include <cmath>

#include <cub/device/device_segmented_radix_sort.cuh>

#include "kernels/cuda/device/device.h"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/selection/radix_select.cuh"

/* keys, places [count] in two buffers each; offsets [segments + 1] on the device. Descending by
 * key, stable. */
struct sort_buffers {
    uint32_t *keys[2];
    uint32_t *places[2];
    int64_t *offsets;
};

static enum sw_status reserve(struct cuda_state *s, int64_t count, int64_t segments,
                              struct sort_buffers *b)
{
    void *room;
    size_t entries = (size_t)count * sizeof(uint32_t);
    entries = (entries + 15) & ~(size_t)15;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_SORT, 4 * entries + (size_t)(segments + 1) * sizeof(int64_t),
                           &room));
    char *at = static_cast<char *>(room);
    for (int i = 0; i < 2; i++) {
        b->keys[i] = reinterpret_cast<uint32_t *>(at + (size_t)(2 * i) * entries);
        b->places[i] = reinterpret_cast<uint32_t *>(at + (size_t)(2 * i + 1) * entries);
    }
    b->offsets = reinterpret_cast<int64_t *>(at + 4 * entries);
    return SW_OK;
}

/* The sorted keys and places are in keys[0], places[0] afterwards. */
static enum sw_status sort_segments(struct cuda_state *s, struct sort_buffers *b, int64_t count,
                                    int64_t segments)
{
    cub::DoubleBuffer<uint32_t> keys(b->keys[0], b->keys[1]), places(b->places[0], b->places[1]);
    size_t bytes = 0;
    void *room = nullptr;
    CUDA_TRY(s, cub::DeviceSegmentedRadixSort::SortPairsDescending(
                    nullptr, bytes, keys, places, count, segments, b->offsets, b->offsets + 1, 0,
                    32, queue_on(s)));
    SW_TRY(sw_cuda_scratch(s, SCRATCH_SORT_ROOM, bytes, &room));
    CUDA_TRY(s, cub::DeviceSegmentedRadixSort::SortPairsDescending(
                    room, bytes, keys, places, count, segments, b->offsets, b->offsets + 1, 0, 32,
                    queue_on(s)));
    b->keys[0] = keys.Current();
    b->places[0] = places.Current();
    return SW_OK;
}

/* Exclusive fp64 sums over the CTA's threads, in their order; total to everyone. */
__device__ inline double scan_doubles(double v, double *total, double *lanes)
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    double x = v;
    for (int o = 1; o < 32; o *= 2) {
        double y = __shfl_up_sync(0xffffffffu, x, o);
        if (lane >= o)
            x += y;
    }
    __syncthreads();
    if (lane == 31)
        lanes[warp] = x;
    __syncthreads();
    double before = 0, all = 0;
    for (int w = 0; w < THREADS / 32; w++) {
        if (w == warp)
            before = all;
        all += lanes[w];
    }
    *total = all;
    return before + x - v;
}

/* --- count_mass ------------------------------------------------------------------------------- */

__global__ void gather_lines(struct sw_count_mass a, uint32_t *keys, uint32_t *places,
                             int64_t *offsets)
{
    int64_t id = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, count = (int64_t)a.rows * a.n;
    if (id <= a.rows)
        offsets[id] = id * a.n;
    if (id >= count)
        return;
    int64_t r = id / a.n, x = a.n - 1 - id % a.n;
    keys[id] = key_of_score(a.in[r * a.ld + x]);
    places[id] = (uint32_t)x;
}

__global__ void __launch_bounds__(THREADS)
    count_lines(const uint32_t *keys, int n, double limit, int *counts)
{
    __shared__ double lanes[THREADS / 32];
    __shared__ int within;
    if (threadIdx.x == 0)
        within = 0;
    double carry = 0;
    for (int base = 0; base < n; base += THREADS) {
        int at = base + (int)threadIdx.x;
        double v = at < n ? (double)score_of_key(keys[(int64_t)blockIdx.x * n + at]) : 0, total;
        double upto = carry + scan_doubles(v, &total, lanes) + v;
        if (at < n && upto <= limit)
            atomicAdd(&within, 1);
        carry += total;
    }
    __syncthreads();
    if (threadIdx.x == 0)
        counts[blockIdx.x] = within;
}

enum sw_status sw_cuda_count_mass(struct sw_backend *be, const struct sw_count_mass *a)
{
    struct cuda_state *s = state_of(be);
    SW_TRY(sw_cuda_may_wait(s, "count_mass"));
    REQUIRE(a->rows >= 1 && a->n >= 1 && a->n <= a->ld, "count_mass");
    int64_t count = (int64_t)a->rows * a->n;
    struct sort_buffers b;
    SW_TRY(reserve(s, count, a->rows, &b));
    gather_lines<<<(unsigned)div_up64(std::max<int64_t>(count, a->rows + 1), 256), 256, 0,
                   queue_on(s)>>>(*a, b.keys[0], b.places[0], b.offsets);
    LAUNCHED(s, "count_mass, gather");
    SW_TRY(sort_segments(s, &b, count, a->rows));
    void *counts;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_ROWS, (size_t)a->rows * sizeof(int), &counts));
    count_lines<<<(unsigned)a->rows, THREADS, 0, queue_on(s)>>>(b.keys[0], a->n, a->limit,
                                                                static_cast<int *>(counts));
    LAUNCHED(s, "count_mass");
    return be->download(be, a->counts, counts, (size_t)a->rows * sizeof(int));
}

/* --- keep_mass -------------------------------------------------------------------------------- */

struct mass_args {
    struct sw_keep_mass in;
    int u0;              /* first unit of this round */
    int64_t triangle;    /* entries j <= i of a unit */
    const double *limit; /* [units] */
    const uint32_t *keys, *places;
};

/* Entries of row r of a unit before it: rows hold row0 + 1, row0 + 2, … entries. */
__host__ __device__ inline int64_t entries_before(int row0, int64_t r)
{
    return r * (row0 + 1) + r * (r - 1) / 2;
}

__device__ inline int row_of_entry(int row0, int64_t e, int rows)
{
    double a = row0 + 0.5; /* r²/2 + a·r = e */
    int r = (int)(sqrt(a * a + 2.0 * (double)e) - a);
    r = min(max(r, 0), rows - 1);
    while (r > 0 && entries_before(row0, r) > e)
        r--;
    while (r + 1 < rows && entries_before(row0, r + 1) <= e)
        r++;
    return r;
}

/* A unit's entries in reading order, written backwards; segments are rows, or the unit. */
__global__ void gather_matrix(mass_args a, uint32_t *keys, uint32_t *places)
{
    int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= a.triangle)
        return;
    int r = row_of_entry(a.in.row0, e, a.in.rows), j = (int)(e - entries_before(a.in.row0, r));
    int64_t to = (int64_t)blockIdx.y * a.triangle + a.triangle - 1 - e;
    keys[to] = key_of_score(unit_row(a.in.scores, a.u0 + (int)blockIdx.y, r)[j]);
    places[to] = (uint32_t)e;
}

__global__ void segment_offsets(mass_args a, int units, bool whole_units, int64_t *offsets)
{
    int64_t id = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int64_t segments = whole_units ? units : (int64_t)units * a.in.rows;
    if (id > segments)
        return;
    if (whole_units) {
        offsets[id] = id * a.triangle;
        return;
    }
    int64_t u = id / a.in.rows, back = id % a.in.rows; /* the last row comes first */
    offsets[id] = u * a.triangle + (a.triangle - entries_before(a.in.row0, a.in.rows - back));
}

/* One CTA a row: its sorted entries from the best on. */
__global__ void __launch_bounds__(THREADS) mark_row_mass(mass_args a)
{
    __shared__ double lanes[THREADS / 32];
    int r = blockIdx.x, u = a.u0 + blockIdx.y, i = a.in.row0 + r, n = i + 1;
    int64_t start = (int64_t)blockIdx.y * a.triangle + a.triangle -
                    entries_before(a.in.row0, (int64_t)r + 1),
            e0 = entries_before(a.in.row0, r);
    double limit = a.limit[u], total = 0, all;
    if (limit < 0)
        return;
    const float *row = unit_row(a.in.scores, u, r);
    uint8_t *keep = a.in.keep + (row - a.in.scores.data);
    bool late = a.in.rule == SW_MASS_REACH_LATE, reach = late || a.in.rule == SW_MASS_REACH;
    double carry = 0, wanted = limit;
    bool enough = false; /* late: whether the turn before has reached what is wanted */
    if (reach) {         /* blocks 0 and i count first; late: block i */
        double mine = 0;
        for (int p = threadIdx.x; p < n; p += THREADS)
            mine += (double)score_of_key(a.keys[start + p]);
        (void)scan_doubles(mine, &total, lanes);
        carry = (double)row[i] + (late || i == 0 ? 0 : (double)row[0]);
        wanted = limit * total;
        if (threadIdx.x == 0)
            keep[0] = keep[i] = 1;
    }
    for (int base = 0; base < n; base += THREADS) {
        int p = base + (int)threadIdx.x, j = p < n ? (int)(a.places[start + p] - e0) : 0;
        bool counts = p < n && !(reach && (j == i || (j == 0 && !late)));
        double v = counts ? (double)score_of_key(a.keys[start + p]) : 0,
               before = carry + scan_doubles(v, &all, lanes);
        bool kept = reach ? before < wanted : before + v <= wanted || p == 0;
        if (late && counts) { /* by the sum before the one that counts before this one */
            int q = p - 1;
            if (q >= 0 && (int)(a.places[start + q] - e0) == i)
                q--;
            kept = q < 0 ? 0 < wanted : before - (double)score_of_key(a.keys[start + q]) < wanted;
        }
        if (counts && kept)
            keep[j] = 1;
        carry += all;
        if (enough)
            break; /* alike in all threads */
        enough = reach ? carry >= wanted : carry > wanted;
        if (enough && !late)
            break;
    }
}

/* One CTA a row; nothing is sorted. */
__global__ void __launch_bounds__(THREADS) mark_row_fraction(mass_args a)
{
    __shared__ float lanes[32];
    int r = blockIdx.x, u = blockIdx.y, n = a.in.row0 + r + 1;
    double limit = a.limit[u];
    if (limit < 0)
        return;
    const float *row = unit_row(a.in.scores, u, r);
    uint8_t *keep = a.in.keep + (row - a.in.scores.data);
    float top = -INFINITY;
    for (int j = threadIdx.x; j < n; j += THREADS)
        top = fmaxf(top, row[j]);
    top = block_max(top, lanes);
    for (int j = threadIdx.x; j < n; j += THREADS)
        if ((double)row[j] >= limit * (double)top)
            keep[j] = 1;
}

/* One CTA a unit: rows compete. */
__global__ void __launch_bounds__(THREADS) mark_unit_mass(mass_args a)
{
    __shared__ double lanes[THREADS / 32];
    int u = a.u0 + blockIdx.x;
    double wanted = a.limit[u] * a.in.rows, carry = 0, all;
    if (a.limit[u] < 0)
        return;
    int64_t start = (int64_t)blockIdx.x * a.triangle;
    for (int64_t base = 0; base < a.triangle; base += THREADS) {
        int64_t p = base + threadIdx.x;
        double v = p < a.triangle ? (double)score_of_key(a.keys[start + p]) : 0,
               upto = carry + scan_doubles(v, &all, lanes) + v;
        if (p < a.triangle && upto <= wanted) {
            int64_t e = a.places[start + p];
            int r = row_of_entry(a.in.row0, e, a.in.rows);
            a.in.keep[((int64_t)u * a.in.scores.ld_rows + r) * a.in.scores.ld +
                      (e - entries_before(a.in.row0, r))] = 1;
        }
        carry += all;
        if (carry > wanted)
            break;
    }
}

enum sw_status sw_cuda_keep_mass(struct sw_backend *be, const struct sw_keep_mass *in)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(sw_unit_holds(&in->scores, in->rows, in->row0 + in->rows) && in->rows >= 1 &&
                in->row0 >= 0,
            "keep_mass");
    mass_args a = {*in, 0, entries_before(in->row0, in->rows), NULL, NULL, NULL};
    if (a.triangle > UINT32_MAX)
        return SW_FAIL(SW_EUNSUPPORTED, "keep_mass: %lld entries a unit; expected fewer than 2^32",
                       (long long)a.triangle);
    if (in->clear)
        CUDA_TRY(s, cudaMemsetAsync(in->keep, 0,
                                    (size_t)in->scores.units * (size_t)in->scores.ld_rows *
                                        (size_t)in->scores.ld,
                                    queue_on(s)));
    void *limits;
    SW_TRY(sw_cuda_scratch(s, SCRATCH_STATS, (size_t)in->scores.units * sizeof(double), &limits));
    SW_TRY(sw_cuda_memory_upload(s, limits, in->limit, (size_t)in->scores.units * sizeof(double)));
    a.limit = static_cast<const double *>(limits);
    if (in->rule == SW_MASS_FRACTION) {
        mark_row_fraction<<<dim3((unsigned)in->rows, (unsigned)in->scores.units), THREADS, 0,
                            queue_on(s)>>>(a);
        LAUNCHED(s, "keep_mass, fraction");
        return SW_OK;
    }
    bool whole_units = in->rule == SW_MASS_UNIT;
    /* 512 MiB of sort buffers at once */
    int chunk = (int)std::max<int64_t>(
        1, std::min<int64_t>(in->scores.units, ((int64_t)32 << 20) / a.triangle));
    for (a.u0 = 0; a.u0 < in->scores.units; a.u0 += chunk) {
        int units = std::min(chunk, in->scores.units - a.u0);
        int64_t count = units * a.triangle,
                segments = whole_units ? units : (int64_t)units * in->rows;
        struct sort_buffers b;
        SW_TRY(reserve(s, count, segments, &b));
        gather_matrix<<<dim3((unsigned)div_up64(a.triangle, 256), (unsigned)units), 256, 0,
                        queue_on(s)>>>(a, b.keys[0], b.places[0]);
        LAUNCHED(s, "keep_mass, gather");
        segment_offsets<<<(unsigned)div_up64(segments + 1, 256), 256, 0, queue_on(s)>>>(
            a, units, whole_units, b.offsets);
        LAUNCHED(s, "keep_mass, offsets");
        SW_TRY(sort_segments(s, &b, count, segments));
        a.keys = b.keys[0];
        a.places = b.places[0];
        if (whole_units)
            mark_unit_mass<<<(unsigned)units, THREADS, 0, queue_on(s)>>>(a);
        else
            mark_row_mass<<<dim3((unsigned)in->rows, (unsigned)units), THREADS, 0, queue_on(s)>>>(
                a);
        LAUNCHED(s, "keep_mass");
    }
    return SW_OK;
}
