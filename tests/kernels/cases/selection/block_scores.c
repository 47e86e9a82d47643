/* block_scores.c: products of queries and keys a block, softmax, powers, means over units. */
#include "tests/kernels/cases.h"

enum { Q, K, GIVEN, OUT };
enum { SOFTMAX = 1, CAUSAL = 2, POWER = 4, CLAMPED = 8, MODES = 16 }; /* a variant */
static const float CLAMP = 0.75f;
enum given { NO_COLUMNS, NONE_GIVEN, SOME_GIVEN, ALL_GIVEN };

struct shape {
    int units_q, units_k, units, rows, row0, b, r, pooled;
    enum given given;      /* columns that have a score already */
    float exponent, scale; /* scale: times 1/√r */
};

static bool softmax(const struct sw_case *c) { return c->variant & SOFTMAX; }

static float exponent_of(const struct sw_case *c)
{
    const struct shape *s = c->shape;
    float exponent = c->variant & POWER ? s->exponent : 1;
    return !softmax(c) && exponent == 2.5f ? 2 : exponent; /* of negative numbers */
}

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int rows = s->pooled ? 1 : s->rows;
    sw_take_floats(c, Q, (size_t)(s->units_q * (s->rows + 1) * s->r));
    sw_take_floats(c, K, (size_t)(s->units_k * (s->b + 1) * s->r));
    float *given = sw_take_floats(c, GIVEN, (size_t)(s->units_k * (s->b + 1)));
    for (int j = 0; j < s->units_k * (s->b + 1); j++) {
        int column = j % (s->b + 1);
        bool none = s->given == NONE_GIVEN || (s->given == SOME_GIVEN && column >= 3 && j % 4);
        given[j] = none ? NAN : (float)(j % 5) - 1.5f;
    }
    sw_give(c, OUT, SW_FLOATS, (struct sw_extent){s->units, rows + 1, s->b + 2, rows, s->b});
    if (!softmax(c))
        c->cuda[OUT] = (struct sw_bound){SW_OF_LARGEST, 1e-4, 0};
    else if (s->units == s->units_q && !s->pooled)
        c->cuda[OUT] = (struct sw_bound){SW_OF_ROW, 1e-4, 0};
}

static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    return be->block_scores(be,
                            &(struct sw_block_scores){.q = at[Q],
                                                      .k = at[K],
                                                      .units_q = s->units_q,
                                                      .units_k = s->units_k,
                                                      .rows = s->rows,
                                                      .row0 = s->row0,
                                                      .b = s->b,
                                                      .r = s->r,
                                                      .q_ld = s->rows + 1,
                                                      .k_ld = s->b + 1,
                                                      .scale = s->scale / sqrtf((float)s->r),
                                                      .clamp = c->variant & CLAMPED ? CLAMP : 0,
                                                      .exponent = exponent_of(c),
                                                      .softmax = softmax(c),
                                                      .causal = c->variant & CAUSAL,
                                                      .pool_rows = s->pooled,
                                                      .column_scores = s->given ? at[GIVEN] : NULL,
                                                      .out = sw_matrix(c, at, OUT)});
}

/* One row of one unit of queries: its scores before the mean over units. */
static void row_of(const struct sw_case *c, int u, int i, double *x)
{
    const struct shape *s = c->shape;
    int own = s->row0 + (s->pooled ? 0 : i), n = own + 1, uk = u * s->units_k / s->units_q;
    const float *q = (float *)c->slot[Q].host + (u * (s->rows + 1) + i) * s->r,
                *k = (float *)c->slot[K].host + uk * (s->b + 1) * s->r,
                *given = (float *)c->slot[GIVEN].host + uk * (s->b + 1);
    double sum = 0;
    if (!(c->variant & CAUSAL) || n > s->b)
        n = s->b;
    for (int j = 0; j < s->b; j++) {
        x[j] = 0;
        for (int e = 0; e < s->r && j < n; e++)
            x[j] += (double)q[e] * (double)k[j * s->r + e];
        x[j] *= (double)(s->scale / sqrtf((float)s->r));
        if (c->variant & CLAMPED)
            x[j] = fmin(fmax(x[j], -(double)CLAMP), (double)CLAMP);
        if (j < n && (!s->given || isnan(given[j])))
            sum += exp(x[j]);
    }
    for (int j = 0; j < n; j++)
        x[j] = s->given && !isnan(given[j])
                   ? (double)given[j]
                   : pow(softmax(c) ? exp(x[j]) / sum : x[j], (double)exponent_of(c));
}

