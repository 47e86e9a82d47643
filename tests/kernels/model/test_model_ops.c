/* The operations of a transformer layer, memory and time of the CPU backend, against plain
 * double-precision loops. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/backends.h"
#include "tests/support/buffers.h"

/* Runs `body` for every instruction set with 1, 2 and 3 threads; `out` is poisoned and guarded, and
 * must have the same bits each time. */
#define EVERYWHERE(count, ...)                                              \
    for (const char *const *isa = sw_test_isas(); *isa; isa++) {            \
        float *first_ = NULL;                                               \
        for (int threads = 1; threads <= 3; threads++) {                    \
            struct sw_backend *be = sw_test_open(*isa, threads);            \
            struct sw_guarded guarded_ = sw_guarded_make(count);            \
            float *out = guarded_.data;                                     \
            __VA_ARGS__;                                                    \
            if (first_ == NULL) {                                           \
                first_ = malloc((count) * sizeof *first_ + 1);              \
                memcpy(first_, out, (count) * sizeof *first_);              \
            } else                                                          \
                assert_memory_equal(first_, out, (count) * sizeof *first_); \
            sw_guarded_check_free(&guarded_, __func__);                     \
            sw_backend_close(be);                                           \
        }                                                                   \
        free(first_);                                                       \
    }

static void near(double got, double want, double allowed)
{
    if (!(fabs(got - want) <= allowed))
        fail_msg("got %.9g, should be %.9g within %.2g", got, want, allowed);
}

/* Among rows_alike rows a row has the same bits as alone: linear (with bias, added to what is
 * there), and head's losses and best ids. */
static void few_rows_are_as_alone(void **state)
{
    (void)state;
    static const int shapes[][2] = {{576, 1536}, {1536, 576}, {7, 5}, {65, 129}, {100, 4099}};
    for (const char *const *isa = sw_test_isas(); *isa; isa++)
        for (int threads = 1; threads <= 2; threads++) {
            struct sw_backend *be = sw_test_open(*isa, threads);
            assert_true(be->rows_alike >= 1);
            for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
                int n_in = shapes[s][0], n_out = shapes[s][1], most = be->rows_alike;
                size_t wide = (size_t)n_out, count = (size_t)most * wide;
                float *x = sw_test_normal((size_t)(most * n_in), s),
                      *w = sw_test_normal((size_t)n_in * wide, s + 1),
                      *bias = sw_test_normal(wide, s + 2);
                float *alone = sw_test_normal(count, s + 3), *before = sw_test_normal(count, s + 3),
                      *out = malloc(count * sizeof *out);
                float *loss = malloc(2 * (size_t)most * sizeof *loss);
                int32_t *ids = calloc(3 * (size_t)most, sizeof *ids), *best = ids + most,
                        *best_alone = best + most;
                for (int r = 0; r < most; r++) {
                    ids[r] = r % n_out;
                    sw_test_ok(be->linear(be, x + r * n_in, w, bias, 1, n_in, n_out, true,
                                          alone + (size_t)r * wide));
                    sw_test_ok(be->head(be, x + r * n_in, w, 1, n_in, n_out, ids + r,
                                        loss + most + r, best_alone + r));
                }
                for (int rows = 1; rows <= most; rows++) {
                    memcpy(out, before, count * sizeof *out);
                    sw_test_ok(be->linear(be, x, w, bias, rows, n_in, n_out, true, out));
                    assert_memory_equal(out, alone, (size_t)rows * wide * sizeof *out);
                    sw_test_ok(be->head(be, x, w, rows, n_in, n_out, ids, loss, best));
                    assert_memory_equal(loss, loss + most, (size_t)rows * sizeof *loss);
                    assert_memory_equal(best, best_alone, (size_t)rows * sizeof *best);
                }
                void *all[] = {x, w, bias, alone, before, out, loss, ids};
                for (size_t i = 0; i < sizeof all / sizeof *all; i++)
                    free(all[i]);
            }
            sw_backend_close(be);
        }
}

