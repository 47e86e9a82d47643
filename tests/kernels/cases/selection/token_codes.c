/* token_codes.c: compact codes of keys, and scores of tokens by them. */
#include "tests/kernels/cases.h"

enum { KEYS, CHANNELS, WORDS, Q, OUT };
enum { HADAMARD, MINMAX, MINMAX_OF_SOME, KINDS }; /* a variant */
struct shape {
    int n, H, Hkv, d;
};

static const struct shape shapes[] = {{1, 2, 1, 64},    {15, 3, 3, 40},   {16, 4, 2, 80},
                                      {300, 6, 2, 64},  {700, 8, 1, 128}, {129, 5, 5, 96},
                                      {257, 24, 2, 32}, {64, 1, 1, 256},  {128, 2, 2, 16}};
static const struct shape large[] = {{1000, 6, 2, 128}, {2100, 8, 2, 96}, {3000, 4, 4, 128}};
static const struct shape timed[] = {{32768, 32, 8, 128}, {131072, 32, 8, 128}};

static int channels_of(const struct sw_case *c)
{
    const struct shape *s = c->shape;
    return c->variant == MINMAX_OF_SOME ? s->d / 8 + 1 : s->d;
}

static struct sw_token_codes codes_of(const struct sw_case *c, void *const *at)
{
    const struct shape *s = c->shape;
    return (struct sw_token_codes){.kind = c->variant == HADAMARD ? SW_CODES_HADAMARD
                                                                  : SW_CODES_MINMAX4,
                                   .heads = s->Hkv,
                                   .head_dim = s->d,
                                   .n_channels = channels_of(c),
                                   .ld = s->n + 2,
                                   .channels = c->variant == MINMAX_OF_SOME ? at[CHANNELS] : NULL,
                                   .words = at[WORDS]};
}

static int words_a_token(const struct sw_case *c)
{
    struct sw_token_codes codes = codes_of(c, (void *[SW_SLOTS]){NULL});
    return sw_code_words(&codes);
}

static int channel_at(const struct sw_case *c, int h, int i)
{
    return c->variant == MINMAX_OF_SOME
               ? ((int32_t *)c->slot[CHANNELS].host)[h * channels_of(c) + i]
               : i;
}

/* Some channels of each head, out of order, each once. */
static void take_keys(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int count = channels_of(c);
    float *keys = sw_take_acts(c, KEYS, (size_t)(s->n * s->Hkv * s->d));
    for (int e = 0; s->n > 2 && e < s->Hkv * s->d; e++)
        keys[2 * s->Hkv * s->d + e] = 0.5f; /* a token without a range */
    int32_t *channels = sw_take_ints(c, CHANNELS, (size_t)(s->Hkv * count));
    for (int i = 0; i < s->Hkv * count; i++)
        channels[i] = (s->d - 1 + i / count - i % count * (s->d / count) + s->d) % s->d;
}

/* The value of coordinate `at` of the transform of x, by its definition. */
static double transformed(const float *x, int d, int at)
{
    double sum = 0;
    for (int e = 0; e < d; e++)
        sum += __builtin_popcount((unsigned)(e & at)) % 2 ? -(double)x[e] : (double)x[e];
    return sum;
}

/* *doubtful: single precision may see it on the other side. */
static int bucket(double y, bool *doubtful)
{
    *doubtful = fmin(fabs(y), fmin(fabs(y - 10), fabs(y + 10))) < 1e-4;
    return (y > -10) + (y > 0) + (y > 10);
}

struct range {
    double low, step;
};

static struct range range_of(const struct sw_case *c, int t, int h)
{
    const struct shape *s = c->shape;
    const float *x = (float *)c->slot[KEYS].host + (t * s->Hkv + h) * s->d;
    double low = INFINITY, high = -INFINITY;
    for (int i = 0; i < channels_of(c); i++) {
        low = fmin(low, (double)x[channel_at(c, h, i)]);
        high = fmax(high, (double)x[channel_at(c, h, i)]);
    }
    return (struct range){low, (high - low) / 15};
}

static int level(const struct sw_case *c, int t, int h, int i, bool *doubtful)
{
    const struct shape *s = c->shape;
    struct range r = range_of(c, t, h);
    double x = (double)((float *)c->slot[KEYS].host)[(t * s->Hkv + h) * s->d + channel_at(c, h, i)],
           at = r.step > 0 ? (x - r.low) / r.step : 0;
    *doubtful = fabs(at - floor(at) - 0.5) < 1e-4;
    return (int)fmin(rint(at), 15);
}

