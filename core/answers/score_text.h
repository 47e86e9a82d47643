/* score_text.h: words of a text, as Python's str methods and regular expressions see them. Within
 * core/score*.c. */
#ifndef SW_SCORE_TEXT_H
#define SW_SCORE_TEXT_H

#include <stdbool.h>

#include "core/utf8.h"

bool sw_text_is_space(uint32_t point); /* str.isspace: what str.split() splits at */
bool sw_text_is_digit(uint32_t point); /* \d */

/* A text in lower case: Unicode's full mapping, final sigma included, no language's own rules.
 * free(out->at). */
SW_MUST_CHECK enum sw_status sw_text_lower(const char *text, struct sw_points *out);

/* Words between white space; they point into a text that must outlive them. */
struct sw_word {
    const uint32_t *at;
    size_t n;
    int number;
};
struct sw_words {
    struct sw_word *items;
    size_t n, room;
};
SW_MUST_CHECK enum sw_status sw_words_add(struct sw_words *words, const uint32_t *at, size_t n);
/* adds those of the n points at `at` */
SW_MUST_CHECK enum sw_status sw_words_split(struct sw_words *words, const uint32_t *at, size_t n);

/* Gives the words of both lists numbers from 0, equal words the same; *distinct: how many there
 * are. */
SW_MUST_CHECK enum sw_status sw_words_number(struct sw_words *a, struct sw_words *b, int *distinct);

#endif
