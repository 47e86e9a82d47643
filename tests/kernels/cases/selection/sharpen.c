/* sharpen.c: a matrix over its largest entry, to a power. */
#include "tests/kernels/cases.h"

enum { IN, OUT };
enum { SIGN = 1, IN_PLACE = 2, MODES = 4 }; /* a variant */
struct shape {
    int units, rows, cols, pad;
    float exponent, scale; /* of the input: no power of it may overflow */
};

/* Powers of negative numbers need a whole exponent, or their sign apart. */
static float exponent_of(const struct sw_case *c)
{
    const struct shape *s = c->shape;
    return c->variant & SIGN ? s->exponent : ceilf(s->exponent);
}

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int ld = s->cols + s->pad, ld_rows = s->rows + 1;
    struct sw_extent of = {s->units, ld_rows, ld, s->rows, s->cols};
    float *in;
    if (c->variant & IN_PLACE) {
        in = sw_change(c, OUT, SW_FLOATS, of);
    } else {
        in = sw_take_floats(c, IN, (size_t)(s->units * ld_rows * ld));
        sw_give(c, OUT, SW_FLOATS, of);
    }
    for (int i = 0; i < s->units * ld_rows * ld; i++) {
        bool used = i / ld % ld_rows < s->rows && i % ld < s->cols;
        in[i] = used ? in[i] * s->scale : 4e4f * s->scale; /* larger, and not to be looked at */
    }
    for (int j = 0; s->units > 2 && j < ld_rows * ld; j++) /* a unit of zeros stays */
        in[j] = 0;
}

static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    struct sw_unit_matrix out = sw_matrix(c, at, OUT), in = out;
    if (!(c->variant & IN_PLACE))
        in.data = at[IN];
    return be->sharpen(be, &(struct sw_sharpen){.in = in,
                                                .rows = s->rows,
                                                .cols = s->cols,
                                                .exponent = exponent_of(c),
                                                .keep_sign = c->variant & SIGN,
                                                .out = out});
}

static void reference(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int ld = s->cols + s->pad, ld_rows = s->rows + 1;
    double exponent = (double)exponent_of(c);
    for (int u = 0; u < s->units; u++) {
        const float *in =
            (float *)c->slot[c->variant & IN_PLACE ? OUT : IN].host + u * ld_rows * ld;
        double largest = 0;
        for (int i = 0; i < s->rows * s->cols; i++)
            largest = fmax(largest, fabs((double)in[i / s->cols * ld + i % s->cols]));
        for (int i = 0; i < s->rows * s->cols; i++) {
            double x = (double)in[i / s->cols * ld + i % s->cols] / (largest > 0 ? largest : 1);
            double y = c->variant & SIGN ? copysign(pow(fabs(x), exponent), x) : pow(x, exponent);
            sw_want(c, OUT, u, i / s->cols, i % s->cols, y, 1e-6 * exponent * fabs(y) + 1e-37);
        }
    }
}

static void cost(const struct sw_case *c, double *flops, double *bytes)
{
    const struct shape *s = c->shape;
    *flops = 8.0 * s->units * s->rows * s->cols;
    *bytes = 12.0 * s->units * s->rows * s->cols; /* read twice, written once */
}

static const struct shape shapes[] = {
    {1, 1, 1, 0, 8, 1},       {1, 37, 37, 3, 8, 1e4f}, {3, 20, 31, 1, 3, 1e-6f},
    {2, 1, 300, 4, 2.5f, 1},  {1, 300, 257, 3, 1, 7},  {2, 64, 64, 0, 64, 100},
    {1, 129, 40, 8, 0.5f, 1},
};
static const struct shape large[] = {{1, 1100, 1100, 0, 8, 1e4f}, {9, 400, 403, 1, 2.5f, 1}};
static const struct shape timed[] = {{1, 512, 512, 0, 8, 1}, {1, 2048, 2048, 0, 8, 1}};

SW_CASES(sharpen, .fields = "units rows cols pad", .variants = MODES, .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .timed = SW_SHAPES(timed), .make = make, .run = run,
         .reference = reference, .cuda = {[OUT] = {SW_OF_LARGEST, 1e-5, 0}}, .repeatable = true,
         .cost = cost);
