/* cases.c: makes the inputs of a case, runs it on a backend between guards, and compares. */
#include "tests/kernels/cases.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    GUARD = 1024, /* bytes before and behind each tensor */
    GUARD_BYTE = 0xa5,
    POISON_BYTE = 0xff,   /* NaN in every floating type */
    TILE = (1 << 21) + 7, /* longer inputs repeat so many values: an odd period, so no ties */
    MOST_FAILURES = 200,  /* printed */
    FAILURE_TEXT = 600
};

#define SW_ENTRY(name) &sw_cases_##name,
const struct sw_cases *const sw_all_cases[] = {SW_ALL_CASES(SW_ENTRY) NULL};

int sw_checks, sw_failures;
static char where[100];
static const struct sw_case *current;

/* --- messages --------------------------------------------------------------------------------- */

void sw_say_where(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(where, sizeof where, fmt, ap);
    va_end(ap);
}

const char *sw_case_text(const struct sw_case *c)
{
    static char text[200];
    const int *value = c->shape;
    size_t at = (size_t)snprintf(text, sizeof text, "%s", c->of->name);
    for (const char *name = c->of->fields; name && *name && at < sizeof text;) {
        int length = (int)strcspn(name, " ");
        at += (size_t)snprintf(text + at, sizeof text - at, " %.*s %d", length, name, *value++);
        name += length + (name[length] == ' ');
    }
    if (c->of->variants > 1 && at < sizeof text)
        snprintf(text + at, sizeof text - at, ", variant %d", c->variant);
    return text;
}

void sw_holds_(bool ok, const char *file, int line, const char *fmt, ...)
{
    sw_checks++;
    if (ok || sw_failures++ >= MOST_FAILURES)
        return;
    char text[FAILURE_TEXT];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *name = strrchr(file, '/');
    printf("FAIL %s on %s: %s (%s:%d)\n", current ? sw_case_text(current) : "", where, text,
           name ? name + 1 : file, line);
}

void sw_must(enum sw_status st, const char *what)
{
    if (st == SW_OK)
        return;
    printf("FAIL %s on %s: %s: %s: %s (%s)\n", current ? sw_case_text(current) : "", where, what,
           sw_status_name(st), sw_error_message(), sw_error_place());
    exit(1);
}

void sw_refused_(enum sw_status st, enum sw_status code, const char *file, int line)
{
    sw_holds_(st == code && sw_error_message()[0], file, line, "expected '%s', got '%s' %s",
              sw_status_name(code), sw_status_name(st), sw_error_message());
    sw_error_clear();
}

/* --- values ----------------------------------------------------------------------------------- */

void *sw_need(size_t bytes)
{
    void *p = calloc(bytes ? bytes : 1, 1);
    if (!p) {
        printf("FAIL out of host memory: %zu bytes\n", bytes);
        exit(1);
    }
    return p;
}

float sw_bf16_round(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if (isnan(x))
        return x;
    u = (u + 0x7fffu + ((u >> 16) & 1)) & 0xffff0000u;
    memcpy(&x, &u, sizeof x);
    return x;
}

int sw_int(uint64_t seed, uint64_t index, int lo, int hi)
{
    return lo + (int)(sw_rng_u64(seed, SW_RNG_TEST, index) % (uint64_t)(hi - lo + 1));
}

int sw_pow2_at_least(int d)
{
    int p = 1;
    while (p < d)
        p *= 2;
    return p;
}

static const size_t element_size[] = {
    [SW_ACTS] = 4, [SW_FLOATS] = 4,      [SW_BYTES] = 1,     [SW_WORDS] = 8, [SW_INTS] = 4,
    [SW_HOST] = 1, [SW_HOST_FLOATS] = 4, [SW_HOST_INTS] = 4, [SW_LIST] = 0};

static bool on_host(enum sw_kind kind)
{
    return kind == SW_HOST || kind == SW_HOST_FLOATS || kind == SW_HOST_INTS;
}

static bool is_float(enum sw_kind kind)
{
    return kind == SW_ACTS || kind == SW_FLOATS || kind == SW_HOST_FLOATS;
}

static size_t count_of(const struct sw_tensor *t)
{
    return (size_t)t->of.units * (size_t)t->of.ld_rows * (size_t)t->of.ld;
}

