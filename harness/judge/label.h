/* label.h: what a cell is called, decided once for progress lines, tables, comparisons and plots:
 * the shortest words that tell the cells of one set apart.
 *
 * A label starts with what every table shows anyway (model, task, context, phase, method, density).
 * Where two cells of the set share all of that, what they differ in becomes a word:
 *   parameters   one after the other, each only of the cells that the words before it leave
 *                together, those first whose values speak for themselves ("icml"). Beside one that
 *                is not at its default, those that are are left out, and so is what a native budget
 *                sets by itself.
 *   options      (of the workload, the budget, the machine, …) of all cells of a model.
 * Nothing else is said. */
#ifndef SW_LABEL_H
#define SW_LABEL_H

#include "core/status.h"
#include "harness/plan/plan.h"

struct sw_label {
    char *method;  /* "sketchwalk icml B=64": the method and its parameters */
    char *options; /* "layers=6"; "" where nothing else tells cells apart */
    char *name;    /* both: "sketchwalk icml B=64 layers=6" */
    /* "smollm2-135m planted n=1024 prefill sketchwalk icml B=64 density 0.25 layers=6" */
    char *full;
};

/* Labels of n cells from their identities (the JSON of struct sw_cell's `identity`, as stored in
 * /provenance). A text that is no such JSON gives the label "unknown". O(n log n). SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_labels_make(const char *const *identities, int n,
                                            struct sw_label **out);
/* Labels of a plan's cells, in its order. */
SW_MUST_CHECK enum sw_status sw_label_plan(const struct sw_plan *plan, struct sw_label **out);
void sw_labels_free(struct sw_label *labels, int n); /* NULL is fine */

/* "0.25"; "native" for NaN, where a native budget decides. Returns text. */
enum { SW_DENSITY_TEXT = 32 };
const char *sw_density_text(double density, char text[SW_DENSITY_TEXT]);

#endif
