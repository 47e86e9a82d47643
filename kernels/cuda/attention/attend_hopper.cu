/* attend_hopper.cu: see attend_hopper.h.
 *
 * A pair of warpgroups works on a tile of 2 × 64 query rows that share one list of key blocks: two
 * heads of a KV group at the same rows, or (head groups of odd size, blocks of 128) two
 * neighbouring row tiles of one head. Both are consumers, each with its own 64 rows. Each pair has
 * a producer: one warp that fetches K and V by block index with TMA into rings of tiles of one
 * step. The list is walked from its end, so that the diagonal comes first and the loop needs no
 * mask. Tiles are ordered with the KV head outermost (its K and V stay in L2) and long rows first;
 * CTAs are persistent, one a multiprocessor, and a pair takes its next tile from a counter.
 * NOTES-hopper.md has the measurements.
 *
 * head_dim 128: steps of 128 keys (the first has 64 where the list has an odd number of 64-key
 * blocks), one pair a CTA.
 *
 *     S = Q·Kᵀ of step j+1 is queued, then O += P·V of step j; softmax of step j+1 runs while the
 *     latter is in flight.
 *
 * So it goes on from tile to tile: the first scores of one are queued with the last values of the
 * other.
 *
 * head_dim 64: exponentials take as long as the products, and what matters is that some warps
 * always have one to do while others have the other. So steps of 64 keys, which need so few
 * registers that two pairs have room, four warps a scheduler; each does one thing after the
 * other. */
#include "kernels/cuda/attention/attend_hopper.h"

#include <atomic>

#include "kernels/cuda/attention/attend_hopper_consumer.cuh"

namespace
{

enum { WORK_SLOTS = 64 }; /* calls in flight */

template <int D>
__global__ void __launch_bounds__(layout<D>::THREADS, 1)
    attend_kernel(const __grid_constant__ params p)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ unsigned char raw[];
    constexpr int STAGES = layout<D>::STAGES, CONSUMERS = layout<D>::CONSUMERS;
    /* Warps of consumers, pair by pair, then the producers, one a pair. */
    int pair = __shfl_sync(
        ~0u,
        threadIdx.x < CONSUMERS ? (int)threadIdx.x / PAIR : (int)(threadIdx.x - CONSUMERS) / 32, 0);
    uint32_t base = ((shared_address(raw) + 1023) & ~1023u) + pair * layout<D>::PAIR_BYTES;
    static_assert(STAGES <= MAX_STAGES && 8 * (4 * MAX_STAGES + 2) + 2 * sizeof(tile_info) <= 256,
                  "barriers");
    uint32_t bars = base + layout<D>::BARRIERS, q_full = bars + 32 * MAX_STAGES,
             q_empty = q_full + 8;
    tile_info *info = (tile_info *)(raw + (base - shared_address(raw)) + layout<D>::BARRIERS +
                                    32 * MAX_STAGES + 16);
    ring<D> kr = {bars, bars + 8 * MAX_STAGES, base + layout<D>::K, 0, 0};
    ring<D> vr = {bars + 16 * MAX_STAGES, bars + 24 * MAX_STAGES, base + layout<D>::V, 0, 0};
    if (threadIdx.x < CONSUMERS && threadIdx.x % PAIR == 0) {
        for (int i = 0; i < STAGES; i++) {
            barrier_init(kr.full + 8 * i, 1);
            barrier_init(vr.full + 8 * i, 1);
            barrier_init(kr.empty + 8 * i, 8); /* consumer warps */
            barrier_init(vr.empty + 8 * i, 8);
        }
        barrier_init(q_full, 1);
        barrier_init(q_empty, 8);
        barrier_init_fence();
    }
    /* the launch's own arguments: there from the start; a TMA would fetch its map first, half a
     * microsecond */
    if (threadIdx.x == 32) {
        tma_prefetch_map(&p.q);
        tma_prefetch_map(&p.k);
        tma_prefetch_map(&p.v);
        tma_prefetch_map(&p.k128);
        tma_prefetch_map(&p.v128);
    }
    /* The kernels before this one, which make the lists, may still be at work (see launch): nothing
     * is read or written before they are over. */
    asm volatile("griddepcontrol.wait;" ::: "memory");
    __syncthreads();
    if (threadIdx.x >= CONSUMERS) {
        registers_shrink<layout<D>::PRODUCER_REGISTERS>();
        if (pair < layout<D>::PAIRS)
            produce<D>(p, kr, vr, base + layout<D>::Q, q_full, q_empty, info, pair,
                       threadIdx.x & 31);
    } else {
        registers_grow<layout<D>::CONSUMER_REGISTERS>();
        consume<D>(p, kr, vr, base + layout<D>::Q, q_full, q_empty, info);
    }
#endif
}

