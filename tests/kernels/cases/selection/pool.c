/* pool.c: sums of tokens by block, sketches of their means, and both in one call. */
#include "tests/kernels/cases.h"

/* --- pool ------------------------------------------------------------------------------------- */

enum { X, SUMS };
struct pool_shape {
    int n, heads, d, units, B, piece; /* piece: tokens a call, 0: all, -1: by chance */
};

static void make_pool(struct sw_case *c)
{
    const struct pool_shape *s = c->shape;
    int b = sw_blocks(s->n, s->B);
    sw_take_acts(c, X, (size_t)s->n * (size_t)(s->heads * s->d));
    sw_give(c, SUMS, SW_FLOATS, (struct sw_extent){s->units, b + 2, s->d, b, s->d});
}

static enum sw_status run_pool(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct pool_shape *s = c->shape;
    size_t token = (size_t)(s->heads * s->d) * sw_dtype_size(be->act);
    for (int t = 0, n; t < s->n; t += n) {
        n = s->piece > 0 ? s->piece : s->piece < 0 ? 1 + t % 23 : s->n;
        if (n > s->n - t)
            n = s->n - t;
        SW_TRY(be->pool(be, &(struct sw_pool){.x = (char *)at[X] + (size_t)t * token,
                                              .heads = s->heads,
                                              .head_dim = s->d,
                                              .units = s->units,
                                              .block = s->B,
                                              .t0 = t,
                                              .t1 = t + n,
                                              .ld = c->slot[SUMS].of.ld_rows,
                                              .sums = at[SUMS]}));
    }
    return SW_OK;
}

/* In fp32, as the order is promised: the same bits. */
static void reference_pool(struct sw_case *c)
{
    const struct pool_shape *s = c->shape;
    const float *x = c->slot[X].host;
    int share = s->heads / s->units;
    for (int i = 0; i < s->units * sw_blocks(s->n, s->B) * s->d; i++) {
        int unit = i / (sw_blocks(s->n, s->B) * s->d), j = i / s->d % sw_blocks(s->n, s->B),
            col = i % s->d;
        float sum = 0;
        for (int t = j * s->B; t < s->n && t < (j + 1) * s->B; t++) {
            float mean = 0;
            for (int h = 0; h < share; h++)
                mean += x[(t * s->heads + unit * share + h) * s->d + col];
            sum += share == 1 ? mean : mean / (float)share;
        }
        sw_want(c, SUMS, unit, j, col, (double)sum, 0);
    }
}

static void cost_pool(const struct sw_case *c, double *flops, double *bytes)
{
    const struct pool_shape *s = c->shape;
    *flops = 0;
    *bytes = 2.0 * s->n * s->heads * s->d;
}

static const struct pool_shape pool_shapes[] = {
    {75, 6, 24, 1, 16, 0},    {75, 6, 24, 1, 16, 1},     {75, 6, 24, 1, 16, -1},
    {75, 6, 24, 2, 16, 0},    {75, 6, 24, 2, 16, 1},     {75, 6, 24, 2, 16, -1},
    {75, 6, 24, 6, 16, 0},    {75, 6, 24, 6, 16, 1},     {75, 6, 24, 6, 16, -1},
    {1, 2, 64, 1, 64, 0},     {65, 4, 64, 1, 64, 21},    {1000, 4, 128, 1, 32, 333},
    {1000, 4, 96, 4, 16, 0},  {1000, 2, 96, 2, 16, 333}, {700, 6, 64, 6, 16, 0},
    {700, 2, 64, 2, 16, 233}, {900, 4, 64, 4, 16, 300}};
static const struct pool_shape pool_large[] = {
    {2000, 8, 128, 8, 16, 0},   {2000, 2, 128, 2, 16, 666}, {4096, 8, 64, 1, 16, 0},
    {4096, 4, 64, 1, 16, 1365}, {3000, 8, 128, 2, 64, 0},   {3000, 2, 128, 2, 64, 1000}};
static const struct pool_shape pool_timed[] = {
    {8192, 32, 128, 1, 64, 0}, {8192, 8, 128, 1, 64, 0},    {32768, 32, 128, 1, 64, 0},
    {32768, 8, 128, 1, 64, 0}, {131072, 32, 128, 1, 64, 0}, {131072, 8, 128, 1, 64, 0}};

SW_CASES(pool, .fields = "n heads d units B piece", .shapes = SW_SHAPES(pool_shapes),
         .large = SW_SHAPES(pool_large), .timed = SW_SHAPES(pool_timed), .make = make_pool,
         .run = run_pool, .reference = reference_pool, .cost = cost_pool);

/* --- sketch ----------------------------------------------------------------------------------- */

