/* sparse.h: attention as a method does it: select, then attend; timed.
 *
 * The one code path of every experiment: a model's forward pass, a tensor bundle and a synthetic
 * workload all go through it. */
#ifndef SW_SPARSE_H
#define SW_SPARSE_H

#include "core/method.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Time stamps of a call. Parts: one between selection and attention too. Whole: none there, so that
 * a backend may let the one begin while the other ends. */
enum sw_marks { SW_MARKS_NONE, SW_MARKS_PARTS, SW_MARKS_WHOLE };

struct sw_sparse {
    struct sw_backend *backend;
    struct sw_shape shape;
    struct sw_sequence *sequence;       /* NULL: dense attention everywhere */
    bool sparse_prefill, sparse_decode; /* which phases use the method; the other is dense */
    int dense_layers;
    enum sw_attend_kernel dense_kernel; /* of dense calls */
    enum sw_marks marks;                /* time stamps to queue */
    struct sw_selection selection;      /* of the last sparse call, backend memory; reused */
};

/* Attention of one layer: n_q == n_k is a prompt, n_q == 1 a decode step. q, out [n_q, H, d]; k, v
 * [n_k, Hkv, d]. */
SW_MUST_CHECK enum sw_status sw_sparse_attend(struct sw_sparse *s, int layer, int n_q, int n_k,
                                              const void *q, const void *k, const void *v,
                                              void *out);

/* Whether `out` may be `q` for a prompt of `tokens`: all layers' kernels allow it. Sparse ones are
 * our own and always do; a dense one may be a library's. */
bool sw_sparse_in_place(const struct sw_sparse *s, int tokens);

/* Times of a layer in the last pass, which had parts or whole marked; waits for them. *select_ms is
 * NaN where only the whole was. */
SW_MUST_CHECK enum sw_status sw_sparse_times(struct sw_sparse *s, int layer, double *select_ms,
                                             double *total_ms);

void sw_sparse_free(struct sw_sparse *s); /* the selection; the sequence is the caller's */

#ifdef __cplusplus
}
#endif
#endif
