/* cpu.h: what the files of the CPU backend share. */
#ifndef SW_CPU_H
#define SW_CPU_H

#include <time.h>

#include "core/backend.h"
#include "kernels/cpu/device/vec.h"
#include "kernels/cpu/device/workers.h"

struct cpu {
    struct sw_workers *workers;
    const struct sw_vec *vec;
    size_t in_use, peak;
    void *scratch; /* kept from call to call; counted while an operation uses it */
    size_t scratch_bytes, scratch_counted;
    float *flush;
    size_t flush_floats;
    struct timespec marks[SW_TIMER_SLOTS];
};

static inline struct cpu *cpu_of(struct sw_backend *be) { return be->impl; }

/* memory.c */
/* Working memory for one operation, 64-byte aligned, until scratch_done. Asking again before that
 * is an error. */
SW_MUST_CHECK enum sw_status sw_cpu_scratch(struct sw_backend *be, size_t bytes, void **out);
void sw_cpu_scratch_done(struct sw_backend *be);
void sw_cpu_memory_close(struct cpu *c);
enum sw_status sw_cpu_alloc(struct sw_backend *be, size_t bytes, void **out) SW_MUST_CHECK;
void sw_cpu_free(struct sw_backend *be, void *p);
size_t sw_cpu_peak_bytes(struct sw_backend *be, bool reset);
size_t sw_cpu_free_bytes(struct sw_backend *be);
enum sw_status sw_cpu_copy(struct sw_backend *be, void *dst, const void *src, size_t bytes)
    SW_MUST_CHECK;
enum sw_status sw_cpu_zero(struct sw_backend *be, void *dst, size_t bytes) SW_MUST_CHECK;
enum sw_status sw_cpu_upload_act(struct sw_backend *be, void *dst, const void *src,
                                 enum sw_dtype from, size_t count) SW_MUST_CHECK;
enum sw_status sw_cpu_download_act(struct sw_backend *be, float *dst, const void *src, size_t count)
    SW_MUST_CHECK;

/* model_ops.c */
enum sw_status sw_cpu_embed(struct sw_backend *be, const void *table, const int32_t *ids, int rows,
                            int width, void *out) SW_MUST_CHECK;
enum sw_status sw_cpu_rmsnorm(struct sw_backend *be, const void *x, const void *weight, int rows,
                              int width, float eps, void *out) SW_MUST_CHECK;
enum sw_status sw_cpu_rope(struct sw_backend *be, void *x, int rows, int heads, int d, int pos0,
                           const float *inv_freq, float factor) SW_MUST_CHECK;
enum sw_status sw_cpu_swiglu(struct sw_backend *be, const void *gate, const void *up, size_t count,
                             void *out) SW_MUST_CHECK;

/* linear.c */
enum sw_status sw_cpu_linear(struct sw_backend *be, const void *x, const void *w, const void *bias,
                             int rows, int n_in, int n_out, bool accumulate, void *out)
    SW_MUST_CHECK;
enum sw_status sw_cpu_head(struct sw_backend *be, const void *x, const void *w, int rows, int n_in,
                           int vocab, const int32_t *targets, float *nll, int32_t *argmax)
    SW_MUST_CHECK;

/* attend.c, decode.c, mass.c */
enum sw_status sw_cpu_attend_check(const struct sw_attend *a, const char *what) SW_MUST_CHECK;
enum sw_status sw_cpu_attend(struct sw_backend *be, const struct sw_attend *a) SW_MUST_CHECK;
bool sw_cpu_attend_in_place(struct sw_backend *be, const struct sw_attend *a);
/* The list of row `row` of a selection (unit-major, as indptr), from its entry `first` on, `blocks`
 * long. */
struct sw_key_list sw_cpu_key_list(const struct sw_selection *s, int64_t row, int first,
                                   int blocks);
enum sw_status sw_cpu_attend_decode(struct sw_backend *be, const struct sw_attend *a) SW_MUST_CHECK;
enum sw_status sw_cpu_block_mass(struct sw_backend *be, const struct sw_block_mass *a)
    SW_MUST_CHECK;
