/* select.c: the best blocks of each row, and those above a quantile, against counting. */
#include "core/budget.h"
#include "tests/kernels/cases.h"

/* --- select_top ------------------------------------------------------------------------------- */

enum { SCORES, BUDGET, LIST };
/* CLEAR: few ties; COARSE: many; ODD: NaN and zeros of both signs, infinities, and ties; EQUAL: all
 * the same; RECENT: no scores, the latest blocks first */
enum kind { CLEAR, COARSE, ODD, EQUAL, RECENT };

struct shape {
    int units, row0, rows, B, sink, local;
    enum kind kind;
};

static float score(enum kind kind, uint64_t seed, size_t i)
{
    uint64_t u = sw_rng_u64(seed, SW_RNG_TEST, i);
    float v = (float)(u >> 20 & 0xfffff) / 0x1p20f;
    static const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, -0.0f, 0.0f};
    switch (kind) {
    case CLEAR:
        return v * v * v * v;
    case COARSE:
        return (float)(u % 5);
    case ODD:
        return u % 3 == 0 ? odd[u / 3 % 6] : roundf(6 * v - 3);
    default:
        return 0.25f;
    }
}

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int b = s->row0 + s->rows;
    struct sw_forced forced = {s->sink, s->local};
    float *scores = sw_take_floats(c, SCORES, (size_t)s->units * (size_t)((s->rows + 1) * (b + 2)));
    for (size_t i = 0; i < c->slot[SCORES].given; i++)
        scores[i] = score(s->kind, c->seed, i);
    int *budget = sw_take_host(c, BUDGET, (size_t)s->rows * sizeof *budget);
    for (int r = 0; r < s->rows; r++) {
        int i = s->row0 + r, least = sw_forced_count(forced, i);
        budget[r] = sw_int(c->seed, (uint64_t)r, least, i);
        if (c->use == SW_TIME) /* a fifth */
            budget[r] = i / 5 > least ? i / 5 : least;
    }
    sw_give_list(c, LIST);
}

/* The last block is not full. */
static int tokens(const struct shape *s)
{
    int b = s->row0 + s->rows;
    return b * s->B - (b > 1 ? 3 : 0);
}

/* Twice: the second time into the memory of the first. */
static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    struct sw_select_top a = {.scores = {s->kind == RECENT ? NULL : at[SCORES], s->units,
                                         s->rows + 1, s->row0 + s->rows + 2},
                              .row0 = s->row0,
                              .rows = s->rows,
                              .budget = at[BUDGET],
                              .forced = {s->sink, s->local},
                              .block = s->B,
                              .n = tokens(s),
                              .n_q = s->rows == 1 ? 1 : tokens(s) - s->row0 * s->B};
    if (c->use != SW_TIME)
        SW_TRY(be->select_top(be, &a, at[LIST]));
    return be->select_top(be, &a, at[LIST]);
}

/* Does block j come before block k? Score descending, NaN last, then the later block. */
static bool before(float a, int j, float b, int k)
{
    if (isnan(a) != isnan(b))
        return isnan(b);
    return !isnan(a) && a != b ? a > b : j > k;
}

static bool kept(const struct shape *s, const float *x, int budget, int i, int j)
{
    struct sw_forced forced = {s->sink, s->local};
    int better = 0; /* free blocks that come before j */
    if (j == i || sw_forced_has(forced, i, j))
        return true;
    for (int k = 0; k < i; k++)
        better += k != j && !sw_forced_has(forced, i, k) &&
                  (s->kind == RECENT ? k > j : before(x[k], k, x[j], j));
    return better < budget - sw_forced_count(forced, i);
}

static void check(struct sw_case *c, struct sw_backend *be, const struct sw_result *got)
{
    (void)be;
    const struct shape *s = c->shape;
    const struct sw_selection *list = &got->list[LIST];
    const int *budget = c->slot[BUDGET].host;
    sw_holds(list->block == s->B && list->n == tokens(s) && list->units == s->units &&
                 list->rows == s->rows && list->row0 == s->row0 && !list->whole,
             "another shape");
    for (int row = 0; row < s->units * s->rows; row++) {
        int u = row / s->rows, r = row % s->rows, i = s->row0 + r, wrong = 0;
        const float *x =
            (float *)c->slot[SCORES].host + (u * (s->rows + 1) + r) * (s->row0 + s->rows + 2);
        int32_t e = list->indptr[row], end = list->indptr[row + 1];
        sw_holds(end - e == budget[r] + 1, "row %d has %d blocks, budget %d", row, end - e,
                 budget[r]);
        for (int j = 0; c->use == SW_CHECK && j <= i; j++) {
            bool listed = e < end && list->indices[e] == j;
            wrong += listed != kept(s, x, budget[r], i, j);
            e += listed;
        }
        sw_holds(wrong == 0, "row %d: %d blocks wrong", row, wrong);
    }
}