static struct sw_tensor *take(struct sw_case *c, int slot, enum sw_kind kind, size_t count)
{
    struct sw_tensor *t = &c->slot[slot];
    int width = (int)count;
    *t = (struct sw_tensor){.kind = kind, .of = {1, 1, width, 1, width}};
    if (count > INT32_MAX) { /* only timing has such */
        t->of.ld_rows = (int)(count >> 20);
        t->of.ld = 1 << 20;
    }
    t->given = c->use == SW_TIME && kind == SW_ACTS && count > TILE ? TILE : count;
    t->host = sw_need(t->given * element_size[kind]);
    return t;
}

static float *normal(struct sw_case *c, int slot, struct sw_tensor *t)
{
    float *x = t->host;
    for (size_t i = 0; i < t->given; i++)
        x[i] =
            i < TILE ? (float)sw_rng_normal(c->seed + (uint64_t)slot, SW_RNG_TEST, i) : x[i - TILE];
    return x;
}

float *sw_take_acts(struct sw_case *c, int slot, size_t count)
{
    return normal(c, slot, take(c, slot, SW_ACTS, count));
}

float *sw_take_floats(struct sw_case *c, int slot, size_t count)
{
    return normal(c, slot, take(c, slot, SW_FLOATS, count));
}

uint8_t *sw_take_flags(struct sw_case *c, int slot, size_t count, int one_in)
{
    uint8_t *x = take(c, slot, SW_BYTES, count)->host;
    for (size_t i = 0; i < c->slot[slot].given; i++)
        x[i] = sw_int(c->seed + (uint64_t)slot, i, 1, one_in) == 1;
    return x;
}

uint64_t *sw_take_words(struct sw_case *c, int slot, size_t count)
{
    uint64_t *x = take(c, slot, SW_WORDS, count)->host;
    for (size_t i = 0; i < c->slot[slot].given; i++)
        x[i] = sw_rng_u64(c->seed + (uint64_t)slot, SW_RNG_TEST, i);
    return x;
}

void *sw_take_host(struct sw_case *c, int slot, size_t bytes)
{
    return take(c, slot, SW_HOST, bytes)->host;
}

void *sw_take_ints(struct sw_case *c, int slot, size_t count)
{
    return take(c, slot, SW_INTS, count)->host;
}

struct sw_selection *sw_take_list(struct sw_case *c, int slot)
{
    c->slot[slot] = (struct sw_tensor){.kind = SW_LIST};
    return &c->slot[slot].list;
}

void sw_give(struct sw_case *c, int slot, enum sw_kind kind, struct sw_extent of)
{
    c->slot[slot] = (struct sw_tensor){.kind = kind, .written = true, .of = of};
}

void sw_give_list(struct sw_case *c, int slot)
{
    c->slot[slot] = (struct sw_tensor){.kind = SW_LIST, .written = true};
}

void *sw_change(struct sw_case *c, int slot, enum sw_kind kind, struct sw_extent of)
{
    size_t count = (size_t)of.units * (size_t)of.ld_rows * (size_t)of.ld;
    struct sw_tensor *t = take(c, slot, kind, count);
    t->written = true;
    t->of = of;
    return is_float(kind) ? normal(c, slot, t) : t->host;
}

void sw_take_srht(struct sw_case *c, int slot, int d, int r)
{
    int d_pow2 = sw_pow2_at_least(d);
    float *signs = sw_take_floats(c, slot, (size_t)d_pow2);
    int32_t *keep = sw_take_ints(c, slot + 1, (size_t)r);
    for (int i = 0; i < d_pow2; i++)
        signs[i] = signs[i] < 0 ? -1 : 1;
    for (int i = 0; i < r; i++)
        keep[i] = (i * 37 + 11) % d_pow2; /* without repeats: 37 is odd */
}

struct sw_srht sw_srht_at(void *const *at, int slot, int d, int r, float scale)
{
    return (struct sw_srht){.d = d,
                            .d_pow2 = sw_pow2_at_least(d),
                            .r = r,
                            .scale = scale,
                            .signs = at[slot],
                            .keep = at[slot + 1]};
}

