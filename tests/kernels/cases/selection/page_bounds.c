/* page_bounds.c: extremes of the keys of a page, and the upper bounds that Quest makes of them. */
#include "tests/kernels/cases.h"

enum { KEYS, LOW, HIGH };
struct shape {
    int n, H, Hkv, d, B;
};

static const struct shape shapes[] = {
    {1, 2, 1, 64, 16},    {15, 3, 3, 40, 16},  {16, 4, 2, 80, 16},    {300, 6, 2, 64, 32},
    {700, 8, 1, 128, 16}, {129, 5, 5, 96, 64}, {1000, 24, 2, 32, 16}, {64, 1, 1, 256, 64},
    {2, 2, 1, 64, 64},    {200, 4, 2, 64, 32}};
static const struct shape large[] = {
    {1000, 6, 2, 128, 64}, {2100, 8, 2, 96, 128}, {3000, 4, 4, 128, 64}};

static size_t keys_of(const struct shape *s) { return (size_t)s->n * (size_t)(s->Hkv * s->d); }

/* --- extremes: exact, however the tokens are cut into calls ----------------------------------- */

enum { AT_ONCE, ONE_BY_ONE, BY_CHANCE, THE_LAST_APART, CUTS }; /* a variant */

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int b = sw_blocks(s->n, s->B);
    sw_take_acts(c, KEYS, keys_of(s));
    for (int slot = LOW; slot <= HIGH; slot++)
        sw_give(c, slot, SW_FLOATS, (struct sw_extent){s->Hkv, b + 1, s->d, b, s->d});
}

static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    size_t token = (size_t)(s->Hkv * s->d) * sw_dtype_size(be->act);
    for (int t0 = 0, t1; t0 < s->n; t0 = t1) {
        int pieces[CUTS] = {s->n, 1, 1 + sw_int(3, (uint64_t)t0, 0, 2 * s->B),
                            t0 == 0 && s->n > 1 ? s->n - 1 : 1};
        t1 = t0 + pieces[c->variant] < s->n ? t0 + pieces[c->variant] : s->n;
        SW_TRY(be->extremes(be, &(struct sw_extremes){.x = (char *)at[KEYS] + (size_t)t0 * token,
                                                      .heads = s->Hkv,
                                                      .head_dim = s->d,
                                                      .block = s->B,
                                                      .t0 = t0,
                                                      .t1 = t1,
                                                      .ld = c->slot[LOW].of.ld_rows,
                                                      .low = at[LOW],
                                                      .high = at[HIGH]}));
    }
    return SW_OK;
}

static void extremes_of(const struct sw_case *c, int h, int j, int e, float *low, float *high)
{
    const struct shape *s = c->shape;
    *low = INFINITY;
    *high = -INFINITY;
    for (int t = j * s->B; t < s->n && t < (j + 1) * s->B; t++) {
        float x = ((float *)c->slot[KEYS].host)[(t * s->Hkv + h) * s->d + e];
        *low = fminf(*low, x);
        *high = fmaxf(*high, x);
    }
}

static void reference(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int b = sw_blocks(s->n, s->B);
    for (int i = 0; i < s->Hkv * b * s->d; i++) {
        int h = i / (b * s->d), j = i / s->d % b, e = i % s->d;
        float low, high;
        extremes_of(c, h, j, e, &low, &high);
        sw_want(c, LOW, h, j, e, (double)low, 0);
        sw_want(c, HIGH, h, j, e, (double)high, 0);
    }
}

static void more(struct sw_backend *be)
{
    float keys[4] = {1, -2, 3, 0}, low[2], high[2];
    struct sw_extremes a = {.x = keys,
                            .heads = 1,
                            .head_dim = 2,
                            .block = 2,
                            .t1 = 3,
                            .ld = 1,
                            .low = low,
                            .high = high};
    sw_refused(be->extremes(be, &a), SW_EINTERNAL); /* two pages, room for one */
}

SW_CASES(extremes, .fields = "n H Hkv d B", .variants = CUTS, .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .make = make, .run = run, .reference = reference, .more = more);

/* --- bound_scores ----------------------------------------------------------------------------- */

enum { B_KEYS, B_LOW, B_HIGH, Q, OUT };
enum { A_HEAD, A_GROUP, UNITS }; /* a variant */

static int units_of(const struct sw_case *c)
{
    const struct shape *s = c->shape;
    return c->variant == A_GROUP ? s->Hkv : s->H;
}

