/* keep.c: marking: the best of a row, counts up to a sum, and keep matrices, against definitions
 * entry by entry. Numbers whose sums are exact, so that limits are met exactly too, and ties. */
#include "tests/kernels/cases.h"

enum { UNTOUCHED = 7 };

/* --- mark_top --------------------------------------------------------------------------------- */

enum { IN, K, FLAGS };
enum { SMALL_FIRST = 1, ODD_VALUES = 2 }; /* a variant */
enum { MARK_ROWS = 5 };
struct mark_shape {
    int n, always;
};

static void make_mark(struct sw_case *c)
{
    const struct mark_shape *s = c->shape;
    float *in = sw_take_floats(c, IN, (size_t)(MARK_ROWS * (s->n + 2)));
    for (int x = 0; c->variant & ODD_VALUES && x < MARK_ROWS * (s->n + 2); x++) {
        int odd = sw_int(c->seed, (uint64_t)x, 0, 40);
        in[x] = odd == 0 ? NAN : odd == 1 ? INFINITY : odd == 2 ? -0.0f : roundf(in[x] * 2) / 2;
    }
    int k[MARK_ROWS] = {0, s->always, s->always + 1, s->n / 2, s->n + 3};
    memcpy(sw_take_host(c, K, sizeof k), k, sizeof k);
    sw_give(c, FLAGS, SW_BYTES, (struct sw_extent){1, MARK_ROWS, s->n + 2, MARK_ROWS, s->n});
    c->slot[FLAGS].loose = c->use == SW_PARITY;
}

static enum sw_status run_mark(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct mark_shape *s = c->shape;
    return be->mark_top(be, &(struct sw_mark_top){.in = at[IN],
                                                  .rows = MARK_ROWS,
                                                  .n = s->n,
                                                  .ld = s->n + 2,
                                                  .always = s->always,
                                                  .k = at[K],
                                                  .small_first = c->variant & SMALL_FIRST,
                                                  .flags = at[FLAGS]});
}

/* Does x come before y? Value descending, NaN last, then the index. */
static bool before(const float *in, int x, int y, bool small_first)
{
    float a = in[x], b = in[y];
    if (isnan(a) != isnan(b))
        return isnan(b);
    if (!isnan(a) && a != b)
        return a > b;
    return small_first ? x < y : x > y;
}

static void reference_mark(struct sw_case *c)
{
    const struct mark_shape *s = c->shape;
    const int *k = c->slot[K].host;
    for (int r = 0; r < MARK_ROWS; r++)
        for (int x = 0; x < s->n; x++) {
            const float *in = (float *)c->slot[IN].host + r * (s->n + 2);
            int better = s->always < s->n ? s->always : s->n; /* those always kept count */
            for (int y = s->always; y < s->n && x >= s->always; y++)
                better += y != x && before(in, y, x, c->variant & SMALL_FIRST);
            sw_want(c, FLAGS, 0, r, x, x < s->always || better < k[r], 0);
        }
}

static const struct mark_shape mark_shapes[] = {{1, 0},   {1, 1},  {60, 0},  {60, 30}, {60, 60},
                                                {60, 90}, {5, 30}, {200, 7}, {63, 3},  {300, 3}};
static const struct mark_shape mark_large[] = {{1000, 0}, {1000, 3}, {4000, 0}, {4000, 3}};

/* --- count_mass ------------------------------------------------------------------------------- */

enum { COUNT_IN, COUNTS };
enum { COUNT_ROWS = 4 };
struct count_shape {
    int n;
    double limit;
};

static void make_count(struct sw_case *c)
{
    const struct count_shape *s = c->shape;
    float *in = sw_take_floats(c, COUNT_IN, (size_t)(COUNT_ROWS * (s->n + 1)));
    for (int x = 0; x < COUNT_ROWS * (s->n + 1); x++) /* zeros and ties; on CUDA exact sums */
        in[x] = c->use == SW_PARITY ? floorf(fabsf(in[x]) * 256) / 1024
                : x % 3             ? fabsf(in[x]) / (float)s->n
                                    : 0.0f;
    sw_give(c, COUNTS, SW_HOST_INTS, (struct sw_extent){1, 1, COUNT_ROWS, 1, COUNT_ROWS});
}

