/* Texts as code points, where no byte sequence is an error. */
#include "core/utf8.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { REPLACEMENT = 0xfffd };

int sw_utf8_next(const char *s, uint32_t *point)
{
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80) {
        *point = u[0];
        return 1;
    }
    /* Bytes to follow, and what the first of them may be: no longer forms than needed, no
     * surrogates, nothing above U+10FFFF. */
    int more = u[0] < 0xc2 ? 0 : u[0] < 0xe0 ? 1 : u[0] < 0xf0 ? 2 : u[0] < 0xf5 ? 3 : 0;
    unsigned low = u[0] == 0xe0   ? 0xa0
                   : u[0] == 0xf0 ? 0x90
                                  : 0x80,
             high = u[0] == 0xed   ? 0x9f
                    : u[0] == 0xf4 ? 0x8f
                                   : 0xbf;
    uint32_t value = u[0] & (0x3fu >> more);
    for (int i = 1; i <= more; i++) {
        if (u[i] < low || u[i] > high) { /* also the end of the text */
            *point = REPLACEMENT;
            return i;
        }
        value = value << 6 | (u[i] & 0x3fu);
        low = 0x80, high = 0xbf;
    }
    *point = more ? value : REPLACEMENT;
    return more + 1;
}

enum sw_status sw_utf8_decode(const char *text, struct sw_points *out)
{
    size_t bytes = strlen(text);
    *out = (struct sw_points){.at = malloc((bytes + 1) * sizeof *out->at)};
    if (!out->at)
        return SW_FAIL(SW_ENOMEM, "out of memory (a text of %zu bytes)", bytes);
    while (*text)
        text += sw_utf8_next(text, &out->at[out->n++]);
    out->at[out->n] = 0;
    return SW_OK;
}

enum sw_status sw_utf8_valid(const char *text, char **out)
{
    char *to = *out = malloc(3 * strlen(text) + 1);
    if (!to)
        return SW_FAIL(SW_ENOMEM, "out of memory (a text of %zu bytes)", strlen(text));
    while (*text) {
        uint32_t point;
        int n = sw_utf8_next(text, &point);
        bool bad = point == REPLACEMENT;
        memcpy(to, bad ? "\xef\xbf\xbd" : text, bad ? 3 : (size_t)n);
        to += bad ? 3 : n;
        text += n;
    }
    *to = '\0';
    return SW_OK;
}
