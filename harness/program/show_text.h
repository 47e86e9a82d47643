/* show_text.h: text of models and prompts on a terminal: what does not print is escaped, long lines
 * are wrapped. */
#ifndef SW_SHOW_TEXT_H
#define SW_SHOW_TEXT_H

#include <stdio.h>

#include "core/status.h"

/* Prints `text` in lines of at most `columns` characters' width, each after `indent`. A newline is
 * shown as \n and ends the line; other control and format characters, and the backslash, are
 * escaped, so that nothing reaches the terminal but what it prints. SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_show_text(FILE *out, const char *text, const char *indent,
                                          int columns);

/* Where the last `count` characters of a text begin. */
const char *sw_text_tail(const char *text, size_t count);

#endif
