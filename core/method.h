/* method.h: the interface of a sparse-attention method.
 *
 * A method only selects: it looks at queries and keys and says which key blocks each query block
 * attends to. One shared kernel attends, the harness counts density and takes time. To add one: one
 * file in core/methods/ and one line in core/methods/table.c; examples/method is a whole one. */
#ifndef SW_METHOD_H
#define SW_METHOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/backend.h"
#include "core/model/shape.h"
#include "core/param.h"
#include "core/selection.h"

#ifdef __cplusplus
extern "C" {
#endif

enum sw_budget_mode {
    SW_BUDGET_MATCHED,    /* every method gets the same row budgets; only the ranking differs */
    SW_BUDGET_CALIBRATED, /* the method's own rule, its threshold calibrated to the density */
    SW_BUDGET_NATIVE,     /* published defaults; density is what comes out */
};

enum sw_method_flags {
    SW_METHOD_DENSE = 1 << 0,     /* attends to everything: no selection, no density axis */
    SW_METHOD_USES_SEED = 1 << 1, /* its lists depend on the seed */
    SW_METHOD_NATIVE = 1 << 2,    /* has a native budget rule */
    SW_METHOD_PREFILL = 1 << 3,
    SW_METHOD_DECODE = 1 << 4,
};

/* Every method's parameter struct begins with this, and its table with SW_METHOD_COMMON_PARAMS, or
 * SW_METHOD_NATIVE_BLOCK where another block size is published than that of matched comparisons. */
struct sw_method_params {
    int block_size;
};
#define SW_METHOD_COMMON_PARAMS SW_METHOD_NATIVE_BLOCK(NULL, NULL)
#define SW_METHOD_NATIVE_BLOCK(size, where)                   \
    {.name = "block_size",                                    \
     .type = SW_PARAM_INT,                                    \
     .offset = offsetof(struct sw_method_params, block_size), \
     .initial = "64",                                         \
     .native = size,                                          \
     .published = where,                                      \
     .min = 16,                                               \
     .max = 256,                                              \
     .power_of_two = true,                                    \
     .help = "tokens a block (B)"}

/* What `swbench calibrate` is to find for a method of which few layers select: how many such
 * layers, and whose lists the others copy; as the method's TEXT parameters of these names. */
enum sw_layer_search_kind {
    SW_SEARCH_NONE,
    SW_SEARCH_MASS, /* whose lists keep most of the later layers' attention mass */
    SW_SEARCH_LOSS, /* without which, one after the other, the model's loss grows least */
};
struct sw_layer_search {
    enum sw_layer_search_kind kind;
    int count;          /* of layers that select, the first one that the method sees among them */
    int units;          /* lists a layer: 1, Hkv or H */
    const char *layers; /* the layers' numbers, ascending, by commas */
    const char
        *sources; /* a layer's units' sources by commas, layers by slashes; NULL: not wanted */
};

struct sw_sequence;
struct sw_layer_input;

struct sw_method {
    const char *name;
    const char *summary; /* one line for `ls methods` */
    const char *source;  /* paper, file or section followed */
    unsigned flags;
    size_t params_size;            /* bytes of its parameter struct */
    const struct sw_param *params; /* its table */
    size_t state_size;             /* bytes of per-sequence state, zeroed before begin */

    /* calibrated budgets: the REAL parameter whose growth keeps more, or with threshold_falls less;
     * NULL: the method has none */
    const char *threshold;
    bool threshold_falls;

    /* Checks parameters against each other and the shape: SW_EINPUT or SW_EUNSUPPORTED, with the
     * reason. May be NULL. */
    enum sw_status (*check)(const void *params, const struct sw_shape *shape,
                            enum sw_budget_mode mode);
    /* Whether the density axis decides anything under these parameters; NULL: yes. Below are two
     * common answers. */
    bool (*uses_density)(const void *params, enum sw_budget_mode mode);
    /* Which layers are still to be found by a search; NULL: the method has no such thing. Until
     * then all layers select. */
    struct sw_layer_search (*layer_search)(const void *params, const struct sw_shape *shape);
    /* DENSE methods: which kernel attends; NULL: the best there is. */
    enum sw_attend_kernel (*dense_kernel)(const void *params);
    /* Allocates for one sequence of at most seq->max_tokens. May be NULL. */
    enum sw_status (*begin)(struct sw_sequence *seq);
    /* Selects for layer in->layer; NULL out: only updates state (the attention of this phase is
     * dense). */
    enum sw_status (*prefill)(struct sw_sequence *seq, const struct sw_layer_input *in,
                              struct sw_selection *out);
    enum sw_status (*decode)(struct sw_sequence *seq, const struct sw_layer_input *in,
                             struct sw_selection *out);
    /* After prefill or decode of `in`: the raw scores of its rows of blocks, in the backend's
     * memory, where the method makes something else of them before it ranks; NULL data: it has
     * none. May be NULL. */
    struct sw_unit_matrix (*raw_scores)(struct sw_sequence *seq, const struct sw_layer_input *in);
    /* Frees what begin and later calls allocated; also called after a failed begin. May be NULL. */
    void (*end)(struct sw_sequence *seq);
};

/* What a method sees of one layer: prefill has n_q == n, decode n_q == 1 (the query of the last
 * token, whose key is already in k). */
struct sw_layer_input {
    int layer;
    int n, n_q;    /* key tokens, query tokens */
    const void *q; /* [n_q, H, d] after RoPE, backend memory */
    const void *k; /* [n, Hkv, d] */
    const void *v; /* likewise; NULL where the caller has none, which most methods do not need */
};

/* One sequence being attended to by one method. */
struct sw_sequence {
    const struct sw_method *method;
    const void *params;
    void *state;
    struct sw_backend *backend;
    struct sw_shape shape;
    int max_tokens; /* prompt + decode */
    double density; /* asked for, in (0, 1] */
    enum sw_budget_mode mode;
    uint64_t seed;
    int dense_layers; /* the first layers, which the method never sees */
    float scale;      /* of the true logits */

    /* Kept by method.c: row budgets of the prompt, shared by all layers. */
    int budget_n;
    int *budget; /* [b] host memory */
    struct sw_forced budget_forced;
    bool floored; /* the forced set alone exceeds the density */
};

/* Creates and frees; between them, per layer in ascending order from dense_layers: prefill once,
 * then decode for each new token. */
SW_MUST_CHECK enum sw_status sw_sequence_begin(struct sw_sequence **out,
                                               const struct sw_method *method, const void *params,
                                               struct sw_backend *backend,
                                               const struct sw_shape *shape, int max_tokens,
                                               double density, enum sw_budget_mode mode,
                                               uint64_t seed, int dense_layers);
void sw_sequence_end(struct sw_sequence *seq); /* NULL is fine */

SW_MUST_CHECK enum sw_status sw_sequence_prefill(struct sw_sequence *seq,
                                                 const struct sw_layer_input *in,
                                                 struct sw_selection *out);
SW_MUST_CHECK enum sw_status sw_sequence_decode(struct sw_sequence *seq,
                                                const struct sw_layer_input *in,
                                                struct sw_selection *out);

/* uses_density of methods whose density counts under a matched budget alone, and under every budget
 * but the native one. */
bool sw_density_if_matched(const void *params, enum sw_budget_mode mode);
bool sw_density_unless_native(const void *params, enum sw_budget_mode mode);

/* For methods: B, where token t's row of the keys begins, and the matched choice of the best-scored
 * blocks. scores' rows are those of sw_select_top. */
int sw_sequence_block(const struct sw_sequence *seq);
const void *sw_sequence_key(const struct sw_sequence *seq, const struct sw_layer_input *in, int t);
/* The input's dense attention, whole: what operations that look at true logits are asked with. */
struct sw_attend sw_sequence_attend(const struct sw_sequence *seq, const struct sw_layer_input *in);
SW_MUST_CHECK enum sw_status sw_sequence_select(struct sw_sequence *seq,
                                                const struct sw_layer_input *in,
                                                struct sw_unit_matrix scores,
                                                struct sw_forced forced, struct sw_selection *out);

/* The walk's step (scale_rows), then sw_sequence_select from its out, in fewer launches where the
 * backend can. */
SW_MUST_CHECK enum sw_status sw_sequence_walk_select(struct sw_sequence *seq,
                                                     const struct sw_layer_input *in,
                                                     const struct sw_walk *walk,
                                                     struct sw_forced forced,
                                                     struct sw_selection *out);

/* The forced set alone, whatever the density (native sink + window). */
SW_MUST_CHECK enum sw_status sw_sequence_select_forced(struct sw_sequence *seq,
                                                       const struct sw_layer_input *in, int units,
                                                       struct sw_forced forced,
                                                       struct sw_selection *out);

/* The best-scored blocks by a constant number: at most `blocks` a row in all, the forced ones and
 * the diagonal among them (native top-k rules). */
SW_MUST_CHECK enum sw_status sw_sequence_select_count(struct sw_sequence *seq,
                                                      const struct sw_layer_input *in,
                                                      struct sw_unit_matrix scores, int blocks,
                                                      struct sw_forced forced,
                                                      struct sw_selection *out);

/* The matched budget alone, for selections that sw_sequence_select cannot make: off-diagonal blocks
 * of each of the input's rows (one in decode), host memory until the next call. */
SW_MUST_CHECK enum sw_status sw_sequence_budget(struct sw_sequence *seq,
                                                const struct sw_layer_input *in,
                                                struct sw_forced forced, const int **budget);

extern const struct sw_method *const sw_methods[]; /* core/methods/table.c; ends with NULL */
/* Whether every method of a table has what its flags promise: its functions, a parameter table with
 * help, ranges and valid defaults, a threshold that exists, a name of its own. Called once, at
 * start. SW_EINTERNAL: the method and what it lacks. */
SW_MUST_CHECK enum sw_status sw_methods_check(const struct sw_method *const *methods);
const struct sw_method *sw_method_find(const char *name);

#ifdef __cplusplus
}
#endif
#endif
