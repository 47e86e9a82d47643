/* vertical_slash.c: columns and slashes of the last queries' attention, their sums over blocks, and
 * the block scores made of them. */
#include "tests/kernels/cases.h"

/* --- vertical_slash --------------------------------------------------------------------------- */

enum { Q, K, COLUMNS, SLASHES };
enum { HAS_COLUMNS = 1, HAS_SLASHES = 2, VARIANTS = 4 }; /* a variant: either may be left out */
struct shape {
    int n, n_q, H, Hkv, d, last;
};

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    sw_take_acts(c, Q, (size_t)s->n_q * (size_t)(s->H * s->d));
    sw_take_acts(c, K, (size_t)s->n * (size_t)(s->Hkv * s->d));
    for (int slot = COLUMNS; slot <= SLASHES; slot++)
        sw_give(c, slot, SW_FLOATS, (struct sw_extent){1, s->H, s->n + 3, s->H, s->n});
}

static struct sw_attend attend_of(const struct shape *s, void *const *at)
{
    return (struct sw_attend){.batch = 1,
                              .n_q = s->n_q,
                              .n_k = s->n,
                              .n_heads = s->H,
                              .n_kv_heads = s->Hkv,
                              .head_dim = s->d,
                              .kv_stride = s->n,
                              .q = at[Q],
                              .k = at[K],
                              .scale = 1.5f / sqrtf((float)s->d)};
}

static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    struct sw_attend in = attend_of(s, at);
    struct sw_vertical_slash a = {.in = &in,
                                  .last = s->last,
                                  .ld = s->n + 3,
                                  .columns = c->variant & HAS_COLUMNS ? at[COLUMNS] : NULL,
                                  .slashes = c->variant & HAS_SLASHES ? at[SLASHES] : NULL};
    return be->vertical_slash(be, &a);
}

static void softmax(const struct sw_case *c, int h, int t, double *p)
{
    const struct shape *s = c->shape;
    const float *q = (float *)c->slot[Q].host + ((s->n_q - s->n + t) * s->H + h) * s->d,
                *k = (float *)c->slot[K].host + h / (s->H / s->Hkv) * s->d;
    double sum = 0, top = -INFINITY;
    for (int u = 0; u <= t; u++) {
        p[u] = 0;
        for (int x = 0; x < s->d; x++)
            p[u] += (double)q[x] * (double)k[u * s->Hkv * s->d + x];
        p[u] *= (double)(1.5f / sqrtf((float)s->d));
        top = fmax(top, p[u]);
    }
    for (int u = 0; u <= t; u++)
        sum += p[u] = exp(p[u] - top);
    for (int u = 0; u <= t; u++)
        p[u] /= sum;
}

static void reference(struct sw_case *c)
{
    const struct shape *s = c->shape;
    double *p = sw_need(3 * (size_t)s->n * sizeof *p), *sums[] = {p + s->n, p + 2 * s->n};
    for (int h = 0; h < s->H; h++) {
        memset(sums[0], 0, 2 * (size_t)s->n * sizeof *p);
        for (int t = s->n - s->last; t < s->n; t++) {
            softmax(c, h, t, p);
            for (int u = 0; u <= t; u++) {
                sums[0][u] += p[u];
                sums[1][t - u] += p[u];
            }
        }
        for (int i = 0; i < 2 * s->n; i++)
            if (c->variant >> i / s->n & 1)
                sw_want(c, COLUMNS + i / s->n, 0, h, i % s->n, sums[0][i],
                        4e-6 * sums[0][i] + 1e-30);
    }
    free(p);
}

static void more(struct sw_backend *be)
{
    float x[16] = {0};
    struct sw_attend in = attend_of(&(struct shape){2, 2, 1, 1, 8, 1}, (void *[SW_SLOTS]){x, x});
    struct sw_vertical_slash a = {.in = &in, .last = 3, .ld = 2}; /* of two queries */
    sw_refused(be->vertical_slash(be, &a), SW_EINTERNAL);
}

static const struct shape shapes[] = {
    {1, 1, 1, 1, 8, 1},        {9, 9, 2, 1, 16, 9},     {150, 150, 4, 2, 64, 64},
    {131, 131, 3, 3, 24, 16},  {200, 40, 6, 2, 32, 33}, {77, 77, 2, 2, 128, 1},
    {300, 300, 4, 1, 96, 256}, {2, 2, 2, 1, 64, 2},     {200, 200, 4, 2, 64, 64}};
static const struct shape large[] = {
    {1000, 1000, 6, 2, 128, 130}, {2100, 2100, 8, 2, 96, 64}, {3000, 3000, 4, 4, 128, 32}};

SW_CASES(vertical_slash, .fields = "n n_q H Hkv d last", .variants = VARIANTS,
         .shapes = SW_SHAPES(shapes), .large = SW_SHAPES(large), .make = make, .run = run,
         .reference = reference, .more = more,
         .cuda = {[COLUMNS] = {SW_OF_LARGEST, 2e-5, 0}, [SLASHES] = {SW_OF_LARGEST, 2e-5, 0}});

/* --- pool_vertical_slash: sums over blocks ---------------------------------------------------- */