struct sw_unit_matrix sw_matrix(const struct sw_case *c, void *const *at, int slot)
{
    struct sw_extent of = c->slot[slot].of;
    return (struct sw_unit_matrix){at[slot], of.units, of.ld_rows, of.ld};
}

struct sw_keep_matrix sw_keep_at(const struct sw_case *c, void *const *at, int slot)
{
    struct sw_extent of = c->slot[slot].of;
    return (struct sw_keep_matrix){at[slot], of.units, of.ld_rows, of.ld};
}

/* --- running ---------------------------------------------------------------------------------- */

static size_t size_in(const struct sw_backend *be, const struct sw_tensor *t)
{
    return count_of(t) * (t->kind == SW_ACTS ? sw_dtype_size(be->act) : element_size[t->kind]);
}

static void *allocate(struct sw_backend *be, const struct sw_tensor *t, size_t bytes)
{
    void *p = NULL;
    if (on_host(t->kind))
        return sw_need(bytes);
    sw_must(be->alloc(be, bytes, &p), "alloc");
    return p;
}

/* A selection of host memory in the backend's, masks too. */
static void upload_list(struct sw_backend *be, const struct sw_selection *host,
                        struct sw_selection *out)
{
    size_t rows = (size_t)host->units * (size_t)host->rows, entries = (size_t)host->indptr[rows],
           lines = (size_t)host->units * (size_t)host->mask_ld;
    const uint64_t *bits = host->keys ? host->keys : host->queries;
    int words = bits ? sw_query_words(host->block) : 0;
    sw_must(sw_selection_reserve(out, be, host->units, host->rows, (int64_t)entries,
                                 host->whole != NULL),
            "sw_selection_reserve");
    if (sw_selection_masked(host))
        sw_must(sw_selection_reserve_masks(out, host->mask_ld, words), "reserve_masks");
    const struct sw_selection memory = *out;
    const void *from[] = {host->indptr,  host->indices, host->whole,
                          host->columns, host->slashes, bits};
    void *to[] = {memory.indptr,  memory.indices, memory.whole,
                  memory.columns, memory.slashes, memory.queries};
    const size_t bytes[] = {(rows + 1) * sizeof(int32_t),
                            entries * sizeof(int32_t),
                            entries,
                            lines,
                            lines,
                            entries * (size_t)words * sizeof(uint64_t)};
    for (int i = 0; i < 6; i++)
        if (from[i])
            sw_must(be->upload(be, to[i], from[i], bytes[i]), "upload");
    *out = *host;
    out->indptr = memory.indptr;
    out->indices = memory.indices;
    out->whole = host->whole ? memory.whole : NULL;
    out->columns = host->columns ? memory.columns : NULL;
    out->slashes = host->slashes ? memory.slashes : NULL;
    out->queries = host->queries ? memory.queries : NULL;
    out->keys = host->keys ? memory.queries : NULL;
    out->capacity = memory.capacity;
    out->rows_capacity = memory.rows_capacity;
    out->masks = memory.masks;
    out->mask_bytes = memory.mask_bytes;
    out->backend = be;
}

static void upload_values(struct sw_backend *be, const struct sw_tensor *t, char *to)
{
    size_t count = count_of(t);
    if (t->hidden && strcmp(be->name, "cpu") == 0) {
        for (size_t i = 0; i < count; i++)
            ((float *)(void *)to)[i] = isnan(((float *)t->host)[i]) ? 0 : ((float *)t->host)[i];
        return;
    }
    for (size_t done = 0, n; done < count; done += n) {
        n = count - done < t->given ? count - done : t->given;
        if (t->kind == SW_ACTS)
            sw_must(be->upload_act(be, to + done * sw_dtype_size(be->act), t->host, SW_F32, n),
                    "upload_act");
        else if (on_host(t->kind))
            memcpy(to + done * element_size[t->kind], t->host, n * element_size[t->kind]);
        else
            sw_must(be->upload(be, to + done * element_size[t->kind], t->host,
                               n * element_size[t->kind]),
                    "upload");
    }
}

