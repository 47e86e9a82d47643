/* vec.h: the inner loops that depend on the processor's vector width, as one table per instruction
 * set.
 *
 * vec.inc holds the code, written with GCC's vector extensions; vec_base.c, vec_avx2.c and
 * vec_avx512.c compile it with different flags; vec_choose.c picks one at run time. Results differ
 * in the last bits between instruction sets (different widths sum in different orders), never
 * between thread counts. */
#ifndef SW_CPU_VEC_H
#define SW_CPU_VEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SW_TILE_ROWS = 64,   /* queries handled together */
    SW_TILE_KEYS = 64,   /* most keys in one packed tile */
    SW_GROUP_KEYS = 128, /* keys whose scores are kept at once: a multiple of every tile */
    SW_MAX_HEAD_DIM = 256,
    SW_MAX_LANES = 16,
    SW_DECODE_HEADS = 8,  /* heads of a KV group handled together in decode */
    SW_DECODE_KEYS = 128, /* keys whose scores are kept at once in decode */
    SW_GEMV_ROWS = 4,     /* most rows of one matrix–vector product */
    /* rows of linear and head that are such products, one after the other: each row's sums are
     * then as if it were alone */
    SW_FEW_ROWS = 8,
};

/* A packed operand is a row of tiles; a tile is [panel][k][panel width]: what one pass of the
 * register kernel reads, in order. */
struct sw_tiling {
    int tile;                  /* keys a tile stands for */
    int tile_pad;              /* the same rounded up to whole vectors; the rest is zero */
    int per_block;             /* tiles a block */
    int block;                 /* keys a block */
    int d, d_pad;              /* head_dim, and rounded up to whole vectors */
    size_t k_floats, v_floats; /* floats a packed tile */
};

/* Which keys a row of queries reads: block_list[0 … n_blocks), or all blocks when NULL. whole as in
 * core/selection.h. */
struct sw_key_list {
    const int32_t *blocks;
    const uint8_t *whole;
    int n_blocks;
    int window, sink;
    const uint8_t *columns, *slashes; /* of the unit, or NULL */
    const uint64_t *queries, *keys;   /* [n_blocks, words], or NULL */
    int words;
};

struct sw_vec_attend {
    struct sw_tiling tiling;
    const float *k_packed, *v_packed; /* of this KV head */
    int n_k;
    struct sw_key_list list;
    const float *q; /* rows × d */
    float *out;
    ptrdiff_t q_stride, out_stride; /* floats */
    int rows, pos0;                 /* pos0: position of the first row */
    float scale;
};

struct sw_vec_mass {
    struct sw_tiling tiling;
    const float *k_packed;
    int n_k, n_blocks; /* blocks the rows may see */
    const float *q;
    ptrdiff_t q_stride;
    int rows, pos0;
    float scale;
    float *sums; /* [n_blocks], Σ over the rows, added to */
};

/* Part of one decode row: unnormalised output, running maximum and sum of `heads` heads over the
 * listed blocks. */
struct sw_vec_decode {
    int heads, d, block, n_k;
    const float *q; /* [heads, d] */
    float scale;
    const float *k, *v;
    ptrdiff_t stride;        /* floats between tokens */
    struct sw_key_list list; /* blocks NULL: from first_block on */
    int first_block;
    float *max, *sum; /* [heads], base-2 logarithm scale */
    float *out;       /* [heads, d] */
};

struct sw_vec {
    const char *isa;
    int lanes;
    void (*pack_keys)(const struct sw_tiling *t, const float *k, ptrdiff_t stride, int n_k,
                      int block0, int block1, float *packed);
    void (*pack_values)(const struct sw_tiling *t, const float *v, ptrdiff_t stride, int n_k,
                        int block0, int block1, float *packed);
    void (*attend)(const struct sw_vec_attend *a);
    void (*mass)(const struct sw_vec_mass *a);
    void (*decode)(const struct sw_vec_decode *a);
    /* out[r·ldo + j] = scale·Σ_c q[r·q_row + c] k[j·k_row + c], r < rows, j < cols, c < d. Every
     * sum is made in the same order, so that equal keys get equal scores and a tie between blocks
     * stays one; a BLAS product rounds its last columns otherwise than the others. */
    void (*scores)(const float *q, ptrdiff_t q_row, int rows, const float *k, ptrdiff_t k_row,
                   int cols, int d, float scale, float *out, ptrdiff_t ldo);
    /* out[r·ldo + o] (+)= Σ_i x[r·ldx + i] w[o·n_in + i], r < rows <= SW_GEMV_ROWS, o < n_out; then
     * + bias[o] unless NULL. */
    void (*gemv)(const float *x, ptrdiff_t ldx, int rows, const float *w, int n_in, int n_out,
                 const float *bias, bool accumulate, float *out, ptrdiff_t ldo);
    void (*rmsnorm)(const float *x, const float *weight, int width, float eps, float *out);
    void (*swiglu)(const float *gate, const float *up, size_t count, float *out);
    void (*rope)(float *x, const float *cos, const float *sin, int d);
    float (*max)(const float *x, int n);                /* -inf for n = 0 */
    float (*sum_exp)(const float *x, float max, int n); /* Σ exp(x - max) */
    void (*softmax)(float *x, int n);                   /* in place */
    double (*measure_fma)(long rounds);                 /* FLOPs done; time it from outside */
};

extern const struct sw_vec sw_vec_base, sw_vec_avx2, sw_vec_avx512;

/* The best one that this processor runs, or the one that SWBENCH_ISA (sse2, avx2, avx512) names;
 * NULL when that cannot run. */
const struct sw_vec *sw_vec_choose(void);

static inline int sw_round_up(int x, int to) { return (x + to - 1) / to * to; }
struct sw_tiling sw_tiling_make(const struct sw_vec *vec, int block, int head_dim);

#endif
