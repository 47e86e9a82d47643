/* attend.c: attention, prefill, chunks and decode, dense and by every kind of list.
 *
 * The yardstick is the same formula done plainly in the backend's precision (fp32 loops; on CUDA
 * probabilities and outputs rounded to bf16), both against double. Allowed on the CPU: twice its
 * root-mean-square error and three times its largest one (a single value, which varies by itself),
 * or 4e-7 of the largest output (about 3 ulp: rescaled queries and 2^x) where the plain loops
 * happen to be exact. On CUDA: twice its Frobenius error, and twice its largest plus 1e-3. */
#include <stdio.h>

#include "tests/kernels/cases.h"
#include "tests/support/reference.h"

enum { Q, K, V, LIST, OUT };
enum rule {
    WHOLE,
    WINDOW,
    LINES,
    QUERIES,
    FREE,
    KEYS
}; /* of blocks kept in part; a free diagonal */

struct shape {
    int batch, n_q, n_k, H, Hkv, d, B; /* B 0: dense */
    int units;                         /* lists a sequence: 1, Hkv or H */
    enum rule rule;
    enum sw_attend_kernel kernel;
    int portable; /* on CUDA: the kernel that runs on every GPU */
};

enum { STRIDE_PAD = 5 }; /* a cache is longer than what is used; the rest must not be read */

static struct sw_attend call(const struct shape *s, void *const *at)
{
    return (struct sw_attend){.batch = s->batch,
                              .n_q = s->n_q,
                              .n_k = s->n_k,
                              .n_heads = s->H,
                              .n_kv_heads = s->Hkv,
                              .head_dim = s->d,
                              .kv_stride = s->n_k + STRIDE_PAD,
                              .q = at[Q],
                              .k = at[K],
                              .v = at[V],
                              .out = at[OUT],
                              .scale = 2.0f / sqrtf((float)s->d),
                              .sel = s->B ? at[LIST] : NULL,
                              .kernel = s->kernel};
}

/* --- inputs ----------------------------------------------------------------------------------- */

static void random_masks(struct sw_selection *s, const struct shape *c, uint64_t seed)
{
    int mask_ld = c->rule == LINES ? c->n_k + 2 : 0,
        words = c->rule == QUERIES || c->rule == KEYS ? sw_query_words(c->B) : 0;
    sw_must(sw_selection_reserve_masks(s, mask_ld, words), "reserve_masks");
    for (int x = 0; x < s->units * mask_ld; x++) {
        s->columns[x] = sw_int(seed, (uint64_t)x, 0, 5) == 0;
        s->slashes[x] = x % mask_ld == 0 || sw_int(seed + 1, (uint64_t)x, 0, 5) == 0;
    }
    for (int64_t w = 0; w < s->capacity * words; w++)
        s->queries[w] = sw_rng_u64(seed, SW_RNG_TEST, (uint64_t)w);
    if (seed % 500 == 0 && mask_ld)
        s->columns = NULL;
    if (c->rule == KEYS) {
        s->keys = s->queries;
        s->queries = NULL;
    }
}

static bool in_part(const struct shape *c) { return c->rule != WHOLE && c->rule != FREE; }

/* Random blocks, by `chance` in ten; a query sees at least itself, or a block if its own is free.
 */
static void random_list(struct sw_selection *s, const struct shape *c, int chance, uint64_t seed)
{
    int row0 = (c->n_k - c->n_q) / c->B, rows = sw_blocks(c->n_k, c->B) - row0,
        units = c->units * c->batch;
    sw_must(sw_selection_reserve(s, NULL, units, rows,
                                 sw_selection_full_capacity(units, row0, rows), in_part(c)),
            "sw_selection_reserve");
    s->block = c->B;
    s->n = c->n_k;
    s->n_q = c->n_q;
    s->row0 = row0;
    s->window = c->rule == WINDOW ? c->B + c->B / 3 + 1 : 0;
    s->sink = c->rule == WINDOW ? c->B / 2 : 0;
    s->free_diagonal = c->rule == FREE;
    if (in_part(c) && c->rule != WINDOW)
        random_masks(s, c, seed);
    int32_t at = 0;
    uint64_t draw = 0;
    for (int64_t row = 0; row < (int64_t)units * rows; row++) {
        int i = row0 + (int)(row % rows);
        s->indptr[row] = at;
        for (int j = 0; j <= i; j++) {
            bool forced = j == i && (c->rule != FREE || at == s->indptr[row]);
            if (!forced && sw_int(seed, draw++, 0, 9) >= chance)
                continue;
            if (in_part(c))
                s->whole[at] = sw_int(seed, draw++, 0, 1) || (c->rule > LINES && j == i);
            s->indices[at++] = j;
        }
    }
    s->indptr[(int64_t)units * rows] = at;
    sw_must(sw_selection_validate(s), "a random list");
}

