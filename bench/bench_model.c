/* bench_model.c: how fast a model reads a prompt and makes tokens, with dense attention on the CPU
 * backend. One line a measurement:
 *     prefill N tokens  M repeats  median_ms  min_ms
 *     decode  N tokens after the prompt  median_ms  min_ms a token
 *
 *     swbench_model_bench MODEL_FOLDER IDS [threads [repeats [decode_tokens [LOGITS]]]]
 *
 * IDS holds the prompt as int32. A time is what a user waits for a token: all layers, and the
 * logits of the last row. With LOGITS the program also writes the fp32 logits of the prompt's last
 * row there (bench/compare_llamacpp.py compares them).
 * With SWBENCH_BENCH_CPU_TIME=1 processor time instead of the clock's (one thread, on a machine
 * that others use too). */
#include <stdio.h>
#include <stdlib.h>

#include "bench/bench.h"
#include "core/model/model.h"
#include "core/sparse.h"
#include "kernels/cpu/device/blas_core.h"
#include "kernels/open.h"

enum { MOST = 256, WARM_UP = 512 };

static void *need_memory(void *p)
{
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return p;
}

static int32_t *read_ids(const char *path, int *n)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0 || ftell(f) < 4) {
        fprintf(stderr, "%s: cannot be read, or no int32 in it\n", path);
        exit(1);
    }
    *n = (int)(ftell(f) / 4);
    rewind(f);
    int32_t *ids = need_memory(malloc((size_t)*n * sizeof *ids));
    if (fread(ids, sizeof *ids, (size_t)*n, f) != (size_t)*n)
        exit(1);
    fclose(f);
    return ids;
}

static enum sw_status attend(void *context, int layer, int n_q, int n_k, const void *q,
                             const void *k, const void *v, void *out)
{
    return sw_sparse_attend(context, layer, n_q, n_k, q, k, v, out);
}

/* One run and the best next id, which waits for it. */
static double run(struct sw_pass *pass, struct sw_sparse *dense, const int32_t *ids, int n,
                  int32_t *next)
{
    double from = now_ms();
    need(sw_pass_run(pass, 0, ids, n, (struct sw_attention_hook){attend, dense}));
    need(sw_pass_predict(pass, n - 1, 1, NULL, NULL, next));
    return now_ms() - from;
}

static void print_times(const char *name, int tokens, double *ms, int n)
{
    qsort(ms, (size_t)n, sizeof *ms, ascending);
    printf("%s %d tokens %d repeats %.3f ms %.3f min\n", name, tokens, n, ms[n / 2], ms[0]);
}

int main(int argc, char **argv)
{
    sw_cpu_prefer_fast_blas(argv);
    if (argc < 3) {
        fprintf(stderr, "usage: swbench_model_bench MODEL_FOLDER IDS [threads [repeats "
                        "[decode_tokens [LOGITS]]]]\n");
        return 2;
    }
    int n, threads = argc > 3 ? atoi(argv[3]) : 0, repeats = argc > 4 ? atoi(argv[4]) : 3,
           steps = argc > 5 ? atoi(argv[5]) : 0;
    int32_t *ids = read_ids(argv[2], &n), next;
    repeats = repeats < 1 ? 1 : repeats > MOST ? MOST : repeats;
    steps = steps < 0 ? 0 : steps > MOST ? MOST : steps;
    struct sw_backend *be;
    struct sw_model *model;
    struct sw_pass *pass;
    need(sw_backend_open("cpu", threads, &be));
    need(sw_model_open(argv[1], be, &model));
    struct sw_sparse dense = {.backend = be, .shape = sw_model_config(model)->shape};
    need(sw_pass_open(model, 1, n + steps, n, sw_sparse_in_place(&dense, n), &pass));
    double prefill[MOST], decode[MOST];
    run(pass, &dense, ids, n < WARM_UP ? n : WARM_UP, &next);
    for (int r = 0; r < repeats; r++) {
        sw_pass_reset(pass, 0);
        prefill[r] = run(pass, &dense, ids, n, &next);
    }
    print_times("prefill", n, prefill, repeats);
    if (argc > 6) {
        int vocab = sw_model_config(model)->vocab;
        float *logits = need_memory(malloc((size_t)vocab * sizeof *logits));
        need(sw_pass_logits(pass, n - 1, logits));
        FILE *f = fopen(argv[6], "wb");
        if (!f || fwrite(logits, sizeof *logits, (size_t)vocab, f) != (size_t)vocab ||
            fclose(f) != 0) {
            fprintf(stderr, "%s: cannot be written\n", argv[6]);
            return 1;
        }
        free(logits);
    }
    for (int s = 0; s < steps; s++) {
        int32_t id = next;
        decode[s] = run(pass, &dense, &id, 1, &next);
    }
    if (steps)
        print_times("decode", steps, decode, steps);
    sw_sparse_free(&dense);
    sw_pass_close(pass);
    sw_model_close(model);
    sw_backend_close(be);
    free(ids);
    return 0;
}
