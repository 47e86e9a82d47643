/* Pooling, sketches, block scores, the walk, running averages, means and hashes, against plain
 * double-precision loops. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/rng.h"
#include "tests/support/backends.h"
#include "tests/support/buffers.h"

static void near(double got, double want, double allowed)
{
    if (!(fabs(got - want) <= allowed))
        fail_msg("got %.9g, should be %.9g within %.2g", got, want, allowed);
}

static void pool_in_any_pieces(void **state)
{
    (void)state;
    enum { N = 75, H = 6, D = 24, B = 16, LD = 7 };
    float *x = sw_test_normal(N * H * D, 1);
    static const int units[] = {1, 2, 6};
    for (int u = 0; u < 3; u++)
        for (int pieces = 0; pieces < 3; pieces++) {
            struct sw_backend *be = sw_test_open(sw_test_isas()[0], 1 + pieces);
            struct sw_guarded sums = sw_guarded_make((size_t)units[u] * LD * D);
            for (int t = 0; t < N;) {
                int n = pieces == 0 ? N : pieces == 1 ? 1 : 1 + t % 23;
                if (t + n > N)
                    n = N - t;
                struct sw_pool a = {.x = x + t * H * D,
                                    .heads = H,
                                    .head_dim = D,
                                    .units = units[u],
                                    .block = B,
                                    .t0 = t,
                                    .t1 = t + n,
                                    .ld = LD,
                                    .sums = sums.data};
                sw_test_ok(be->pool(be, &a));
                t += n;
            }
            int share = H / units[u];
            for (int unit = 0; unit < units[u]; unit++)
                for (int j = 0; j < LD; j++)
                    for (int c = 0; c < D; c++) {
                        float got = sums.data[(unit * LD + j) * D + c], sum = 0;
                        if (j * B >= N) {
                            assert_true(isnan(got)); /* not touched */
                            continue;
                        }
                        for (int t = j * B; t < N && t < (j + 1) * B; t++) {
                            float mean = x[(t * H + unit * share) * D + c];
                            for (int h = 1; h < share; h++)
                                mean += x[(t * H + unit * share + h) * D + c];
                            sum += share == 1 ? mean : mean / (float)share;
                        }
                        assert_true(got == sum); /* the order is promised: same bits */
                    }
            sw_guarded_check_free(&sums, "pool");
            sw_backend_close(be);
        }
    free(x);
}

static void sketches(void **state)
{
    (void)state;
    enum { UNITS = 3, LD = 6, D = 24, P = 32, R = 20, B = 16, N = 70 };
    float *sums = sw_test_normal(UNITS * LD * D, 1), signs[P];
    int32_t keep[R];
    for (int i = 0; i < P; i++)
        signs[i] = sw_test_int(2, (uint64_t)i, 0, 1) ? 1 : -1;
    for (int i = 0; i < R; i++)
        keep[i] = (i * 7 + 3) % P;
    struct sw_srht t = {.d = D, .d_pow2 = P, .r = R, .scale = 0.3f, .signs = signs, .keep = keep};
    for (int padded = 0; padded < 2; padded++)
        for (int plain = 0; plain < 2; plain++) {
            struct sw_backend *be = sw_test_open(sw_test_isas()[0], 2);
            int r = plain ? D : R;
            struct sw_guarded out = sw_guarded_make((size_t)(UNITS * LD * r));
            struct sw_sketch a = {.sums = sums,
                                  .units = UNITS,
                                  .ld = LD,
                                  .d = D,
                                  .block = B,
                                  .n = N,
                                  .i0 = 1,
                                  .i1 = 5,
                                  .padded_tail = padded,
                                  .transform = plain ? NULL : &t,
                                  .out = out.data};
            sw_test_ok(be->sketch(be, &a));
            for (int u = 0; u < UNITS; u++)
                for (int i = 0; i < LD; i++)
                    for (int c = 0; c < r; c++) {
                        float got = out.data[(u * LD + i) * r + c];
                        if (i < 1 || i >= 5) {
                            assert_true(isnan(got));
                            continue;
                        }
                        double count = padded || i < 4 ? B : N - 4 * B, want = 0;
                        if (plain)
                            want = (double)sums[(u * LD + i) * D + c] / count;
                        else
                            for (int e = 0; e < D; e++)
                                want += (__builtin_popcount((unsigned)(keep[c] & e)) % 2 ? -1 : 1) *
                                        (double)signs[e] * (double)sums[(u * LD + i) * D + e] /
                                        count * 0.3f;
                        near((double)got, want, 1e-6);
                    }
            sw_guarded_check_free(&out, "sketch");
            a.i1 = 6; /* block 5 has no tokens */
            sw_test_fails(be->sketch(be, &a), SW_EINTERNAL);
            sw_backend_close(be);
        }
    free(sums);
}

