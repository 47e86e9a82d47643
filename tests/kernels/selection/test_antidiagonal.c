/* Antidiagonal scores and block similarities, against plain double-precision loops. */
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

static double product(const struct sw_attend *in, int h, int t, int u)
{
    double sum = 0;
    if (t >= in->n_k || u >= in->n_k)
        return 0; /* tokens that the last group lacks */
    for (int c = 0; c < in->head_dim; c++)
        sum += (double)((const float *)in->q)[(t * in->n_heads + h) * in->head_dim + c] *
               (double)((const float *)in->k)
                   [(u * in->n_kv_heads + h / (in->n_heads / in->n_kv_heads)) * in->head_dim + c];
    return sum;
}

static void reference(const struct sw_antidiagonal *a, double *out)
{
    const struct sw_attend *in = a->in;
    int groups = sw_blocks(in->n_k, a->stride), per_block = a->block / a->stride;
    double *z = malloc((size_t)groups * sizeof *z);
    memset(out, 0, (size_t)(in->n_heads * a->out.ld_rows * a->out.ld) * sizeof *out);
    for (int h = 0; h < in->n_heads; h++)
        for (int g = 0; g < groups; g++) {
            double sum = 0, max = -INFINITY;
            for (int c = 0; c <= g; c++) {
                z[c] = 0;
                for (int x = 0; x < a->stride; x++)
                    z[c] += product(in, h, g * a->stride + a->stride - 1 - x, c * a->stride + x);
                z[c] *= (double)in->scale / a->stride;
                max = fmax(max, z[c]);
            }
            for (int c = 0; c <= g; c++)
                sum += exp(z[c] - max);
            for (int c = 0; c <= g; c++)
                out[(h * a->out.ld_rows + g / per_block) * a->out.ld + c / per_block] +=
                    exp(z[c] - max) / sum;
        }
    free(z);
}

static void antidiagonals(void **state)
{
    (void)state;
    static const int cases[][6] = {/* n H Hkv d stride B */ {1, 1, 1, 8, 8, 16},
                                   {9, 2, 1, 16, 8, 16},
                                   {150, 4, 2, 64, 8, 16},
                                   {128, 2, 2, 32, 16, 64},
                                   {131, 3, 1, 24, 4, 32},
                                   {90, 6, 3, 16, 1, 16},
                                   {333, 2, 1, 32, 2, 64},
                                   {257, 2, 2, 96, 64, 64}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int n = cases[c][0], H = cases[c][1], Hkv = cases[c][2], d = cases[c][3],
            b = sw_blocks(n, cases[c][5]), ld = b + 1, ld_rows = b + 2;
        float *q = sw_test_normal((size_t)(n * H * d), c),
              *k = sw_test_normal((size_t)(n * Hkv * d), c + 50);
        struct sw_attend in = {.batch = 1,
                               .n_q = n,
                               .n_k = n,
                               .n_heads = H,
                               .n_kv_heads = Hkv,
                               .head_dim = d,
                               .kv_stride = n,
                               .q = q,
                               .k = k,
                               .scale = 2.0f / sqrtf((float)d)};
        size_t count = (size_t)(H * ld_rows * ld);
        struct sw_antidiagonal a = {.in = &in,
                                    .stride = cases[c][4],
                                    .block = cases[c][5],
                                    .out = {.units = H, .ld_rows = ld_rows, .ld = ld}};
        double *want = malloc(count * sizeof *want);
        reference(&a, want);
        for (const char *const *isa = sw_test_isas(); *isa; isa++) {
            float *first = NULL;
            for (int threads = 1; threads <= 3; threads++) {
                struct sw_backend *be = sw_test_open(*isa, threads);
                struct sw_guarded out = sw_guarded_make(count);
                a.out.data = out.data;
                sw_test_ok(be->antidiagonal(be, &a));
                for (int h = 0; h < H; h++)
                    for (int i = 0; i < b; i++)
                        for (int j = 0; j < b; j++)
                            near((double)out.data[(h * ld_rows + i) * ld + j],
                                 want[(h * ld_rows + i) * ld + j],
                                 5e-6 * want[(h * ld_rows + i) * ld + j] + 1e-30);
                if (!first) {
                    first = malloc(count * sizeof *first);
                    memcpy(first, out.data, count * sizeof *first);
                } else {
                    assert_memory_equal(first, out.data, count * sizeof *first);
                }
                sw_guarded_check_free(&out, "antidiagonal");
                sw_backend_close(be);
            }
            free(first);
        }
        free(q);
        free(k);
        free(want);
    }
}

/* d = 1, stride 2: Z = [[2, ·], [4, 11]], so that row 1 of W is softmax(2, 5.5); a block of two
 * groups adds both rows. */
