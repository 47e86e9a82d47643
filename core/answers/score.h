/* score.h: scores of generated text, 0 … 100, as the benchmarks publish them: RULER (Hsieh et al.
 * 2024) and LongBench (Bai et al. 2024).
 *
 * LongBench's are those of its metrics.py with the packages that its requirements.txt names (rouge
 * 1.0.1; fuzzywuzzy without the optional python-Levenshtein, that is over Python's difflib);
 * tests/fixtures/scores.jsonl holds what they gave. Texts are UTF-8 and are taken as Python takes
 * them: by code points, its white space, digits and lower case (libunistring has Unicode's
 * tables). */
#ifndef SW_SCORE_H
#define SW_SCORE_H

#include <stdbool.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What an answer is judged by. */
struct sw_expected {
    const char *const *references;
    int n;
    const char *const *classes; /* all labels of the task, for `classification` */
    int n_classes;
};

enum sw_score_over { SW_SCORE_BEST, SW_SCORE_MEAN }; /* of the references */

struct sw_scorer {
    const char *name, *summary;
    /* One answer against one reference: 0 … 1. SW_ENOMEM. */
    enum sw_status (*pair)(const char *answer, const char *reference,
                           const struct sw_expected *expected, double *score);
    enum sw_score_over over;
    bool clean;   /* the prediction goes through sw_score_clean first */
    bool classes; /* needs them */
    /* NULL, or whether an answer can score against it at all */
    bool (*usable)(const char *reference);
    const char *expects; /* of such a reference, in words */
};
extern const struct sw_scorer sw_scorers[];               /* ends with name NULL */
const struct sw_scorer *sw_scorer_find(const char *name); /* NULL when there is none */

/* RULER's post-processing, in place: control characters become newlines, white space at both ends
 * goes. */
void sw_score_clean(char *s);

/* LongBench's for tasks whose answer is a line: newlines in front go, and all from the next one on.
 * In place. */
void sw_score_first_line(char *s);

/* The score of an answer (after the two above, where they apply) over all references, 0 … 100; 0
 * where there are none. */
SW_MUST_CHECK enum sw_status sw_score(const struct sw_scorer *scorer, const char *answer,
                                      const struct sw_expected *expected, double *score);

#ifdef __cplusplus
}
#endif
#endif
