/* The first cause of a failure, kept for each thread, with what callers add to it. */
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[1024];
static _Thread_local char place[128];

void sw_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

enum sw_status sw_fail_at(const char *file, int line, enum sw_status code, const char *fmt, ...)
{
    if (message[0] != '\0')
        return code; /* the first cause explains the rest */
    const char *base = strrchr(file, '/');
    snprintf(place, sizeof place, "%s:%d", base ? base + 1 : file, line);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    sw_one_line(message);
    return code;
}

enum sw_status sw_context(enum sw_status code, const char *fmt, ...)
{
    char joined[sizeof message];
    va_list ap;
    va_start(ap, fmt);
    int used = vsnprintf(joined, sizeof joined, fmt, ap);
    va_end(ap);
    if (used < 0 || (size_t)used >= sizeof joined)
        return code;
    snprintf(joined + used, sizeof joined - (size_t)used, ": %s", message);
    memcpy(message, joined, sizeof message);
    return code;
}

const char *sw_error_message(void) { return message; }
const char *sw_error_place(void) { return place; }

void sw_error_clear(void)
{
    message[0] = '\0';
    place[0] = '\0';
}

const char *sw_status_name(enum sw_status code)
{
    switch (code) {
    case SW_OK:
        return "ok";
    case SW_EINPUT:
        return "input";
    case SW_EUNSUPPORTED:
        return "unsupported";
    case SW_ENOMEM:
        return "memory";
    case SW_EIO:
        return "i/o";
    case SW_EDEVICE:
        return "device";
    case SW_EINTERRUPTED:
        return "interrupted";
    case SW_EINTERNAL:
        return "internal";
    }
    return "unknown";
}
