/* Attention, prefill and decode, dense and block-sparse, and the true block mass, against plain
 * loops in double precision.
 *
 * Tolerance: at most twice the root-mean-square error that the same formula makes in plain fp32
 * loops, both against double, and three times its largest error (one value of thousands, which
 * varies by itself); or 4e-7 of the largest output (about 3 ulp: rescaled queries and 2^x), where
 * the plain loops happen to be exact. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/backends.h"
#include "tests/support/buffers.h"
#include "tests/support/reference.h"

struct shape {
    int batch, n_q, n_k, heads, kv_heads, d;
    int block; /* 0: dense */
    int units; /* a batch entry */
    int partial;
};
/* rules of partial blocks; 0: whole blocks only */
enum { PARTIAL_WINDOW = 1, PARTIAL_VERTICAL_SLASH, PARTIAL_QUERIES };

/* Token masks by chance; a query sees at least itself. */
static void random_masks(struct sw_selection *s, const struct shape *c, uint64_t seed)
{
    int mask_ld = c->partial == PARTIAL_VERTICAL_SLASH ? c->n_k + 2 : 0,
        words = c->partial == PARTIAL_QUERIES ? sw_query_words(c->block) : 0;
    sw_test_ok(sw_selection_reserve_masks(s, mask_ld, words));
    for (int x = 0; x < s->units * mask_ld; x++) {
        s->columns[x] = sw_test_int(seed, (uint64_t)x, 0, 5) == 0;
        s->slashes[x] = x % mask_ld == 0 || sw_test_int(seed + 1, (uint64_t)x, 0, 5) == 0;
    }
    for (int64_t w = 0; w < s->capacity * words; w++)
        s->queries[w] = (uint64_t)sw_test_int(seed, (uint64_t)w, 0, 1 << 30) << 33 |
                        (uint64_t)sw_test_int(seed + 1, (uint64_t)w, 0, 1 << 30);
    if (seed % 5 == 0 && mask_ld)
        s->columns = NULL;
}

/* A random causal selection; every row has its diagonal. */
static void random_selection(struct sw_selection *s, const struct shape *c, uint64_t seed)
{
    int row0 = (c->n_k - c->n_q) / c->block, rows = sw_blocks(c->n_k, c->block) - row0,
        units = c->units * c->batch;
    sw_test_ok(sw_selection_reserve(s, NULL, units, rows,
                                    sw_selection_full_capacity(units, row0, rows), c->partial));
    s->block = c->block;
    s->n = c->n_k;
    s->n_q = c->n_q;
    s->row0 = row0;
    s->window = c->partial == PARTIAL_WINDOW ? c->block + c->block / 3 + 1 : 0;
    s->sink = c->partial == PARTIAL_WINDOW ? c->block / 2 : 0;
    if (c->partial > PARTIAL_WINDOW)
        random_masks(s, c, seed);
    int32_t at = 0;
    uint64_t draw = 0;
    for (int64_t row = 0; row < (int64_t)units * rows; row++) {
        s->indptr[row] = at;
        int i = row0 + (int)(row % rows);
        for (int j = 0; j <= i; j++)
            if (j == i || sw_test_int(seed, draw++, 0, 9) < 4) {
                if (c->partial)
                    s->whole[at] = sw_test_int(seed, draw++, 0, 1) == 1 ||
                                   (c->partial == PARTIAL_QUERIES && j == i);
                s->indices[at++] = j;
            }
    }
    s->indptr[(int64_t)units * rows] = at;
}

struct error {
    double rms, max, largest; /* largest: the largest true value */
};

static struct error error_of(const float *x, const double *truth, size_t count)
{
    struct error e = {0};
    for (size_t i = 0; i < count; i++) {
        double diff = fabs((double)x[i] - truth[i]);
        if (diff != diff)
            return (struct error){INFINITY, INFINITY, 0};
        e.rms += diff * diff / (double)count;
        e.max = diff > e.max ? diff : e.max;
        e.largest = fabs(truth[i]) > e.largest ? fabs(truth[i]) : e.largest;
    }
    e.rms = sqrt(e.rms);
    return e;
}