static void linear(void **state)
{
    (void)state;
    static const int shapes[][3] = {{1, 576, 200}, {1, 7, 3},     {2, 64, 65},    {3, 100, 9},
                                    {4, 33, 130},  {5, 64, 129},  {8, 40, 70},    {9, 64, 129},
                                    {37, 48, 300}, {300, 20, 33}, {257, 70, 1030}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int mode = 0; mode < 4; mode++) { /* bias, accumulate */
            int rows = shapes[s][0], n_in = shapes[s][1], n_out = shapes[s][2];
            size_t count = (size_t)rows * (size_t)n_out;
            float *x = sw_test_normal((size_t)(rows * n_in), s),
                  *w = sw_test_normal((size_t)(n_in * n_out), s + 50);
            float *bias = sw_test_normal((size_t)n_out, s + 60),
                  *before = sw_test_normal(count, s + 70);
            EVERYWHERE(count, {
                if (mode & 2)
                    memcpy(out, before, count * sizeof *out);
                sw_test_ok(
                    be->linear(be, x, w, mode & 1 ? bias : NULL, rows, n_in, n_out, mode & 2, out));
                for (int r = 0; threads == 1 && r < rows; r++)
                    for (int o = 0; o < n_out; o++) {
                        double want = (mode & 1 ? (double)bias[o] : 0) +
                                      (mode & 2 ? (double)before[r * n_out + o] : 0),
                               size = fabs(want);
                        for (int i = 0; i < n_in; i++) {
                            want += (double)x[r * n_in + i] * (double)w[o * n_in + i];
                            size += fabs((double)x[r * n_in + i] * (double)w[o * n_in + i]);
                        }
                        /* random roundings; the bound is n·2^-24 */
                        near((double)out[r * n_out + o], want,
                             0x1p-24 * size * fmax(4, sqrt(n_in)));
                    }
            });
            free(x);
            free(w);
            free(bias);
            free(before);
        }
}

static void rmsnorm(void **state)
{
    (void)state;
    static const int widths[] = {1, 5, 16, 63, 576, 4096};
    for (int s = 0; s < 6; s++) {
        int width = widths[s], rows = s % 2 ? 1 : 19;
        float *x = sw_test_normal((size_t)(rows * width), 1), *w = sw_test_normal((size_t)width, 2);
        EVERYWHERE((size_t)(rows * width), {
            sw_test_ok(be->rmsnorm(be, x, w, rows, width, 1e-5f, out));
            for (int r = 0; r < rows; r++) {
                double sum = 0;
                for (int i = 0; i < width; i++)
                    sum += (double)x[r * width + i] * (double)x[r * width + i];
                double factor = 1 / sqrt(sum / width + (double)1e-5f);
                for (int i = 0; i < width; i++) {
                    double want = (double)x[r * width + i] * factor * (double)w[i];
                    /* sum in lanes: below 5 ulp up to 4096 */
                    near((double)out[r * width + i], want, fabs(want) * 6e-7 + 1e-30);
                }
            }
        });
        free(x);
        free(w);
    }
}

static void rope(void **state)
{
    (void)state;
    static const int dims[] = {32, 64, 80, 128, 256, 6};
    for (int s = 0; s < 6; s++) {
        int d = dims[s], heads = 3, rows = 21, pos0 = s % 2 ? 100000 : 0;
        float *x = sw_test_normal((size_t)(rows * heads * d), 1), inv[128];
        for (int c = 0; c < d / 2; c++)
            inv[c] = (float)pow(10000.0, -2.0 * c / d);
        EVERYWHERE((size_t)(rows * heads * d), {
            memcpy(out, x, (size_t)(rows * heads * d) * sizeof *out);
            sw_test_ok(be->rope(be, out, rows, heads, d, pos0, inv, 1.25f));
            for (int r = 0; r < rows; r++)
                for (int h = 0; h < heads; h++)
                    for (int c = 0; c < d / 2; c++) {
                        /* in fp32, as the models' own code */
                        float angle = (float)(pos0 + r) * inv[c];
                        const float *row = x + (r * heads + h) * d;
                        double a = (double)row[c], b = (double)row[c + d / 2],
                               co = cos((double)angle) * 1.25, si = sin((double)angle) * 1.25;
                        near((double)out[(r * heads + h) * d + c], a * co - b * si,
                             4e-7 * (fabs(a) + fabs(b)));
                        near((double)out[(r * heads + h) * d + c + d / 2], b * co + a * si,
                             4e-7 * (fabs(a) + fabs(b)));
                    }
        });
        free(x);
    }
}