static void make(struct sw_case *c)
{
    const struct shape *s = c->shape;
    size_t token = (size_t)s->Hkv * (size_t)s->d, used = (size_t)s->n_k * token,
           sequence = used + STRIDE_PAD * token;
    sw_take_acts(c, Q, (size_t)s->batch * (size_t)s->n_q * (size_t)s->H * (size_t)s->d);
    float *k = sw_take_acts(c, K, (size_t)s->batch * sequence),
          *v = sw_take_acts(c, V, (size_t)s->batch * sequence);
    for (size_t i = 0; i < c->slot[K].given; i++)
        if (c->use != SW_TIME && i % sequence >= used)
            k[i] = v[i] = NAN;
    if (s->B)
        random_list(sw_take_list(c, LIST), s, c->use == SW_TIME ? 2 : 4, c->seed);
    sw_give(c, OUT, SW_ACTS, (struct sw_extent){s->batch * s->n_q, s->H, s->d, s->H, s->d});
    /* blocks of other sizes than powers of two; a build without cuDNN */
    c->refused = (s->B & (s->B - 1)) != 0 || s->kernel == SW_ATTEND_LIBRARY;
    c->cold = s->n_q == 1;
}

static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    const struct shape *s = c->shape;
    struct sw_attend a = call(s, at);
    setenv("SWBENCH_ATTEND", s->portable ? "portable" : "", 1);
    return be->attend(be, &a);
}

/* --- the truth -------------------------------------------------------------------------------- */

/* `rows` of the n_q queries, evenly, with the ends; [batch, rows, H, d]. */
struct truth {
    const struct sw_case *c;
    bool bf16; /* the yardstick's precision */
    int rows;
    double *exact;
    float *plain;
};

static int query_of(const struct truth *t, int row)
{
    const struct shape *s = t->c->shape;
    return t->rows == 1 ? s->n_q - 1 : (int)((int64_t)row * (s->n_q - 1) / (t->rows - 1));
}

static double product(const float *x, const float *y, int d)
{
    double sum[8] = {0}, all = 0; /* eight sums: the compiler may use vectors */
    for (int c = 0; c < d; c++)
        sum[c % 8] += (double)x[c] * (double)y[c];
    for (int i = 0; i < 8; i++)
        all += sum[i];
    return all;
}

static float product_fp32(const float *x, const float *y, int d)
{
    float sum = 0;
    for (int c = 0; c < d; c++)
        sum += x[c] * y[c];
    return sum;
}

/* The i-th row of the truth: one query of one head. */
static void truth_row(void *context, int i)
{
    const struct truth *t = context;
    const struct shape *s = t->c->shape;
    const struct sw_selection *sel = s->B ? &t->c->slot[LIST].list : NULL;
    struct sw_attend a = call(s, (void *[SW_SLOTS]){NULL});
    int h = i % s->H, seq = i / (t->rows * s->H), query = query_of(t, i / s->H % t->rows), d = s->d,
        pos = s->n_k - s->n_q + query, unit = s->B ? seq * s->units + h / (s->H / s->units) : 0;
    const float *q =
        (const float *)t->c->slot[Q].host +
        (((size_t)seq * (size_t)s->n_q + (size_t)query) * (size_t)s->H + (size_t)h) * (size_t)d;
    size_t step = (size_t)s->Hkv * (size_t)d,
           kv = (size_t)seq * (size_t)a.kv_stride * step + (size_t)(h / (s->H / s->Hkv) * d);
    const float *k = (const float *)t->c->slot[K].host + kv,
                *v = (const float *)t->c->slot[V].host + kv;
    double *p = sw_need((size_t)(pos + 1) * sizeof *p), top = -INFINITY, sum = 0, exact[256] = {0};
    float *p32 = sw_need((size_t)(pos + 1) * sizeof *p32), top32 = -INFINITY, sum32 = 0,
          plain[256] = {0};
    for (int u = 0; u <= pos; u++) {
        bool sees = sw_reference_sees(sel, unit, pos, u);
        p[u] = sees ? product(q, k + (size_t)u * step, d) * (double)a.scale : -INFINITY;
        p32[u] = sees ? product_fp32(q, k + (size_t)u * step, d) * a.scale : -INFINITY;
        top = fmax(top, p[u]);
        top32 = fmaxf(top32, p32[u]);
    }
    for (int u = 0; u <= pos; u++) {
        sum += p[u] = exp(p[u] - top);
        sum32 += p32[u] = expf(p32[u] - top32);
    }
    for (int u = 0; u <= pos; u++) {
        float weight = t->bf16 ? sw_bf16_round((float)(p[u] / sum)) : p32[u];
        for (int x = 0; x < d && p[u] > 0; x++) {
            exact[x] += p[u] / sum * (double)v[(size_t)u * step + (size_t)x];
            plain[x] += weight * v[(size_t)u * step + (size_t)x];
        }
    }
    for (int x = 0; x < d; x++) {
        t->exact[(size_t)i * (size_t)d + (size_t)x] = exact[x];
        t->plain[(size_t)i * (size_t)d + (size_t)x] =
            t->bf16 ? sw_bf16_round(plain[x]) : plain[x] / sum32;
    }
    free(p);
    free(p32);
}