static enum sw_status run_count(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct count_shape *s = c->shape;
    return be->count_mass(be, &(struct sw_count_mass){.in = at[COUNT_IN],
                                                      .rows = COUNT_ROWS,
                                                      .n = s->n,
                                                      .ld = s->n + 1,
                                                      .limit = s->limit,
                                                      .counts = at[COUNTS]});
}

static int descending(const void *a, const void *b)
{
    return (*(const float *)a < *(const float *)b) - (*(const float *)a > *(const float *)b);
}

static void reference_count(struct sw_case *c)
{
    const struct count_shape *s = c->shape;
    float *sorted = sw_need((size_t)s->n * sizeof *sorted);
    for (int r = 0; r < COUNT_ROWS; r++) {
        double sum = 0;
        int want = 0;
        memcpy(sorted, (float *)c->slot[COUNT_IN].host + r * (s->n + 1),
               (size_t)s->n * sizeof *sorted);
        qsort(sorted, (size_t)s->n, sizeof *sorted, descending);
        for (int x = 0; x < s->n; x++) {
            sum += (double)sorted[x];
            want += sum <= s->limit;
        }
        sw_want(c, COUNTS, 0, 0, r, want, 0);
    }
    free(sorted);
}

static void more_count(struct sw_backend *be)
{
    /* .5 + .3 is above .75: one token, to which the caller adds the crossing one */
    float in[3] = {0.2f, 0.5f, 0.3f};
    int count;
    sw_must(
        be->count_mass(be,
                       &(struct sw_count_mass){
                           .in = in, .rows = 1, .n = 3, .ld = 3, .limit = 0.75, .counts = &count}),
        "count_mass");
    sw_holds(count == 1, "%d tokens, expected 1", count);
}

static const struct count_shape count_shapes[] = {{300, 0},   {300, 0.001}, {300, 0.1}, {300, 0.3},
                                                  {300, 0.5}, {300, 100},   {1, 1},     {63, 4}};
static const struct count_shape count_large[] = {
    {1, 0.1}, {63, 9.5}, {300, 60}, {1000, 200}, {4000, 750}};

/* --- keep_vertical_slash ---------------------------------------------------------------------- */

enum { COLUMNS, SLASHES, WHOLE, KEEP };
/* a variant */
enum { TOKENS = 1, STRADDLE = 2, CLEAR = 4, HAS_COLUMNS = 8, HAS_SLASHES = 16, HAS_WHOLE = 32 };
struct slash_shape {
    int n, B, row0, units;
};

static void make_slash(struct sw_case *c)
{
    const struct slash_shape *s = c->shape;
    int b = sw_blocks(s->n, s->B), rows = b - s->row0, one_in = c->variant & TOKENS ? 41 : 7;
    struct sw_extent of = {s->units, rows + 2, b + 1, rows, b};
    for (int slot = COLUMNS; slot <= WHOLE; slot++)
        sw_take_flags(c, slot, (size_t)s->units * (size_t)(s->n + 1), one_in);
    uint8_t *keep = sw_change(c, KEEP, SW_BYTES, of);
    for (int i = 0; i < of.units * of.ld_rows * of.ld; i++) {
        int u = i / (of.ld_rows * of.ld), r = i / of.ld % of.ld_rows, j = i % of.ld;
        keep[i] = r >= rows || j >= b ? UNTOUCHED : j <= s->row0 + r && (u + r + j) % 5 == 0;
    }
}

