/* The best of matrices over consecutive units, by score or by place in each unit's ranking. Places
 * are counted, column against column: cols² compares a row and unit, which only few layers do. */
#include "kernels/cuda/device/device.h"
#include "kernels/cuda/selection/radix_select.cuh"

enum { BEST_THREADS = 256 };

__global__ void __launch_bounds__(BEST_THREADS) best_scores(struct sw_best_units a)
{
    int i = blockIdx.y, u = blockIdx.z, j = blockIdx.x * BEST_THREADS + threadIdx.x,
        share = a.in.units / a.out.units;
    if (j >= a.cols)
        return;
    const float *in = unit_row(a.in, u * share, i) + j;
    int64_t plane = (int64_t)a.in.ld_rows * a.in.ld;
    float best = *in;
    for (int h = 1; h < share; h++)
        best = in[h * plane] > best ? in[h * plane] : best;
    unit_row(a.out, u, i)[j] = a.causal && j > a.row0 + i ? 0.0f : best;
}

/* A thread a column; the row's keys pass by in tiles. */
__global__ void __launch_bounds__(BEST_THREADS) best_places(struct sw_best_units a)
{
    __shared__ uint32_t tile[BEST_THREADS];
    int i = blockIdx.y, u = blockIdx.z, j = blockIdx.x * BEST_THREADS + threadIdx.x,
        share = a.in.units / a.out.units;
    int cols = a.causal ? min(a.cols, a.row0 + i + 1) : a.cols, best = INT_MAX;
    for (int h = 0; h < share; h++) {
        const float *in = unit_row(a.in, u * share + h, i);
        uint32_t own = j < cols ? key_of_score(in[j]) : 0;
        int rank = 0;
        for (int first = 0; first < cols; first += BEST_THREADS) {
            int at = first + threadIdx.x, count = min(BEST_THREADS, cols - first);
            __syncthreads();
            tile[threadIdx.x] = at < cols ? key_of_score(in[at]) : 0;
            __syncthreads();
            for (int e = 0; e < count; e++)
                rank += tile[e] > own || (tile[e] == own && first + e > j);
        }
        best = min(best, rank * share + h);
    }
    if (j < a.cols)
        unit_row(a.out, u, i)[j] = j < cols ? -(float)best : 0.0f;
}

enum sw_status sw_cuda_best_units(struct sw_backend *be, const struct sw_best_units *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(sw_unit_holds(&a->in, a->rows, a->cols) && sw_unit_holds(&a->out, a->rows, a->cols) &&
                a->row0 >= 0 && a->in.units % a->out.units == 0,
            "best_units");
    int share = a->in.units / a->out.units;
    if (a->by_rank && (int64_t)share * a->cols > SW_EXACT_PLACES)
        return SW_FAIL(SW_EUNSUPPORTED,
                       "best_units: places of %d units of %d columns; fp32 counts to 2^24", share,
                       a->cols);
    if (a->rows == 0 || a->cols == 0)
        return SW_OK;
    dim3 grid((unsigned)div_up(a->cols, BEST_THREADS), (unsigned)a->rows, (unsigned)a->out.units);
    if (a->by_rank)
        best_places<<<grid, BEST_THREADS, 0, queue_on(s)>>>(*a);
    else
        best_scores<<<grid, BEST_THREADS, 0, queue_on(s)>>>(*a);
    LAUNCHED(s, "best_units");
    return SW_OK;
}
