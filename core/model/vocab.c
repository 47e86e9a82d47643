/* Token ids back into text, from the byte table of a model folder. */
#include "core/model/vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/safetensors.h"

struct sw_vocab {
    struct sw_safetensors *file;
    const unsigned char *bytes, *special;
    const unsigned char *offsets; /* int64, maybe unaligned */
    int64_t n_bytes;
    int size;
};

static int64_t offset_at(const struct sw_vocab *v, int i)
{
    int64_t x;
    memcpy(&x, v->offsets + (size_t)i * sizeof x, sizeof x);
    return x;
}

static enum sw_status check(struct sw_vocab *v, const char *path)
{
    const struct sw_stored_tensor *bytes = sw_safetensors_find(v->file, "token_bytes"),
                                  *offsets = sw_safetensors_find(v->file, "token_offsets"),
                                  *special = sw_safetensors_find(v->file, "token_special");
    if (!bytes || !offsets || !special || bytes->type != SW_STORED_U8 ||
        offsets->type != SW_STORED_I64 || special->type != SW_STORED_U8)
        return SW_FAIL(SW_EINPUT,
                       "%s: expected token_bytes U8, token_offsets I64 and token_special U8", path);
    if (offsets->count != special->count + 1 || special->count > 1 << 24)
        return SW_FAIL(SW_EINPUT, "%s: %lld token_offsets for %lld tokens, expected one more", path,
                       (long long)offsets->count, (long long)special->count);
    v->bytes = bytes->data;
    v->special = special->data;
    v->offsets = offsets->data;
    v->n_bytes = bytes->count;
    v->size = (int)special->count;
    for (int i = 0; i < v->size; i++)
        if (offset_at(v, i) < 0 || offset_at(v, i + 1) < offset_at(v, i) ||
            offset_at(v, i + 1) > v->n_bytes)
            return SW_FAIL(SW_EINPUT,
                           "%s: token_offsets of token %d are not ascending inside %lld bytes",
                           path, i, (long long)v->n_bytes);
    return SW_OK;
}

enum sw_status sw_vocab_open(const char *folder, struct sw_vocab **out)
{
    *out = NULL;
    char path[4096];
    if (snprintf(path, sizeof path, "%s/tokenizer.safetensors", folder) >= (int)sizeof path)
        return SW_FAIL(SW_EINPUT, "%s: path too long", folder);
    struct sw_vocab *v = calloc(1, sizeof *v);
    if (!v)
        return SW_FAIL(SW_ENOMEM, "%s: out of host memory", path);
    enum sw_status st = sw_safetensors_open(path, &v->file);
    if (st == SW_OK)
        st = check(v, path);
    if (st != SW_OK) {
        sw_vocab_close(v);
        return st;
    }
    *out = v;
    return SW_OK;
}

void sw_vocab_close(struct sw_vocab *v)
{
    if (!v)
        return;
    sw_safetensors_close(v->file);
    free(v);
}

int sw_vocab_size(const struct sw_vocab *v) { return v->size; }

enum sw_status sw_vocab_text(const struct sw_vocab *v, const int32_t *ids, int n, char **text)
{
    *text = NULL;
    int64_t total = 1;
    for (int i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= v->size)
            return SW_FAIL(SW_EINTERNAL, "token %d is outside the vocabulary of %d", ids[i],
                           v->size);
        if (!v->special[ids[i]])
            total += offset_at(v, ids[i] + 1) - offset_at(v, ids[i]);
    }
    char *s = malloc((size_t)total), *at = s;
    if (!s)
        return SW_FAIL(SW_ENOMEM, "text: asked %lld bytes of host memory", (long long)total);
    for (int i = 0; i < n; i++) {
        if (v->special[ids[i]])
            continue;
        size_t bytes = (size_t)(offset_at(v, ids[i] + 1) - offset_at(v, ids[i]));
        memcpy(at, v->bytes + offset_at(v, ids[i]), bytes);
        at += bytes;
    }
    *at = '\0';
    *text = s;
    return SW_OK;
}
