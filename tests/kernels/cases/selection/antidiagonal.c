/* antidiagonal.c: XAttention's scores from sums along antidiagonals. */
#include "tests/kernels/cases.h"

enum { Q, K, OUT };
struct shape {
    int n, H, Hkv, d, stride, B;
};

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int b = sw_blocks(s->n, s->B);
    sw_take_acts(c, Q, (size_t)s->n * (size_t)(s->H * s->d));
    sw_take_acts(c, K, (size_t)s->n * (size_t)(s->Hkv * s->d));
    sw_give(c, OUT, SW_FLOATS, (struct sw_extent){s->H, b + 2, b + 1, b, b});
}

static struct sw_attend attend_of(const struct shape *s, const void *q, const void *k)
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
                              .scale = 2.0f / sqrtf((float)s->d)};
}

static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    struct sw_attend in = attend_of(s, at[Q], at[K]);
    return be->antidiagonal(
        be, &(struct sw_antidiagonal){
                .in = &in, .stride = s->stride, .block = s->B, .out = sw_matrix(c, at, OUT)});
}

/* <q of token t, k of token u> of head h; tokens that the last group lacks are zero vectors. */
static double product(const struct sw_case *c, int h, int t, int u)
{
    const struct shape *s = c->shape;
    const float *q = (float *)c->slot[Q].host + (t * s->H + h) * s->d,
                *k = (float *)c->slot[K].host + (u * s->Hkv + h / (s->H / s->Hkv)) * s->d;
    double sum = 0;
    for (int x = 0; x < s->d && t < s->n && u < s->n; x++)
        sum += (double)q[x] * (double)k[x];
    return sum;
}

/* Adds the softmax row of group g to the block row `mass`. */
static void add_group(const struct sw_case *c, int h, int g, double *z, double *mass)
{
    const struct shape *s = c->shape;
    double sum = 0, top = -INFINITY, scale = (double)(2.0f / sqrtf((float)s->d)) / s->stride;
    for (int k = 0; k <= g; k++) {
        z[k] = 0;
        for (int x = 0; x < s->stride; x++)
            z[k] += product(c, h, g * s->stride + s->stride - 1 - x, k * s->stride + x) * scale;
        top = fmax(top, z[k]);
    }
    for (int k = 0; k <= g; k++)
        sum += exp(z[k] - top);
    for (int k = 0; k <= g; k++)
        mass[k / (s->B / s->stride)] += exp(z[k] - top) / sum;
}

static void reference(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int groups = sw_blocks(s->n, s->stride), share = s->B / s->stride, b = sw_blocks(s->n, s->B);
    double *z = sw_need((size_t)groups * sizeof *z), *mass = sw_need((size_t)b * sizeof *mass);
    for (int h = 0; h < s->H; h++)
        for (int i = 0; i < b; i++) {
            memset(mass, 0, (size_t)b * sizeof *mass);
            for (int g = i * share; g < groups && g < (i + 1) * share; g++)
                add_group(c, h, g, z, mass);
            for (int j = 0; j < b; j++)
                sw_want(c, OUT, h, i, j, mass[j], 5e-6 * mass[j] + 1e-30);
        }
    free(z);
    free(mass);
}

/* d = 1, stride 2: Z = [[2, ·], [4, 11]], so that row 1 of W is softmax(2, 5.5); a block of two
 * groups adds both rows. */
static void more(struct sw_backend *be)
{
    static const float q[] = {1, 2, 3, 4}, k[] = {1, 0, 2, 1};
    static const double want[] = {1, 0, 0.0293, 0.9707}, allowed[] = {1e-6, 0, 5e-5, 5e-5};
    float out[4];
    struct sw_attend in = attend_of(&(struct shape){4, 1, 1, 1, 2, 2}, q, k);
    in.scale = 1;
    struct sw_antidiagonal a = {.in = &in, .stride = 2, .block = 2, .out = {out, 1, 2, 2}};
    sw_must(be->antidiagonal(be, &a), "antidiagonal");
    for (int i = 0; i < 4; i++)
        sw_near((double)out[i], want[i], allowed[i]);
    a.block = 4;
    a.out = (struct sw_unit_matrix){out, 1, 1, 1};
    sw_must(be->antidiagonal(be, &a), "antidiagonal");
    sw_near((double)out[0], 2, 1e-6); /* B / stride */
    a.stride = 3;
    sw_refused(be->antidiagonal(be, &a), SW_EINTERNAL);
}

static const struct shape shapes[] = {
    {1, 1, 1, 8, 8, 16},    {9, 2, 1, 16, 8, 16},   {150, 4, 2, 64, 8, 16}, {128, 2, 2, 32, 16, 64},
    {131, 3, 1, 24, 4, 32}, {90, 6, 3, 16, 1, 16},  {333, 2, 1, 32, 2, 64}, {257, 2, 2, 96, 64, 64},
    {2, 2, 1, 64, 8, 64},   {200, 4, 2, 64, 16, 32}};
static const struct shape large[] = {
    {1000, 6, 2, 128, 8, 64}, {2100, 8, 2, 96, 16, 128}, {3000, 4, 4, 128, 4, 64}};

SW_CASES(antidiagonal, .fields = "n H Hkv d stride B", .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .make = make, .run = run, .reference = reference, .more = more,
         .cuda = {[OUT] = {SW_OF_LARGEST, 1e-4, 0}});
