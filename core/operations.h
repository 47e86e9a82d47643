/* operations.h: the list of everything that a backend can do.
 *
 * Included wherever something is made of each operation, with these two defined before; it
 * undefines them at its end: SW_OPERATION(need, name, parameters)       returns enum sw_status
 *   SW_FUNCTION(need, type, name, parameters)  cannot fail
 * From it come the functions of struct sw_backend (core/backend.h), the check that an opened
 * backend lacks none (core/backend.c), and the prototypes and tables of both backends: a function
 * of kernels/ is called sw_cpu_NAME or sw_cuda_NAME. The number by which the program knows a CUDA
 * module that was built for another interface is a hash of these headers (kernels/CMakeLists.txt).
 *
 * need:
 *   REQUIRED   every backend has it;
 *   OPTIONAL   may be NULL: its comment says what the caller does then. The CPU has none of these;
 *   RECORDING  all of them or none.
 *
 * To add one:
 *   1. core/operation_args.h: the struct of its arguments, with shapes, units and source;
 *   2. here: one row;
 *   3. kernels/cpu/…/X.c: sw_cpu_NAME;
 *   4. kernels/cuda/…/X.cu, a file of the same name: sw_cuda_NAME;
 *   5. tests/kernels/cases/…/X.c: a case, which serves its test, parity and timing. */

/* It takes the declarations for products. */
/* clang-format off */

/* Waits for what is queued and frees the backend, not what was allocated from it. */
SW_FUNCTION(REQUIRED, void, close, (struct sw_backend *be))

/* --- memory ----------------------------------------------------------------------------------- */

/* 64-byte-aligned, uninitialised memory, which is counted; free(NULL) is fine. */
SW_OPERATION(REQUIRED, alloc, (struct sw_backend *be, size_t bytes, void **out))
SW_FUNCTION(REQUIRED, void, free, (struct sw_backend *be, void *p))
/* Peak since the last reset; reset sets it to what is in use. */
SW_FUNCTION(REQUIRED, size_t, peak_bytes, (struct sw_backend *be, bool reset))
/* What could still be allocated, about. */
SW_FUNCTION(REQUIRED, size_t, free_bytes, (struct sw_backend *be))
SW_OPERATION(REQUIRED, upload, (struct sw_backend *be, void *dst, const void *src, size_t bytes))
SW_OPERATION(REQUIRED, download, (struct sw_backend *be, void *dst, const void *src, size_t bytes))
SW_OPERATION(REQUIRED, copy, (struct sw_backend *be, void *dst, const void *src, size_t bytes))
SW_OPERATION(REQUIRED, zero, (struct sw_backend *be, void *dst, size_t bytes))
/* Host values of type `from` into activations at dst, and back to host fp32. */
SW_OPERATION(REQUIRED, upload_act,
             (struct sw_backend *be, void *dst, const void *src, enum sw_dtype from, size_t count))
SW_OPERATION(REQUIRED, download_act,
             (struct sw_backend *be, float *dst, const void *src, size_t count))

/* --- time ------------------------------------------------------------------------------------- */

/* mark queues a time stamp (slots 0 … SW_TIMER_SLOTS-1); elapsed_ms waits for both. */
SW_OPERATION(REQUIRED, mark, (struct sw_backend *be, int slot))
SW_OPERATION(REQUIRED, elapsed_ms, (struct sw_backend *be, int from, int to, double *ms))
SW_OPERATION(REQUIRED, sync, (struct sw_backend *be))
/* Makes the next reads cold, by reading something else, not by writing. */
SW_OPERATION(REQUIRED, flush_cache, (struct sw_backend *be))
/* The processor's clock now, MHz; 0 when it cannot be told. NULL: never. */
SW_FUNCTION(OPTIONAL, int, clock_mhz, (struct sw_backend *be))

