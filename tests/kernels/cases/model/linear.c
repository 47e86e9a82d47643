/* linear.c: a matrix product, and the losses and best ids of a language model's head. */
#include "tests/kernels/cases.h"

enum { BIAS = 1, ACCUMULATE = 2, MODES = 4 }; /* a variant */

static double product(const float *x, const float *w, int n, double *size)
{
    double sum = 0;
    *size = 0;
    for (int i = 0; i < n; i++) {
        sum += (double)x[i] * (double)w[i];
        *size += fabs((double)x[i] * (double)w[i]);
    }
    return sum;
}

static float *floats(const struct sw_case *c, int slot) { return c->slot[slot].host; }

/* --- linear ----------------------------------------------------------------------------------- */

enum { X, W, B, OUT };
struct shape {
    int rows, n_in, n_out;
};

/* The most that rounding a value of this size to bf16's eight digits changes it by. */
static double half_step(double size) { return ldexp(1, ilogb(size) - 8); }

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    struct sw_extent of = {1, s->rows, s->n_out, s->rows, s->n_out};
    sw_take_acts(c, X, (size_t)s->rows * (size_t)s->n_in);
    float *w = sw_take_acts(c, W, (size_t)s->n_in * (size_t)s->n_out);
    sw_take_acts(c, B, (size_t)s->n_out);
    for (size_t i = 0; c->use == SW_PARITY && i < c->slot[W].given; i++)
        w[i] = sw_bf16_round(0.1f * w[i]);
    c->refused = s->n_in % 8 || s->n_out % 8; /* cuBLASLt may know no way */
    /* What CUDA may round before something is added to it: the product with its bias, before what
     * OUT held; and in shapes that its own epilogue does not take, the product before its bias.
     * Half a bf16 step of a value that four standard deviations bound. */
    double product = 0.01 * s->n_in, bias = c->variant & BIAS ? 1 : 0; /* variances */
    if (c->variant & ACCUMULATE) {
        sw_change(c, OUT, SW_ACTS, of);
        c->cuda[OUT] = (struct sw_bound){SW_ROUNDINGS, 1.5, half_step(4 * sqrt(product + bias))};
        return;
    }
    sw_give(c, OUT, SW_ACTS, of);
    if (c->variant & BIAS && s->n_out % 8)
        c->cuda[OUT] = (struct sw_bound){SW_ROUNDINGS, 1.5, half_step(4 * sqrt(product))};
}

static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    return be->linear(be, at[X], at[W], c->variant & BIAS ? at[B] : NULL, s->rows, s->n_in,
                      s->n_out, c->variant & ACCUMULATE, at[OUT]);
}

static void reference(struct sw_case *c)
{
    const struct shape *s = c->shape;
    for (int r = 0; r < s->rows; r++)
        for (int o = 0; o < s->n_out; o++) {
            double size, want = product(floats(c, X) + r * s->n_in, floats(c, W) + o * s->n_in,
                                        s->n_in, &size);
            double before =
                (c->variant & BIAS ? (double)floats(c, B)[o] : 0) +
                (c->variant & ACCUMULATE ? (double)floats(c, OUT)[r * s->n_out + o] : 0);
            /* random roundings; the bound is n·2^-24 */
            sw_want(c, OUT, 0, r, o, want + before,
                    0x1p-24 * (size + fabs(before)) * fmax(4, sqrt(s->n_in)));
        }
}

static void cost(const struct sw_case *c, double *flops, double *bytes)
{
    const struct shape *s = c->shape;
    *flops = 2.0 * s->rows * s->n_in * s->n_out;
    *bytes = 2.0 * ((double)s->rows * (s->n_in + s->n_out) + (double)s->n_in * s->n_out);
}

static const struct shape shapes[] = {{1, 576, 200}, {1, 7, 3},     {2, 64, 65},     {3, 100, 9},
                                      {4, 33, 130},  {5, 64, 129},  {8, 40, 70},     {9, 64, 129},
                                      {37, 48, 300}, {300, 20, 33}, {257, 70, 1030}, {1, 64, 96}};
