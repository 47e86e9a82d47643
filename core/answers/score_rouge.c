/* ROUGE-L at summary level (Lin 2004), as version 1.0.1 of the package rouge computes it by
 * default:
 *
 * - sentences lie between full stops; one of white space alone counts as having one, empty, word;
 * - for each pair of a reference's and an answer's sentence one longest common subsequence is
 *   taken: read from the ends, equal words pair up, else the reference's word is dropped where that
 *   leaves the longer subsequence, else the answer's;
 * - U is the set of all words in any of them, and with m and n the numbers of different words of
 *   reference and answer
 *   R = |U| / m, P = |U| / n, F = 2PR / (P + R + 1e-8).
 *
 * A text without a sentence scores 0. Where the package reads a subsequence back by recursion and
 * hits Python's limit (two sentences of some thousand words together), LongBench catches that and
 * scores 0; here such sentences are scored like all others. */
#include <stdlib.h>

#include "core/answers/score_pairs.h"
#include "core/answers/score_text.h"

struct sentence {
    size_t from, n;
}; /* of a side's words */

struct side {
    struct sw_points text;
    struct sw_words words;
    struct sentence *sentences;
    size_t n_sentences, longest;
};

static void free_side(struct side *s)
{
    free(s->text.at);
    free(s->words.items);
    free(s->sentences);
}

static enum sw_status read_sentence(struct side *s, size_t from, size_t to)
{
    struct sentence *sentence = &s->sentences[s->n_sentences++];
    sentence->from = s->words.n;
    SW_TRY(sw_words_split(&s->words, s->text.at + from, to - from));
    if (s->words.n == sentence->from)
        SW_TRY(sw_words_add(&s->words, s->text.at, 0));
    sentence->n = s->words.n - sentence->from;
    s->longest = sentence->n > s->longest ? sentence->n : s->longest;
    return SW_OK;
}

static enum sw_status read_side(const char *text, struct side *s)
{
    SW_TRY(sw_utf8_decode(text, &s->text));
    size_t stops = 0;
    for (size_t i = 0; i < s->text.n; i++)
        stops += s->text.at[i] == '.';
    s->sentences = malloc((stops + 1) * sizeof *s->sentences);
    if (!s->sentences)
        return SW_FAIL(SW_ENOMEM, "out of memory (%zu sentences)", stops + 1);
    for (size_t i = 0, from = 0; i <= s->text.n; i++)
        if (i == s->text.n || s->text.at[i] == '.') {
            if (i > from)
                SW_TRY(read_sentence(s, from, i));
            from = i + 1;
        }
    return SW_OK;
}

/* What is needed for subsequences of any two sentences. */
struct tables {
    int *above, *row;     /* lengths [longest of the answer + 1] */
    unsigned char *step;  /* [longest of the reference][longest of the answer] */
    unsigned char *found; /* [distinct words]: in any subsequence */
};

enum { PAIR, DROP_REFERENCE, DROP_ANSWER };

/* Marks the words of the longest common subsequence of x[0…nx) (the reference's) and y[0…ny). */
static void mark_common(const struct sw_word *x, size_t nx, const struct sw_word *y, size_t ny,
                        struct tables *t)
{
    for (size_t j = 0; j <= ny; j++)
        t->row[j] = 0;
    for (size_t i = 0; i < nx; i++) {
        int *swap = t->above;
        t->above = t->row;
        t->row = swap;
        t->row[0] = 0;
        for (size_t j = 0; j < ny; j++) {
            bool equal = x[i].number == y[j].number, up = t->above[j + 1] > t->row[j];
            t->row[j + 1] = equal ? t->above[j] + 1 : up ? t->above[j + 1] : t->row[j];
            t->step[i * ny + j] = equal ? PAIR : up ? DROP_REFERENCE : DROP_ANSWER;
        }
    }
    for (size_t i = nx, j = ny; i > 0 && j > 0;) {
        int step = t->step[(i - 1) * ny + j - 1];
        if (step == PAIR)
            t->found[x[i - 1].number] = 1;
        i -= step != DROP_ANSWER;
        j -= step != DROP_REFERENCE;
    }
}

static enum sw_status make_tables(const struct side *answer, const struct side *reference,
                                  int distinct, struct tables *t)
{
    size_t cells;
    if (!__builtin_mul_overflow(answer->longest, reference->longest, &cells)) {
        t->above = malloc((answer->longest + 1) * sizeof *t->above);
        t->row = malloc((answer->longest + 1) * sizeof *t->row);
        t->step = malloc(cells + 1);
        t->found = calloc((size_t)distinct + 1, 1);
    }
    if (!t->above || !t->row || !t->step || !t->found)
        return SW_FAIL(SW_ENOMEM, "ROUGE-L: out of memory (sentences of %zu and %zu words)",
                       answer->longest, reference->longest);
    return SW_OK;
}

static int count_different(const struct side *s, unsigned char *seen)
{
    int n = 0;
    for (size_t i = 0; i < s->words.n; i++)
        n += seen[s->words.items[i].number] == 0, seen[s->words.items[i].number] = 1;
    for (size_t i = 0; i < s->words.n; i++)
        seen[s->words.items[i].number] = 0;
    return n;
}

static enum sw_status compare(struct side *answer, struct side *reference, double *score)
{
    int distinct;
    struct tables t = {0};
    SW_TRY(sw_words_number(&answer->words, &reference->words, &distinct));
    enum sw_status st = make_tables(answer, reference, distinct, &t);
    if (st == SW_OK) {
        int n = count_different(answer, t.found), m = count_different(reference, t.found),
            common = 0;
        for (size_t r = 0; r < reference->n_sentences; r++)
            for (size_t a = 0; a < answer->n_sentences; a++)
                mark_common(reference->words.items + reference->sentences[r].from,
                            reference->sentences[r].n,
                            answer->words.items + answer->sentences[a].from, answer->sentences[a].n,
                            &t);
        for (int w = 0; w < distinct; w++)
            common += t.found[w];
        double recall = (double)common / m, precision = (double)common / n;
        *score = 2.0 * (precision * recall / (precision + recall + 1e-8));
    }
    free(t.above);
    free(t.row);
    free(t.step);
    free(t.found);
    return st;
}

enum sw_status sw_score_rouge_l(const char *answer, const char *reference,
                                const struct sw_expected *expected, double *score)
{
    (void)expected;
    struct side sides[2] = {{.longest = 0}, {.longest = 0}};
    *score = 0;
    enum sw_status st = read_side(answer, &sides[0]);
    if (st == SW_OK)
        st = read_side(reference, &sides[1]);
    if (st == SW_OK && sides[0].n_sentences > 0 && sides[1].n_sentences > 0)
        st = compare(&sides[0], &sides[1], score);
    free_side(&sides[0]);
    free_side(&sides[1]);
    return st;
}