static struct truth find_truth(const struct sw_case *c, int rows, bool bf16)
{
    const struct shape *s = c->shape;
    size_t count = (size_t)s->batch * (size_t)rows * (size_t)s->H * (size_t)s->d;
    struct truth t = {.c = c, .bf16 = bf16, .rows = rows};
    t.exact = sw_need(count * sizeof *t.exact);
    t.plain = sw_need(count * sizeof *t.plain);
    sw_in_parallel(s->batch * rows * s->H, truth_row, &t);
    return t;
}

struct error {
    double rms, max, largest, norm; /* largest: the largest true value */
};

static struct error error_of(const float *x, const double *truth, size_t count)
{
    struct error e = {0};
    for (size_t i = 0; i < count; i++) {
        double diff = fabs((double)x[i] - truth[i]);
        if (isnan(diff))
            return (struct error){INFINITY, INFINITY, 0, 0};
        e.rms += diff * diff / (double)count;
        e.norm += truth[i] * truth[i] / (double)count;
        e.max = fmax(e.max, diff);
        e.largest = fmax(e.largest, fabs(truth[i]));
    }
    e.rms = sqrt(e.rms);
    e.norm = sqrt(e.norm);
    return e;
}

/* --- the CPU: all rows ------------------------------------------------------------------------ */

static void reference(struct sw_case *c)
{
    const struct shape *s = c->shape;
    struct truth t = find_truth(c, s->n_q, false);
    size_t count = (size_t)s->batch * (size_t)s->n_q * (size_t)s->H * (size_t)s->d;
    struct error plain = error_of(t.plain, t.exact, count);
    double floor = 4e-7 * plain.largest, *rms = c->extra = sw_need(sizeof *rms);
    *rms = fmax(2 * plain.rms, floor / 3);
    for (size_t i = 0; i < count; i++)
        c->slot[OUT].expected[i] = (struct sw_expected){t.exact[i], fmax(3 * plain.max, floor)};
    free(t.exact);
    free(t.plain);
}

/* Over the queries what `got` has; where that is not taken, an error. */
static void check_in_place(struct sw_case *c, struct sw_backend *be, const float *got)
{
    const struct shape *s = c->shape;
    bool cpu = c->use == SW_CHECK;
    struct sw_memory m;
    struct sw_attend a = call(s, (void *[SW_SLOTS]){[LIST] = &c->slot[LIST].list});
    bool taken = be->attend_in_place(be, &a);
    sw_holds(!cpu || taken == (s->n_q > 1), "attend_in_place says %d", taken);
    /* several tiles a multiprocessor: a race shows in some runs only */
    for (int run = 0; run < (taken && !cpu && s->n_q > 2000 ? 8 : 1); run++) {
        sw_memory_make(&m, c, be);
        a = call(s, m.at);
        a.out = m.at[Q];
        enum sw_status st = be->attend(be, &a);
        if (!taken) {
            sw_refused(st, SW_EINTERNAL);
        } else {
            sw_must(st, "attend in place");
            float *over = sw_memory_fetch(&m, c, Q);
            sw_holds(memcmp(over, got, c->slot[Q].given * sizeof *over) == 0,
                     "other bits over the queries, run %d", run);
            free(over);
        }
        sw_memory_free(&m, c);
    }
}

/* CUDA: all of few rows, else a sample. */
static void check_sample(struct sw_case *c, const float *got)
{
    const struct shape *s = c->shape;
    int wanted = s->n_k > 2000  ? 16
                 : s->n_k > 200 ? 32
                                : 64,
        rows = s->n_q < wanted ? s->n_q : wanted;
    struct truth t = find_truth(c, rows, true);
    size_t row = (size_t)s->H * (size_t)s->d, count = (size_t)s->batch * (size_t)rows * row;
    float *ours = sw_need(count * sizeof *ours);
    for (int b = 0, at = 0; b < s->batch; b++)
        for (int r = 0; r < rows; r++, at++)
            memcpy(ours + (size_t)at * row,
                   got + ((size_t)b * (size_t)s->n_q + (size_t)query_of(&t, r)) * row,
                   row * sizeof *ours);
    struct error e = error_of(ours, t.exact, count), plain = error_of(t.plain, t.exact, count);
    sw_holds(e.rms <= 2 * plain.rms, "error %.3g, plain bf16 has %.3g", e.rms / e.norm,
             plain.rms / plain.norm);
    sw_holds(e.max <= 2 * plain.max + 1e-3, "largest error %.3g, plain bf16 has %.3g", e.max,
             plain.max);
    size_t wrong = 0;
    for (size_t i = 0; i < (size_t)s->batch * (size_t)s->n_q * row; i++)
        wrong += !isfinite(got[i]);
    sw_holds(wrong == 0, "%zu outputs are no numbers", wrong);
    free(ours);
    free(t.exact);
    free(t.plain);
}

