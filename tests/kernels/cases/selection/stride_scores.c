/* stride_scores.c: Stem's scores, from every pair of groups. */
#include "tests/kernels/cases.h"

enum { Q, K, V, OUT };
struct shape {
    int n, H, Hkv, d, stride, B;
};
static const float BONUS = 0.4f;

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int b = sw_blocks(s->n, s->B);
    sw_take_acts(c, Q, (size_t)s->n * (size_t)(s->H * s->d));
    sw_take_acts(c, K, (size_t)s->n * (size_t)(s->Hkv * s->d));
    float *v = sw_take_acts(c, V, (size_t)s->n * (size_t)(s->Hkv * s->d));
    for (size_t i = 0; i < c->slot[V].given; i++) /* sizes that differ by token */
        v[i] *= (float)(1 << (i / (size_t)(s->Hkv * s->d) * 7 % 5));
    sw_give(c, OUT, SW_FLOATS, (struct sw_extent){s->H, b + 2, b + 1, b, b});
}

static struct sw_attend attend_of(const struct shape *s, const void *q, const void *k,
                                  const void *v)
{
    return (struct sw_attend){.batch = 1,
                              .n_q = s->n,
                              .n_k = s->n,
                              .n_heads = s->H,
                              .n_kv_heads = s->Hkv,
                              .head_dim = s->d,
                              .kv_stride = s->n,
                              .q = q,
                              .k = k,
                              .v = v,
                              .scale = 2.0f / sqrtf((float)s->d)};
}

static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    struct sw_attend in = attend_of(s, at[Q], at[K], at[V]);
    return be->stride_scores(be, &(struct sw_stride_scores){.in = &in,
                                                            .stride = s->stride,
                                                            .block = s->B,
                                                            .bonus = BONUS,
                                                            .out = sw_matrix(c, at, OUT)});
}

/* What is there of x [n, heads, d] for token t of head h; NULL past the end. */
static const float *token(const struct sw_case *c, int slot, int heads, int h, int t)
{
    const struct shape *s = c->shape;
    return t < s->n ? (float *)c->slot[slot].host + (t * heads + h) * s->d : NULL;
}

static double product(const struct shape *s, const float *x, const float *y)
{
    double sum = 0;
    for (int i = 0; x && y && i < s->d; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

/* The mean logit of block i's and block j's groups; *size: of its terms together. */
static double logit(const struct sw_case *c, int h, int i, int j, double *size)
{
    const struct shape *s = c->shape;
    int share = s->B / s->stride, kv = h / (s->H / s->Hkv);
    double sum = 0;
    *size = 0;
    for (int a = i * share; a < (i + 1) * share; a++)
        for (int g = j * share; g < (j + 1) * share; g++)
            for (int x = 0; x < s->stride; x++) {
                double p = product(s, token(c, Q, s->H, h, a * s->stride + s->stride - 1 - x),
                                   token(c, K, s->Hkv, kv, g * s->stride + x));
                sum += p;
                *size += fabs(p);
            }
    double scale = (double)(2.0f / sqrtf((float)s->d)) / s->stride / share / share;
    *size *= scale;
    return sum * scale;
}

static double log_size(const struct sw_case *c, int kv, int g)
{
    const struct shape *s = c->shape;
    double largest = 0;
    for (int t = g * s->stride; t < (g + 1) * s->stride; t++) {
        const float *v = token(c, V, s->Hkv, kv, t);
        largest = fmax(largest, product(s, v, v));
    }
    return log(sqrt(largest) + 1e-6);
}

static double bonus(const struct sw_case *c, int kv, int j)
{
    const struct shape *s = c->shape;
    int whole = s->n / s->stride, share = s->B / s->stride;
    double mean = 0, squares = 0, sum = 0;
    for (int g = 0; g < whole; g++)
        mean += log_size(c, kv, g) / whole;
    for (int g = 0; g < whole; g++)
        squares += pow(log_size(c, kv, g) - mean, 2);
    for (int g = j * share; whole > 1 && g < (j + 1) * share && g * s->stride < s->n; g++)
        sum += fmax(0, (log_size(c, kv, g) - mean) / (sqrt(squares / (whole - 1)) + 1e-6));
    return (double)BONUS * sum / share;
}

static void reference(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int b = sw_blocks(s->n, s->B);
    double *of_block = sw_need((size_t)(s->Hkv * b) * sizeof *of_block);
    for (int x = 0; x < s->Hkv * b; x++)
        of_block[x] = bonus(c, x / b, x % b);
    for (int row = 0; row < s->H * b; row++)
        for (int h = row / b, i = row % b, j = 0; j < b; j++) {
            double size = 0, want = -INFINITY;
            if (j <= i)
                want = logit(c, h, i, j, &size) + of_block[h / (s->H / s->Hkv) * b + j];
            sw_want(c, OUT, h, i, j, want, j <= i ? 1e-5 * (size + (double)BONUS) : 0);
        }
    free(of_block);
}

/* d = 1, groups of two, blocks of four tokens: by hand. */
static void more(struct sw_backend *be)
{
    static const float q[] = {1, 2, 3, 4}, k[] = {1, 0, 2, 1}, v[] = {1, 1, 1, 1};
    float out[1];
    struct sw_attend in = attend_of(&(struct shape){4, 1, 1, 1, 2, 4}, q, k, v);
    in.scale = 1;
    struct sw_stride_scores a = {
        .in = &in, .stride = 2, .block = 4, .bonus = 1, .out = {out, 1, 1, 1}};
    sw_must(be->stride_scores(be, &a), "stride_scores");
    /* Z = [[2·1 + 1·0, 2·2 + 1·1], [4·1 + 3·0, 4·2 + 3·1]], its mean 22/4, over the stride */
    sw_near((double)out[0], 22.0 / 4 / 2, 1e-6); /* values alike: no bonus */
    a.stride = 3;
    sw_refused(be->stride_scores(be, &a), SW_EINTERNAL);
    a.stride = 2;
    in.v = NULL;
    sw_refused(be->stride_scores(be, &a), SW_EINTERNAL);
}

static const struct shape shapes[] = {
    {1, 1, 1, 8, 8, 16},    {9, 2, 1, 16, 8, 16},   {150, 4, 2, 64, 8, 16}, {128, 2, 2, 32, 16, 64},
    {131, 3, 1, 24, 4, 32}, {90, 6, 3, 16, 1, 16},  {333, 2, 1, 32, 2, 64}, {257, 2, 2, 96, 64, 64},
    {2, 2, 1, 64, 8, 64},   {200, 4, 2, 64, 16, 32}};
static const struct shape large[] = {
    {1000, 6, 2, 128, 8, 64}, {2100, 8, 2, 96, 16, 128}, {3000, 4, 4, 128, 4, 64}};

SW_CASES(stride_scores, .fields = "n H Hkv d stride B", .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .make = make, .run = run, .reference = reference, .more = more,
         .cuda = {[OUT] = {SW_OF_LARGEST, 1e-4, 0}});
