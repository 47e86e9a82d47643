/* Reads safetensors files by mmap; nothing in a header is trusted. */
#include "core/model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_HEADER = 100 << 20, MAX_TENSORS = 1 << 20, MAX_SHARDS = 4096 };

struct mapping {
    void *base;
    size_t size;
};

struct sw_safetensors {
    struct mapping *maps;
    int n_maps;
    struct sw_stored_tensor *tensors; /* sorted by name */
    int count;
};

struct extent {
    int64_t from, to;
    const char *name;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct sw_stored_tensor *)a)->name,
                  ((const struct sw_stored_tensor *)b)->name);
}

static int by_from(const void *a, const void *b)
{
    int64_t x = ((const struct extent *)a)->from, y = ((const struct extent *)b)->from;
    return (x > y) - (x < y);
}

static const struct {
    const char *name;
    enum sw_stored type;
    int size;
} types[] = {
    {"F32", SW_STORED_F32, 4}, {"F16", SW_STORED_F16, 2}, {"BF16", SW_STORED_BF16, 2},
    {"I32", SW_STORED_I32, 4}, {"I64", SW_STORED_I64, 8}, {"U8", SW_STORED_U8, 1},
};

/* One entry of the header: dtype, shape and byte range, against a data section of data_bytes. */
static enum sw_status parse_tensor(const char *path, const char *name, json_t *entry,
                                   const char *data, int64_t data_bytes,
                                   struct sw_stored_tensor *out, struct extent *extent)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    json_t *shape = json_object_get(entry, "shape"),
           *offsets = json_object_get(entry, "data_offsets");
    if (!dtype || !json_is_array(shape) || !json_is_array(offsets) || json_array_size(offsets) != 2)
        return SW_FAIL(SW_EINPUT,
                       "%s: tensor '%s': expected dtype, shape and data_offsets [begin, end]", path,
                       name);
    int size = 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, dtype) == 0) {
            out->type = types[i].type;
            size = types[i].size;
        }
    if (!size)
        return SW_FAIL(SW_EINPUT,
                       "%s: tensor '%s': dtype %s, expected F32, F16, BF16, I32, I64 or U8", path,
                       name, dtype);
    if (json_array_size(shape) > 4)
        return SW_FAIL(SW_EINPUT, "%s: tensor '%s': rank %zu, expected at most 4", path, name,
                       json_array_size(shape));
    out->rank = (int)json_array_size(shape);
    out->count = 1;
    for (int i = 0; i < out->rank; i++) {
        json_t *extent_json = json_array_get(shape, (size_t)i);
        int64_t extent_i = json_integer_value(extent_json);
        if (!json_is_integer(extent_json) || extent_i < 0 ||
            (extent_i > 0 && out->count > data_bytes / size / extent_i))
            return SW_FAIL(SW_EINPUT,
                           "%s: tensor '%s': shape does not fit a file with %lld data bytes", path,
                           name, (long long)data_bytes);
        out->shape[i] = extent_i;
        out->count *= extent_i;
    }
    json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    extent->from = json_integer_value(from);
    extent->to = json_integer_value(to);
    if (!json_is_integer(from) || !json_is_integer(to) || extent->from < 0 ||
        extent->to < extent->from || extent->to > data_bytes)
        return SW_FAIL(
            SW_EINPUT,
            "%s: tensor '%s': data_offsets [%lld, %lld] are outside the file's %lld data bytes",
            path, name, (long long)extent->from, (long long)extent->to, (long long)data_bytes);
    if (extent->to - extent->from != out->count * size)
        return SW_FAIL(SW_EINPUT,
                       "%s: tensor '%s': %lld bytes for %lld values of %s, expected %lld", path,
                       name, (long long)(extent->to - extent->from), (long long)out->count, dtype,
                       (long long)(out->count * size));
    out->data = data + extent->from;
    return SW_OK;
}

