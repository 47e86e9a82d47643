/* token_gates.c: a token's own gates over block means: their softmax summed over a block, and their
 * best blocks. */
#include "tests/kernels/cases.h"

enum { Q, K, OUT, KEEP = OUT, MASKS, TOP };
struct shape {
    int n, n_q, H, Hkv, d, B;
};

/* Whole: small whole numbers, whose products are exact and often equal. */
static void make_gates(struct sw_case *c, bool whole)
{
    const struct shape *s = c->shape;
    int ld = sw_blocks(s->n, s->B) + 2;
    float *q = sw_take_acts(c, Q, (size_t)s->n_q * (size_t)(s->H * s->d)),
          *k = sw_take_floats(c, K, (size_t)(s->Hkv * ld * s->d));
    for (size_t i = 0; whole && i < c->slot[Q].given; i++)
        q[i] = i % (size_t)s->d < 3 ? roundf(q[i]) : 0;
    for (size_t i = 0; whole && i < c->slot[K].given; i++)
        k[i] = roundf(k[i]);
}

static struct sw_token_gates gates_of(const struct shape *s, void *const *at, float scale)
{
    return (struct sw_token_gates){.q = at[Q],
                                   .n = s->n,
                                   .n_q = s->n_q,
                                   .n_heads = s->H,
                                   .n_kv_heads = s->Hkv,
                                   .head_dim = s->d,
                                   .block = s->B,
                                   .k_ld = sw_blocks(s->n, s->B) + 2,
                                   .k = at[K],
                                   .scale = scale};
}

/* The gate of block j for token t and head h, unscaled. */
static double gate(const struct sw_case *c, int h, int t, int j)
{
    const struct shape *s = c->shape;
    int ld = sw_blocks(s->n, s->B) + 2;
    const float *q = (float *)c->slot[Q].host + ((t - s->n + s->n_q) * s->H + h) * s->d,
                *k = (float *)c->slot[K].host + (h / (s->H / s->Hkv) * ld + j) * s->d;
    double sum = 0;
    for (int x = 0; x < s->d; x++)
        sum += (double)q[x] * (double)k[x];
    return sum;
}

static int first_token(const struct shape *s, int i)
{
    return i * s->B > s->n - s->n_q ? i * s->B : s->n - s->n_q;
}
static int end_token(const struct shape *s, int i)
{
    return (i + 1) * s->B < s->n ? (i + 1) * s->B : s->n;
}
static int first_row(const struct shape *s) { return (s->n - s->n_q) / s->B; }

static const struct shape shapes[] = {
    {1, 1, 2, 1, 64, 16},   {10, 10, 3, 3, 40, 16},   {16, 16, 4, 2, 80, 16},
    {17, 17, 4, 1, 32, 16}, {300, 300, 6, 2, 64, 32}, {333, 333, 8, 1, 128, 128},
    {500, 1, 6, 3, 64, 32}, {512, 1, 2, 2, 96, 64},   {400, 144, 4, 2, 64, 64},
    {2, 2, 2, 1, 64, 64},   {200, 200, 4, 2, 64, 32}};
static const struct shape large[] = {
    {1000, 1000, 6, 2, 128, 64}, {2100, 2100, 8, 2, 96, 128}, {3000, 3000, 4, 4, 128, 64}};

/* --- gate_scores ------------------------------------------------------------------------------ */

/* A variant; then the first three with `complete`, then the last one with one softmax a row, and
 * that with `complete`. */
enum { TOGETHER, A_GROUP, A_HEAD, UNITS, ROWS = 2 * UNITS, ROWS_COMPLETE, VARIANTS };
static bool row_softmax(const struct sw_case *c) { return c->variant >= ROWS; }
static bool complete(const struct sw_case *c)
{
    return row_softmax(c) ? c->variant == ROWS_COMPLETE : c->variant >= UNITS;
}

static float scale_of(const struct shape *s) { return 1.5f / sqrtf((float)s->d); }

