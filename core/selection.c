/* Lists of key blocks: room for them, their checks, and how many tokens they keep. */
#include "core/selection.h"

#include <stdlib.h>
#include <string.h>

#include "core/backend.h"

/* --- memory ----------------------------------------------------------------------------------- */

static enum sw_status get(struct sw_backend *be, size_t bytes, void **out)
{
    if (be)
        return be->alloc(be, bytes, out);
    *out = malloc(bytes ? bytes : 1);
    return *out ? SW_OK : SW_FAIL(SW_ENOMEM, "selection: asked %zu bytes of host memory", bytes);
}

static void drop(struct sw_backend *be, void *p)
{
    if (be)
        be->free(be, p);
    else
        free(p);
}

enum sw_status sw_selection_reserve(struct sw_selection *s, struct sw_backend *backend, int units,
                                    int rows, int64_t capacity, bool with_partial)
{
    if (s->indptr && s->backend != backend)
        sw_selection_free(s);
    s->backend = backend;
    int64_t need_rows = (int64_t)units * rows;
    if (!s->indptr || s->rows_capacity < need_rows) {
        drop(backend, s->indptr);
        s->indptr = NULL;
        s->rows_capacity = 0;
        void *p;
        SW_TRY(get(backend, (size_t)(need_rows + 1) * sizeof *s->indptr, &p));
        s->indptr = p;
        s->rows_capacity = need_rows;
    }
    if (!s->indices || s->capacity < capacity || (with_partial && !s->whole)) {
        if (capacity < s->capacity)
            capacity = s->capacity;
        drop(backend, s->indices);
        drop(backend, s->whole);
        s->indices = NULL;
        s->whole = NULL;
        s->capacity = 0;
        void *p;
        SW_TRY(get(backend, (size_t)capacity * sizeof *s->indices, &p));
        s->indices = p;
        if (with_partial) {
            SW_TRY(get(backend, (size_t)capacity, &p));
            s->whole = p;
        }
        s->capacity = capacity;
    }
    if (!with_partial && s->whole) {
        drop(backend, s->whole);
        s->whole = NULL;
    }
    s->units = units;
    s->rows = rows;
    s->window = s->sink = 0;
    s->free_diagonal = false;
    s->columns = s->slashes = NULL;
    s->queries = s->keys = NULL;
    s->mask_ld = 0;
    s->launch = 0;
    return SW_OK;
}

enum sw_status sw_selection_reserve_masks(struct sw_selection *s, int mask_ld, int query_words)
{
    size_t lines = (size_t)s->units * (size_t)mask_ld,
           words = (size_t)s->capacity * (size_t)query_words;
    size_t bytes = words * sizeof *s->queries + 2 * lines;
    if (!s->whole)
        return SW_FAIL(SW_EINTERNAL, "selection: token masks without partial blocks");
    if (!s->masks || s->mask_bytes < bytes) {
        drop(s->backend, s->masks);
        s->masks = NULL;
        s->mask_bytes = 0;
        SW_TRY(get(s->backend, bytes, &s->masks));
        s->mask_bytes = bytes;
    }
    uint8_t *at = s->masks;
    if (query_words > 0) {
        s->queries = s->masks;
        at += words * sizeof *s->queries;
    }
    if (mask_ld > 0) {
        s->columns = at;
        s->slashes = at + lines;
        s->mask_ld = mask_ld;
    }
    return SW_OK;
}

void sw_selection_free(struct sw_selection *s)
{
    drop(s->backend, s->indptr);
    drop(s->backend, s->indices);
    drop(s->backend, s->whole);
    drop(s->backend, s->masks);
    memset(s, 0, sizeof *s);
}

static enum sw_status fetch(struct sw_backend *be, void *to, const void *from, size_t bytes)
{
    if (be)
        return be->download(be, to, from, bytes);
    memcpy(to, from, bytes);
    return SW_OK;
}

/* Columns or slashes of all units, without what lies beyond the tokens; NULL stays NULL. */
static enum sw_status fetch_masks(const struct sw_selection *s, const uint8_t *from, uint8_t **to)
{
    for (int u = 0; from && u < s->units; u++)
        SW_TRY(fetch(s->backend, *to + (int64_t)u * s->n, from + (int64_t)u * s->mask_ld,
                     (size_t)s->n));
    if (!from)
        *to = NULL;
    return SW_OK;
}