void sw_memory_make(struct sw_memory *m, const struct sw_case *c, struct sw_backend *be)
{
    *m = (struct sw_memory){.be = be};
    for (int s = 0; s < SW_SLOTS; s++) {
        const struct sw_tensor *t = &c->slot[s];
        if (t->kind == SW_NONE)
            continue;
        if (t->kind == SW_LIST) {
            if (!t->written)
                upload_list(be, &t->list, &m->list[s]);
            m->at[s] = &m->list[s];
            continue;
        }
        size_t bytes = size_in(be, t), all = bytes + 2 * GUARD;
        m->whole[s] = allocate(be, t, all);
        m->at[s] = (char *)m->whole[s] + GUARD;
        unsigned char *image = sw_need(all);
        memset(image, GUARD_BYTE, all);
        memset(image + GUARD, POISON_BYTE, bytes);
        if (on_host(t->kind))
            memcpy(m->whole[s], image, all);
        else
            sw_must(be->upload(be, m->whole[s], image, all), "upload");
        free(image);
        if (t->host)
            upload_values(be, t, m->at[s]);
    }
}

void sw_memory_free(struct sw_memory *m, const struct sw_case *c)
{
    for (int s = 0; s < SW_SLOTS; s++) {
        if (on_host(c->slot[s].kind))
            free(m->whole[s]);
        else
            m->be->free(m->be, m->whole[s]);
        sw_selection_free(&m->list[s]);
    }
}

void *sw_memory_fetch(const struct sw_memory *m, const struct sw_case *c, int s)
{
    struct sw_backend *be = m->be;
    const struct sw_tensor *t = &c->slot[s];
    size_t bytes = size_in(be, t), all = bytes + 2 * GUARD, count = count_of(t), touched = 0;
    unsigned char *image = sw_need(all), *values = sw_need(count * element_size[t->kind]);
    if (on_host(t->kind))
        memcpy(image, m->whole[s], all);
    else
        sw_must(be->download(be, image, m->whole[s], all), "download");
    for (size_t i = 0; i < GUARD; i++)
        touched += (image[i] != GUARD_BYTE) + (image[GUARD + bytes + i] != GUARD_BYTE);
    sw_holds(touched == 0, "output %d: %zu bytes outside it were written", s, touched);
    if (t->kind == SW_ACTS)
        sw_must(be->download_act(be, (float *)(void *)values, m->at[s], count), "download_act");
    else
        memcpy(values, image + GUARD, bytes);
    free(image);
    return values;
}

struct sw_result sw_case_run(struct sw_case *c, struct sw_backend *be)
{
    struct sw_memory m;
    struct sw_result r = {0};
    current = c;
    sw_memory_make(&m, c, be);
    enum sw_status st = c->of->run(c, be, m.at);
    if (st != SW_OK) {
        sw_holds(st == SW_EUNSUPPORTED && c->refused && strcmp(be->name, "cpu") != 0, "%s: %s (%s)",
                 sw_status_name(st), sw_error_message(), sw_error_place());
        sw_error_clear();
        sw_memory_free(&m, c);
        r.none = true;
        return r;
    }
    for (int s = 0; s < SW_SLOTS; s++) {
        if (!c->slot[s].written)
            continue;
        if (c->slot[s].kind != SW_LIST) {
            r.of[s] = sw_memory_fetch(&m, c, s);
            continue;
        }
        sw_must(sw_selection_to_host(&m.list[s], &r.list[s]), "sw_selection_to_host");
        sw_must(sw_selection_validate(&r.list[s]), "sw_selection_validate");
    }
    sw_memory_free(&m, c);
    return r;
}

void sw_result_free(struct sw_result *r)
{
    for (int s = 0; s < SW_SLOTS; s++) {
        free(r->of[s]);
        sw_selection_free(&r->list[s]);
    }
}

/* --- comparing -------------------------------------------------------------------------------- */

void sw_want(struct sw_case *c, int slot, int unit, int row, int col, double want, double allowed)
{
    struct sw_tensor *t = &c->slot[slot];
    size_t at = ((size_t)unit * (size_t)t->of.rows + (size_t)row) * (size_t)t->of.cols;
    t->expected[at + (size_t)col] = (struct sw_expected){want, allowed};
}

/* A value of any kind; poison is NaN. */
static double value_at(const struct sw_tensor *t, const void *values, size_t i)
{
    switch (t->kind) {
    case SW_BYTES:
        return ((const uint8_t *)values)[i];
    case SW_WORDS:
        return (double)((const uint64_t *)values)[i];
    case SW_INTS:
    case SW_HOST_INTS:
        return ((const int32_t *)values)[i];
    default:
        return (double)((const float *)values)[i];
    }
}