static void antidiagonals_by_hand(void **state)
{
    (void)state;
    float q[] = {1, 2, 3, 4}, k[] = {1, 0, 2, 1}, out[4];
    struct sw_attend in = {.batch = 1,
                           .n_q = 4,
                           .n_k = 4,
                           .n_heads = 1,
                           .n_kv_heads = 1,
                           .head_dim = 1,
                           .kv_stride = 4,
                           .q = q,
                           .k = k,
                           .scale = 1};
    struct sw_backend *be = sw_test_open(sw_test_isas()[0], 1);
    sw_test_ok(be->antidiagonal(
        be, &(struct sw_antidiagonal){.in = &in, .stride = 2, .block = 2, .out = {out, 1, 2, 2}}));
    near((double)out[0], 1, 1e-6);
    near((double)out[1], 0, 0);
    near((double)out[2], 0.0293, 5e-5);
    near((double)out[3], 0.9707, 5e-5);
    sw_test_ok(be->antidiagonal(
        be, &(struct sw_antidiagonal){.in = &in, .stride = 2, .block = 4, .out = {out, 1, 1, 1}}));
    near((double)out[0], 2, 1e-6); /* B / stride */
    sw_test_fails(be->antidiagonal(be,
                                   &(struct sw_antidiagonal){
                                       .in = &in, .stride = 3, .block = 4, .out = {out, 1, 1, 1}}),
                  SW_EINTERNAL);
    sw_backend_close(be);
}

static void similarities(void **state)
{
    (void)state;
    static const int cases[][4] = {
        /* n heads d B */ {1, 1, 8, 16}, {70, 3, 64, 16}, {64, 2, 128, 64}, {45, 2, 24, 32}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int shifted = 0; shifted < 2; shifted++) {
            int n = cases[c][0], H = cases[c][1], d = cases[c][2], B = cases[c][3],
                b = sw_blocks(n, B), ld = b + 1;
            float *x = sw_test_normal((size_t)(n * H * d), c),
                  *shift = sw_test_normal((size_t)(H * d), c + 9);
            for (int h = 0; h < H; h++) /* a zero vector, and one as large as fp32 allows */
                for (int e = 0; e < d; e++) {
                    x[(n / 2 * H + h) * d + e] = shifted ? shift[h * d + e] : 0;
                    if (n > 40)
                        x[(40 * H + h) * d + e] = e == 0 ? 1e30f : 1e20f;
                }
            for (int threads = 1; threads <= 3; threads++) {
                struct sw_backend *be = sw_test_open(sw_test_isas()[0], threads);
                struct sw_guarded out = sw_guarded_make((size_t)(H * ld));
                sw_test_ok(
                    be->similarity(be, &(struct sw_similarity){.x = x,
                                                               .heads = H,
                                                               .head_dim = d,
                                                               .n = n,
                                                               .block = B,
                                                               .shift = shifted ? shift : NULL,
                                                               .out = out.data,
                                                               .ld = ld}));
                for (int h = 0; h < H; h++)
                    for (int i = 0; i < b; i++) {
                        double sum = 0; /* over all pairs, self pairs included */
                        int t0 = i * B, t1 = t0 + B < n ? t0 + B : n;
                        for (int t = t0; t < t1; t++)
                            for (int u = t0; u < t1; u++) {
                                double dot = 0, tt = 0, uu = 0;
                                for (int e = 0; e < d; e++) {
                                    double y = (double)(x[(t * H + h) * d + e] -
                                                        (shifted ? shift[h * d + e] : 0));
                                    double z = (double)(x[(u * H + h) * d + e] -
                                                        (shifted ? shift[h * d + e] : 0));
                                    dot += y * z;
                                    tt += y * y;
                                    uu += z * z;
                                }
                                sum += tt > 0 && uu > 0 ? dot / sqrt(tt) / sqrt(uu) : 0;
                            }
                        near((double)out.data[h * ld + i], sum / (t1 - t0) / (t1 - t0), 1e-6);
                    }
                sw_guarded_check_free(&out, "similarity");
                sw_backend_close(be);
            }
            free(x);
            free(shift);
        }
    float same[] = {3, 4, 3, 4}, opposite[] = {3, 4, -3, -4}, out;
    struct sw_backend *be = sw_test_open(sw_test_isas()[0], 1);
    struct sw_similarity a = {
        .x = same, .heads = 1, .head_dim = 2, .n = 2, .block = 16, .out = &out, .ld = 1};
    sw_test_ok(be->similarity(be, &a));
    near((double)out, 1, 1e-6);
    a.x = opposite;
    sw_test_ok(be->similarity(be, &a));
    near((double)out, 0, 1e-6);
    sw_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(antidiagonals),
                                       cmocka_unit_test(antidiagonals_by_hand),
                                       cmocka_unit_test(similarities)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
