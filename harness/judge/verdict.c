/* The rules by which two measurements of one figure are judged, and their statistics. */
#include "harness/judge/verdict.h"

#include <math.h>
#include <stdlib.h>

#include "core/rng.h"

enum { ENUMERATED = 20, DRAWS = 100000, TELLING = 4 };
static const double FLOOR = 0.02, FLOOR_UNTOLD = 0.04, MEMORY_RATIO = 1.02;

const char *const sw_verdict_names[] = {"same",      "better",         "worse",
                                        "ambiguous", "not comparable", NULL};

/* Patterns whose |sum| reaches `least`, all 2^n of them in Gray-code order, where one sign flips at
 * a time. The sum is made anew now and then, so
 * that rounding does not pile up. */
static uint64_t enumerate(const double *d, int n, double least)
{
    uint64_t hits = 0;
    double sum = 0;
    for (uint64_t i = 0; i < (uint64_t)1 << n; i++) {
        uint64_t gray = i ^ (i >> 1);
        if (i % 1024 == 0) {
            sum = 0;
            for (int k = 0; k < n; k++)
                sum += gray >> k & 1 ? -d[k] : d[k];
        } else {
            int k = __builtin_ctzll(i);
            sum += gray >> k & 1 ? -2 * d[k] : 2 * d[k];
        }
        hits += fabs(sum) >= least;
    }
    return hits;
}

static uint64_t draw(const double *d, int n, double least, uint64_t seed)
{
    uint64_t hits = 0;
    for (uint64_t r = 0; r < DRAWS; r++) {
        double sum = 0;
        uint64_t bits = 0;
        for (int k = 0; k < n; k++) {
            if (k % 64 == 0)
                bits = sw_rng_u64(seed, SW_RNG_BOOTSTRAP, r << 32 | (uint64_t)(k / 64));
            sum += bits >> (k % 64) & 1 ? -d[k] : d[k];
        }
        hits += fabs(sum) >= least;
    }
    return hits;
}

enum sw_status sw_sign_flip(const double *d, int n, uint64_t seed, double *p)
{
    *p = 1;
    double *moved = malloc(((size_t)(n > 0 ? n : 0) + 1) * sizeof *moved), sum = 0, size = 0;
    if (!moved)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d differences)", n);
    int m = 0;
    for (int i = 0; i < n; i++) {
        if (d[i] == 0)
            continue;
        moved[m++] = d[i];
        sum += d[i];
        size += fabs(d[i]);
    }
    double least = fabs(sum) - 1e-12 * size; /* sums in another order are the same sums */
    if (m > 0 && m <= ENUMERATED)
        *p = (double)enumerate(moved, m, least) / (double)((uint64_t)1 << m);
    else if (m > 0)
        *p = ((double)draw(moved, m, least, seed) + 1) / (DRAWS + 1);
    free(moved);
    return SW_OK;
}

struct ranked {
    double p;
    int at;
};

static int by_p(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->p != y->p ? (x->p > y->p) - (x->p < y->p) : (x->at > y->at) - (x->at < y->at);
}

enum sw_status sw_holm(double *p, int n)
{
    struct ranked *order = malloc(((size_t)(n > 0 ? n : 0) + 1) * sizeof *order);
    if (!order)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d tests)", n);
    int m = 0;
    for (int i = 0; i < n; i++)
        if (!isnan(p[i]))
            order[m++] = (struct ranked){p[i], i};
    qsort(order, (size_t)m, sizeof *order, by_p);
    double highest = 0;
    for (int i = 0; i < m; i++) {
        double adjusted = fmin(1, (m - i) * order[i].p);
        highest = fmax(highest, adjusted);
        p[order[i].at] = highest;
    }
    free(order);
    return SW_OK;
}

enum sw_status sw_timing_noise(const double *log_ratio, int n, double *noise)
{
    double *x = malloc(((size_t)(n > 0 ? n : 0) + 1) * sizeof *x), centre;
    *noise = FLOOR_UNTOLD;
    if (!x)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d times)", n);
    int m = 0;
    for (int i = 0; i < n; i++)
        if (!isnan(log_ratio[i]))
            x[m++] = log_ratio[i];
    enum sw_status st = SW_OK;
    if (m >= TELLING) {
        st = sw_percentile(x, m, 50, &centre);
        for (int i = 0; i < m; i++)
            x[i] = fabs(x[i] - centre);
        if (st == SW_OK)
            st = sw_percentile(x, m, 50, noise);
        *noise = fmax(FLOOR, sqrt(2) * 1.4826 * *noise);
    }
    free(x);
    return st;
}

enum sw_verdict sw_verdict_paired(double change, bool moved, int better, double allowance, double p)
{
    if (!moved)
        return SW_VERDICT_SAME;
    double gain = better * change;
    if (gain < -allowance || (gain < 0 && p < SW_VERDICT_ALPHA))
        return SW_VERDICT_WORSE;
    if (gain > allowance || (gain > 0 && p < SW_VERDICT_ALPHA))
        return SW_VERDICT_BETTER;
    return SW_VERDICT_AMBIGUOUS;
}

int sw_differing(const double *base, const double *now, int n, double tolerance)
{
    int count = 0;
    for (int i = 0; i < n; i++)
        if (isnan(base[i]) || isnan(now[i]))
            count += isnan(base[i]) != isnan(now[i]);
        else
            count += fabs(now[i] - base[i]) > tolerance * fmax(1, fabs(base[i]));
    return count;
}

enum sw_verdict sw_verdict_exact(double change, int differing, int better, double tolerance)
{
    if (differing == 0)
        return SW_VERDICT_SAME;
    return better * change > tolerance ? SW_VERDICT_BETTER : SW_VERDICT_WORSE;
}

bool sw_timing_tells(double noise, double slowdown) { return noise <= log(slowdown) / 2; }

enum sw_verdict sw_verdict_timed(double log_ratio, double slowdown, double noise, double p)
{
    if (fabs(log_ratio) <= log(slowdown))
        return SW_VERDICT_SAME;
    if (isnan(log_ratio) || !(p < SW_VERDICT_ALPHA) || !sw_timing_tells(noise, slowdown))
        return SW_VERDICT_AMBIGUOUS;
    return log_ratio > 0 ? SW_VERDICT_WORSE : SW_VERDICT_BETTER;
}

enum sw_verdict sw_verdict_memory(double base, double now)
{
    return now > MEMORY_RATIO * base   ? SW_VERDICT_WORSE
           : base > MEMORY_RATIO * now ? SW_VERDICT_BETTER
                                       : SW_VERDICT_SAME;
}