static enum sw_status run_slash(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct slash_shape *s = c->shape;
    int v = c->variant;
    return be->keep_vertical_slash(
        be, &(struct sw_keep_vertical_slash){.columns = v & HAS_COLUMNS ? at[COLUMNS] : NULL,
                                             .slashes = v & HAS_SLASHES ? at[SLASHES] : NULL,
                                             .whole_rows = v & HAS_WHOLE ? at[WHOLE] : NULL,
                                             .row0 = s->row0,
                                             .rows = c->slot[KEEP].of.rows,
                                             .n = s->n,
                                             .block = s->B,
                                             .grain = v & TOKENS ? 1 : s->B,
                                             .ld_in = s->n + 1,
                                             .straddle = v & STRADDLE,
                                             .clear = v & CLEAR,
                                             .keep = sw_keep_at(c, at, KEEP)});
}

/* Is the block at offset `apart` of the diagonal, at column j, kept by the flags of a unit? */
static bool flagged(const struct sw_case *c, int u, int i, int j)
{
    const struct slash_shape *s = c->shape;
    bool tokens = c->variant & TOKENS, want = false;
    size_t from = (size_t)u * (size_t)(s->n + 1);
    const uint8_t *columns = (uint8_t *)c->slot[COLUMNS].host + from,
                  *slashes = (uint8_t *)c->slot[SLASHES].host + from,
                  *whole = (uint8_t *)c->slot[WHOLE].host + from;
    for (int x = 0; x < (tokens ? s->n : sw_blocks(s->n, s->B)); x++) {
        int at = tokens ? x / s->B : x,
            reach = tokens ? (x + s->B - 1) / s->B : x + !!(c->variant & STRADDLE);
        want |= c->variant & HAS_COLUMNS && columns[x] && at == j;
        want |= c->variant & HAS_SLASHES && slashes[x] && (i - j == at || i - j == reach);
    }
    return want || (c->variant & HAS_WHOLE && whole[i]);
}

static void reference_slash(struct sw_case *c)
{
    const struct slash_shape *s = c->shape;
    struct sw_extent of = c->slot[KEEP].of;
    const uint8_t *before_it = c->slot[KEEP].host;
    for (int i = 0; i < of.units * of.rows * of.cols; i++) {
        int u = i / (of.rows * of.cols), r = i / of.cols % of.rows, j = i % of.cols;
        bool kept = !(c->variant & CLEAR) && before_it[(u * of.ld_rows + r) * of.ld + j];
        sw_want(c, KEEP, u, r, j, kept || (j <= s->row0 + r && flagged(c, u, s->row0 + r, j)), 0);
    }
}

/* B = 64, row 3: offset 70 is keys 122 … 185, blocks 1 and 2; 64 is block 2 alone; 0 the
 * diagonal. */
static void more_slash(struct sw_backend *be)
{
    enum { N = 256, B = 4 };
    static const int examples[][3] = {{70, 1, 2}, {64, 2, 2}, {0, 3, 3}, {127, 1, 2}, {128, 1, 1}};
    uint8_t keep[B * B];
    for (int e = 0; e < 5; e++) {
        uint8_t slashes[N] = {0};
        slashes[examples[e][0]] = 1;
        sw_must(
            be->keep_vertical_slash(be, &(struct sw_keep_vertical_slash){.slashes = slashes,
                                                                         .rows = B,
                                                                         .n = N,
                                                                         .block = 64,
                                                                         .grain = 1,
                                                                         .ld_in = N,
                                                                         .clear = true,
                                                                         .keep = {keep, 1, B, B}}),
            "keep_vertical_slash");
        for (int j = 0; j < B; j++)
            sw_holds(keep[3 * B + j] == (j == examples[e][1] || j == examples[e][2]),
                     "offset %d: block %d is %d", examples[e][0], j, keep[3 * B + j]);
    }
    struct sw_keep_vertical_slash bad = {.columns = keep,
                                         .rows = 4,
                                         .n = 64,
                                         .block = 16,
                                         .grain = 8,
                                         .ld_in = 4,
                                         .keep = {keep, 1, 4, 4}};
    sw_refused(be->keep_vertical_slash(be, &bad), SW_EINTERNAL);
    bad.grain = 1; /* then a flag a token is needed */
    sw_refused(be->keep_vertical_slash(be, &bad), SW_EINTERNAL);
}

