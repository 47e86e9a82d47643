/* memory.c: memory of a backend, and the conversion of values on their way in and out. */
#include "tests/kernels/cases.h"

static bool on_cpu(const struct sw_backend *be) { return strcmp(be->name, "cpu") == 0; }

static void make(struct sw_case *c) { (void)c; }

/* --- allocation ------------------------------------------------------------------------------- */

enum { SMALL = 1000 };
static const size_t BIG = (size_t)64 << 20;

static void check_peak(struct sw_backend *be)
{
    void *a, *b;
    (void)be->peak_bytes(be, true);
    size_t used = be->peak_bytes(be, false), most = on_cpu(be) ? SMALL + BIG : BIG * 5 / 4;
    sw_must(be->alloc(be, SMALL, &a), "alloc");
    sw_must(be->alloc(be, BIG, &b), "alloc");
    sw_holds((uintptr_t)a % 64 == 0 && (uintptr_t)b % 64 == 0, "not aligned to 64 bytes");
    be->free(be, b);
    be->free(be, NULL);
    size_t peak = be->peak_bytes(be, true) - used;
    sw_holds(peak >= SMALL + BIG && peak <= most, "peak of %zu bytes, expected %zu to %zu", peak,
             SMALL + BIG, most);
    sw_holds(be->peak_bytes(be, false) < used + peak, "the peak is not reset");
    sw_holds(!on_cpu(be) || be->peak_bytes(be, false) == used + SMALL, "not what is in use");
    be->free(be, a);
    sw_must(be->alloc(be, 0, &a), "alloc of nothing");
    be->free(be, a);
    size_t least = on_cpu(be) ? (size_t)1 << 20 : (size_t)1 << 28;
    sw_holds(be->free_bytes(be) > least, "only %zu bytes free", be->free_bytes(be));
}

/* More than there is: the message says what was asked and what is free, and all goes on. */
static void check_too_much(struct sw_backend *be)
{
    static const size_t huge[] = {(size_t)1 << 50, (size_t)1 << 42, SIZE_MAX / 2, SIZE_MAX - 63,
                                  SIZE_MAX};
    for (int i = 0; i < (on_cpu(be) ? 5 : 2); i++) {
        if (on_cpu(be) && huge[i] == (size_t)1 << 42)
            continue; /* an overcommitting host may grant it */
        void *p = &p;
        enum sw_status st = be->alloc(be, huge[i], &p);
        char bytes[32];
        snprintf(bytes, sizeof bytes, "%zu", huge[i]);
        sw_holds(st == SW_ENOMEM && p == NULL && strstr(sw_error_message(), "asked") &&
                     strstr(sw_error_message(), "free") && strstr(sw_error_message(), bytes),
                 "alloc of %zu: '%s', %s", huge[i], sw_status_name(st), sw_error_message());
        sw_error_clear();
    }
}

static enum sw_status run_memory(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    (void)c;
    (void)at;
    check_peak(be);
    check_too_much(be);
    char text[2][SMALL];
    void *a, *b;
    SW_TRY(be->alloc(be, SMALL, &a));
    SW_TRY(be->alloc(be, SMALL, &b));
    memset(text[0], 1, SMALL);
    SW_TRY(be->upload(be, a, text[0], SMALL));
    SW_TRY(be->copy(be, b, a, SMALL));
    SW_TRY(be->zero(be, a, SMALL));
    SW_TRY(be->download(be, text[0], a, SMALL));
    SW_TRY(be->download(be, text[1], b, SMALL));
    int wrong = 0;
    for (int i = 0; i < SMALL; i++)
        wrong += text[0][i] != 0 || text[1][i] != 1;
    sw_holds(wrong == 0, "zero and copy: %d bytes are wrong", wrong);
    be->free(be, a);
    be->free(be, b);
    return SW_OK;
}

/* --- conversions ------------------------------------------------------------------------------ */

enum { BITS = 65536 };
enum { FROM_F32, FROM_F16, FROM_BF16, TYPES }; /* a variant */

/* What a half says; NaN for any NaN. */
static double half_value(int bits)
{
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == 31)
        return fraction ? (double)NAN : sign * (double)INFINITY;
    return sign * (exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24));
}

static float bf16_value(int bits)
{
    uint32_t u = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Every half and bf16 there is, and floats of many sizes, in and out again. */
static enum sw_status run_conversions(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    (void)at;
    bool bf16 = be->act == SW_BF16;
    uint16_t *bits = sw_need(BITS * sizeof *bits);
    float *in = sw_need(BITS * sizeof *in), *out = sw_need(BITS * sizeof *out);
    for (int i = 0; i < BITS; i++) {
        bits[i] = (uint16_t)i;
        in[i] = (float)i * (i % 3 ? 0.37f : -1e26f);
    }
    void *p;
    static const enum sw_dtype types[] = {SW_F32, SW_F16, SW_BF16};
    SW_TRY(be->alloc(be, BITS * sizeof(float), &p));
    SW_TRY(
        be->upload_act(be, p, c->variant == FROM_F32 ? (void *)in : bits, types[c->variant], BITS));
    SW_TRY(be->download_act(be, out, p, BITS));
    int wrong = 0, last = 0;
    for (int i = 0; i < BITS; i++) {
        float want = c->variant == FROM_F32   ? in[i]
                     : c->variant == FROM_F16 ? (float)half_value(i)
                                              : bf16_value(i);
        if (bf16 && c->variant != FROM_BF16)
            want = sw_bf16_round(want);
        if (isnan(want) ? isnan(out[i]) : out[i] == want && !signbit(out[i]) == !signbit(want))
            continue;
        wrong++;
        last = i;
    }
    sw_holds(wrong == 0, "%d values are wrong; %d (%g) became %g", wrong, last, (double)in[last],
             (double)out[last]);
    be->free(be, p);
    free(bits);
    free(in);
    free(out);
    return SW_OK;
}

struct nothing {
    int unused;
};
static const struct nothing once[] = {{0}};

SW_CASES(memory, .covers = "close alloc free peak_bytes free_bytes upload download copy zero",
         .shapes = SW_SHAPES(once), .make = make, .run = run_memory);
SW_CASES(conversions, .covers = "upload_act download_act", .variants = TYPES,
         .shapes = SW_SHAPES(once), .make = make, .run = run_conversions);
