/* walk.c: a step through the block matrix, with the choice of blocks behind it, and the running
 * average of the matrix. */
#include "core/budget.h"
#include "tests/kernels/cases.h"

/* --- walk ------------------------------------------------------------------------------------- */

enum { X, A, ANCHOR, OUT, LIST };
enum { CAUSAL = 1, SCALED = 2, OVER_ANCHOR = 4, SIGNED = 8, MODES = 16 }; /* a variant */
struct shape {
    int units, rows, row0, b, pad;
    float alpha, beta;
};

/* Positive numbers, or some negative; NaN, which nobody may look at, outside what is in use. Above
 * the diagonal of causal ones are zeros, at which CUDA does not look either. */
static void fill(struct sw_case *c, int slot, int rows, int ld_rows, int row0)
{
    const struct shape *s = c->shape;
    float *x = c->slot[slot].host;
    int ld = s->b + s->pad;
    for (int i = 0; i < s->units * ld_rows * ld; i++) {
        int row = i / ld % ld_rows, col = i % ld;
        bool used = row < rows && col < s->b, above = c->variant & CAUSAL && col > row0 + row;
        float value = c->variant & SIGNED ? x[i] : fabsf(x[i]);
        x[i] = !used ? NAN : !above ? value : c->use == SW_PARITY ? NAN : 0;
    }
    c->slot[slot].hidden = c->use == SW_PARITY;
}

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int ld = s->b + s->pad, ld_rows = s->rows + 1, a_ld_rows = s->b + 2;
    struct sw_extent of = {s->units, ld_rows, ld, s->rows, s->b};
    float *x = sw_take_floats(c, X, (size_t)(s->units * ld_rows * ld)), *anchor;
    sw_take_floats(c, A, (size_t)(s->units * a_ld_rows * ld));
    fill(c, X, s->rows, ld_rows, s->row0);
    fill(c, A, s->b, a_ld_rows, 0);
    if (c->variant & OVER_ANCHOR && s->alpha != 0) {
        anchor = sw_change(c, OUT, SW_FLOATS, of);
    } else {
        anchor = sw_take_floats(c, ANCHOR, (size_t)(s->units * ld_rows * ld));
        sw_give(c, OUT, SW_FLOATS, of);
    }
    for (int i = 0; i < s->units * ld_rows * ld; i++) { /* as a causal caller's, lower triangular */
        bool above = c->variant & CAUSAL && i % ld > s->row0 + i / ld % ld_rows;
        anchor[i] = above ? 0 : fabsf(anchor[i]);
    }
    for (int j = 0; s->units > 1 && j < s->b; j++) /* a row of zeros stays */
        x[j] = isnan(x[j]) ? x[j] : 0, anchor[j] = 0;
}

static struct sw_walk walk_of(const struct sw_case *c, void *const *at)
{
    const struct shape *s = c->shape;
    struct sw_unit_matrix out = sw_matrix(c, at, OUT), a = out;
    a.data = at[A];
    a.ld_rows = s->b + 2;
    bool over = c->slot[OUT].host;
    return (struct sw_walk){.rows = s->rows,
                            .row0 = s->row0,
                            .b = s->b,
                            .x = at[X],
                            .a = a,
                            .anchor = over            ? at[OUT]
                                      : s->alpha != 0 ? at[ANCHOR]
                                                      : NULL,
                            .alpha = s->alpha,
                            .beta = s->beta,
                            .causal = c->variant & CAUSAL,
                            .scale_rows = c->variant & SCALED,
                            .out = out};
}

static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    struct sw_walk a = walk_of(c, at);
    return be->walk(be, &a);
}

static void reference(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int ld = s->b + s->pad, ld_rows = s->rows + 1;
    const float *anchor = c->slot[c->slot[OUT].host ? OUT : ANCHOR].host;
    double *row = sw_need((size_t)s->b * sizeof *row);
    for (int r = 0; r < s->units * s->rows; r++) {
        int u = r / s->rows, i = r % s->rows, from = (u * ld_rows + i) * ld;
        const float *x = (float *)c->slot[X].host + from,
                    *a = (float *)c->slot[A].host + u * (s->b + 2) * ld;
        double top = 0;
        for (int j = 0; j < s->b; j++)
            row[j] = s->alpha != 0 ? (double)s->alpha * (double)anchor[from + j] : 0;
        for (int k = 0; k < s->b; k++)
            for (int j = 0; j < s->b; j++)
                row[j] += (double)s->beta * (double)x[k] * (double)a[k * ld + j];
        for (int j = 0; j < s->b; j++)
            top = fmax(top, fabs(row[j]));
        double divide = c->variant & SCALED && top > 0 ? top : 1;
        for (int j = 0; j < s->b; j++)
            sw_want(c, OUT, u, i, j, row[j] / divide, 2e-6 * top / divide + 1e-30);
    }
    free(row);
}

