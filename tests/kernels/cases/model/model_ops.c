/* model_ops.c: what a transformer layer does beside products and attention: embed, rmsnorm, rope,
 * swiglu. */
#include "tests/kernels/cases.h"

static float *floats(const struct sw_case *c, int slot) { return c->slot[slot].host; }

enum { X, W, OUT };
enum { SEPARATE, IN_PLACE }; /* a variant, of rmsnorm and swiglu */

static void give_or_change(struct sw_case *c, int slot, struct sw_extent of)
{
    if (c->variant == IN_PLACE)
        sw_change(c, slot, SW_ACTS, of);
    else
        sw_give(c, slot, SW_ACTS, of);
}

/* --- rmsnorm ---------------------------------------------------------------------------------- */

struct norm_shape {
    int rows, width;
};

static void make_norm(struct sw_case *c)
{
    const struct norm_shape *s = c->shape;
    sw_take_acts(c, X, (size_t)s->rows * (size_t)s->width);
    sw_take_acts(c, W, (size_t)s->width);
    give_or_change(c, OUT, (struct sw_extent){1, s->rows, s->width, s->rows, s->width});
}

static enum sw_status run_norm(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct norm_shape *s = c->shape;
    return be->rmsnorm(be, at[c->variant == IN_PLACE ? OUT : X], at[W], s->rows, s->width, 1e-5f,
                       at[OUT]);
}

static void reference_norm(struct sw_case *c)
{
    const struct norm_shape *s = c->shape;
    for (int r = 0; r < s->rows; r++) {
        const float *x = floats(c, c->variant == IN_PLACE ? OUT : X) + r * s->width;
        double sum = 0;
        for (int i = 0; i < s->width; i++)
            sum += (double)x[i] * (double)x[i];
        for (int i = 0; i < s->width; i++) {
            double want =
                (double)x[i] / sqrt(sum / s->width + (double)1e-5f) * (double)floats(c, W)[i];
            /* the sum in lanes: below 5 ulp up to 4096 */
            sw_want(c, OUT, 0, r, i, want, fabs(want) * 6e-7 + 1e-30);
        }
    }
}

/* Widths and addresses that take 16 bytes a thread on CUDA and ones that do not; rows longer than
 * a thread block; rows of single heads. */
static const struct norm_shape norm_shapes[] = {{19, 1},    {1, 5},       {19, 16},    {1, 63},
                                                {19, 576},  {1, 4096},    {3, 300},    {5, 4096},
                                                {200, 256}, {301, 720},   {150, 120},  {2, 10240},
                                                {130, 256}, {33 * 8, 64}, {257, 1024}, {7 * 9, 64}};

/* --- rope ------------------------------------------------------------------------------------- */

enum { FREQ, ROTATED };
struct rope_shape {
    int rows, heads, d, pos0;
};

static void make_rope(struct sw_case *c)
{
    const struct rope_shape *s = c->shape;
    float *freq = sw_take_floats(c, FREQ, (size_t)s->d / 2);
    for (int i = 0; i < s->d / 2; i++)
        freq[i] = (float)pow(10000.0, -2.0 * i / s->d);
    sw_change(c, ROTATED, SW_ACTS, (struct sw_extent){s->rows, s->heads, s->d, s->heads, s->d});
}

static enum sw_status run_rope(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct rope_shape *s = c->shape;
    return be->rope(be, at[ROTATED], s->rows, s->heads, s->d, s->pos0, at[FREQ], 1.25f);
}

static void reference_rope(struct sw_case *c)
{
    const struct rope_shape *s = c->shape;
    int half = s->d / 2;
    for (int i = 0; i < s->rows * s->heads * half; i++) {
        int r = i / (s->heads * half), h = i / half % s->heads, x = i % half;
        const float *row = floats(c, ROTATED) + (r * s->heads + h) * s->d;
        float angle = (float)(s->pos0 + r) * floats(c, FREQ)[x]; /* fp32, as the models' own code */
        double a = (double)row[x], b = (double)row[x + half], co = cos((double)angle) * 1.25,
               si = sin((double)angle) * 1.25, allowed = 4e-7 * (fabs(a) + fabs(b));
        sw_want(c, ROTATED, r, h, x, a * co - b * si, allowed);
        sw_want(c, ROTATED, r, h, x + half, b * co + a * si, allowed);
    }
}

static const struct rope_shape rope_shapes[] = {
    {21, 3, 32, 0},       {21, 3, 64, 100000},  {21, 3, 80, 0},       {21, 3, 128, 100000},
    {21, 3, 256, 0},      {21, 3, 6, 100000},   {3, 3, 100, 77777},   {5, 32, 128, 77777},
    {200, 2, 128, 77777}, {301, 9, 80, 77777},  {150, 5, 24, 77777},  {2, 40, 256, 77777},
    {1, 32, 128, 77777},  {130, 4, 64, 100000}, {257, 16, 64, 100000}};

