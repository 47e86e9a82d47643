/* best_units.c: the best of a unit's matrices, by score and by place in each one's ranking. */
#include "tests/kernels/cases.h"

enum { IN, BEST };
struct best_shape {
    int units_in, units, rows, row0, cols, by_rank, causal, levels; /* levels > 0: ties */
};

static void make_best(struct sw_case *c)
{
    const struct best_shape *s = c->shape;
    size_t count = (size_t)(s->units_in * (s->rows + 1) * (s->cols + 2));
    float *in = sw_take_floats(c, IN, count);
    for (size_t i = 0; s->levels && i < count; i++)
        in[i] = floorf(in[i] * (float)s->levels);
    sw_give(c, BEST, SW_FLOATS,
            (struct sw_extent){s->units, s->rows + 1, s->cols + 2, s->rows, s->cols});
}

static enum sw_status run_best(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct best_shape *s = c->shape;
    struct sw_unit_matrix out = sw_matrix(c, at, BEST);
    return be->best_units(be,
                          &(struct sw_best_units){.in = {at[IN], s->units_in, out.ld_rows, out.ld},
                                                  .rows = s->rows,
                                                  .row0 = s->row0,
                                                  .cols = s->cols,
                                                  .by_rank = s->by_rank,
                                                  .causal = s->causal,
                                                  .out = out});
}

/* Columns that are better than column j of a row: greater, or as great and later. */
static int better(const float *row, int cols, int j)
{
    int count = 0;
    for (int k = 0; k < cols; k++)
        count += row[k] > row[j] || (row[k] == row[j] && k > j);
    return count;
}

static void reference_best(struct sw_case *c)
{
    const struct best_shape *s = c->shape;
    int share = s->units_in / s->units;
    const float *in = c->slot[IN].host;
    for (int i = 0; i < s->units * s->rows * s->cols; i++) {
        int u = i / (s->rows * s->cols), row = i / s->cols % s->rows, j = i % s->cols;
        int seen = s->causal && s->row0 + row + 1 < s->cols ? s->row0 + row + 1 : s->cols;
        double want = -INFINITY;
        for (int k = 0; k < share; k++) {
            const float *of = in + ((u * share + k) * (s->rows + 1) + row) * (s->cols + 2);
            double x = s->by_rank ? -(better(of, seen, j) * share + k) : (double)of[j];
            want = x > want ? x : want;
        }
        sw_want(c, BEST, u, row, j, j < seen ? want : 0, 0);
    }
}

static const struct best_shape best_shapes[] = {
    {6, 2, 5, 0, 7, 0, 0, 0},     {6, 2, 5, 0, 7, 1, 0, 0},      {1, 1, 1, 0, 1, 1, 0, 0},
    {8, 1, 44, 0, 44, 1, 1, 0},   {8, 1, 44, 0, 44, 0, 1, 0},    {4, 2, 1, 56, 57, 1, 1, 2},
    {4, 1, 1, 0, 1000, 1, 0, 3},  {3, 1, 9, 300, 515, 1, 1, 40}, {2, 2, 47, 0, 47, 1, 0, 1},
    {32, 8, 256, 0, 256, 0, 1, 0}};
static const struct best_shape best_large[] = {{8, 1, 1, 0, 4097, 1, 0, 0},
                                               {8, 2, 300, 0, 300, 1, 1, 5}};
static const struct best_shape best_timed[] = {{32, 1, 1, 0, 8192, 1, 0, 0},
                                               {32, 1, 1, 0, 32768, 1, 0, 0},
                                               {32, 1, 512, 0, 512, 1, 1, 0},
                                               {32, 1, 512, 0, 512, 0, 1, 0}};

static void cost_best(const struct sw_case *c, double *flops, double *bytes)
{
    const struct best_shape *s = c->shape;
    *flops = 0;
    *bytes = 4.0 * (s->units_in + s->units) * s->rows * s->cols;
}

static void more_best(struct sw_backend *be)
{
    float x[4] = {0}, out[4];
    struct sw_best_units a = {
        .in = {x, 3, 1, 1}, .rows = 1, .cols = 1, .by_rank = true, .out = {out, 1, 1, 1}};
    sw_must(be->best_units(be, &a), "best_units");
    a.out.units = 2; /* does not divide the three */
    sw_refused(be->best_units(be, &a), SW_EINTERNAL);
}

SW_CASES(best_units, .fields = "units_in units rows row0 cols by_rank causal levels",
         .shapes = SW_SHAPES(best_shapes), .large = SW_SHAPES(best_large),
         .timed = SW_SHAPES(best_timed), .make = make_best, .run = run_best,
         .reference = reference_best, .more = more_best, .cost = cost_best,
         .cuda = {[BEST] = {SW_ABSOLUTE, 0, 0}});