static bool poisoned(const struct sw_tensor *t, const void *values, size_t i)
{
    size_t size = element_size[t->kind];
    const unsigned char *x = (const unsigned char *)values + i * size;
    if (is_float(t->kind))
        return isnan(((const float *)values)[i]);
    for (size_t b = 0; b < size; b++)
        if (x[b] != POISON_BYTE)
            return false;
    return true;
}

/* As it was before the run: poison, or what it began with. */
static bool untouched(const struct sw_tensor *t, const void *values, size_t i)
{
    size_t size = element_size[t->kind];
    if (t->host)
        return memcmp((const char *)values + i * size, (const char *)t->host + i * size, size) == 0;
    return poisoned(t, values, i);
}

static bool in_use(const struct sw_tensor *t, size_t i)
{
    size_t ld = (size_t)t->of.ld, row = i / ld % (size_t)t->of.ld_rows;
    return row < (size_t)t->of.rows && i % ld < (size_t)t->of.cols;
}

static const char *place(const struct sw_tensor *t, int slot, size_t i)
{
    static char text[80];
    size_t ld = (size_t)t->of.ld, ld_rows = (size_t)t->of.ld_rows;
    snprintf(text, sizeof text, "output %d [%zu, %zu, %zu]", slot, i / (ld * ld_rows),
             i / ld % ld_rows, i % ld);
    return text;
}

static void check_outside(const struct sw_tensor *t, const void *values, int slot)
{
    size_t count = count_of(t), bad = 0, first = 0;
    for (size_t i = 0; !t->loose && i < count; i++)
        if (!in_use(t, i) && !untouched(t, values, i) && bad++ == 0)
            first = i;
    sw_holds(bad == 0, "%s and %zu more were written, outside what is in use",
             place(t, slot, first), bad - 1);
}

void sw_compare_expected(const struct sw_case *c, const struct sw_result *got)
{
    for (int s = 0; s < SW_SLOTS; s++) {
        const struct sw_tensor *t = &c->slot[s];
        if (!t->written || t->kind == SW_LIST)
            continue;
        check_outside(t, got->of[s], s);
        size_t count = t->expected ? count_of(t) : 0, bad = 0, first = 0;
        struct sw_expected should = {0}, e = {0};
        for (size_t i = 0, k = 0; i < count; i++) {
            if (!in_use(t, i))
                continue;
            e = t->expected[k++];
            bool good = isinf(e.allowed) ? true
                        : isnan(e.want)  ? poisoned(t, got->of[s], i)
                                         : fabs(value_at(t, got->of[s], i) - e.want) <= e.allowed ||
                                              value_at(t, got->of[s], i) == e.want;
            if (good || bad++)
                continue;
            first = i;
            should = e;
        }
        sw_holds(bad == 0, "%s is %.9g, should be %.9g within %.2g; %zu more are wrong",
                 place(t, s, first), bad ? value_at(t, got->of[s], first) : 0, should.want,
                 should.allowed, bad - 1);
    }
}

void sw_same_lists(const char *what, const struct sw_selection *x, const struct sw_selection *y)
{
    size_t rows = (size_t)x->units * (size_t)x->rows;
    bool same = x->units == y->units && x->rows == y->rows && x->row0 == y->row0 &&
                x->block == y->block && x->n == y->n && x->n_q == y->n_q &&
                x->window == y->window && x->sink == y->sink && !x->whole == !y->whole &&
                !x->columns == !y->columns && !x->slashes == !y->slashes &&
                !x->queries == !y->queries && !x->keys == !y->keys && x->mask_ld == y->mask_ld &&
                memcmp(x->indptr, y->indptr, (rows + 1) * sizeof *x->indptr) == 0;
    sw_holds(same, "%s: other shape or lengths (%d and %d entries)", what, x->indptr[rows],
             y->indptr[rows]);
    if (!same)
        return;
    size_t entries = (size_t)x->indptr[rows], lines = (size_t)x->units * (size_t)x->mask_ld,
           words = entries * (size_t)sw_query_words(x->block);
    sw_holds(memcmp(x->indices, y->indices, entries * sizeof *x->indices) == 0, "%s: other blocks",
             what);
    sw_holds(!x->whole || memcmp(x->whole, y->whole, entries) == 0, "%s: other whole flags", what);
    sw_holds((!x->columns || memcmp(x->columns, y->columns, lines) == 0) &&
                 (!x->slashes || memcmp(x->slashes, y->slashes, lines) == 0) &&
                 (!x->queries || memcmp(x->queries, y->queries, words * sizeof *x->queries) == 0) &&
                 (!x->keys || memcmp(x->keys, y->keys, words * sizeof *x->keys) == 0),
             "%s: other masks", what);
}