static void check(struct sw_case *c, struct sw_backend *be, const struct sw_result *got)
{
    const struct shape *s = c->shape;
    const float *out = got->of[OUT];
    if (c->use == SW_PARITY) {
        check_sample(c, out);
    } else {
        double rms = 0, *allowed = c->extra;
        size_t count = (size_t)s->batch * (size_t)s->n_q * (size_t)s->H * (size_t)s->d;
        for (size_t i = 0; i < count; i++)
            rms += pow((double)out[i] - c->slot[OUT].expected[i].want, 2) / (double)count;
        sw_holds(sqrt(rms) <= *allowed, "error rms %.3g, allowed %.3g", sqrt(rms), *allowed);
    }
    check_in_place(c, be, out);
}

static void cost(const struct sw_case *c, double *flops, double *bytes)
{
    const struct shape *s = c->shape;
    double kept = s->B ? sw_selection_density(&c->slot[LIST].list) : 1,
           pairs = (double)s->n_q * s->n_k - (double)s->n_q * (s->n_q - 1) / 2;
    if (s->n_q > 1)
        *flops = 4.0 * s->batch * s->H * s->d * pairs * kept;
    else
        *bytes = 4.0 * s->batch * s->Hkv * s->d * s->n_k * kept;
}

/* --- shapes ----------------------------------------------------------------------------------- */

