/* A growing list of texts that owns its copies. */
#include "core/texts.h"

#include <stdlib.h>
#include <string.h>

enum sw_status sw_texts_add(struct sw_texts *texts, const char *text)
{
    if (!text)
        text = "";
    /* The capacity is the count rounded up to a power of two, so it needs no field of its own. */
    if ((texts->count & (texts->count - 1)) == 0) {
        size_t capacity = texts->count ? 2 * (size_t)texts->count : 1;
        char **items = realloc(texts->items, capacity * sizeof *items);
        if (!items)
            return SW_FAIL(SW_ENOMEM, "out of memory (list of %zu texts)", capacity);
        texts->items = items;
    }
    char *copy = strdup(text);
    if (!copy)
        return SW_FAIL(SW_ENOMEM, "out of memory (a text of %zu bytes)", strlen(text));
    texts->items[texts->count++] = copy;
    return SW_OK;
}

bool sw_texts_have(const struct sw_texts *texts, const char *text)
{
    for (int i = 0; i < texts->count; i++)
        if (strcmp(texts->items[i], text) == 0)
            return true;
    return false;
}

void sw_texts_clear(struct sw_texts *texts)
{
    for (int i = 0; i < texts->count; i++)
        free(texts->items[i]);
    free(texts->items);
    *texts = (struct sw_texts){0};
}
