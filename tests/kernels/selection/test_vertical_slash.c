/* Columns and slashes, their sums over blocks and the block scores made of them, against plain
 * double-precision loops. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/backends.h"
#include "tests/support/buffers.h"

static void near(double got, double want, double allowed)
{
    if (!(fabs(got - want) <= allowed))
        fail_msg("got %.9g, should be %.9g within %.2g", got, want, allowed);
}

/* columns[h,u] and slashes[h,δ], as core/ops.h says. */
static void reference(const struct sw_vertical_slash *a, double *columns, double *slashes)
{
    const struct sw_attend *in = a->in;
    int n = in->n_k, d = in->head_dim;
    double *p = malloc((size_t)n * sizeof *p);
    memset(columns, 0, (size_t)(in->n_heads * a->ld) * sizeof *columns);
    memset(slashes, 0, (size_t)(in->n_heads * a->ld) * sizeof *slashes);
    for (int h = 0; h < in->n_heads; h++)
        for (int t = n - a->last; t < n; t++) {
            double sum = 0, max = -INFINITY;
            for (int u = 0; u <= t; u++) {
                p[u] = 0;
                for (int c = 0; c < d; c++)
                    p[u] += (double)((const float *)
                                         in->q)[((in->n_q - n + t) * in->n_heads + h) * d + c] *
                            (double)((const float *)in->k)
                                [(u * in->n_kv_heads + h / (in->n_heads / in->n_kv_heads)) * d + c];
                p[u] *= (double)in->scale;
                max = fmax(max, p[u]);
            }
            for (int u = 0; u <= t; u++)
                sum += exp(p[u] - max);
            for (int u = 0; u <= t; u++) {
                columns[h * a->ld + u] += exp(p[u] - max) / sum;
                slashes[h * a->ld + t - u] += exp(p[u] - max) / sum;
            }
        }
    free(p);
}

static void columns_and_slashes(void **state)
{
    (void)state;
    static const int cases[][6] = {/* n n_q H Hkv d last */ {1, 1, 1, 1, 8, 1},
                                   {9, 9, 2, 1, 16, 9},
                                   {150, 150, 4, 2, 64, 64},
                                   {131, 131, 3, 3, 24, 16},
                                   {200, 40, 6, 2, 32, 33},
                                   {77, 77, 2, 2, 128, 1},
                                   {300, 300, 4, 1, 96, 256}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int n = cases[c][0], n_q = cases[c][1], H = cases[c][2], Hkv = cases[c][3], d = cases[c][4],
            last = cases[c][5], ld = n + 3;
        float *q = sw_test_normal((size_t)(n_q * H * d), c),
              *k = sw_test_normal((size_t)(n * Hkv * d), c + 50);
        struct sw_attend in = {.batch = 1,
                               .n_q = n_q,
                               .n_k = n,
                               .n_heads = H,
                               .n_kv_heads = Hkv,
                               .head_dim = d,
                               .kv_stride = n,
                               .q = q,
                               .k = k,
                               .scale = 1.5f / sqrtf((float)d)};
        size_t count = (size_t)(H * ld);
        double *columns = malloc(count * sizeof *columns),
               *slashes = malloc(count * sizeof *slashes);
        reference(&(struct sw_vertical_slash){.in = &in, .last = last, .ld = ld}, columns, slashes);
        for (const char *const *isa = sw_test_isas(); *isa; isa++) {
            float *first = NULL;
            for (int threads = 1; threads <= 3; threads++) {
                struct sw_backend *be = sw_test_open(*isa, threads);
                struct sw_guarded got[2] = {sw_guarded_make(count), sw_guarded_make(count)};
                sw_test_ok(
                    be->vertical_slash(be, &(struct sw_vertical_slash){.in = &in,
                                                                       .last = last,
                                                                       .ld = ld,
                                                                       .columns = got[0].data,
                                                                       .slashes = got[1].data}));
                for (int h = 0; h < H; h++)
                    for (int u = 0; u < n; u++) {
                        near((double)got[0].data[h * ld + u], columns[h * ld + u],
                             4e-6 * columns[h * ld + u] + 1e-30);
                        near((double)got[1].data[h * ld + u], slashes[h * ld + u],
                             4e-6 * slashes[h * ld + u] + 1e-30);
                    }
                if (!first) {
                    first = malloc(count * sizeof *first);
                    memcpy(first, got[1].data, count * sizeof *first);
                } else {
                    assert_memory_equal(first, got[1].data, count * sizeof *first);
                }
                struct sw_guarded alone = sw_guarded_make(count); /* either may be left out */
                sw_test_ok(be->vertical_slash(
                    be, &(struct sw_vertical_slash){
                            .in = &in, .last = last, .ld = ld, .columns = alone.data}));
                assert_memory_equal(alone.data, got[0].data, count * sizeof(float));
                sw_test_ok(be->vertical_slash(
                    be, &(struct sw_vertical_slash){
                            .in = &in, .last = last, .ld = ld, .slashes = alone.data}));
                assert_memory_equal(alone.data, got[1].data, count * sizeof(float));
                sw_guarded_check_free(&alone, "vertical_slash");
                sw_guarded_check_free(&got[0], "vertical_slash: columns");
                sw_guarded_check_free(&got[1], "vertical_slash: slashes");
                sw_test_fails(
                    be->vertical_slash(
                        be, &(struct sw_vertical_slash){.in = &in, .last = n_q + 1, .ld = ld}),
                    SW_EINTERNAL);
                sw_backend_close(be);
            }
            free(first);
        }
        free(q);
        free(k);
        free(columns);
        free(slashes);
    }
}