static const struct shape large[] = {
    {7, 576, 1536}, {130, 256, 320}, {33, 512, 1000}, {257, 1024, 128}};

/* --- head ------------------------------------------------------------------------------------- */

enum { HX, HW, TARGETS, NLL, BEST };
enum { FIRST = 11, SAME = 900 }; /* ids of equal logits: the first is the best */

static void make_head(struct sw_case *c)
{
    const struct shape *s = c->shape;
    struct sw_extent of = {1, 1, s->rows, 1, s->rows};
    float *x = sw_take_acts(c, HX, (size_t)s->rows * (size_t)s->n_in),
          *w = sw_take_acts(c, HW, (size_t)s->n_in * (size_t)s->n_out);
    for (size_t i = 0; i < c->slot[HX].given; i++)
        x[i] *= i % 2 ? 1 : 4;
    if (s->n_out > 1000)
        memcpy(w + SAME * s->n_in, w + FIRST * s->n_in, (size_t)s->n_in * sizeof *w);
    for (size_t i = 0; c->use == SW_PARITY && i < c->slot[HW].given; i++)
        w[i] *= 0.1f;
    int32_t *targets = sw_take_host(c, TARGETS, (size_t)s->rows * sizeof *targets);
    for (int r = 0; r < s->rows; r++)
        targets[r] = sw_int(c->seed, (uint64_t)r, 0, s->n_out - 1);
    c->refused = s->n_in % 8 || s->n_out % 8;
    sw_give(c, NLL, SW_HOST_FLOATS, of);
    sw_give(c, BEST, SW_HOST_INTS, of);
}

static enum sw_status run_head(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    return be->head(be, at[HX], at[HW], s->rows, s->n_in, s->n_out, at[TARGETS], at[NLL], at[BEST]);
}

static double *logits_of(const struct sw_case *c, int row, double *top, double *size)
{
    const struct shape *s = c->shape;
    double *logits = sw_need((size_t)s->n_out * sizeof *logits), unused;
    *top = -INFINITY;
    *size = 0;
    for (int o = 0; o < s->n_out; o++) {
        logits[o] =
            product(floats(c, HX) + row * s->n_in, floats(c, HW) + o * s->n_in, s->n_in, &unused);
        *top = fmax(*top, logits[o]);
        *size = fmax(*size, fabs(logits[o]));
    }
    return logits;
}

static void reference_head(struct sw_case *c)
{
    const struct shape *s = c->shape;
    const int32_t *targets = c->slot[TARGETS].host;
    for (int r = 0; r < s->rows; r++) {
        double top, size, sum = 0, *logits = logits_of(c, r, &top, &size);
        for (int o = 0; o < s->n_out; o++)
            sum += exp(logits[o] - top);
        sw_want(c, NLL, 0, 0, r, log(sum) + top - logits[targets[r]], 2e-6 * size + 1e-6);
        sw_want(c, BEST, 0, 0, r, 0, INFINITY); /* check_head: any of the near-best */
        free(logits);
    }
}

static void check_head(struct sw_case *c, struct sw_backend *be, const struct sw_result *got)
{
    (void)be;
    const struct shape *s = c->shape;
    const int32_t *best = got->of[BEST];
    for (int r = 0; r < s->rows; r++) {
        double top, size, *logits = logits_of(c, r, &top, &size);
        sw_holds(best[r] >= 0 && best[r] < s->n_out && logits[best[r]] >= top - 2e-6 * size,
                 "row %d: id %d is not the best", r, best[r]);
        sw_holds(best[r] != SAME || s->n_out <= 1000, "row %d: not the first of equal ids", r);
        free(logits);
    }
}

static void more_head(struct sw_backend *be)
{
    enum { IN = 16, VOCAB = 1000 };
    float *x = sw_need((1 + VOCAB) * IN * sizeof *x), nll;
    int32_t best, other, target = 5;
    for (int i = 0; i < (1 + VOCAB) * IN; i++)
        x[i] = (float)sw_rng_normal(3, SW_RNG_TEST, (uint64_t)i);
    sw_must(be->head(be, x, x + IN, 1, IN, VOCAB, &target, &nll, &best), "head");
    sw_must(be->head(be, x, x + IN, 1, IN, VOCAB, NULL, NULL, &other), "head: ids alone");
    sw_holds(best == other, "alone the best id is %d, with losses %d", other, best);
    target = VOCAB;
    sw_refused(be->head(be, x, x + IN, 1, IN, VOCAB, &target, &nll, NULL), SW_EINTERNAL);
    free(x);
}