/* clang-format off */
static const struct shape shapes[] = {
    /* dense prompts: every length beside a tile's, head_dim, heads a group */
    {1, 1, 1, 3, 3, 32, 0, 1, 0, 0, 0},        {1, 2, 2, 6, 2, 64, 0, 1, 0, 0, 0},
    {1, 15, 15, 8, 2, 80, 0, 1, 0, 0, 0},      {1, 16, 16, 8, 1, 96, 0, 1, 0, 0, 0},
    {1, 17, 17, 3, 3, 128, 0, 1, 0, 0, 0},     {1, 63, 63, 6, 2, 256, 0, 1, 0, 0, 0},
    {1, 64, 64, 8, 2, 40, 0, 1, 0, 0, 0},      {1, 65, 65, 8, 1, 32, 0, 1, 0, 0, 0},
    {1, 129, 129, 3, 3, 64, 0, 1, 0, 0, 0},    {1, 199, 199, 6, 2, 80, 0, 1, 0, 0, 0},
    {1, 131, 131, 3, 1, 32, 0, 1, 0, 0, 0},    {1, 131, 131, 3, 1, 64, 0, 1, 0, 0, 0},
    {1, 131, 131, 3, 1, 80, 0, 1, 0, 0, 0},    {1, 131, 131, 3, 1, 96, 0, 1, 0, 0, 0},
    {1, 131, 131, 3, 1, 128, 0, 1, 0, 0, 0},   {1, 131, 131, 3, 1, 256, 0, 1, 0, 0, 0},
    {1, 131, 131, 3, 1, 40, 0, 1, 0, 0, 0},    {3, 70, 70, 4, 2, 64, 0, 1, 0, 0, 0},
    /* dense chunks of a longer prompt */
    {1, 5, 9, 4, 2, 96, 0, 1, 0, 0, 0},        {2, 2, 130, 4, 2, 64, 0, 1, 0, 0, 0},
    {1, 64, 128, 4, 2, 96, 0, 1, 0, 0, 0},     {2, 65, 200, 4, 2, 64, 0, 1, 0, 0, 0},
    {1, 37, 111, 4, 2, 96, 0, 1, 0, 0, 0},     {2, 128, 129, 4, 2, 64, 0, 1, 0, 0, 0},
    /* lists for a prompt: who shares them, blocks kept in part */
    {1, 263, 263, 6, 2, 64, 32, 1, WHOLE, 0, 0},  {1, 263, 263, 6, 2, 64, 32, 1, WINDOW, 0, 0},
    {1, 263, 263, 6, 2, 64, 32, 2, WHOLE, 0, 0},  {1, 263, 263, 6, 2, 64, 32, 2, WINDOW, 0, 0},
    {1, 263, 263, 6, 2, 64, 32, 6, WHOLE, 0, 0},  {1, 263, 263, 6, 2, 64, 32, 6, WINDOW, 0, 0},
    {2, 150, 150, 4, 2, 64, 64, 4, WINDOW, 0, 0}, {2, 150, 150, 4, 2, 64, 16, 2, WHOLE, 0, 0},
    {1, 600, 600, 2, 1, 64, 256, 1, WINDOW, 0, 0},
    /* blocks that are no multiple of a vector */
    {1, 250, 250, 2, 1, 64, 24, 1, WINDOW, 0, 0}, {1, 250, 250, 2, 1, 64, 100, 2, WINDOW, 0, 0},
    /* rows that lack their own block */
    {1, 263, 263, 6, 2, 64, 32, 6, FREE, 0, 0},     {2, 150, 150, 4, 2, 64, 64, 4, FREE, 0, 0},
    {1, 600, 600, 2, 1, 64, 256, 1, FREE, 0, 0},    {1, 250, 250, 2, 1, 64, 24, 2, FREE, 0, 0},
    {1, 64, 160, 4, 2, 64, 32, 4, FREE, 0, 0},      {1, 1, 65, 4, 2, 64, 64, 4, FREE, 0, 0},
    {2, 1, 300, 8, 2, 128, 16, 2, FREE, 0, 0},      {1, 1, 1, 2, 1, 64, 16, 2, FREE, 0, 0},
    /* lists for a chunk */
    {1, 7, 39, 4, 2, 64, 16, 1, WINDOW, 0, 0},    {1, 64, 160, 4, 2, 64, 32, 4, WHOLE, 0, 0},
    {1, 70, 134, 4, 2, 64, 64, 1, WINDOW, 0, 0},  {1, 1, 65, 4, 2, 64, 64, 4, WHOLE, 0, 0},
    {1, 100, 356, 4, 2, 64, 128, 1, WINDOW, 0, 0},
    /* decode: more heads a group than go together */
    {1, 1, 300, 24, 2, 64, 0, 1, 0, 0, 0},
    /* vertical-slash lines, and queries' own masks */
    {1, 1, 1, 2, 1, 64, 16, 2, LINES, 0, 0},        {1, 1, 1, 2, 1, 64, 16, 2, QUERIES, 0, 0},
    {2, 100, 100, 6, 2, 64, 16, 2, LINES, 0, 0},    {2, 100, 100, 6, 2, 64, 16, 2, QUERIES, 0, 0},
    {1, 199, 199, 3, 3, 128, 64, 1, LINES, 0, 0},   {1, 199, 199, 3, 3, 128, 64, 1, QUERIES, 0, 0},
    {2, 330, 330, 4, 2, 80, 128, 4, LINES, 0, 0},   {2, 330, 330, 4, 2, 80, 128, 4, QUERIES, 0, 0},
    {1, 263, 263, 2, 1, 64, 32, 1, LINES, 0, 0},    {1, 263, 263, 2, 1, 64, 32, 1, QUERIES, 0, 0},
    {2, 250, 250, 2, 1, 64, 24, 1, LINES, 0, 0},    {2, 250, 250, 2, 1, 64, 24, 1, QUERIES, 0, 0},
    {1, 600, 600, 2, 1, 64, 256, 2, LINES, 0, 0},   {1, 600, 600, 2, 1, 64, 256, 2, QUERIES, 0, 0},
    {2, 70, 134, 4, 2, 64, 64, 2, LINES, 0, 0},     {2, 70, 134, 4, 2, 64, 64, 2, QUERIES, 0, 0},
    {1, 1, 300, 8, 1, 64, 64, 1, LINES, 0, 0},      {1, 1, 300, 8, 1, 64, 64, 1, QUERIES, 0, 0},
    {2, 1, 64, 6, 2, 96, 16, 6, LINES, 0, 0},       {2, 1, 64, 6, 2, 96, 16, 6, QUERIES, 0, 0},
    {1, 1, 1500, 4, 2, 64, 128, 2, LINES, 0, 0},    {1, 1, 1500, 4, 2, 64, 128, 2, QUERIES, 0, 0},
    {2, 1, 65, 3, 3, 40, 32, 1, LINES, 0, 0},       {2, 1, 65, 3, 3, 40, 32, 1, QUERIES, 0, 0},
    {2, 100, 100, 6, 2, 64, 16, 2, KEYS, 0, 0},     {1, 199, 199, 3, 3, 128, 64, 1, KEYS, 0, 0},
    {2, 330, 330, 4, 2, 80, 128, 4, KEYS, 0, 0},    {2, 250, 250, 2, 1, 64, 24, 1, KEYS, 0, 0},
    {1, 600, 600, 2, 1, 64, 256, 2, KEYS, 0, 0},    {1, 1, 300, 8, 1, 64, 64, 1, KEYS, 0, 0},
    {2, 1, 64, 6, 2, 96, 16, 6, KEYS, 0, 0},        {1, 1, 1500, 4, 2, 64, 128, 2, KEYS, 0, 0},
    {1, 250, 250, 2, 1, 64, 100, 2, LINES, 0, 0},   {1, 250, 250, 2, 1, 64, 100, 2, QUERIES, 0, 0},
};
/* CUDA: blocks of 16 and 256, other head dimensions, batches, chunks, more tiles than fit at once;
 * each by the kernel that is chosen and by the portable one. */
