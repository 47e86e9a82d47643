/* block_mass.c: the true attention that falls on each block. */
#include "tests/kernels/cases.h"

enum { Q, K, OUT };
struct shape {
    int n_q, n, H, Hkv, d, B;
};

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int b = sw_blocks(s->n, s->B), rows = b - (s->n - s->n_q) / s->B;
    sw_take_acts(c, Q, (size_t)s->n_q * (size_t)(s->H * s->d));
    sw_take_acts(c, K, (size_t)s->n * (size_t)(s->Hkv * s->d));
    sw_give(c, OUT, SW_FLOATS, (struct sw_extent){s->H, rows + 1, b + 3, rows, b});
}

static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    return be->block_mass(be, &(struct sw_block_mass){.in = {.batch = 1,
                                                             .n_q = s->n_q,
                                                             .n_k = s->n,
                                                             .n_heads = s->H,
                                                             .n_kv_heads = s->Hkv,
                                                             .head_dim = s->d,
                                                             .kv_stride = s->n,
                                                             .q = at[Q],
                                                             .k = at[K],
                                                             .scale = 2.0f / sqrtf((float)s->d)},
                                                      .block = s->B,
                                                      .out = sw_matrix(c, at, OUT)});
}

/* The weights of query t of head h on the keys up to its own. */
static void softmax(const struct sw_case *c, int h, int t, double *p)
{
    const struct shape *s = c->shape;
    int d = s->d;
    const float *q = (float *)c->slot[Q].host + ((t - s->n + s->n_q) * s->H + h) * d,
                *k = (float *)c->slot[K].host + h / (s->H / s->Hkv) * d;
    double top = -INFINITY, sum = 0;
    for (int u = 0; u <= t; u++) {
        p[u] = 0;
        for (int x = 0; x < d; x++)
            p[u] += (double)q[x] * (double)k[u * s->Hkv * d + x];
        p[u] *= (double)(2.0f / sqrtf((float)d));
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
    int b = sw_blocks(s->n, s->B), first = s->n - s->n_q, row0 = first / s->B;
    double *p = sw_need((size_t)s->n * sizeof *p), *mass = sw_need((size_t)b * sizeof *mass);
    for (int h = 0; h < s->H; h++)
        for (int i = row0; i < b; i++) {
            int from = i * s->B > first ? i * s->B : first,
                to = (i + 1) * s->B < s->n ? (i + 1) * s->B : s->n;
            memset(mass, 0, (size_t)b * sizeof *mass);
            for (int t = from; t < to; t++) {
                softmax(c, h, t, p);
                for (int u = 0; u <= t; u++)
                    mass[u / s->B] += p[u] / (to - from);
            }
            /* relative to the block: sums of at most 2^16 positive terms, each with a relative
             * error of some 1e-6 */
            for (int j = 0; j < b; j++)
                sw_want(c, OUT, h, i - row0, j, mass[j], 1e-5 * mass[j]);
        }
    free(p);
    free(mass);
}

static void check(struct sw_case *c, struct sw_backend *be, const struct sw_result *got)
{
    (void)be;
    struct sw_extent of = c->slot[OUT].of;
    const float *out = got->of[OUT];
    for (int row = 0; row < of.units * of.rows; row++) {
        double sum = 0;
        for (int j = 0; j < of.cols; j++)
            sum += (double)out[(row / of.rows * of.ld_rows + row % of.rows) * of.ld + j];
        sw_holds(fabs(sum - 1) <= 1e-4, "row %d sums to 1 %+.3g", row, sum - 1);
    }
}

static void cost(const struct sw_case *c, double *flops, double *bytes)
{
    const struct shape *s = c->shape;
    *flops =
        2.0 * s->H * s->d * s->n * (s->n + 1.0); /* the products twice: to sum, and to divide */
    *bytes = 0;
}

/* All queries equal to zero: every key weighs the same; n = 4, B = 2 give [1], [7/12, 5/12]. */
static void more(struct sw_backend *be)
{
    float q[4 * 32] = {0}, k[4 * 32], out[4];
    for (int i = 0; i < 4 * 32; i++)
        k[i] = (float)sw_rng_normal(1, SW_RNG_TEST, (uint64_t)i);
    struct sw_block_mass a = {.in = {.batch = 1,
                                     .n_q = 4,
                                     .n_k = 4,
                                     .n_heads = 1,
                                     .n_kv_heads = 1,
                                     .head_dim = 32,
                                     .kv_stride = 4,
                                     .q = q,
                                     .k = k,
                                     .scale = 1},
                              .block = 2,
                              .out = {out, 1, 2, 2}};
    sw_must(be->block_mass(be, &a), "block_mass");
    static const float want[] = {1, 0, 7.0f / 12, 5.0f / 12};
    for (int i = 0; i < 4; i++)
        sw_near(out[i], want[i], i == 1 ? 0 : 1e-6f);
}

static const struct shape shapes[] = {
    {1, 1, 2, 2, 64, 16},       {63, 63, 2, 1, 64, 64},   {64, 64, 4, 1, 80, 64},
    {65, 65, 3, 1, 128, 64},    {199, 199, 4, 2, 64, 32}, {150, 150, 8, 1, 32, 16},
    {300, 300, 2, 2, 256, 128}, {1, 200, 6, 2, 64, 64},   {1, 64, 3, 3, 96, 64},
    {600, 600, 1, 1, 64, 256},  {1, 1, 2, 2, 64, 64},     {65, 65, 4, 2, 64, 64}};
static const struct shape large[] = {
    {300, 300, 4, 2, 128, 64},  {300, 300, 4, 4, 128, 32},   {300, 300, 6, 2, 96, 16},
    {700, 700, 4, 1, 128, 128}, {1000, 1000, 2, 1, 64, 256}, {1, 333, 4, 2, 128, 64},
    {1, 1000, 8, 2, 64, 128},   {200, 200, 2, 1, 256, 64},   {2500, 2500, 4, 1, 128, 64}};
static const struct shape timed[] = {{8192, 8192, 32, 8, 128, 64}, {32768, 32768, 32, 8, 128, 64}};

SW_CASES(block_mass, .fields = "n_q n H Hkv d B", .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .timed = SW_SHAPES(timed), .make = make, .run = run,
         .reference = reference, .check = check, .more = more,
         .cuda = {[OUT] = {SW_ABSOLUTE, 2e-5, 0}}, .cost = cost);