static void scores(void **state)
{
    (void)state;
    static const int cases[][8] = {/* uq uk uo rows row0 b r pool */ {1, 1, 1, 37, 0, 37, 64, 0},
                                   {6, 2, 1, 20, 0, 20, 16, 0},
                                   {6, 2, 6, 33, 0, 33, 16, 0},
                                   {8, 8, 2, 5, 11, 16, 32, 0},
                                   {4, 2, 2, 1, 18, 19, 64, 0},
                                   {6, 2, 1, 32, 18, 19, 64, 1},
                                   {2, 1, 2, 7, 9, 10, 8, 1}};
    static const float exponents[] = {1, 8, 3, 2.5f};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int mode = 0; mode < 8; mode++) {
            int uq = cases[c][0], uk = cases[c][1], uo = cases[c][2], rows = cases[c][3],
                row0 = cases[c][4], b = cases[c][5], r = cases[c][6];
            bool pooled = cases[c][7] == 1, softmax = mode & 1, causal = mode & 2;
            float exponent = mode & 4 ? exponents[c % 4] : 1;
            if (!softmax && exponent == 2.5f)
                exponent = 2;
            int ld = b + 2, out_rows = pooled ? 1 : rows, ld_rows = out_rows + 1, q_ld = rows + 1,
                k_ld = b + 1;
            float *q = sw_test_normal((size_t)(uq * q_ld * r), c),
                  *k = sw_test_normal((size_t)(uk * k_ld * r), c + 20);
            size_t count = (size_t)(uo * ld_rows * ld);
            double *want = calloc(count, sizeof *want), *x = malloc((size_t)b * sizeof *x);
            float scale = 0.5f / sqrtf((float)r);
            for (int u = 0; u < uq; u++)
                for (int i = 0; i < rows; i++) {
                    int own = row0 + (pooled ? 0 : i), n = causal && own + 1 < b ? own + 1 : b,
                        to = u / (uq / uo);
                    double sum = 0;
                    for (int j = 0; j < n; j++) {
                        x[j] = 0;
                        for (int e = 0; e < r; e++)
                            x[j] += (double)q[(u * q_ld + i) * r + e] *
                                    (double)k[((u * uk / uq) * k_ld + j) * r + e];
                        x[j] *= (double)scale;
                        sum += exp(x[j]);
                    }
                    for (int j = 0; j < n; j++)
                        want[(to * ld_rows + (pooled ? 0 : i)) * ld + j] +=
                            pow(softmax ? exp(x[j]) / sum : x[j], (double)exponent) /
                            ((double)uq / uo) / (pooled ? rows : 1);
                }
            for (const char *const *isa = sw_test_isas(); *isa; isa++) {
                float *first = NULL;
                for (int threads = 1; threads <= 3; threads++) {
                    struct sw_backend *be = sw_test_open(*isa, threads);
                    struct sw_guarded out = sw_guarded_make(count);
                    struct sw_block_scores a = {.q = q,
                                                .k = k,
                                                .units_q = uq,
                                                .units_k = uk,
                                                .rows = rows,
                                                .row0 = row0,
                                                .b = b,
                                                .r = r,
                                                .q_ld = q_ld,
                                                .k_ld = k_ld,
                                                .scale = scale,
                                                .exponent = exponent,
                                                .softmax = softmax,
                                                .causal = causal,
                                                .pool_rows = pooled,
                                                .out = {out.data, uo, ld_rows, ld}};
                    sw_test_ok(be->block_scores(be, &a));
                    for (int u = 0; u < uo; u++)
                        for (int i = 0; i < out_rows; i++)
                            for (int j = 0; j < b; j++) {
                                double w = want[(u * ld_rows + i) * ld + j],
                                       got = (double)out.data[(u * ld_rows + i) * ld + j];
                                /* scores are some units large: 2^-24·5 in the exponent, times the
                                 * power; raw powers of sums of r terms */
                                near(got, w,
                                     softmax ? fabs(w) * 2e-6 * fmax(1, (double)exponent) + 1e-37
                                             : 4e-6 * fmax(fabs(w), 0.3));
                            }
                    if (!first) {
                        first = malloc(count * sizeof *first);
                        memcpy(first, out.data, count * sizeof *first);
                    } else {
                        assert_memory_equal(first, out.data, count * sizeof *first);
                    }
                    sw_guarded_check_free(&out, "block_scores");
                    sw_backend_close(be);
                }
                free(first);
            }
            free(q);
            free(k);
            free(want);
            free(x);
        }
}

