/* A token's own gates over block means: their softmax summed over a block, and their best blocks,
 * against scalar loops in double precision. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/backends.h"
#include "tests/support/buffers.h"

static const int shapes[][6] = {/* n n_q H Hkv d B */ {1, 1, 2, 1, 64, 16},
                                {10, 10, 3, 3, 40, 16},
                                {16, 16, 4, 2, 80, 16},
                                {17, 17, 4, 1, 32, 16},
                                {300, 300, 6, 2, 64, 32},
                                {333, 333, 8, 1, 128, 128},
                                {500, 1, 6, 3, 64, 32},
                                {512, 1, 2, 2, 96, 64},
                                {400, 144, 4, 2, 64, 64}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

struct world {
    int n, n_q, H, Hkv, d, B, b, row0, rows, k_ld;
    float *q, *k;
    struct sw_token_gates in;
};

/* whole: small whole numbers, whose products are exact and often equal. */
static struct world make_world(int c, bool whole)
{
    const int *x = shapes[c];
    struct world w = {.n = x[0],
                      .n_q = x[1],
                      .H = x[2],
                      .Hkv = x[3],
                      .d = x[4],
                      .B = x[5],
                      .b = sw_blocks(x[0], x[5])};
    w.row0 = (w.n - w.n_q) / w.B;
    w.rows = w.b - w.row0;
    w.k_ld = w.b + 2;
    size_t n_q = (size_t)w.n_q * (size_t)w.H * (size_t)w.d,
           n_k = (size_t)w.Hkv * (size_t)w.k_ld * (size_t)w.d;
    w.q = sw_test_normal(n_q, (uint64_t)c);
    w.k = sw_test_normal(n_k, (uint64_t)c + 30);
    for (size_t i = 0; whole && i < n_q; i++)
        w.q[i] = i % (size_t)w.d < 3 ? roundf(w.q[i]) : 0;
    for (size_t i = 0; whole && i < n_k; i++)
        w.k[i] = roundf(w.k[i]);
    w.in = (struct sw_token_gates){.q = w.q,
                                   .n = w.n,
                                   .n_q = w.n_q,
                                   .n_heads = w.H,
                                   .n_kv_heads = w.Hkv,
                                   .head_dim = w.d,
                                   .block = w.B,
                                   .k_ld = w.k_ld,
                                   .k = w.k,
                                   .scale = whole ? 1 : 1.5f / sqrtf((float)w.d)};
    return w;
}

static void free_world(struct world *w)
{
    free(w->q);
    free(w->k);
}

static double gate(const struct world *w, int h, int t, int j)
{
    const float *q =
        w->q + ((size_t)(t - (w->n - w->n_q)) * (size_t)w->H + (size_t)h) * (size_t)w->d;
    const float *k =
        w->k + ((size_t)(h / (w->H / w->Hkv)) * (size_t)w->k_ld + (size_t)j) * (size_t)w->d;
    double sum = 0;
    for (int c = 0; c < w->d; c++)
        sum += (double)q[c] * (double)k[c];
    return sum * (double)w->in.scale;
}

static int first_token(const struct world *w, int i)
{
    return i * w->B > w->n - w->n_q ? i * w->B : w->n - w->n_q;
}
static int end_token(const struct world *w, int i)
{
    return (i + 1) * w->B < w->n ? (i + 1) * w->B : w->n;
}

static void scores(void **state)
{
    (void)state;
    for (int c = 0; c < SHAPES; c++) {
        struct world w = make_world(c, false);
        const int choices[] = {1, w.Hkv, w.H};
        for (int k = 0; k < 3; k++) {
            int units = choices[k], share = w.H / units, ld = w.b + 1, ld_rows = w.rows + 1;
            size_t count = (size_t)units * (size_t)ld_rows * (size_t)ld;
            double *truth = calloc(count, sizeof *truth), *p = malloc((size_t)w.b * sizeof *p);
            for (int h = 0; h < w.H; h++)
                for (int i = w.row0; i < w.b; i++)
                    for (int t = first_token(&w, i); t < end_token(&w, i); t++) {
                        double max = -INFINITY, sum = 0;
                        for (int j = 0; j <= i; j++)
                            max = fmax(max, p[j] = gate(&w, h, t, j));
                        for (int j = 0; j <= i; j++)
                            sum += p[j] = exp(p[j] - max);
                        for (int j = 0; j <= i; j++)
                            truth[((size_t)(h / share) * (size_t)ld_rows + (size_t)(i - w.row0)) *
                                      (size_t)ld +
                                  (size_t)j] += p[j] / sum;
                    }
            for (const char *const *isa = sw_test_isas(); *isa; isa++) {
                float *first = NULL;
                for (int threads = 1; threads <= 3; threads++) {
                    struct sw_backend *be = sw_test_open(*isa, threads);
                    struct sw_guarded out = sw_guarded_make(count);
                    sw_test_ok(be->gate_scores(
                        be, &(struct sw_gate_scores){.in = w.in,
                                                     .out = {out.data, units, ld_rows, ld}}));
                    for (int u = 0; u < units; u++)
                        for (int r = 0; r < w.rows; r++)
                            /* gates of some 10 with 2^-24·d of rounding in the exponent */
                            for (int j = 0; j < w.b; j++) {
                                size_t at = ((size_t)u * (size_t)ld_rows + (size_t)r) * (size_t)ld +
                                            (size_t)j;
                                if (!(fabs((double)out.data[at] - truth[at]) <= 1e-5 * truth[at]))
                                    fail_msg("%s case %d units %d: score[%d,%d,%d] = %.9g, should "
                                             "be %.9g",
                                             *isa, c, units, u, r, j, (double)out.data[at],
                                             truth[at]);
                            }
                    if (!first) {
                        first = malloc(count * sizeof *first);
                        memcpy(first, out.data, count * sizeof *first);
                    } else {
                        assert_memory_equal(first, out.data, count * sizeof *first);
                    }
                    sw_guarded_check_free(&out, "gate_scores");
                    sw_backend_close(be);
                }
                free(first);
            }
            free(truth);
            free(p);
        }
        free_world(&w);
    }
}