static void make_scores(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int b = sw_blocks(s->n, s->B), rows = b - first_row(s),
        unit = row_softmax(c) ? A_HEAD : c->variant % UNITS,
        units = unit == TOGETHER  ? 1
                : unit == A_GROUP ? s->Hkv
                                  : s->H;
    make_gates(c, false);
    sw_give(c, OUT, SW_FLOATS, (struct sw_extent){units, rows + 1, b + 1, rows, b});
}

static enum sw_status run_scores(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    return be->gate_scores(
        be, &(struct sw_gate_scores){.in = gates_of(c->shape, at, scale_of(c->shape)),
                                     .complete = complete(c),
                                     .row_softmax = row_softmax(c),
                                     .out = sw_matrix(c, at, OUT)});
}

/* One softmax over all tokens of row i of a head. */
static void reference_row(struct sw_case *c, int h, int i)
{
    const struct shape *s = c->shape;
    int b = sw_blocks(s->n, s->B);
    double top = -INFINITY, all = 0, *mass = sw_need((size_t)b * sizeof *mass);
    for (int pass = 0; pass < 2; pass++)
        for (int t = first_token(s, i); t < end_token(s, i); t++)
            for (int j = 0; j <= (complete(c) ? (t + 1) / s->B - 1 : i); j++) {
                double g = gate(c, h, t, j) * (double)scale_of(s), e = exp(g - top);
                top = pass ? top : fmax(top, g);
                mass[j] += pass ? e : 0;
                all += pass ? e : 0;
            }
    for (int j = 0; j < b; j++)
        sw_want(c, OUT, h, i - first_row(s), j, all > 0 ? mass[j] / all : 0,
                all > 0 ? 2e-5 * mass[j] / all : 0);
    free(mass);
}

static void reference_scores(struct sw_case *c)
{
    const struct shape *s = c->shape;
    for (int h = 0; row_softmax(c) && h < s->H; h++)
        for (int i = first_row(s); i < sw_blocks(s->n, s->B); i++)
            reference_row(c, h, i);
    if (row_softmax(c))
        return;
    int b = sw_blocks(s->n, s->B), units = c->slot[OUT].of.units, share = s->H / units;
    double *p = sw_need(2 * (size_t)b * sizeof *p), *mass = p + b;
    for (int row = 0; row < units * (b - first_row(s)); row++) {
        int u = row / (b - first_row(s)), i = first_row(s) + row % (b - first_row(s));
        memset(mass, 0, (size_t)b * sizeof *mass);
        for (int h = u * share; h < (u + 1) * share; h++)
            for (int t = first_token(s, i); t < end_token(s, i); t++) {
                double top = -INFINITY, sum = 0;
                int last = complete(c) ? (t + 1) / s->B - 1 : i;
                for (int j = 0; j <= last; j++)
                    top = fmax(top, p[j] = gate(c, h, t, j) * (double)scale_of(s));
                for (int j = 0; j <= last; j++)
                    sum += p[j] = exp(p[j] - top);
                for (int j = 0; j <= last; j++)
                    mass[j] += p[j] / sum;
            }
        for (int j = 0; j < b; j++) /* gates of some 10 with 2^-24·d of rounding in the exponent */
            sw_want(c, OUT, u, i - first_row(s), j, mass[j], 1e-5 * mass[j]);
    }
    free(p);
}

/* --- gate_top --------------------------------------------------------------------------------- */

enum { NORMAL, WHOLE, VALUES }; /* a variant */

static void make_top(struct sw_case *c)
{
    const struct shape *s = c->shape;
    int b = sw_blocks(s->n, s->B), rows = b - first_row(s), words = sw_query_words(s->B);
    make_gates(c, c->variant == WHOLE);
    int *top = sw_take_host(c, TOP, (size_t)rows * sizeof *top);
    for (int r = 0; r < rows; r++)
        top[r] = sw_int(c->seed, (uint64_t)r, 0, first_row(s) + r + 2);
    sw_give(c, KEEP, SW_BYTES, (struct sw_extent){s->H, rows + 1, b + 1, rows, b});
    sw_give(c, MASKS, SW_WORDS,
            (struct sw_extent){s->H, rows + 1, (b + 1) * words, rows, b * words});
}

static float top_scale(const struct sw_case *c)
{
    return c->variant == WHOLE ? 1 : scale_of(c->shape);
}