static const struct slash_shape slash_shapes[] = {{100, 16, 0, 2}, {96, 16, 0, 1}, {9, 16, 0, 2},
                                                  {130, 32, 3, 3}, {64, 64, 0, 1}, {1, 16, 0, 3},
                                                  {63, 64, 0, 3},  {300, 16, 0, 3}};
static const struct slash_shape slash_large[] = {{1000, 64, 0, 3}, {4000, 32, 0, 3}};

/* --- keep_mass -------------------------------------------------------------------------------- */

enum { SCORES, LIMIT, MASS_KEEP };
enum { RULES = 5, LIMITS = 6, MASS_VARIANTS = 2 * RULES * LIMITS };
struct mass_shape {
    int rows, row0, units;
};

static void make_mass(struct sw_case *c)
{
    const struct mass_shape *s = c->shape;
    int b = s->row0 + s->rows;
    struct sw_extent of = {s->units, s->rows + 1, b + 1, s->rows, b};
    float *scores = sw_take_floats(c, SCORES, (size_t)(of.units * of.ld_rows * of.ld));
    for (size_t x = 0; x < c->slot[SCORES].given; x++)
        scores[x] = c->variant % 2 || c->use == SW_PARITY ? floorf(fabsf(scores[x]) * 4) / 16
                                                          : fabsf(scores[x]) / 8;
    static const double limits[LIMITS] = {0, 0.25, 0.5, 0.9, 1, 1.5};
    double limit = limits[c->variant / (RULES * 2)],
           of_unit[3] = {limit, c->variant % 4 ? limit : -1, 0.75};
    memcpy(sw_take_host(c, LIMIT, sizeof of_unit), of_unit, sizeof of_unit);
    uint8_t *keep = sw_change(c, MASS_KEEP, SW_BYTES, of);
    for (int i = 0; i < of.units * of.ld_rows * of.ld; i++)
        if (i / of.ld % of.ld_rows >= of.rows || i % of.ld >= of.cols || c->variant % 5)
            keep[i] = UNTOUCHED;                    /* otherwise zeros, to which it adds */
    c->slot[MASS_KEEP].loose = c->use == SW_PARITY; /* CUDA clears all of it */
}

static struct sw_keep_mass mass_of(const struct sw_case *c, float *scores, const double *limit,
                                   uint8_t *keep)
{
    const struct mass_shape *s = c->shape;
    struct sw_extent of = c->slot[MASS_KEEP].of;
    return (struct sw_keep_mass){.scores = {scores, of.units, of.ld_rows, of.ld},
                                 .row0 = s->row0,
                                 .rows = s->rows,
                                 .rule = (enum sw_mass_rule)(c->variant % RULES),
                                 .limit = limit,
                                 .clear = c->variant % 5,
                                 .keep = keep};
}

static enum sw_status run_mass(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    struct sw_keep_mass a = mass_of(c, at[SCORES], at[LIMIT], at[MASS_KEEP]);
    return be->keep_mass(be, &a);
}

struct entry {
    float score;
    int row, j;
};

static int best_first(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->row != y->row ? y->row - x->row : y->j - x->j;
}

/* The entries of rows `from` … `to` - 1 that compete, best first: not the diagonal one of the REACH
 * rules, nor REACH's first. */
static int sorted(const struct sw_keep_mass *a, int unit, int from, int to, struct entry *out)
{
    bool diagonal = a->rule != SW_MASS_REACH && a->rule != SW_MASS_REACH_LATE;
    int n = 0;
    for (int r = from; r < to; r++)
        for (int j = a->rule == SW_MASS_REACH ? 1 : 0; j <= a->row0 + r; j++)
            if (diagonal || j < a->row0 + r)
                out[n++] =
                    (struct entry){sw_unit_row(&a->scores, (size_t)unit, (size_t)r)[j], r, j};
    qsort(out, (size_t)n, sizeof *out, best_first);
    return n;
}

