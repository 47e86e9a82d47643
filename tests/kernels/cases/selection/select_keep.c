/* select_keep.c: lists from keep matrices, with each kind of token rule. */
#include "tests/kernels/cases.h"

enum { KEEP, COLUMNS, SLASHES, QUERIES, LIST };
/* a variant */
enum { NO_RULE, BY_COLUMNS, BY_SLASHES, BY_BOTH, BY_QUERIES, BY_KEYS, FREE_DIAGONAL, RULES };

struct shape {
    int n, n_q, B, units;
};

static struct sw_select_keep keep_of(const struct sw_case *c, void *const *at)
{
    const struct shape *s = c->shape;
    int b = sw_blocks(s->n, s->B), row0 = (s->n - s->n_q) / s->B, rows = b - row0, v = c->variant;
    return (struct sw_select_keep){.keep = {at[KEEP], s->units, rows + 1, b + 2},
                                   .row0 = row0,
                                   .rows = rows,
                                   .columns = v == BY_COLUMNS || v == BY_BOTH ? at[COLUMNS] : NULL,
                                   .slashes = v == BY_SLASHES || v == BY_BOTH ? at[SLASHES] : NULL,
                                   .mask_ld = s->n + 5,
                                   .queries = v == BY_QUERIES ? at[QUERIES] : NULL,
                                   .keys = v == BY_KEYS ? at[QUERIES] : NULL,
                                   .free_diagonal = v == FREE_DIAGONAL,
                                   .block = s->B,
                                   .n = s->n,
                                   .n_q = s->n_q};
}

static size_t cells(const struct sw_select_keep *a)
{
    return (size_t)a->keep.units * (size_t)a->keep.ld_rows * (size_t)a->keep.ld;
}

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    struct sw_select_keep a = keep_of(c, (void *[SW_SLOTS]){NULL});
    sw_take_flags(c, KEEP, cells(&a), 3);
    sw_take_flags(c, COLUMNS, (size_t)s->units * (size_t)a.mask_ld, 4);
    sw_take_flags(c, SLASHES, (size_t)s->units * (size_t)a.mask_ld, 4);
    sw_take_words(c, QUERIES, cells(&a) * (size_t)sw_query_words(s->B));
    sw_give_list(c, LIST);
}

/* Twice: the second time into room that is there. */
static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    struct sw_select_keep a = keep_of(c, at);
    SW_TRY(be->select_keep(be, &a, at[LIST]));
    return be->select_keep(be, &a, at[LIST]);
}

/* Entries of a row that are not as they should be. */
static int wrong_in(const struct sw_case *c, const struct sw_selection *list, int u, int r)
{
    void *host[SW_SLOTS] = {c->slot[KEEP].host, c->slot[COLUMNS].host, c->slot[SLASHES].host,
                            c->slot[QUERIES].host};
    struct sw_select_keep a = keep_of(c, host);
    size_t words = (size_t)sw_query_words(a.block);
    const uint8_t *keep = sw_keep_row(&a.keep, (size_t)u, (size_t)r);
    int wrong = 0, i = a.row0 + r;
    int32_t e = list->indptr[u * a.rows + r], end = list->indptr[u * a.rows + r + 1];
    bool diagonal = !a.free_diagonal || keep[i] || !memchr(keep, 1, (size_t)i);
    for (int j = 0; j <= i; j++) {
        if (j < i ? !keep[j] : !diagonal)
            continue;
        if (e >= end)
            return wrong + 1;
        size_t at = (size_t)(keep + j - a.keep.data) * words;
        wrong += list->indices[e] != j;
        wrong += list->whole && list->whole[e] != (a.queries && j == i);
        wrong += a.keys && memcmp(list->keys + (size_t)e * words,
                                  a.keys + (size_t)(keep + j - a.keep.data) * words,
                                  words * sizeof *a.keys) != 0;
        wrong += a.queries && memcmp(list->queries + (size_t)e * words, a.queries + at,
                                     words * sizeof *a.queries) != 0;
        e++;
    }
    return wrong + (e != end);
}

static void check(struct sw_case *c, struct sw_backend *be, const struct sw_result *got)
{
    (void)be;
    const struct shape *s = c->shape;
    const struct sw_selection *list = &got->list[LIST];
    void *host[SW_SLOTS] = {c->slot[KEEP].host, c->slot[COLUMNS].host, c->slot[SLASHES].host,
                            c->slot[QUERIES].host};
    struct sw_select_keep a = keep_of(c, host);
    sw_holds(list->block == s->B && list->n == s->n && list->n_q == s->n_q &&
                 list->units == s->units && list->rows == a.rows && list->row0 == a.row0,
             "another shape");
    bool ruled = c->variant != NO_RULE && c->variant != FREE_DIAGONAL;
    bool right = !list->whole == !ruled && list->free_diagonal == a.free_diagonal &&
                 !list->columns == !a.columns && !list->slashes == !a.slashes &&
                 !list->queries == !a.queries && !list->keys == !a.keys;
    sw_holds(right, "other rules");
    for (int row = 0; right && row < s->units * a.rows; row++) {
        int wrong = wrong_in(c, list, row / a.rows, row % a.rows);
        sw_holds(wrong == 0, "row %d: %d entries wrong", row, wrong);
    }
    for (int u = 0; right && u < s->units; u++) {
        size_t ours = (size_t)u * (size_t)list->mask_ld, theirs = (size_t)u * (size_t)a.mask_ld,
               n = (size_t)s->n;
        sw_holds((!a.columns || memcmp(list->columns + ours, a.columns + theirs, n) == 0) &&
                     (!a.slashes || memcmp(list->slashes + ours, a.slashes + theirs, n) == 0),
                 "unit %d: other columns or slashes", u);
    }
}

static void more(struct sw_backend *be)
{
    struct sw_selection list = {0};
    uint8_t keep[16] = {0}, line[64] = {0};
    struct sw_select_keep good = {
        .keep = {keep, 1, 4, 4}, .rows = 4, .block = 16, .n = 64, .n_q = 64};
    struct sw_select_keep a = good;
    a.keep.data = NULL;
    sw_refused(be->select_keep(be, &a, &list), SW_EINTERNAL);
    a = good;
    a.keep.ld = 3;
    sw_refused(be->select_keep(be, &a, &list), SW_EINTERNAL);
    a = good;
    a.n = 48; /* three blocks, four rows */
    sw_refused(be->select_keep(be, &a, &list), SW_EINTERNAL);
    a = good;
    a.columns = line;
    a.mask_ld = 63;
    sw_refused(be->select_keep(be, &a, &list), SW_EINTERNAL);
    sw_must(be->select_keep(be, &good, &list), "select_keep");
    sw_selection_free(&list);
}

static const struct shape shapes[] = {{300, 300, 16, 2}, {17, 17, 16, 1}, {500, 500, 128, 3},
                                      {200, 1, 64, 4},   {16, 16, 16, 2}, {3, 3, 16, 1},
                                      {1, 1, 16, 3},     {63, 63, 64, 3}, {1000, 1000, 64, 3}};
static const struct shape large[] = {
    {4000, 4000, 32, 3}, {2100, 2100, 128, 8}, {3000, 3000, 64, 4}};

SW_CASES(select_keep, .fields = "n n_q B units", .variants = RULES, .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .make = make, .run = run, .check = check, .more = more);