__device__ unsigned work_counters[WORK_SLOTS][2];

/* --- host ------------------------------------------------------------------------------------- */
typedef CUresult (*encode_fn)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                              const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                              const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                              CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

enum sw_status cuda_failed(cudaError_t e, const char *what)
{
    return SW_FAIL(SW_EDEVICE, "%s: %s", what, cudaGetErrorString(e));
}

/* The driver's TMA encoder, without linking the driver library (it is not there on machines without
 * a GPU). */
enum sw_status find_encoder(encode_fn *out)
{
    static std::atomic<void *> found{nullptr};
    void *fn = found.load();
    if (!fn) {
        cudaDriverEntryPointQueryResult result;
        cudaError_t e = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &fn, 12000,
                                                         cudaEnableDefault, &result);
        if (e != cudaSuccess)
            return cuda_failed(e, "cuTensorMapEncodeTiled");
        if (result != cudaDriverEntryPointSuccess || !fn)
            return SW_FAIL(SW_EDEVICE, "the CUDA driver has no cuTensorMapEncodeTiled");
        found.store(fn);
    }
    *out = (encode_fn)fn;
    return SW_OK;
}

/* x [tokens, heads, d] as (64 columns, token, half, head); rows past `tokens` read as zeros. */
enum sw_status encode(encode_fn fn, CUtensorMap *map, const void *x, int tokens, int heads, int d,
                      int box_tokens, int box_halves)
{
    cuuint64_t dims[4] = {64, (cuuint64_t)tokens, (cuuint64_t)d / 64, (cuuint64_t)heads};
    cuuint64_t strides[3] = {(cuuint64_t)heads * d * 2, 128, (cuuint64_t)d * 2};
    cuuint32_t box[4] = {64, (cuuint32_t)box_tokens, (cuuint32_t)box_halves, 1},
               element[4] = {1, 1, 1, 1};
    CUresult r = fn(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, (void *)x, dims, strides, box,
                    element, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                    CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (r != CUDA_SUCCESS)
        return SW_FAIL(SW_EDEVICE, "cuTensorMapEncodeTiled: error %d for [%d, %d, %d]", (int)r,
                       tokens, heads, d);
    return SW_OK;
}

/* How 2 × 64 query rows are found that share a list. Returns false where the shape is out of this
 * kernel's reach. */
bool tile_plan(const struct sw_attend *a, params *p)
{
    const struct sw_selection *sel = a->sel;
    p->group = a->n_heads / a->n_kv_heads;
    p->units = UNIT_SHARED;
    p->rows = 0;
    p->block128 = 0;
    if (sel) {
        int units = sel->units / a->batch;
        if (units * a->batch != sel->units ||
            (units != 1 && units != a->n_kv_heads && units != a->n_heads))
            return false;
        if (units > 1)
            p->units = units == a->n_kv_heads ? UNIT_KV_HEAD : UNIT_HEAD;
        if ((sel->block != 64 && sel->block != 128) || sel->whole ||
            sel->rows != sw_blocks(a->n_q, sel->block))
            return false;
        p->rows = sel->rows;
        p->block128 = sel->block == 128;
    }
    int before = a->n_k - a->n_q;
    if (before < 0 || before % (sel ? sel->block : 64) != 0)
        return false;
    p->offset64 = before / 64;
    p->heads_a_tile = p->rows_a_tile = 1;
    bool heads_share = p->units != UNIT_HEAD && p->group > 1;
    if (heads_share && (p->group % 2 == 0 || (sel && !p->block128)))
        p->heads_a_tile = 2; /* an odd group's last tile has one head */
    else if ((!sel || p->block128) && before % 128 == 0)
        p->rows_a_tile = 2;
    else if (heads_share)
        p->heads_a_tile = 2;
    p->parts = (p->group + p->heads_a_tile - 1) / p->heads_a_tile;
    p->row_tiles = (sw_blocks(a->n_q, 64) + p->rows_a_tile - 1) / p->rows_a_tile;
    p->tiles = a->n_kv_heads * p->row_tiles * p->parts;
    return true;
}

template <int D>
enum sw_status launch(const params &p, int processors, cudaStream_t stream)
{
    cudaError_t e = cudaFuncSetAttribute(
        attend_kernel<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, layout<D>::BYTES);
    if (e != cudaSuccess)
        return cuda_failed(e, "shared memory of the attention kernel");
    int ctas = (p.tiles + layout<D>::PAIRS - 1) / layout<D>::PAIRS;
    cudaLaunchAttribute dependent = {};
    dependent.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    dependent.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)(ctas < processors ? ctas : processors));
    config.blockDim = dim3(layout<D>::THREADS);
    config.dynamicSmemBytes = layout<D>::BYTES;
    config.stream = stream;
    config.attrs = &dependent;
    config.numAttrs = 1;
    e = cudaLaunchKernelEx(&config, attend_kernel<D>, p);
    if (e == cudaSuccess)
        return SW_OK;
    (void)cudaGetLastError();
    return cuda_failed(e, "attention kernel");
}

} /* namespace */