static const struct shape both_kernels[] = {
    {1, 300, 300, 8, 2, 64, 16, 1, WHOLE, 0, 0},    {1, 300, 300, 6, 2, 128, 16, 2, WINDOW, 0, 0},
    {1, 700, 700, 8, 2, 128, 256, 1, WINDOW, 0, 0}, {1, 700, 700, 4, 4, 64, 256, 4, WHOLE, 0, 0},
    {1, 200, 200, 4, 2, 80, 64, 1, WHOLE, 0, 0},    {1, 200, 200, 4, 2, 32, 64, 2, WHOLE, 0, 0},
    {1, 130, 130, 4, 2, 192, 64, 1, WINDOW, 0, 0},  {2, 200, 200, 8, 2, 128, 64, 2, WHOLE, 0, 0},
    {3, 77, 77, 4, 4, 64, 32, 4, WINDOW, 0, 0},     {1, 128, 512, 8, 2, 128, 64, 1, WHOLE, 0, 0},
    {1, 130, 514, 8, 2, 128, 128, 2, WINDOW, 0, 0}, {1, 70, 582, 28, 4, 128, 64, 1, WHOLE, 0, 0},
    {1, 100, 612, 8, 2, 64, 0, 1, WHOLE, 0, 0},     {1, 37, 1000, 14, 2, 64, 0, 1, WHOLE, 0, 0},
    {2, 65, 129, 8, 8, 128, 0, 1, WHOLE, 0, 0},     {1, 1000, 1000, 32, 8, 128, 64, 1, WHOLE, 0, 0},
    {1, 1000, 1000, 32, 8, 128, 128, 8, WHOLE, 0, 0},
    {1, 900, 900, 14, 2, 64, 64, 14, WHOLE, 0, 0},  {1, 2500, 2500, 8, 2, 128, 64, 1, WHOLE, 0, 0},
    {1, 2500, 2500, 28, 4, 128, 0, 1, WHOLE, 0, 0},
    {1, 1000, 1000, 32, 8, 128, 64, 32, FREE, 0, 0},
    {1, 1000, 1000, 32, 8, 128, 128, 8, FREE, 0, 0},
    {1, 900, 900, 14, 2, 64, 64, 1, FREE, 0, 0},    {2, 200, 200, 6, 2, 80, 16, 2, FREE, 0, 0},
    {1, 70, 582, 28, 4, 128, 64, 28, FREE, 0, 0},   {1, 2500, 2500, 8, 2, 64, 128, 8, FREE, 0, 0},
};
/* CUDA: the library's kernel, at the shapes that it is timed at; decode with more than 16 heads a
 * group. */
static const struct shape large[] = {
    {1, 1000, 1000, 32, 8, 128, 0, 1, 0, SW_ATTEND_LIBRARY, 0},
    {1, 2048, 2048, 9, 3, 64, 0, 1, 0, SW_ATTEND_LIBRARY, 0},
    {2, 1, 500, 40, 2, 64, 16, 1, WHOLE, 0, 0},     {1, 1, 3000, 32, 8, 128, 256, 1, WHOLE, 0, 0},
};
/* Llama-3.1-8B's attention: dense, by the library and by the portable kernel, and lists of a fifth
 * of the blocks; prompts, then decode. */
static const struct shape timed[] = {
    {1, 8192, 8192, 32, 8, 128, 0, 1, 0, 0, 0},     {1, 8192, 8192, 32, 8, 128, 64, 1, 0, 0, 0},
    {1, 8192, 8192, 32, 8, 128, 0, 1, 0, SW_ATTEND_LIBRARY, 0},
    {1, 8192, 8192, 32, 8, 128, 0, 1, 0, 0, 1},     {1, 8192, 8192, 32, 8, 128, 64, 1, 0, 0, 1},
    {1, 32768, 32768, 32, 8, 128, 0, 1, 0, 0, 0},   {1, 32768, 32768, 32, 8, 128, 64, 1, 0, 0, 0},
    {1, 32768, 32768, 32, 8, 128, 0, 1, 0, SW_ATTEND_LIBRARY, 0},
    {1, 32768, 32768, 32, 8, 128, 0, 1, 0, 0, 1},   {1, 32768, 32768, 32, 8, 128, 64, 1, 0, 0, 1},
    {1, 131072, 131072, 32, 8, 128, 0, 1, 0, 0, 0},
    {1, 131072, 131072, 32, 8, 128, 64, 1, 0, 0, 0},
    {1, 131072, 131072, 32, 8, 128, 0, 1, 0, SW_ATTEND_LIBRARY, 0},
    {1, 131072, 131072, 32, 8, 128, 0, 1, 0, 0, 1},
    {1, 131072, 131072, 32, 8, 128, 64, 1, 0, 0, 1},
    {1, 1, 8192, 32, 8, 128, 0, 1, 0, 0, 0},        {1, 1, 8192, 32, 8, 128, 64, 1, 0, 0, 0},
    {4, 1, 8192, 32, 8, 128, 0, 1, 0, 0, 0},        {4, 1, 8192, 32, 8, 128, 64, 1, 0, 0, 0},
    {1, 1, 32768, 32, 8, 128, 0, 1, 0, 0, 0},       {1, 1, 32768, 32, 8, 128, 64, 1, 0, 0, 0},
    {8, 1, 32768, 32, 8, 128, 0, 1, 0, 0, 0},       {8, 1, 32768, 32, 8, 128, 64, 1, 0, 0, 0},
    {1, 1, 131072, 32, 8, 128, 0, 1, 0, 0, 0},      {1, 1, 131072, 32, 8, 128, 64, 1, 0, 0, 0},
    {4, 1, 131072, 32, 8, 128, 0, 1, 0, 0, 0},      {4, 1, 131072, 32, 8, 128, 64, 1, 0, 0, 0},
};
/* clang-format on */

