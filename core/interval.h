/* interval.h: the statistics behind reported figures. All are deterministic: resampling draws from
 * counters (core/rng.h).
 *
 * Undefined figures (no values, or one value and an interval asked) are NaN. */
#ifndef SW_INTERVAL_H
#define SW_INTERVAL_H

#include <stdint.h>

#include "core/status.h"

struct sw_interval {
    double value, lo, hi;
}; /* 95 % */

double sw_mean(const double *x, int n);

/* Percentile p in [0, 100] by linear interpolation between order statistics. SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_percentile(const double *x, int n, double p, double *out);

/* Median and its standard error, from the order statistics that bound it (McKean & Schrader 1984);
 * below 8 values, where those are too few, 1.2533·s/√n. */
SW_MUST_CHECK enum sw_status sw_median_error(const double *x, int n, double *median, double *error);

/* Mean with its bootstrap percentile interval (2,000 resamples). */
SW_MUST_CHECK enum sw_status sw_interval_mean(const double *x, int n, uint64_t seed,
                                              struct sw_interval *out);

/* Mean of a[i] - b[i], both measured on the same sample i, with the interval of that mean. */
SW_MUST_CHECK enum sw_status sw_interval_paired(const double *a, const double *b, int n,
                                                uint64_t seed, struct sw_interval *out);

/* median(a) / median(b) of independent samples (speed-ups), with its bootstrap interval. */
SW_MUST_CHECK enum sw_status sw_interval_median_ratio(const double *a, int n_a, const double *b,
                                                      int n_b, uint64_t seed,
                                                      struct sw_interval *out);

/* Sum over sets of sign · log median(set): the logarithm of a ratio of medians, or of a ratio of
 * such ratios, of independent samples; with its bootstrap interval and, where error is not NULL,
 * the standard deviation of the bootstrap's estimates. NaN where a set is empty; no interval where
 * one has fewer than two. */
struct sw_sample_set {
    const double *x;
    int n, sign;
};
SW_MUST_CHECK enum sw_status sw_interval_log_medians(const struct sw_sample_set *sets, int n_sets,
                                                     uint64_t seed, struct sw_interval *out,
                                                     double *error);

#endif
