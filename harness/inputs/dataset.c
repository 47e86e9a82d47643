/* Prepared datasets, loaded whole. */
#include "harness/inputs/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/inputs/dataset_check.h"
#include "harness/store/h5_data.h"

enum { MAX_VALUES = 1 << 28 };

struct source {
    const char *path;
    hid_t file;
};

/* A list of integers, or of rows of `width` > 1 of them, as `type`, malloc'd into *out also when it
 * fails later. */
static enum sw_status get_rows(const struct source *s, const char *name, hid_t type, size_t size,
                               int width, void **out, int64_t *count)
{
    *out = NULL;
    *count = 0;
    hid_t set = H5Dopen2(s->file, name, H5P_DEFAULT);
    if (set < 0)
        return SW_FAIL(SW_EINPUT, "%s: dataset %s is missing", s->path, name);
    hid_t space = H5Dget_space(set), stored = H5Dget_type(set);
    int rank = H5Sget_simple_extent_ndims(space), wanted = width > 1 ? 2 : 1;
    hsize_t dims[2] = {0, (hsize_t)width}, n = 0;
    if (rank == wanted)
        H5Sget_simple_extent_dims(space, dims, NULL);
    bool fits = rank == wanted && dims[1] == (hsize_t)width && dims[0] <= MAX_VALUES / dims[1];
    n = fits ? dims[0] * dims[1] : 0;
    enum sw_status st = SW_OK;
    if (!fits || H5Tget_class(stored) != H5T_INTEGER)
        st = SW_FAIL(SW_EINPUT, "%s: dataset %s is no list of at most %d %s", s->path, name,
                     MAX_VALUES / width, width > 1 ? "pairs of integers" : "integers");
    else if (!sw_h5_is_stored(set))
        st = SW_FAIL(SW_EINPUT, "%s: dataset %s claims more values than are stored", s->path, name);
    H5Sclose(space);
    H5Tclose(stored);
    if (st == SW_OK && !(*out = calloc((size_t)n + 1, size)))
        st = SW_FAIL(SW_ENOMEM, "%s: out of host memory (%llu bytes)", s->path,
                     (unsigned long long)n * size);
    if (st == SW_OK && n > 0 && H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, *out) < 0)
        st = SW_H5_FAIL(SW_EIO, s->path);
    H5Dclose(set);
    *count = (int64_t)dims[0];
    return st;
}

static enum sw_status get_ints(const struct source *s, const char *name, hid_t type, size_t size,
                               void **out, int64_t *count)
{
    return get_rows(s, name, type, size, 1, out, count);
}

static enum sw_status get_int32(const struct source *s, const char *name, int32_t **out,
                                int64_t *count)
{
    void *p;
    enum sw_status st = get_ints(s, name, H5T_NATIVE_INT32, sizeof **out, &p, count);
    *out = p;
    return st;
}

/* Offsets of n samples into `total` values: n + 1 of them, from 0 to total, every sample with at
 * least one value. */
static enum sw_status get_offsets(const struct source *s, const char *name, int n, int64_t total,
                                  int64_t **out)
{
    void *p;
    int64_t count;
    enum sw_status st = get_ints(s, name, H5T_NATIVE_INT64, sizeof **out, &p, &count);
    int64_t *offsets = *out = p;
    SW_TRY(st);
    if (count != n + 1 || offsets[0] != 0 || offsets[n] != total)
        return SW_FAIL(SW_EINPUT,
                       "%s: %s has %lld entries, the last %lld; expected %d from 0 to %lld",
                       s->path, name, (long long)count,
                       (long long)(count ? offsets[count - 1] : -1), n + 1, (long long)total);
    for (int i = 0; i < n; i++)
        if (offsets[i + 1] <= offsets[i])
            return SW_FAIL(SW_EINPUT, "%s: %s: sample %d is empty or goes backwards", s->path, name,
                           i);
    return SW_OK;
}

static enum sw_status check_samples(const struct source *s, const struct sw_dataset *d,
                                    bool at_most)
{
    for (int i = 0; i < d->n_samples; i++) {
        int64_t length = d->offsets[i + 1] - d->offsets[i], filled = length + d->max_new_tokens;
        if (at_most ? filled > d->context : filled != d->context)
            return SW_FAIL(SW_EINPUT,
                           "%s: sample %d has %lld ids and %d to generate, expected %s%d together",
                           s->path, i, (long long)length, d->max_new_tokens,
                           at_most ? "at most " : "", d->context);
        const int32_t *ids = d->ids + d->offsets[i];
        for (int64_t t = 0; t < length; t++)
            if (ids[t] < 0 || ids[t] >= d->vocab)
                return SW_FAIL(SW_EINPUT,
                               "%s: sample %d, token %lld: id %d is outside the vocabulary of %d",
                               s->path, i, (long long)t, ids[t], d->vocab);
    }
    return SW_OK;
}

static enum sw_status get_texts(const struct source *s, const char *name, struct sw_texts *out)
{
    enum sw_status st = sw_h5_read_texts(s->file, name, out);
    if (st != SW_OK)
        return sw_context(st, "%s", s->path);
    for (int i = 0; i < out->count; i++)
        if (!out->items[i][0])
            return SW_FAIL(SW_EINPUT, "%s: %s: text %d is empty, expected an answer or a label",
                           s->path, name, i);
    return SW_OK;
}