static enum sw_status run_top(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    return be->gate_top(be, &(struct sw_gate_top){.in = gates_of(c->shape, at, top_scale(c)),
                                                  .top = at[TOP],
                                                  .keep = sw_keep_at(c, at, KEEP),
                                                  .queries = at[MASKS]});
}

/* Whole numbers: the sets are exact, ties included. Others: no block left out is better than one
 * kept, by more than rounding. */
static bool right_for_token(const struct sw_case *c, int h, int t, int i, int top, const bool *kept)
{
    double x[64], worst = INFINITY, best = -INFINITY, largest = 0;
    int n = 0, want = top < i ? top : i, wrong = 0;
    for (int j = 0; j < i; j++) {
        x[j] = gate(c, h, t, j) * (double)top_scale(c);
        n += kept[j];
        largest = fmax(largest, fabs(x[j]));
        worst = kept[j] ? fmin(worst, x[j]) : worst;
        best = kept[j] ? best : fmax(best, x[j]);
    }
    for (int j = 0; c->variant == WHOLE && j < i; j++) {
        int better = 0;
        for (int k = 0; k < i; k++)
            better += x[k] > x[j] || (x[k] == x[j] && k > j);
        wrong += kept[j] != (better < want);
    }
    double rounding = c->use == SW_PARITY ? 1e-4 * largest : 1e-5;
    return n == want && !wrong && best <= worst + rounding;
}

static bool bit_of(const uint64_t *mask, int words, int j, int bit)
{
    return mask[j * words + bit / 64] >> bit % 64 & 1;
}

/* A block row of a head: each token's blocks, and that they are what the row keeps. */
static void check_row(const struct sw_case *c, const struct sw_result *got, int h, int i)
{
    const struct shape *s = c->shape;
    struct sw_extent of = c->slot[KEEP].of;
    int words = sw_query_words(s->B), r = i - first_row(s), wrong = 0, stray = 0, other = 0;
    const uint8_t *keep = (uint8_t *)got->of[KEEP] + (h * of.ld_rows + r) * of.ld;
    const uint64_t *mask = (uint64_t *)got->of[MASKS] + (h * of.ld_rows + r) * of.ld * words;
    bool any[64] = {false}, kept[64];
    for (int t = first_token(s, i); t < end_token(s, i); t++) {
        for (int j = 0; j < i; j++)
            any[j] |= kept[j] = bit_of(mask, words, j, t % s->B);
        wrong += !right_for_token(c, h, t, i, ((int *)c->slot[TOP].host)[r], kept);
    }
    for (int j = 0; j < of.cols; j++) {
        other += keep[j] != (j == i || (j < i && any[j]));
        for (int bit = 0; bit < 64 * words; bit++) { /* of tokens that are not asked about */
            int t = i * s->B + bit;
            bool asked = t >= first_token(s, i) && t < end_token(s, i);
            bool own = j == i && asked && c->use == SW_PARITY; /* CUDA marks the diagonal too */
            stray += (!asked || j >= i) && !own && bit_of(mask, words, j, bit);
        }
    }
    sw_holds(wrong == 0 && other == 0 && stray == 0,
             "head %d row %d: %d tokens keep other blocks, %d blocks of the row differ, %d stray "
             "bits",
             h, i, wrong, other, stray);
}

static void check_top(struct sw_case *c, struct sw_backend *be, const struct sw_result *got)
{
    (void)be;
    const struct shape *s = c->shape;
    for (int h = 0; h < s->H; h++)
        for (int i = first_row(s); i < sw_blocks(s->n, s->B); i++)
            check_row(c, got, h, i);
}

static void reference_top(struct sw_case *c) /* check_top */
{
    for (int slot = KEEP; slot <= MASKS; slot++) {
        struct sw_extent of = c->slot[slot].of;
        for (int i = 0; i < of.units * of.rows * of.cols; i++)
            c->slot[slot].expected[i] = (struct sw_expected){0, INFINITY};
    }
}

/* --- examples and refusals -------------------------------------------------------------------- */