static void pooled(void **state)
{
    (void)state;
    static const int cases[][3] = {/* rows n B */ {1, 1, 16},
                                   {3, 40, 16},
                                   {2, 64, 16},
                                   {4, 129, 64},
                                   {2, 7, 64},
                                   {2, 5, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int split = 0; split < 2; split++)
            for (int threads = 1; threads <= 2; threads++) {
                int rows = cases[c][0], n = cases[c][1], B = cases[c][2], b = sw_blocks(n, B),
                    ld = n + 1, ld_out = b + 2;
                float *in = sw_test_normal((size_t)(rows * ld), c);
                double *want = calloc((size_t)(rows * (b + 1)), sizeof *want);
                for (int r = 0; r < rows; r++)
                    for (int x = 0; x < n; x++) {
                        double next = split ? (double)(x % B) / B : 0;
                        want[r * (b + 1) + x / B] += (1 - next) * (double)in[r * ld + x] * 0.125;
                        want[r * (b + 1) + x / B + 1] += next * (double)in[r * ld + x] * 0.125;
                    }
                struct sw_backend *be = sw_test_open(sw_test_isas()[0], threads);
                struct sw_guarded out = sw_guarded_make((size_t)(rows * ld_out));
                sw_test_ok(be->pool_vertical_slash(
                    be, &(struct sw_pool_vertical_slash){.in = in,
                                                         .rows = rows,
                                                         .n = n,
                                                         .ld = ld,
                                                         .block = B,
                                                         .split = split,
                                                         .scale = 0.125f,
                                                         .out = out.data,
                                                         .ld_out = ld_out}));
                for (int r = 0; r < rows; r++)
                    for (int j = 0; j < ld_out; j++)
                        if (j < b)
                            near((double)out.data[r * ld_out + j], want[r * (b + 1) + j], 1e-6);
                        else
                            assert_true(isnan(out.data[r * ld_out + j]));
                sw_guarded_check_free(&out, "pool_vertical_slash");
                sw_backend_close(be);
                free(in);
                free(want);
            }
}

static void scores_of_lines(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 2; threads++)
        for (int row0 = 0; row0 < 8; row0 += 7) {
            enum { UNITS = 3, B = 11, LD_IN = 13, LD = 12, LD_ROWS = 12 };
            int rows = B - row0;
            float *columns = sw_test_normal(UNITS * LD_IN, 1),
                  *slashes = sw_test_normal(UNITS * LD_IN, 2);
            struct sw_backend *be = sw_test_open(sw_test_isas()[0], threads);
            struct sw_guarded out = sw_guarded_make(UNITS * LD_ROWS * LD);
            sw_test_ok(be->vertical_slash_scores(
                be, &(struct sw_vertical_slash_scores){.columns = columns,
                                                       .slashes = slashes,
                                                       .row0 = row0,
                                                       .rows = rows,
                                                       .b = B,
                                                       .ld_in = LD_IN,
                                                       .out = {out.data, UNITS, LD_ROWS, LD}}));
            for (int u = 0; u < UNITS; u++)
                for (int r = 0; r < rows; r++)
                    for (int j = 0; j < B; j++) {
                        int i = row0 + r;
                        float want =
                            j <= i ? columns[u * LD_IN + j] + slashes[u * LD_IN + i - j] : 0;
                        assert_true(out.data[(u * LD_ROWS + r) * LD + j] == want);
                    }
            sw_guarded_check_free(&out, "vertical_slash_scores");
            sw_backend_close(be);
            free(columns);
            free(slashes);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(columns_and_slashes),
                                       cmocka_unit_test(pooled), cmocka_unit_test(scores_of_lines)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