static void mark(struct sw_case *c, int unit, int row, int j)
{
    sw_want(c, MASS_KEEP, unit, row, j, 1, 0);
}

/* All of a unit's rows together, or one row. The rules of core/operation_args.h, in their words. */
static void mass_of_rows(struct sw_case *c, const struct sw_keep_mass *a, int u, int from, int to,
                         struct entry *e)
{
    int n = sorted(a, u, from, to, e), i = a->row0 + from;
    bool late = a->rule == SW_MASS_REACH_LATE;
    const float *row = sw_unit_row(&a->scores, (size_t)u, (size_t)from);
    double sum = 0, total = 0, limit = a->limit[u];
    if (a->rule == SW_MASS_FRACTION) { /* e[0]: the largest */
        for (int x = 0; x < n; x++)
            if ((double)e[x].score >= limit * (double)e[0].score)
                mark(c, u, e[x].row, e[x].j);
        return;
    }
    if (a->rule != SW_MASS_REACH && !late) {
        for (int x = 0; x < n; x++) {
            sum += (double)e[x].score;
            if (sum <= limit * (to - from) || (a->rule == SW_MASS_WITHIN && x == 0))
                mark(c, u, e[x].row, e[x].j);
        }
        return;
    }
    for (int j = 0; j <= i; j++)
        total += (double)row[j];
    mark(c, u, from, 0);
    mark(c, u, from, i);
    sum = (double)row[i] + (late || i == 0 ? 0 : (double)row[0]);
    for (int x = 0; x < n; x++) { /* late: the sum lags one entry behind */
        double behind = !late ? sum : x == 0 ? 0 : sum - (double)e[x - 1].score;
        if (behind < limit * total)
            mark(c, u, from, e[x].j);
        sum += (double)e[x].score;
    }
}

static void reference_mass(struct sw_case *c)
{
    struct sw_extent of = c->slot[MASS_KEEP].of;
    struct sw_keep_mass a = mass_of(c, c->slot[SCORES].host, c->slot[LIMIT].host, NULL);
    struct entry *e = sw_need((size_t)(of.rows * of.cols) * sizeof *e);
    for (int i = 0; i < of.units * of.rows * of.cols; i++)
        sw_want(c, MASS_KEEP, i / (of.rows * of.cols), i / of.cols % of.rows, i % of.cols, 0, 0);
    for (int u = 0; u < of.units; u++) {
        int step = a.rule == SW_MASS_UNIT ? of.rows : 1;
        for (int r = 0; a.limit[u] >= 0 && r < of.rows; r += step)
            mass_of_rows(c, &a, u, r, r + step, e);
    }
    free(e);
}

