/* cases.h: a case of an operation is written once (cases/ROOM/FILE.c, named as the kernel's file)
 * and serves three programs: check_ops (CPU against double precision), parity_cuda (CUDA against
 * the CPU) and bench/bench_ops (time). To add an operation:
 *   1. a table of shapes, and make(), which says what one of them takes and gives;
 *   2. run(), the call; 3. reference(), the same in double, with the error that is allowed;
 *   4. SW_CASES(NAME, …) of these, with the difference that CUDA may have, and a line in
 *      SW_ALL_CASES below. The test kernels/every_op fails until an operation has its cases. */
#ifndef SW_TEST_CASES_H
#define SW_TEST_CASES_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend.h"
#include "core/rng.h"

/* --- what a case takes and gives -------------------------------------------------------------- */

enum sw_kind {
    SW_NONE,
    SW_ACTS,   /* activations, in the backend's type */
    SW_FLOATS, /* fp32 … and flags, and bit masks, all in the backend's memory */
    SW_BYTES,
    SW_WORDS,
    SW_INTS,
    SW_HOST, /* memory that the operation reads on the host */
    SW_HOST_FLOATS,
    SW_HOST_INTS, /* results that it leaves on the host */
    SW_LIST       /* a selection */
};

/* Which part of [units, ld_rows, ld] is in use: rows × cols of each unit. */
struct sw_extent {
    int units, ld_rows, ld, rows, cols;
};

struct sw_expected {
    double want, allowed; /* want NaN: not written; allowed infinite: anything */
};

enum { SW_SLOTS = 16 };
struct sw_tensor {
    enum sw_kind kind;
    bool written; /* an output; with `host` it starts with these values, else poisoned */
    bool loose;   /* what lies outside the extent may be written too */
    bool hidden;  /* NaN marks what CUDA may not look at; the CPU gets zeros there */
    struct sw_extent of;
    size_t given; /* values in host; a longer tensor repeats them */
    void *host;   /* values of an input: float, uint8_t, uint64_t, int32_t */
    struct sw_expected *expected;
    struct sw_selection list; /* of a SW_LIST input, in host memory */
};

/* How far CUDA's values may be from the CPU's. */
enum sw_rule {
    SW_SAME_BITS,
    SW_ABSOLUTE,
    SW_OF_LARGEST, /* times the largest value of the tensor */
    SW_OF_ROW,     /* times the largest value of the row */
    SW_ROUNDINGS,  /* so many bf16 roundings of the value */
    SW_ANY         /* compare() looks at it */
};
struct sw_bound {
    enum sw_rule rule;
    double size, slack; /* slack: of ROUNDINGS, added */
};

enum sw_use { SW_CHECK, SW_PARITY, SW_TIME };

struct sw_case {
    const struct sw_cases *of;
    const void *shape;
    int variant; /* 0 … of->variants - 1 */
    enum sw_use use;
    uint64_t seed;
    struct sw_tensor slot[SW_SLOTS];
    void *extra;                    /* make's own; freed with free() */
    struct sw_bound cuda[SW_SLOTS]; /* of->cuda, unless make() says otherwise */
    bool refused;                   /* CUDA may say SW_EUNSUPPORTED; never to a case without this */
    bool cold;                      /* timed with a flushed cache */
};

/* What a run left in the outputs, in host memory: floats for activations. */
struct sw_result {
    bool none; /* the backend does not take the case */
    void *of[SW_SLOTS];
    struct sw_selection list[SW_SLOTS];
};

struct sw_shapes {
    const void *first;
    size_t size, count;
};
#define SW_SHAPES(table) {(table), sizeof *(table), sizeof(table) / sizeof *(table)}