/* Over the queries what a->out has; of one query, which is not taken, an error. */
static void check_in_place(struct sw_backend *be, const struct sw_attend *a, size_t count,
                           const char *name)
{
    struct sw_guarded over = sw_guarded_make(count);
    struct sw_attend same = *a;
    same.q = same.out = over.data;
    memcpy(over.data, a->q, count * sizeof *over.data);
    assert_int_equal(be->attend_in_place(be, a), a->n_q > 1);
    if (a->n_q == 1)
        sw_test_fails(be->attend(be, &same), SW_EINTERNAL);
    else
        sw_test_ok(be->attend(be, &same));
    if (a->n_q > 1 && memcmp(over.data, a->out, count * sizeof *over.data) != 0)
        fail_msg("%s: other bits over the queries", name);
    sw_guarded_check_free(&over, name);
}

static void check_shape(const struct shape *c, uint64_t seed)
{
    char name[160];
    snprintf(name, sizeof name, "batch %d n_q %d n_k %d H %d Hkv %d d %d B %d units %d partial %d",
             c->batch, c->n_q, c->n_k, c->heads, c->kv_heads, c->d, c->block, c->units, c->partial);
    int stride = c->n_k + 3; /* a cache longer than what is used; the rest must not be read */
    size_t out_count = (size_t)c->batch * (size_t)c->n_q * (size_t)c->heads * (size_t)c->d,
           token = (size_t)c->kv_heads * (size_t)c->d;
    float *q = sw_test_normal(out_count, seed),
          *k = sw_test_normal((size_t)c->batch * (size_t)stride * token, seed + 1);
    float *v = sw_test_normal((size_t)c->batch * (size_t)stride * token, seed + 2);
    for (int batch = 0; batch < c->batch; batch++)
        for (size_t i = (size_t)c->n_k * token; i < (size_t)stride * token; i++)
            k[(size_t)batch * (size_t)stride * token + i] =
                v[(size_t)batch * (size_t)stride * token + i] = NAN;
    struct sw_selection sel = {0};
    struct sw_attend a = {.batch = c->batch,
                          .n_q = c->n_q,
                          .n_k = c->n_k,
                          .n_heads = c->heads,
                          .n_kv_heads = c->kv_heads,
                          .head_dim = c->d,
                          .kv_stride = stride,
                          .q = q,
                          .k = k,
                          .v = v,
                          .scale = 1.5f / sqrtf((float)c->d)};
    if (c->block) {
        random_selection(&sel, c, seed + 3);
        a.sel = &sel;
    }
    double *truth = malloc(out_count * sizeof *truth);
    float *plain = malloc(out_count * sizeof *plain);
    sw_reference_attend(&a, truth);
    sw_reference_attend_fp32(&a, plain);
    struct error naive = error_of(plain, truth, out_count);
    double floor = 4e-7 * naive.largest;
    for (const char *const *isa = sw_test_isas(); *isa; isa++) {
        float *first = NULL;
        for (int threads = 1; threads <= 3; threads++) {
            struct sw_backend *be = sw_test_open(*isa, threads);
            struct sw_guarded out = sw_guarded_make(out_count);
            a.out = out.data;
            sw_test_ok(be->attend(be, &a));
            struct error error = error_of(out.data, truth, out_count);
            if ((error.rms > 2 * naive.rms && error.rms > floor / 3) ||
                (error.max > 3 * naive.max && error.max > floor))
                fail_msg("%s %s: error rms %.3g, max %.3g; plain fp32 has %.3g, %.3g", *isa, name,
                         error.rms, error.max, naive.rms, naive.max);
            if (!first) {
                first = malloc(out_count * sizeof *first);
                memcpy(first, out.data, out_count * sizeof *first);
            } else if (memcmp(first, out.data, out_count * sizeof *first) != 0) {
                fail_msg("%s %s: bits differ between 1 and %d threads", *isa, name, threads);
            }
            check_in_place(be, &a, out_count, name);
            sw_guarded_check_free(&out, name);
            sw_backend_close(be);
        }
        free(first);
    }
    sw_selection_free(&sel);
    free(truth);
    free(plain);
    free(q);
    free(k);
    free(v);
}

