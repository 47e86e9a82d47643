/* backend.h: the operations that methods and models are made of, once per kind of device.
 *
 * M methods and K backends cost M + K: a method is host code over these operations and never knows
 * where it runs. Pointers named void* hold activations in the backend's own type (`act`: fp32 on
 * cpu, bf16 on cuda), float* holds fp32, both in backend memory. Operations are queued in order;
 * only download, sync and timer reads wait for them.
 *
 * Layouts, everywhere: activations [tokens, heads, head_dim]; per-unit matrices [unit, row, ld]
 * with ld >= used columns. Letters: n tokens, d head_dim, H heads, Hkv KV heads, B block size, b =
 * ceil(n / B) blocks, r sketch size.
 *
 * Errors: SW_ENOMEM (message has the bytes asked and free), SW_EDEVICE (sticky device error),
 * SW_EUNSUPPORTED (a shape that a kernel of this backend does not handle; `why` in the message),
 * SW_EINTERNAL for arguments that break a contract below. */
#ifndef SW_BACKEND_H
#define SW_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/budget.h"
#include "core/model/shape.h"
#include "core/ops.h"
#include "core/selection.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum sw_dtype { SW_F32, SW_F16, SW_BF16 };
static inline size_t sw_dtype_size(enum sw_dtype t) { return t == SW_F32 ? 4 : 2; }

/* Which kernel attends. A sparse call has one choice; a dense one can be held to the vendor's
 * library or to our own kernel, so that both are rows of one table. SW_EUNSUPPORTED where a backend
 * has no such library, or it does not take the shape. */
enum sw_attend_kernel { SW_ATTEND_BEST, SW_ATTEND_LIBRARY, SW_ATTEND_OWN };

/* Attention of n_q queries, the last n_q of n_k positions: query t sits at position n_k - n_q + t
 * and sees keys up to itself. q, out [batch, n_q, H, d]; k, v [batch, kv_stride, Hkv, d] of which
 * the first n_k tokens are used.
 * sel == NULL: dense, by the best kernel of the backend. Otherwise sel->units is batch × (1, Hkv or
 * H) and its rows cover exactly the queries' blocks; n_q == n_k or n_q == 1 or (n_k - n_q) a
 * multiple of sel->block.
 * out may be q where attend_in_place says so; else it overlaps no input. */
struct sw_attend {
    int batch, n_q, n_k, n_heads, n_kv_heads, head_dim;
    int64_t kv_stride;
    const void *q, *k, *v;
    void *out;
    float scale; /* 1/sqrt(d) unless the model says otherwise */
    const struct sw_selection *sel;
    enum sw_attend_kernel kernel;
};

/* Adds tokens t0 … t1-1 of x [*, heads, d] to per-block sums [units, ld, d], in token order (so
 * that prefill and token-by-token decode give the same bits). units divides heads: each unit is the
 * mean of its heads/units heads. A block's sum is zeroed when its first token arrives. Token t
 * belongs to block t / B; x points at token t0's row. */
struct sw_pool {
    const void *x;
    int heads, head_dim, units, block, t0, t1, ld;
    float *sums;
};

/* The sketch transform S·H·D of sketch-and-walk: see core/methods/shared/sketch.h, which makes
 * it. */
struct sw_srht {
    int d, d_pow2, r;
    float scale;         /* applied to the r kept coordinates */
    const float *signs;  /* [d_pow2] ±1, backend memory */
    const int32_t *keep; /* [r] kept coordinates, backend memory */
};

/* out[u, i, :] = transform(sums[u, i, :] / count_i), i0 <= i < i1; count_i = real tokens of block i
 * among n (or B when padded). transform NULL: the mean itself (r = d). sums [units, ld, d], out
 * [units, ld, r]. */
struct sw_sketch {
    const float *sums;
    int units, ld, d, block, n, i0, i1;
    bool padded_tail;
    const struct sw_srht *transform;
    float *out;
};