static void make_bounds(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int b = sw_blocks(s->n, s->B);
    size_t count = (size_t)(s->Hkv * (b + 1) * s->d);
    float *keys = sw_take_acts(c, B_KEYS, keys_of(s));
    for (size_t i = 0; i < keys_of(s); i++)
        keys[i] = sw_bf16_round(keys[i]); /* as their extremes */
    float *low = sw_take_floats(c, B_LOW, count), *high = sw_take_floats(c, B_HIGH, count),
          *q = sw_take_acts(c, Q, (size_t)(s->H * s->d));
    for (int i = 0; i < s->Hkv * b * s->d; i++) {
        int h = i / (b * s->d), j = i / s->d % b, e = i % s->d, at = (h * (b + 1) + j) * s->d + e;
        extremes_of(c, h, j, e, &low[at], &high[at]);
    }
    q[0] = 0;
    q[s->d / 2] = -0.0f;
    sw_give(c, OUT, SW_FLOATS, (struct sw_extent){units_of(c), 1, b + 3, 1, b});
}

static enum sw_status run_bounds(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    return be->bound_scores(be, &(struct sw_bound_scores){.q = at[Q],
                                                          .n_heads = s->H,
                                                          .n_kv_heads = s->Hkv,
                                                          .head_dim = s->d,
                                                          .b = sw_blocks(s->n, s->B),
                                                          .ld_in = sw_blocks(s->n, s->B) + 1,
                                                          .low = at[B_LOW],
                                                          .high = at[B_HIGH],
                                                          .out = sw_matrix(c, at, OUT)});
}

/* The formula as it is written; *slack: d·2^-24 at worst, and most roundings cancel. */
static double bound_of(const struct sw_case *c, int u, int j, double *slack)
{
    const struct shape *s = c->shape;
    int share = s->H / units_of(c), ld = sw_blocks(s->n, s->B) + 1;
    double sum = 0, size = 0;
    for (int h = u * share; h < (u + 1) * share; h++)
        for (int e = 0; e < s->d; e++) {
            int at = (h / (s->H / s->Hkv) * ld + j) * s->d + e;
            double q = (double)((float *)c->slot[Q].host)[h * s->d + e],
                   term = fmax(q * (double)((float *)c->slot[B_LOW].host)[at],
                               q * (double)((float *)c->slot[B_HIGH].host)[at]);
            sum += term;
            size += fabs(term);
        }
    *slack = 1e-6 * size;
    return sum;
}

static void reference_bounds(struct sw_case *c)
{
    const struct shape *s = c->shape;
    for (int u = 0; u < units_of(c); u++)
        for (int j = 0; j < sw_blocks(s->n, s->B); j++) {
            double slack, want = bound_of(c, u, j, &slack);
            sw_want(c, OUT, u, 0, j, want, slack);
        }
}

/* Besides, no key of the page has a larger logit. */
static void check_bounds(struct sw_case *c, struct sw_backend *be, const struct sw_result *got)
{
    (void)be;
    const struct shape *s = c->shape;
    int share = s->H / units_of(c), ld = sw_blocks(s->n, s->B) + 3;
    const float *q = c->slot[Q].host, *keys = c->slot[B_KEYS].host;
    for (int u = 0, above = 0; u < units_of(c); u++) {
        for (int t = 0; t < s->n; t++) {
            double logit = 0, slack;
            for (int h = u * share; h < (u + 1) * share; h++)
                for (int e = 0; e < s->d; e++)
                    logit += (double)q[h * s->d + e] *
                             (double)keys[(t * s->Hkv + h / (s->H / s->Hkv)) * s->d + e];
            (void)bound_of(c, u, t / s->B, &slack);
            above += !((double)((float *)got->of[OUT])[u * ld + t / s->B] >= logit - slack);
        }
        sw_holds(above == 0, "unit %d: %d keys above their page's bound", u, above);
    }
}

/* Keys (1,-2) and (3,0), query (1,-1): 5, where the largest logit is 3. */
static void more_bounds(struct sw_backend *be)
{
    float q[2] = {1, -1}, low[2] = {1, -2}, high[2] = {3, 0}, out[2];
    struct sw_bound_scores a = {.q = q,
                                .n_heads = 1,
                                .n_kv_heads = 1,
                                .head_dim = 2,
                                .b = 1,
                                .ld_in = 1,
                                .low = low,
                                .high = high,
                                .out = {out, 1, 1, 1}};
    sw_must(be->bound_scores(be, &a), "bound_scores");
    sw_near((double)out[0], 5, 0);
    a.n_heads = 3; /* two units of three heads */
    a.out.units = 2;
    sw_refused(be->bound_scores(be, &a), SW_EINTERNAL);
}

SW_CASES(bound_scores, .fields = "n H Hkv d B", .variants = UNITS, .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .make = make_bounds, .run = run_bounds,
         .reference = reference_bounds, .check = check_bounds, .more = more_bounds,
         .cuda = {[OUT] = {SW_OF_LARGEST, 1e-5, 0}});
