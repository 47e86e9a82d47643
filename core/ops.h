/* ops.h: arguments of the operations that the one-hop baselines are made of (core/methods/), beside
 * those of backend.h.
 *
 * Same letters and layouts as in backend.h. Ties go to the later block everywhere: score
 * descending, then index descending, unless said otherwise. Cumulative sums that meet a threshold
 * are fp64, in the order of the sorted entries. Source: the papers named at each. */
#ifndef SW_OPS_H
#define SW_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/budget.h"

struct sw_attend;

/* One matrix a unit (a head, a KV group or all heads), fp32 in backend memory: [units, ld_rows,
 * ld], of which an operation's own rows and columns are used. Most have a row a query block and a
 * column a key block. */
struct sw_unit_matrix {
    float *data;
    int units, ld_rows, ld;
};
static inline float *sw_unit_row(const struct sw_unit_matrix *m, size_t unit, size_t row)
{
    return m->data + (unit * (size_t)m->ld_rows + row) * (size_t)m->ld;
}
/* Whether it is there and has room for rows × cols. */
static inline bool sw_unit_holds(const struct sw_unit_matrix *m, int rows, int cols)
{
    return m->data && m->units > 0 && m->ld_rows >= rows && m->ld >= cols;
}

/* What is kept, likewise: 1 where a row's query block keeps the column's key block. Entries above
 * the diagonal are 0. */
struct sw_keep_matrix {
    uint8_t *data;
    int units, ld_rows, ld;
};
static inline uint8_t *sw_keep_row(const struct sw_keep_matrix *m, size_t unit, size_t row)
{
    return m->data + (unit * (size_t)m->ld_rows + row) * (size_t)m->ld;
}
static inline bool sw_keep_holds(const struct sw_keep_matrix *m, int rows, int cols)
{
    return m->data && m->units > 0 && m->ld_rows >= rows && m->ld >= cols;
}

/* --- columns and slashes (MInference, arXiv 2407.02490; FlexPrefill, arXiv 2502.20766;
 *     SnapKV, arXiv 2404.14469) */

/* How the last queries attend: with A the causal softmax of the `last` last of in's queries (last
 * <= n_q; batch 1, sel and v ignored), columns[h,u] = Σ_t A[h,t,u] and slashes[h,δ] = Σ_t
 * A[h,t,t-δ], 0 <= u, δ < n_k. Either may be NULL. [H, ld] fp32. */
struct sw_vertical_slash {
    const struct sw_attend *in;
    int last, ld;
    float *columns, *slashes;
};

/* Sums over blocks: out[r,j] = scale · Σ_{x in block j} in[r,x], x < n. split (slashes): entry δ
 * gives 1 - (δ mod B)/B of itself to ⌊δ/B⌋ and the rest to the block after, dropped where that is
 * past the last. in [rows, ld], out [rows, ld_out], ceil(n / B) entries. */
struct sw_pool_vertical_slash {
    const float *in;
    int rows, n, ld, block;
    bool split;
    float scale;
    float *out;
    int ld_out;
};

/* out[u,i,j] = columns[u,j] + slashes[u,i-j] for j <= i, row0 <= i < row0 + rows; 0 for j > i.
 * columns, slashes [units, ld_in]. */
struct sw_vertical_slash_scores {
    const float *columns, *slashes;
    int row0, rows, b, ld_in;
    struct sw_unit_matrix out;
};

/* flags[r,x] = 1 for the k[r] best of in[r, 0 … n-1] and for x < always, else 0; those x < always
 * count among the k[r] (k[r] < always: they alone). Ties: larger x, or smaller x when small_first
 * (recent diagonals). k: host memory [rows]. in [rows, ld], flags [rows, ld]. */
struct sw_mark_top {
    const float *in;
    int rows, n, ld, always;
    const int *k;
    bool small_first;
    uint8_t *flags;
};

/* counts[r] (host) = how many of in[r, 0 … n-1], best first, have inclusive prefix sums <= limit.
 * This waits for the result. */
struct sw_count_mass {
    const float *in;
    int rows, n, ld;
    double limit;
    int *counts;
};

/* --- keep matrices */

/* keep[u,i,j] |= column of j, slash of i - j, or row i. grain 1: flags a token: block ⌊x/B⌋ has a
 * column when one of its tokens has; an offset δ reaches
 * the block offsets ⌊δ/B⌋ and ⌈δ/B⌉. grain B: flags a block; `straddle`: offset o reaches o + 1
 * too. columns, slashes [units, ld_in] (n tokens or b blocks used), whole_rows [units, ld_in] a
 * query block; each may be NULL. clear: keep is zeroed first. */
struct sw_keep_vertical_slash {
    const uint8_t *columns, *slashes, *whole_rows;
    int row0, rows, n, block, grain, ld_in;
    bool straddle, clear;
    struct sw_keep_matrix keep;
};

