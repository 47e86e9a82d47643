#include "core/score_text.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unicase.h>
#include <unictype.h>

bool sw_text_is_space(uint32_t point)
{
    return uc_is_property_white_space(point) || (point >= 0x1c && point <= 0x1f); /* Python also takes the four separators */
}

bool sw_text_is_digit(uint32_t point) { return uc_is_general_category_withtable(point, UC_CATEGORY_MASK_Nd); }

enum sw_status sw_text_lower(const char *text, struct sw_points *out)
{
    SW_TRY(sw_utf8_decode(text, out));
    if (out->n == 0)
        return SW_OK;
    size_t n = 0;
    uint32_t *lower = u32_tolower(out->at, out->n, "", NULL, NULL, &n), *ended = lower ? realloc(lower, (n + 1) * sizeof *lower) : NULL;
    free(out->at);
    if (!ended) {
        free(lower);
        *out = (struct sw_points){0};
        return SW_FAIL(SW_ENOMEM, "out of memory (a text of %zu bytes in lower case)", strlen(text));
    }
    ended[n] = 0;
    *out = (struct sw_points){ended, n};
    return SW_OK;
}

enum sw_status sw_words_add(struct sw_words *words, const uint32_t *at, size_t n)
{
    if (words->n == words->room) {
        size_t room = words->room ? 2 * words->room : 64;
        struct sw_word *items = room < INT_MAX / 2 ? realloc(words->items, room * sizeof *items) : NULL;
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