static void try(const struct shape *s);

/* 1, Hkv or H lists, by turns. */
static int units_of(int turn, int H, int Hkv)
{
    return turn % 3 == 0 ? 1 : turn % 3 == 1 ? Hkv : H;
}

static void every_block_size(void)
{
    static const int heads[][2] = {{3, 3}, {6, 2}, {8, 2}, {8, 1}}, blocks[] = {16, 32, 64, 128},
                     dims[] = {64, 128, 80, 32, 96, 256},
                     decode_dims[] = {64, 128, 80, 32, 256, 40};
    for (int b = 0, turn = 0; b < 4; b++) {
        int B = blocks[b], prompts[] = {1, B - 1, B, B + 1, 3 * B + 7},
            decodes[] = {1, B - 1, B, B + 1, 3 * B + 7, 20 * B + 1};
        for (int l = 0; l < 5; l++, turn++) {
            const int *h = heads[turn % 4];
            try(&(struct shape){1, prompts[l], prompts[l], h[0], h[1], dims[turn % 6], B,
                                units_of(turn, h[0], h[1]), turn % 2 ? WINDOW : WHOLE, 0, 0});
        }
        for (int l = 0; l < 6; l++) {
            const int *h = heads[(b + l) % 4];
            try(&(struct shape){1 + l % 2, 1, decodes[l], h[0], h[1], decode_dims[(b + l) % 6], B,
                                units_of(l, h[0], h[1]), l % 2 ? WINDOW : WHOLE, 0, 0});
        }
    }
    static const int lengths[] = {1, 2, 16, 63, 64, 65, 200, 513, 1500};
    for (int l = 0; l < 9; l++)
        for (int g = 0; g < 4; g++)
            try(&(struct shape){1 + (l + g) % 2, 1, lengths[l], heads[g][0], heads[g][1],
                                decode_dims[(l + g) % 6], 0, 1, WHOLE, 0, 0});
}

/* Prompts on CUDA: head_dim × heads a group × length, dense and with two kinds of lists; a half of
 * the long ones, a quarter of the longest. */
static void cuda_prompts(int portable)
{
    static const int lengths[] = {1, 63, 64, 65, 1000, 4096}, dims[] = {64, 96, 128, 256},
                     groups[] = {1, 3, 4, 8}, blocks[] = {32, 64, 128};
    for (int i = 0; i < 6 * 4 * 4; i++) {
        int li = i / 16, di = i / 4 % 4, gi = i % 4, n = lengths[li];
        int Hkv = n > 1000 ? 1 : 2, H = groups[gi] * Hkv, d = dims[di];
        if ((n > 100 && (di + gi) % 2 != li % 2) || (n > 1000 && gi != di))
            continue;
        try(&(struct shape){1, n, n, H, Hkv, d, 0, 1, WHOLE, 0, portable});
        for (int bi = 0; bi < 3; bi++) {
            if (n > 1000 && bi != (di + 1) % 3)
                continue;
            int turn = li + di + gi + bi;
            try(&(struct shape){1, n, n, H, Hkv, d, blocks[bi], units_of(turn, H, Hkv),
                                (li + bi) % 2 ? WINDOW : WHOLE, 0, portable});
            try(&(struct shape){1, n, n, H, Hkv, d, blocks[bi], units_of(turn + 1, H, Hkv), WHOLE,
                                0, portable});
        }
    }
    for (size_t i = 0; i < sizeof both_kernels / sizeof *both_kernels; i++) {
        struct shape s = both_kernels[i];
        s.portable = portable;
        try(&s);
    }
}

/* Decode on CUDA: the current block full, begun, and of one token. */
static void cuda_decodes(void)
{
    static const int lengths[] = {1, 17, 64, 65, 200, 1000, 1024, 4096, 9001},
                     dims[] = {64, 96, 128, 256}, groups[] = {1, 3, 4, 8}, blocks[] = {32, 64, 128};
    for (int i = 0; i < 9 * 4 * 4; i++) {
        int li = i / 16, di = i / 4 % 4, gi = i % 4, n = lengths[li], H = 2 * groups[gi],
            batch = (di + gi) % 2 ? 4 : 1;
        try(&(struct shape){batch, 1, n, H, 2, dims[di], 0, 1, WHOLE, 0, 0});
        try(&(struct shape){batch, 1, n, H, 2, dims[di], blocks[(di + gi) % 3],
                            units_of(gi + li, H, 2), li % 2 ? WINDOW : WHOLE, 0, 0});
    }
}

static void each(enum sw_use use, bool with_large)
{
    every_block_size();
    if (use != SW_PARITY || !with_large)
        return;
    cuda_prompts(0);
    cuda_prompts(1);
    cuda_decodes();
}

/* --- examples and refusals -------------------------------------------------------------------- */

enum { N = 140, D = 64 };