static void reference(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int share = s->units_q / s->units, pooled = s->pooled ? s->rows : 1;
    double *x = sw_need((size_t)s->b * sizeof *x), *mean = sw_need((size_t)s->b * sizeof *mean);
    for (int u = 0; u < s->units; u++)
        for (int i = 0; i < s->rows / pooled; i++) {
            memset(mean, 0, (size_t)s->b * sizeof *mean);
            for (int k = 0; k < share * pooled; k++) {
                row_of(c, u * share + k / pooled, i + k % pooled, x);
                for (int j = 0; j < s->b; j++)
                    mean[j] += x[j] / (share * pooled);
            }
            for (int j = 0; j < s->b; j++) {
                double want = fabs(mean[j]);
                /* scores are some units large: 2^-24·5 in the exponent, times the power; raw
                 * powers of sums of r terms */
                double allowed = s->given     ? 1e-5 * fmax(want, softmax(c) ? 0.01 : 3)
                                 : softmax(c) ? want * 2e-6 * fmax(1, exponent_of(c)) + 1e-37
                                              : 4e-6 * fmax(want, 0.3);
                sw_want(c, OUT, u, i, j, mean[j], allowed);
            }
        }
    free(x);
    free(mean);
}

static void cost(const struct sw_case *c, double *flops, double *bytes)
{
    const struct shape *s = c->shape;
    *flops = 2.0 * s->units_q * s->rows * s->b * s->r;
    *bytes = 4.0 * s->units * s->rows * s->b;
}

/* Every key equal, any number of blocks and queries: all scores of a row are equal, to the last
 * bit. */
static void more(struct sw_backend *be)
{
    enum { MOST = 150, ROWS = 19 };
    for (int r = 16; r <= 128; r += 24) {
        float *q = sw_need(((size_t)(ROWS + MOST) * (size_t)r + ROWS * MOST) * sizeof *q),
              *k = q + ROWS * r, *out = k + MOST * r;
        for (int i = 0; i < ROWS * r; i++)
            q[i] = (float)sw_rng_normal((uint64_t)r, SW_RNG_TEST, (uint64_t)i);
        for (int i = 0; i < MOST * r; i++)
            k[i] = (float)sw_rng_normal(77, SW_RNG_TEST, (uint64_t)(i % r));
        for (int b = 1; b <= MOST; b++)
            for (int rows = 1; rows <= ROWS; rows += 3) {
                int unlike = 0;
                sw_must(be->block_scores(be, &(struct sw_block_scores){.q = q,
                                                                       .k = k,
                                                                       .units_q = 1,
                                                                       .units_k = 1,
                                                                       .rows = rows,
                                                                       .b = b,
                                                                       .r = r,
                                                                       .q_ld = rows,
                                                                       .k_ld = b,
                                                                       .scale = 0.3f,
                                                                       .exponent = 1,
                                                                       .out = {out, 1, rows, b}}),
                        "block_scores");
                for (int x = 0; x < rows * b; x++)
                    unlike += out[x] != out[x / b * b];
                sw_holds(unlike == 0, "r %d b %d rows %d: %d scores of equal keys differ", r, b,
                         rows, unlike);
            }
        free(q);
    }
}

