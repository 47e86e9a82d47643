/* One stored cell at a time: raw samples, predictions, provenance, warnings. */
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "harness/store/h5_data.h"
#include "harness/store/store.h"

struct sw_cell_reader {
    hid_t file;
    char path[PATH_MAX];
};

enum sw_status sw_cell_reader_open(const char *results, const char *key,
                                   struct sw_cell_reader **out)
{
    *out = NULL;
    struct sw_cell_reader *r = calloc(1, sizeof *r);
    if (!r)
        return SW_FAIL(SW_ENOMEM, "cell reader: out of host memory");
    r->file = -1;
    /* A folder's cell is where its key says; a single file is itself. */
    struct stat info;
    const char *slash = strrchr(results, '/');
    bool folder = stat(results, &info) == 0 && S_ISDIR(info.st_mode);
    bool index = strcmp(slash ? slash + 1 : results, "results.h5") == 0;
    if (folder)
        snprintf(r->path, sizeof r->path, "%s/cells/%s.h5", results, key);
    else if (index)
        snprintf(r->path, sizeof r->path, "%.*scells/%s.h5", slash ? (int)(slash + 1 - results) : 0,
                 results, key);
    else
        snprintf(r->path, sizeof r->path, "%s", results);
    enum sw_status st = sw_h5_open(r->path, &r->file);
    if (st == SW_OK)
        *out = r;
    else
        free(r);
    return st;
}

enum sw_status sw_cell_reader_values(struct sw_cell_reader *r, const char *group,
                                     const char *metric, double **values, int *n)
{
    char path[256];
    hsize_t dims[3];
    int rank;
    *values = NULL;
    *n = 0;
    snprintf(path, sizeof path, "%s/%s", group, metric);
    if (H5Lexists(r->file, group, H5P_DEFAULT) <= 0 || H5Lexists(r->file, path, H5P_DEFAULT) <= 0)
        return SW_OK;
    enum sw_status st = sw_h5_read_reals(r->file, path, values, dims, &rank);
    if (st != SW_OK)
        return sw_context(st, "%s", r->path);
    size_t count = 1;
    for (int i = 0; i < rank; i++)
        count *= dims[i];
    if (count <= INT_MAX) {
        *n = (int)count;
        return SW_OK;
    }
    free(*values);
    *values = NULL;
    return SW_FAIL(SW_EINPUT, "%s: %s has %zu values, expected at most %d", r->path, path, count,
                   INT_MAX);
}

enum sw_status sw_cell_reader_samples(struct sw_cell_reader *r, const char *metric, double **values,
                                      int *n)
{
    return sw_cell_reader_values(r, "samples", metric, values, n);
}

enum sw_status sw_cell_reader_threads(struct sw_cell_reader *r, int64_t *threads)
{
    hid_t group = H5Gopen2(r->file, "provenance", H5P_DEFAULT);
    if (group < 0)
        return SW_FAIL(SW_EINPUT, "%s: /provenance is missing", r->path);
    enum sw_status st = sw_h5_get_int(group, "threads", threads);
    sw_h5_close(group);
    return st == SW_OK ? st : sw_context(st, "%s: /provenance", r->path);
}

/* --- predictions ------------------------------------------------------------------------------ */

void sw_answers_clear(struct sw_answers *a)
{
    free(a->items);
    free(a->source.dataset);
    free(a->source.dataset_hash);
    free(a->source.model_folder);
    sw_texts_clear(&a->predictions);
    sw_texts_clear(&a->references);
    *a = (struct sw_answers){0};
}

/* One figure a prompt into `field` of each answer; NaN where there is no such list. */
static enum sw_status read_figures(hid_t group, const char *name, struct sw_answers *a,
                                   size_t field)
{
    double *values = NULL;
    hsize_t dims[3] = {0};
    int rank = 0;
    if (H5Lexists(group, name, H5P_DEFAULT) > 0)
        SW_TRY(sw_h5_read_reals(group, name, &values, dims, &rank));
    bool good = !values || (rank == 1 && dims[0] == (hsize_t)a->count);
    for (int i = 0; good && i < a->count; i++)
        *(double *)((char *)&a->items[i] + field) = values ? values[i] : NAN;
    free(values);
    return good ? SW_OK
                : SW_FAIL(SW_EINPUT, "%s: found another number of values than the %d predictions",
                          name, a->count);
}

