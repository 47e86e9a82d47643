/* Escapes and wraps text of models and prompts for a terminal. */
#include "harness/program/show_text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unictype.h>
#include <uniwidth.h>

#include "core/utf8.h"

enum { PIECE = 16 }; /* bytes of one character as it is shown */

static bool prints(uint32_t point)
{
    const uint32_t hidden = UC_CATEGORY_MASK_C | UC_CATEGORY_MASK_Zl | UC_CATEGORY_MASK_Zp;
    return point == 0xfffd || !uc_is_general_category_withtable(point, hidden);
}

/* How the character of n bytes at s is shown. Returns its width. */
static int show_point(const char *s, int n, uint32_t point, char piece[PIECE])
{
    static const char escaped[] = "\\\n\t\r", letters[] = "\\ntr";
    const char *known = point < 0x80 && point ? strchr(escaped, (int)point) : NULL;
    if (known)
        snprintf(piece, PIECE, "\\%c", letters[known - escaped]);
    else if (point == 0xfffd)
        snprintf(piece, PIECE, "\xef\xbf\xbd"); /* also what is no UTF-8 */
    else if (prints(point))
        snprintf(piece, PIECE, "%.*s", n, s);
    else
        snprintf(piece, PIECE, point < 0x100 ? "\\x%02x" : "\\u{%x}", point);
    int width = known || !prints(point) ? (int)strlen(piece) : uc_width(point, "UTF-8");
    return width > 0 ? width : 0;
}

/* A line that is being filled. */
struct line {
    FILE *out;
    const char *indent;
    char *text;
    size_t bytes, blank; /* blank: bytes up to and with the last one; 0: none */
    int width, blank_width;
};

static void end_line(struct line *l, size_t bytes, int width)
{
    fprintf(l->out, "%s%.*s\n", l->indent, (int)bytes, l->text);
    memmove(l->text, l->text + bytes, l->bytes - bytes);
    l->bytes -= bytes;
    l->width -= width;
    l->blank = 0;
    l->blank_width = 0;
}

enum sw_status sw_show_text(FILE *out, const char *text, const char *indent, int columns)
{
    /* A combining mark has no width: a line may be as long as the text. */
    struct line l = {.out = out, .indent = indent, .text = malloc((strlen(text) + 1) * PIECE)};
    if (!l.text)
        return SW_FAIL(SW_ENOMEM, "out of memory (a text of %zu bytes)", strlen(text));
    for (int n; *text; text += n) {
        char piece[PIECE];
        uint32_t point;
        n = sw_utf8_next(text, &point);
        int width = show_point(text, n, point, piece);
        if (l.width > 0 && l.width + width > columns)
            end_line(&l, l.blank ? l.blank : l.bytes, l.blank ? l.blank_width : l.width);
        memcpy(l.text + l.bytes, piece, strlen(piece));
        l.bytes += strlen(piece);
        l.width += width;
        if (point == ' ') {
            l.blank = l.bytes;
            l.blank_width = l.width;
        }
        if (point == '\n')
            end_line(&l, l.bytes, l.width);
    }
    if (l.bytes)
        end_line(&l, l.bytes, l.width);
    free(l.text);
    return SW_OK;
}

const char *sw_text_tail(const char *text, size_t count)
{
    const char *at = text + strlen(text);
    while (at > text && count > 0)
        if (((unsigned char)*--at & 0xc0) != 0x80)
            count--;
    return at;
}