static const struct shape head_shapes[] = {{1, 32, 5000}, {3, 64, 4097},  {70, 20, 1025},
                                           {5, 16, 3},    {130, 8, 9000}, {1, 64, 96}};
static const struct shape head_large[] = {
    {7, 576, 1536}, {130, 256, 320}, {33, 512, 1000}, {257, 1024, 128}};

/* --- few rows are as alone -------------------------------------------------------------------- */

/* Among rows_alike rows a row has the same bits as alone: linear, with bias, added to what is
 * there, and head's losses and best ids. */
static void alike(struct sw_backend *be, const struct shape *s)
{
    int most = be->rows_alike;
    size_t wide = (size_t)s->n_out, count = (size_t)most * wide, in = (size_t)s->n_in;
    float *x = sw_need(((size_t)most * in + in * wide + wide + 3 * count) * sizeof *x),
          *w = x + (size_t)most * in, *bias = w + in * wide, *before = bias + wide,
          *alone = before + count, *out = alone + count;
    for (float *p = x; p < alone; p++)
        *p = (float)sw_rng_normal(7, SW_RNG_TEST, (uint64_t)(p - x));
    memcpy(alone, before, count * sizeof *alone);
    float *loss = sw_need(2 * (size_t)most * sizeof *loss);
    int32_t *ids = sw_need(3 * (size_t)most * sizeof *ids), *best = ids + most,
            *best_alone = best + most;
    for (int r = 0; r < most; r++) {
        ids[r] = r % s->n_out;
        sw_must(be->linear(be, x + (size_t)r * in, w, bias, 1, s->n_in, s->n_out, true,
                           alone + (size_t)r * wide),
                "linear");
        sw_must(be->head(be, x + (size_t)r * in, w, 1, s->n_in, s->n_out, ids + r, loss + most + r,
                         best_alone + r),
                "head");
    }
    for (int rows = 1; rows <= most; rows++) {
        memcpy(out, before, count * sizeof *out);
        sw_must(be->linear(be, x, w, bias, rows, s->n_in, s->n_out, true, out), "linear");
        sw_must(be->head(be, x, w, rows, s->n_in, s->n_out, ids, loss, best), "head");
        sw_holds(memcmp(out, alone, (size_t)rows * wide * sizeof *out) == 0 &&
                     memcmp(loss, loss + most, (size_t)rows * sizeof *loss) == 0 &&
                     memcmp(best, best_alone, (size_t)rows * sizeof *best) == 0,
                 "%d rows of [%d, %d]: other bits than alone", rows, s->n_in, s->n_out);
    }
    free(x);
    free(loss);
    free(ids);
}

static void more(struct sw_backend *be)
{
    static const struct shape alike_shapes[] = {
        {0, 576, 1536}, {0, 1536, 576}, {0, 7, 5}, {0, 65, 129}, {0, 100, 4099}};
    sw_holds(be->rows_alike >= 1, "rows_alike %d", be->rows_alike);
    for (int i = 0; i < 5; i++)
        alike(be, &alike_shapes[i]);
}

#define FIELDS "rows n_in n_out"
SW_CASES(linear, .fields = FIELDS, .variants = MODES, .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .make = make, .run = run, .reference = reference, .more = more,
         .cuda = {[OUT] = {SW_ROUNDINGS, 1, 0}}, .cost = cost);
SW_CASES(head, .fields = FIELDS, .shapes = SW_SHAPES(head_shapes), .large = SW_SHAPES(head_large),
         .make = make_head, .run = run_head, .reference = reference_head, .check = check_head,
         .more = more_head, .cuda = {[NLL] = {SW_ABSOLUTE, 1e-4, 0}});
