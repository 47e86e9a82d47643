/* LongBench's scores of labels and numbers. */
#include <stdlib.h>
#include <string.h>

#include "core/answers/score_pairs.h"
#include "core/answers/score_text.h"

/* --- classification --------------------------------------------------------------------------- */

/* The list of labels is thinned while it is walked through: of two that should go one after the
 * other, the published scorer passes over the second. Scores depend on it, so it is done here
 * too. */
static int drop_inner_labels(const char **labels, int n, const char *right)
{
    for (int i = 0; i < n; i++) {
        if (!strstr(right, labels[i]) || strcmp(labels[i], right) == 0)
            continue;
        int first = 0; /* the first that reads so goes */
        while (strcmp(labels[first], labels[i]) != 0)
            first++;
        memmove(labels + first, labels + first + 1, (size_t)(n - first - 1) * sizeof *labels);
        n--;
    }
    return n;
}

enum sw_status sw_score_classification(const char *answer, const char *reference,
                                       const struct sw_expected *expected, double *score)
{
    const char **named = malloc(((size_t)expected->n_classes + 1) * sizeof *named);
    int n = 0;
    bool right = false;
    *score = 0;
    if (!named)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d labels)", expected->n_classes);
    for (int i = 0; i < expected->n_classes; i++)
        if (strstr(answer, expected->classes[i]))
            named[n++] = expected->classes[i];
    n = drop_inner_labels(named, n, reference);
    for (int i = 0; i < n; i++)
        right |= strcmp(named[i], reference) == 0;
    if (right)
        *score = 1.0 / n;
    free(named);
    return SW_OK;
}

/* --- numbers ---------------------------------------------------------------------------------- */

/* The next run of digits from *at on: its bytes. Moves *at behind it. 0: there is none. */
static size_t next_number(const char **at, const char **number)
{
    uint32_t point;
    size_t length = 0;
    for (const char *s = *at; *s;) {
        int bytes = sw_utf8_next(s, &point);
        bool digit = sw_text_is_digit(point);
        if (digit && length == 0)
            *number = s;
        if (!digit && length > 0)
            break;
        length += digit ? (size_t)bytes : 0;
        s += bytes;
        *at = s;
    }
    return length;
}

static double share_of_numbers(const char *answer, const char *wanted, size_t wanted_length)
{
    const char *number = NULL;
    int right = 0, all = 0;
    for (size_t length; (length = next_number(&answer, &number)) > 0; all++)
        right += length == wanted_length && memcmp(number, wanted, length) == 0;
    return all ? (double)right / all : 0;
}

enum sw_status sw_score_number(const char *answer, const char *reference,
                               const struct sw_expected *expected, double *score)
{
    (void)expected;
    *score = share_of_numbers(answer, reference, strlen(reference));
    return SW_OK;
}

/* N of the first "Paragraph N": its bytes, 0 when there is none. */
static size_t paragraph_of(const char *reference, const char **number)
{
    static const char word[] = "Paragraph ";
    for (const char *at = strstr(reference, word); at; at = strstr(at + 1, word)) {
        const char *from = at + strlen(word);
        size_t length = next_number(&(const char *){from}, number);
        if (length > 0 && *number == from)
            return length;
    }
    return 0;
}

bool sw_score_retrieval_usable(const char *reference)
{
    const char *number;
    return paragraph_of(reference, &number) > 0;
}

enum sw_status sw_score_retrieval(const char *answer, const char *reference,
                                  const struct sw_expected *expected, double *score)
{
    (void)expected;
    const char *number = NULL;
    size_t length = paragraph_of(reference, &number);
    *score = length ? share_of_numbers(answer, number, length) : 0;
    return SW_OK;
}