struct sw_cases {
    const char *file;   /* __FILE__ */
    const char *name;   /* the operation's, or what is made of several */
    const char *covers; /* the operations that it is a test of, spaces between; NULL: name */
    const char *fields; /* names of the ints that a shape begins with, for messages */
    int variants;       /* each shape so many times; 0: once */
    /* shapes: checked everywhere. large: CUDA only, too long for loops in double. timed: for
     * bench_ops. each: more of them, made in loops; it calls sw_case_try. */
    struct sw_shapes shapes, large, timed;
    void (*each)(enum sw_use use, bool large);
    void (*make)(struct sw_case *c);
    /* at[slot]: the backend's memory, host memory or a struct sw_selection */
    enum sw_status (*run)(struct sw_case *c, struct sw_backend *be, void *const *at);
    void (*reference)(struct sw_case *c);
    /* What no single value shows. `who` for messages; on CUDA with parity's bf16 inputs. */
    void (*check)(struct sw_case *c, struct sw_backend *be, const struct sw_result *got);
    struct sw_bound cuda[SW_SLOTS];
    bool cuda_alone; /* check() knows what is right: no run on the CPU to compare with */
    bool repeatable; /* CUDA's bits are the same in every run */
    /* CUDA's result beside the CPU's, where a bound is not enough */
    void (*compare)(struct sw_case *c, const struct sw_result *cpu, const struct sw_result *cuda);
    /* Examples worked by hand and refused arguments: on every instruction set of the CPU. */
    void (*more)(struct sw_backend *be);
    /* For timing: multiplications and additions, and bytes that must move. Either may stay 0. */
    void (*cost)(const struct sw_case *c, double *flops, double *bytes);
};

/* clang-format off */
#define SW_ALL_CASES(X)                                                                            \
    /* device */    X(memory) X(conversions) X(time) X(recorded_prompt)                           \
    /* model */     X(linear) X(head) X(rmsnorm) X(rope) X(swiglu) X(embed)                        \
    /* attention */ X(attend) X(attend_extreme) X(block_mass)                                      \
    /* selection */ X(pool) X(sketch) X(pool_sketch) X(mean_units) X(best_units) X(blend)          \
                    X(hash_scores)                                                                 \
                    X(block_scores) X(sharpen) X(walk) X(walk_top) X(walk_step) X(running)         \
                    X(select_top) X(select_quantile) X(select_keep)                                \
                    X(mark_top) X(count_mass) X(keep_vertical_slash) X(keep_mass)                  \
                    X(vertical_slash) X(pool_vertical_slash) X(vertical_slash_scores)              \
                    X(antidiagonal) X(stride_scores) X(similarity) X(extremes)                     \
                    X(bound_scores)                                                                \
                    X(code_tokens) X(code_scores) X(gate_scores) X(gate_top)
/* clang-format on */
#define SW_CASES(name_, ...) \
    const struct sw_cases sw_cases_##name_ = {.file = __FILE__, .name = #name_, __VA_ARGS__}
#define SW_DECLARE(name) extern const struct sw_cases sw_cases_##name;
SW_ALL_CASES(SW_DECLARE)
extern const struct sw_cases *const sw_all_cases[]; /* ends with NULL */

/* --- for make() ------------------------------------------------------------------------------- */

/* Inputs. Normal values, bf16 ones for CUDA; write over them at will. */
float *sw_take_acts(struct sw_case *c, int slot, size_t count);
float *sw_take_floats(struct sw_case *c, int slot, size_t count);
/* 1 by a chance of one in `one_in`. */
uint8_t *sw_take_flags(struct sw_case *c, int slot, size_t count, int one_in);
void *sw_take_host(struct sw_case *c, int slot, size_t bytes); /* zeros */
void *sw_take_ints(struct sw_case *c, int slot, size_t count); /* zeros */
uint64_t *sw_take_words(struct sw_case *c, int slot, size_t count);
struct sw_selection *sw_take_list(struct sw_case *c, int slot);
/* Outputs: poisoned, between guards. */
void sw_give(struct sw_case *c, int slot, enum sw_kind kind, struct sw_extent of);
void sw_give_list(struct sw_case *c, int slot);
/* A matrix that is changed in place: normal values to begin with. */
void *sw_change(struct sw_case *c, int slot, enum sw_kind kind, struct sw_extent of);
/* A sketch transform: signs in `slot`, kept coordinates in slot + 1; sw_srht_at gives it to run. */
void sw_take_srht(struct sw_case *c, int slot, int d, int r);
struct sw_srht sw_srht_at(void *const *at, int slot, int d, int r, float scale);
int sw_pow2_at_least(int d);

