/* memory.c: host memory with a count of what is in use, and conversions from the types that weights
 * come in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu/device/cpu.h"

enum { HEADER = 64, HUGE_PAGE = 2 << 20, BIG = 4 << 20 };

/* Written in front of every allocation. */
struct header {
    size_t bytes;
};

static size_t read_limit(const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return SIZE_MAX;
    unsigned long long v;
    size_t out = fscanf(f, "%llu", &v) == 1 ? (size_t)v : SIZE_MAX;
    fclose(f);
    return out;
}

/* What the kernel thinks can be had, or what is left of the container's limit when that is less. */
size_t sw_cpu_free_bytes(struct sw_backend *be)
{
    (void)be;
    size_t available = SIZE_MAX;
    FILE *f = fopen("/proc/meminfo", "re");
    if (f) {
        char line[128];
        unsigned long long kib;
        while (fgets(line, sizeof line, f))
            if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
                available = (size_t)kib << 10;
        fclose(f);
    }
    size_t limit = read_limit("/sys/fs/cgroup/memory.max"),
           used = read_limit("/sys/fs/cgroup/memory.current");
    if (limit != SIZE_MAX && used != SIZE_MAX) {
        size_t left = limit > used ? limit - used : 0;
        available = left < available ? left : available;
    }
    return available;
}

static void *take(struct sw_backend *be, size_t bytes)
{
    if (bytes > SIZE_MAX / 4)
        return NULL;
    /* malloc promises more than there is; the kernel then kills the process. Ask first where it
     * matters. */
    if (bytes >= BIG && bytes > sw_cpu_free_bytes(be))
        return NULL;
    size_t align = bytes >= BIG ? HUGE_PAGE : 64;
    size_t total = (bytes + HEADER + align - 1) / align * align;
    void *p = aligned_alloc(align, total);
    if (p && bytes >= BIG)
        (void)madvise(p, total, MADV_HUGEPAGE); /* only a hint */
    return p;
}

static enum sw_status no_memory(struct sw_backend *be, size_t bytes)
{
    return SW_FAIL(SW_ENOMEM, "cpu: asked %zu bytes of memory, %zu free", bytes,
                   sw_cpu_free_bytes(be));
}

enum sw_status sw_cpu_alloc(struct sw_backend *be, size_t bytes, void **out)
{
    CPU_NEED(out != NULL);
    struct cpu *c = cpu_of(be);
    *out = NULL;
    unsigned char *p = take(be, bytes);
    if (!p)
        return no_memory(be, bytes);
    ((struct header *)(void *)p)->bytes = bytes;
    c->in_use += bytes;
    if (c->in_use > c->peak)
        c->peak = c->in_use;
    *out = p + HEADER;
    return SW_OK;
}

void sw_cpu_free(struct sw_backend *be, void *p)
{
    if (!p)
        return;
    unsigned char *start = (unsigned char *)p - HEADER;
    cpu_of(be)->in_use -= ((struct header *)(void *)start)->bytes;
    free(start);
}

size_t sw_cpu_peak_bytes(struct sw_backend *be, bool reset)
{
    struct cpu *c = cpu_of(be);
    size_t peak = c->peak;
    if (reset)
        c->peak = c->in_use;
    return peak;
}

enum sw_status sw_cpu_scratch(struct sw_backend *be, size_t bytes, void **out)
{
    struct cpu *c = cpu_of(be);
    if (c->scratch_counted)
        return SW_FAIL(SW_EINTERNAL, "cpu: working memory asked for twice");
    if (c->scratch_bytes < bytes) {
        free(c->scratch);
        c->scratch_bytes = 0;
        c->scratch = take(be, bytes);
        if (!c->scratch)
            return no_memory(be, bytes);
        c->scratch_bytes = bytes;
    }
    c->scratch_counted = bytes;
    c->in_use += bytes;
    if (c->in_use > c->peak)
        c->peak = c->in_use;
    *out = c->scratch;
    return SW_OK;
}

void sw_cpu_scratch_done(struct sw_backend *be)
{
    struct cpu *c = cpu_of(be);
    c->in_use -= c->scratch_counted;
    c->scratch_counted = 0;
}