/* Columns with a given score: out of the softmax, in the mean over units, whatever the exponent. */
static void given_columns(void **state)
{
    (void)state;
    enum { UQ = 6, UK = 2, B = 21, R = 16, LD = 23, K_LD = 22 };
    static const int cases[][4] = {
        /* row0 rows uo causal */ {0, 21, 6, 1}, {0, 21, 2, 1}, {0, 21, 1, 0}, {14, 7, 3, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int mode = 0; mode < 12; mode++) {
            int row0 = cases[c][0], rows = cases[c][1], uo = cases[c][2], share = UQ / uo;
            bool causal = cases[c][3], softmax = mode & 1;
            float exponent = mode & 2 ? 3 : 1, scale = 0.4f;
            float *q = sw_test_normal((size_t)(UQ * rows * R), c),
                  *k = sw_test_normal(UK * K_LD * R, c + 20), given[UK * K_LD];
            for (int j = 0; j < UK * K_LD; j++) /* none, some, all of them; the first ones all
                                                   given: rows without any other */
                given[j] = mode / 4 == 0                             ? NAN
                           : mode / 4 == 1 && j % K_LD >= 3 && j % 4 ? NAN
                                                                     : (float)(j % 5) - 1.5f;
            double want[UQ * B * B] = {0};
            for (int u = 0; u < UQ; u++)
                for (int i = 0; i < rows; i++) {
                    double x[B], sum = 0;
                    int n = causal ? row0 + i + 1 : B;
                    const float *g = given + u * UK / UQ * K_LD;
                    for (int j = 0; j < n; j++) {
                        x[j] = 0;
                        for (int e = 0; e < R; e++)
                            x[j] += (double)q[(u * rows + i) * R + e] *
                                    (double)k[(u * UK / UQ * K_LD + j) * R + e] * (double)scale;
                        sum += isnan(g[j]) ? exp(x[j]) : 0;
                    }
                    for (int j = 0; j < n; j++)
                        want[(u / share * rows + i) * B + j] +=
                            (isnan(g[j]) ? pow(softmax ? exp(x[j]) / sum : x[j], (double)exponent)
                                         : (double)g[j]) /
                            share;
                }
            for (const char *const *isa = sw_test_isas(); *isa; isa++)
                for (int threads = 1; threads <= 3; threads += 2) {
                    struct sw_backend *be = sw_test_open(*isa, threads);
                    struct sw_guarded out = sw_guarded_make((size_t)(uo * rows * LD));
                    sw_test_ok(be->block_scores(
                        be, &(struct sw_block_scores){.q = q,
                                                      .k = k,
                                                      .units_q = UQ,
                                                      .units_k = UK,
                                                      .rows = rows,
                                                      .row0 = row0,
                                                      .b = B,
                                                      .r = R,
                                                      .q_ld = rows,
                                                      .k_ld = K_LD,
                                                      .scale = scale,
                                                      .exponent = exponent,
                                                      .softmax = softmax,
                                                      .causal = causal,
                                                      .column_scores = given,
                                                      .out = {out.data, uo, rows, LD}}));
                    for (int row = 0; row < uo * rows; row++)
                        for (int j = 0; j < B; j++) {
                            double w = want[row * B + j];
                            near((double)out.data[row * LD + j], w,
                                 1e-5 * fmax(fabs(w), softmax ? 0.01 : 3));
                        }
                    sw_guarded_check_free(&out, "block_scores");
                    sw_backend_close(be);
                }
            free(q);
            free(k);
        }
}

static void walks(void **state)
{
    (void)state;
    static const int cases[][4] = {/* units rows row0 b */ {1, 1, 0, 1},
                                   {2, 5, 0, 5},
                                   {1, 129, 0, 129},
                                   {1, 300, 0, 300},
                                   {3, 1, 40, 41},
                                   {1, 1, 299, 300},
                                   {1, 40, 161, 201}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int mode = 0; mode < 8; mode++) { /* causal, anchor, scaled */
            int units = cases[c][0], rows = cases[c][1], row0 = cases[c][2], b = cases[c][3],
                ld = b + 3, ld_rows = rows + 1, a_ld_rows = b + 2;
            size_t count = (size_t)(units * ld_rows * ld);
            bool causal = mode & 1;
            float *x = sw_test_normal(count, c),
                  *m = sw_test_normal((size_t)(units * a_ld_rows * ld), c + 5),
                  *anchor = sw_test_normal(count, c + 9);
            for (int u = 0; u < units; u++) {
                for (int i = 0; i < rows; i++)
                    for (int j = 0; j < b; j++) {
                        float *e = &x[(u * ld_rows + i) * ld + j];
                        *e = causal && j > row0 + i ? 0 : fabsf(*e);
                    }
                for (int i = 0; i < b; i++)
                    for (int j = 0; j < b; j++) {
                        float *e = &m[(u * a_ld_rows + i) * ld + j];
                        *e = causal && j > i ? 0 : fabsf(*e);
                    }
            }
            if (units > 1)
                /* a row of zeros stays */
                memset(x, 0, (size_t)ld * sizeof *x),
                    memset(anchor, 0, (size_t)ld * sizeof *anchor);
            float alpha = mode & 2 ? 0.75f : 0, beta = mode & 2 ? 0.25f : 1;
            float *first = NULL;
            for (int threads = 1; threads <= 3; threads++)
                for (int alias = 0; alias <= (alpha != 0); alias++) {
                    struct sw_backend *be = sw_test_open(sw_test_isas()[0], threads);
                    struct sw_guarded out = sw_guarded_make(count);
                    if (alias)
                        memcpy(out.data, anchor, count * sizeof *anchor);
                    struct sw_walk a = {.rows = rows,
                                        .row0 = row0,
                                        .b = b,
                                        .x = x,
                                        .a = {m, units, a_ld_rows, ld},
                                        .anchor = alias        ? out.data
                                                  : alpha != 0 ? anchor
                                                               : NULL,
                                        .alpha = alpha,
                                        .beta = beta,
                                        .causal = causal,
                                        .scale_rows = mode & 4,
                                        .out = {out.data, units, ld_rows, ld}};
                    sw_test_ok(be->walk(be, &a));
                    for (int u = 0; u < units; u++)
                        for (int i = 0; i < rows; i++) {
                            double row[300], max = 0, size = 0;
                            for (int j = 0; j < b; j++) {
                                row[j] = alpha != 0 ? (double)alpha *
                                                          (double)anchor[(u * ld_rows + i) * ld + j]
                                                    : 0;
                                for (int k = 0; threads == 1 && k < b; k++)
                                    row[j] += (double)beta * (double)x[(u * ld_rows + i) * ld + k] *
                                              (double)m[(u * a_ld_rows + k) * ld + j];
                                max = row[j] > max ? row[j] : max;
                                size = fabs(row[j]) > size ? fabs(row[j]) : size;
                            }
                            double divide = mode & 4 && max > 0 ? max : 1;
                            for (int j = 0; threads == 1 && j < b; j++)
                                near((double)out.data[(u * ld_rows + i) * ld + j], row[j] / divide,
                                     2e-6 * size / divide + 1e-30);
                        }
                    for (int u = 0; u < units; u++)
                        for (int i = 0; i < rows; i++) /* only columns below b are promised */
                            for (int j = b; j < ld; j++)
                                out.data[(u * ld_rows + i) * ld + j] = 0;
                    for (int u = 0; u < units; u++)
                        memset(out.data + (u * ld_rows + rows) * ld, 0, (size_t)ld * sizeof(float));
                    if (!first) {
                        first = malloc(count * sizeof *first);
                        memcpy(first, out.data, count * sizeof *first);
                    } else {
                        assert_memory_equal(first, out.data, count * sizeof *first);
                    }
                    sw_guarded_check_free(&out, "walk");
                    sw_backend_close(be);
                }
            free(first);
            free(x);
            free(m);
            free(anchor);
        }
}

static void running_average(void **state)
{
    (void)state;
    enum { U = 2, B = 9, LD = 12, LDR = 10, C = 7 };
    for (int causal = 0; causal < 2; causal++)
        for (int fresh = 0; fresh < 2; fresh++) {
            struct sw_backend *be = sw_test_open(sw_test_isas()[0], 2);
            float *m = sw_test_normal(U * LDR * LD, 1), *row = sw_test_normal(U * LD, 2),
                  weight = fresh ? 1.0f : 0.25f;
            for (int i = 0; i < U * LDR * LD; i++)
                m[i] = fabsf(m[i]);
            for (int i = 0; i < U * LD; i++)
                row[i] = fabsf(row[i]);
            double *want = malloc(U * LDR * LD * sizeof *want);
            for (int i = 0; i < U * LDR * LD; i++)
                want[i] = (double)m[i];
            for (int u = 0; u < U; u++)
                for (int step = -1; step < B; step++) {
                    int i = step < 0 ? C : step;
                    if (step >= 0 && causal && i != C)
                        continue;
                    double sum = 0, *w = want + (u * LDR + i) * LD;
                    for (int j = 0; j < B; j++) {
                        if (step < 0)
                            w[j] += (double)weight * ((double)row[u * LD + j] - w[j]);
                        else if (j == C)
                            w[j] += (double)weight * ((double)row[u * LD + i] - w[j]);
                        sum += w[j];
                    }
                    for (int j = 0; j < B; j++)
                        w[j] /= sum;
                }
            if (fresh)
                m[C * LD + 3] = NAN; /* a new row's old contents do not matter */
            struct sw_running a = {.c = C,
                                   .b = B,
                                   .weight = weight,
                                   .causal = causal,
                                   .row = row,
                                   .row_ld = LD,
                                   .a = {m, U, LDR, LD}};
            sw_test_ok(be->running(be, &a));
            for (int i = 0; i < U * LDR * LD; i++)
                near((double)m[i], want[i], 1e-6);
            free(m);
            free(row);
            free(want);
            sw_backend_close(be);
        }
}

static void means_and_hashes(void **state)
{
    (void)state;
    enum { UI = 6, UO = 2, ROWS = 5, COLS = 7, LD = 9, LDR = 6 };
    struct sw_backend *be = sw_test_open(sw_test_isas()[0], 2);
    float *in = sw_test_normal(UI * LDR * LD, 1);
    struct sw_guarded out = sw_guarded_make(UO * LDR * LD), h = sw_guarded_make(UO * LDR * LD);
    sw_test_ok(be->mean_units(be, &(struct sw_mean_units){.in = {in, UI, LDR, LD},
                                                          .rows = ROWS,
                                                          .cols = COLS,
                                                          .out = {out.data, UO, LDR, LD}}));
    sw_test_ok(be->hash_scores(be, &(struct sw_hash_scores){.seed = 7,
                                                            .layer = 3,
                                                            .row0 = 4,
                                                            .rows = ROWS,
                                                            .cols = COLS,
                                                            .out = {h.data, UO, LDR, LD}}));
    for (int u = 0; u < UO; u++)
        for (int i = 0; i < LDR; i++)
            for (int j = 0; j < LD; j++) {
                int at = (u * LDR + i) * LD + j;
                if (i >= ROWS || j >= COLS) {
                    assert_true(isnan(out.data[at]) && isnan(h.data[at]));
                    continue;
                }
                double want = 0;
                for (int s = 0; s < 3; s++)
                    want += (double)in[((u * 3 + s) * LDR + i) * LD + j] / 3;
                near((double)out.data[at], want, 1e-6);
                uint64_t index =
                    ((uint64_t)(3 * UO + u) << 40) | ((uint64_t)(4 + i) << 20) | (uint64_t)j;
                near((double)h.data[at], sw_rng_uniform(7, SW_RNG_RANDOM_METHOD, index), 0x1p-24);
                assert_true(h.data[at] >= 0 && h.data[at] < 1);
            }
    sw_guarded_check_free(&out, "mean_units");
    sw_guarded_check_free(&h, "hash_scores");
    free(in);
    sw_backend_close(be);
}

/* Every key equal, any number of blocks and queries: all scores of a row are equal, to the last
 * bit. */
static void equal_keys(void **state)
{
    (void)state;
    enum { MOST = 150, ROWS = 19 };
    for (int r = 16; r <= 128; r += 24) {
        float *q = sw_test_normal(ROWS * (size_t)r, (uint64_t)r),
              *k = sw_test_normal(MOST * (size_t)r, 77);
        for (int j = 1; j < MOST; j++)
            memcpy(k + (size_t)j * (size_t)r, k, (size_t)r * sizeof *k);
        for (const char *const *isa = sw_test_isas(); *isa; isa++) {
            struct sw_backend *be = sw_test_open(*isa, 1);
            for (int b = 1; b <= MOST; b++)
                for (int rows = 1; rows <= ROWS; rows += 3) {
                    struct sw_guarded out = sw_guarded_make((size_t)rows * (size_t)b);
                    sw_test_ok(be->block_scores(
                        be, &(struct sw_block_scores){.q = q,
                                                      .k = k,
                                                      .units_q = 1,
                                                      .units_k = 1,
                                                      .rows = rows,
                                                      .b = b,
                                                      .r = r,
                                                      .q_ld = rows,
                                                      .k_ld = b,
                                                      .scale = 0.3f,
                                                      .exponent = 1,
                                                      .out = {out.data, 1, rows, b}}));
                    for (int x = 0; x < rows * b; x++)
                        if (out.data[x] != out.data[x / b * b])
                            fail_msg("%s r %d b %d: scores %d and 0 of row %d are %.9g and %.9g",
                                     *isa, r, b, x % b, x / b, (double)out.data[x],
                                     (double)out.data[x / b * b]);
                    sw_guarded_check_free(&out, "block_scores");
                }
            sw_backend_close(be);
        }
        free(q);
        free(k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_in_any_pieces),
        cmocka_unit_test(sketches),
        cmocka_unit_test(scores),
        cmocka_unit_test(given_columns),
        cmocka_unit_test(walks),
        cmocka_unit_test(running_average),
        cmocka_unit_test(means_and_hashes),
        cmocka_unit_test(equal_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