static void more(struct sw_backend *be)
{
    struct sw_selection list = {0};
    float scores[16] = {0};
    int budget[4] = {0, 1, 2, 4};
    struct sw_select_top a = {.scores = {scores, 1, 4, 4},
                              .rows = 4,
                              .budget = budget,
                              .forced = {1, 2},
                              .block = 16,
                              .n = 64,
                              .n_q = 64};
    sw_refused(be->select_top(be, &a, &list), SW_EINTERNAL); /* more than there is */
    budget[3] = 1;
    sw_refused(be->select_top(be, &a, &list), SW_EINTERNAL); /* less than is forced */
    budget[3] = 3;
    sw_must(be->select_top(be, &a, &list), "select_top");
    a.scores.ld = 3;
    sw_refused(be->select_top(be, &a, &list), SW_EINTERNAL);
    a.scores.ld = 4;
    a.budget = NULL;
    sw_refused(be->select_top(be, &a, &list), SW_EINTERNAL);
    sw_selection_free(&list);
}

#define EVERY_KIND(...)                                                                    \
    {__VA_ARGS__, CLEAR}, {__VA_ARGS__, COARSE}, {__VA_ARGS__, ODD}, {__VA_ARGS__, EQUAL}, \
    {                                                                                      \
        __VA_ARGS__, RECENT                                                                \
    }
static const struct shape shapes[] = {
    EVERY_KIND(1, 0, 29, 16, 1, 2), EVERY_KIND(2, 13, 29, 16, 0, 1), EVERY_KIND(3, 0, 29, 16, 3, 4),
    EVERY_KIND(1, 13, 1, 16, 1, 2), EVERY_KIND(2, 41, 1, 16, 3, 4),  EVERY_KIND(3, 0, 1, 64, 1, 2),
    EVERY_KIND(3, 0, 2, 64, 0, 1),  EVERY_KIND(3, 1, 1, 64, 1, 2),   EVERY_KIND(3, 0, 63, 64, 1, 2),
    EVERY_KIND(3, 62, 1, 64, 0, 1)};
static const struct shape large[] = {
    EVERY_KIND(3, 0, 257, 64, 1, 2), EVERY_KIND(3, 256, 1, 64, 0, 1),
    EVERY_KIND(1, 0, 1100, 64, 0, 1), EVERY_KIND(1, 1099, 1, 64, 1, 2)};
static const struct shape timed[] = {{1, 0, 128, 64, 1, 2, CLEAR},  {1, 0, 512, 64, 1, 2, CLEAR},
                                     {1, 0, 2048, 64, 1, 2, CLEAR}, {1, 127, 1, 64, 1, 2, CLEAR},
                                     {1, 511, 1, 64, 1, 2, CLEAR},  {1, 2047, 1, 64, 1, 2, CLEAR}};

SW_CASES(select_top, .fields = "units row0 rows B sink local kind", .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .timed = SW_SHAPES(timed), .make = make, .run = run,
         .check = check, .more = more);

/* --- select_quantile -------------------------------------------------------------------------- */

enum { Q_SCORES, Q_LIST };
struct quantile_shape {
    int n, B, n_q, sink_blocks, window_blocks, window, sink, dense_tail, units;
    enum kind kind;
};
static const double QUANTILE = 0.875;

static void make_quantile(struct sw_case *c)
{
    const struct quantile_shape *s = c->shape;
    int b = sw_blocks(s->n, s->B), rows = b - (s->n - s->n_q) / s->B;
    float *scores = sw_take_floats(c, Q_SCORES, (size_t)s->units * (size_t)(rows * (b + 1)));
    for (size_t i = 0; i < c->slot[Q_SCORES].given; i++)
        scores[i] = score(s->kind, c->seed, i);
    sw_give_list(c, Q_LIST);
}

/* Variant 1 keeps sink and window blocks whole. */
static struct sw_select_quantile quantile_of(const struct sw_case *c, float *scores)
{
    const struct quantile_shape *s = c->shape;
    int b = sw_blocks(s->n, s->B), row0 = (s->n - s->n_q) / s->B;
    return (struct sw_select_quantile){.scores = {scores, s->units, b - row0, b + 1},
                                       .row0 = row0,
                                       .rows = b - row0,
                                       .sink_blocks = s->sink_blocks,
                                       .window_blocks = s->window_blocks,
                                       .window = s->window,
                                       .sink = s->sink,
                                       .dense_from = s->dense_tail ? b - s->dense_tail : b + 1,
                                       .whole_ends = c->variant,
                                       .quantile = QUANTILE,
                                       .block = s->B,
                                       .n = s->n,
                                       .n_q = s->n_q};
}

static enum sw_status run_quantile(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    struct sw_select_quantile a = quantile_of(c, at[Q_SCORES]);
    return be->select_quantile(be, &a, at[Q_LIST]);
}