/* Block scores. x[uq,i,j] = scale·⟨q[uq,i],k[uk,j]⟩, uk = uq·units_k/units_q, for 0 <= j < b;
 * causal: j <= row0 + i only, the rest 0.
 * softmax: over the allowed j. column_scores [units_k, k_ld] (NULL: none): where it is a number,
 * column j is left out of the softmax and gets that number in its allowed rows, whatever the
 * exponent; NaN: a column like any other. Then each entry to the power `exponent` (1: as it is).
 * Then the mean over units_q/units of out consecutive units. q [units_q, q_ld, r] (rows 0 …
 * rows-1 used), k [units_k, k_ld, r].
 * pool_rows: the rows' scores are averaged into one output row (decode with a query window); all
 * rows then share row0. */
struct sw_block_scores {
    const float *q, *k;
    int units_q, units_k, rows, row0, b, r, q_ld, k_ld;
    float scale, exponent;
    bool softmax, causal, pool_rows;
    const float *column_scores;
    struct sw_unit_matrix out;
};

/* out = alpha·anchor + beta·(x · a), per unit. x and anchor have out's shape; their rows 0 … rows-1
 * stand for query blocks row0 …; of a, which has out's units and ld, b × b are used. causal: x and
 * a are lower triangular, skip what is zero. scale_rows: afterwards divide each row by its maximum
 * (rows of zeros stay). anchor may be NULL when alpha == 0. out may not alias x or a; it may alias
 * anchor. */
struct sw_walk {
    int rows, row0, b;
    const float *x, *anchor;
    struct sw_unit_matrix a;
    float alpha, beta;
    bool causal, scale_rows;
    struct sw_unit_matrix out;
};

/* Running average of the current block's row, and column, in the cached block matrix a (icml
 * decode):
 * a[c,:] += w·(row - a[c,:]), rows renormalised; then column c likewise with row's values (i <= b;
 * causal: only i = c), rows renormalised. w = 1 / tokens in block c. Columns >= b of row c are left
 * alone. */
struct sw_running {
    int c, b;
    float weight;
    bool causal;
    const float *row; /* [units, row_ld] */
    int row_ld;
    struct sw_unit_matrix a;
};

/* One decode step of one layer of Sketch&Walk (arxiv form, one unit, causal), fused: what pool,
 * sketch, block_scores, walk with scale_rows and select_top do one after the other for the token n
 * - 1, whose block is c, in each of `batch` sequences of one length. In place: k_sums [batch, ld,
 * d] and k_sketch [batch, ld, r] take the token's key; row c of the cached matrices a [batch, ld,
 * ld] becomes the query's sharpened softmax; out [batch, ld] = x · a, rescaled by its maximum, or
 * row c itself where x is NULL (the first sparse layer, or no walk). ld is a multiple of 4, and a
 * zero above its diagonal. Then the best blocks by out. q [batch, H, d], k [Hkv, d]: the token's,
 * activations; the next sequence's k lies k_stride values on. out may not alias x. */
struct sw_walk_step {
    int batch;
    int64_t k_stride;
    const void *q, *k;
    int n_heads, n_kv_heads, head_dim, block, n, ld;
    const struct sw_srht *transform;
    bool padded_tail;
    float scale, exponent;
    float *k_sums, *k_sketch, *a;
    const float *x;
    float *out;
    int kept; /* off-diagonal blocks */
    struct sw_forced forced;
};

/* Top blocks per row. scores.data NULL: the score of j is j, i.e. most recent first. Row i keeps
 * the forced set, then the best others until budget[i - row0] off-diagonal blocks are kept, and the
 * diagonal; ascending. Order: score descending, then j descending; NaN last; -0 is +0. budget: host
 * memory, m_i >= forced count, <= i. */
struct sw_select_top {
    struct sw_unit_matrix scores;
    int row0, rows;
    const int *budget;
    struct sw_forced forced;
    int block, n, n_q; /* copied into the selection */
};

/* Native icml rule. Row i: candidates are j <= i outside the first sink_blocks and the
 * window_blocks trailing blocks; kept whole when strictly above the interpolated `quantile` of the
 * candidates' scores. Besides, the pairs t - u < window or u < sink are kept (partial blocks where
 * not whole). Rows i >= dense_from keep everything. */
struct sw_select_quantile {
    struct sw_unit_matrix scores;
    int row0, rows;
    int sink_blocks, window_blocks, window, sink, dense_from;
    double quantile;
    int block, n, n_q;
};

