/* attend_hopper.h: prefill attention on Hopper (sm_90a: wgmma and TMA), dense and block-sparse, one
 * kernel for both.
 *
 * bf16 in and out, fp32 accumulation. Layouts and meaning are those of struct sw_attend with
 * everything in device memory. */
#ifndef SW_ATTEND_HOPPER_H
#define SW_ATTEND_HOPPER_H

#include <stdbool.h>

#include <cuda_runtime_api.h>

#include "core/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whether this kernel takes the call, on the current device: compute capability 9.0, head_dim 64 or
 * 128, blocks of 64 or 128 kept whole (sel->whole == NULL), lists per batch × (1, Hkv or H), n_k -
 * n_q a multiple of 64 (of 128 where two query tiles share a list: see tile_plan). Two heads share
 * the K/V traffic where they share a list; with one list a head and B = 64 nothing is shared and
 * the rate is about two thirds. */
bool sw_hopper_attend_supports(const struct sw_attend *a);

/* Queues the attention on `stream`. SW_EUNSUPPORTED where supports() says no, SW_EDEVICE when a
 * CUDA call fails. The order of additions does not depend on how tiles meet multiprocessors: the
 * same inputs give the same bits. Up to 64 calls may be in flight at a time, whatever their
 * streams. out may be q: a tile's queries are fetched by that tile alone, all of them before its
 * first output is stored. */
SW_MUST_CHECK enum sw_status sw_hopper_attend(const struct sw_attend *a, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