static const int group_heads[][2] = {{3, 3}, {6, 2}, {8, 2}, {8, 1}}; /* GQA 1, 3, 4, 8 */

static void dense_prefill(void **state)
{
    (void)state;
    static const int lengths[] = {1, 2, 15, 16, 17, 63, 64, 65, 129, 199},
                     dims[] = {32, 64, 80, 96, 128, 256, 40};
    for (int l = 0; l < 10; l++) {
        const int *h = group_heads[l % 4];
        check_shape(
            &(struct shape){1, lengths[l], lengths[l], h[0], h[1], dims[l % 7], 0, 1, false},
            100 + (uint64_t)l);
    }
    for (int i = 0; i < 7; i++)
        check_shape(&(struct shape){1, 131, 131, 3, 1, dims[i], 0, 1, false}, 200 + (uint64_t)i);
    check_shape(&(struct shape){3, 70, 70, 4, 2, 64, 0, 1, false}, 300);
}

static void dense_chunks(void **state)
{
    (void)state;
    static const int chunk[][2] = {{5, 9}, {2, 130}, {64, 128}, {65, 200}, {37, 111}, {128, 129}};
    for (int i = 0; i < 6; i++)
        check_shape(&(struct shape){1 + i % 2, chunk[i][0], chunk[i][1], 4, 2, i % 2 ? 64 : 96, 0,
                                    1, false},
                    400 + (uint64_t)i);
}

static void sparse_prefill(void **state)
{
    (void)state;
    static const int blocks[] = {16, 32, 64, 128}, dims[] = {64, 128, 80, 32, 96, 256};
    uint64_t seed = 500;
    int turn = 0;
    for (int b = 0; b < 4; b++) {
        int B = blocks[b], lengths[] = {1, B - 1, B, B + 1, 3 * B + 7};
        for (int l = 0; l < 5; l++, turn++) {
            if (lengths[l] > 300 && b < 3)
                continue;
            const int *h = group_heads[turn % 4];
            int units = turn % 3 == 0 ? 1 : turn % 3 == 1 ? h[1] : h[0];
            check_shape(&(struct shape){1, lengths[l], lengths[l], h[0], h[1], dims[turn % 6], B,
                                        units, turn % 2 == 1},
                        seed++);
        }
    }
    for (int u = 0; u < 3; u++)
        for (int partial = 0; partial < 2; partial++)
            check_shape(&(struct shape){1, 263, 263, 6, 2, 64, 32,
                                        u == 0   ? 1
                                        : u == 1 ? 2
                                                 : 6,
                                        partial == 1},
                        seed++);
    check_shape(&(struct shape){2, 150, 150, 4, 2, 64, 64, 4, true}, seed++);
    check_shape(&(struct shape){2, 150, 150, 4, 2, 64, 16, 2, false}, seed++);
    check_shape(&(struct shape){1, 600, 600, 2, 1, 64, 256, 1, true}, seed++);
    /* blocks that are no multiple of a vector */
    check_shape(&(struct shape){1, 250, 250, 2, 1, 64, 24, 1, true}, seed++);
    check_shape(&(struct shape){1, 250, 250, 2, 1, 64, 100, 2, true}, seed++);
}

static void token_masks(void **state)
{
    (void)state;
    static const int cases[][6] = {/* n_q n_k H Hkv d B */ {1, 1, 2, 1, 64, 16},
                                   {100, 100, 6, 2, 64, 16},
                                   {199, 199, 3, 3, 128, 64},
                                   {330, 330, 4, 2, 80, 128},
                                   {263, 263, 2, 1, 64, 32},
                                   {250, 250, 2, 1, 64, 24},
                                   {600, 600, 2, 1, 64, 256},
                                   {70, 134, 4, 2, 64, 64},
                                   {1, 300, 8, 1, 64, 64},
                                   {1, 64, 6, 2, 96, 16},
                                   {1, 1500, 4, 2, 64, 128},
                                   {1, 65, 3, 3, 40, 32},
                                   {250, 250, 2, 1, 64, 100}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int rule = PARTIAL_VERTICAL_SLASH; rule <= PARTIAL_QUERIES; rule++) {
            const int *x = cases[i];
            int units = i % 3 == 0 ? x[2] : i % 3 == 1 ? x[3] : 1;
            check_shape(
                &(struct shape){1 + (int)i % 2, x[0], x[1], x[2], x[3], x[4], x[5], units, rule},
                900 + 2 * i + (uint64_t)rule);
        }
}