/* True block mass: out[h, i, j] = mean over the queries t of block i of Σ_{u in j, u <= t}
 * P[h,t,u], P the dense causal softmax. A unit of out is a head; rows cover query blocks of the n_q
 * last positions (n_q = n_k, or 1). batch must be 1, sel ignored. */
struct sw_block_mass {
    struct sw_attend in;
    int block;
    struct sw_unit_matrix out;
};

/* Mean over units of in / units of out consecutive units; rows × cols of both are used. */
struct sw_mean_units {
    struct sw_unit_matrix in;
    int rows, cols;
    struct sw_unit_matrix out;
};

/* out[u,i,j] = hash of (seed, layer, u, row0+i, j) as a uniform in [0,1): SW_RNG_RANDOM_METHOD,
 * index = ((layer·units + u) << 40) | (i << 20) | j. */
struct sw_hash_scores {
    uint64_t seed;
    int layer, row0, rows, cols;
    struct sw_unit_matrix out;
};

struct sw_backend {
    const char *name;  /* "cpu", "cuda" */
    char device[128];  /* human name of the processor or GPU */
    char details[512]; /* instruction set, threads, library versions: for provenance */
    /* which of its kernels it runs, of those that the environment or the build could have it run
     * instead ("isa=avx2 …"): part of a cell's key */
    char variant[128];
    enum sw_dtype act;              /* type of activations, weights and KV cache */
    double flops, bytes_per_second; /* sustained, roughly: for estimates before a run */
    int threads;                    /* host threads used; results never depend on it */
    /* linear and head: among so few rows a row's result has the same bits as alone; at least 1 */
    int rows_alike;
    void *impl;

    void (*close)(struct sw_backend *be);

    /* Memory. alloc gives 64-byte-aligned, uninitialised memory and counts it; free(NULL) is
     * fine. */
    enum sw_status (*alloc)(struct sw_backend *be, size_t bytes, void **out) SW_MUST_CHECK;
    void (*free)(struct sw_backend *be, void *p);
    /* peak since the last reset; reset sets it to what is in use */
    size_t (*peak_bytes)(struct sw_backend *be, bool reset);
    /* what could still be allocated, about */
    size_t (*free_bytes)(struct sw_backend *be);
    enum sw_status (*upload)(struct sw_backend *be, void *dst, const void *src, size_t bytes)
        SW_MUST_CHECK;
    enum sw_status (*download)(struct sw_backend *be, void *dst, const void *src, size_t bytes)
        SW_MUST_CHECK;
    enum sw_status (*copy)(struct sw_backend *be, void *dst, const void *src, size_t bytes)
        SW_MUST_CHECK;
    enum sw_status (*zero)(struct sw_backend *be, void *dst, size_t bytes) SW_MUST_CHECK;
    /* Host values of type `from` into activations at dst, and back to host fp32. */
    enum sw_status (*upload_act)(struct sw_backend *be, void *dst, const void *src,
                                 enum sw_dtype from, size_t count) SW_MUST_CHECK;
    enum sw_status (*download_act)(struct sw_backend *be, float *dst, const void *src, size_t count)
        SW_MUST_CHECK;

    /* Time. mark(slot) queues a time stamp (slots 0 … SW_TIMER_SLOTS-1); elapsed waits for both.
     * flush_cache makes the next reads cold by reading, not writing. */
    enum sw_status (*mark)(struct sw_backend *be, int slot) SW_MUST_CHECK;
    enum sw_status (*elapsed_ms)(struct sw_backend *be, int from, int to, double *ms) SW_MUST_CHECK;
    enum sw_status (*sync)(struct sw_backend *be) SW_MUST_CHECK;
    enum sw_status (*flush_cache)(struct sw_backend *be) SW_MUST_CHECK;
    /* the processor's clock now, MHz; 0 when it cannot be told. NULL: never */
    int (*clock_mhz)(struct sw_backend *be);

