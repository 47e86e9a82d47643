/* similarity.c: how alike the tokens of a block are. */
#include "tests/kernels/cases.h"

enum { X, SHIFT, OUT };
enum { PLAIN, SHIFTED, VARIANTS }; /* a variant */
struct shape {
    int n, heads, d, B;
};

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int b = sw_blocks(s->n, s->B);
    float *x = sw_take_acts(c, X, (size_t)s->n * (size_t)(s->heads * s->d)),
          *shift = sw_take_floats(c, SHIFT, (size_t)(s->heads * s->d));
    for (int i = 0; i < s->heads * s->d; i++) {
        shift[i] = sw_bf16_round(shift[i]);
        /* a zero vector, and one as large as fp32 allows; what CUDA gets must be bf16 */
        x[s->n / 2 * s->heads * s->d + i] = c->variant == SHIFTED ? shift[i] : 0;
        if (s->n > 40)
            x[40 * s->heads * s->d + i] = sw_bf16_round(i % s->d == 0 ? 1e30f : 1e20f);
    }
    sw_give(c, OUT, SW_FLOATS, (struct sw_extent){1, s->heads, b + 1, s->heads, b});
}

static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    return be->similarity(be,
                          &(struct sw_similarity){.x = at[X],
                                                  .heads = s->heads,
                                                  .head_dim = s->d,
                                                  .n = s->n,
                                                  .block = s->B,
                                                  .shift = c->variant == SHIFTED ? at[SHIFT] : NULL,
                                                  .out = at[OUT],
                                                  .ld = c->slot[OUT].of.ld});
}

/* The mean of the cosines of all pairs of tokens t0 … t1 - 1, self pairs included. */
static double mean_cosine(const struct sw_case *c, int h, int t0, int t1)
{
    const struct shape *s = c->shape;
    const float *x = (float *)c->slot[X].host + h * s->d,
                *shift = (float *)c->slot[SHIFT].host + h * s->d;
    double sum = 0;
    for (int t = t0; t < t1; t++)
        for (int u = t0; u < t1; u++) {
            double dot = 0, tt = 0, uu = 0;
            for (int e = 0; e < s->d; e++) {
                float away = c->variant == SHIFTED ? shift[e] : 0;
                double y = (double)(x[t * s->heads * s->d + e] - away),
                       z = (double)(x[u * s->heads * s->d + e] - away);
                dot += y * z;
                tt += y * y;
                uu += z * z;
            }
            sum += tt > 0 && uu > 0 ? dot / sqrt(tt) / sqrt(uu) : 0;
        }
    return sum / (t1 - t0) / (t1 - t0);
}

static void reference(struct sw_case *c)
{
    const struct shape *s = c->shape;
    for (int h = 0; h < s->heads; h++)
        for (int i = 0; i < sw_blocks(s->n, s->B); i++) {
            int end = (i + 1) * s->B < s->n ? (i + 1) * s->B : s->n;
            sw_want(c, OUT, 0, h, i, mean_cosine(c, h, i * s->B, end), 1e-6);
        }
}

static void more(struct sw_backend *be)
{
    static const float same[] = {3, 4, 3, 4}, opposite[] = {3, 4, -3, -4};
    float out;
    struct sw_similarity a = {
        .x = same, .heads = 1, .head_dim = 2, .n = 2, .block = 16, .out = &out, .ld = 1};
    sw_must(be->similarity(be, &a), "similarity");
    sw_near((double)out, 1, 1e-6);
    a.x = opposite;
    sw_must(be->similarity(be, &a), "similarity");
    sw_near((double)out, 0, 1e-6);
}

static const struct shape shapes[] = {{1, 1, 8, 16},   {70, 3, 64, 16}, {64, 2, 128, 64},
                                      {45, 2, 24, 32}, {2, 1, 64, 64},  {200, 2, 64, 32}};
static const struct shape large[] = {{1000, 2, 128, 64}, {2100, 2, 96, 128}, {3000, 4, 128, 64}};

SW_CASES(similarity, .fields = "n heads d B", .variants = VARIANTS, .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .make = make, .run = run, .reference = reference, .more = more,
         .cuda = {[OUT] = {SW_OF_LARGEST, 1e-5, 0}});