/* What is queued between record_begin and record_end (time stamps and flushes too) is kept, not
 * run; record_run queues it once, as one launch. Arrays handed over meanwhile are copied; what
 * waits for a result (download, sync, head) is SW_EUNSUPPORTED. record_drop forgets a recording,
 * begun or ended. One recording at a time. NULL where a call costs little: the caller queues one by
 * one. */
SW_OPERATION(RECORDING, record_begin, (struct sw_backend *be))
SW_OPERATION(RECORDING, record_end, (struct sw_backend *be))
SW_OPERATION(RECORDING, record_run, (struct sw_backend *be))
SW_FUNCTION(RECORDING, void, record_drop, (struct sw_backend *be))

/* --- a model's layers -------------------------------------------------------------------------
 * All [rows, width] row-major activations. */

SW_OPERATION(REQUIRED, embed,
             (struct sw_backend *be, const void *table, const int32_t *ids_host, int rows,
              int width, void *out))
/* out may be x. */
SW_OPERATION(REQUIRED, rmsnorm,
             (struct sw_backend *be, const void *x, const void *weight, int rows, int width,
              float eps, void *out))
/* out[rows, n_out] = x[rows, n_in] · w[n_out, n_in]ᵀ (+ bias[n_out]); accumulate: added to what out
 * holds. */
SW_OPERATION(REQUIRED, linear,
             (struct sw_backend *be, const void *x, const void *w, const void *bias, int rows,
              int n_in, int n_out, bool accumulate, void *out))
/* Rotate-half RoPE in place on x [rows, heads, d]; row t is at position pos0 + t. inv_freq [d/2]
 * fp32 backend memory; factor multiplies cos and sin (1 unless yarn). */
SW_OPERATION(REQUIRED, rope,
             (struct sw_backend *be, void *x, int rows, int heads, int d, int pos0,
              const float *inv_freq, float factor))
/* out may be gate. */
SW_OPERATION(REQUIRED, swiglu,
             (struct sw_backend *be, const void *gate, const void *up, size_t count, void *out))
/* Natural-log loss of targets (host ids) under logits = x · wᵀ, fp32 accumulation, chunked over
 * rows so that [rows, vocab] is never whole; nll_host[rows]. And the first best id per row, -1 when
 * no logit is a number. Either output may be NULL. Waits for the result. */
SW_OPERATION(REQUIRED, head,
             (struct sw_backend *be, const void *x, const void *w, int rows, int n_in, int vocab,
              const int32_t *targets_host, float *nll_host, int32_t *argmax_host))

/* --- attention -------------------------------------------------------------------------------- */

SW_OPERATION(REQUIRED, attend, (struct sw_backend *be, const struct sw_attend *a))
/* Whether attend takes out == q in calls like this one, and gives the same bits. Our own kernels do
 * with more than one query, dense or sparse: who writes some rows of a head has read their queries,
 * and nobody else reads them. A library promises nothing; a query that is alone is read by many.
 * The call's q, k, v and out may still be NULL. */
SW_FUNCTION(REQUIRED, bool, attend_in_place, (struct sw_backend *be, const struct sw_attend *a))
SW_OPERATION(REQUIRED, block_mass, (struct sw_backend *be, const struct sw_block_mass *a))

/* --- scores of blocks ------------------------------------------------------------------------- */

SW_OPERATION(REQUIRED, pool, (struct sw_backend *be, const struct sw_pool *a))
SW_OPERATION(REQUIRED, sketch, (struct sw_backend *be, const struct sw_sketch *a))
/* For each of `count` pairs pool, then sketch of the blocks that its tokens touch (sketches[i].sums
 * == pools[i].sums, n == t1). NULL: pool and sketch do it, in more launches. */
SW_OPERATION(OPTIONAL, pool_sketch,
             (struct sw_backend *be, const struct sw_pool *pools, const struct sw_sketch *sketches,
              int count))
