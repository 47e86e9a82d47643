/* compare_parts.h: what the files of a comparison share. compare_sides.c reads the cells of the two
 * folders and pairs them, compare_figures.c compares the figures of a pair, compare.c goes through
 * the pairs and gives verdicts. */
#ifndef SW_COMPARE_PARTS_H
#define SW_COMPARE_PARTS_H

#include "harness/judge/compare.h"
#include "harness/judge/label.h"
#include "harness/judge/same.h"
#include "harness/store/store.h"

/* --- compare_sides.c: the cells of a folder --------------------------------------------------- */

struct sw_compared_cell {
    const struct sw_tidy_row *row; /* its first */
    int64_t from, to;              /* rows of the tidy table */
    char *experiment;              /* what its partner shares with it (same.h) */
    char *identity, *input;        /* input: hash of the inputs */
    char *kernels;                 /* instruction set and libraries: what rounding depends on */
    const char *label;
    int64_t threads;
    struct sw_compared_cell *partner; /* of the other side */
};

struct sw_compare_side {
    const char *results;
    struct sw_tidy *tidy;
    struct sw_same *same;
    struct sw_compared_cell *cells;
    int n;
    int *cell_of;                            /* [tidy->count]: the cell of a row */
    struct sw_compared_cell **by_experiment; /* [n], sorted */
    struct sw_label *labels;                 /* [n] */
};

SW_MUST_CHECK enum sw_status sw_compare_read_side(const char *results,
                                                  struct sw_compare_side *side);
void sw_compare_clear_side(struct sw_compare_side *side); /* fine on a zeroed one */

/* Gives each cell of BASE its partner in NEW, and the other way round. */
void sw_compare_pair_cells(struct sw_compare_side *base, struct sw_compare_side *now);

/* The cell's row of a metric over all layers, or NULL. */
const struct sw_tidy_row *sw_compare_row(const struct sw_compare_side *side,
                                         const struct sw_compared_cell *cell, const char *metric);

/* --- compare_figures.c: the figures of a pair ------------------------------------------------- */

/* How a metric is compared. */
enum sw_compare_rule { SW_COMPARE_PAIRED, SW_COMPARE_EXACT, SW_COMPARE_TIMED, SW_COMPARE_BYTES };

struct sw_watched {
    const char *metric;
    enum sw_figure_class class;
    enum sw_compare_rule rule;
    double tolerance, across; /* across machines: of the value over all layers */
};

/* A figure before all of them are known: what its verdict will need. */
struct sw_compare_pending {
    const struct sw_watched *what;
    double error; /* bootstrap standard deviation of a timed log ratio; NaN: too few samples */
    double tolerance, allowance;
    int moved, better;
    bool relative;
    bool broken; /* NEW has no number where BASE has one */
};

struct sw_compare_work {
    const struct sw_compare_rules *rules;
    struct sw_compare_side base, now;
    struct sw_compare_pending *pending; /* [n_figures] */
    struct sw_comparison *out;
};

struct sw_compare_pair {
    const struct sw_compared_cell *base, *now;
    struct sw_cell_reader *base_reader, *now_reader;
    bool same_machine; /* times and memory can be compared */
    bool same_kernels; /* the same bits can be expected */
};

/* Adds the figures of a pair of cells that both have results. */
SW_MUST_CHECK enum sw_status sw_compare_figures(struct sw_compare_work *w,
                                                struct sw_compare_pair *pair);

/* A text that lives as long as the comparison; "" when out of memory, which the next allocation
 * reports. */
const char *sw_compare_text(struct sw_compare_work *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