/* Word w of a token's code as the definition has it. */
static uint32_t word_of(const struct sw_case *c, int t, int h, int w, bool *doubtful)
{
    const struct shape *s = c->shape;
    int words = words_a_token(c);
    bool unsure;
    uint32_t word = 0;
    *doubtful = false;
    if (c->variant == HADAMARD) {
        const float *x = (float *)c->slot[KEYS].host + (t * s->Hkv + h) * s->d;
        for (int e = 0; e < 32; e++) {
            int code = bucket(transformed(x, s->d, w % (words / 2) * 32 + e), &unsure);
            word |= (uint32_t)(w < words / 2 ? code >> 1 : code & 1) << e;
            *doubtful |= unsure;
        }
    } else if (w < words - 2) {
        for (int i = w * 8; i < w * 8 + 8 && i < channels_of(c); i++) {
            word |= (uint32_t)level(c, t, h, i, &unsure) << (i % 8 * 4);
            *doubtful |= unsure;
        }
    } else {
        struct range r = range_of(c, t, h);
        float value = (float)(w == words - 2 ? r.low : r.step);
        memcpy(&word, &value, sizeof word);
    }
    return word;
}

/* --- code_tokens ------------------------------------------------------------------------------ */

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int words = words_a_token(c);
    take_keys(c);
    sw_give(c, WORDS, SW_INTS, (struct sw_extent){s->Hkv, s->n + 2, words, s->n, words});
}

/* In two calls: the prompt, and its last token as a decode step would. */
static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    size_t token = (size_t)(s->Hkv * s->d) * sw_dtype_size(be->act);
    for (int t0 = 0, t1; t0 < s->n; t0 = t1) {
        t1 = t0 == 0 && s->n > 1 ? s->n - 1 : s->n;
        SW_TRY(
            be->code_tokens(be, &(struct sw_code_tokens){.to = codes_of(c, at),
                                                         .x = (char *)at[KEYS] + (size_t)t0 * token,
                                                         .t0 = t0,
                                                         .t1 = t1}));
    }
    return SW_OK;
}

static void reference(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int words = words_a_token(c);
    for (int i = 0; i < s->Hkv * s->n * words; i++) {
        int h = i / (s->n * words), t = i / words % s->n, w = i % words;
        bool doubtful, step = c->variant != HADAMARD && w == words - 1;
        int32_t want = (int32_t)word_of(c, t, h, w, &doubtful);
        /* the bits of a step may differ in the last one */
        sw_want(c, WORDS, h, t, w, want, doubtful ? INFINITY : step ? 1 : 0);
    }
}

static void more(struct sw_backend *be)
{
    /* transform of (10, 0, …): 10 everywhere, which is not above 10; of (-10, 0, …) the lowest */
    float keys[64] = {[0] = 10, [32] = -10};
    uint32_t words[4];
    struct sw_code_tokens a = {.to = {.kind = SW_CODES_HADAMARD,
                                      .heads = 1,
                                      .head_dim = 32,
                                      .n_channels = 32,
                                      .ld = 2,
                                      .words = words},
                               .x = keys,
                               .t1 = 2};
    sw_must(be->code_tokens(be, &a), "code_tokens");
    sw_holds(words[0] == UINT32_MAX && words[1] == 0 && words[2] == 0 && words[3] == 0,
             "%x %x %x %x", words[0], words[1], words[2], words[3]);
    a.t1 = 3; /* room for two */
    sw_refused(be->code_tokens(be, &a), SW_EINTERNAL);
    a.t1 = 2;
    a.to.kind = SW_CODES_MINMAX4;
    a.to.n_channels = 33;
    sw_refused(be->code_tokens(be, &a), SW_EINTERNAL);
}

static void cost(const struct sw_case *c, double *flops, double *bytes)
{
    const struct shape *s = c->shape;
    *flops = 0;
    *bytes = (double)s->n * s->Hkv * (2.0 * s->d + 4.0 * words_a_token(c));
}

SW_CASES(code_tokens, .fields = "n H Hkv d", .variants = KINDS, .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .timed = SW_SHAPES(timed), .make = make, .run = run,
         .reference = reference, .more = more, .cost = cost);

/* --- code_scores ------------------------------------------------------------------------------ */

#define SCALE 0.125f

static bool last_is_best(const struct shape *s) { return s->n % 2 == 0; }

static void make_scores(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int words = words_a_token(c);
    bool doubtful;
    take_keys(c);
    int32_t *codes = sw_take_ints(c, WORDS, (size_t)(s->Hkv * (s->n + 2) * words));
    for (int i = 0; c->use != SW_TIME && i < s->Hkv * s->n * words; i++) {
        int h = i / (s->n * words), t = i / words % s->n, w = i % words;
        codes[(h * (s->n + 2) + t) * words + w] = (int32_t)word_of(c, t, h, w, &doubtful);
    }
    sw_take_acts(c, Q, (size_t)(s->H * s->d));
    sw_give(c, OUT, SW_FLOATS, (struct sw_extent){s->H, 1, s->n + 3, 1, s->n});
}

