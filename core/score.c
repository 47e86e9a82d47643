#include "core/score.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

void sw_score_clean(char *s)
{
    for (char *p = s; *p; p++)
        if ((unsigned char)*p < 0x20)
            *p = '\n';
    size_t from = 0, to = strlen(s);
    while (from < to && isspace((unsigned char)s[from]))
        from++;
    while (to > from && isspace((unsigned char)s[to - 1]))
        to--;
    memmove(s, s + from, to - from);
    s[to - from] = '\0';
}

static int found(const char *prediction, const char *const *references, int n)
{
    int hits = 0;
    for (int i = 0; i < n; i++)
        hits += strcasestr(prediction, references[i]) != NULL;
    return hits;
}

double sw_score_all(const char *prediction, const char *const *references, int n)
{
    return n > 0 ? 100.0 * found(prediction, references, n) / n : 0.0;
}

double sw_score_part(const char *prediction, const char *const *references, int n)
{
    return found(prediction, references, n) > 0 ? 100.0 : 0.0;
}
