/* compare.h: two result folders, cell by cell and figure by figure. verdict.h has the rules; this
 * finds what belongs together.
 *
 * A cell of BASE and one of NEW belong together when sw_same_across_code (same.h) gives them one
 * text. Times are judged relative to a dense cell of their conditions: of those that both sides
 * have the fastest over both, so that neither side chooses.
 * Cells are comparable when inputs (model, dataset) have the same hash and the machine is the same:
 * device, instruction set, BLAS core, threads. With `across_machines` the machine may differ; then
 * selections may differ in near ties of scores that another instruction set rounds otherwise,
 * tolerances are those of compare_figures.c, times are compared relative to dense only, and memory
 * is not. */
#ifndef SW_COMPARE_H
#define SW_COMPARE_H

#include "harness/judge/verdict.h"
#include "harness/store/store.h"

struct sw_compare_rules {
    double accuracy_drop; /* percentage points of accuracy, percent of perplexity */
    double slowdown;      /* ratio > 1 */
    bool absolute_time;   /* times themselves are judged too, not only relative to dense */
    bool across_machines;
};

enum sw_figure_class {
    SW_FIGURE_ACCURACY,
    SW_FIGURE_SELECTION,
    SW_FIGURE_SPEED,
    SW_FIGURE_MEMORY,
    SW_FIGURE_CLASSES
};
extern const char *const sw_figure_class_names[];

/* One metric of a pair of cells. */
struct sw_figure {
    const char *cell, *metric, *unit; /* cell: what the experiment is, in words */
    enum sw_figure_class class;
    double base, now; /* values; times relative to dense: shares of dense's time */
    /* new - base, or new / base for times and memory; 95 % interval, NaN: none */
    double change, lo, hi;
    double p; /* corrected; NaN: no test */
    /* false: shown only (too few samples; absolute times without --absolute-time) */
    bool judged;
    enum sw_verdict verdict;
    const char *note; /* "" or why */
};

/* What keeps a cell from being compared, or what is new. */
enum sw_finding_kind {
    SW_FINDING_FAILED,
    SW_FINDING_MISSING,
    SW_FINDING_INCOMPARABLE,
    SW_FINDING_EXTRA
};
/* failed (worse), missing, not comparable, only in NEW */
extern const char *const sw_finding_names[];
struct sw_finding {
    enum sw_finding_kind kind;
    const char *cell, *text;
};

struct sw_comparison {
    struct sw_figure *figures;
    int n_figures;
    struct sw_finding *findings;
    int n_findings;
    int pairs;      /* cells compared */
    int unjudged;   /* relative times with too few samples */
    bool too_noisy; /* to judge times at this slowdown */
    /* of relative times, as a standard deviation of the log ratio; NaN: none compared */
    double noise;
    int counts[SW_FIGURE_CLASSES][SW_VERDICTS]; /* of judged figures */
    struct sw_texts texts;
};

/* SW_EINPUT: a folder that cannot be read. Zero comparable cells are no error: the findings say
 * why. */
SW_MUST_CHECK enum sw_status sw_compare(const char *base, const char *now,
                                        const struct sw_compare_rules *rules,
                                        struct sw_comparison *out);
void sw_comparison_clear(struct sw_comparison *c);

/* Worst first: worse, not comparable, ambiguous, better, same. */
enum sw_verdict sw_comparison_verdict(const struct sw_comparison *c);

/* compare_print.c: all on standard output. all: every figure, not only those that changed. */
SW_MUST_CHECK enum sw_status sw_comparison_print(const struct sw_comparison *c, const char *format,
                                                 bool all, bool ambiguous_fails);
extern const char *const sw_comparison_formats[]; /* text, json, junit, md */

#endif
