/* Runs the same cases on the CPU and the CUDA backend and compares.
 *
 *   parity_cuda [--quick] [--bench] [GROUP]
 *
 * --quick: small shapes only, for compute-sanitizer. --bench: a few timings instead (GROUP:
 * prefill, decode, step or model). Exit 77 without a GPU, 1 when anything differs. */
#include "tests/kernels/parity_cuda.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"

void check(struct parity *p, bool ok, const char *fmt, ...)
{
    p->checks++;
    if (ok)
        return;
    if (p->failures++ >= 200)
        return;
    va_list ap;
    va_start(ap, fmt);
    printf("FAIL ");
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
}

void must(enum sw_status st, const char *what)
{
    if (st == SW_OK)
        return;
    printf("FAIL %s: %s: %s (%s)\n", what, sw_status_name(st), sw_error_message(),
           sw_error_place());
    exit(1);
}

void *need(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p) {
        printf("FAIL out of host memory\n");
        exit(1);
    }
    return p;
}

float bf16_round(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    u = (u + 0x7fffu + ((u >> 16) & 1)) & 0xffff0000u;
    memcpy(&x, &u, sizeof x);
    return x;
}

float *random_values(uint64_t seed, size_t count, float scale)
{
    float *x = need(count * sizeof *x);
    /* sum of four uniforms: near enough to normal, and quick */
    for (size_t i = 0; i < count; i++) {
        uint64_t u = sw_rng_u64(seed, SW_RNG_TEST, i);
        float sum = 0;
        for (int k = 0; k < 4; k++)
            sum += (float)((u >> (16 * k)) & 0xffff) * (1.0f / 65536.0f) - 0.5f;
        x[i] = bf16_round(sum * 1.7320508f * scale);
    }
    return x;
}

void *on_device(struct sw_backend *be, const void *host, size_t bytes)
{
    void *d;
    must(be->alloc(be, bytes, &d), "alloc");
    must(be->upload(be, d, host, bytes), "upload");
    return d;
}

void *acts_on_device(struct sw_backend *be, const float *host, size_t count)
{
    void *d;
    must(be->alloc(be, count * sw_dtype_size(be->act), &d), "alloc");
    must(be->upload_act(be, d, host, SW_F32, count), "upload_act");
    return d;
}

float *floats_from(struct sw_backend *be, const float *device, size_t count)
{
    float *x = need(count * sizeof *x);
    must(be->download(be, x, device, count * sizeof *x), "download");
    return x;
}

double relative_error(const float *x, const float *reference, size_t count)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        double e = (double)x[i] - reference[i];
        if (!(fabs(e) < 1e30))
            return INFINITY;
        error += e * e;
        norm += (double)reference[i] * reference[i];
    }
    return norm > 0 ? sqrt(error / norm) : sqrt(error);
}

double largest_error(const float *x, const float *reference, size_t count)
{
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        double e = fabs((double)x[i] - reference[i]);
        if (!(e < 1e30))
            return INFINITY;
        worst = e > worst ? e : worst;
    }
    return worst;
}

void selection_on_device(struct sw_backend *be, const struct sw_selection *host,
                         struct sw_selection *out)
{
    size_t rows = (size_t)host->units * (size_t)host->rows, entries = (size_t)host->indptr[rows];
    must(sw_selection_reserve(out, be, host->units, host->rows, (int64_t)entries,
                              host->whole != NULL),
         "reserve");
    out->block = host->block;
    out->n = host->n;
    out->n_q = host->n_q;
    out->row0 = host->row0;
    out->rows = host->rows;
    out->units = host->units;
    out->window = host->window;
    out->sink = host->sink;
    must(be->upload(be, out->indptr, host->indptr, (rows + 1) * sizeof(int32_t)), "upload");
    must(be->upload(be, out->indices, host->indices, entries * sizeof(int32_t)), "upload");
    if (host->whole)
        must(be->upload(be, out->whole, host->whole, entries), "upload");
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct parity p = {0};
    bool bench = false;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--quick") == 0)
            p.quick = true;
        else if (strcmp(argv[i], "--bench") == 0)
            bench = true;
        else
            p.only = argv[i];
    enum sw_status st = sw_backend_open("cuda", 0, &p.cuda);
    if (st == SW_EINPUT) {
        printf("skipped: %s\n", sw_error_message());
        return 77;
    }
    must(st, "cuda backend");
    must(sw_backend_open("cpu", 0, &p.cpu), "cpu backend");
    printf("%s; %s\n", p.cuda->device, p.cuda->details);
    static const struct {
        const char *name;
        void (*run)(struct parity *);
    } groups[] = {{"device", parity_device}, {"model", parity_model},
                  {"scores", parity_scores}, {"select", parity_select},
                  {"prompt", parity_prompt}, {"attend", parity_attend},
                  {"mass", parity_mass},     {"baselines", parity_baselines}};
    if (bench)
        parity_bench(&p);
    for (size_t g = 0; !bench && g < sizeof groups / sizeof *groups; g++) {
        if (p.only && !strstr(groups[g].name, p.only))
            continue;
        int checks = p.checks, failures = p.failures;
        groups[g].run(&p);
        printf("%-7s %5d checks, %d failed\n", groups[g].name, p.checks - checks,
               p.failures - failures);
    }
    sw_backend_close(p.cuda);
    sw_backend_close(p.cpu);
    if (!bench)
        printf("%s: %d checks, %d failed\n", p.failures ? "FAIL" : "ok", p.checks, p.failures);
    return p.failures ? 1 : 0;
}