/* Marks the best entries of scores by cumulative score, entries j <= i only:
 *   REACH   a row: blocks 0 and i, then the best until the kept sum is at least limit · the row's
 *   total (XAttention, arXiv 2503.16428);
 *   WITHIN  a row: the longest run of best entries whose inclusive sum is <= limit, at least one
 *   (SpargeAttn, arXiv 2502.18137);
 *   UNIT    all entries of a unit sorted together (ties: later row, then later block): those with
 *   inclusive sums <= limit · rows (FlexPrefill).
 * limit: host [units]; negative marks nothing in that unit. Adds to keep; clear: zeroed first. */
enum sw_mass_rule { SW_MASS_REACH, SW_MASS_WITHIN, SW_MASS_UNIT };
struct sw_keep_mass {
    struct sw_unit_matrix scores;
    int row0, rows;
    enum sw_mass_rule rule;
    const double *limit;
    bool clear;
    uint8_t *keep; /* a keep matrix of scores' shape */
};

/* Lists from a keep matrix; the diagonal is always kept. Token rules (selection.h) when given,
 * copied into the selection: columns and slashes [units, mask_ld] a token, or queries [units,
 * ld_rows, ld, ceil(B / 64)] bits; then every listed block but the diagonal of a `queries` rule is
 * partial. */
struct sw_select_keep {
    struct sw_keep_matrix keep;
    int row0, rows;
    const uint8_t *columns, *slashes;
    int mask_ld;
    const uint64_t *queries;
    int block, n, n_q;
};

/* --- block scores of other kinds -------------------------------------------------------------- */

/* XAttention's antidiagonal scores. With groups of `stride` tokens, Z[a,c] = Σ_{x<stride}
 * <q[a·stride+stride-1-x], k[c·stride+x]>, W = softmax over the groups c <= a of scale · Z /
 * stride, out[h,i,j] = Σ_{a in block i} Σ_{c in block j} W[a,c]. Tokens that the last group lacks
 * are zero vectors. stride divides B; in as in sw_vertical_slash with n_q == n_k; a unit of out is
 * a head. n²·d/stride FLOPs a head. */
struct sw_antidiagonal {
    const struct sw_attend *in;
    int stride, block;
    struct sw_unit_matrix out;
};

/* Mean cosine similarity of a block's tokens, self pairs included (SpargeAttn): out[h,i] =
 * ‖(1/count)·Σ_t x_t/‖x_t‖‖², x_t = x[t,h] - shift[h]; a zero vector adds nothing. x [n, heads, d]
 * activations, shift [heads, d] fp32 or NULL, out [heads, ld]. */
struct sw_similarity {
    const void *x;
    int heads, head_dim, n, block;
    const float *shift;
    float *out;
    int ld;
};

/* Elementwise minimum and maximum of tokens t0 … t1-1 of x [*, heads, d] into low, high [heads, ld,
 * d], started anew when a block's first token arrives (Quest, arXiv 2406.10774). x points at token
 * t0's row. */
struct sw_extremes {
    const void *x;
    int heads, head_dim, block, t0, t1, ld;
    float *low, *high;
};

/* Quest's upper bound: out[u,j] = Σ over the heads of unit u of Σ_c max(q_c·low_c, q_c·high_c), j <
 * b. q [H, d] activations, one token; low, high [Hkv, ld_in, d]; units Hkv (heads of a group
 * summed) or H; out has one row. */
struct sw_bound_scores {
    const void *q;
    int n_heads, n_kv_heads, head_dim, b, ld_in;
    const float *low, *high;
    struct sw_unit_matrix out;
};

/* A token's own gates g[h,t,j] = scale·<q[t,h], k[kv(h),j]> over block means k [Hkv, k_ld, d] fp32;
 * q [n_q, H, d] activations, the last n_q of n tokens. */
struct sw_token_gates {
    const void *q;
    int n, n_q, n_heads, n_kv_heads, head_dim, block, k_ld;
    const float *k;
    float scale;
};

/* out[u,i,j] = Σ_{t in block i} Σ_{h in unit u} softmax_{j <= block(t)}(g[h,t,·])_j (NSA's form,
 * arXiv 2502.11089, with means for its compressor). units divides H;
 * rows: the query blocks of the n_q tokens. */
struct sw_gate_scores {
    struct sw_token_gates in;
    struct sw_unit_matrix out;
};

/* MoBA (arXiv 2502.13189): each token and head keeps the top[i] best of the blocks before its own
 * block i, all of them if fewer. keep, a unit a head: any token of the row keeps j (and the
 * diagonal); queries [H, ld_rows, ld, ceil(B / 64)]: which ones, bit t mod B. Both are written
 * whole. top: host [rows]. */
struct sw_gate_top {
    struct sw_token_gates in;
    const int *top;
    struct sw_keep_matrix keep;
    uint64_t *queries;
};

#endif