void sw_cpu_memory_close(struct cpu *c)
{
    free(c->scratch);
    free(c->flush);
}

/* --- copies and conversions ------------------------------------------------------------------- */

enum { SLICE = 1 << 20 }; /* bytes, or elements, a task */

struct move {
    void *dst;
    const void *src;
    size_t count;
    enum sw_dtype from;
};

static void copy_slice(void *ctx, long i, int worker)
{
    (void)worker;
    const struct move *m = ctx;
    size_t at = (size_t)i * SLICE, n = m->count - at < SLICE ? m->count - at : SLICE;
    if (m->src)
        memcpy((char *)m->dst + at, (const char *)m->src + at, n);
    else
        memset((char *)m->dst + at, 0, n);
}

static long slices(size_t count) { return (long)((count + SLICE - 1) / SLICE); }

/* One address space: an upload is a copy, and so is a download. */
enum sw_status sw_cpu_copy(struct sw_backend *be, void *dst, const void *src, size_t bytes)
{
    CPU_NEED(bytes == 0 || (dst && src));
    struct move m = {.dst = dst, .src = src, .count = bytes};
    sw_workers_run(cpu_of(be)->workers, slices(bytes), copy_slice, &m);
    return SW_OK;
}

enum sw_status sw_cpu_upload(struct sw_backend *be, void *dst, const void *src, size_t bytes)
{
    return sw_cpu_copy(be, dst, src, bytes);
}

enum sw_status sw_cpu_download(struct sw_backend *be, void *dst, const void *src, size_t bytes)
{
    return sw_cpu_copy(be, dst, src, bytes);
}

enum sw_status sw_cpu_zero(struct sw_backend *be, void *dst, size_t bytes)
{
    CPU_NEED(bytes == 0 || dst);
    struct move m = {.dst = dst, .count = bytes};
    sw_workers_run(cpu_of(be)->workers, slices(bytes), copy_slice, &m);
    return SW_OK;
}

static inline float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t to_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* IEEE half to single without branches, so that the loop vectorises: normal numbers by rebiasing
 * the exponent with a product, subnormal ones by subtracting the implicit bit; infinities and NaN
 * come out of the product as they should. */
static inline float from_half(uint16_t h)
{
    uint32_t w = (uint32_t)h << 16, sign = w & 0x80000000u, two = w + w;
    float normal = from_bits((two >> 4) + (0xe0u << 23)) * 0x1p-112f;
    float subnormal = from_bits((two >> 17) | (126u << 23)) - 0.5f;
    return from_bits(sign | (two < (1u << 27) ? to_bits(subnormal) : to_bits(normal)));
}

static void convert_slice(void *ctx, long i, int worker)
{
    (void)worker;
    const struct move *m = ctx;
    size_t at = (size_t)i * SLICE, n = m->count - at < SLICE ? m->count - at : SLICE;
    float *restrict to = (float *)m->dst + at;
    /* perhaps not aligned: a mapped file */
    const unsigned char *from = (const unsigned char *)m->src + at * sw_dtype_size(m->from);
    if (m->from == SW_F32) {
        memcpy(to, from, n * sizeof *to);
    } else if (m->from == SW_BF16) {
        for (size_t j = 0; j < n; j++) {
            uint16_t h;
            memcpy(&h, from + 2 * j, 2);
            to[j] = from_bits((uint32_t)h << 16);
        }
    } else {
        for (size_t j = 0; j < n; j++) {
            uint16_t h;
            memcpy(&h, from + 2 * j, 2);
            to[j] = from_half(h);
        }
    }
}

enum sw_status sw_cpu_upload_act(struct sw_backend *be, void *dst, const void *src,
                                 enum sw_dtype from, size_t count)
{
    CPU_NEED(count == 0 || (dst && src));
    CPU_NEED(from == SW_F32 || from == SW_F16 || from == SW_BF16);
    struct move m = {.dst = dst, .src = src, .count = count, .from = from};
    sw_workers_run(cpu_of(be)->workers, slices(count), convert_slice, &m);
    return SW_OK;
}

enum sw_status sw_cpu_download_act(struct sw_backend *be, float *dst, const void *src, size_t count)
{
    return sw_cpu_copy(be, dst, src, count * sizeof *dst);
}
