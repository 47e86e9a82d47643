/* bench_attend.c: how fast the attention kernels and products of a backend are. One line a
 * measurement:
 *     name n H Hkv d  median_ms  rate unit  share
 * rate: GFLOP/s, or GB/s of K and V read (decode); share: of the FMA peak measured in the same run.
 *
 *     swbench_kernel_bench [threads [n H Hkv d [repeats]]]
 *
 * With SWBENCH_BENCH_CPU_TIME=1 processor time instead of the clock's (one thread, on a machine
 * that others use too). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "core/rng.h"
#include "kernels/cpu/device/blas_core.h"
#include "kernels/cpu/device/cpu.h"
#include "kernels/open.h"

struct sample {
    double ms[64];
    int n;
};

static double median(struct sample *s)
{
    qsort(s->ms, (size_t)s->n, sizeof *s->ms, ascending);
    return s->ms[s->n / 2];
}

static void fma_task(void *ctx, long i, int worker)
{
    (void)worker;
    double *flops = ctx;
    flops[i] = sw_vec_choose()->measure_fma(4000000);
}

/* Fastest of some short runs: the peak that the machine gives these threads. GFLOP/s. */
static double fma_peak(struct sw_backend *be)
{
    double best = 0, flops[1024];
    for (int i = 0; i < 5; i++) {
        double t = now_ms(), total = 0;
        sw_workers_run(cpu_of(be)->workers, be->threads, fma_task, flops);
        t = now_ms() - t;
        for (int j = 0; j < be->threads; j++)
            total += flops[j];
        if (total / t * 1e-6 > best)
            best = total / t * 1e-6;
    }
    return best;
}

static float *random_floats(struct sw_backend *be, size_t count, uint64_t seed)
{
    void *p;
    need(be->alloc(be, count * sizeof(float), &p));
    for (size_t i = 0; i < count; i++)
        /* variance about 1 */
        ((float *)p)[i] = (float)(sw_rng_uniform(seed, SW_RNG_TEST, i) * 3.4 - 1.7);
    return p;
}

