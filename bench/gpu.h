/* gpu.h: what the benches on CUDA share: memory with values in it, timed calls, and the attention
 * shape of Llama-3.1-8B that they have, B = 64. */
#ifndef BENCH_GPU_H
#define BENCH_GPU_H

#include "bench/bench.h"
#include "tests/kernels/cases.h"

enum { H = 32, HKV = 8, D = 128, B = 64, R = 64, RUNS = 9 };

void bench_chain(struct sw_backend *be, int n);
void bench_step(struct sw_backend *be, int n, int batch);
void bench_layer(struct sw_backend *be, int n);

static inline void *bench_alloc(struct sw_backend *be, size_t bytes)
{
    void *p = NULL;
    sw_must(be->alloc(be, bytes, &p), "alloc");
    return p;
}

static inline void *bench_upload(struct sw_backend *be, const void *host, size_t bytes)
{
    void *p = bench_alloc(be, bytes);
    sw_must(be->upload(be, p, host, bytes), "upload");
    return p;
}

/* Normal activations: a tile of them over and over, from an odd place each time. */
static inline void *bench_acts(struct sw_backend *be, uint64_t seed, float scale, size_t count)
{
    enum { TILE = (1 << 21) + 7 };
    size_t size = sw_dtype_size(be->act);
    char *p = bench_alloc(be, count * size);
    float *host = sw_need(TILE * sizeof *host);
    for (size_t i = 0; i < TILE; i++)
        host[i] = scale * (float)sw_rng_normal(seed, SW_RNG_TEST, i);
    for (size_t at = 0; at < count; at += TILE)
        sw_must(
            be->upload_act(be, p + at * size, host, SW_F32, count - at < TILE ? count - at : TILE),
            "upload_act");
    free(host);
    return p;
}

/* A sketch transform of D dimensions to R. */
static inline struct sw_srht bench_srht(struct sw_backend *be)
{
    float signs[D];
    int32_t keep[D];
    for (int c = 0; c < D; c++) {
        signs[c] = c % 3 ? 1.0f : -1.0f;
        keep[c] = (c * 37 + 1) % D;
    }
    return (struct sw_srht){.d = D,
                            .d_pow2 = D,
                            .r = R,
                            .scale = 0.125f,
                            .signs = bench_upload(be, signs, sizeof signs),
                            .keep = bench_upload(be, keep, sizeof keep)};
}

static inline void bench_free(struct sw_backend *be, void *const *all, size_t count)
{
    for (size_t i = 0; i < count; i++)
        be->free(be, all[i]);
}

typedef enum sw_status bench_call(struct sw_backend *be, void *arg);

/* The median of RUNS event-timed calls, in microseconds; the first one makes scratch memory. */
static inline double bench_us(struct sw_backend *be, bench_call *call, void *arg, bool cold)
{
    double ms[RUNS];
    sw_must(call(be, arg), "warm-up");
    for (int i = 0; i < RUNS; i++) {
        if (cold)
            sw_must(be->flush_cache(be), "flush_cache");
        sw_must(be->mark(be, 0), "mark");
        sw_must(call(be, arg), "a timed call");
        sw_must(be->mark(be, 1), "mark");
        sw_must(be->elapsed_ms(be, 0, 1, &ms[i]), "elapsed_ms");
    }
    qsort(ms, RUNS, sizeof *ms, ascending);
    return ms[RUNS / 2] * 1e3;
}

#endif