enum { SKETCH_SUMS, SIGNS, KEEP, OUT };
struct sketch_shape {
    int units, n, d, r, B, i0, i1, padded; /* r 0: the mean itself; i1 0: all blocks */
};

static void make_sketch(struct sw_case *c)
{
    const struct sketch_shape *s = c->shape;
    int ld = sw_blocks(s->n, s->B) + 1, r = s->r ? s->r : s->d;
    sw_take_floats(c, SKETCH_SUMS, (size_t)s->units * (size_t)(ld * s->d));
    sw_take_srht(c, SIGNS, s->d, r);
    sw_give(c, OUT, SW_FLOATS, (struct sw_extent){s->units, ld, r, ld, r});
}

static struct sw_sketch sketch_of(const struct sw_case *c, void *const *at, const struct sw_srht *t)
{
    const struct sketch_shape *s = c->shape;
    int b = sw_blocks(s->n, s->B);
    return (struct sw_sketch){.sums = at[SKETCH_SUMS],
                              .units = s->units,
                              .ld = b + 1,
                              .d = s->d,
                              .block = s->B,
                              .n = s->n,
                              .i0 = s->i0,
                              .i1 = s->i1 ? s->i1 : b,
                              .padded_tail = s->padded,
                              .transform = s->r ? t : NULL,
                              .out = at[OUT]};
}

static enum sw_status run_sketch(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct sketch_shape *s = c->shape;
    struct sw_srht t = sw_srht_at(at, SIGNS, s->d, s->r, 0.3f);
    struct sw_sketch a = sketch_of(c, at, &t);
    return be->sketch(be, &a);
}

static void reference_sketch(struct sw_case *c)
{
    const struct sketch_shape *s = c->shape;
    const float *sums = c->slot[SKETCH_SUMS].host, *signs = c->slot[SIGNS].host;
    const int32_t *keep = c->slot[KEEP].host;
    int b = sw_blocks(s->n, s->B), ld = b + 1;
    for (int u = 0; u < s->units; u++)
        for (int i = s->i0; i < (s->i1 ? s->i1 : b); i++)
            for (int x = 0; x < c->slot[OUT].of.cols; x++) {
                const float *sum = sums + (u * ld + i) * s->d;
                double count = s->padded || i < b - 1 ? s->B : s->n - (b - 1) * s->B, want = 0;
                for (int e = 0; s->r && e < s->d; e++)
                    want += (__builtin_popcount((unsigned)(keep[x] & e)) % 2 ? -1 : 1) *
                            (double)signs[e] * (double)sum[e] / count * (double)0.3f;
                want = s->r ? want : (double)sum[x] / count;
                sw_want(c, OUT, u, i, x, want, 1e-6 * fmax(1, fabs(want)));
            }
}

static void cost_sketch(const struct sw_case *c, double *flops, double *bytes)
{
    const struct sketch_shape *s = c->shape;
    *flops = 0;
    *bytes = 4.0 * s->units * sw_blocks(s->n, s->B) * (s->d + s->r);
}

static void more_sketch(struct sw_backend *be)
{
    float x[2 * 16] = {0}, out[2 * 16];
    struct sw_sketch a = {
        .sums = x, .units = 1, .ld = 2, .d = 16, .block = 16, .n = 16, .i1 = 1, .out = out};
    sw_must(be->sketch(be, &a), "sketch");
    a.i1 = 2; /* block 1 has no tokens */
    sw_refused(be->sketch(be, &a), SW_EINTERNAL);
}

static const struct sketch_shape sketch_shapes[] = {
    {3, 70, 24, 20, 16, 1, 5, 0},    {3, 70, 24, 20, 16, 1, 5, 1},    {3, 70, 24, 0, 16, 1, 5, 0},
    {3, 70, 24, 0, 16, 1, 5, 1},     {1, 1, 64, 64, 64, 0, 0, 0},     {1, 65, 64, 32, 64, 0, 0, 0},
    {1, 1000, 128, 64, 32, 0, 0, 0}, {4, 1000, 96, 128, 16, 0, 0, 1}, {6, 700, 64, 64, 16, 0, 0, 0},
    {4, 900, 64, 16, 16, 0, 0, 0}};
static const struct sketch_shape sketch_large[] = {{8, 2000, 128, 128, 16, 0, 0, 0},
                                                   {1, 4096, 64, 64, 16, 0, 0, 0},
                                                   {2, 3000, 128, 64, 64, 0, 0, 0}};
static const struct sketch_shape sketch_timed[] = {{1, 8192, 128, 64, 64, 0, 0, 0},
                                                   {1, 32768, 128, 64, 64, 0, 0, 0},
                                                   {1, 131072, 128, 64, 64, 0, 0, 0}};