SW_OPERATION(REQUIRED, block_scores, (struct sw_backend *be, const struct sw_block_scores *a))
SW_OPERATION(REQUIRED, mean_units, (struct sw_backend *be, const struct sw_mean_units *a))
SW_OPERATION(REQUIRED, best_units, (struct sw_backend *be, const struct sw_best_units *a))
SW_OPERATION(REQUIRED, blend, (struct sw_backend *be, const struct sw_blend *a))
SW_OPERATION(REQUIRED, hash_scores, (struct sw_backend *be, const struct sw_hash_scores *a))
SW_OPERATION(REQUIRED, vertical_slash, (struct sw_backend *be, const struct sw_vertical_slash *a))
SW_OPERATION(REQUIRED, pool_vertical_slash,
             (struct sw_backend *be, const struct sw_pool_vertical_slash *a))
SW_OPERATION(REQUIRED, vertical_slash_scores,
             (struct sw_backend *be, const struct sw_vertical_slash_scores *a))
SW_OPERATION(REQUIRED, antidiagonal, (struct sw_backend *be, const struct sw_antidiagonal *a))
SW_OPERATION(REQUIRED, stride_scores, (struct sw_backend *be, const struct sw_stride_scores *a))
SW_OPERATION(REQUIRED, similarity, (struct sw_backend *be, const struct sw_similarity *a))
SW_OPERATION(REQUIRED, extremes, (struct sw_backend *be, const struct sw_extremes *a))
SW_OPERATION(REQUIRED, bound_scores, (struct sw_backend *be, const struct sw_bound_scores *a))
SW_OPERATION(REQUIRED, code_tokens, (struct sw_backend *be, const struct sw_code_tokens *a))
SW_OPERATION(REQUIRED, code_scores, (struct sw_backend *be, const struct sw_code_scores *a))
SW_OPERATION(REQUIRED, gate_scores, (struct sw_backend *be, const struct sw_gate_scores *a))

/* --- the walk --------------------------------------------------------------------------------- */

SW_OPERATION(REQUIRED, sharpen, (struct sw_backend *be, const struct sw_sharpen *a))
SW_OPERATION(REQUIRED, walk, (struct sw_backend *be, const struct sw_walk *a))
SW_OPERATION(REQUIRED, running, (struct sw_backend *be, const struct sw_running *a))
/* walk with scale_rows, then select_top from its out (top->scores is walk->out). NULL: these two do
 * it, in more launches. */
SW_OPERATION(OPTIONAL, walk_top,
             (struct sw_backend *be, const struct sw_walk *walk, const struct sw_select_top *top,
              struct sw_selection *out))
/* NULL, or SW_EUNSUPPORTED with nothing changed: its parts do it. */
SW_OPERATION(OPTIONAL, walk_step,
             (struct sw_backend *be, const struct sw_walk_step *a, struct sw_selection *out))

/* --- what is kept ----------------------------------------------------------------------------- */

SW_OPERATION(REQUIRED, select_top,
             (struct sw_backend *be, const struct sw_select_top *a, struct sw_selection *out))
SW_OPERATION(REQUIRED, select_quantile,
             (struct sw_backend *be, const struct sw_select_quantile *a, struct sw_selection *out))
SW_OPERATION(REQUIRED, select_keep,
             (struct sw_backend *be, const struct sw_select_keep *a, struct sw_selection *out))
SW_OPERATION(REQUIRED, mark_top, (struct sw_backend *be, const struct sw_mark_top *a))
/* Waits for the result. */
SW_OPERATION(REQUIRED, count_mass, (struct sw_backend *be, const struct sw_count_mass *a))
SW_OPERATION(REQUIRED, keep_mass, (struct sw_backend *be, const struct sw_keep_mass *a))
SW_OPERATION(REQUIRED, keep_vertical_slash,
             (struct sw_backend *be, const struct sw_keep_vertical_slash *a))
SW_OPERATION(REQUIRED, gate_top, (struct sw_backend *be, const struct sw_gate_top *a))

/* clang-format on */

#undef SW_OPERATION
#undef SW_FUNCTION