static enum sw_status read_references(hid_t group, struct sw_answers *a)
{
    int64_t *offsets, n;
    if (H5Lexists(group, "references", H5P_DEFAULT) <= 0)
        return SW_OK;
    SW_TRY(sw_h5_read_texts(group, "references", &a->references));
    SW_TRY(sw_h5_read_ints(group, "reference_offsets", &offsets, &n));
    bool good = n == a->count + 1 && offsets[0] == 0 && offsets[a->count] == a->references.count;
    for (int i = 0; good && i < a->count; i++) {
        good = offsets[i + 1] >= offsets[i];
        a->items[i].references = (const char *const *)a->references.items + offsets[i];
        a->items[i].n_references = good ? (int)(offsets[i + 1] - offsets[i]) : 0;
    }
    free(offsets);
    return good ? SW_OK
                : SW_FAIL(SW_EINPUT,
                          "reference_offsets: found no ascending offsets of %d predictions",
                          a->count);
}

static enum sw_status read_source(hid_t group, struct sw_answers_source *source)
{
    const struct {
        const char *name;
        char **to;
    } texts[] = {
        {"dataset", &source->dataset},
        {"dataset_hash", &source->dataset_hash},
        {"model_folder", &source->model_folder},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (H5Aexists(group, texts[i].name) > 0)
            SW_TRY(sw_h5_get_text(group, texts[i].name, texts[i].to));
    return SW_OK;
}

static enum sw_status read_answers(hid_t group, struct sw_answers *a)
{
    SW_TRY(sw_h5_read_texts(group, "prediction", &a->predictions));
    a->count = a->predictions.count;
    a->items = calloc((size_t)a->count + 1, sizeof *a->items);
    if (!a->items)
        return SW_FAIL(SW_ENOMEM, "%d predictions: out of host memory", a->count);
    for (int i = 0; i < a->count; i++)
        a->items[i].prediction = a->predictions.items[i];
    SW_TRY(read_figures(group, "score", a, offsetof(struct sw_answer, score)));
    SW_TRY(read_figures(group, "depth", a, offsetof(struct sw_answer, depth)));
    SW_TRY(read_references(group, a));
    return read_source(group, &a->source);
}

enum sw_status sw_cell_reader_answers(struct sw_cell_reader *r, struct sw_answers *out)
{
    *out = (struct sw_answers){0};
    if (H5Lexists(r->file, "samples", H5P_DEFAULT) <= 0 ||
        H5Lexists(r->file, "samples/predictions", H5P_DEFAULT) <= 0)
        return SW_OK;
    hid_t group = H5Gopen2(r->file, "samples/predictions", H5P_DEFAULT);
    enum sw_status st =
        group < 0 ? SW_H5_FAIL(SW_EINPUT, "samples/predictions") : read_answers(group, out);
    sw_h5_close(group);
    if (st == SW_OK)
        return SW_OK;
    sw_answers_clear(out);
    return sw_context(st, "%s: /samples/predictions", r->path);
}

/* --- the rest --------------------------------------------------------------------------------- */

enum sw_status sw_cell_reader_provenance(struct sw_cell_reader *r, const char *name, char **text)
{
    *text = NULL;
    hid_t group = H5Gopen2(r->file, "provenance", H5P_DEFAULT);
    if (group < 0)
        return SW_FAIL(SW_EINPUT, "%s: /provenance is missing", r->path);
    enum sw_status st = SW_OK;
    if (H5Aexists(group, name) > 0)
        st = sw_h5_get_text(group, name, text);
    else if (!(*text = strdup("")))
        st = SW_FAIL(SW_ENOMEM, "out of memory (provenance)");
    sw_h5_close(group);
    return st == SW_OK ? st : sw_context(st, "%s: /provenance", r->path);
}

enum sw_status sw_cell_reader_warnings(struct sw_cell_reader *r, struct sw_texts *out)
{
    *out = (struct sw_texts){0};
    if (H5Lexists(r->file, "warnings", H5P_DEFAULT) <= 0)
        return SW_OK;
    enum sw_status st = sw_h5_read_texts(r->file, "warnings", out);
    return st == SW_OK ? st : sw_context(st, "%s", r->path);
}

void sw_cell_reader_close(struct sw_cell_reader *r)
{
    if (!r)
        return;
    sw_h5_close(r->file);
    free(r);
}
