/* nearest.h: what was written and what may have been meant: quoting, and "did you mean". */
#ifndef SW_NEAREST_H
#define SW_NEAREST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes a value as messages show it: between quotes, shortened to 63 bytes, on one line. Returns
 * text. */
const char *sw_quote(const char *value, char *text, size_t size);

/* Insertions, deletions, substitutions and swaps of neighbours. Names beyond 63 bytes are far from
 * everything. */
int sw_edit_distance(const char *a, const char *b);

/* The search for the valid name nearest to one that is not: begin, offer every valid name, then ask
 * for the hint. No more than 1 + length/3 edits count as near; of equally near names the first is
 * taken. */
struct sw_nearest {
    const char *wanted;
    const char *name; /* the nearest so far, NULL: none is near */
    int limit;        /* edits that a still nearer one may take */
};
enum { SW_HINT_SIZE = 96 };

struct sw_nearest sw_nearest_begin(const char *wanted); /* NULL: nothing is near */
void sw_nearest_offer(struct sw_nearest *nearest, const char *name);
/* "; did you mean 'NAME'?", or "" where none is near. Returns text. */
const char *sw_nearest_hint(const struct sw_nearest *nearest, char text[SW_HINT_SIZE]);

#ifdef __cplusplus
}
#endif
#endif