static void cost(const struct sw_case *c, double *flops, double *bytes)
{
    const struct shape *s = c->shape;
    *flops = 2.0 * s->units * s->rows * s->b * s->b / 3; /* of triangles a third */
    *bytes = 8.0 * s->units * s->b * s->b;
}

/* clang-format off */
static const struct shape shapes[] = {
    {1, 1, 0, 1, 3, 0, 1},         {1, 1, 0, 1, 3, 0.75f, 0.25f},
    {2, 5, 0, 5, 3, 0, 1},         {2, 5, 0, 5, 3, 0.75f, 0.25f},
    {1, 129, 0, 129, 3, 0, 1},     {1, 129, 0, 129, 3, 0.75f, 0.25f},
    {1, 300, 0, 300, 3, 0, 1},     {1, 300, 0, 300, 3, 0.75f, 0.25f},
    {3, 1, 40, 41, 3, 0, 1},       {3, 1, 40, 41, 3, 0.75f, 0.25f},
    {1, 1, 299, 300, 3, 0, 1},     {1, 1, 299, 300, 3, 0.75f, 0.25f},
    {1, 40, 161, 201, 3, 0, 1},    {1, 40, 161, 201, 3, 0.75f, 0.25f},
    {1, 9, 0, 9, 3, 0, 1},         {1, 33, 0, 33, 3, 0, 1},
    {3, 64, 0, 64, 0, 0.5f, 0.5f}, {2, 130, 0, 130, 2, 0, 1},
    {2, 100, 0, 100, 0, 0.5f, 0},
};
static const struct shape large[] = {
    {1, 157, 100, 257, 3, 0, 1},   {1, 300, 0, 300, 1, 1, 0},
    {1, 700, 0, 700, 4, 0, 1},     {8, 400, 0, 400, 4, 0, 1},
    {8, 403, 0, 403, 0, 0, 1},     {8, 390, 0, 390, 2, 0.25f, 0.75f},
    {12, 290, 130, 420, 4, 0, 1},
};
static const struct shape timed[] = {
    {1, 128, 0, 128, 0, 0, 1}, {1, 512, 0, 512, 0, 0, 1}, {1, 2048, 0, 2048, 0, 0, 1}};
/* clang-format on */

#define FIELDS "units rows row0 b pad"
SW_CASES(walk, .fields = FIELDS, .variants = MODES, .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .timed = SW_SHAPES(timed), .make = make, .run = run,
         .reference = reference, .cuda = {[OUT] = {SW_OF_ROW, 1e-4, 0}}, .repeatable = true,
         .cost = cost);

/* --- walk_top: walk and select_top in one call: the same bits and lists as one after the other -
 */

enum { BLOCK = 64 };
struct budgets {
    bool apart;
    int m[1];
};

static void make_top(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int n = s->b * BLOCK - 7;
    make(c);
    sw_give_list(c, LIST);
    struct budgets *budgets = c->extra = sw_need(sizeof *budgets + (size_t)s->b * sizeof(int));
    sw_must(sw_budget_rows(n, BLOCK, 0.3, SW_FORCED_COMMON, budgets->m, NULL), "sw_budget_rows");
}

static enum sw_status run_top(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    const struct budgets *budgets = c->extra;
    struct sw_walk walk = walk_of(c, at);
    walk.scale_rows = true;
    int n = s->b * BLOCK - 7;
    struct sw_select_top top = {.scores = walk.out,
                                .row0 = s->row0,
                                .rows = s->rows,
                                .budget = budgets->m + s->row0,
                                .forced = SW_FORCED_COMMON,
                                .block = BLOCK,
                                .n = n,
                                .n_q = n - s->row0 * BLOCK};
    if (be->walk_top && !budgets->apart)
        return be->walk_top(be, &walk, &top, at[LIST]);
    SW_TRY(be->walk(be, &walk));
    return be->select_top(be, &top, at[LIST]);
}