void sw_compare_bits(const struct sw_case *c, const struct sw_result *x, const struct sw_result *y)
{
    for (int s = 0; s < SW_SLOTS; s++) {
        const struct sw_tensor *t = &c->slot[s];
        if (!t->written)
            continue;
        if (t->kind == SW_LIST) {
            sw_same_lists("lists", &x->list[s], &y->list[s]);
            continue;
        }
        size_t size = element_size[t->kind], count = count_of(t), bad = 0, first = 0;
        for (size_t i = 0; i < count; i++)
            if (memcmp((char *)x->of[s] + i * size, (char *)y->of[s] + i * size, size) != 0 &&
                in_use(t, i) && bad++ == 0)
                first = i;
        sw_holds(bad == 0, "%s is %.9g and %.9g: not the same bits; %zu more", place(t, s, first),
                 value_at(t, x->of[s], first), value_at(t, y->of[s], first), bad - 1);
    }
}

static double largest(const struct sw_tensor *t, const void *values, size_t from, size_t to)
{
    double top = 0;
    for (size_t i = from; i < to; i++)
        if (in_use(t, i) && fabs(value_at(t, values, i)) > top)
            top = fabs(value_at(t, values, i));
    return top;
}

/* How much of what is allowed the difference of two values is: above 1 is too much. */
static double share_of_allowed(const struct sw_tensor *t, const void *cpu, const void *cuda,
                               size_t i, double allowed)
{
    if (poisoned(t, cpu, i) && !t->host)
        return poisoned(t, cuda, i) ? 0 : INFINITY;
    double x = value_at(t, cpu, i), y = value_at(t, cuda, i),
           share = fabs(x - y) / (allowed + 1e-30);
    size_t size = element_size[t->kind];
    if (x == y || memcmp((const char *)cpu + i * size, (const char *)cuda + i * size, size) == 0)
        return 0;
    return isnan(share) ? INFINITY : share;
}

static void compare_bound(const struct sw_tensor *t, int slot, struct sw_bound bound,
                          const void *cpu, const void *cuda)
{
    size_t count = count_of(t), ld = (size_t)t->of.ld, at = 0;
    double top = largest(t, cpu, 0, count), row = top, worst = 0;
    for (size_t i = 0; i < count; i++) {
        if (bound.rule == SW_OF_ROW && i % ld == 0)
            row = largest(t, cpu, i, i + ld);
        if (!in_use(t, i))
            continue;
        double size = bound.size, x = fabs(value_at(t, cpu, i)),
               allowed = bound.rule == SW_ABSOLUTE     ? size
                         : bound.rule == SW_OF_LARGEST ? size * top
                         : bound.rule == SW_OF_ROW     ? size * row
                         : bound.rule == SW_ROUNDINGS  ? size * (x / 256 + top * 1e-6) + bound.slack
                                                       : 0;
        double share = share_of_allowed(t, cpu, cuda, i, allowed);
        if (share > worst) {
            worst = share;
            at = i;
        }
    }
    sw_holds(worst <= 1, "%s is %.9g, the CPU's %.9g: %.3g of the allowed difference",
             place(t, slot, at), value_at(t, cuda, at), value_at(t, cpu, at), worst);
}

void sw_compare_bounds(const struct sw_case *c, const struct sw_result *cpu,
                       const struct sw_result *cuda)
{
    for (int s = 0; s < SW_SLOTS; s++) {
        const struct sw_tensor *t = &c->slot[s];
        if (!t->written || c->cuda[s].rule == SW_ANY)
            continue;
        if (t->kind == SW_LIST) {
            sw_same_lists("lists", &cpu->list[s], &cuda->list[s]);
            continue;
        }
        check_outside(t, cuda->of[s], s);
        compare_bound(t, s, c->cuda[s], cpu->of[s], cuda->of[s]);
    }
}