static void swiglu(void **state)
{
    (void)state;
    enum { N = 40001 };
    float *gate = sw_test_normal(N, 1), *up = sw_test_normal(N, 2);
    for (int i = 0; i < N; i++)
        gate[i] *= (float)(i % 90); /* far into both tails */
    gate[0] = -200;
    gate[1] = 1e30f;
    gate[2] = -1e30f;
    EVERYWHERE(N, {
        sw_test_ok(be->swiglu(be, gate, up, N, out));
        for (int i = 0; i < N; i++) {
            double g = (double)gate[i], want = g / (1 + exp(-g)) * (double)up[i];
            /* about 4 ulp; below -87 the sigmoid stops at e^-87, absolutely nothing */
            near((double)out[i], want,
                 fabs(want) * 5e-7 + (g < -86 ? 1e-37 * fabs(g * (double)up[i]) : 0));
        }
    });
    free(gate);
    free(up);
}

static void embed(void **state)
{
    (void)state;
    enum { V = 11, W = 37, ROWS = 5 };
    float *table = sw_test_normal(V * W, 1);
    const int32_t ids[ROWS] = {10, 0, 3, 3, 7};
    EVERYWHERE(ROWS * W, {
        sw_test_ok(be->embed(be, table, ids, ROWS, W, out));
        for (int r = 0; r < ROWS; r++)
            assert_memory_equal(out + r * W, table + ids[r] * W, W * sizeof(float));
    });
    free(table);
}

static void head(void **state)
{
    (void)state;
    static const int shapes[][3] = {
        {1, 32, 5000}, {3, 64, 4097}, {70, 20, 1025}, {5, 16, 3}, {130, 8, 9000}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        int rows = shapes[s][0], n_in = shapes[s][1], vocab = shapes[s][2];
        float *x = sw_test_normal((size_t)(rows * n_in), s),
              *w = sw_test_normal((size_t)(vocab * n_in), s + 9);
        for (int i = 0; i < rows * n_in; i++)
            x[i] *= i % 2 ? 1 : 4;
        if (vocab > 1000)
            /* equal logits: the first is the best */
            memcpy(w + 900 * n_in, w + 11 * n_in, (size_t)n_in * sizeof *w);
        int32_t *targets = malloc((size_t)rows * sizeof *targets),
                *best = malloc((size_t)rows * sizeof *best);
        for (int r = 0; r < rows; r++)
            targets[r] = sw_test_int(s, (uint64_t)r, 0, vocab - 1);
        double *logits = malloc((size_t)vocab * sizeof *logits);
        EVERYWHERE((size_t)rows, {
            sw_test_ok(be->head(be, x, w, rows, n_in, vocab, targets, out, best));
            for (int r = 0; threads == 1 && r < rows; r++) {
                double max = -INFINITY, sum = 0, size = 0;
                for (int o = 0; o < vocab; o++) {
                    logits[o] = 0;
                    for (int i = 0; i < n_in; i++)
                        logits[o] += (double)x[r * n_in + i] * (double)w[o * n_in + i];
                    max = logits[o] > max ? logits[o] : max;
                    size = fabs(logits[o]) > size ? fabs(logits[o]) : size;
                }
                for (int o = 0; o < vocab; o++)
                    sum += exp(logits[o] - max);
                near((double)out[r], log(sum) + max - logits[targets[r]], 2e-6 * size + 1e-6);
                assert_true(logits[best[r]] >= max - 2e-6 * size);
                assert_true(best[r] != 900 || vocab <= 1000);
            }
        });
        struct sw_backend *be = sw_test_open(sw_test_isas()[0], 1);
        int32_t alone[200];
        sw_test_ok(be->head(be, x, w, rows, n_in, vocab, NULL, NULL, alone));
        targets[0] = vocab;
        float nll[200];
        sw_test_fails(be->head(be, x, w, rows, n_in, vocab, targets, nll, NULL), SW_EINTERNAL);
        sw_backend_close(be);
        free(x);
        free(w);
        free(targets);
        free(best);
        free(logits);
    }
}

