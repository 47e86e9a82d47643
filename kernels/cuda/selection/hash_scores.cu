/* The random method's scores: hashes of seed, layer, unit, row and column. */
#include "core/rng.h"
#include "kernels/cuda/device/device.h"

/* core/rng.h, for the device: the same bits (integers, and one exact conversion). */
__device__ inline uint64_t mix64(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

__global__ void hash_rows(struct sw_hash_scores a, uint64_t key)
{
    int64_t id = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (id >= (int64_t)a.rows * a.cols)
        return;
    int i = (int)(id / a.cols), j = (int)(id % a.cols), u = blockIdx.y;
    uint64_t unit = (uint64_t)a.layer * (uint64_t)a.out.units + (uint64_t)u;
    uint64_t index = (unit << 40) | ((uint64_t)(a.row0 + i) << 20) | (uint64_t)j;
    /* The leading 24 bits: rounding a 53-bit uniform to fp32 instead could give 1. */
    unit_row(a.out, u, i)[j] = (float)(mix64(key ^ index) >> 40) * 0x1p-24f;
}

enum sw_status sw_cuda_hash_scores(struct sw_backend *be, const struct sw_hash_scores *a)
{
    struct cuda_state *s = state_of(be);
    REQUIRE(sw_unit_holds(&a->out, a->rows, a->cols), "hash_scores");
    if (a->rows == 0 || a->cols == 0)
        return SW_OK;
    uint64_t key = sw_mix64(sw_mix64(a->seed) ^ ((uint64_t)SW_RNG_RANDOM_METHOD << 32));
    dim3 grid((unsigned)div_up64((int64_t)a->rows * a->cols, 256), (unsigned)a->out.units);
    hash_rows<<<grid, 256, 0, queue_on(s)>>>(*a, key);
    LAUNCHED(s, "hash_scores");
    return SW_OK;
}