    /* Recording: what is queued between record_begin and record_end (time stamps and flushes too)
     * is kept, not run; record_run queues it once, as one launch. Arrays handed over meanwhile are
     * copied; what waits for a result (download, sync, head) is SW_EUNSUPPORTED. record_drop
     * forgets a recording, begun or ended. One recording at a time. All NULL where a backend has no
     * such thing: there a call costs little. */
    enum sw_status (*record_begin)(struct sw_backend *be) SW_MUST_CHECK;
    enum sw_status (*record_end)(struct sw_backend *be) SW_MUST_CHECK;
    enum sw_status (*record_run)(struct sw_backend *be) SW_MUST_CHECK;
    void (*record_drop)(struct sw_backend *be);

    /* Model. All [rows, width] row-major activations; rmsnorm and swiglu may work in place (out ==
     * x, out == gate). */
    enum sw_status (*embed)(struct sw_backend *be, const void *table, const int32_t *ids_host,
                            int rows, int width, void *out) SW_MUST_CHECK;
    enum sw_status (*rmsnorm)(struct sw_backend *be, const void *x, const void *weight, int rows,
                              int width, float eps, void *out) SW_MUST_CHECK;
    /* out[rows, n_out] = x[rows, n_in] · w[n_out, n_in]ᵀ (+ bias[n_out]); accumulate: added to what
     * out holds. */
    enum sw_status (*linear)(struct sw_backend *be, const void *x, const void *w, const void *bias,
                             int rows, int n_in, int n_out, bool accumulate, void *out)
        SW_MUST_CHECK;
    /* Rotate-half RoPE in place on x [rows, heads, d]; row t is at position pos0 + t. inv_freq
     * [d/2] fp32 backend memory; attention factor multiplies cos and sin (1 unless yarn). */
    enum sw_status (*rope)(struct sw_backend *be, void *x, int rows, int heads, int d, int pos0,
                           const float *inv_freq, float factor) SW_MUST_CHECK;
    enum sw_status (*swiglu)(struct sw_backend *be, const void *gate, const void *up, size_t count,
                             void *out) SW_MUST_CHECK;
    /* Natural-log loss of targets (host ids) under logits = x · wᵀ, fp32 accumulation, chunked over
     * rows so that [rows, vocab] is never whole; nll_host[rows]. And the first best id per row, -1
     * when no logit is a number. Either output may be NULL. These two wait for the result. */
    enum sw_status (*head)(struct sw_backend *be, const void *x, const void *w, int rows, int n_in,
                           int vocab, const int32_t *targets_host, float *nll_host,
                           int32_t *argmax_host) SW_MUST_CHECK;

    /* Attention and selection. */
    enum sw_status (*attend)(struct sw_backend *be, const struct sw_attend *a) SW_MUST_CHECK;
    /* Whether attend takes out == q in calls like this one, and gives the same bits. Our own
     * kernels do with more than one query, dense or sparse: who writes some rows of a head has read
     * their queries, and nobody else reads them. A library promises nothing; a query that is alone
     * is read by many. The call's q, k, v and out may still be NULL. */
    bool (*attend_in_place)(struct sw_backend *be, const struct sw_attend *a);
    enum sw_status (*pool)(struct sw_backend *be, const struct sw_pool *a) SW_MUST_CHECK;
    enum sw_status (*sketch)(struct sw_backend *be, const struct sw_sketch *a) SW_MUST_CHECK;
    enum sw_status (*block_scores)(struct sw_backend *be, const struct sw_block_scores *a)
        SW_MUST_CHECK;
    enum sw_status (*walk)(struct sw_backend *be, const struct sw_walk *a) SW_MUST_CHECK;
    enum sw_status (*running)(struct sw_backend *be, const struct sw_running *a) SW_MUST_CHECK;
    enum sw_status (*select_top)(struct sw_backend *be, const struct sw_select_top *a,
                                 struct sw_selection *out) SW_MUST_CHECK;
    enum sw_status (*select_quantile)(struct sw_backend *be, const struct sw_select_quantile *a,
                                      struct sw_selection *out) SW_MUST_CHECK;
    enum sw_status (*block_mass)(struct sw_backend *be, const struct sw_block_mass *a)
        SW_MUST_CHECK;
    enum sw_status (*mean_units)(struct sw_backend *be, const struct sw_mean_units *a)
        SW_MUST_CHECK;
    enum sw_status (*hash_scores)(struct sw_backend *be, const struct sw_hash_scores *a)
        SW_MUST_CHECK;