static void conversions(void **state)
{
    (void)state;
    struct sw_backend *be = sw_test_open(sw_test_isas()[0], 2);
    enum { N = 65536 };
    uint16_t *bits = malloc(N * sizeof *bits);
    for (int i = 0; i < N; i++)
        bits[i] = (uint16_t)i;
    struct sw_guarded g = sw_guarded_make(N);
    sw_test_ok(be->upload_act(be, g.data, bits, SW_BF16, N));
    for (int i = 0; i < N; i++) {
        uint32_t u;
        memcpy(&u, &g.data[i], sizeof u);
        assert_int_equal(u, (uint32_t)i << 16);
    }
    sw_test_ok(be->upload_act(be, g.data, bits, SW_F16, N)); /* every half there is */
    for (int i = 0; i < N; i++) {
        int exponent = (i >> 10) & 31, fraction = i & 1023;
        double sign = i & 0x8000 ? -1 : 1,
               want = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
        if (exponent == 31)
            assert_true(fraction ? isnan(g.data[i])
                                 : isinf(g.data[i]) && !signbit(g.data[i]) == (sign > 0));
        else
            assert_true((double)g.data[i] == sign * want);
    }
    float *f = malloc(N * sizeof *f);
    for (int i = 0; i < N; i++)
        f[i] = (float)i * 0.37f;
    sw_test_ok(be->upload_act(be, g.data, f, SW_F32, N));
    assert_memory_equal(g.data, f, N * sizeof *f);
    sw_test_ok(be->zero(be, g.data, N * sizeof *f));
    sw_test_ok(be->download_act(be, f, g.data, N));
    for (int i = 0; i < N; i++)
        assert_true(f[i] == 0);
    sw_guarded_check_free(&g, "conversions");
    free(bits);
    free(f);
    sw_backend_close(be);
}

static void memory(void **state)
{
    (void)state;
    struct sw_backend *be = sw_test_open(sw_test_isas()[0], 1);
    void *a, *b;
    sw_test_ok(be->alloc(be, 1000, &a));
    sw_test_ok(be->alloc(be, 50u << 20, &b));
    assert_int_equal((uintptr_t)a % 64, 0);
    assert_int_equal((uintptr_t)b % 64, 0);
    assert_int_equal(be->peak_bytes(be, false), (50u << 20) + 1000);
    be->free(be, b);
    be->free(be, NULL);
    assert_int_equal(be->peak_bytes(be, true), (50u << 20) + 1000);
    assert_int_equal(be->peak_bytes(be, false), 1000);
    be->free(be, a);
    static const size_t huge[] = {SIZE_MAX, SIZE_MAX - 63, SIZE_MAX / 2, (size_t)1 << 50};
    for (int i = 0; i < 4; i++) {
        a = &b;
        enum sw_status st = be->alloc(be, huge[i], &a);
        assert_true(st == SW_ENOMEM && strstr(sw_error_message(), "asked") &&
                    strstr(sw_error_message(), "free"));
        assert_null(a);
        sw_error_clear();
    }
    assert_true(be->free_bytes(be) > 1u << 20);
    sw_test_ok(be->alloc(be, 0, &a));
    be->free(be, a);
    sw_backend_close(be);
}

static void time_and_cache(void **state)
{
    (void)state;
    struct sw_backend *be = sw_test_open(sw_test_isas()[0], 3);
    double ms;
    sw_test_ok(be->mark(be, 0));
    sw_test_ok(be->flush_cache(be));
    sw_test_ok(be->sync(be));
    sw_test_ok(be->mark(be, SW_TIMER_SLOTS - 1));
    sw_test_ok(be->elapsed_ms(be, 0, SW_TIMER_SLOTS - 1, &ms));
    assert_true(ms > 0 && ms < 60000);
    sw_test_fails(be->mark(be, SW_TIMER_SLOTS), SW_EINTERNAL);
    sw_test_fails(be->elapsed_ms(be, -1, 0, &ms), SW_EINTERNAL);
    assert_non_null(strstr(be->details, "isa="));
    assert_non_null(strstr(be->details, "blas_core="));
    sw_backend_close(be);
    setenv("SWBENCH_ISA", "altivec", 1);
    sw_test_fails(sw_cpu_backend_open(1, &be), SW_EINPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear),  cmocka_unit_test(few_rows_are_as_alone),
        cmocka_unit_test(rmsnorm), cmocka_unit_test(rope),
        cmocka_unit_test(swiglu),  cmocka_unit_test(embed),
        cmocka_unit_test(head),    cmocka_unit_test(conversions),
        cmocka_unit_test(memory),  cmocka_unit_test(time_and_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