/* Every key equal: a tie in every row, of any length, and the blocks kept are the latest. */
static void equal_keys(struct sw_backend *be, int n)
{
    enum { H = 2, D = 64, B = 16 };
    int b = sw_blocks(n, B), unlike = 0, other = 0;
    size_t cells = (size_t)(H * b * b);
    float *q = sw_need(((size_t)(n * H * D + (b + 2) * D) + cells) * sizeof *q), *k = q + n * H * D,
          *out = k + (b + 2) * D;
    uint8_t *keep = sw_need(cells);
    uint64_t *masks = sw_need(cells * sizeof *masks);
    int *top = sw_need((size_t)b * sizeof *top);
    for (int i = 0; i < n * H * D; i++)
        q[i] = (float)sw_rng_normal((uint64_t)n, SW_RNG_TEST, (uint64_t)i);
    for (int i = 0; i < b * D; i++)
        k[i] = (float)sw_rng_normal(31, SW_RNG_TEST, (uint64_t)(i % D));
    for (int i = 0; i < b; i++)
        top[i] = (i + 1) / 2;
    struct sw_token_gates in =
        gates_of(&(struct shape){n, n, H, 1, D, B}, (void *[SW_SLOTS]){q, k}, 0.3f);
    sw_must(be->gate_scores(be, &(struct sw_gate_scores){.in = in, .out = {out, H, b, b}}),
            "gate_scores");
    sw_must(be->gate_top(be,
                         &(struct sw_gate_top){
                             .in = in, .top = top, .keep = {keep, H, b, b}, .queries = masks}),
            "gate_top");
    for (int row = 0; row < H * b; row++)
        for (int i = row % b, j = 0; j <= i; j++) {
            unlike += out[row * b + j] != out[row * b];
            other += keep[row * b + j] != (j >= i - top[i]);
        }
    sw_holds(unlike == 0 && other == 0, "equal keys, n %d: %d scores differ, %d blocks are wrong",
             n, unlike, other);
    free(q);
    free(keep);
    free(masks);
    free(top);
}

static void more(struct sw_backend *be)
{
    enum { H = 6, B = 32, N = 96, D = 8, BLOCKS = 3 };
    for (int n = 1; n <= 900; n += n < 600 ? 1 + n / 16 : 60)
        equal_keys(be, n);
    float *x = sw_need((N * H * D + 2 * (BLOCKS + 2) * D + H * BLOCKS * BLOCKS) * sizeof *x),
          *k = x + N * H * D, *out = k + 2 * (BLOCKS + 2) * D;
    struct sw_gate_scores good = {.in = gates_of(&(struct shape){N, N, H, 2, D, B},
                                                 (void *[SW_SLOTS]){x, k}, 1),
                                  .out = {out, 2, BLOCKS, BLOCKS}},
                          a = good;
    a.out.units = 4; /* of six heads */
    sw_refused(be->gate_scores(be, &a), SW_EINTERNAL);
    a = good;
    a.row_softmax = true; /* a unit is two heads */
    sw_refused(be->gate_scores(be, &a), SW_EINTERNAL);
    a = good;
    a.out.ld = BLOCKS - 1;
    sw_refused(be->gate_scores(be, &a), SW_EINTERNAL);
    a = good;
    a.in.k_ld = BLOCKS - 1;
    sw_refused(be->gate_scores(be, &a), SW_EINTERNAL);
    a = good;
    a.in.n_q = N + 1;
    sw_refused(be->gate_scores(be, &a), SW_EINTERNAL);
    sw_must(be->gate_scores(be, &good), "gate_scores");
    sw_refused(
        be->gate_top(be, &(struct sw_gate_top){.in = good.in, .keep = {NULL, H, BLOCKS, BLOCKS}}),
        SW_EINTERNAL);
    free(x);
}

#define FIELDS "n n_q H Hkv d B"
SW_CASES(gate_scores, .fields = FIELDS, .variants = VARIANTS, .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .make = make_scores, .run = run_scores,
         .reference = reference_scores, .more = more, .cuda = {[OUT] = {SW_OF_LARGEST, 1e-4, 0}});
SW_CASES(gate_top, .fields = FIELDS, .variants = VALUES, .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .make = make_top, .run = run_top, .reference = reference_top,
         .check = check_top, .cuda_alone = true);