    /* May be NULL, as what they do can be had from others, in more launches. pool_sketch: for each
     * of `count` pairs pool, then sketch of the blocks that its tokens touch (sketches[i].sums ==
     * pools[i].sums, n == t1). walk_top: walk with scale_rows, then select_top from its out
     * (top->scores is walk->out). */
    enum sw_status (*pool_sketch)(struct sw_backend *be, const struct sw_pool *pools,
                                  const struct sw_sketch *sketches, int count) SW_MUST_CHECK;
    enum sw_status (*walk_top)(struct sw_backend *be, const struct sw_walk *walk,
                               const struct sw_select_top *top, struct sw_selection *out)
        SW_MUST_CHECK;
    /* May be NULL: then its parts do it. SW_EUNSUPPORTED likewise, with nothing changed. */
    enum sw_status (*walk_step)(struct sw_backend *be, const struct sw_walk_step *a,
                                struct sw_selection *out) SW_MUST_CHECK;

    /* Of the one-hop baselines: core/ops.h. */
    enum sw_status (*vertical_slash)(struct sw_backend *be, const struct sw_vertical_slash *a)
        SW_MUST_CHECK;
    enum sw_status (*pool_vertical_slash)(struct sw_backend *be,
                                          const struct sw_pool_vertical_slash *a) SW_MUST_CHECK;
    enum sw_status (*vertical_slash_scores)(struct sw_backend *be,
                                            const struct sw_vertical_slash_scores *a) SW_MUST_CHECK;
    enum sw_status (*mark_top)(struct sw_backend *be, const struct sw_mark_top *a) SW_MUST_CHECK;
    enum sw_status (*count_mass)(struct sw_backend *be, const struct sw_count_mass *a)
        SW_MUST_CHECK;
    enum sw_status (*keep_vertical_slash)(struct sw_backend *be,
                                          const struct sw_keep_vertical_slash *a) SW_MUST_CHECK;
    enum sw_status (*keep_mass)(struct sw_backend *be, const struct sw_keep_mass *a) SW_MUST_CHECK;
    enum sw_status (*select_keep)(struct sw_backend *be, const struct sw_select_keep *a,
                                  struct sw_selection *out) SW_MUST_CHECK;
    enum sw_status (*antidiagonal)(struct sw_backend *be, const struct sw_antidiagonal *a)
        SW_MUST_CHECK;
    enum sw_status (*similarity)(struct sw_backend *be, const struct sw_similarity *a)
        SW_MUST_CHECK;
    enum sw_status (*extremes)(struct sw_backend *be, const struct sw_extremes *a) SW_MUST_CHECK;
    enum sw_status (*bound_scores)(struct sw_backend *be, const struct sw_bound_scores *a)
        SW_MUST_CHECK;
    enum sw_status (*gate_scores)(struct sw_backend *be, const struct sw_gate_scores *a)
        SW_MUST_CHECK;
    enum sw_status (*gate_top)(struct sw_backend *be, const struct sw_gate_top *a) SW_MUST_CHECK;
};

enum { SW_TIMER_SLOTS = 1024 }; /* made when first used */

/* Opens "cpu", "cuda" or "auto" (cuda when there is a driver and a device, else cpu). threads <= 0:
 * all cores (or SWBENCH_THREADS). SW_EINPUT when the asked backend is not in this build or has no
 * device; the message says which. */
SW_MUST_CHECK enum sw_status sw_backend_open(const char *name, int threads,
                                             struct sw_backend **out);
void sw_backend_close(struct sw_backend *be); /* NULL is fine */

/* One line a backend for `swbench ls backends`: is it built in, is there a device. Returns text. */
const char *sw_backend_state(const char *name, char *text, size_t size);
extern const char *const sw_backend_names[]; /* ends with NULL */

/* Makers, one per folder of kernels/. */
SW_MUST_CHECK enum sw_status sw_cpu_backend_open(int threads, struct sw_backend **out);

#ifdef __cplusplus
}
#endif
#endif