extern "C" bool sw_hopper_attend_supports(const struct sw_attend *a)
{
    int device, major, minor;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess ||
        major != 9 || minor != 0)
        return false;
    if (a->batch < 1 || a->n_q < 1 || a->n_k < a->n_q || a->kv_stride < a->n_k ||
        a->n_kv_heads < 1 || a->n_heads % a->n_kv_heads != 0 ||
        (a->head_dim != 64 && a->head_dim != 128) || !(a->scale > 0.f))
        return false;
    if (((uintptr_t)a->q | (uintptr_t)a->k | (uintptr_t)a->v | (uintptr_t)a->out) % 16 != 0)
        return false;
    params p;
    return tile_plan(a, &p);
}

extern "C" enum sw_status sw_hopper_attend(const struct sw_attend *a, cudaStream_t stream)
{
    if (!sw_hopper_attend_supports(a))
        return SW_FAIL(SW_EUNSUPPORTED,
                       "the Hopper attention kernel does not take this shape (head_dim %d, block "
                       "%d, %d queries, %d keys)",
                       a->head_dim, a->sel ? a->sel->block : 0, a->n_q, a->n_k);
    encode_fn fn;
    SW_TRY(find_encoder(&fn));
    int device = 0, processors = 0;
    cudaGetDevice(&device);
    cudaError_t e = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (e != cudaSuccess)
        return cuda_failed(e, "number of multiprocessors");
    unsigned *work = nullptr;
    e = cudaGetSymbolAddress((void **)&work, work_counters);
    if (e != cudaSuccess)
        return cuda_failed(e, "work counters");

    params p;
    if (!tile_plan(a, &p))
        return SW_FAIL(SW_EINTERNAL, "tile plan");
    p.n_q = a->n_q;
    p.n_heads = a->n_heads;
    p.scale_log2 = a->scale * 1.4426950408889634f;
    int d = a->head_dim, halves = d / 64;
    for (int b = 0; b < a->batch; b++) {
        static std::atomic<unsigned> calls{0};
        p.work = work + 2 * (calls.fetch_add(1) % WORK_SLOTS);
        const __nv_bfloat16 *q = (const __nv_bfloat16 *)a->q + (int64_t)b * a->n_q * a->n_heads * d;
        int64_t kv = (int64_t)b * a->kv_stride * a->n_kv_heads * d;
        const __nv_bfloat16 *k = (const __nv_bfloat16 *)a->k + kv,
                            *v = (const __nv_bfloat16 *)a->v + kv;
        p.out = (__nv_bfloat16 *)a->out + (int64_t)b * a->n_q * a->n_heads * d;
        p.indptr = a->sel ? a->sel->indptr + (int64_t)b * (a->sel->units / a->batch) * a->sel->rows
                          : nullptr;
        p.indices = a->sel ? a->sel->indices : nullptr;
        SW_TRY(encode(fn, &p.q, q, a->n_q, a->n_heads, d, 64, halves));
        SW_TRY(encode(fn, &p.k, k, a->n_k, a->n_kv_heads, d, 64, 1));
        SW_TRY(encode(fn, &p.v, v, a->n_k, a->n_kv_heads, d, 64, 1));
        SW_TRY(encode(fn, &p.k128, k, a->n_k, a->n_kv_heads, d, 128, halves));
        SW_TRY(encode(fn, &p.v128, v, a->n_k, a->n_kv_heads, d, 128, halves));
        if (d == 128)
            SW_TRY(launch<128>(p, processors, stream));
        else
            SW_TRY(launch<64>(p, processors, stream));
    }
    return SW_OK;
}