enum sw_status sw_selection_to_host(const struct sw_selection *s, struct sw_selection *host)
{
    int64_t rows = (int64_t)s->units * s->rows;
    struct sw_backend *be = s->backend;
    int32_t last = 0;
    SW_TRY(fetch(be, &last, s->indptr + rows, sizeof last));
    if (last < 0 || last > s->capacity)
        return SW_FAIL(SW_EINTERNAL, "selection holds %d entries of %lld", last,
                       (long long)s->capacity);
    SW_TRY(sw_selection_reserve(host, NULL, s->units, s->rows, last, s->whole != NULL));
    host->block = s->block;
    host->n = s->n;
    host->n_q = s->n_q;
    host->row0 = s->row0;
    host->window = s->window;
    host->sink = s->sink;
    host->free_diagonal = s->free_diagonal;
    SW_TRY(fetch(be, host->indptr, s->indptr, (size_t)(rows + 1) * sizeof *s->indptr));
    SW_TRY(fetch(be, host->indices, s->indices, (size_t)last * sizeof *s->indices));
    if (s->whole)
        SW_TRY(fetch(be, host->whole, s->whole, (size_t)last));
    if (!sw_selection_masked(s))
        return SW_OK;
    const uint64_t *bits = s->keys ? s->keys : s->queries;
    int words = bits ? sw_query_words(s->block) : 0;
    SW_TRY(sw_selection_reserve_masks(host, s->columns || s->slashes ? s->n : 0, words));
    SW_TRY(fetch_masks(s, s->columns, &host->columns));
    SW_TRY(fetch_masks(s, s->slashes, &host->slashes));
    if (bits)
        SW_TRY(fetch(be, host->queries, bits, (size_t)last * (size_t)words * sizeof *bits));
    if (s->keys) {
        host->keys = host->queries;
        host->queries = NULL;
    }
    return SW_OK;
}

int64_t sw_selection_full_capacity(int units, int row0, int rows)
{
    /* Row i holds i + 1 blocks: Σ_{i=row0}^{row0+rows-1} (i + 1). */
    int64_t first = row0 + 1, last = (int64_t)row0 + rows;
    return units * ((first + last) * rows / 2);
}

enum sw_status sw_selection_full(struct sw_selection *s, int n, int block, int units)
{
    int b = sw_blocks(n, block);
    SW_TRY(sw_selection_reserve(s, NULL, units, b, sw_selection_full_capacity(units, 0, b), false));
    s->block = block;
    s->n = s->n_q = n;
    s->row0 = 0;
    int32_t at = 0;
    for (int u = 0; u < units; u++)
        for (int i = 0; i < b; i++) {
            s->indptr[(int64_t)u * b + i] = at;
            for (int j = 0; j <= i; j++)
                s->indices[at++] = j;
        }
    s->indptr[(int64_t)units * b] = at;
    return SW_OK;
}

enum sw_status sw_selection_validate(const struct sw_selection *s)
{
    if (s->block <= 0 || s->units <= 0 || s->rows <= 0 || s->n <= 0 || s->row0 < 0 ||
        s->row0 + s->rows > sw_blocks(s->n, s->block))
        return SW_FAIL(SW_EINTERNAL,
                       "selection: block %d, units %d, rows %d+%d do not fit %d tokens", s->block,
                       s->units, s->row0, s->rows, s->n);
    if (sw_selection_masked(s) && (!s->whole || ((s->columns || s->slashes) && s->mask_ld < s->n)))
        return SW_FAIL(SW_EINTERNAL,
                       "selection: token masks of %d entries for %d tokens, %s partial blocks",
                       s->mask_ld, s->n, s->whole ? "with" : "without");
    int64_t rows = (int64_t)s->units * s->rows;
    if (s->indptr[0] != 0 || s->indptr[rows] > s->capacity)
        return SW_FAIL(SW_EINTERNAL, "selection: indptr runs from %d to %d, capacity %lld",
                       s->indptr[0], s->indptr[rows], (long long)s->capacity);
    for (int64_t row = 0; row < rows; row++) {
        int u = (int)(row / s->rows), i = s->row0 + (int)(row % s->rows);
        int32_t from = s->indptr[row], to = s->indptr[row + 1];
        if (to <= from || to > s->indptr[rows])
            return SW_FAIL(SW_EINTERNAL, "selection: unit %d, block row %d is empty", u, i);
        for (int32_t e = from; e < to; e++)
            if (s->indices[e] < 0 || s->indices[e] > i ||
                (e > from && s->indices[e] <= s->indices[e - 1]))
                return SW_FAIL(SW_EINTERNAL,
                               "selection: unit %d, block row %d: block %d at place %d is not "
                               "ascending and causal",
                               u, i, s->indices[e], e - from);
        if (s->indices[to - 1] != i && !s->free_diagonal)
            return SW_FAIL(SW_EINTERNAL, "selection: unit %d, block row %d lacks its diagonal", u,
                           i);
    }
    return SW_OK;
}

/* --- counting --------------------------------------------------------------------------------- */

/* Query tokens of block row i: first and one past last position. In decode only the last token of
 * the sequence. */
static void query_span(const struct sw_selection *s, int i, int *first, int *end)
{
    *first = i * s->block;
    *end = *first + s->block < s->n ? *first + s->block : s->n;
    if (*first < s->n - s->n_q)
        *first = s->n - s->n_q;
}

static int64_t causal_pairs(const struct sw_selection *s, int i)
{
    int first, end;
    query_span(s, i, &first, &end);
    int64_t queries = end - first;
    return queries * (queries + 1) / 2 + queries * first; /* query t sees t + 1 keys */
}

