/* The sanity check across cells: no lists of whole blocks recover more attention mass than the
 * oracle's. */
#include "harness/judge/sanity.h"

#include <string.h>

#include "harness/judge/label.h"
#include "harness/judge/same.h"

static const double ROUNDING = 1e-5; /* of mass: sums in another order */

static bool is_mass(const struct sw_tidy_row *row)
{
    return row->layer < 0 && strcmp(row->metric, "mass_recall") == 0 &&
           strcmp(row->status, "ok") == 0 && strcmp(row->budget, "matched") == 0;
}

/* Whether row i's cell keeps single pairs of blocks (token masks), as its block_union_density
 * tells. The oracle is no ceiling then: each query has keys of its own, and what a block kept in
 * part recovers is an estimate, by its share of the pairs. The rows of a cell stand together. */
static bool keeps_pairs(const struct sw_tidy *tidy, int64_t i)
{
    const char *cell = tidy->rows[i].cell;
    while (i > 0 && strcmp(tidy->rows[i - 1].cell, cell) == 0)
        i--;
    for (; i < tidy->count && strcmp(tidy->rows[i].cell, cell) == 0; i++)
        if (strcmp(tidy->rows[i].metric, "block_union_density") == 0)
            return true;
    return false;
}

static void tell(const struct sw_tidy_row *row, const struct sw_tidy_row *oracle, FILE *messages)
{
    char density[SW_DENSITY_TEXT];
    fprintf(messages,
            "sanity check: %s (cell %s) recovers mass %.6f at density %s, more than the oracle's "
            "%.6f (cell %s)\n",
            row->method, row->cell, row->value, sw_density_text(row->density, density),
            oracle->value, oracle->cell);
}

enum sw_status sw_sanity_check(const char *folder, FILE *messages, int *failures)
{
    struct sw_tidy *tidy;
    struct sw_same *same = NULL;
    *failures = 0;
    SW_TRY(sw_tidy_read(folder, &tidy));
    enum sw_status st = sw_same_make(tidy, &same);
    for (int64_t i = 0; i < tidy->count && st == SW_OK; i++) {
        const struct sw_tidy_row *row = &tidy->rows[i],
                                 *oracle = is_mass(row) ? sw_same_oracle(same, row) : NULL;
        if (!oracle || row->value <= oracle->value + ROUNDING || keeps_pairs(tidy, i))
            continue;
        tell(row, oracle, messages);
        (*failures)++;
    }
    sw_same_free(same);
    sw_tidy_free(tidy);
    return st;
}