int main(int argc, char **argv)
{
    sw_cpu_prefer_fast_blas(argv);
    int threads = argc > 1 ? atoi(argv[1]) : 0, n = argc > 5 ? atoi(argv[2]) : 8192,
        heads = argc > 5 ? atoi(argv[3]) : 9;
    int kv_heads = argc > 5 ? atoi(argv[4]) : 3, d = argc > 5 ? atoi(argv[5]) : 64,
        repeats = argc > 6 ? atoi(argv[6]) : 5;
    repeats = repeats < 1 ? 1 : repeats > 64 ? 64 : repeats;
    struct sw_backend *be;
    need(sw_backend_open("cpu", threads, &be));
    double peak = fma_peak(be);
    printf("# %s | %s | FMA peak %.0f GFLOP/s\n", be->device, be->details, peak);

    size_t q_count = (size_t)n * (size_t)heads * (size_t)d,
           kv_count = (size_t)n * (size_t)kv_heads * (size_t)d;
    float *q = random_floats(be, q_count, 1), *k = random_floats(be, kv_count, 2),
          *v = random_floats(be, kv_count, 3);
    float *out = random_floats(be, q_count, 4);
    enum { BLOCK = 64 };
    int b = sw_blocks(n, BLOCK), *budget = malloc((size_t)b * sizeof *budget);
    bool floored;
    need(sw_budget_rows(n, BLOCK, 0.2, SW_FORCED_COMMON, budget, &floored));
    struct sw_selection shared = {0}, per_head = {0}, last = {0};
    float *scores = random_floats(be, (size_t)heads * (size_t)b * (size_t)b, 5);
    struct sw_select_top top = {.scores = {scores, 1, b, b},
                                .rows = b,
                                .budget = budget,
                                .forced = SW_FORCED_COMMON,
                                .block = BLOCK,
                                .n = n,
                                .n_q = n};
    need(be->select_top(be, &top, &shared));
    top.scores.units = heads;
    double t0 = now_ms();
    need(be->select_top(be, &top, &per_head));
    double select_ms = now_ms() - t0;
    int decode_budget = sw_budget_decode(n, BLOCK, 0.2, SW_FORCED_COMMON, &floored);
    top = (struct sw_select_top){.scores = {scores, 1, 1, b},
                                 .rows = 1,
                                 .row0 = b - 1,
                                 .budget = &decode_budget,
                                 .forced = SW_FORCED_COMMON,
                                 .block = BLOCK,
                                 .n = n,
                                 .n_q = 1};
    need(be->select_top(be, &top, &last));

    struct sw_attend dense = {.batch = 1,
                              .n_q = n,
                              .n_k = n,
                              .n_heads = heads,
                              .n_kv_heads = kv_heads,
                              .head_dim = d,
                              .kv_stride = n,
                              .q = q,
                              .k = k,
                              .v = v,
                              .out = out,
                              .scale = 0.125f};
    struct sw_attend sparse = dense, sparse_heads = dense, decode = dense, decode_sparse;
    sparse.sel = &shared;
    sparse_heads.sel = &per_head;
    decode.n_q = 1;
    decode_sparse = decode;
    decode_sparse.sel = &last;
    const struct {
        const char *name;
        const struct sw_attend *a;
    } cases[] = {{"dense", &dense},
                 {"sparse", &sparse},
                 {"sparse_per_head", &sparse_heads},
                 {"decode", &decode},
                 {"decode_sparse", &decode_sparse}};
    enum { CASES = sizeof cases / sizeof *cases };
    static struct sample time[CASES];
    for (int r = 0; r <= repeats; r++) /* interleaved; the first round warms up */
        for (int c = 0; c < CASES; c++) {
            bool one = cases[c].a->n_q == 1;
            int inner = one ? 10 : 1;
            double t = 0;
            for (int i = 0; i < inner; i++) {
                if (one)
                    need(be->flush_cache(be));
                double from = now_ms();
                need(be->attend(be, cases[c].a));
                t += now_ms() - from;
            }
            if (r > 0)
                time[c].ms[time[c].n++] = t / inner;
        }
    double pairs = 0.5 * n * (n + 1.0);
    for (int c = 0; c < CASES; c++) {
        const struct sw_selection *s = cases[c].a->sel;
        double ms = median(&time[c]);
        if (cases[c].a->n_q == 1) {
            double keys = s ? (double)(s->indptr[1] - 1) * BLOCK + (n - (b - 1) * BLOCK) : n;
            printf("%s %d %d %d %d %.4f ms %.1f GB/s\n", cases[c].name, n, heads, kv_heads, d, ms,
                   keys * kv_heads * d * 8 / ms * 1e-6);
        } else {
            double density = s ? sw_selection_density(s) : 1.0,
                   rate = 4.0 * heads * d * pairs * density / ms * 1e-6;
            printf("%s %d %d %d %d %.2f ms %.1f GFLOP/s %.3f of peak\n", cases[c].name, n, heads,
                   kv_heads, d, ms, rate, rate / peak);
        }
    }
    printf("sparse_speedup %.2f per_head %.2f at density %.4f\n",
           median(&time[0]) / median(&time[1]), median(&time[0]) / median(&time[2]),
           sw_selection_density(&shared));
    printf("select_top %d units %.2f ms\n", heads, select_ms);

    struct sw_block_mass mass = {.in = dense, .block = BLOCK, .out = {scores, dense.n_heads, b, b}};
    t0 = now_ms();
    need(be->block_mass(be, &mass));
    double mass_ms = now_ms() - t0;
    printf("block_mass %d %d %d %d %.2f ms %.1f GFLOP/s\n", n, heads, kv_heads, d, mass_ms,
           4.0 * heads * d * pairs / mass_ms * 1e-6);

    int width = heads * d, wide = 4 * width, rows = n < 2048 ? n : 2048;
    float *w = random_floats(be, (size_t)width * (size_t)wide, 6),
          *x = random_floats(be, (size_t)rows * (size_t)wide, 7);
    for (int few = 0; few < 2; few++) {
        struct sample t = {0};
        int m = few ? 1 : rows;
        for (int r = 0; r < repeats; r++) {
            if (few)
                need(be->flush_cache(be));
            double from = now_ms();
            need(be->linear(be, q, w, NULL, m, width, wide, false, x));
            t.ms[t.n++] = now_ms() - from;
        }
        double ms = median(&t);
        if (few)
            printf("linear 1 x %d x %d %.4f ms %.1f GB/s\n", width, wide, ms,
                   4.0 * width * wide / ms * 1e-6);
        else
            printf("linear %d x %d x %d %.2f ms %.1f GFLOP/s %.3f of peak\n", m, width, wide, ms,
                   2.0 * m * width * wide / ms * 1e-6, 2.0 * m * width * wide / ms * 1e-6 / peak);
    }
    void *all[] = {q, k, v, out, scores, w, x};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        be->free(be, all[i]);
    sw_selection_free(&shared);
    sw_selection_free(&per_head);
    sw_selection_free(&last);
    free(budget);
    sw_backend_close(be);
    return 0;
}