/* --- for run() -------------------------------------------------------------------------------- */

/* A tensor as the operations take it. */
struct sw_unit_matrix sw_matrix(const struct sw_case *c, void *const *at, int slot);
struct sw_keep_matrix sw_keep_at(const struct sw_case *c, void *const *at, int slot);

/* --- for reference() and check() ---------------------------------------------------------------
 */

void sw_want(struct sw_case *c, int slot, int unit, int row, int col, double want, double allowed);
/* Counts a check; prints it, with the case, when it does not hold. */
#define sw_holds(ok, ...) sw_holds_(ok, __FILE__, __LINE__, __VA_ARGS__)
void sw_holds_(bool ok, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
#define sw_near(got, want, allowed)                                                          \
    sw_holds(fabs((got) - (want)) <= (allowed), #got " is %.9g, should be %.9g within %.2g", \
             (double)(got), (double)(want), (double)(allowed))
/* A call that must succeed; without it nothing can go on. */
void sw_must(enum sw_status st, const char *what);
/* A call that must be refused, with a message. */
#define sw_refused(st, code) sw_refused_(st, code, __FILE__, __LINE__)
void sw_refused_(enum sw_status st, enum sw_status code, const char *file, int line);

void sw_same_lists(const char *what, const struct sw_selection *x, const struct sw_selection *y);
float sw_bf16_round(float x);
void *sw_need(size_t bytes);                               /* zeroed memory, or the end */
int sw_int(uint64_t seed, uint64_t index, int lo, int hi); /* uniform in [lo, hi] */
/* task(context, i) for 0 <= i < count, over threads. */
void sw_in_parallel(int count, void (*task)(void *context, int i), void *context);

/* --- for each() and the programs ---------------------------------------------------------------
 */

/* What a program does with a case. */
typedef void sw_case_do(struct sw_case *c);
/* All shapes and variants of an operation, those of `large` if wanted. */
void sw_cases_each(const struct sw_cases *of, enum sw_use use, bool large, sw_case_do *with);
/* For each(): a shape with all its variants. */
void sw_case_try(const struct sw_cases *of, const void *shape);
/* "selection/pool sketch": the kernel's file and the operation. Does `only` occur in it? */
const char *sw_cases_title(const struct sw_cases *of);
bool sw_cases_match(const struct sw_cases *of, const char *only);
const char *sw_case_text(const struct sw_case *c); /* "n 75 H 6 d 24, variant 2" */

/* Memory of a case in a backend. */
struct sw_memory {
    struct sw_backend *be;
    void *whole[SW_SLOTS], *at[SW_SLOTS]; /* with its guards, and what run() gets */
    struct sw_selection list[SW_SLOTS];
};
void sw_memory_make(struct sw_memory *m, const struct sw_case *c, struct sw_backend *be);
void sw_memory_free(struct sw_memory *m, const struct sw_case *c);
/* A tensor's values, to be freed; what lies before and behind it must be as it was. */
void *sw_memory_fetch(const struct sw_memory *m, const struct sw_case *c, int slot);
/* Runs a case on a backend, looks at the guards, fetches what it left. */
struct sw_result sw_case_run(struct sw_case *c, struct sw_backend *be);
void sw_result_free(struct sw_result *r);

void sw_compare_expected(const struct sw_case *c, const struct sw_result *got);
void sw_compare_bits(const struct sw_case *c, const struct sw_result *x, const struct sw_result *y);
void sw_compare_bounds(const struct sw_case *c, const struct sw_result *cpu,
                       const struct sw_result *cuda);

/* What messages say before anything else: "avx2, 3 threads". */
void sw_say_where(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
extern int sw_checks, sw_failures;

#endif