/* Whole numbers: the sets are exact, ties included. Others: no block left out is better than one
 * kept, by more than rounding. */
static void check_token(const struct world *w, bool exact, int h, int t, int i, int top,
                        const bool *kept)
{
    int n = 0, want = top < i ? top : i;
    double worst = INFINITY, best = -INFINITY;
    for (int j = 0; j < i; j++) {
        double x = gate(w, h, t, j);
        n += kept[j];
        worst = kept[j] && x < worst ? x : worst;
        best = !kept[j] && x > best ? x : best;
        int better = 0;
        for (int k = 0; exact && k < i; k++)
            better += gate(w, h, t, k) > x || (gate(w, h, t, k) == x && k > j);
        if (exact && kept[j] != (better < want))
            fail_msg("head %d token %d: block %d is %s", h, t, j, kept[j] ? "kept" : "left out");
    }
    assert_int_equal(n, want);
    if (best > worst + 1e-5)
        fail_msg("head %d token %d: a gate of %.9g is left out and one of %.9g kept", h, t, best,
                 worst);
}

static void top(void **state)
{
    (void)state;
    for (int c = 0; c < 2 * SHAPES; c++) {
        struct world w = make_world(c / 2, c % 2);
        int ld = w.b + 1, ld_rows = w.rows + 1, words = (w.B + 63) / 64, budget[64];
        size_t cells = (size_t)w.H * (size_t)ld_rows * (size_t)ld;
        for (int r = 0; r < w.rows; r++)
            budget[r] = sw_test_int(60 + (uint64_t)c, (uint64_t)r, 0, w.row0 + r + 2);
        uint8_t *keep = malloc(cells), *keep1 = malloc(cells);
        uint64_t *queries = malloc(cells * (size_t)words * sizeof *queries),
                 *queries1 = malloc(cells * (size_t)words * sizeof *queries);
        bool kept[64];
        for (const char *const *isa = sw_test_isas(); *isa; isa++)
            for (int threads = 1; threads <= 3; threads++) {
                struct sw_backend *be = sw_test_open(*isa, threads);
                memset(keep, 7, cells);
                memset(queries, 7, cells * (size_t)words * sizeof *queries);
                sw_test_ok(be->gate_top(be, &(struct sw_gate_top){.in = w.in,
                                                                  .top = budget,
                                                                  .keep = {keep, w.H, ld_rows, ld},
                                                                  .queries = queries}));
                if (threads == 1) {
                    memcpy(keep1, keep, cells);
                    memcpy(queries1, queries, cells * (size_t)words * sizeof *queries);
                }
                assert_memory_equal(keep, keep1, cells);
                assert_memory_equal(queries, queries1, cells * (size_t)words * sizeof *queries);
                for (int h = 0; h < w.H; h++)
                    for (int i = w.row0; i < w.b; i++) {
                        size_t at =
                            ((size_t)h * (size_t)ld_rows + (size_t)(i - w.row0)) * (size_t)ld;
                        bool any[64] = {false};
                        for (int t = first_token(&w, i); t < end_token(&w, i); t++) {
                            int bit = t % w.B;
                            for (int j = 0; j < i; j++)
                                any[j] |= kept[j] = queries[(at + (size_t)j) * (size_t)words +
                                                            (size_t)(bit / 64)] >>
                                                        (bit % 64) &
                                                    1;
                            check_token(&w, c % 2, h, t, i, budget[i - w.row0], kept);
                        }
                        for (int j = 0; j < w.b; j++) {
                            assert_int_equal(keep[at + (size_t)j], j == i || (j < i && any[j]));
                            for (int bit = 0; bit < 64 * words;
                                 bit++) /* bits of tokens that are not asked about */
                                if (i * w.B + bit < first_token(&w, i) ||
                                    i * w.B + bit >= end_token(&w, i) || j >= i)
                                    assert_false(queries[(at + (size_t)j) * (size_t)words +
                                                         (size_t)(bit / 64)] >>
                                                     (bit % 64) &
                                                 1);
                        }
                        assert_int_equal(keep[at + (size_t)w.b], 7); /* beyond the blocks */
                    }
                sw_backend_close(be);
            }
        free(keep);
        free(keep1);
        free(queries);
        free(queries1);
        free_world(&w);
    }
}