static enum sw_status run_scores(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    return be->code_scores(be, &(struct sw_code_scores){.from = codes_of(c, at),
                                                        .q = at[Q],
                                                        .n_heads = s->H,
                                                        .n = s->n,
                                                        .scale = SCALE,
                                                        .last_is_best = last_is_best(s),
                                                        .out = sw_matrix(c, at, OUT)});
}

/* Minus the distance of the query's code and the key's. *slack: what may be seen otherwise. */
static double minus_distance(const struct sw_case *c, int head, int t, double *slack)
{
    const struct shape *s = c->shape;
    int words = words_a_token(c), half = words / 2, kv = head / (s->H / s->Hkv);
    const uint32_t *key = (uint32_t *)c->slot[WORDS].host + (kv * (s->n + 2) + t) * words;
    double sum = 0;
    *slack = 0;
    for (int e = 0; e < half * 32; e++) {
        bool doubtful;
        int q = bucket(transformed((float *)c->slot[Q].host + head * s->d, s->d, e), &doubtful),
            k = (int)(key[e / 32] >> e % 32 & 1) * 2 + (int)(key[half + e / 32] >> e % 32 & 1);
        sum -= abs(q - k);
        *slack += doubtful;
    }
    return sum;
}

static double product(const struct sw_case *c, int head, int t, double *slack)
{
    const struct shape *s = c->shape;
    int words = words_a_token(c), kv = head / (s->H / s->Hkv);
    const uint32_t *key = (uint32_t *)c->slot[WORDS].host + (kv * (s->n + 2) + t) * words;
    float low, step;
    memcpy(&low, key + words - 2, sizeof low);
    memcpy(&step, key + words - 1, sizeof step);
    double sum = 0, size = 0;
    for (int i = 0; i < channels_of(c); i++) {
        double q = (double)((float *)c->slot[Q].host)[head * s->d + channel_at(c, kv, i)],
               code = (double)(key[i / 8] >> i % 8 * 4 & 15);
        sum += q * ((double)low + (double)step * code);
        size += fabs(q) * (fabs((double)low) + (double)step * code);
    }
    *slack = 1e-6 * size * (double)SCALE;
    return sum * (double)SCALE;
}

static void reference_scores(struct sw_case *c)
{
    const struct shape *s = c->shape;
    for (int h = 0; h < s->H; h++)
        for (int t = 0; t < s->n; t++) {
            double slack,
                want = (c->variant == HADAMARD ? minus_distance : product)(c, h, t, &slack);
            bool best = last_is_best(s) && t == s->n - 1;
            sw_want(c, OUT, h, 0, t, best ? INFINITY : want, best ? 0 : slack);
        }
}

static void more_scores(struct sw_backend *be)
{
    float q[64] = {0}, out[8];
    uint32_t words[4] = {0};
    struct sw_code_scores a = {.from = {.kind = SW_CODES_HADAMARD,
                                        .heads = 1,
                                        .head_dim = 32,
                                        .n_channels = 32,
                                        .ld = 2,
                                        .words = words},
                               .q = q,
                               .n_heads = 2,
                               .n = 2,
                               .out = {out, 2, 1, 4}};
    sw_must(be->code_scores(be, &a), "code_scores");
    sw_near((double)out[0], -32, 0); /* the query's codes are 1, the keys' 0 */
    sw_near((double)out[5], -32, 0);
    a.n = 3;
    sw_refused(be->code_scores(be, &a), SW_EINTERNAL);
    a.n = 2;
    a.out.units = 1; /* a unit is a query head */
    sw_refused(be->code_scores(be, &a), SW_EINTERNAL);
}

static void cost_scores(const struct sw_case *c, double *flops, double *bytes)
{
    const struct shape *s = c->shape;
    *flops = c->variant == HADAMARD ? 0 : 2.0 * s->n * s->H * channels_of(c);
    *bytes = 4.0 * s->n * ((double)s->Hkv * words_a_token(c) + s->H);
}

SW_CASES(code_scores, .fields = "n H Hkv d", .variants = KINDS, .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .timed = SW_SHAPES(timed), .make = make_scores,
         .run = run_scores, .reference = reference_scores, .more = more_scores, .cost = cost_scores,
         .cuda = {[OUT] = {SW_OF_LARGEST, 1e-5, 0}});
