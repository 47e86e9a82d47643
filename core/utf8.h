/* utf8.h: texts as code points. What a model writes may end or begin inside a character: what is no
 * UTF-8 is read as U+FFFD, one for each longest start of a character that was cut (Unicode 15,
 * section 3.9; what Python's errors="replace" and the tokenizers library do). */
#ifndef SW_UTF8_H
#define SW_UTF8_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The code point at s, which is not at its end; returns how many bytes it takes, 1…4. */
int sw_utf8_next(const char *s, uint32_t *point);

/* All of a text; points[n] is 0. Malloc'd. */
struct sw_points {
    uint32_t *at;
    size_t n;
};
SW_MUST_CHECK enum sw_status sw_utf8_decode(const char *text, struct sw_points *out);

/* A malloc'd copy that is UTF-8. */
SW_MUST_CHECK enum sw_status sw_utf8_valid(const char *text, char **out);

#ifdef __cplusplus
}
#endif
#endif