/* Packs keys (and values unless v_packed is NULL) of `count` KV heads from head g0 on (counted over
 * batch × Hkv), blocks in parallel. */
void sw_cpu_pack_heads(struct cpu *c, const struct sw_attend *a, const struct sw_tiling *t, int g0,
                       int count, float *k_packed, float *v_packed);

/* pool.c, block_scores.c, walk.c, select.c */
enum sw_status sw_cpu_pool(struct sw_backend *be, const struct sw_pool *a) SW_MUST_CHECK;
enum sw_status sw_cpu_sketch(struct sw_backend *be, const struct sw_sketch *a) SW_MUST_CHECK;
enum sw_status sw_cpu_mean_units(struct sw_backend *be, const struct sw_mean_units *a)
    SW_MUST_CHECK;
enum sw_status sw_cpu_hash_scores(struct sw_backend *be, const struct sw_hash_scores *a)
    SW_MUST_CHECK;
enum sw_status sw_cpu_block_scores(struct sw_backend *be, const struct sw_block_scores *a)
    SW_MUST_CHECK;
enum sw_status sw_cpu_walk(struct sw_backend *be, const struct sw_walk *a) SW_MUST_CHECK;
enum sw_status sw_cpu_running(struct sw_backend *be, const struct sw_running *a) SW_MUST_CHECK;
enum sw_status sw_cpu_select_top(struct sw_backend *be, const struct sw_select_top *a,
                                 struct sw_selection *out) SW_MUST_CHECK;
enum sw_status sw_cpu_select_quantile(struct sw_backend *be, const struct sw_select_quantile *a,
                                      struct sw_selection *out) SW_MUST_CHECK;

/* select_keep.c, page_bounds.c, token_gates.c */
enum sw_status sw_cpu_select_keep(struct sw_backend *be, const struct sw_select_keep *a,
                                  struct sw_selection *out) SW_MUST_CHECK;
enum sw_status sw_cpu_extremes(struct sw_backend *be, const struct sw_extremes *a) SW_MUST_CHECK;
enum sw_status sw_cpu_bound_scores(struct sw_backend *be, const struct sw_bound_scores *a)
    SW_MUST_CHECK;
enum sw_status sw_cpu_gate_scores(struct sw_backend *be, const struct sw_gate_scores *a)
    SW_MUST_CHECK;
enum sw_status sw_cpu_gate_top(struct sw_backend *be, const struct sw_gate_top *a) SW_MUST_CHECK;
/* vertical_slash.c, keep.c, antidiagonal.c, similarity.c */
enum sw_status sw_cpu_vertical_slash(struct sw_backend *be, const struct sw_vertical_slash *a)
    SW_MUST_CHECK;
enum sw_status sw_cpu_pool_vertical_slash(struct sw_backend *be,
                                          const struct sw_pool_vertical_slash *a) SW_MUST_CHECK;
enum sw_status sw_cpu_vertical_slash_scores(struct sw_backend *be,
                                            const struct sw_vertical_slash_scores *a) SW_MUST_CHECK;
enum sw_status sw_cpu_mark_top(struct sw_backend *be, const struct sw_mark_top *a) SW_MUST_CHECK;
enum sw_status sw_cpu_count_mass(struct sw_backend *be, const struct sw_count_mass *a)
    SW_MUST_CHECK;
enum sw_status sw_cpu_keep_vertical_slash(struct sw_backend *be,
                                          const struct sw_keep_vertical_slash *a) SW_MUST_CHECK;
enum sw_status sw_cpu_keep_mass(struct sw_backend *be, const struct sw_keep_mass *a) SW_MUST_CHECK;
enum sw_status sw_cpu_antidiagonal(struct sw_backend *be, const struct sw_antidiagonal *a)
    SW_MUST_CHECK;
enum sw_status sw_cpu_similarity(struct sw_backend *be, const struct sw_similarity *a)
    SW_MUST_CHECK;

/* A broken contract of core/backend.h: says which. */
#define CPU_NEED(cond)                                                                    \
    do {                                                                                  \
        if (!(cond))                                                                      \
            return SW_FAIL(SW_EINTERNAL, "%s: contract broken: %s", __func__ + 7, #cond); \
    } while (0)

#endif
