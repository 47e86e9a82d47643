/* F1 of words, as SQuAD's evaluation introduced it and LongBench uses it; F1 of sets of words. */
#include <stdlib.h>
#include <string.h>
#include <unictype.h>

#include "core/answers/score_pairs.h"
#include "core/answers/score_text.h"

static bool is_ascii_punctuation(uint32_t p)
{
    return p < 0x7f && p > 0x20 && strchr("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", (int)p);
}

/* A letter or number: what a regular expression's \b has on one side (the underscore has gone with
 * the punctuation). */
static bool is_word(uint32_t p)
{
    return uc_is_general_category_withtable(p, UC_CATEGORY_MASK_L | UC_CATEGORY_MASK_N);
}

static bool is_article(const uint32_t *at, size_t n)
{
    return (n == 1 && at[0] == 'a') || (n == 2 && at[0] == 'a' && at[1] == 'n') ||
           (n == 3 && at[0] == 't' && at[1] == 'h' && at[2] == 'e');
}

/* In place: punctuation goes, then each a, an and the becomes a blank. A combining accent ends a
 * word, so that "a" with one is an article too. */
static void normalise(struct sw_points *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->n; i++)
        if (!is_ascii_punctuation(text->at[i]))
            text->at[n++] = text->at[i];
    text->n = 0;
    for (size_t i = 0; i < n;) {
        size_t from = i;
        while (i < n && is_word(text->at[i]))
            i++;
        bool article = is_article(text->at + from, i - from);
        if (i == from)
            i++;
        if (article)
            text->at[text->n++] = ' ';
        for (size_t k = from; k < i && !article; k++)
            text->at[text->n++] = text->at[k];
    }
}

static enum sw_status words_of(const char *text, struct sw_points *points, struct sw_words *words)
{
    SW_TRY(sw_text_lower(text, points));
    normalise(points);
    return sw_words_split(words, points->at, points->n);
}

/* How many words of the two can be paired with an equal one. */
static enum sw_status count_common(struct sw_words *a, struct sw_words *b, long *common)
{
    int distinct;
    SW_TRY(sw_words_number(a, b, &distinct));
    long *spare = calloc((size_t)distinct + 1, sizeof *spare);
    if (!spare)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d words)", distinct);
    *common = 0;
    for (size_t i = 0; i < a->n; i++)
        spare[a->items[i].number]++;
    for (size_t i = 0; i < b->n; i++)
        *common += spare[b->items[i].number]-- > 0;
    free(spare);
    return SW_OK;
}

enum sw_status sw_score_f1(const char *answer, const char *reference,
                           const struct sw_expected *expected, double *score)
{
    (void)expected;
    struct sw_points texts[2] = {{0}, {0}};
    struct sw_words said = {0}, wanted = {0};
    long common = 0;
    enum sw_status st = words_of(answer, &texts[0], &said);
    if (st == SW_OK)
        st = words_of(reference, &texts[1], &wanted);
    if (st == SW_OK)
        st = count_common(&said, &wanted, &common);
    *score = 0;
    if (st == SW_OK && common > 0) {
        double precision = (double)common / (double)said.n,
               recall = (double)common / (double)wanted.n;
        *score = 2 * precision * recall / (precision + recall);
    }
    free(said.items);
    free(wanted.items);
    free(texts[0].at);
    free(texts[1].at);
    return st;
}

/* --- sets ------------------------------------------------------------------------------------- */

/* All references with blanks between them. free() it. */
static char *join(const struct sw_expected *expected)
{
    size_t length = 1;
    for (int i = 0; i < expected->n; i++)
        length += strlen(expected->references[i]) + 1;
    char *all = malloc(length), *end = all;
    for (int i = 0; all && i < expected->n; i++) {
        end = stpcpy(end, expected->references[i]);
        end = stpcpy(end, " ");
    }
    if (all)
        *end = '\0';
    return all;
}

static bool is_and(const struct sw_word *word)
{
    return word->n == 3 && word->at[0] == 'a' && word->at[1] == 'n' && word->at[2] == 'd';
}

enum { SAID = 1, WANTED = 2, BOTH = 3 };

/* Marks which words a list has; words are numbered. */
static void mark(const struct sw_words *words, char *in, char list)
{
    for (size_t i = 0; i < words->n; i++)
        if (!is_and(&words->items[i]))
            in[words->items[i].number] |= list;
}

static enum sw_status f1_of_sets(struct sw_words *said, struct sw_words *wanted, double *score)
{
    int distinct;
    SW_TRY(sw_words_number(said, wanted, &distinct));
    char *in = calloc((size_t)distinct + 1, 1);
    if (!in)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d words)", distinct);
    mark(said, in, SAID);
    mark(wanted, in, WANTED);
    long sizes = 0, common = 0;
    for (int i = 0; i < distinct; i++) {
        sizes += (in[i] & SAID) != 0;
        sizes += (in[i] & WANTED) != 0;
        common += in[i] == BOTH;
    }
    free(in);
    *score = sizes > 0 ? 2.0 * (double)common / (double)sizes : 0;
    return SW_OK;
}

enum sw_status sw_score_set_f1(const char *answer, const char *reference,
                               const struct sw_expected *expected, double *score)
{
    (void)reference;
    *score = 0;
    char *all = join(expected);
    if (!all)
        return SW_FAIL(SW_ENOMEM, "out of memory (%d references)", expected->n);
    struct sw_points texts[2] = {{0}, {0}};
    struct sw_words said = {0}, wanted = {0};
    enum sw_status st = words_of(answer, &texts[0], &said);
    if (st == SW_OK)
        st = words_of(all, &texts[1], &wanted);
    if (st == SW_OK)
        st = f1_of_sets(&said, &wanted, score);
    free(said.items);
    free(wanted.items);
    free(texts[0].at);
    free(texts[1].at);
    free(all);
    return st;
}
