/* backend.c: opening and closing the CPU backend, its table of operations, time stamps and the cold
 * cache.
 *
 * fp32 throughout. Large products are OpenBLAS's, called on one thread each from our own workers:
 * slices have fixed sizes, so that results do not depend on the number of threads. Everything is
 * done when the operation returns. */
#include <cblas.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cpu/device/cpu.h"
#include "kernels/open.h"

enum sw_status sw_cpu_mark(struct sw_backend *be, int slot)
{
    if (slot < 0 || slot >= SW_TIMER_SLOTS)
        return SW_FAIL(SW_EINTERNAL, "mark: slot %d of %d", slot, SW_TIMER_SLOTS);
    clock_gettime(CLOCK_MONOTONIC, &cpu_of(be)->marks[slot]);
    return SW_OK;
}

enum sw_status sw_cpu_elapsed_ms(struct sw_backend *be, int from, int to, double *ms)
{
    if (from < 0 || from >= SW_TIMER_SLOTS || to < 0 || to >= SW_TIMER_SLOTS || !ms)
        return SW_FAIL(SW_EINTERNAL, "elapsed_ms: slots %d and %d of %d", from, to, SW_TIMER_SLOTS);
    const struct timespec *a = &cpu_of(be)->marks[from], *b = &cpu_of(be)->marks[to];
    *ms = (double)(b->tv_sec - a->tv_sec) * 1e3 + (double)(b->tv_nsec - a->tv_nsec) * 1e-6;
    return SW_OK;
}

enum sw_status sw_cpu_sync(struct sw_backend *be)
{
    (void)be;
    return SW_OK;
}

/* --- cold cache ------------------------------------------------------------------------------- */

/* floats a task: less than a private cache, so that every worker reads several */
enum { FLUSH_SLICE = 1 << 16 };

static void read_slice(void *ctx, long i, int worker)
{
    (void)worker;
    const struct cpu *c = ctx;
    const float *p = c->flush + (size_t)i * FLUSH_SLICE;
    volatile float sink;
    for (size_t j = 0; j < FLUSH_SLICE; j += 16)
        sink = p[j];
    (void)sink;
}

enum sw_status sw_cpu_flush_cache(struct sw_backend *be)
{
    struct cpu *c = cpu_of(be);
    if (!c->flush) {
        long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
        size_t bytes = l3 > 0 ? (size_t)l3 * 2 : (size_t)64 << 20;
        if (bytes < (size_t)16 << 20)
            bytes = (size_t)16 << 20;
        if (bytes > (size_t)1 << 30)
            bytes = (size_t)1 << 30;
        c->flush_floats = bytes / sizeof(float) / FLUSH_SLICE * FLUSH_SLICE;
        c->flush = aligned_alloc(64, c->flush_floats * sizeof(float));
        if (!c->flush)
            return SW_FAIL(SW_ENOMEM, "flush_cache: asked %zu bytes, %zu free", bytes,
                           sw_cpu_free_bytes(be));
        /* real pages: untouched ones are all the same page of zeros */
        memset(c->flush, 1, c->flush_floats * sizeof(float));
    }
    sw_workers_run(c->workers, (long)(c->flush_floats / FLUSH_SLICE), read_slice, c);
    return SW_OK;
}

/* --- opening, closing ------------------------------------------------------------------------- */

void sw_cpu_close(struct sw_backend *be)
{
    struct cpu *c = cpu_of(be);
    sw_workers_close(c->workers);
    sw_cpu_memory_close(c);
    free(c);
    free(be);
}

enum { THREADS_MAX = 1024 };

static enum sw_status wanted_threads(int threads, int *out)
{
    const char *env = threads <= 0 ? getenv("SWBENCH_THREADS") : NULL;
    if (env && *env) {
        char *end;
        long value = strtol(env, &end, 10);
        if (*end || value < 0 || value > THREADS_MAX)
            return SW_FAIL(SW_EINPUT, "SWBENCH_THREADS: found '%.60s', expected an integer 0…%d",
                           env, THREADS_MAX);
        threads = (int)value;
    }
    if (threads <= 0) {
        cpu_set_t set;
        threads = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                              : (int)sysconf(_SC_NPROCESSORS_ONLN);
    }
    *out = threads < 1 ? 1 : threads > THREADS_MAX ? THREADS_MAX : threads;
    return SW_OK;
}

static void name_processor(char *out, size_t size)
{
    snprintf(out, size, "unknown processor");
    FILE *f = fopen("/proc/cpuinfo", "re");
    if (!f)
        return;
    char line[256];
    while (fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            colon[strcspn(colon, "\n")] = '\0';
            snprintf(out, size, "%s", colon + 1 + (colon[1] == ' '));
            break;
        }
    }
    fclose(f);
}

/* Of a server's core and memory, sustained; rough, for estimates only. */
static const double FLOPS_A_THREAD = 1.2e11, BYTES_PER_SECOND = 3e10;

static const struct sw_backend table = {
    .name = "cpu",
    .act = SW_F32,
    .rows_alike = SW_FEW_ROWS,
/* What an optional operation does, others do as well: here a call costs little. Recording,
 * likewise. */
#define CPU_REQUIRED(name) .name = sw_cpu_##name,
#define CPU_OPTIONAL(name)
#define CPU_RECORDING(name)
#define SW_OPERATION(need, name, parameters)      CPU_##need(name)
#define SW_FUNCTION(need, type, name, parameters) CPU_##need(name)
#include "core/operations.h"
};

enum sw_status sw_cpu_backend_open(int threads, struct sw_backend **out)
{
    const struct sw_vec *vec = sw_vec_choose();
    if (!vec)
        return SW_FAIL(SW_EINPUT,
                       "SWBENCH_ISA=%s: this processor or build does not have it; expected sse2, "
                       "avx2 or avx512",
                       getenv("SWBENCH_ISA"));
    SW_TRY(wanted_threads(threads, &threads));
    struct sw_backend *be = malloc(sizeof *be);
    struct cpu *c = calloc(1, sizeof *c);
    if (!be || !c) {
        free(be);
        free(c);
        return SW_FAIL(SW_ENOMEM, "no memory for the cpu backend");
    }
    memcpy(be, &table, sizeof table);
    be->impl = c;
    be->threads = threads;
    c->vec = vec;
    enum sw_status st = sw_workers_open(be->threads, &c->workers);
    if (st != SW_OK) {
        free(be);
        free(c);
        return st;
    }
    openblas_set_num_threads(1);
    name_processor(be->device, sizeof be->device);
    be->flops = FLOPS_A_THREAD * be->threads;
    be->bytes_per_second = BYTES_PER_SECOND;
    snprintf(be->variant, sizeof be->variant, "isa=%s blas_core=%s", vec->isa,
             openblas_get_corename());
    snprintf(be->details, sizeof be->details, "isa=%s threads=%d blas=\"%s\" blas_core=%s",
             vec->isa, be->threads, openblas_get_config(), openblas_get_corename());
    *out = be;
    return SW_OK;
}