static enum sw_status add_header(struct sw_safetensors *st, const char *path, json_t *header,
                                 const char *data, int64_t data_bytes)
{
    size_t entries = json_object_size(header);
    if (entries > MAX_TENSORS)
        return SW_FAIL(SW_EINPUT, "%s: header names %zu tensors, expected at most %d", path,
                       entries, MAX_TENSORS);
    struct extent *extents = calloc(entries + 1, sizeof *extents);
    struct sw_stored_tensor *grown =
        realloc(st->tensors, ((size_t)st->count + entries + 1) * sizeof *grown);
    if (grown)
        st->tensors = grown;
    enum sw_status result = SW_OK;
    if (!extents || !grown)
        SW_TRY_GOTO(result, done,
                    SW_FAIL(SW_ENOMEM, "%s: asked room for %zu tensors", path, entries));
    int n = 0;
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        struct sw_stored_tensor *t = &st->tensors[st->count];
        memset(t, 0, sizeof *t);
        SW_TRY_GOTO(result, done,
                    parse_tensor(path, name, entry, data, data_bytes, t, &extents[n]));
        t->name = strdup(name);
        if (!t->name)
            SW_TRY_GOTO(result, done,
                        SW_FAIL(SW_ENOMEM, "%s: asked %zu bytes", path, strlen(name) + 1));
        extents[n++].name = t->name;
        st->count++;
    }
    qsort(extents, (size_t)n, sizeof *extents, by_from);
    for (int i = 1; i < n; i++)
        if (extents[i].from < extents[i - 1].to)
            SW_TRY_GOTO(result, done,
                        SW_FAIL(SW_EINPUT, "%s: tensors '%s' and '%s' overlap", path,
                                extents[i - 1].name, extents[i].name));
done:
    free(extents);
    return result;
}

static enum sw_status add_file(struct sw_safetensors *st, const char *path)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe is not waited for */
    if (fd < 0)
        return SW_FAIL(errno == ENOENT ? SW_EINPUT : SW_EIO, "%s: %s", path, strerror(errno));
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return SW_FAIL(SW_EINPUT, "%s: expected a regular file", path);
    }
    if (info.st_size < 8) {
        close(fd);
        return SW_FAIL(SW_EINPUT,
                       "%s: %lld bytes, expected a safetensors file (8-byte header length first)",
                       path, (long long)info.st_size);
    }
    void *base = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    int why = errno;
    close(fd);
    if (base == MAP_FAILED)
        return SW_FAIL(SW_EIO, "%s: mmap of %lld bytes: %s", path, (long long)info.st_size,
                       strerror(why));
    struct mapping *maps = realloc(st->maps, (size_t)(st->n_maps + 1) * sizeof *maps);
    if (!maps) {
        munmap(base, (size_t)info.st_size);
        return SW_FAIL(SW_ENOMEM, "%s: out of memory", path);
    }
    st->maps = maps;
    st->maps[st->n_maps++] = (struct mapping){base, (size_t)info.st_size};

    const unsigned char *bytes = base;
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | bytes[i];
    if (length < 2 || length > MAX_HEADER || length > (uint64_t)info.st_size - 8)
        return SW_FAIL(SW_EINPUT, "%s: header length %llu, expected 2 … %lld", path,
                       (unsigned long long)length, (long long)info.st_size - 8);
    json_error_t error;
    json_t *header =
        json_loadb((const char *)base + 8, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(header)) {
        json_decref(header);
        return SW_FAIL(SW_EINPUT, "%s: header is not a JSON object: %s", path, error.text);
    }
    enum sw_status result = add_header(st, path, header, (const char *)base + 8 + length,
                                       (int64_t)((uint64_t)info.st_size - 8 - length));
    json_decref(header);
    return result;
}

/* The shards that model.safetensors.index.json names, each once; only plain file names inside the
 * folder. */
