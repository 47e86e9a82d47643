/* Similarity of a line of code, as LongBench has it from fuzzywuzzy's fuzz.ratio.
 *
 * fuzzywuzzy takes Python's difflib unless python-Levenshtein is installed too. LongBench's
 * requirements.txt names fuzzywuzzy alone, so difflib it is (the other gives a different, mostly
 * higher, figure): the ratio is 2M / (length of both), M the characters in matching blocks, found
 * by taking the longest block first, the earliest of equally long ones, and going on at both its
 * sides (Ratcliff and Obershelp). In a reference of 200 characters or more, one that makes up more
 * than 1 % does not start a block; it may extend one. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/answers/score_pairs.h"
#include "core/utf8.h"

/* Where in b each character stands: the positions of each, ascending, one character after the
 * other. */
struct place {
    uint32_t point;
    int at;
};

struct matcher {
    const uint32_t *a, *b;
    struct place *places; /* without the popular ones */
    size_t n_places;
    /* [nb + 1]: of the match that ends at b[j - 1], for this and the last character of a */
    int *length, *above;
    struct range {
        int a0, a1, b0, b1;
    } *todo; /* [min(na, nb) + 2] */
};

static int by_place(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    return a->point != b->point ? (a->point > b->point) - (a->point < b->point)
                                : (a->at > b->at) - (a->at < b->at);
}

static enum sw_status make_matcher(struct matcher *m, const struct sw_points *a,
                                   const struct sw_points *b)
{
    size_t shorter = a->n < b->n ? a->n : b->n, n = 0;
    *m = (struct matcher){.a = a->at, .b = b->at};
    m->places = malloc((b->n + 1) * sizeof *m->places);
    m->length = calloc(b->n + 1, sizeof *m->length);
    m->above = calloc(b->n + 1, sizeof *m->above);
    m->todo = malloc((shorter + 2) * sizeof *m->todo);
    if (!m->places || !m->length || !m->above || !m->todo)
        return SW_FAIL(SW_ENOMEM, "out of memory (lines of %zu and %zu characters)", a->n, b->n);
    for (size_t j = 0; j < b->n; j++)
        m->places[j] = (struct place){b->at[j], (int)j};
    qsort(m->places, b->n, sizeof *m->places, by_place);
    for (size_t from = 0, to; from < b->n; from = to) {
        for (to = from; to < b->n && m->places[to].point == m->places[from].point; to++)
            ;
        if (b->n >= 200 && to - from > b->n / 100 + 1)
            continue;
        memmove(m->places + n, m->places + from, (to - from) * sizeof *m->places);
        n += to - from;
    }
    m->n_places = n;
    return SW_OK;
}

static void free_matcher(struct matcher *m)
{
    free(m->places);
    free(m->length);
    free(m->above);
    free(m->todo);
}

/* The first place of a character, or the end. */
static const struct place *first_place(const struct matcher *m, uint32_t point)
{
    size_t low = 0, high = m->n_places;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (m->places[middle].point < point)
            low = middle + 1;
        else
            high = middle;
    }
    return m->places + low;
}

static void clear_row(const struct matcher *m, uint32_t point, int *row)
{
    for (const struct place *p = first_place(m, point), *end = m->places + m->n_places;
         p < end && p->point == point; p++)
        row[p->at + 1] = 0;
}

struct block {
    int a, b, n;
};

static struct block longest_block(struct matcher *m, const struct range *r)
{
    const struct place *end = m->places + m->n_places;
    struct block best = {r->a0, r->b0, 0};
    for (int i = r->a0; i < r->a1; i++) {
        int *swap = m->above;
        m->above = m->length;
        m->length = swap;
        for (const struct place *p = first_place(m, m->a[i]);
             p < end && p->point == m->a[i] && p->at < r->b1; p++) {
            if (p->at < r->b0)
                continue;
            int n = m->length[p->at + 1] = m->above[p->at] + 1;
            if (n > best.n)
                best = (struct block){i - n + 1, p->at - n + 1, n};
        }
        if (i > r->a0)
            clear_row(m, m->a[i - 1], m->above); /* the next character's */
    }
    if (r->a1 > r->a0)
        clear_row(m, m->a[r->a1 - 1], m->length);
    while (best.a > r->a0 && best.b > r->b0 && m->a[best.a - 1] == m->b[best.b - 1])
        best = (struct block){best.a - 1, best.b - 1, best.n + 1};
    while (best.a + best.n < r->a1 && best.b + best.n < r->b1 &&
           m->a[best.a + best.n] == m->b[best.b + best.n])
        best.n++;
    return best;
}

static long matching(struct matcher *m, int na, int nb)
{
    long sum = 0;
    int n = 0;
    m->todo[n++] = (struct range){0, na, 0, nb};
    while (n > 0) {
        struct range r = m->todo[--n];
        struct block k = longest_block(m, &r);
        sum += k.n;
        if (k.n > 0 && r.a0 < k.a && r.b0 < k.b)
            m->todo[n++] = (struct range){r.a0, k.a, r.b0, k.b};
        if (k.n > 0 && k.a + k.n < r.a1 && k.b + k.n < r.b1)
            m->todo[n++] = (struct range){k.a + k.n, r.a1, k.b + k.n, r.b1};
    }
    return sum;
}

/* fuzz.ratio: whole per cent, halves to even. */
static enum sw_status ratio(const struct sw_points *a, const struct sw_points *b, double *percent)
{
    bool equal = a->n == b->n && memcmp(a->at, b->at, a->n * sizeof *a->at) == 0;
    *percent = equal ? 100 : 0;
    if (equal || a->n == 0 || b->n == 0)
        return SW_OK;
    if (a->n > INT_MAX - 1 || b->n > INT_MAX - 1)
        return SW_FAIL(SW_ENOMEM, "lines of %zu and %zu characters are too long to compare", a->n,
                       b->n);
    struct matcher m;
    enum sw_status st = make_matcher(&m, a, b);
    if (st == SW_OK)
        *percent =
            rint(100 * (2.0 * (double)matching(&m, (int)a->n, (int)b->n) / (double)(a->n + b->n)));
    free_matcher(&m);
    return st;
}

/* The bytes of the first line that holds no `, # or //, newlines in front aside; *n is 0 when there
 * is none. */
static const char *first_code_line(const char *answer, size_t *n)
{
    answer += strspn(answer, "\n");
    for (const char *line = answer;; line += *n + 1) {
        *n = strcspn(line, "\n");
        bool code = true;
        for (size_t i = 0; i < *n; i++)
            code &= line[i] != '`' && line[i] != '#' &&
                    !(line[i] == '/' && i + 1 < *n && line[i + 1] == '/');
        if (code)
            return line;
        if (!line[*n]) {
            *n = 0;
            return line;
        }
    }
}

enum sw_status sw_score_code(const char *answer, const char *reference,
                             const struct sw_expected *expected, double *score)
{
    (void)expected;
    size_t n;
    const char *line = first_code_line(answer, &n);
    char *said = strndup(line, n);
    struct sw_points a = {0}, b = {0};
    double percent = 0;
    enum sw_status st = said ? SW_OK : SW_FAIL(SW_ENOMEM, "out of memory (a line of %zu bytes)", n);
    if (st == SW_OK)
        st = sw_utf8_decode(said, &a);
    if (st == SW_OK)
        st = sw_utf8_decode(reference, &b);
    if (st == SW_OK)
        st = ratio(&a, &b, &percent);
    *score = percent / 100;
    free(said);
    free(a.at);
    free(b.at);
    return st;
}
