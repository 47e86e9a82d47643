/* texts.h: a growing list of texts that owns its copies. */
#ifndef SW_TEXTS_H
#define SW_TEXTS_H

#include <stdbool.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct sw_texts {
    char **items; /* NULL where count is 0 */
    int count;
};

/* Appends a copy of `text` (NULL: an empty text). On SW_ENOMEM the list is as before. */
SW_MUST_CHECK enum sw_status sw_texts_add(struct sw_texts *texts, const char *text);
bool sw_texts_have(const struct sw_texts *texts, const char *text);
/* Frees all texts; the list is empty and can be used again. */
void sw_texts_clear(struct sw_texts *texts);

#ifdef __cplusplus
}
#endif
#endif
