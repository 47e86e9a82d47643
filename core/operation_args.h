/* operation_args.h: the arguments of the backend's operations (core/operations.h), by what they are
 * about.
 *
 * Layouts, everywhere: activations [tokens, heads, head_dim]; per-unit matrices [unit, row, ld]
 * with ld >= used columns; a unit is what has a list of its own: a head, a KV group, or all heads.
 * Letters: n tokens, d head_dim, H heads, Hkv KV heads, B block size, b = ceil(n / B) blocks, r
 * sketch size. Pointers named void* hold activations in the backend's own type, float* holds fp32,
 * both in backend memory; host memory is said to be. Ties go to the later block everywhere: score
 * descending, then index descending, unless said otherwise. Cumulative sums that meet a threshold
 * are fp64, in the order of the sorted entries. */
#ifndef SW_OPERATION_ARGS_H
#define SW_OPERATION_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/budget.h"
#include "core/selection.h"

/* --- matrices --------------------------------------------------------------------------------- */

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

/* --- attention -------------------------------------------------------------------------------- */

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

/* True block mass: out[h, i, j] = mean over the queries t of block i of Σ_{u in j, u <= t}
 * P[h,t,u], P the dense causal softmax. A unit of out is a head; rows cover query blocks of the n_q
 * last positions (n_q = n_k, or 1). batch must be 1, sel ignored. */
struct sw_block_mass {
    struct sw_attend in;
    int block;
    struct sw_unit_matrix out;
};

/* --- sketches of blocks and scores between them ----------------------------------------------- */

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
 * causal: j <= row0 + i only, the rest 0. clamp: x is held to [-clamp, clamp]; 0: it is not.
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
    float scale, clamp, exponent;
    bool softmax, causal, pool_rows;
    const float *column_scores;
    struct sw_unit_matrix out;
};

/* Mean over units of in / units of out consecutive units; rows × cols of both are used. */
struct sw_mean_units {
    struct sw_unit_matrix in;
    int rows, cols;
    struct sw_unit_matrix out;
};

/* The best of units of in / units of out consecutive units: out[u,i,j] = the largest of theirs, j <
 * cols. by_rank: minus the best place that one of them gives j, best is 0: place = rank · units +
 * unit, a unit's columns ranked by score descending, then j descending, so that the union of the
 * units' lists in the order of rank, then of units, has j at the same place among all (LessIsMore,
 * arXiv 2508.07101). causal: of row i the columns j <= row0 + i alone, 0 after them. */
enum { SW_EXACT_PLACES = 1 << 24 }; /* units · cols where it ranks: fp32 counts so far */
struct sw_best_units {
    struct sw_unit_matrix in;
    int rows, row0, cols;
    bool by_rank, causal;
    struct sw_unit_matrix out;
};

/* out = alpha·x + beta·y over rows × cols of each unit; x and y have out's shape, y may be out, and
 * NULL where beta is 0. */