SW_CASES(sketch, .fields = "units n d r B i0 i1 padded", .shapes = SW_SHAPES(sketch_shapes),
         .large = SW_SHAPES(sketch_large), .timed = SW_SHAPES(sketch_timed), .make = make_sketch,
         .run = run_sketch, .reference = reference_sketch, .more = more_sketch,
         .cuda = {[OUT] = {SW_OF_LARGEST, 1e-6, 0}}, .cost = cost_sketch);

/* --- pool_sketch: queries and keys in one call, the last keys apart from the first ones ------- */

enum { PQ, PK, Q_SUMS, K_SUMS, P_SIGNS, P_KEEP, Q_OUT, K_OUT };
struct both_shape {
    int n, H, Hkv, d, B, r, units_q, units_k, padded;
};

static void make_both(struct sw_case *c)
{
    const struct both_shape *s = c->shape;
    int b = sw_blocks(s->n, s->B), ld = b + 3, r = s->r ? s->r : s->d;
    sw_take_acts(c, PQ, (size_t)s->n * (size_t)(s->H * s->d));
    sw_take_acts(c, PK, (size_t)s->n * (size_t)(s->Hkv * s->d));
    sw_take_srht(c, P_SIGNS, s->d, r);
    sw_give(c, Q_SUMS, SW_FLOATS, (struct sw_extent){s->units_q, ld, s->d, b, s->d});
    sw_give(c, K_SUMS, SW_FLOATS, (struct sw_extent){s->units_k, ld, s->d, b, s->d});
    sw_give(c, Q_OUT, SW_FLOATS, (struct sw_extent){s->units_q, ld, r, b, r});
    sw_give(c, K_OUT, SW_FLOATS, (struct sw_extent){s->units_k, ld, r, b, r});
}

static enum sw_status run_both(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct both_shape *s = c->shape;
    struct sw_srht t = sw_srht_at(at, P_SIGNS, s->d, s->r, 1);
    int b = sw_blocks(s->n, s->B), cut = c->use == SW_TIME ? 0 : s->n / 3;
    struct sw_pool pools[3]; /* queries, last keys, first keys */
    struct sw_sketch sketches[3];
    for (int i = 0; i < 3; i++) {
        bool keys = i > 0;
        int heads = keys ? s->Hkv : s->H, t0 = i == 1 ? cut : 0, t1 = i == 2 ? cut : s->n;
        pools[i] =
            (struct sw_pool){.x = (char *)at[keys ? PK : PQ] +
                                  (size_t)t0 * (size_t)(heads * s->d) * sw_dtype_size(be->act),
                             .heads = heads,
                             .head_dim = s->d,
                             .units = keys ? s->units_k : s->units_q,
                             .block = s->B,
                             .t0 = t0,
                             .t1 = t1,
                             .ld = b + 3,
                             .sums = at[keys ? K_SUMS : Q_SUMS]};
        sketches[i] = (struct sw_sketch){.sums = pools[i].sums,
                                         .units = pools[i].units,
                                         .ld = b + 3,
                                         .d = s->d,
                                         .block = s->B,
                                         .n = t1,
                                         .i0 = t0 / s->B,
                                         .i1 = sw_blocks(t1, s->B),
                                         .padded_tail = s->padded,
                                         .transform = s->r ? &t : NULL,
                                         .out = at[keys ? K_OUT : Q_OUT]};
    }
    if (be->pool_sketch) {
        if (cut > 0)
            SW_TRY(be->pool_sketch(be, &pools[2], &sketches[2], 1));
        return be->pool_sketch(be, pools, sketches, 2);
    }
    for (int i = cut > 0 ? 2 : 1; i >= 0; i--) {
        SW_TRY(be->pool(be, &pools[i]));
        SW_TRY(be->sketch(be, &sketches[i]));
    }
    return SW_OK;
}

static void cost_both(const struct sw_case *c, double *flops, double *bytes)
{
    const struct both_shape *s = c->shape;
    *flops = 0;
    *bytes = 2.0 * s->n * (s->H + s->Hkv) * s->d;
}

static const struct both_shape both_shapes[] = {{1, 2, 1, 64, 64, 64, 1, 1, 0},
                                                {1000, 8, 2, 128, 64, 64, 1, 1, 0},
                                                {777, 4, 4, 96, 16, 100, 4, 2, 1},
                                                {515, 6, 3, 80, 128, 0, 3, 3, 0}};
static const struct both_shape both_timed[] = {{8192, 32, 8, 128, 64, 64, 1, 1, 0},
                                               {32768, 32, 8, 128, 64, 64, 1, 1, 0},
                                               {131072, 32, 8, 128, 64, 64, 1, 1, 0}};

