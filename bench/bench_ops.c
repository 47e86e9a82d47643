/* bench_ops.c: times the cases of operations that have shapes for it (tests/kernels/cases), and
 * what is made of several operations.
 *
 *   bench_ops [--quick] [--backend cpu|cuda] [NAME]
 *
 * NAME: part of a kernel's file or an operation's name; or, on CUDA, `chain` (a prompt's selection,
 * in a row and with its attention), `step` (a decode step, as a replayed graph), `layer` (a prompt
 * beside attention). None: all of it. --quick: without 128K tokens. Exit 77 without a GPU. */
#include <stdio.h>

#include "bench/gpu.h"
#include "kernels/open.h"

static struct sw_backend *be;
static bool quick;

/* --- cases ------------------------------------------------------------------------------------ */

struct job {
    struct sw_case *c;
    void *const *at;
};

static enum sw_status run_case(struct sw_backend *backend, void *arg)
{
    struct job *job = arg;
    return job->c->of->run(job->c, backend, job->at);
}

static void time_case(struct sw_case *c)
{
    struct sw_memory m;
    double flops = 0, bytes = 0;
    sw_memory_make(&m, c, be);
    enum sw_status st = c->of->run(c, be, m.at);
    if (st == SW_EUNSUPPORTED) {
        printf("%-75s %s\n", sw_case_text(c), sw_error_message());
        sw_error_clear();
    } else {
        sw_must(st, c->of->name);
        double us = bench_us(be, run_case, &(struct job){c, m.at}, c->cold);
        if (c->of->cost)
            c->of->cost(c, &flops, &bytes);
        printf("%-75s %10.1f us", sw_case_text(c), us);
        if (flops > 0)
            printf(" %7.1f TFLOP/s", flops / us * 1e-6);
        if (bytes > 0)
            printf(" %7.0f GB/s", bytes / us * 1e-3);
        printf("%s\n", c->cold ? ", cold" : "");
    }
    sw_memory_free(&m, c);
}

/* --- several operations ----------------------------------------------------------------------- */

static bool wanted(const char *group, const char *only)
{
    return strcmp(be->name, "cuda") == 0 && (!only || strcmp(only, group) == 0);
}

static bool time_groups(const char *only)
{
    static const int lengths[] = {8192, 32768, 131072},
                     steps[][2] = {{8192, 1}, {32768, 1}, {32768, 8}, {131072, 1}, {131072, 4}};
    int n_lengths = quick ? 2 : 3;
    for (int i = 0; i < n_lengths && wanted("chain", only); i++)
        bench_chain(be, lengths[i]);
    for (int i = 0; i < 5 && wanted("step", only); i++)
        if (steps[i][0] <= lengths[n_lengths - 1])
            bench_step(be, steps[i][0], steps[i][1]);
    for (int i = 0; i < n_lengths && wanted("layer", only); i++)
        bench_layer(be, lengths[i]);
    return wanted("chain", only) || wanted("step", only) || wanted("layer", only);
}

static bool of_more_than_32k(const void *shape, size_t size)
{
    const int *value = shape;
    for (size_t i = 0; i < size / sizeof *value; i++)
        if (value[i] == 131072 || value[i] == 2048)
            return true;
    return false;
}

static void time_unless_long(struct sw_case *c)
{
    if (!quick || !of_more_than_32k(c->shape, c->of->timed.size))
        time_case(c);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *backend = "cuda", *only = NULL;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--quick") == 0)
            quick = true;
        else if (strcmp(argv[i], "--backend") == 0 && i + 1 < argc)
            backend = argv[++i];
        else
            only = argv[i];
    enum sw_status st = sw_backend_open(backend, 0, &be);
    if (st == SW_EINPUT) {
        printf("skipped: %s\n", sw_error_message());
        return 77;
    }
    sw_must(st, "sw_backend_open");
    printf("%s; %s\n", be->device, be->details);
    bool found = time_groups(only);
    for (size_t i = 0; sw_all_cases[i]; i++) {
        const struct sw_cases *of = sw_all_cases[i];
        if (!of->timed.count || !sw_cases_match(of, only))
            continue;
        found = true;
        sw_cases_each(of, SW_TIME, false, time_unless_long);
    }
    sw_backend_close(be);
    if (!found)
        printf("found nothing to time called '%s', expected chain, step, layer, or part of a "
               "kernel's file or an operation's name\n",
               only);
    return !found;
}