static void sparse_chunks(void **state)
{
    (void)state;
    /* B, n_q, n_k */
    static const int cases[][3] = {
        {16, 7, 39}, {32, 64, 160}, {64, 70, 134}, {64, 1, 65}, {128, 100, 356}};
    for (int i = 0; i < 5; i++)
        check_shape(&(struct shape){1, cases[i][1], cases[i][2], 4, 2, 64, cases[i][0],
                                    i % 2 ? 4 : 1, i % 2 == 0},
                    700 + (uint64_t)i);
}

static void decode(void **state)
{
    (void)state;
    static const int lengths[] = {1, 2, 16, 63, 64, 65, 200, 513, 1500},
                     dims[] = {64, 128, 80, 32, 256, 40};
    uint64_t seed = 800;
    for (int l = 0; l < 9; l++)
        for (int g = 0; g < 4; g++) {
            const int *h = group_heads[g];
            check_shape(&(struct shape){1 + (l + g) % 2, 1, lengths[l], h[0], h[1],
                                        dims[(l + g) % 6], 0, 1, false},
                        seed++);
        }
    /* more heads a group than go together */
    check_shape(&(struct shape){1, 1, 300, 24, 2, 64, 0, 1, false}, seed++);
    static const int blocks[] = {16, 32, 64, 128};
    for (int b = 0; b < 4; b++) {
        int B = blocks[b], ns[] = {1, B - 1, B, B + 1, 3 * B + 7, 20 * B + 1};
        for (int l = 0; l < 6; l++) {
            const int *h = group_heads[(b + l) % 4];
            check_shape(&(struct shape){1 + l % 2, 1, ns[l], h[0], h[1], dims[(b + l) % 6], B,
                                        l % 3 == 0   ? 1
                                        : l % 3 == 1 ? h[1]
                                                     : h[0],
                                        l % 2 == 1},
                        seed++);
        }
    }
}

/* Scores of hundreds, and equal ones: softmax must neither overflow nor lose what is small. */
static void extreme_scores(void **state)
{
    (void)state;
    enum { N = 140, D = 64 };
    float *q = sw_test_normal(N * D, 1), *k = sw_test_normal(N * D, 2),
          *v = sw_test_normal(N * D, 3);
    double *truth = malloc(N * D * sizeof *truth);
    for (int kind = 0; kind < 2; kind++) {
        if (kind == 1)
            memset(q, 0, N * D * sizeof *q);
        struct sw_attend a = {.batch = 1,
                              .n_q = N,
                              .n_k = N,
                              .n_heads = 1,
                              .n_kv_heads = 1,
                              .head_dim = D,
                              .kv_stride = N,
                              .q = q,
                              .k = k,
                              .v = v,
                              .scale = 20.0f};
        sw_reference_attend(&a, truth);
        for (const char *const *isa = sw_test_isas(); *isa; isa++) {
            struct sw_backend *be = sw_test_open(*isa, 2);
            struct sw_guarded out = sw_guarded_make(N * D);
            a.out = out.data;
            sw_test_ok(be->attend(be, &a));
            for (int i = 0; i < N * D;
                 i++) /* scores up to 700 have 2^-24·700 of rounding in the exponent */
                assert_true(fabs((double)out.data[i] - truth[i]) <= (kind ? 1e-6 : 1e-3));
            sw_guarded_check_free(&out, "extreme scores");
            sw_backend_close(be);
        }
    }
    free(q);
    free(k);
    free(v);
    free(truth);
}