/* Every key equal: a tie in every row, of any length, and the blocks kept are the latest. */
static void equal_keys(void **state)
{
    (void)state;
    for (int n = 1; n <= 900; n += n < 600 ? 1 + n / 16 : 60) {
        struct world w = {.n = n,
                          .n_q = n,
                          .H = 2,
                          .Hkv = 1,
                          .d = 64,
                          .B = 16,
                          .b = sw_blocks(n, 16),
                          .rows = sw_blocks(n, 16),
                          .k_ld = sw_blocks(n, 16)};
        w.q = sw_test_normal((size_t)n * 128, (uint64_t)n);
        w.k = sw_test_normal((size_t)w.b * 64, 31);
        for (int j = 1; j < w.b; j++)
            memcpy(w.k + (size_t)j * 64, w.k, 64 * sizeof *w.k);
        w.in = (struct sw_token_gates){.q = w.q,
                                       .n = n,
                                       .n_q = n,
                                       .n_heads = 2,
                                       .n_kv_heads = 1,
                                       .head_dim = 64,
                                       .block = 16,
                                       .k_ld = w.b,
                                       .k = w.k,
                                       .scale = 0.3f};
        size_t cells = 2 * (size_t)w.b * (size_t)w.b;
        int *budget = malloc((size_t)w.b * sizeof *budget);
        for (int i = 0; i < w.b; i++)
            budget[i] = (i + 1) / 2;
        for (const char *const *isa = sw_test_isas(); *isa; isa++) {
            struct sw_backend *be = sw_test_open(*isa, 2);
            struct sw_guarded out = sw_guarded_make(cells);
            uint8_t *keep = malloc(cells);
            uint64_t *queries = malloc(cells * sizeof *queries);
            sw_test_ok(be->gate_scores(
                be, &(struct sw_gate_scores){.in = w.in, .out = {out.data, 2, w.b, w.b}}));
            sw_test_ok(be->gate_top(be, &(struct sw_gate_top){.in = w.in,
                                                              .top = budget,
                                                              .keep = {keep, w.H, w.b, w.b},
                                                              .queries = queries}));
            for (size_t row = 0; row < 2 * (size_t)w.b; row++)
                for (int i = (int)(row % (size_t)w.b), j = 0; j <= i; j++) {
                    size_t at = row * (size_t)w.b;
                    if (out.data[at + (size_t)j] != out.data[at])
                        fail_msg("%s n %d: scores %d and 0 of block %d are %.9g and %.9g", *isa, n,
                                 j, i, (double)out.data[at + (size_t)j], (double)out.data[at]);
                    if (keep[at + (size_t)j] != (j >= i - budget[i]))
                        fail_msg("%s n %d: block %d of %d is %s", *isa, n, j, i,
                                 keep[at + (size_t)j] ? "kept" : "left out");
                }
            sw_guarded_check_free(&out, "gate_scores");
            free(keep);
            free(queries);
            sw_backend_close(be);
        }
        free(budget);
        free_world(&w);
    }
}

static void broken_contracts(void **state)
{
    (void)state;
    struct world w = make_world(4, false);
    float *out = malloc((size_t)(w.H * w.b * w.b) * sizeof *out);
    struct sw_backend *be = sw_test_open(sw_test_isas()[0], 1);
    struct sw_gate_scores good = {.in = w.in, .out = {out, 2, w.b, w.b}}, a = good;
    a.out.units = 4; /* of six heads */
    sw_test_fails(be->gate_scores(be, &a), SW_EINTERNAL);
    a = good;
    a.out.ld = w.b - 1;
    sw_test_fails(be->gate_scores(be, &a), SW_EINTERNAL);
    a = good;
    a.in.k_ld = w.b - 1;
    sw_test_fails(be->gate_scores(be, &a), SW_EINTERNAL);
    a = good;
    a.in.n_q = w.n + 1;
    sw_test_fails(be->gate_scores(be, &a), SW_EINTERNAL);
    sw_test_ok(be->gate_scores(be, &good));
    sw_test_fails(
        be->gate_top(be, &(struct sw_gate_top){.in = w.in,
                                               .keep = {.units = w.H, .ld_rows = w.b, .ld = w.b}}),
        SW_EINTERNAL);
    sw_backend_close(be);
    free(out);
    free_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(scores), cmocka_unit_test(top),
                                       cmocka_unit_test(equal_keys),
                                       cmocka_unit_test(broken_contracts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