static const struct shape shapes[] = {{1, 1, 1, 37, 0, 37, 64, 0, 0, 1, 0.5f},
                                      {6, 2, 1, 20, 0, 20, 16, 0, 0, 8, 0.5f},
                                      {6, 2, 6, 33, 0, 33, 16, 0, 0, 3, 0.5f},
                                      {8, 8, 2, 5, 11, 16, 32, 0, 0, 2.5f, 0.5f},
                                      {4, 2, 2, 1, 18, 19, 64, 0, 0, 1, 0.5f},
                                      {6, 2, 1, 32, 18, 19, 64, 1, 0, 8, 0.5f},
                                      {2, 1, 2, 7, 9, 10, 8, 1, 0, 3, 0.5f},
                                      {1, 1, 1, 1, 0, 1, 64, 0, 0, 8, 1},
                                      {1, 1, 1, 16, 0, 16, 64, 0, 0, 8, 1},
                                      {4, 2, 4, 63, 0, 63, 20, 0, 0, 1, 1},
                                      {2, 1, 2, 42, 21, 63, 128, 0, 0, 2.5f, 1},
                                      {1, 1, 1, 3, 31, 32, 64, 1, 0, 8, 0.5f},
                                      {4, 2, 1, 3, 62, 63, 128, 1, 0, 1, 0.5f},
                                      {6, 2, 6, 3, 43, 44, 64, 1, 0, 1, 0.5f},
                                      {6, 2, 6, 21, 0, 21, 16, 0, NONE_GIVEN, 3, 1.6f},
                                      {6, 2, 6, 21, 0, 21, 16, 0, SOME_GIVEN, 3, 1.6f},
                                      {6, 2, 6, 21, 0, 21, 16, 0, ALL_GIVEN, 3, 1.6f},
                                      {6, 2, 2, 21, 0, 21, 16, 0, NONE_GIVEN, 3, 1.6f},
                                      {6, 2, 2, 21, 0, 21, 16, 0, SOME_GIVEN, 3, 1.6f},
                                      {6, 2, 2, 21, 0, 21, 16, 0, ALL_GIVEN, 3, 1.6f},
                                      {6, 2, 1, 21, 0, 21, 16, 0, NONE_GIVEN, 3, 1.6f},
                                      {6, 2, 1, 21, 0, 21, 16, 0, SOME_GIVEN, 3, 1.6f},
                                      {6, 2, 1, 21, 0, 21, 16, 0, ALL_GIVEN, 3, 1.6f},
                                      {6, 2, 3, 7, 14, 21, 16, 0, NONE_GIVEN, 3, 1.6f},
                                      {6, 2, 3, 7, 14, 21, 16, 0, SOME_GIVEN, 3, 1.6f},
                                      {6, 2, 3, 7, 14, 21, 16, 0, ALL_GIVEN, 3, 1.6f}};
/* Whole rows in one launch, rows of a chunk, and with a mean over units, at a prompt's lengths. */
static const struct shape large[] = {
    {1, 1, 1, 257, 0, 257, 64, 0, 0, 8, 1},        {4, 2, 4, 257, 0, 257, 20, 0, 0, 1, 1},
    {2, 1, 2, 172, 85, 257, 128, 0, 0, 2.5f, 1},   {1, 1, 1, 300, 0, 300, 64, 0, 0, 8, 1},
    {4, 2, 4, 300, 0, 300, 20, 0, 0, 1, 1},        {2, 1, 2, 200, 100, 300, 128, 0, 0, 2.5f, 1},
    {1, 1, 1, 600, 0, 600, 64, 0, 0, 8, 1},        {4, 2, 4, 600, 0, 600, 20, 0, 0, 1, 1},
    {2, 1, 2, 400, 200, 600, 128, 0, 0, 2.5f, 1},  {8, 2, 2, 125, 0, 125, 128, 0, 0, 2.5f, 0.5f},
    {8, 2, 2, 3, 124, 125, 128, 1, 0, 2.5f, 0.5f}, {1, 1, 1, 256, 0, 256, 64, 0, 0, 8, 0.5f},
    {4, 4, 4, 57, 0, 57, 16, 0, 0, 2, 0.5f},       {2, 2, 2, 47, 0, 47, 64, 0, 0, 4, 0.5f}};
static const struct shape timed[] = {{1, 1, 1, 128, 0, 128, 64, 0, 0, 8, 1},
                                     {1, 1, 1, 512, 0, 512, 64, 0, 0, 8, 1},
                                     {1, 1, 1, 2048, 0, 2048, 64, 0, 0, 8, 1}};

SW_CASES(block_scores, .fields = "units_q units_k units rows row0 b r pooled given",
         .variants = MODES, .shapes = SW_SHAPES(shapes), .large = SW_SHAPES(large),
         .timed = SW_SHAPES(timed), .make = make, .run = run, .reference = reference, .more = more,
         .cuda = {[OUT] = {SW_ABSOLUTE, 2e-5, 0}}, .cost = cost);