static void check_top(struct sw_case *c, struct sw_backend *be, const struct sw_result *got)
{
    struct budgets *budgets = c->extra;
    if (!be->walk_top)
        return;
    budgets->apart = true;
    struct sw_result apart = sw_case_run(c, be);
    budgets->apart = false;
    sw_compare_bits(c, got, &apart);
    sw_result_free(&apart);
}

SW_CASES(walk_top, .covers = "walk_top walk select_top", .fields = FIELDS, .variants = CAUSAL + 1,
         .shapes = SW_SHAPES(shapes), .large = SW_SHAPES(large), .timed = SW_SHAPES(timed),
         .make = make_top, .run = run_top, .check = check_top,
         /* near-ties of the CPU's scores may fall otherwise */
         .cuda = {[OUT] = {SW_OF_ROW, 1e-4, 0}, [LIST] = {SW_ANY, 0, 0}}, .cost = cost);

/* --- running ---------------------------------------------------------------------------------- */

enum { ROW, MATRIX };
enum { ONLY_ROW = 1, FRESH = 2 }; /* a variant: causal; a block's first token, weight 1 */
struct running_shape {
    int units, c, b;
};

static void make_running(struct sw_case *c)
{
    const struct running_shape *s = c->shape;
    struct sw_extent of = {s->units, s->b + 1, s->b + 3, s->b + 1, s->b + 3};
    float *row = sw_take_floats(c, ROW, (size_t)(s->units * (s->b + 3))),
          *a = sw_change(c, MATRIX, SW_FLOATS, of);
    for (int i = 0; i < s->units * (s->b + 3); i++)
        row[i] = fabsf(row[i]);
    for (int i = 0; i < s->units * (s->b + 1) * (s->b + 3); i++)
        a[i] = fabsf(a[i]);
    if (c->variant & FRESH)
        a[s->c * (s->b + 3) + s->b / 3] = NAN; /* a new row's old contents do not matter */
}

static float weight_of(const struct sw_case *c) { return c->variant & FRESH ? 1.0f : 0.25f; }

static enum sw_status run_running(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct running_shape *s = c->shape;
    return be->running(be, &(struct sw_running){.c = s->c,
                                                .b = s->b,
                                                .weight = weight_of(c),
                                                .causal = c->variant & ONLY_ROW,
                                                .row = at[ROW],
                                                .row_ld = s->b + 3,
                                                .a = sw_matrix(c, at, MATRIX)});
}

/* Row c moves towards the new row, then column c of each row likewise; each is renormalised. */
static void reference_running(struct sw_case *c)
{
    const struct running_shape *s = c->shape;
    int ld = s->b + 3, count = s->units * (s->b + 1) * ld;
    double *a = sw_need((size_t)count * sizeof *a), weight = (double)weight_of(c);
    for (int i = 0; i < count; i++)
        a[i] = (double)((float *)c->slot[MATRIX].host)[i];
    a[s->c * ld + s->b / 3] = c->variant & FRESH ? 0 : a[s->c * ld + s->b / 3];
    for (int u = 0; u < s->units; u++)
        for (int step = -1; step < s->b; step++) {
            int i = step < 0 ? s->c : step;
            if (step >= 0 && c->variant & ONLY_ROW && i != s->c)
                continue;
            const float *row = (float *)c->slot[ROW].host + u * ld;
            double sum = 0, *w = a + (u * (s->b + 1) + i) * ld;
            for (int j = 0; j < s->b; j++) {
                if (step < 0 || j == s->c)
                    w[j] += weight * ((double)row[step < 0 ? j : i] - w[j]);
                sum += w[j];
            }
            for (int j = 0; j < s->b; j++)
                w[j] /= sum;
        }
    for (int i = 0; i < count; i++)
        sw_want(c, MATRIX, i / (ld * (s->b + 1)), i / ld % (s->b + 1), i % ld, a[i], 1e-6);
    free(a);
}

static const struct running_shape running_shapes[] = {
    {2, 7, 9}, {1, 0, 1}, {1, 1, 2}, {1, 31, 32}, {6, 43, 44}, {2, 62, 63}, {1, 255, 256}};

SW_CASES(running, .fields = "units c b", .variants = 4, .shapes = SW_SHAPES(running_shapes),
         .make = make_running, .run = run_running, .reference = reference_running,
         .cuda = {[MATRIX] = {SW_ABSOLUTE, 1e-4, 0}});
