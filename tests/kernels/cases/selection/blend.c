/* blend.c: weighted sums of two matrices, also into the second one. */
#include "tests/kernels/cases.h"

enum { X, Y };
struct blend_shape {
    int units, rows, cols, alone; /* alone: without y */
};
static const float ALPHA = 0.25f, BETA = 0.75f;

static void make_blend(struct sw_case *c)
{
    const struct blend_shape *s = c->shape;
    sw_take_floats(c, X, (size_t)(s->units * (s->rows + 1) * (s->cols + 2)));
    sw_give(c, Y, SW_FLOATS,
            (struct sw_extent){s->units, s->rows + 1, s->cols + 2, s->rows, s->cols});
}

/* The first call makes y, the second adds to it. */
static enum sw_status run_blend(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct blend_shape *s = c->shape;
    struct sw_blend a = {
        .x = at[X], .alpha = ALPHA, .rows = s->rows, .cols = s->cols, .out = sw_matrix(c, at, Y)};
    SW_TRY(be->blend(be, &a));
    if (s->alone)
        return SW_OK;
    a.y = at[Y];
    a.beta = BETA;
    return be->blend(be, &a);
}

static void reference_blend(struct sw_case *c)
{
    const struct blend_shape *s = c->shape;
    const float *x = c->slot[X].host;
    for (int i = 0; i < s->units * s->rows * s->cols; i++) {
        int u = i / (s->rows * s->cols), row = i / s->cols % s->rows, col = i % s->cols;
        double of = (double)x[(u * (s->rows + 1) + row) * (s->cols + 2) + col],
               want = (double)ALPHA * of;
        sw_want(c, Y, u, row, col, s->alone ? want : want + (double)BETA * want, 1e-6);
    }
}

static void cost_blend(const struct sw_case *c, double *flops, double *bytes)
{
    const struct blend_shape *s = c->shape;
    *flops = 0;
    *bytes = (s->alone ? 8.0 : 20.0) * s->units * s->rows * s->cols;
}

static void more_blend(struct sw_backend *be)
{
    float x[1] = {1}, out[1];
    struct sw_blend a = {
        .x = x, .alpha = 1, .beta = 1, .rows = 1, .cols = 1, .out = {out, 1, 1, 1}};
    sw_refused(be->blend(be, &a), SW_EINTERNAL); /* no y */
}

static const struct blend_shape blend_shapes[] = {
    {3, 5, 7, 0}, {3, 5, 7, 1}, {1, 1, 1, 0}, {2, 125, 125, 0}, {1, 1, 1000, 0}};
static const struct blend_shape blend_timed[] = {{1, 512, 512, 0}, {1, 2048, 2048, 0}};

SW_CASES(blend, .fields = "units rows cols alone", .shapes = SW_SHAPES(blend_shapes),
         .timed = SW_SHAPES(blend_timed), .make = make_blend, .run = run_blend,
         .reference = reference_blend, .more = more_blend, .cost = cost_blend,
         .cuda = {[Y] = {SW_ABSOLUTE, 1e-6, 0}});