static int ascending(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

/* The interpolated quantile of row i's candidates. */
static double threshold(const struct quantile_shape *s, const float *x, int i)
{
    double sorted[128];
    int count = 0;
    for (int j = s->sink_blocks; j <= i - s->window_blocks; j++)
        if (!isnan(x[j]))
            sorted[count++] = (double)x[j];
    if (!count)
        return INFINITY;
    qsort(sorted, (size_t)count, sizeof *sorted, ascending);
    double at = QUANTILE * (count - 1);
    int low = (int)at, high = low + 1 < count ? low + 1 : low;
    return at == low ? sorted[low] : sorted[low] + (at - low) * (sorted[high] - sorted[low]);
}

/* Block j of row i, pair by pair of the queries from t0 on. Returns how many are wrong. */
static int wrong_pairs(const struct quantile_shape *s, const struct sw_selection *list, int row,
                       int i, int j, bool chosen)
{
    int32_t e = list->indptr[row], end = list->indptr[row + 1];
    int wrong = 0, first = s->n - s->n_q, t0 = i * s->B > first ? i * s->B : first;
    while (e < end && list->indices[e] != j)
        e++;
    for (int t = t0; t < s->n && t < (i + 1) * s->B; t++)
        for (int v = j * s->B; v < (j + 1) * s->B && v <= t; v++) {
            bool want = chosen || t - v < s->window || v < s->sink || (s->window < 1 && i == j),
                 got = e < end && (list->whole[e] || t - v < list->window || v < list->sink);
            wrong += want != got;
        }
    /* and no empty entries */
    bool empty = t0 - (j * s->B + s->B - 1) >= s->window && j * s->B >= s->sink;
    return wrong + (e < end && j != i && !chosen && empty);
}

static void check_quantile(struct sw_case *c, struct sw_backend *be, const struct sw_result *got)
{
    (void)be;
    const struct quantile_shape *s = c->shape;
    struct sw_select_quantile a = quantile_of(c, c->slot[Q_SCORES].host);
    for (int row = 0; c->use == SW_CHECK && row < s->units * a.rows; row++) {
        int i = a.row0 + row % a.rows, wrong = 0;
        const float *x = sw_unit_row(&a.scores, (size_t)(row / a.rows), (size_t)(row % a.rows));
        double above = threshold(s, x, i);
        for (int j = 0; j <= i; j++) {
            bool end = j < s->sink_blocks || j > i - s->window_blocks;
            bool chosen = i >= a.dense_from || (double)x[j] > above || (a.whole_ends && end);
            wrong += wrong_pairs(s, &got->list[Q_LIST], row, i, j, chosen);
        }
        sw_holds(wrong == 0, "row %d: %d pairs wrong", row, wrong);
    }
}

/* clang-format off */
static const struct quantile_shape quantile_shapes[] = {
    {700, 16, 700, 1, 3, 35, 18, 4, 2, ODD},     {700, 16, 1, 1, 3, 35, 18, 0, 1, CLEAR},
    {333, 32, 333, 0, 1, 1, 0, 0, 1, CLEAR},     {640, 64, 640, 1, 1, 32, 32, 4, 1, CLEAR},
    {100, 16, 100, 2, 2, 200, 0, 0, 1, CLEAR},   {200, 16, 200, 0, 0, 0, 0, 0, 1, CLEAR},
    {513, 16, 513, 1, 2, 26, 26, 4, 3, CLEAR},   {16, 16, 16, 1, 1, 1, 1, 0, 1, CLEAR},
    {64, 64, 64, 1, 2, 100, 70, 0, 3, CLEAR},    {111, 64, 111, 2, 2, 100, 70, 1, 3, COARSE},
    {111, 64, 1, 1, 2, 40, 70, 0, 3, ODD},       {4015, 64, 4015, 1, 2, 100, 70, 0, 3, CLEAR},
    {4015, 64, 1, 2, 2, 40, 70, 0, 3, EQUAL}};
static const struct quantile_shape quantile_large[] = {
    {16431, 64, 16431, 1, 2, 100, 70, 0, 3, CLEAR}, {16431, 64, 16431, 2, 2, 100, 70, 1, 3, COARSE},
    {16431, 64, 16431, 1, 2, 40, 70, 2, 3, ODD},    {16431, 64, 16431, 2, 2, 40, 70, 3, 3, EQUAL},
    {16431, 64, 1, 1, 2, 100, 70, 0, 3, CLEAR},     {16431, 64, 1, 1, 2, 40, 70, 0, 3, ODD},
    {70383, 64, 70383, 1, 2, 100, 70, 0, 1, CLEAR}, {70383, 64, 70383, 2, 2, 100, 70, 1, 1, COARSE},
    {70383, 64, 70383, 1, 2, 40, 70, 2, 1, ODD},    {70383, 64, 1, 2, 2, 40, 70, 0, 1, EQUAL}};
/* clang-format on */

SW_CASES(select_quantile,
         .fields = "n B n_q sink_blocks window_blocks window sink dense_tail units kind",
         .variants = 2, .shapes = SW_SHAPES(quantile_shapes), .large = SW_SHAPES(quantile_large),
         .make = make_quantile, .run = run_quantile, .check = check_quantile);
