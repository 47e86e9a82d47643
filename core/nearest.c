/* What was written and what may have been meant: quoting, and "did you mean". */
#include "core/nearest.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

const char *sw_quote(const char *value, char *text, size_t size)
{
    size_t used = 0, room = size < 64 ? size : 64; /* quotes, "..." and the final 0 included */
    if (room < 8) {
        if (size > 0)
            text[0] = '\0';
        return text;
    }
    text[used++] = '\'';
    const char *p = value;
    for (; *p && used < room - 5; p++)
        text[used++] = (char)((unsigned char)*p < 32 || *p == 127 ? '?' : *p);
    if (*p) {
        while (used > 1 && ((unsigned char)text[used - 1] & 0xc0) == 0x80)
            used--; /* do not cut a UTF-8 character in two */
        if (used > 1 && (unsigned char)text[used - 1] >= 0xc0)
            used--;
        memcpy(text + used, "...", 3);
        used += 3;
    }
    text[used++] = '\'';
    text[used] = '\0';
    return text;
}

int sw_edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 63 };
    size_t na = strlen(a), nb = strlen(b);
    if (na > LONGEST || nb > LONGEST)
        return (int)(na > nb ? (na < INT_MAX ? na : INT_MAX) : (nb < INT_MAX ? nb : INT_MAX));
    int rows[3][LONGEST + 1];
    int *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= nb; j++)
        last[j] = before[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        now[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        int *spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[nb];
}

struct sw_nearest sw_nearest_begin(const char *wanted)
{
    size_t length = wanted ? strlen(wanted) : 0;
    return (struct sw_nearest){.wanted = wanted,
                               .limit = length < INT_MAX ? 1 + (int)(length / 3) : INT_MAX};
}

void sw_nearest_offer(struct sw_nearest *nearest, const char *name)
{
    if (!nearest->wanted)
        return;
    int distance = sw_edit_distance(nearest->wanted, name);
    if (distance > nearest->limit)
        return;
    nearest->name = name;
    nearest->limit = distance - 1;
}

const char *sw_nearest_hint(const struct sw_nearest *nearest, char text[SW_HINT_SIZE])
{
    text[0] = '\0';
    if (nearest->name)
        snprintf(text, SW_HINT_SIZE, "; did you mean '%.63s'?", nearest->name);
    return text;
}
