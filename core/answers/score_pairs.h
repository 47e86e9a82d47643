/* score_pairs.h: the scores of score.c's table, one answer against one reference, 0 … 1 (see
 * score.h for whose they are). Within core/score*.c. */
#ifndef SW_SCORE_PAIRS_H
#define SW_SCORE_PAIRS_H

#include "core/answers/score.h"

/* F1 of the two multisets of words: 2PR / (P + R), 0 when they share none. */
SW_MUST_CHECK enum sw_status sw_score_f1(const char *answer, const char *reference,
                                         const struct sw_expected *expected, double *score);

/* F1 of two sets of words, the answer's and that of all references together: 2 |common| /
 * (|answer| + |references|). Words as in F1, and without "and". The one reference is not looked
 * at. */
SW_MUST_CHECK enum sw_status sw_score_set_f1(const char *answer, const char *reference,
                                             const struct sw_expected *expected, double *score);

/* ROUGE-L at summary level. */
SW_MUST_CHECK enum sw_status sw_score_rouge_l(const char *answer, const char *reference,
                                              const struct sw_expected *expected, double *score);

/* 1 / labels named by the answer if the right one is among them; a label inside the right one does
 * not count. */
SW_MUST_CHECK enum sw_status sw_score_classification(const char *answer, const char *reference,
                                                     const struct sw_expected *expected,
                                                     double *score);

/* Of the runs of digits in the answer, the share that reads like the reference, or like N of its
 * first "Paragraph N". */
SW_MUST_CHECK enum sw_status sw_score_number(const char *answer, const char *reference,
                                             const struct sw_expected *expected, double *score);
SW_MUST_CHECK enum sw_status sw_score_retrieval(const char *answer, const char *reference,
                                                const struct sw_expected *expected, double *score);
bool sw_score_retrieval_usable(const char *reference);

/* The first line of the answer that is no comment or fence against the reference. */
SW_MUST_CHECK enum sw_status sw_score_code(const char *answer, const char *reference,
                                           const struct sw_expected *expected, double *score);

#endif