static void full_selection_is_dense(void **state)
{
    (void)state;
    enum { N = 333, H = 4, D = 64 };
    float *q = sw_test_normal(N * H * D, 1), *k = sw_test_normal(N * H * D, 2),
          *v = sw_test_normal(N * H * D, 3);
    struct sw_selection sel = {0};
    sw_test_ok(sw_selection_full(&sel, N, 64, 1));
    for (const char *const *isa = sw_test_isas(); *isa; isa++) {
        struct sw_backend *be = sw_test_open(*isa, 2);
        struct sw_guarded dense = sw_guarded_make(N * H * D), sparse = sw_guarded_make(N * H * D);
        struct sw_attend a = {.batch = 1,
                              .n_q = N,
                              .n_k = N,
                              .n_heads = H,
                              .n_kv_heads = H,
                              .head_dim = D,
                              .kv_stride = N,
                              .q = q,
                              .k = k,
                              .v = v,
                              .out = dense.data,
                              .scale = 0.125f};
        sw_test_ok(be->attend(be, &a));
        a.out = sparse.data;
        a.sel = &sel;
        sw_test_ok(be->attend(be, &a));
        assert_memory_equal(dense.data, sparse.data, N * H * D * sizeof(float));
        sw_guarded_check_free(&dense, "dense");
        sw_guarded_check_free(&sparse, "full selection");
        sw_backend_close(be);
    }
    sw_selection_free(&sel);
    free(q);
    free(k);
    free(v);
}

static void block_mass(void **state)
{
    (void)state;
    static const int cases[][6] = {/* n_q n_k H Hkv d B */ {1, 1, 2, 2, 64, 16},
                                   {63, 63, 2, 1, 64, 64},
                                   {64, 64, 4, 1, 80, 64},
                                   {65, 65, 3, 1, 128, 64},
                                   {199, 199, 4, 2, 64, 32},
                                   {150, 150, 8, 1, 32, 16},
                                   {300, 300, 2, 2, 256, 128},
                                   {1, 200, 6, 2, 64, 64},
                                   {1, 64, 3, 3, 96, 64},
                                   {600, 600, 1, 1, 64, 256}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int n_q = cases[c][0], n = cases[c][1], H = cases[c][2], Hkv = cases[c][3], d = cases[c][4],
            B = cases[c][5];
        int blocks = sw_blocks(n, B), rows = blocks - (n - n_q) / B, ld = blocks + 3,
            ld_rows = rows + 1;
        float *q = sw_test_normal((size_t)n_q * (size_t)H * (size_t)d, 10 + c),
              *k = sw_test_normal((size_t)n * (size_t)Hkv * (size_t)d, 20 + c);
        struct sw_attend in = {.batch = 1,
                               .n_q = n_q,
                               .n_k = n,
                               .n_heads = H,
                               .n_kv_heads = Hkv,
                               .head_dim = d,
                               .kv_stride = n,
                               .q = q,
                               .k = k,
                               .scale = 2.0f / sqrtf((float)d)};
        double *truth = malloc((size_t)H * (size_t)rows * (size_t)blocks * sizeof *truth);
        sw_reference_block_mass(&in, B, truth);
        for (const char *const *isa = sw_test_isas(); *isa; isa++) {
            float *first = NULL;
            for (int threads = 1; threads <= 3; threads++) {
                struct sw_backend *be = sw_test_open(*isa, threads);
                size_t count = (size_t)H * (size_t)ld_rows * (size_t)ld;
                struct sw_guarded out = sw_guarded_make(count);
                struct sw_block_mass a = {.in = in, .block = B, .out = {out.data, H, ld_rows, ld}};
                sw_test_ok(be->block_mass(be, &a));
                for (int h = 0; h < H; h++)
                    for (int i = 0; i < rows; i++)
                        for (int j = 0; j < blocks; j++) {
                            double got =
                                (double)out
                                    .data[((size_t)h * (size_t)ld_rows + (size_t)i) * (size_t)ld +
                                          (size_t)j];
                            double want =
                                truth[((size_t)h * (size_t)rows + (size_t)i) * (size_t)blocks +
                                      (size_t)j];
                            /* relative to the block: sums of at most 2^16 positive terms, each with
                             * a relative error of some 1e-6 */
                            if (!(fabs(got - want) <= 1e-5 * want))
                                fail_msg("%s case %zu: head %d mass[%d,%d] = %.9g, should be %.9g",
                                         *isa, c, h, i, j, got, want);
                        }
                if (!first) {
                    first = malloc(count * sizeof *first);
                    memcpy(first, out.data, count * sizeof *first);
                } else {
                    assert_memory_equal(first, out.data, count * sizeof *first);
                }
                sw_guarded_check_free(&out, "block_mass");
                sw_backend_close(be);
            }
            free(first);
        }
        free(q);
        free(k);
        free(truth);
    }
}