struct sw_blend {
    const float *x, *y;
    float alpha, beta;
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

/* --- the walk --------------------------------------------------------------------------------- */

/* out = alpha·anchor + beta·(x · a), per unit. x and anchor have out's shape; their rows 0 … rows-1
 * stand for query blocks row0 …; of a, which has out's units and ld, b × b are used. causal: x, a
 * and anchor are lower triangular, skip what is zero. scale_rows: afterwards divide each row by its
 * largest |entry| (rows of zeros stay). anchor may be NULL when alpha == 0. out may not alias x or
 * a; it may alias anchor. */
struct sw_walk {
    int rows, row0, b;
    const float *x, *anchor;
    struct sw_unit_matrix a;
    float alpha, beta;
    bool causal, scale_rows;
    struct sw_unit_matrix out;
};

/* out = (in / m)^exponent over rows × cols of each unit, m the unit's largest |in| (zeros stay
 * zeros). keep_sign: sign(in) · (|in| / m)^exponent. out may be in. */
struct sw_sharpen {
    struct sw_unit_matrix in;
    int rows, cols;
    float exponent;
    bool keep_sign;
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

/* One decode step of one layer of Sketch&Walk (softmax form, one unit, causal), fused: what pool,
 * sketch, block_scores, walk with scale_rows and select_top do one after the other for the token n
 * - 1, whose block is c, in each of `batch` sequences of one length. In place: k_sums [batch, ld,
 * d] and k_sketch [batch, ld, r] take the token's key; row c of the cached matrices a [batch, ld,
 * ld] becomes the query's sharpened softmax; out [batch, ld] = x · a, rescaled by its maximum, or
 * row c itself where x is NULL (the first sparse layer, or no walk). ld is a multiple of 4, and a
 * zero above its diagonal. Then the best blocks by out. q [batch, H, d], k [Hkv, d]: the token's,
 * activations; the next sequence's k lies k_stride values on. out may not alias x; what it holds
 * from the last block to the next multiple of 4 is not defined. */
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

/* --- from scores to lists --------------------------------------------------------------------- */

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
 * window_blocks trailing blocks. Kept whole is every j <= i, candidate or not, whose score is
 * strictly above the interpolated `quantile` of the candidates' (none is where there are none), and
 * with whole_ends those sink and window blocks. Besides, the pairs t - u < window or u < sink are
 * kept (partial blocks where not whole). Rows i >= dense_from keep everything. */
struct sw_select_quantile {
    struct sw_unit_matrix scores;
    int row0, rows;
    int sink_blocks, window_blocks, window, sink, dense_from;
    bool whole_ends;
    double quantile;
    int block, n, n_q;
};

/* --- columns and slashes ----------------------------------------------------------------------
 * MInference, arXiv 2407.02490; FlexPrefill, arXiv 2502.20766; SnapKV, arXiv 2404.14469. */

/* How the last queries attend: with A the causal softmax of the `last` last of in's queries (last
 * <= n_q; batch 1, sel and v ignored), columns[h,u] = Σ_t A[h,t,u] and slashes[h,δ] = Σ_t
 * A[h,t,t-δ], 0 <= u, δ < n_k. Either may be NULL. [H, ld] fp32. */
struct sw_vertical_slash {
    const struct sw_attend *in;
    int last, ld;
    float *columns, *slashes;
};

/* Sums over blocks: out[r,j] = scale · Σ_{x in block j} in[r,x], x < n. largest: the largest
 * instead of the sum. split (slashes): entry δ gives 1 - (δ mod B)/B of itself to ⌊δ/B⌋ and the
 * rest to the block after, dropped where that is past the last; not with largest. from_end (not
 * with split): blocks are counted from n - 1 back, so that the first one may be short, not the
 * last. in [rows, ld], out [rows, ld_out], ceil(n / B) entries. */
struct sw_pool_vertical_slash {
    const float *in;
    int rows, n, ld, block;
    bool from_end;
    bool split, largest;
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

/* --- rules that mark what is kept, and lists of that ------------------------------------------ */

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

/* Marks the best entries of scores by a share of the scores, entries j <= i only:
 *   REACH   a row: blocks 0 and i, then the best until the kept sum is at least limit · the row's
 *   total (XAttention, arXiv 2503.16428);
 *   REACH_LATE  a row: as that, but block i alone counts first, one block more than needed is kept
 *   (where limit > 0), and block 0 whatever it counts (XAttention's released first chunk);
 *   WITHIN  a row: the longest run of best entries whose inclusive sum is <= limit, at least one
 *   (SpargeAttn, arXiv 2502.18137);
 *   UNIT    all entries of a unit sorted together (ties: later row, then later block): those with
 *   inclusive sums <= limit · rows (FlexPrefill);
 *   FRACTION  a row: the entries of at least limit · the row's largest (FlashPrefill, arXiv
 *   2603.06199).
 * limit: host [units]; negative marks nothing in that unit. Adds to keep; clear: zeroed first. */
enum sw_mass_rule {
    SW_MASS_REACH,
    SW_MASS_REACH_LATE,
    SW_MASS_WITHIN,
    SW_MASS_UNIT,
    SW_MASS_FRACTION,
};
struct sw_keep_mass {
    struct sw_unit_matrix scores;
    int row0, rows;
    enum sw_mass_rule rule;
    const double *limit;
    bool clear;
    uint8_t *keep; /* a keep matrix of scores' shape */
};

/* Lists from a keep matrix; the diagonal is always kept, or where it is free and another block of
 * the row is kept, as the matrix has it. Token rules (selection.h) when given, copied into the
 * selection: columns and slashes [units, mask_ld] a token, or queries or keys [units, ld_rows, ld,
 * ceil(B / 64)] bits; then every listed block but the diagonal of a `queries` rule is partial. */
struct sw_select_keep {
    struct sw_keep_matrix keep;
    int row0, rows;
    const uint8_t *columns, *slashes;
    int mask_ld;
    const uint64_t *queries, *keys; /* one of them */
    bool free_diagonal;
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

/* Stem's scores (arXiv 2603.06274): the mean over the groups a of block i and c of block j of scale
 * · Z[a,c] / stride, Z as above but of all pairs, and bonus times the mean over block j's groups of
 * max(0, z). z: how far the log of a group's largest ‖v‖ (+ 1e-6) is above the mean of its KV
 * head's whole groups, in standard deviations (n - 1; + 1e-6); 0 of fewer than two. Groups that the
 * last block lacks count as zeros. After the diagonal: -infinity, so that rows can be ranked
 * together. in as in sw_antidiagonal, with v; stride divides B. b²·stride·d FLOPs a head. */
struct sw_stride_scores {
    const struct sw_attend *in;
    int stride, block;
    float bonus;
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

/* Compact codes of key tokens, by which a decode step ranks single tokens; words [heads, ld,
 * sw_code_words], ld tokens of room.
 *
 * HADAMARD (Adamas, arXiv 2510.18413): of the unnormalised Walsh–Hadamard transform y of a head's
 * key (zeros up to p, a power of two), how many of -10, 0 and 10 lie below y_c: 0 … 3. A token has
 * p / 32 words of the codes' high bits, then as many of their low bits: bit c mod 32 of word c
 * / 32.
 *
 * MINMAX4 (Double Sparsity, Twilight): 4 bits, round((k_c - low) / step), step = (high - low) / 15,
 * of the token's own extremes over the channels at hand. A token has 8 channels a word, the first
 * in the lowest bits, then low and step as fp32. channels [heads, n_channels]: which ones, in this
 * order; NULL: all of them, n_channels == head_dim. */
enum sw_code_kind { SW_CODES_HADAMARD, SW_CODES_MINMAX4 };
struct sw_token_codes {
    enum sw_code_kind kind;
    int heads, head_dim, n_channels, ld;
    const int32_t *channels;
    uint32_t *words;
};
static inline int sw_code_transform(int head_dim)
{
    int p = 32;
    while (p < head_dim)
        p *= 2;
    return p;
}
static inline int sw_code_words(const struct sw_token_codes *c)
{
    return c->kind == SW_CODES_HADAMARD ? sw_code_transform(c->head_dim) / 16
                                        : (c->n_channels + 7) / 8 + 2;
}

/* Writes the codes of tokens t0 … t1-1; x [*, heads, d] activations points at token t0's row. */
struct sw_code_tokens {
    struct sw_token_codes to;
    const void *x;
    int t0, t1;
};

/* One query token q [n_heads, d] against the codes of tokens 0 … n-1: out[h,0,u] = minus the L1
 * distance of the codes of q and of the key (HADAMARD), or scale · <q, the key that its code stands
 * for> over its channels (MINMAX4). last_is_best: out[h,0,n-1] is infinite. A unit of out is a
 * query head, its one row has a column a token. */
struct sw_code_scores {
    struct sw_token_codes from;
    const void *q;
    int n_heads, n;
    float scale;
    bool last_is_best;
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
 * arXiv 2502.11089, with means for its compressor). complete: over the blocks that end at or before
 * t, and 0 where there is none. units divides H; rows: the query blocks of the n_q tokens.
 * row_softmax: one softmax a row of blocks in the place of one a token, so that tokens with large
 * gates weigh more: Σ_t exp(g[h,t,j] - m), m the largest gate that a token of the row sees, divided
 * by the row's sum (FlashPrefill, arXiv 2603.06199). A unit is a head then. */
struct sw_gate_scores {
    struct sw_token_gates in;
    bool complete, row_softmax;
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