/* What answers are scored against. */
static enum sw_status get_expected(const struct source *s, struct sw_dataset *d)
{
    const struct sw_scorer *scorer = d->scorer;
    SW_TRY(get_texts(s, "/references", &d->references));
    SW_TRY(get_offsets(s, "/reference_offsets", d->n_samples, d->references.count,
                       &d->reference_offsets));
    for (int i = 0; i < d->references.count && scorer->usable; i++)
        if (!scorer->usable(d->references.items[i]))
            return SW_FAIL(SW_EINPUT, "%s: reference %d: found none, score %s expects %s", s->path,
                           i, scorer->name, scorer->expects);
    if (scorer->classes)
        SW_TRY(get_texts(s, "/classes", &d->classes));
    if (scorer->classes && d->classes.count == 0)
        return SW_FAIL(SW_EINPUT, "%s: /classes is empty, expected the labels of the task",
                       s->path);
    return SW_OK;
}

static enum sw_status get_depth(const struct source *s, struct sw_dataset *d)
{
    hsize_t dims[3] = {0};
    int rank;
    if (H5Lexists(s->file, "/depth", H5P_DEFAULT) <= 0)
        return SW_OK;
    enum sw_status st = sw_h5_read_reals(s->file, "/depth", &d->depth, dims, &rank);
    if (st != SW_OK)
        return sw_context(st, "%s", s->path);
    if (rank != 1 || dims[0] != (hsize_t)d->n_samples)
        return SW_FAIL(SW_EINPUT, "%s: /depth is no list of %d real numbers", s->path,
                       d->n_samples);
    return SW_OK;
}

/* Where the statements stand that an answer follows from: inside their sample. */
static enum sw_status get_hops(const struct source *s, struct sw_dataset *d)
{
    void *spans;
    int64_t count;
    if (H5Lexists(s->file, "/hops", H5P_DEFAULT) <= 0)
        return SW_OK;
    enum sw_status st = get_rows(s, "/hops", H5T_NATIVE_INT64, sizeof *d->hops, 2, &spans, &count);
    d->hops = spans;
    SW_TRY(st);
    SW_TRY(get_offsets(s, "/hop_offsets", d->n_samples, count, &d->hop_offsets));
    for (int i = 0; i < d->n_samples; i++) {
        long long tokens = d->offsets[i + 1] - d->offsets[i];
        for (int64_t h = d->hop_offsets[i]; h < d->hop_offsets[i + 1]; h++) {
            long long first = d->hops[2 * h], last = d->hops[2 * h + 1];
            if (first < 0 || last <= first || last > tokens)
                return SW_FAIL(SW_EINPUT,
                               "%s: /hops: statement %lld of sample %d is tokens %lld to %lld, "
                               "expected a range inside its %lld",
                               s->path, (long long)(h - d->hop_offsets[i]), i, first, last, tokens);
        }
    }
    return SW_OK;
}

static enum sw_status read_all(const struct source *s, struct sw_dataset *d, bool at_most)
{
    int64_t n_ids, n_stop;
    SW_TRY(get_int32(s, "/ids", &d->ids, &n_ids));
    SW_TRY(get_offsets(s, "/offsets", d->n_samples, n_ids, &d->offsets));
    SW_TRY(check_samples(s, d, at_most));
    SW_TRY(get_int32(s, "/stop_ids", &d->stop_ids, &n_stop));
    d->n_stop_ids = (int)n_stop;
    SW_TRY(get_depth(s, d));
    SW_TRY(get_hops(s, d));
    return d->scorer ? get_expected(s, d) : SW_OK;
}

enum sw_status sw_dataset_read(const char *path, struct sw_dataset **out)
{
    *out = NULL;
    struct sw_dataset_info info;
    SW_TRY(sw_dataset_describe(path, &info));
    struct sw_dataset *d = calloc(1, sizeof *d);
    if (!d)
        return SW_FAIL(SW_ENOMEM, "%s: out of host memory", path);
    d->n_samples = info.samples;
    d->context = info.context;
    d->vocab = info.vocab;
    d->max_new_tokens = info.max_new_tokens;
    d->scored_tokens = info.scored_tokens;
    d->scorer = info.scorer;
    d->first_line = info.first_line;
    struct source s = {.path = path, .file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT)};
    enum sw_status st = s.file < 0 ? SW_H5_FAIL(SW_EIO, path) : read_all(&s, d, info.at_most);
    if (s.file >= 0)
        H5Fclose(s.file);
    if (st != SW_OK) {
        sw_dataset_free(d);
        return st;
    }
    *out = d;
    return SW_OK;
}

void sw_dataset_free(struct sw_dataset *d)
{
    if (!d)
        return;
    free(d->ids);
    free(d->offsets);
    free(d->reference_offsets);
    free(d->stop_ids);
    free(d->depth);
    free(d->hops);
    free(d->hop_offsets);
    sw_texts_clear(&d->references);
    sw_texts_clear(&d->classes);
    free(d);
}