SW_CASES(pool_sketch, .covers = "pool_sketch pool sketch",
         .fields = "n H Hkv d B r units_q units_k padded", .shapes = SW_SHAPES(both_shapes),
         .timed = SW_SHAPES(both_timed), .make = make_both, .run = run_both,
         .cuda = {[Q_OUT] = {SW_OF_ROW, 2e-6, 0}, [K_OUT] = {SW_OF_ROW, 2e-6, 0}},
         .cost = cost_both);

/* --- mean_units ------------------------------------------------------------------------------- */

enum { IN, MEAN };
struct mean_shape {
    int units_in, units, rows, cols;
};

static void make_mean(struct sw_case *c)
{
    const struct mean_shape *s = c->shape;
    sw_take_floats(c, IN, (size_t)(s->units_in * (s->rows + 1) * (s->cols + 2)));
    sw_give(c, MEAN, SW_FLOATS,
            (struct sw_extent){s->units, s->rows + 1, s->cols + 2, s->rows, s->cols});
}

static enum sw_status run_mean(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct mean_shape *s = c->shape;
    struct sw_unit_matrix out = sw_matrix(c, at, MEAN);
    return be->mean_units(be,
                          &(struct sw_mean_units){.in = {at[IN], s->units_in, out.ld_rows, out.ld},
                                                  .rows = s->rows,
                                                  .cols = s->cols,
                                                  .out = out});
}

static void reference_mean(struct sw_case *c)
{
    const struct mean_shape *s = c->shape;
    int share = s->units_in / s->units;
    const float *in = c->slot[IN].host;
    for (int i = 0; i < s->units * s->rows * s->cols; i++) {
        int u = i / (s->rows * s->cols), row = i / s->cols % s->rows, col = i % s->cols;
        double want = 0;
        for (int k = 0; k < share; k++)
            want += (double)in[((u * share + k) * (s->rows + 1) + row) * (s->cols + 2) + col];
        sw_want(c, MEAN, u, row, col, want / share, 1e-6);
    }
}

static const struct mean_shape mean_shapes[] = {{6, 2, 5, 7},   {1, 1, 1, 1},     {6, 1, 44, 44},
                                                {4, 4, 57, 57}, {2, 1, 125, 125}, {2, 2, 47, 47}};

SW_CASES(mean_units, .fields = "units_in units rows cols", .shapes = SW_SHAPES(mean_shapes),
         .make = make_mean, .run = run_mean, .reference = reference_mean,
         .cuda = {[MEAN] = {SW_ABSOLUTE, 1e-4, 0}});

/* --- hash_scores: the random method's scores, the same bits everywhere ------------------------ */

enum { HASH };
struct hash_shape {
    int seed, layer, units, row0, rows, cols;
};

static void make_hash(struct sw_case *c)
{
    const struct hash_shape *s = c->shape;
    sw_give(c, HASH, SW_FLOATS,
            (struct sw_extent){s->units, s->rows + 1, s->cols + 2, s->rows, s->cols});
}

static enum sw_status run_hash(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct hash_shape *s = c->shape;
    return be->hash_scores(be, &(struct sw_hash_scores){.seed = (uint64_t)s->seed,
                                                        .layer = s->layer,
                                                        .row0 = s->row0,
                                                        .rows = s->rows,
                                                        .cols = s->cols,
                                                        .out = sw_matrix(c, at, HASH)});
}

static void reference_hash(struct sw_case *c)
{
    const struct hash_shape *s = c->shape;
    for (int i = 0; i < s->units * s->rows * s->cols; i++) {
        int u = i / (s->rows * s->cols), row = i / s->cols % s->rows, col = i % s->cols;
        uint64_t index = (uint64_t)(s->layer * s->units + u) << 40 |
                         (uint64_t)(s->row0 + row) << 20 | (uint64_t)col;
        sw_want(c, HASH, u, row, col,
                sw_rng_uniform((uint64_t)s->seed, SW_RNG_RANDOM_METHOD, index), 0x1p-24);
    }
}

static void check_hash(struct sw_case *c, struct sw_backend *be, const struct sw_result *got)
{
    (void)be;
    const float *x = got->of[HASH];
    struct sw_extent of = c->slot[HASH].of;
    for (int row = 0, wrong = 0; row < of.units * of.rows; row++) {
        for (int j = 0; j < of.cols; j++) {
            float value = x[(row / of.rows * of.ld_rows + row % of.rows) * of.ld + j];
            wrong += !(value >= 0 && value < 1);
        }
        sw_holds(wrong == 0, "row %d: %d scores outside [0, 1)", row, wrong);
    }
}

static const struct hash_shape hash_shapes[] = {{7, 3, 2, 4, 5, 7}, {77, 5, 3, 90, 39, 129}};

SW_CASES(hash_scores, .fields = "seed layer units row0 rows cols", .shapes = SW_SHAPES(hash_shapes),
         .make = make_hash, .run = run_hash, .reference = reference_hash, .check = check_hash);
