/* The table of scores, and what all of them do to an answer first. */
#include "core/answers/score.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistr.h>

#include "core/answers/score_pairs.h"
#include "core/answers/score_text.h"

/* --- before scoring --------------------------------------------------------------------------- */

void sw_score_clean(char *s)
{
    for (char *p = s; *p; p++)
        if ((unsigned char)*p < 0x20)
            *p = '\n';
    size_t from = 0, to = strlen(s);
    while (from < to && isspace((unsigned char)s[from]))
        from++;
    while (to > from && isspace((unsigned char)s[to - 1]))
        to--;
    memmove(s, s + from, to - from);
    s[to - from] = '\0';
}

void sw_score_first_line(char *s)
{
    size_t from = strspn(s, "\n"), length = strcspn(s + from, "\n");
    memmove(s, s + from, length);
    s[length] = '\0';
}

/* --- RULER ------------------------------------------------------------------------------------ */

/* Whether the reference occurs in the answer, both in lower case. */
static enum sw_status contains(const char *answer, const char *reference,
                               const struct sw_expected *expected, double *score)
{
    (void)expected;
    struct sw_points in = {0}, what = {0};
    enum sw_status st = sw_text_lower(answer, &in);
    if (st == SW_OK)
        st = sw_text_lower(reference, &what);
    if (st == SW_OK)
        *score = u32_strstr(in.at, what.at) != NULL;
    free(in.at);
    free(what.at);
    return st;
}

/* --- the table -------------------------------------------------------------------------------- */

const struct sw_scorer sw_scorers[] = {
    {.name = "all",
     .summary = "RULER: share of the references that the answer contains, in either case",
     .pair = contains,
     .over = SW_SCORE_MEAN,
     .clean = true},
    {.name = "part",
     .summary = "RULER: whether the answer contains any reference, in either case",
     .pair = contains,
     .clean = true},
    {.name = "f1",
     .summary = "LongBench: F1 of the words, without case, punctuation and articles",
     .pair = sw_score_f1},
    {.name = "rouge_l",
     .summary = "LongBench: F of ROUGE-L over sentences (package rouge)",
     .pair = sw_score_rouge_l},
    {.name = "classification",
     .summary = "LongBench: the right label, over the number of labels that the answer names",
     .pair = sw_score_classification,
     .classes = true},
    {.name = "number",
     .summary = "LongBench: share of the numbers in the answer that are the reference",
     .pair = sw_score_number},
    {.name = "retrieval",
     .summary = "LongBench: share of the numbers in the answer that are the reference's paragraph",
     .pair = sw_score_retrieval,
     .usable = sw_score_retrieval_usable,
     .expects = "\"Paragraph\" and a number"},
    {.name = "code",
     .summary = "LongBench: similarity of the first line of code (difflib's ratio, whole per cent)",
     .pair = sw_score_code},
    {.name = "set_f1",
     .summary = "graphwalks: F1 of the set of words and that of all references, as f1 takes words",
     .pair = sw_score_set_f1},
    {.name = NULL},
};

const struct sw_scorer *sw_scorer_find(const char *name)
{
    for (const struct sw_scorer *s = sw_scorers; s->name; s++)
        if (strcmp(s->name, name) == 0)
            return s;
    return NULL;
}

enum sw_status sw_score(const struct sw_scorer *scorer, const char *answer,
                        const struct sw_expected *expected, double *score)
{
    double sum = 0, best = 0;
    *score = 0;
    for (int i = 0; i < expected->n; i++) {
        double one = 0;
        SW_TRY(scorer->pair(answer, expected->references[i], expected, &one));
        sum += one;
        best = one > best ? one : best;
    }
    if (expected->n > 0)
        *score = scorer->over == SW_SCORE_BEST ? 100.0 * best : 100.0 * sum / expected->n;
    return SW_OK;
}