static enum sw_status add_shards(struct sw_safetensors *st, const char *folder,
                                 const char *index_path)
{
    json_error_t error;
    json_t *index = json_load_file(index_path, JSON_REJECT_DUPLICATES, &error);
    json_t *map = json_object_get(index, "weight_map");
    enum sw_status result = SW_OK;
    json_t *seen = json_object();
    if (!json_is_object(map) || !seen)
        SW_TRY_GOTO(result, done,
                    SW_FAIL(SW_EINPUT, "%s: expected {\"weight_map\": {tensor: file}}: %s",
                            index_path, error.text));
    const char *tensor;
    json_t *value;
    json_object_foreach(map, tensor, value)
    {
        const char *file = json_string_value(value);
        if (!file || !*file || strchr(file, '/') || file[0] == '.')
            SW_TRY_GOTO(result, done,
                        SW_FAIL(SW_EINPUT,
                                "%s: tensor '%s' names file '%s', expected a plain file name",
                                index_path, tensor, file ? file : ""));
        if (json_object_get(seen, file))
            continue;
        if (json_object_size(seen) >= MAX_SHARDS ||
            json_object_set_new(seen, file, json_true()) != 0)
            SW_TRY_GOTO(result, done,
                        SW_FAIL(SW_EINPUT, "%s: more than %d shards", index_path, MAX_SHARDS));
        char path[4096];
        if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path)
            SW_TRY_GOTO(result, done, SW_FAIL(SW_EINPUT, "%s: path too long", index_path));
        SW_TRY_GOTO(result, done, add_file(st, path));
    }
done:
    json_decref(seen);
    json_decref(index);
    return result;
}

static enum sw_status open_all(struct sw_safetensors *st, const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return SW_FAIL(SW_EINPUT, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return add_file(st, path);
    char file[4096];
    if (snprintf(file, sizeof file, "%s/model.safetensors.index.json", path) >= (int)sizeof file)
        return SW_FAIL(SW_EINPUT, "%s: path too long", path);
    if (access(file, R_OK) == 0)
        return add_shards(st, path, file);
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    return add_file(st, file);
}

enum sw_status sw_safetensors_open(const char *path, struct sw_safetensors **out)
{
    *out = NULL;
    struct sw_safetensors *st = calloc(1, sizeof *st);
    if (!st)
        return SW_FAIL(SW_ENOMEM, "%s: out of memory", path);
    enum sw_status result = open_all(st, path);
    if (result == SW_OK) {
        qsort(st->tensors, (size_t)st->count, sizeof *st->tensors, by_name);
        for (int i = 1; i < st->count && result == SW_OK; i++)
            if (by_name(&st->tensors[i - 1], &st->tensors[i]) == 0)
                result = SW_FAIL(SW_EINPUT, "%s: tensor '%s' is in two shards", path,
                                 st->tensors[i].name);
    }
    if (result != SW_OK) {
        sw_safetensors_close(st);
        return result;
    }
    *out = st;
    return SW_OK;
}

void sw_safetensors_close(struct sw_safetensors *st)
{
    if (!st)
        return;
    for (int i = 0; i < st->count; i++)
        free(st->tensors[i].name);
    for (int i = 0; i < st->n_maps; i++)
        munmap(st->maps[i].base, st->maps[i].size);
    free(st->tensors);
    free(st->maps);
    free(st);
}

const struct sw_stored_tensor *sw_safetensors_find(const struct sw_safetensors *st,
                                                   const char *name)
{
    struct sw_stored_tensor key = {.name = (char *)(uintptr_t)name};
    return st->count ? bsearch(&key, st->tensors, (size_t)st->count, sizeof *st->tensors, by_name)
                     : NULL;
}

int sw_safetensors_count(const struct sw_safetensors *st) { return st->count; }

const struct sw_stored_tensor *sw_safetensors_at(const struct sw_safetensors *st, int i)
{
    return &st->tensors[i];
}