/* XAttention's row of four blocks, SpargeAttn's of three. */
static void more_mass(struct sw_backend *be)
{
    static const struct {
        enum sw_mass_rule rule;
        double limit;
        float scores[4];
        int n, want;
    } examples[] = {{SW_MASS_REACH, 0.8, {0.05f, 0.10f, 0.60f, 0.25f}, 4, 0xd},
                    {SW_MASS_REACH, 0.95, {0.05f, 0.10f, 0.60f, 0.25f}, 4, 0xf},
                    {SW_MASS_REACH, 0.2, {0.05f, 0.10f, 0.60f, 0.25f}, 4, 0x9},
                    {SW_MASS_WITHIN, 0.8, {0.6f, 0.3f, 0.1f}, 3, 0x1},
                    {SW_MASS_WITHIN, 0.95, {0.6f, 0.3f, 0.1f}, 3, 0x3},
                    {SW_MASS_WITHIN, 0.1, {0.1f, 0.3f, 0.6f}, 3, 0x4},
                    {SW_MASS_WITHIN, 0.5, {0.25f, 0.25f, 0.25f, 0.25f}, 4, 0xc},
                    {SW_MASS_REACH_LATE, 0.2, {0.05f, 0.10f, 0.60f, 0.25f}, 4, 0xd},
                    {SW_MASS_REACH_LATE, 0.8, {0.05f, 0.20f, 0.50f, 0.25f}, 4, 0xf},
                    {SW_MASS_REACH_LATE, 0, {0.05f, 0.20f, 0.50f, 0.25f}, 4, 0x9},
                    {SW_MASS_REACH, 0.75, {0.25f, 0.25f, 0.25f, 0.25f}, 4, 0xd},
                    {SW_MASS_WITHIN, 0.98, {0, 0, 0}, 3, 0x7},
                    {SW_MASS_FRACTION, 0.5, {0.25f, 0.125f, 0.5f, 0.125f}, 4, 0x5},
                    {SW_MASS_FRACTION, 0.75, {0.25f, 0.125f, 0.5f, 0.125f}, 4, 0x4},
                    {SW_MASS_FRACTION, 0, {0.25f, 0, 0.5f}, 3, 0x7}};
    for (size_t e = 0; e < sizeof examples / sizeof *examples; e++) {
        uint8_t keep[4];
        float scores[4];
        memcpy(scores, examples[e].scores, sizeof scores);
        sw_must(be->keep_mass(be, &(struct sw_keep_mass){.scores = {scores, 1, 1, 4},
                                                         .row0 = examples[e].n - 1,
                                                         .rows = 1,
                                                         .rule = examples[e].rule,
                                                         .limit = &examples[e].limit,
                                                         .clear = true,
                                                         .keep = keep}),
                "keep_mass");
        for (int j = 0; j < examples[e].n; j++)
            sw_holds(keep[j] == (examples[e].want >> j & 1), "example %zu: block %d is %d", e, j,
                     keep[j]);
    }
}

static void more_mark(struct sw_backend *be)
{
    float scores[16] = {0};
    uint8_t flags[16];
    double limit = 0.5;
    int k = 1;
    struct sw_mark_top top = {.in = scores, .rows = 1, .n = 16, .ld = 16, .k = &k, .flags = flags};
    sw_must(be->mark_top(be, &top), "mark_top");
    top.ld = 15;
    sw_refused(be->mark_top(be, &top), SW_EINTERNAL);
    struct sw_keep_mass mass = {
        .scores = {scores, 1, 4, 4}, .rows = 4, .limit = &limit, .keep = flags};
    sw_must(be->keep_mass(be, &mass), "keep_mass");
    mass.row0 = 1;
    sw_refused(be->keep_mass(be, &mass), SW_EINTERNAL);
}

static const struct mass_shape mass_shapes[] = {{1, 0, 1}, {29, 0, 3}, {5, 17, 2}, {70, 0, 1},
                                                {1, 0, 3}, {19, 0, 3}, {16, 0, 3}};
static const struct mass_shape mass_large[] = {{125, 0, 3}};

SW_CASES(mark_top, .fields = "n always", .variants = 4, .shapes = SW_SHAPES(mark_shapes),
         .large = SW_SHAPES(mark_large), .make = make_mark, .run = run_mark,
         .reference = reference_mark, .more = more_mark);
SW_CASES(count_mass, .fields = "n", .shapes = SW_SHAPES(count_shapes),
         .large = SW_SHAPES(count_large), .make = make_count, .run = run_count,
         .reference = reference_count, .more = more_count);
SW_CASES(keep_vertical_slash, .fields = "n B row0 units", .variants = 64,
         .shapes = SW_SHAPES(slash_shapes), .large = SW_SHAPES(slash_large), .make = make_slash,
         .run = run_slash, .reference = reference_slash, .more = more_slash);
SW_CASES(keep_mass, .fields = "rows row0 units", .variants = MASS_VARIANTS,
         .shapes = SW_SHAPES(mass_shapes), .large = SW_SHAPES(mass_large), .make = make_mass,
         .run = run_mass, .reference = reference_mass, .more = more_mass);