static void zero_queries_share_alike(void **state)
{
    (void)state;
    /* The spec's hand-made case: all-zero queries, n = 4, B = 2 give [1], [7/12, 5/12]. */
    float q[4 * 32] = {0}, *k = sw_test_normal(4 * 32, 1), out[4];
    for (const char *const *isa = sw_test_isas(); *isa; isa++) {
        struct sw_backend *be = sw_test_open(*isa, 1);
        struct sw_block_mass a = {.in = {.batch = 1,
                                         .n_q = 4,
                                         .n_k = 4,
                                         .n_heads = 1,
                                         .n_kv_heads = 1,
                                         .head_dim = 32,
                                         .kv_stride = 4,
                                         .q = q,
                                         .k = k,
                                         .scale = 1},
                                  .block = 2,
                                  .out = {out, 1, 2, 2}};
        sw_test_ok(be->block_mass(be, &a));
        assert_true(fabsf(out[0] - 1) < 1e-6f && out[1] == 0 && fabsf(out[2] - 7.0f / 12) < 1e-6f &&
                    fabsf(out[3] - 5.0f / 12) < 1e-6f);
        sw_backend_close(be);
    }
    free(k);
}

static void broken_contracts(void **state)
{
    (void)state;
    struct sw_backend *be = sw_test_open(sw_test_isas()[0], 1);
    float x[64 * 32] = {0};
    struct sw_attend good = {.batch = 1,
                             .n_q = 64,
                             .n_k = 64,
                             .n_heads = 1,
                             .n_kv_heads = 1,
                             .head_dim = 32,
                             .kv_stride = 64,
                             .q = x,
                             .k = x,
                             .v = x,
                             .out = x,
                             .scale = 1};
    struct sw_attend a = good;
    a.v = NULL;
    sw_test_fails(be->attend(be, &a), SW_EINTERNAL);
    a = good;
    a.kv_stride = 63;
    sw_test_fails(be->attend(be, &a), SW_EINTERNAL);
    a = good;
    a.n_heads = 3;
    a.n_kv_heads = 2;
    sw_test_fails(be->attend(be, &a), SW_EINTERNAL);
    a = good;
    a.head_dim = 512;
    sw_test_fails(be->attend(be, &a), SW_EUNSUPPORTED);
    sw_test_fails(be->attend(be, NULL), SW_EINTERNAL);
    struct sw_selection sel = {0};
    sw_test_ok(sw_selection_full(&sel, 64, 16, 1));
    a = good;
    a.sel = &sel;
    sel.rows = 3; /* does not cover the queries */
    sw_test_fails(be->attend(be, &a), SW_EINTERNAL);
    sel.rows = 4;
    sel.indices[2] = 77; /* out of range */
    sw_test_fails(be->attend(be, &a), SW_EINTERNAL);
    sel.indices[2] = 1;
    sel.indptr[2] = sel.indptr[1]; /* an empty row */
    sw_test_fails(be->attend(be, &a), SW_EINTERNAL);
    sel.block = 0;
    sw_test_fails(be->attend(be, &a), SW_EINTERNAL);
    sw_selection_free(&sel);
    sw_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_prefill),
        cmocka_unit_test(dense_chunks),
        cmocka_unit_test(sparse_prefill),
        cmocka_unit_test(token_masks),
        cmocka_unit_test(sparse_chunks),
        cmocka_unit_test(decode),
        cmocka_unit_test(extreme_scores),
        cmocka_unit_test(block_mass),
        cmocka_unit_test(full_selection_is_dense),
        cmocka_unit_test(broken_contracts),
        cmocka_unit_test(zero_queries_share_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