enum { IN, OUT };
enum { WHOLE, SPLIT, FROM_END, LARGEST, LARGEST_FROM_END, POOLS }; /* a variant */
struct pool_shape {
    int rows, n, B;
};

static void make_pool(struct sw_case *c)
{
    const struct pool_shape *s = c->shape;
    int b = sw_blocks(s->n, s->B);
    sw_take_floats(c, IN, (size_t)(s->rows * (s->n + 1)));
    sw_give(c, OUT, SW_FLOATS, (struct sw_extent){1, s->rows, b + 2, s->rows, b});
}

static enum sw_status run_pool(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct pool_shape *s = c->shape;
    return be->pool_vertical_slash(
        be, &(struct sw_pool_vertical_slash){.in = at[IN],
                                             .rows = s->rows,
                                             .n = s->n,
                                             .ld = s->n + 1,
                                             .block = s->B,
                                             .split = c->variant == SPLIT,
                                             .from_end = c->variant == FROM_END ||
                                                         c->variant == LARGEST_FROM_END,
                                             .largest = c->variant >= LARGEST,
                                             .scale = 0.125f,
                                             .out = at[OUT],
                                             .ld_out = c->slot[OUT].of.ld});
}

static void reference_pool(struct sw_case *c)
{
    const struct pool_shape *s = c->shape;
    int b = sw_blocks(s->n, s->B);
    double *sum = sw_need((size_t)(b + 1) * sizeof *sum);
    bool from_end = c->variant == FROM_END || c->variant == LARGEST_FROM_END;
    for (int r = 0; r < s->rows; r++) {
        for (int j = 0; j <= b; j++)
            sum[j] = c->variant >= LARGEST ? -INFINITY : 0;
        for (int x = 0; x < s->n; x++) {
            double next = c->variant == SPLIT ? (double)(x % s->B) / s->B : 0,
                   value = (double)((float *)c->slot[IN].host)[r * (s->n + 1) + x] * 0.125;
            int j = from_end ? b - 1 - (s->n - 1 - x) / s->B : x / s->B;
            if (c->variant >= LARGEST) {
                sum[j] = fmax(sum[j], value);
            } else {
                sum[j] += (1 - next) * value;
                sum[j + 1] += next * value;
            }
        }
        for (int j = 0; j < b; j++)
            sw_want(c, OUT, 0, r, j, sum[j], 1e-6);
    }
    free(sum);
}

static const struct pool_shape pool_shapes[] = {{1, 1, 16}, {3, 40, 16}, {2, 64, 16}, {4, 129, 64},
                                                {2, 7, 64}, {2, 5, 1},   {3, 63, 64}, {3, 300, 16}};
static const struct pool_shape pool_large[] = {{3, 1000, 64}, {3, 4000, 32}};

SW_CASES(pool_vertical_slash, .fields = "rows n B", .variants = POOLS,
         .shapes = SW_SHAPES(pool_shapes), .large = SW_SHAPES(pool_large), .make = make_pool,
         .run = run_pool, .reference = reference_pool, .cuda = {[OUT] = {SW_OF_LARGEST, 1e-6, 0}});

/* --- vertical_slash_scores: exact ------------------------------------------------------------- */

enum { BY_COLUMN, BY_SLASH, SCORES };
struct score_shape {
    int units, row0, b;
};

static void make_scores(struct sw_case *c)
{
    const struct score_shape *s = c->shape;
    int rows = s->b - s->row0;
    sw_take_floats(c, BY_COLUMN, (size_t)(s->units * (s->b + 2)));
    sw_take_floats(c, BY_SLASH, (size_t)(s->units * (s->b + 2)));
    sw_give(c, SCORES, SW_FLOATS, (struct sw_extent){s->units, rows + 1, s->b + 1, rows, s->b});
}

static enum sw_status run_scores(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct score_shape *s = c->shape;
    return be->vertical_slash_scores(
        be, &(struct sw_vertical_slash_scores){.columns = at[BY_COLUMN],
                                               .slashes = at[BY_SLASH],
                                               .row0 = s->row0,
                                               .rows = s->b - s->row0,
                                               .b = s->b,
                                               .ld_in = s->b + 2,
                                               .out = sw_matrix(c, at, SCORES)});
}

static void reference_scores(struct sw_case *c)
{
    const struct score_shape *s = c->shape;
    for (int u = 0; u < s->units; u++)
        for (int i = s->row0; i < s->b; i++)
            for (int j = 0; j < s->b; j++) {
                const float *columns = (float *)c->slot[BY_COLUMN].host + u * (s->b + 2),
                            *slashes = (float *)c->slot[BY_SLASH].host + u * (s->b + 2);
                float want = j <= i ? columns[j] + slashes[i - j] : 0;
                sw_want(c, SCORES, u, i - s->row0, j, (double)want, 0);
            }
}

static const struct score_shape score_shapes[] = {{3, 0, 11}, {3, 7, 11}, {2, 0, 1}, {4, 0, 7},
                                                  {6, 0, 16}, {8, 0, 17}, {4, 0, 47}};

SW_CASES(vertical_slash_scores, .fields = "units row0 b", .shapes = SW_SHAPES(score_shapes),
         .make = make_scores, .run = run_scores, .reference = reference_scores);