static struct sw_attend one_head(const float *q, const float *k, const float *v, float *out,
                                 float scale)
{
    return (struct sw_attend){.batch = 1,
                              .n_q = N,
                              .n_k = N,
                              .n_heads = 1,
                              .n_kv_heads = 1,
                              .head_dim = D,
                              .kv_stride = N,
                              .q = q,
                              .k = k,
                              .v = v,
                              .out = out,
                              .scale = scale};
}

/* A complete list gives the bits of dense attention. */
static void full_list_is_dense(struct sw_backend *be, struct sw_attend a)
{
    float *dense = sw_need(N * D * sizeof *dense);
    struct sw_selection full = {0};
    sw_must(sw_selection_full(&full, N, 64, 1), "sw_selection_full");
    sw_must(be->attend(be, &a), "attend");
    memcpy(dense, a.out, N * D * sizeof *dense);
    a.sel = &full;
    sw_must(be->attend(be, &a), "attend");
    sw_holds(memcmp(dense, a.out, N * D * sizeof *dense) == 0, "a full list is not dense");
    sw_selection_free(&full);
    free(dense);
}

static void refusals(struct sw_backend *be, struct sw_attend good)
{
    struct sw_attend a = good;
    a.v = NULL;
    sw_refused(be->attend(be, &a), SW_EINTERNAL);
    a = good;
    a.kv_stride = N - 1;
    sw_refused(be->attend(be, &a), SW_EINTERNAL);
    a = good;
    a.n_heads = 3;
    a.n_kv_heads = 2;
    sw_refused(be->attend(be, &a), SW_EINTERNAL);
    a = good;
    a.head_dim = 512;
    sw_refused(be->attend(be, &a), SW_EUNSUPPORTED);
    sw_refused(be->attend(be, NULL), SW_EINTERNAL);
    struct sw_selection list = {0};
    sw_must(sw_selection_full(&list, N, 16, 1), "sw_selection_full");
    a = good;
    a.sel = &list;
    list.rows--; /* does not cover the queries */
    sw_refused(be->attend(be, &a), SW_EINTERNAL);
    list.rows++;
    list.indices[2] = 77; /* out of range */
    sw_refused(be->attend(be, &a), SW_EINTERNAL);
    list.indices[2] = 1;
    list.indptr[2] = list.indptr[1]; /* an empty row */
    sw_refused(be->attend(be, &a), SW_EINTERNAL);
    list.block = 0;
    sw_refused(be->attend(be, &a), SW_EINTERNAL);
    sw_selection_free(&list);
}

static void more(struct sw_backend *be)
{
    float *x = sw_need(4 * N * D * sizeof *x), *q = x, *k = x + N * D, *v = k + N * D,
          *out = v + N * D;
    for (int i = 0; i < 3 * N * D; i++)
        x[i] = (float)sw_rng_normal(1, SW_RNG_TEST, (uint64_t)i);
    full_list_is_dense(be, one_head(q, k, v, out, 0.125f));
    refusals(be, one_head(q, k, v, out, 1));
    free(x);
}

/* Scores of hundreds, and equal ones: softmax must neither overflow nor lose what is small. */
enum { HUGE_SCORES, EQUAL_SCORES };

static void make_extreme(struct sw_case *c)
{
    make(c);
    float *q = c->slot[Q].host;
    for (size_t i = 0; i < c->slot[Q].given; i++)
        q[i] = c->variant == EQUAL_SCORES ? 0 : q[i] * 80; /* 80 · 2/√64 = 20 a unit */
}

static void reference_extreme(struct sw_case *c)
{
    const struct shape *s = c->shape;
    struct truth t = find_truth(c, s->n_q, false);
    for (int i = 0; i < s->n_q * s->H * s->d; i++) /* 2^-24·700 of rounding in the exponent */
        c->slot[OUT].expected[i] =
            (struct sw_expected){t.exact[i], c->variant == EQUAL_SCORES ? 1e-6 : 1e-3};
    free(t.exact);
    free(t.plain);
}

static void check_extreme(struct sw_case *c, struct sw_backend *be, const struct sw_result *got)
{
    (void)be;
    if (c->use == SW_PARITY)
        check_sample(c, got->of[OUT]);
}

static const struct shape extreme[] = {{1, N, N, 1, 1, D, 0, 1, WHOLE, 0, 0}};
#define FIELDS "batch n_q n_k H Hkv d B units rule kernel portable"

SW_CASES(attend, .covers = "attend attend_in_place", .fields = FIELDS, .shapes = SW_SHAPES(shapes),
         .large = SW_SHAPES(large), .timed = SW_SHAPES(timed), .each = each, .make = make,
         .run = run, .reference = reference, .check = check, .cuda_alone = true, .more = more,
         .cost = cost);

SW_CASES(attend_extreme, .covers = "attend", .fields = FIELDS, .variants = 2,
         .shapes = SW_SHAPES(extreme), .make = make_extreme, .run = run,
         .reference = reference_extreme, .check = check_extreme, .cuda_alone = true);

static void try(const struct shape *s) { sw_case_try(&sw_cases_attend, s); }
