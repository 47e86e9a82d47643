/* verdict.h: what a regression gate says about one figure measured twice, and the statistics behind
 * it. All of it is deterministic.
 *
 * Three kinds of figures, three rules. Tolerances are absolute below 1 and relative above.
 *
 * Paired (nll, accuracy): both sides have a value for each of the same n windows or prompts. Same
 * code on the same kind of machine gives the same bits, so a mean that moved has moved; whether it
 * would on other prompts too is what the test asks. With d[i] = new[i] - base[i]:
 *   p = share of the 2^n sign patterns s with |mean of s[i]·d[i]| >= |mean of d| (Fisher's
 *   randomisation test, two-sided). Zero differences do not
 *   matter; up to 20 others are enumerated, beyond that 100,000 patterns are drawn and p = (hits +
 *   1) / (draws + 1).
 *   all |d[i]| within tolerance: same; mean worse or better by more than the allowance, or p
 *   (corrected) < 0.01: worse, better; else ambiguous.
 * Exact (densities, recall, output error): no chance in them. Overall value, layers and heads are
 * compared one by one against a tolerance;
 *   density has no better direction: any change is worse. Layers that moved under an unchanged mean
 *   are worse: the selection is another one.
 * Timed: raw samples. L = log of the ratio of medians, for times relative to dense (log (new/new
 * dense) - log (base/base dense)) or absolute.
 *   se² = bootstrap variance of L + noise²; z = L / se, p = erfc(|z|/√2). |L| within log(slowdown):
 *   same; beyond it and p (corrected) < 0.01:
 *   worse, better; else ambiguous. Times with fewer than 5 samples on any side are shown, not
 *   judged.
 *   noise: samples of one cell come from one moment, and say nothing of how a machine drifts
 *   between cells. All relative times of a comparison
 *   together do: 1.4826 · median |L - median L| (a robust standard deviation, blind to a change
 *   that most cells do not share), times √2 for the
 *   drift of dense, which is shared; at least 2 %, or 4 % where fewer than 4 times are there to
 *   tell. Noise above half of log(slowdown) has tails that no normal distribution tells, and a
 *   change of that size could not be seen: then nothing is more than ambiguous.
 *
 * p values of a comparison are corrected together by Holm's step-down rule (Holm 1979): the chance
 * of any false alarm is at most 1 %, however many cells and metrics. */
#ifndef SW_VERDICT_H
#define SW_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/interval.h"
#include "core/status.h"

enum sw_verdict {
    SW_VERDICT_SAME,
    SW_VERDICT_BETTER,
    SW_VERDICT_WORSE,
    SW_VERDICT_AMBIGUOUS,
    SW_VERDICT_INCOMPARABLE,
    SW_VERDICTS
};
extern const char *const sw_verdict_names[]; /* same, better, worse, ambiguous, not comparable */

#define SW_VERDICT_ALPHA 0.01

/* Two-sided p of the sign-flip test on n differences; 1 when all are zero or n is 0. SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_sign_flip(const double *d, int n, uint64_t seed, double *p);

/* Holm's adjusted p values in place; NaN: not a test, left alone. SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_holm(double *p, int n);

/* The noise of relative times (as above) from the n log ratios of a comparison; NaN ones do not
 * count. SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_timing_noise(const double *log_ratio, int n, double *noise);

/* change: mean of new - base. better: +1 higher, -1 lower is better. p: corrected. moved: some
 * |d[i]| is beyond the tolerance.
 * allowance >= 0, in the figure's unit. */
enum sw_verdict sw_verdict_paired(double change, bool moved, int better, double allowance,
                                  double p);

/* Entries that differ by more than tolerance · max(1, |base|); NaN equals NaN only. */
int sw_differing(const double *base, const double *now, int n, double tolerance);
/* change: overall value, new - base; differing: entries of overall value, layers and heads that
 * differ. better 0: any change is worse. */
enum sw_verdict sw_verdict_exact(double change, int differing, int better, double tolerance);

/* Whether a machine with this noise can tell a change by `slowdown`. */
bool sw_timing_tells(double noise, double slowdown);
/* slowdown > 1; p: corrected; NaN: no test, at most ambiguous. */
enum sw_verdict sw_verdict_timed(double log_ratio, double slowdown, double noise, double p);

/* Bytes: more than 2 % apart. */
enum sw_verdict sw_verdict_memory(double base, double now);

#endif