/* --- all cases -------------------------------------------------------------------------------- */

static struct {
    enum sw_use use;
    sw_case_do *with;
    uint64_t seed;
} now;

static void free_case(struct sw_case *c)
{
    for (int s = 0; s < SW_SLOTS; s++) {
        free(c->slot[s].host);
        free(c->slot[s].expected);
        sw_selection_free(&c->slot[s].list);
    }
    free(c->extra);
    current = NULL;
}

/* Activations as a bf16 backend has them, so that both backends start from the same numbers. */
static void round_acts(struct sw_case *c)
{
    for (int s = 0; s < SW_SLOTS; s++)
        for (size_t i = 0; c->slot[s].kind == SW_ACTS && i < c->slot[s].given; i++)
            ((float *)c->slot[s].host)[i] = sw_bf16_round(((float *)c->slot[s].host)[i]);
}

static void make_room_to_expect(struct sw_case *c)
{
    for (int s = 0; s < SW_SLOTS; s++) {
        struct sw_tensor *t = &c->slot[s];
        size_t count = (size_t)t->of.units * (size_t)t->of.rows * (size_t)t->of.cols;
        if (!t->written || t->kind == SW_LIST)
            continue;
        t->expected = sw_need(count * sizeof *t->expected);
        for (size_t i = 0; i < count; i++)
            t->expected[i].want = NAN;
    }
}

void sw_case_try(const struct sw_cases *of, const void *shape)
{
    for (int v = 0; v < (of->variants ? of->variants : 1); v++) {
        struct sw_case c = {.of = of, .shape = shape, .variant = v, .use = now.use};
        c.seed = now.seed += 100;
        memcpy(c.cuda, of->cuda, sizeof c.cuda);
        current = &c;
        of->make(&c);
        if (c.use == SW_PARITY)
            round_acts(&c);
        if (c.use == SW_CHECK && of->reference) {
            make_room_to_expect(&c);
            of->reference(&c);
        }
        now.with(&c);
        free_case(&c);
    }
}

static void try_table(const struct sw_cases *of, const struct sw_shapes *table)
{
    for (size_t i = 0; i < table->count; i++)
        sw_case_try(of, (const char *)table->first + i * table->size);
}

void sw_cases_each(const struct sw_cases *of, enum sw_use use, bool large, sw_case_do *with)
{
    now.use = use;
    now.with = with;
    now.seed = 1000;
    if (use == SW_TIME) {
        try_table(of, &of->timed);
        return;
    }
    try_table(of, &of->shapes);
    if (large)
        try_table(of, &of->large);
    if (of->each)
        of->each(use, large);
}

const char *sw_cases_title(const struct sw_cases *of)
{
    static char title[100];
    static const char folder[] = "kernels/cases/";
    const char *room = strstr(of->file, folder) + sizeof folder - 1;
    snprintf(title, sizeof title, "%.*s %s", (int)strcspn(room, "."), room, of->name);
    return title;
}

bool sw_cases_match(const struct sw_cases *of, const char *only)
{
    return !only || strstr(sw_cases_title(of), only);
}

/* --- threads ---------------------------------------------------------------------------------- */

enum { THREADS = 8 };
struct share {
    int count, first;
    void (*task)(void *context, int i);
    void *context;
};

static void *run_share(void *arg)
{
    const struct share *s = arg;
    for (int i = s->first; i < s->count; i += THREADS)
        s->task(s->context, i);
    return NULL;
}

void sw_in_parallel(int count, void (*task)(void *context, int i), void *context)
{
    struct share shares[THREADS];
    pthread_t threads[THREADS];
    bool started[THREADS];
    for (int i = 0; i < THREADS; i++) {
        shares[i] = (struct share){count, i, task, context};
        started[i] = pthread_create(&threads[i], NULL, run_share, &shares[i]) == 0;
        if (!started[i])
            run_share(&shares[i]);
    }
    for (int i = 0; i < THREADS; i++)
        if (started[i])
            pthread_join(threads[i], NULL);
}
