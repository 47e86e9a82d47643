/* Medians and bootstrap intervals; resamples are drawn by counters. */
#include "core/interval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"

enum { RESAMPLES = 2000, FEW = 8 };

double sw_mean(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i];
    return n > 0 ? sum / n : NAN;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double sorted_percentile(const double *x, int n, double p)
{
    if (n <= 0)
        return NAN;
    double at = p / 100 * (n - 1);
    int low = (int)floor(at);
    if (low >= n - 1)
        return x[n - 1];
    return x[low] + (at - low) * (x[low + 1] - x[low]);
}

static double *sorted_copy(const double *x, int n)
{
    double *copy = malloc(((size_t)n + 1) * sizeof *copy);
    if (!copy)
        return NULL;
    memcpy(copy, x, (size_t)n * sizeof *copy);
    qsort(copy, (size_t)n, sizeof *copy, ascending);
    return copy;
}

enum sw_status sw_percentile(const double *x, int n, double p, double *out)
{
    *out = NAN;
    if (n <= 0)
        return SW_OK;
    double *sorted = sorted_copy(x, n);
    if (!sorted)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d samples)", n);
    *out = sorted_percentile(sorted, n, p);
    free(sorted);
    return SW_OK;
}

enum sw_status sw_median_error(const double *x, int n, double *median, double *error)
{
    *median = *error = NAN;
    if (n <= 0)
        return SW_OK;
    double *sorted = sorted_copy(x, n);
    if (!sorted)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d samples)", n);
    *median = sorted_percentile(sorted, n, 50);
    if (n >= FEW) {
        const double z = 2.5758293035489004; /* of 99 % */
        int c = (int)lround((n + 1) / 2.0 - z * sqrt(n / 4.0));
        if (c < 1)
            c = 1;
        *error = (sorted[n - c] - sorted[c - 1]) / (2 * z);
    } else if (n > 1) {
        double mean = sw_mean(x, n), squares = 0;
        for (int i = 0; i < n; i++)
            squares += (x[i] - mean) * (x[i] - mean);
        *error = 1.2533141373155003 * sqrt(squares / (n - 1) / n);
    }
    free(sorted);
    return SW_OK;
}

/* The interval [2.5 %, 97.5 %] of `estimates`, which it sorts. */
static void close_interval(double *estimates, struct sw_interval *out)
{
    qsort(estimates, RESAMPLES, sizeof *estimates, ascending);
    out->lo = sorted_percentile(estimates, RESAMPLES, 2.5);
    out->hi = sorted_percentile(estimates, RESAMPLES, 97.5);
}

/* An index below n from counter (r, i). */
static int draw(uint64_t seed, int r, uint64_t i, int n)
{
    return (int)(sw_rng_uniform(seed, SW_RNG_BOOTSTRAP, (uint64_t)r << 40 | i) * n);
}

enum sw_status sw_interval_mean(const double *x, int n, uint64_t seed, struct sw_interval *out)
{
    *out = (struct sw_interval){sw_mean(x, n), NAN, NAN};
    if (n < 2 || !isfinite(out->value))
        return SW_OK;
    double *means = malloc(RESAMPLES * sizeof *means);
    if (!means)
        return SW_FAIL(SW_ENOMEM, "out of memory (bootstrap of %d samples)", n);
    for (int r = 0; r < RESAMPLES; r++) {
        double sum = 0;
        for (int i = 0; i < n; i++)
            sum += x[draw(seed, r, (uint64_t)i, n)];
        means[r] = sum / n;
    }
    close_interval(means, out);
    free(means);
    return SW_OK;
}

enum sw_status sw_interval_paired(const double *a, const double *b, int n, uint64_t seed,
                                  struct sw_interval *out)
{
    double *difference = malloc(((size_t)(n > 0 ? n : 0) + 1) * sizeof *difference);
    if (!difference)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d paired samples)", n);
    for (int i = 0; i < n; i++)
        difference[i] = a[i] - b[i];
    enum sw_status st = sw_interval_mean(difference, n, seed, out);
    free(difference);
    return st;
}

/* Median of a resample of x, in scratch[n]. */
static double resampled_median(const double *x, int n, uint64_t seed, int r, uint64_t offset,
                               double *scratch)
{
    for (int i = 0; i < n; i++)
        scratch[i] = x[draw(seed, r, offset + (uint64_t)i, n)];
    qsort(scratch, (size_t)n, sizeof *scratch, ascending);
    return sorted_percentile(scratch, n, 50);
}

enum sw_status sw_interval_log_medians(const struct sw_sample_set *sets, int n_sets, uint64_t seed,
                                       struct sw_interval *out, double *error)
{
    *out = (struct sw_interval){0, NAN, NAN};
    if (error)
        *error = NAN;
    int most = 0, least = 2;
    for (int s = 0; s < n_sets; s++) {
        double median;
        SW_TRY(sw_percentile(sets[s].x, sets[s].n, 50, &median));
        out->value += sets[s].sign * log(median);
        most = sets[s].n > most ? sets[s].n : most;
        least = sets[s].n < least ? sets[s].n : least;
    }
    if (least < 2 || !isfinite(out->value))
        return SW_OK;
    double *estimates = malloc(((size_t)RESAMPLES + (size_t)most) * sizeof *estimates),
           *scratch = estimates + RESAMPLES;
    if (!estimates)
        return SW_FAIL(SW_ENOMEM, "out of memory (bootstrap of %d samples)", most);
    double mean = 0, squares = 0;
    for (int r = 0; r < RESAMPLES; r++) {
        estimates[r] = 0;
        for (int s = 0; s < n_sets; s++)
            estimates[r] += sets[s].sign * log(resampled_median(sets[s].x, sets[s].n, seed, r,
                                                                (uint64_t)s << 32, scratch));
        mean += estimates[r] / RESAMPLES;
    }
    for (int r = 0; r < RESAMPLES; r++)
        squares += (estimates[r] - mean) * (estimates[r] - mean);
    if (error)
        *error = sqrt(squares / (RESAMPLES - 1));
    close_interval(estimates, out);
    free(estimates);
    return SW_OK;
}

enum sw_status sw_interval_median_ratio(const double *a, int n_a, const double *b, int n_b,
                                        uint64_t seed, struct sw_interval *out)
{
    const struct sw_sample_set sets[] = {{a, n_a, +1}, {b, n_b, -1}};
    SW_TRY(sw_interval_log_medians(sets, 2, seed, out, NULL));
    *out = (struct sw_interval){exp(out->value), exp(out->lo), exp(out->hi)};
    return SW_OK;
}
