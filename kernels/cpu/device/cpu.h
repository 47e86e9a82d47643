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

/* The operations: core/operations.h explains each. */
#define SW_OPERATION(need, name, parameters) enum sw_status sw_cpu_##name parameters SW_MUST_CHECK;

#define SW_FUNCTION(need, type, name, parameters) type sw_cpu_##name parameters;
#include "core/operations.h"

/* device/memory.c: working memory for one operation, 64-byte aligned, until scratch_done. Asking
 * again before that is an error. */
SW_MUST_CHECK enum sw_status sw_cpu_scratch(struct sw_backend *be, size_t bytes, void **out);
void sw_cpu_scratch_done(struct sw_backend *be);
void sw_cpu_memory_close(struct cpu *c);

/* attention/attend.c */
enum sw_status sw_cpu_attend_check(const struct sw_attend *a, const char *what) SW_MUST_CHECK;
/* The list of row `row` of a selection (unit-major, as indptr), from its entry `first` on, `blocks`
 * long. */
struct sw_key_list sw_cpu_key_list(const struct sw_selection *s, int64_t row, int first,
                                   int blocks);
/* Packs keys (and values unless v_packed is NULL) of `count` KV heads from head g0 on (counted over
 * batch × Hkv), blocks in parallel. */
void sw_cpu_pack_heads(struct cpu *c, const struct sw_attend *a, const struct sw_tiling *t, int g0,
                       int count, float *k_packed, float *v_packed);
/* attention/decode.c */
enum sw_status sw_cpu_attend_decode(struct sw_backend *be, const struct sw_attend *a) SW_MUST_CHECK;

/* A broken contract of an operation: says which. __func__ is sw_cpu_NAME. */
#define CPU_NEED(cond)                                                                    \
    do {                                                                                  \
        if (!(cond))                                                                      \
            return SW_FAIL(SW_EINTERNAL, "%s: contract broken: %s", __func__ + 7, #cond); \
    } while (0)

#endif
