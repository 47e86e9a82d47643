/* report_cells.h: the cells of a report, in the order in which it shows them; shared by the files
 * that print its parts. */
#ifndef SW_REPORT_CELLS_H
#define SW_REPORT_CELLS_H

#include <stdbool.h>

#include "core/texts.h"
#include "harness/judge/label.h"
#include "harness/judge/same.h"
#include "harness/store/store.h"

/* A cell: rows from … to-1 of the tidy table, the first of which stands for what they share. */
struct sw_report_cell {
    const struct sw_tidy_row *row;
    int64_t from, to;
    const struct sw_label *label;
};

struct sw_report {
    const char *results;
    bool latex;
    struct sw_tidy *tidy;
    struct sw_same *same;
    struct sw_report_cell *cells; /* in reading order */
    int n_cells;
    struct sw_label *labels; /* in the tidy table's order */
    int *cell_of;            /* [tidy->count]: label of the cell that a row belongs to */
    struct sw_texts texts;   /* made on the way, freed at the end */
    enum sw_status status;   /* the first failure: what makes texts does nothing after it */
};

/* sw_report_close also after a failure. SW_EINPUT: no cells. */
SW_MUST_CHECK enum sw_status sw_report_open(const char *results, bool latex, struct sw_report *out);
void sw_report_close(struct sw_report *r);

/* A text that lives as long as the report; "" (and the report's status) when out of memory. */
const char *sw_report_text(struct sw_report *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The label of the cell that a row of the tidy table belongs to. */
const struct sw_label *sw_report_label(const struct sw_report *r, const struct sw_tidy_row *row);

/* A cell's row of a metric over all layers, or NULL. */
const struct sw_tidy_row *sw_report_metric(const struct sw_report *r,
                                           const struct sw_report_cell *cell, const char *name);

bool sw_report_is_ok(const struct sw_report_cell *cell);
bool sw_report_is_dense(const struct sw_report_cell *cell);
/* One table: the same workload, model, phase and context. */
bool sw_report_same_table(const struct sw_report_cell *a, const struct sw_report_cell *b);
/* One line of a table: the same label and density, on whatever task. */
bool sw_report_same_line(const struct sw_report_cell *a, const struct sw_report_cell *b);

/* A line beside the tables; in LaTeX a comment, so that it stays with them and takes no room. */
void sw_report_line(const struct sw_report *r, const char *start, const char *line);
void sw_report_heading(const struct sw_report *r, const char *title);

/* report_tables.c, report_origins.c: the parts, on standard output. */
void sw_report_tables(struct sw_report *r);
void sw_report_missing(struct sw_report *r); /* cells without a result, and why */
void sw_report_origins(struct sw_report *r); /* warnings, provenance */

#endif
