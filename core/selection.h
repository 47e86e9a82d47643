/* selection.h: which key blocks each query block attends to.
 *
 * The one currency between methods (which make selections), attention kernels (which obey them) and
 * metrics (which count them). Rows are unit-major: row (u, i) is entry u * rows + i - row0, u =
 * head unit, i = query block; its key blocks are indices[indptr[row] … indptr[row + 1]), strictly
 * ascending, each <= i, and i itself is always there, but for selections with a free diagonal.
 *
 * Token causality inside the diagonal block is the kernel's job. A block listed with whole[e] == 0
 * is kept only in part, whole == NULL means that every listed block is kept whole. In part: of the
 * causal pairs (t, u) those with t - u < window, or u < sink, or, where the array is there,
 * columns[unit, u], or slashes[unit, t - u], or bit t mod B of queries[e], or bit u mod B of
 * keys[e]. The arrays are the token masks of methods whose unit is not a block (MInference, MoBA a
 * token): their accuracy is measured with them, their time in block form. */
#ifndef SW_SELECTION_H
#define SW_SELECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/model/shape.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct sw_backend;

struct sw_selection {
    int block; /* B, tokens a block */
    int n;     /* key tokens; blocks b = ceil(n / B) */
    int units; /* 1 (shared by all heads), Hkv or H; times the batch in batched decode */
    /* query blocks row0 … row0 + rows - 1; decode: rows = 1, row0 = (n - 1) / B */
    int row0, rows;
    int n_q;          /* query tokens that the rows cover: prefill n, decode 1 (the last token) */
    int32_t *indptr;  /* [units * rows + 1] */
    int32_t *indices; /* [capacity], of which indptr[last] are used */
    uint8_t *whole;   /* NULL or [capacity] */
    int window, sink; /* tokens; used where whole[e] == 0 */
    /* a row may lack its own block (SpargeAttn's published rule); no row is empty */
    bool free_diagonal;
    /* NULL or [units, mask_ld], a token or an offset; used where whole[e] == 0 */
    uint8_t *columns, *slashes;
    int mask_ld;
    /* NULL or [capacity, ceil(block / 64)], one of them; used where whole[e] == 0 */
    uint64_t *queries, *keys;
    int64_t capacity;      /* entries allocated in indices (and whole) */
    int64_t rows_capacity; /* entries allocated in indptr, less one */
    /* the memory that columns, slashes and queries lie in, kept for the next selection */
    void *masks;
    size_t mask_bytes;
    struct sw_backend *backend; /* whose memory the arrays are in; NULL: host memory */
    /* 0, or the backend's number of the launch that fills the arrays, where attention that is
     * queued next may begin before that is over (walk_step) */
    uint64_t launch;
};

static inline int sw_blocks(int n, int block) { return (n + block - 1) / block; }
static inline int sw_query_words(int block)
{
    return (block + 63) / 64;
} /* of queries or keys, an entry */
static inline bool sw_selection_masked(const struct sw_selection *s)
{
    return s->columns || s->slashes || s->queries || s->keys;
}

/* Allocates room for `units` × `rows` rows and `capacity` entries, whole flags too when
 * with_partial, in backend memory (NULL: host). Existing larger room is reused, so that one
 * selection serves all layers. SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_selection_reserve(struct sw_selection *s,
                                                  struct sw_backend *backend, int units, int rows,
                                                  int64_t capacity, bool with_partial);

/* Room for token masks, after sw_selection_reserve with partial blocks (which leaves a selection
 * without any): mask_ld > 0 for columns and slashes, query_words = ceil(block / 64) or 0 for
 * queries, which a selection by keys moves to keys. Uninitialised; who has only one of columns and
 * slashes sets the other to NULL. SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_selection_reserve_masks(struct sw_selection *s, int mask_ld,
                                                        int query_words);

void sw_selection_free(struct sw_selection *s);

/* Copies a selection in backend memory into a host one (reserved as needed; its mask_ld is n). */
SW_MUST_CHECK enum sw_status sw_selection_to_host(const struct sw_selection *s,
                                                  struct sw_selection *host);

/* Entries that all rows of `units` × `rows` causal rows starting at row0 can hold. */
int64_t sw_selection_full_capacity(int units, int row0, int rows);

/* Host selections only: */

/* Fills the complete causal selection (every j <= i) for query blocks 0 … b-1. */
SW_MUST_CHECK enum sw_status sw_selection_full(struct sw_selection *s, int n, int block, int units);

/* Checks everything promised above (ascending, causal, diagonal present unless free, counts inside
 * capacity, masks long enough). SW_EINTERNAL: which row. */
SW_MUST_CHECK enum sw_status sw_selection_validate(const struct sw_selection *s);

/* Whether entry e, of a row of `unit`, keeps the pair of query t (a query of that row) and key u.
 */
bool sw_selection_keeps(const struct sw_selection *s, int unit, int64_t e, int t, int u);

/* Token pairs kept in entry e of row i of a unit (baselines: off-diagonal b_i·B, diagonal d_i,
 * partial ones counted pair by pair). */
int64_t sw_selection_entry_pairs(const struct sw_selection *s, int unit, int i, int64_t e);

/* Kept token pairs / causal token pairs of the same rows, averaged over units; and of one unit. */
double sw_selection_density(const struct sw_selection *s);
double sw_selection_unit_density(const struct sw_selection *s, int unit);

/* The same with every listed block counted whole: what a kernel that keeps whole blocks would
 * compute. */
double sw_selection_block_density(const struct sw_selection *s);

/* Distinct key blocks read by the heads of a KV group / causal blocks, averaged over groups and
 * rows: what decides bytes. Blocks, whole or in part: a key that one query of a block needs is read
 * for all of them. */
double sw_selection_kv_fetch_density(const struct sw_selection *s, int n_heads, int n_kv_heads);

#ifdef __cplusplus
}
#endif
#endif