/* The rules of partial blocks for an entry of a unit, the queries' rule aside. */
struct rules {
    int window, sink, block;
    const uint8_t *columns, *slashes;
    const uint64_t *keys;
};

static struct rules rules_of(const struct sw_selection *s, int unit, int64_t e)
{
    int64_t row = (int64_t)unit * s->mask_ld;
    return (struct rules){.window = s->window,
                          .sink = s->sink,
                          .block = s->block,
                          .columns = s->columns ? s->columns + row : NULL,
                          .slashes = s->slashes ? s->slashes + row : NULL,
                          .keys = s->keys ? s->keys + e * sw_query_words(s->block) : NULL};
}

static bool ruled_key(const struct rules *r, int t, int u)
{
    int bit = u % r->block;
    return (u < r->sink) | (t - u < r->window) | (r->columns && r->columns[u]) |
           (r->slashes && r->slashes[t - u]) | (r->keys && r->keys[bit / 64] >> (bit % 64) & 1);
}

/* Whether all causal pairs of query t of block i are kept in entry e, wherever its keys lie. */
static bool query_keeps_all(const struct sw_selection *s, int i, int64_t e, int t)
{
    const uint64_t *queries = s->queries ? s->queries + e * sw_query_words(s->block) : NULL;
    int at = t - i * s->block;
    return !s->whole || s->whole[e] || (queries && queries[at / 64] >> (at % 64) & 1);
}

bool sw_selection_keeps(const struct sw_selection *s, int unit, int64_t e, int t, int u)
{
    struct rules rules = rules_of(s, unit, e);
    return u <= t && u / s->block == s->indices[e] &&
           (query_keeps_all(s, t / s->block, e, t) || ruled_key(&rules, t, u));
}

int64_t sw_selection_entry_pairs(const struct sw_selection *s, int unit, int i, int64_t e)
{
    int first, end, j = s->indices[e];
    query_span(s, i, &first, &end);
    int64_t pairs = 0;
    bool whole = !s->whole || s->whole[e];
    int u0 = j * s->block, u_end = u0 + s->block < s->n ? u0 + s->block : s->n;
    if (whole && j < i)
        return (int64_t)(end - first) * (u_end - u0);
    struct rules rules = rules_of(s, unit, e);
    bool ruled = rules.columns || rules.slashes || rules.keys || rules.window > 0 || rules.sink > 0;
    for (int t = first; t < end; t++) {
        /* causal keys of this block: u0 … last-1 */
        int last = u_end < t + 1 ? u_end : t + 1;
        if (query_keeps_all(s, i, e, t))
            pairs += last - u0;
        else if (ruled)
            for (int u = u0; u < last; u++)
                pairs += ruled_key(&rules, t, u);
    }
    return pairs;
}

double sw_selection_unit_density(const struct sw_selection *s, int unit)
{
    int64_t kept = 0, all = 0;
    for (int i = s->row0; i < s->row0 + s->rows; i++) {
        int64_t row = (int64_t)unit * s->rows + i - s->row0;
        all += causal_pairs(s, i);
        for (int32_t e = s->indptr[row]; e < s->indptr[row + 1]; e++)
            kept += sw_selection_entry_pairs(s, unit, i, e);
    }
    return (double)kept / (double)all;
}

double sw_selection_density(const struct sw_selection *s)
{
    double sum = 0;
    for (int u = 0; u < s->units; u++)
        sum += sw_selection_unit_density(s, u);
    return sum / s->units;
}

double sw_selection_block_density(const struct sw_selection *s)
{
    struct sw_selection as_whole = *s;
    as_whole.whole = NULL;
    return sw_selection_density(&as_whole);
}

double sw_selection_kv_fetch_density(const struct sw_selection *s, int n_heads, int n_kv_heads)
{
    /* The lists that serve KV group g: all of them are unit 0 when shared, unit g per group, units
     * g·G … per head. */
    int per_group = s->units == n_heads ? n_heads / n_kv_heads : 1;
    int groups = s->units / per_group;
    double share = 0;
    for (int g = 0; g < groups; g++)
        for (int r = 0; r < s->rows; r++) {
            int i = s->row0 + r;
            int64_t fetched = 0;
            /* Union of ascending lists: repeatedly take the smallest head element. */
            int32_t next = -1;
            for (;;) {
                int32_t best = i + 1;
                for (int h = 0; h < per_group; h++) {
                    int64_t row = (int64_t)(g * per_group + h) * s->rows + r;
                    const int32_t *at = s->indices + s->indptr[row],
                                  *to = s->indices + s->indptr[row + 1];
                    int64_t lo = 0, hi = to - at; /* first element > next */
                    while (lo < hi) {
                        int64_t mid = (lo + hi) / 2;
                        if (at[mid] > next)
                            hi = mid;
                        else
                            lo = mid + 1;
                    }
                    if (at + lo < to && at[lo] < best)
                        best = at[lo];
                }
                if (best > i)
                    break;
                fetched++;
                next = best;
            }
            share += (double)fetched / (i + 1);
        }
    return share / ((double)groups * s->rows);
}
