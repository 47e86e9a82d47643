/* attend.h: one attention call as the kernels see it, and the list of keys of one query block.
 *
 * A list is a run of `slots`: the kept blocks one after another, B slots each. Slot s is key
 * index[s / B] · B + s % B. Dense is the list of all blocks. Kernels walk the slots and never see
 * blocks, so that one code serves every block size that is a power of two. */
#ifndef SW_CUDA_ATTEND_H
#define SW_CUDA_ATTEND_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device/device.h"

struct attend_args {
    const bf16 *q, *k, *v;
    bf16 *out;
    int batch, n_q, n_k, H, Hkv, G, d;
    int64_t kv_stride;
    float scale_log2; /* scale · log2 e */
    /* the selection; indices == NULL: dense */
    const int32_t *indptr, *indices;
    const uint8_t *whole;
    int block_log2, rows, row0, units_per_seq, window, sink;
    /* token masks of partial blocks (selection.h); NULL: none */
    const uint8_t *columns, *slashes;
    const uint64_t *queries, *keys;
    int mask_ld, query_words;
};

struct key_list {
    const int32_t *index; /* NULL: block e is e */
    const uint8_t *whole; /* NULL: all whole */
    int block_log2, count;
    int n_k, window, sink;
    const uint8_t *columns, *slashes; /* of this unit */
    const uint64_t *queries;          /* of the first entry */
    int query_words;
};

/* The list that query head h of sequence `seq` uses in query block i. qmax: last query position
 * that uses it. */
__device__ inline key_list list_of(const attend_args &a, int seq, int h, int i, int qmax)
{
    key_list l;
    l.block_log2 = a.block_log2;
    l.n_k = a.n_k;
    l.window = a.window;
    l.sink = a.sink;
    l.columns = l.slashes = nullptr;
    l.queries = nullptr;
    l.query_words = a.query_words;
    if (!a.indices) {
        l.index = nullptr;
        l.whole = nullptr;
        l.count = (qmax >> a.block_log2) + 1;
        return l;
    }
    int unit = a.units_per_seq == 1 ? 0 : a.units_per_seq == a.H ? h : h / a.G;
    int64_t row = ((int64_t)seq * a.units_per_seq + unit) * a.rows + (i - a.row0);
    int from = a.indptr[row];
    l.index = a.indices + from;
    l.whole = a.whole ? a.whole + from : nullptr;
    int64_t masks = ((int64_t)seq * a.units_per_seq + unit) * a.mask_ld;
    if (a.columns)
        l.columns = a.columns + masks;
    if (a.slashes)
        l.slashes = a.slashes + masks;
    if (a.queries)
        l.queries = a.queries + (int64_t)from * a.query_words;
    l.count = a.indptr[row + 1] - from;
    return l;
}

__device__ inline int list_block(const key_list &l, int entry)
{
    return l.index ? l.index[entry] : entry;
}

/* Key position of a slot, or -1 when the list has no such slot or the sequence no such key. */
__device__ inline int key_of(const key_list &l, int slot)
{
    int entry = slot >> l.block_log2;
    if (entry >= l.count)
        return -1;
    int key = (list_block(l, entry) << l.block_log2) | (slot & ((1 << l.block_log2) - 1));
    return key < l.n_k ? key : -1;
}

/* Slots up to the last one that position qmax may see: the diagonal block, last in the list, counts
 * up to qmax. */
__device__ inline int list_slots(const key_list &l, int qmax)
{
    if (l.count == 0)
        return 0;
    int last = list_block(l, l.count - 1) << l.block_log2;
    int seen = min(qmax + 1 - last, 1 << l.block_log2);
    return ((l.count - 1) << l.block_log2) + max(seen, 0);
}

/* May slots [s0, s0 + 64) hold a pair that is not kept, for queries from qmin on? Lists ascend, so
 * the last slot decides. */
template <int WIDTH>
__device__ inline bool tile_needs_mask(const key_list &l, int s0, int qmin)
{
    int last = key_of(l, s0 + WIDTH - 1);
    if (last < 0 || last > qmin)
        return true;
    if (l.whole)
        for (int e = s0 >> l.block_log2; e <= (s0 + WIDTH - 1) >> l.block_log2; e++)
            if (!l.whole[e])
                return true;
    return false;
}

/* Is the pair (query position t, slot's key) kept? `partial`: the slot's block is. */
__device__ inline bool pair_kept(const key_list &l, int t, int key, int slot, bool partial)
{
    if (key < 0 || key > t)
        return false;
    if (!partial || t - key < l.window || key < l.sink || (l.columns && l.columns[key]) ||
        (l.slashes && l.slashes[t - key]))
        return true;
    int bit = t & ((1 << l.block_log2) - 1);
    return l.queries &&
           l.queries[(int64_t)(slot >> l.block_log2) * l.query_words + bit / 64] >> (bit % 64) & 1;
}
/* Is the slot's block kept in part? */
__device__ inline bool slot_partial(const key_list &l, int slot)
{
    int entry = slot >> l.block_log2;
    return l.whole && entry < l.count && !l.whole[entry];
}
/* The same, but for keys that every query of the row keeps. From the call's own arguments: a
 * pointer more in the list costs registers that the kernels do not have. */
__device__ inline bool key_partial(const attend_args &a, const key_list &l, int slot)
{
    if (!slot_partial(l, slot))
        return false;
    int bit = slot & ((1 << l.block_log2) - 1);
    int64_t entry = l.index - a.indices + (slot >> l.block_log2);
    return !(a.keys && a.keys[entry * a.query_words + bit / 64] >> (bit % 64) & 1);
}

/* out may be q: a CTA's queries are in shared memory before it writes its outputs, which lie
 * where they were, and no other CTA reads them. */
SW_MUST_CHECK enum sw_status sw_cuda_prefill(struct cuda_state *s, const attend_args &a);
/* follows_step: the selection is the last walk_step's and nothing was queued after it, so that the
 * list may be read while it is being written. out may not be q: a sequence's query is read by many
 * CTAs, and some begin before the selection, which reads it too, is over. */
SW_MUST_CHECK enum sw_status sw_cuda_decode(struct cuda_state *s, const attend_args &a,
                                            bool follows_step);

/* Fills everything but the pointers to activations that a caller overrides. SW_EUNSUPPORTED with
 * the reason. */
SW_MUST_CHECK enum sw_status sw_cuda_attend_args(struct cuda_state *s, const struct sw_attend *a,
                                                 attend_args *out);

/* Calls f<D>() with the smallest template head dimension that holds d. */
#define FOR_HEAD_DIM(d, call) \
    ((d) <= 64 ? call(64) : (d) <= 96 ? call(96) : (d) <= 128 ? call(128) : call(256))

#endif
