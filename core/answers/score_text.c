/* Words of a text as Python splits, strips and lower-cases them. */
#include "core/answers/score_text.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unicase.h>
#include <unictype.h>

bool sw_text_is_space(uint32_t point)
{
    /* Python also takes the four separators */
    return uc_is_property_white_space(point) || (point >= 0x1c && point <= 0x1f);
}

bool sw_text_is_digit(uint32_t point)
{
    return uc_is_general_category_withtable(point, UC_CATEGORY_MASK_Nd);
}

/* Whether the nearest character before (step -1) or behind (+1) text->at[i], those aside that case
 * ignores, is a letter with case. */
static bool cased_beside(const struct sw_points *text, size_t i, int step)
{
    for (i += (size_t)step; i < text->n; i += (size_t)step) /* below 0 is beyond n */
        if (!uc_is_property_case_ignorable(text->at[i]))
            return uc_is_property_cased(text->at[i]);
    return false;
}

/* Not libunistring's u32_tolower: its final sigma takes an apostrophe for the end of a word (1.0),
 * where Unicode and Python do not. The dotted capital I is the only character whose lower case is
 * two. */
enum sw_status sw_text_lower(const char *text, struct sw_points *out)
{
    enum {
        SIGMA = 0x3a3,
        SMALL_SIGMA = 0x3c3,
        FINAL_SIGMA = 0x3c2,
        DOTTED_I = 0x130,
        DOT_ABOVE = 0x307
    };
    struct sw_points from;
    *out = (struct sw_points){0};
    SW_TRY(sw_utf8_decode(text, &from));
    out->at = malloc((2 * from.n + 1) * sizeof *out->at);
    if (!out->at) {
        free(from.at);
        return SW_FAIL(SW_ENOMEM, "out of memory (a text of %zu bytes in lower case)",
                       strlen(text));
    }
    for (size_t i = 0; i < from.n; i++) {
        uint32_t point = from.at[i];
        if (point == SIGMA)
            out->at[out->n++] = cased_beside(&from, i, -1) && !cased_beside(&from, i, +1)
                                    ? FINAL_SIGMA
                                    : SMALL_SIGMA;
        else
            out->at[out->n++] = point == DOTTED_I ? 'i' : uc_tolower(point);
        if (point == DOTTED_I)
            out->at[out->n++] = DOT_ABOVE;
    }
    out->at[out->n] = 0;
    free(from.at);
    return SW_OK;
}

enum sw_status sw_words_add(struct sw_words *words, const uint32_t *at, size_t n)
{
    if (words->n == words->room) {
        size_t room = words->room ? 2 * words->room : 64;
        struct sw_word *items =
            room < INT_MAX / 2 ? realloc(words->items, room * sizeof *items) : NULL;
        if (!items)
            return SW_FAIL(SW_ENOMEM, "out of memory (%zu words of a text)", room);
        words->items = items;
        words->room = room;
    }
    words->items[words->n++] = (struct sw_word){.at = at, .n = n};
    return SW_OK;
}

enum sw_status sw_words_split(struct sw_words *words, const uint32_t *at, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t from = i;
        while (i < n && !sw_text_is_space(at[i]))
            i++;
        if (i > from)
            SW_TRY(sw_words_add(words, at + from, i - from));
        else
            i++;
    }
    return SW_OK;
}

static int by_content(const void *left, const void *right)
{
    const struct sw_word *a = *(struct sw_word *const *)left, *b = *(struct sw_word *const *)right;
    int c = memcmp(a->at, b->at, (a->n < b->n ? a->n : b->n) * sizeof *a->at);
    return c ? c : (a->n > b->n) - (a->n < b->n);
}

enum sw_status sw_words_number(struct sw_words *a, struct sw_words *b, int *distinct)
{
    size_t n = a->n + b->n;
    struct sw_word **all = malloc((n + 1) * sizeof *all);
    *distinct = 0;
    if (!all)
        return SW_FAIL(SW_ENOMEM, "out of memory (%zu words of two texts)", n);
    for (size_t i = 0; i < n; i++)
        all[i] = i < a->n ? &a->items[i] : &b->items[i - a->n];
    qsort(all, n, sizeof *all, by_content);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || by_content(&all[i - 1], &all[i]) != 0)
            ++*distinct;
        all[i]->number = *distinct - 1;
    }
    free(all);
    return SW_OK;
}