/* --- swiglu ----------------------------------------------------------------------------------- */

enum { GATE, UP, GLU };
enum { ODD = 1 }; /* from the second value on: an address that takes no 16 bytes a thread */
struct glu_shape {
    int count;
};

static void make_glu(struct sw_case *c)
{
    const struct glu_shape *s = c->shape;
    struct sw_extent of = {1, 1, ODD + s->count, 1, ODD + s->count};
    sw_take_acts(c, UP, (size_t)(ODD + s->count));
    float *gate = sw_take_acts(c, GATE, (size_t)(ODD + s->count));
    give_or_change(c, GLU, of);
    if (c->variant == IN_PLACE)
        gate = floats(c, GLU);
    if (c->use == SW_PARITY || s->count < 4)
        return;
    for (int i = 0; i < ODD + s->count; i++) /* far into both tails */
        gate[i] *= (float)(i % 90);
    gate[1] = -200;
    gate[2] = 1e30f;
    gate[3] = -1e30f;
}

static enum sw_status run_glu(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct glu_shape *s = c->shape;
    size_t skip = ODD * sw_dtype_size(be->act);
    return be->swiglu(be, (char *)at[c->variant == IN_PLACE ? GLU : GATE] + skip,
                      (char *)at[UP] + skip, (size_t)s->count, (char *)at[GLU] + skip);
}

static void reference_glu(struct sw_case *c)
{
    const struct glu_shape *s = c->shape;
    const float *gate = floats(c, c->variant == IN_PLACE ? GLU : GATE), *up = floats(c, UP);
    if (c->variant == IN_PLACE)
        sw_want(c, GLU, 0, 0, 0, (double)gate[0], 0);
    for (int i = ODD; i < ODD + s->count; i++) {
        double g = (double)gate[i], want = g / (1 + exp(-g)) * (double)up[i];
        /* about 4 ulp; below -87 the sigmoid stops at e^-87, absolutely nothing */
        sw_want(c, GLU, 0, 0, i, want,
                fabs(want) * 5e-7 + (g < -86 ? 1e-37 * fabs(g * (double)up[i]) : 0));
    }
}

static const struct glu_shape glu_shapes[] = {{40001}, {1},      {899},   {20480},
                                              {51199}, {216720}, {17999}, {4095}};

/* --- embed ------------------------------------------------------------------------------------ */

enum { TABLE, IDS, ROWS };
struct embed_shape {
    int vocab, width, rows;
};

static void make_embed(struct sw_case *c)
{
    const struct embed_shape *s = c->shape;
    sw_take_acts(c, TABLE, (size_t)s->vocab * (size_t)s->width);
    int32_t *ids = sw_take_host(c, IDS, (size_t)s->rows * sizeof *ids);
    for (int r = 0; r < s->rows; r++)
        ids[r] = r ? (r * 7 + 3) % s->vocab : s->vocab - 1;
    sw_give(c, ROWS, SW_ACTS, (struct sw_extent){1, s->rows, s->width, s->rows, s->width});
}

static enum sw_status run_embed(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct embed_shape *s = c->shape;
    return be->embed(be, at[TABLE], at[IDS], s->rows, s->width, at[ROWS]);
}

static void reference_embed(struct sw_case *c)
{
    const struct embed_shape *s = c->shape;
    const int32_t *ids = c->slot[IDS].host;
    for (int r = 0; r < s->rows; r++)
        for (int i = 0; i < s->width; i++)
            sw_want(c, ROWS, 0, r, i, (double)floats(c, TABLE)[ids[r] * s->width + i], 0);
}

static const struct embed_shape embed_shapes[] = {{11, 37, 5},    {50, 64, 1},   {50, 576, 7},
                                                  {50, 256, 130}, {50, 512, 33}, {50, 1024, 257}};

SW_CASES(rmsnorm, .fields = "rows width", .variants = 2, .shapes = SW_SHAPES(norm_shapes),
         .make = make_norm, .run = run_norm, .reference = reference_norm,
         .cuda = {[OUT] = {SW_ROUNDINGS, 1, 0}});
SW_CASES(rope, .fields = "rows heads d pos0", .shapes = SW_SHAPES(rope_shapes), .make = make_rope,
         .run = run_rope, .reference = reference_rope,
         .cuda = {[ROTATED] = {SW_ROUNDINGS, 1.5, 0}});
SW_CASES(swiglu, .fields = "count", .variants = 2, .shapes = SW_SHAPES(glu_shapes),
         .make = make_glu, .run = run_glu, .reference = reference_glu,
         .cuda = {[GLU] = {SW_ROUNDINGS, 1, 0}});
SW_CASES(embed, .fields = "vocab width rows", .shapes = SW_SHAPES(embed_shapes), .make = make_embed,
         .run = run_embed, .reference = reference_embed);
